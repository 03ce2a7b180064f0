"""Summaries: every total is the same sum, the archive is the sum of all rows, order is nothing."""

from collections.abc import Collection, Iterable
from datetime import date, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from s3logx_assets.core import counting, summaries
from s3logx_assets.core.asset_types import asset_types
from s3logx_assets.core.digests import table_digest
from s3logx_assets.core.regions import country_of
from s3logx_assets.core.scopes import ARCHIVE, scope_of
from s3logx_assets.core.summaries import ScopeTables, added_up, summarise_split, totals
from s3logx_tests.usage_tables import usage

quick = settings(max_examples=40, deadline=None)

FIRST = date(2024, 2, 28)
TYPES = asset_types({"Images": [".tif"], "Films": [".mp4"]})
DATASETS = ["ds1", "ds2", "archive", "ü/.."]
SCOPES = [*map(scope_of, DATASETS), ARCHIVE]
INDEXES = [-(2**63), 2**63 - 1, 2**53, 2**53 + 1]
COUNTS = ["bytes_sent", "request_count", "download_count"]

requester = st.sampled_from(INDEXES).map(lambda i: {"ip_index": i, "network_index": i // 4})
nobody = st.just({"region": "internal", "ip_index": None, "network_index": None})
row = st.builds(
    lambda values, who: values | who,
    st.fixed_dictionaries(
        {
            "dataset": st.sampled_from(DATASETS),
            "asset_path": st.sampled_from(["a.tif", "b.mp4", "é", "Z"]),
            "event_date": st.integers(0, 3).map(lambda days: FIRST + timedelta(days)),
            "region": st.sampled_from(["US/Ohio", "US/Texas", "AWS/us-east-2", "DE", "unknown"]),
            "bytes_sent": st.integers(0, 2**55),
            "request_count": st.integers(1, 9),
            "download_count": st.integers(0, 1),
            "in_archive": st.booleans(),
        }
    ),
    requester | nobody,
)
dates = st.lists(st.lists(row, max_size=6), max_size=4)
months = st.lists(st.sampled_from(["2024-01", "2024-02", "2024-03"]), min_size=4, max_size=4)


def summarise(parts: Iterable[pa.Table], scopes: Collection[str] = SCOPES, workers: int = 1) -> dict[str, ScopeTables]:
    return summaries.summarise(parts, scopes, TYPES, workers)


def tables_of(scope_tables: ScopeTables) -> list[pa.Table]:
    return [getattr(scope_tables, name) for name in ("by_day", "by_asset", "by_region", "requesters")]


def digests(result: dict[str, ScopeTables]) -> dict[str, list[str]]:
    return {
        scope: [table_digest(t) for t in (tables.by_day_and_type, *tables_of(tables))]
        for scope, tables in result.items()
    }


def sums(table: pa.Table) -> list[int]:
    return [sum(table[name].to_pylist()) for name in COUNTS]


def slow_table(rows: list[dict[str, Any]], column: str) -> list[list[Any]]:
    values = {row[column] for row in rows}
    ordered = sorted(values, key=lambda value: value.encode() if isinstance(value, str) else value)
    return [[value, *(sum(row[name] for row in rows if row[column] == value) for name in COUNTS)] for value in ordered]


def counted_in(scope: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if (row["in_archive"] if scope == ARCHIVE else scope == scope_of(row["dataset"]))]


@quick
@given(dates, st.integers(1, 3))
def test_tables_equal_a_slow_recomputation_over_all_rows(parts: list[list[dict[str, Any]]], workers: int) -> None:
    every = [row for part in parts for row in part]
    for scope, tables in summarise([usage(part) for part in parts], SCOPES, workers).items():
        rows = counted_in(scope, every)
        by_day, by_asset, by_region, requesters = (
            [list(row.values()) for row in table.to_pylist()] for table in tables_of(tables)
        )
        assert by_day == slow_table(rows, "event_date")
        assert by_asset == ([] if scope == ARCHIVE else slow_table(rows, "asset_path"))
        assert by_region == slow_table(rows, "region")
        known = [row for row in rows if row["ip_index"] is not None]
        assert requesters == [[index, index // 4, *counts] for index, *counts in slow_table(known, "ip_index")]


@quick
@given(dates, months, st.permutations(range(4)))
def test_any_part_can_be_added_taken_off_and_split_by_month(
    parts: list[list[dict[str, Any]]], of_part: list[str], order: list[int]
) -> None:
    """What an update relies on: sums, differences and months give the rows of counting everything anew, bit by bit."""
    tables = [usage(part) for part in parts]
    whole = summarise(tables)
    there = [number for number in order if number < len(tables)]
    some, others = there[::2], there[1::2]
    first, second = summarise([tables[n] for n in some]), summarise([tables[n] for n in others])
    assert digests(added_up([(1, first), (1, second)], TYPES)) == digests(whole)
    assert digests(added_up([(1, whole), (-1, second)], TYPES)) == digests(first)
    change = added_up([(1, first), (-1, second)], TYPES, whole=False)
    assert digests(added_up([(1, second), (1, change)], TYPES)) == digests(first)
    newest = dict(zip(SCOPES, of_part * 2, strict=False))
    split = summarise_split(zip(tables, of_part, strict=False), newest, TYPES)
    assert digests(
        added_up([(1, {s: t.newest for s, t in split.items()}), (1, {s: t.earlier for s, t in split.items()})], TYPES)
    ) == digests(whole)
    for scope, both in split.items():
        in_month = [t for t, month in zip(tables, of_part, strict=False) if month == newest[scope]]
        assert digests({scope: both.newest}) == digests(summarise(in_month, [scope]))
        assert totals(both.newest, both.earlier) == totals(whole[scope])


@quick
@given(dates)
def test_sums_over_days_regions_and_assets_are_the_total(
    parts: list[list[dict[str, Any]]],
) -> None:
    result = summarise([usage([row | {"in_archive": True} for row in part]) for part in parts])
    for scope, tables in result.items():
        [total] = totals(tables).to_pylist()
        expected = [total[f"total_{name}"] for name in COUNTS]
        assert sums(tables.by_day) == sums(tables.by_region) == expected
        if scope != ARCHIVE:
            assert sums(tables.by_asset) == expected
    datasets = [tables for scope, tables in result.items() if scope != ARCHIVE]
    archive = result[ARCHIVE]
    by_dataset = [sums(tables.by_day) for tables in datasets]
    assert sums(archive.by_day) == [sum(column) for column in zip(*by_dataset, strict=True)]
    union = {index for tables in datasets for index in tables.requesters["ip_index"].to_pylist()}
    assert totals(archive)["requester_count"].to_pylist() == [len(union)]


@quick
@given(dates, st.data(), st.sampled_from([1, 3, 1 << 20]), st.booleans())
def test_order_of_dates_and_rows_chunks_batches_and_encodings_change_no_byte(
    parts: list[list[dict[str, Any]]], data: st.DataObject, rows_at_once: int, encode: bool
) -> None:
    before = digests(summarise([usage(part) for part in parts]))
    shuffled = [usage(data.draw(st.permutations(p))) for p in data.draw(st.permutations(parts))]
    if encode:
        for name in ("dataset", "asset_path", "region"):
            at = shuffled[0].column_names.index(name) if shuffled else 0
            shuffled = [t.set_column(at, name, t[name].dictionary_encode()) for t in shuffled]
    usual = counting.ROWS_AT_ONCE
    counting.ROWS_AT_ONCE = rows_at_once
    try:
        after = digests(summarise(iter(shuffled), [*reversed(SCOPES), SCOPES[0]]))
    finally:
        counting.ROWS_AT_ONCE = usual
    assert list(after) == list(before)
    assert after == before


@quick
@given(dates)
def test_totals_equal_a_recomputation_in_pandas(parts: list[list[dict[str, Any]]]) -> None:
    whole = pa.concat_tables([usage([]), *(usage(part) for part in parts)])
    frame = whole.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    for scope, tables in summarise([whole]).items():
        wanted = frame["dataset"].map(lambda name, scope=scope: scope == scope_of(name))
        rows = frame[(frame["in_archive"] if scope == ARCHIVE else wanted).astype(bool)]
        countries = rows["region"].map(country_of).dropna().unique()
        [total] = totals(tables).to_pylist()
        assert total == {
            "total_bytes_sent": sum(rows["bytes_sent"].tolist()),
            "total_request_count": sum(rows["request_count"].tolist()),
            "total_download_count": sum(rows["download_count"].tolist()),
            "requester_count": rows["ip_index"].nunique(),
            "network_count": rows["network_index"].nunique(),
            "region_count": rows["region"].nunique(),
            "country_count": len(countries),
            "first_event_date": rows["event_date"].min() if len(rows) else None,
            "last_event_date": rows["event_date"].max() if len(rows) else None,
        }
