"""Summaries and totals: known answers by scope."""

from datetime import date

import pyarrow as pa
import pytest

from s3logx_assets.core import summaries
from s3logx_assets.core.schemas import (
    BY_ASSET,
    BY_DAY,
    BY_REGION,
    DAILY_USAGE,
    PROVISIONAL,
    REQUESTERS,
    TOTALS,
)
from s3logx_assets.core.scopes import ARCHIVE, scope_of
from s3logx_assets.core.summaries import ScopeTables, settled, summarise, totals
from s3logx_tests.usage_tables import usage

NEVER = date(9999, 12, 31)
MARCH_1, MARCH_2 = date(2024, 3, 1), date(2024, 3, 2)
HIGH, LOW = 2**63 - 1, -(2**63)


def rows_of(table: pa.Table) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in table.to_pylist()]


def example() -> list[pa.Table]:
    nobody = {"region": "internal", "ip_index": None, "network_index": None}
    return [
        usage(
            [
                {"ip_index": HIGH, "network_index": 7, "bytes_sent": 2**53 + 1},
                {"ip_index": LOW, "network_index": 7, "asset_path": "b", "download_count": 0},
                {"dataset": "ds 2", "ip_index": HIGH, "network_index": 7, "region": "DE"},
            ]
        ),
        usage(
            [
                {"event_date": MARCH_2, "ip_index": HIGH, "network_index": 7, "bytes_sent": 2},
                {"dataset": "ds 2", **nobody, "request_count": 3, "bytes_sent": 0},
                {"dataset": "archive", "asset_path": "c", "region": "AWS/us-east-2"},
            ]
        ),
    ]


def test_each_scope_has_its_exact_tables() -> None:
    tables = summarise(example(), ["ds1", "ds%202", "%61rchive", ARCHIVE], NEVER)
    assert list(tables) == ["%61rchive", ARCHIVE, "ds%202", "ds1"]

    ds1 = tables["ds1"]
    assert rows_of(ds1.by_day) == [(MARCH_1, 2**53 + 2, 2, 1), (MARCH_2, 2, 1, 1)]
    assert rows_of(ds1.by_asset) == [("a", 2**53 + 3, 2, 2), ("b", 1, 1, 0)]
    assert rows_of(ds1.by_region) == [("US/Ohio", 2**53 + 4, 3, 2)]
    assert rows_of(ds1.requesters) == [(LOW, 7, MARCH_1), (HIGH, 7, MARCH_1)]

    assert rows_of(tables["ds%202"].by_region) == [("DE", 1, 1, 1), ("internal", 0, 3, 1)]
    assert rows_of(tables["ds%202"].requesters) == [(HIGH, 7, MARCH_1)]
    assert rows_of(tables["%61rchive"].by_asset) == [("c", 1, 1, 1)]

    archive = tables[ARCHIVE]
    assert rows_of(archive.by_day) == [(MARCH_1, 2**53 + 4, 7, 4), (MARCH_2, 2, 1, 1)]
    assert archive.by_asset.num_rows == 0
    assert rows_of(archive.by_region) == [
        ("AWS/us-east-2", 1, 1, 1),
        ("DE", 1, 1, 1),
        ("US/Ohio", 2**53 + 4, 3, 2),
        ("internal", 0, 3, 1),
    ]
    assert rows_of(archive.requesters) == [(LOW, 7, MARCH_1), (1, 1, MARCH_1), (HIGH, 7, MARCH_1)]


def test_tables_have_their_schemas_also_when_empty() -> None:
    for scope, tables in summarise(example(), ["ds1", "other", ARCHIVE], NEVER).items():
        schemas = (tables.by_day, tables.by_asset, tables.by_region, tables.requesters)
        assert [table.schema for table in schemas] == [BY_DAY, BY_ASSET, BY_REGION, REQUESTERS]
        assert (tables.by_day.num_rows == 0) == (scope == "other")


@pytest.mark.parametrize("source", [[], [DAILY_USAGE.empty_table()]])
def test_no_usage_gives_empty_tables(source: list[pa.Table]) -> None:
    tables = summarise(source, ["ds1", ARCHIVE], NEVER)
    assert list(tables) == [ARCHIVE, "ds1"]
    assert all(t.by_day.num_rows == t.requesters.num_rows == 0 for t in tables.values())


def test_the_archive_covers_datasets_that_were_not_asked_for() -> None:
    every = summarise(example(), ["ds1", "ds%202", "%61rchive", ARCHIVE], NEVER)
    alone = summarise(example(), [ARCHIVE], NEVER)
    assert alone == {ARCHIVE: every[ARCHIVE]}


def test_rows_after_the_cutoff_are_there_but_not_settled() -> None:
    tables = summarise(example(), ["ds1", ARCHIVE], MARCH_1)
    assert rows_of(tables["ds1"].by_day) == [(MARCH_1, 2**53 + 2, 2, 1), (MARCH_2, 2, 1, 1)]
    assert rows_of(tables["ds1"].provisional) == [(MARCH_2, "a", "US/Ohio", 2, 1, 1)]
    assert rows_of(tables[ARCHIVE].provisional) == [(MARCH_2, "", "US/Ohio", 2, 1, 1)]
    assert rows_of(settled(tables["ds1"], MARCH_1).by_day) == [(MARCH_1, 2**53 + 2, 2, 1)]
    assert rows_of(settled(tables["ds1"], MARCH_1).by_asset) == [("a", 2**53 + 1, 1, 1), ("b", 1, 1, 0)]
    assert rows_of(settled(tables[ARCHIVE], MARCH_1).by_day) == [(MARCH_1, 2**53 + 4, 7, 4)]
    assert settled(tables["ds1"], MARCH_2).by_asset == tables["ds1"].by_asset


def test_a_scope_whose_rows_are_all_too_new_has_nothing_settled() -> None:
    early = date(2024, 2, 29)
    for tables in summarise(example(), ["ds1", ARCHIVE], early).values():
        nothing = settled(tables, early)
        assert [getattr(nothing, part).num_rows for part in ScopeTables.parts()] == [0] * 5


def test_a_shortened_scope_is_found_by_its_dataset() -> None:
    dataset = "é" * 100
    [tables] = summarise([usage([{"dataset": dataset}])], [scope_of(dataset)], NEVER).values()
    assert tables.by_day.num_rows == 1


def test_many_small_batches_are_merged_to_the_same_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    scopes = ["ds1", "ds%202", ARCHIVE]
    at_once = summarise(example(), scopes, NEVER)
    monkeypatch.setattr(summaries, "_ROWS_AT_ONCE", 1)
    assert summarise(example(), scopes, NEVER) == at_once


def test_totals_count_regions_countries_requesters_and_networks() -> None:
    tables = summarise(example(), ["ds1", ARCHIVE], NEVER)
    total = totals(tables[ARCHIVE])
    assert total.schema == TOTALS
    assert total.to_pylist() == [
        {
            "total_bytes_sent": 2**53 + 6,
            "total_request_count": 8,
            "total_download_count": 5,
            "requester_count": 3,
            "network_count": 2,
            "region_count": 4,
            "country_count": 2,
            "first_event_date": MARCH_1,
            "last_event_date": MARCH_2,
        }
    ]


def test_totals_of_nothing_are_zeros_without_dates() -> None:
    empty = ScopeTables(*(s.empty_table() for s in (BY_DAY, BY_ASSET, BY_REGION, REQUESTERS, PROVISIONAL)))
    [row] = totals(empty).to_pylist()
    assert [row.pop("first_event_date"), row.pop("last_event_date")] == [None, None]
    assert set(row.values()) == {0}
