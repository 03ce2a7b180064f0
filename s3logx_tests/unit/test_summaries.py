"""Summaries and totals: known answers by scope."""

import json
from datetime import date

import pyarrow as pa
import pytest

from s3logx_assets.core import counting, summaries
from s3logx_assets.core.asset_types import DEFAULT, asset_types
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.schemas import (
    BY_ASSET,
    BY_DAY,
    BY_DAY_AND_TYPE,
    BY_REGION,
    DAILY_USAGE,
    REQUESTERS,
    SUMMARIES,
    TOTALS,
)
from s3logx_assets.core.scopes import ARCHIVE, scope_of
from s3logx_assets.core.summaries import (
    EMPTY,
    Outline,
    ScopeTables,
    added_up,
    by_type_per_week,
    flattened,
    row_counts,
    summarise_split,
    totals,
    unflattened,
)
from s3logx_tests.usage_tables import usage

MARCH_1, MARCH_2 = date(2024, 3, 1), date(2024, 3, 2)
HIGH, LOW = 2**63 - 1, -(2**63)


def summarise(parts: list[pa.Table], scopes: list[str]) -> dict[str, ScopeTables]:
    return summaries.summarise(parts, scopes, DEFAULT)


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
    tables = summarise(example(), ["ds1", "ds%202", "%61rchive", ARCHIVE])
    assert list(tables) == ["%61rchive", ARCHIVE, "ds%202", "ds1"]

    ds1 = tables["ds1"]
    assert rows_of(ds1.by_day) == [(MARCH_1, 2**53 + 2, 2, 1), (MARCH_2, 2, 1, 1)]
    assert rows_of(ds1.by_asset) == [("a", 2**53 + 3, 2, 2), ("b", 1, 1, 0)]
    assert rows_of(ds1.by_region) == [("US/Ohio", 2**53 + 4, 3, 2)]
    assert rows_of(ds1.requesters) == [(LOW, 7, 1, 1, 0), (HIGH, 7, 2**53 + 3, 2, 2)]

    assert rows_of(tables["ds%202"].by_region) == [("DE", 1, 1, 1), ("internal", 0, 3, 1)]
    assert rows_of(tables["ds%202"].requesters) == [(HIGH, 7, 1, 1, 1)]
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
    assert rows_of(archive.requesters) == [(LOW, 7, 1, 1, 0), (1, 1, 1, 1, 1), (HIGH, 7, 2**53 + 4, 3, 3)]


def test_tables_have_their_schemas_also_when_empty() -> None:
    for scope, tables in summarise(example(), ["ds1", "other", ARCHIVE]).items():
        found = (tables.by_day, tables.by_day_and_type, tables.by_asset, tables.by_region, tables.requesters)
        assert [table.schema for table in found] == [BY_DAY, BY_DAY_AND_TYPE, BY_ASSET, BY_REGION, REQUESTERS]
        assert (tables.by_day.num_rows == 0) == (scope == "other")


@pytest.mark.parametrize("source", [[], [DAILY_USAGE.empty_table()]])
def test_no_usage_gives_empty_tables(source: list[pa.Table]) -> None:
    tables = summarise(source, ["ds1", ARCHIVE])
    assert list(tables) == [ARCHIVE, "ds1"]
    assert all(t.by_day.num_rows == t.requesters.num_rows == 0 for t in tables.values())


def test_the_archive_covers_datasets_that_were_not_asked_for() -> None:
    every = summarise(example(), ["ds1", "ds%202", "%61rchive", ARCHIVE])
    alone = summarise(example(), [ARCHIVE])
    assert alone == {ARCHIVE: every[ARCHIVE]}


def test_the_newest_month_and_the_months_before_are_apart() -> None:
    """A dataset has its own newest month, which the archive may have left behind."""
    parts = [
        (usage([{"asset_path": "a"}, {"dataset": "ds2", "ip_index": 2}]), "2024-03"),
        (usage([{"asset_path": "b", "ip_index": 3}]), "2024-04"),
    ]
    split = summarise_split(parts, {"ds1": "2024-04", "ds2": "2024-03", ARCHIVE: "2024-04"}, DEFAULT)
    assert split["ds1"].newest.by_asset["asset_path"].to_pylist() == ["b"]
    assert split["ds1"].earlier.by_asset["asset_path"].to_pylist() == ["a"]
    assert split["ds2"].newest.requesters["ip_index"].to_pylist() == [2]
    assert split["ds2"].earlier == EMPTY
    assert split[ARCHIVE].newest.requesters["ip_index"].to_pylist() == [3]
    assert split[ARCHIVE].earlier.requesters["ip_index"].to_pylist() == [1, 2]


def test_rows_that_the_archive_does_not_count_count_in_their_dataset_alone() -> None:
    rows = usage([{"dataset": "ds2", "in_archive": False, "ip_index": 9}, {"dataset": "ds2"}])
    tables = summarise([rows], ["ds2", ARCHIVE])
    assert tables["ds2"].requesters["ip_index"].to_pylist() == [1, 9]
    assert tables[ARCHIVE].requesters["ip_index"].to_pylist() == [1]
    assert tables[ARCHIVE].by_day["request_count"].to_pylist() == [1]


def test_what_is_taken_off_leaves_no_trace() -> None:
    first, second = example()
    whole = summarise([first, second], ["ds1", ARCHIVE])
    late, early = summarise([second], ["ds1", ARCHIVE]), summarise([first], ["ds1", ARCHIVE])
    assert added_up([(1, whole), (-1, late)], DEFAULT) == early
    assert added_up([(1, early), (1, late)], DEFAULT) == whole
    assert added_up([(1, whole), (-1, whole)], DEFAULT) == dict.fromkeys(whole, EMPTY)


@pytest.mark.parametrize("change", [{}, {"bytes_sent": 2}, {"request_count": 2}, {"asset_path": "z"}])
def test_taking_off_what_was_not_there_is_refused(change: dict[str, object]) -> None:
    """Else a summary could be wrong for ever, and smaller than it was."""
    whole = summarise([usage([{"bytes_sent": 1}])], ["ds1"])
    others = summarise([usage([{"request_count": 1} | change, {"asset_path": "y"}])], ["ds1"])
    with pytest.raises(StoreError, match="more is taken off"):
        added_up([(1, whole), (-1, others)], DEFAULT)


def test_a_summary_is_stored_as_one_table_and_comes_back() -> None:
    for tables in summarise(example(), ["ds1", ARCHIVE, "other"]).values():
        stored = flattened(tables)
        assert stored.schema == SUMMARIES
        assert unflattened(stored, row_counts(tables)) == tables
        assert stored["dimension"].to_pylist() == [
            dimension for dimension, count in row_counts(tables).items() for _ in range(count)
        ]


@pytest.mark.parametrize("counts", [{}, {"day": 1}, {"day": -1, "asset": 8, "region": 2, "requester": 2}])
def test_row_counts_of_another_table_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises((KeyError, ValueError)):
        unflattened(flattened(summarise(example(), ["ds1"])["ds1"]), counts)


def test_an_outline_comes_back_from_the_stored_table_and_its_figures() -> None:
    for tables in [*summarise(example(), ["ds1", ARCHIVE]).values(), EMPTY]:
        figures = json.loads(json.dumps(Outline.of(tables).figures))
        found = Outline.stored(flattened(tables).select(Outline.columns(figures)), figures)
        assert totals(found) == totals(tables)
        assert found.regions == tables.by_region["region"].to_pylist()


def test_an_outline_reads_the_networks_only_where_somebody_shares_one() -> None:
    alone, shared = usage([{"ip_index": 5, "network_index": 5}]), usage([{"ip_index": 5, "network_index": 9}])
    outlines = [Outline.of(summarise([rows], ["ds1"])["ds1"]) for rows in (alone, shared)]
    assert [Outline.columns(each.figures) for each in outlines] == [["ip_index"], ["ip_index", "network_index"]]
    assert [totals(each)["network_count"].to_pylist() for each in outlines] == [[1], [1]]
    assert totals(*outlines)["requester_count"].to_pylist() == [1]
    assert totals(*outlines)["network_count"].to_pylist() == [2]


@pytest.mark.parametrize(
    "wrong",
    [{"rows": {}}, {"rows": None}, {"sums": {}}, {"dates": ["2024-13-01", "2024-12-01"]}, {"regions": 3}],
)
def test_figures_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    tables = summarise(example(), ["ds1"])["ds1"]
    with pytest.raises((KeyError, TypeError, ValueError)):
        Outline.stored(flattened(tables), Outline.of(tables).figures | wrong)
    with pytest.raises(ValueError, match="another number of rows"):
        Outline.stored(flattened(tables).slice(1), Outline.of(tables).figures)


def test_weeks_begin_on_monday_and_have_every_type() -> None:
    """2024-03-03 was a Sunday."""
    types = asset_types({"Video": [".mp4"], "Audio": [".wav"]})
    rows = usage(
        [
            {"asset_path": "a.mp4", "event_date": date(2024, 3, 3), "bytes_sent": 1},
            {"asset_path": "b.MP4", "event_date": date(2024, 3, 4), "bytes_sent": 2},
            {"asset_path": "c.mp4", "event_date": date(2024, 3, 10), "bytes_sent": 4},
            {"asset_path": "readme", "event_date": date(2024, 3, 10), "bytes_sent": 8},
        ]
    )
    [tables] = summaries.summarise([rows], ["ds1"], types).values()
    table = by_type_per_week(tables.by_day_and_type, types)
    assert table.column_names == ["week_start", "Video", "Audio", "Miscellaneous"]
    assert rows_of(table) == [(date(2024, 2, 26), 1, 0, 0), (date(2024, 3, 4), 6, 0, 8)]


def test_a_shortened_scope_is_found_by_its_dataset() -> None:
    dataset = "é" * 100
    [tables] = summarise([usage([{"dataset": dataset}])], [scope_of(dataset)]).values()
    assert tables.by_day.num_rows == 1


def test_many_small_batches_are_merged_to_the_same_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    scopes = ["ds1", "ds%202", ARCHIVE]
    at_once = summarise(example(), scopes)
    monkeypatch.setattr(counting, "ROWS_AT_ONCE", 1)
    assert summarise(example(), scopes) == at_once


def test_totals_count_regions_countries_requesters_and_networks() -> None:
    tables = summarise(example(), ["ds1", ARCHIVE])
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


def test_totals_of_parts_are_those_of_their_sum() -> None:
    first, second = (summarise([part], [ARCHIVE])[ARCHIVE] for part in example())
    whole = summarise(example(), [ARCHIVE])[ARCHIVE]
    assert totals(first, second) == totals(second, first) == totals(whole) == totals(whole, EMPTY)


def test_totals_of_nothing_are_zeros_without_dates() -> None:
    [row] = totals(EMPTY).to_pylist()
    assert [row.pop("first_event_date"), row.pop("last_event_date")] == [None, None]
    assert set(row.values()) == {0}
