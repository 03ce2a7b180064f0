"""Daily usage: known answers, and tables that do not belong together."""

from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from s3logx_assets.core.datasets import LevelRule
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.schemas import DAILY_USAGE, EXTRACTED_LOGS, IP_INDEXES, IP_REGIONS
from s3logx_assets.core.usage import content_digests
from s3logx_tests.mappings import mapping_rule
from s3logx_tests.usage_tables import Visit, daily_usage, extracted, indexes, regions, usage

HIGH, LOW = 2**63 - 1, -(2**63)  # two indexes that floats cannot hold
INDEXES = indexes({1: HIGH, 2: LOW, 3: 5})
REGIONS = regions({HIGH: "US/Ohio", LOW: "US/Ohio", 5: "AWS/us-east-2"})


def test_rows_are_counted_by_dataset_day_asset_region_and_requester() -> None:
    late = datetime(2024, 3, 1, 23, 59, 59, tzinfo=UTC)
    next_day = datetime(2024, 3, 2, tzinfo=UTC)
    visits = [
        Visit("ds1/b", 1, 10),
        Visit("ds1/b", 1, 2**53 + 1, status=206, when=late),
        Visit("ds1/b", 1, 7, when=next_day),
        Visit("ds1/b", 2, 3),
        Visit("ds1/b", 3, 4),
        Visit("ds1/b", None, 5),
        Visit("ds1/a", 1, 0, status=299),
        Visit("ds0/x.zarr/0", 1, 1),
        Visit("ds0/x.zarr/1", 1, 1),
        Visit("top", None, 8, status=204),
    ]
    first, second = date(2024, 3, 1), date(2024, 3, 2)
    counted = daily_usage([extracted(visits)], INDEXES, REGIONS, LevelRule())
    assert counted.schema == DAILY_USAGE
    assert [tuple(row.values()) for row in counted.drop_columns(["in_archive"]).to_pylist()] == [
        ("ds0", "x.zarr", first, "US/Ohio", HIGH, HIGH // 2, 2, 2, 2),
        ("ds1", "a", first, "US/Ohio", HIGH, HIGH // 2, 1, 0, 0),
        ("ds1", "b", first, "AWS/us-east-2", 5, 2, 1, 1, 4),
        ("ds1", "b", first, "US/Ohio", LOW, LOW // 2, 1, 1, 3),
        ("ds1", "b", first, "US/Ohio", HIGH, HIGH // 2, 2, 1, 2**53 + 11),
        ("ds1", "b", first, "internal", None, None, 1, 1, 5),
        ("ds1", "b", second, "US/Ohio", HIGH, HIGH // 2, 1, 1, 7),
        ("unassociated", "top", first, "internal", None, None, 1, 0, 8),
    ]
    assert counted["in_archive"].to_pylist() == [True] * 8


def test_an_object_of_several_datasets_counts_in_each_and_once_in_the_archive() -> None:
    table = {"key": ["b/1", "b/1", "b/2", "b/2"], "dataset": ["x", "y", "y", "x"], "path": ["f", "g", "g", "f"]}
    visits = [Visit("b/1", 1, 10), Visit("b/2", 1, 100), Visit("b/1", None, 1), Visit("b/3", 1, 1000)]
    counted = daily_usage([extracted(visits)], INDEXES, REGIONS, mapping_rule(table, each=True))
    columns = ["dataset", "asset_path", "region", "request_count", "bytes_sent", "in_archive"]
    assert [tuple(row.values()) for row in counted.select(columns).to_pylist()] == [
        ("unassociated", "b/3", "US/Ohio", 1, 1000, True),
        ("x", "f", "US/Ohio", 1, 100, False),
        ("x", "f", "US/Ohio", 1, 10, True),
        ("x", "f", "internal", 1, 1, True),
        ("y", "g", "US/Ohio", 1, 10, False),
        ("y", "g", "US/Ohio", 1, 100, True),
        ("y", "g", "internal", 1, 1, False),
    ]
    assert len(content_digests(counted)) == 3


def test_without_a_lookup_the_region_is_missing() -> None:
    counted = daily_usage([extracted([Visit("a/b", 1), Visit("a/b", None)])], INDEXES, None, LevelRule())
    assert counted["region"].to_pylist() == ["internal", "missing"]


@pytest.mark.parametrize("regions_table", [None, IP_REGIONS.empty_table()])
def test_a_date_without_rows_has_no_usage(regions_table: pa.Table | None) -> None:
    counted = daily_usage([EXTRACTED_LOGS.empty_table()], IP_INDEXES.empty_table(), regions_table, LevelRule())
    assert counted.schema == DAILY_USAGE
    assert counted.num_rows == 0
    assert content_digests(counted) == []


def test_a_date_with_internal_requests_only_needs_no_indexes() -> None:
    rows = extracted([Visit("a/b", None), Visit("a/b", None)])
    counted = daily_usage([rows], IP_INDEXES.empty_table(), IP_REGIONS.empty_table(), LevelRule())
    assert counted["request_count"].to_pylist() == [2]


def test_an_address_without_an_index_is_refused_without_naming_it() -> None:
    rows = extracted([Visit("a/b", 1), Visit("a/b", 0x3132333435363738)])
    with pytest.raises(StoreError, match="1 of the 2 rows") as refusal:
        daily_usage([rows], INDEXES, REGIONS, LevelRule())
    assert "12345678" not in str(refusal.value)


def test_an_index_without_a_region_is_refused() -> None:
    with pytest.raises(StoreError, match="lacks 2 of the 3 indexes"):
        daily_usage([extracted([Visit("a/b", 1)])], INDEXES, regions({HIGH: "US"}), LevelRule())


def test_content_digests_name_each_dataset_and_day_in_order() -> None:
    table = usage(
        [
            {"dataset": "a", "event_date": date(2024, 3, 1)},
            {"dataset": "a", "event_date": date(2024, 3, 2)},
            {"dataset": "a", "event_date": date(2024, 3, 2), "asset_path": "z"},
            {"dataset": "b", "event_date": date(2024, 3, 1)},
        ]
    )
    digests = content_digests(table)
    assert [group[:2] for group in digests] == [
        ("a", date(2024, 3, 1)),
        ("a", date(2024, 3, 2)),
        ("b", date(2024, 3, 1)),
    ]
    assert digests[0][2] == digests[2][2] != digests[1][2]
    assert len(digests[0][2]) == 32


@pytest.mark.parametrize(
    "change",
    [
        {"asset_path": "aU", "region": "S/Ohio"},
        {"asset_path": "b"},
        {"region": "US"},
        {"ip_index": 2},
        {"ip_index": None},
        {"ip_index": 0},
        {"network_index": None},
        {"request_count": 2},
        {"download_count": 0},
        {"bytes_sent": 2},
        {"in_archive": False},
    ],
)
def test_any_change_changes_the_digest_of_its_group_only(change: dict[str, object]) -> None:
    rows: list[dict[str, object]] = [{"dataset": "a"}, {"dataset": "b"}, {"dataset": "c"}]
    before = content_digests(usage(rows))
    after = content_digests(usage([rows[0], rows[1] | change, rows[2]]))
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_content_digests_do_not_depend_on_the_layout() -> None:
    table = usage([{"dataset": name, "region": region} for name in "ab" for region in "xy"])
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1, 2), table.slice(3)])
    encoded = chunked
    for name in ("dataset", "asset_path", "region"):
        at = table.column_names.index(name)
        encoded = encoded.set_column(at, name, chunked[name].dictionary_encode())
    inner = content_digests(table.slice(2))
    assert content_digests(chunked) == content_digests(encoded) == content_digests(table)
    assert inner == content_digests(table)[1:]


def test_content_digests_are_pinned() -> None:
    """A change here makes every scope look out of date at once."""
    table = usage([{"ip_index": None, "network_index": None}, {"asset_path": "é"}])
    assert content_digests(table) == [("ds1", date(2024, 3, 1), "8c8238e4bb91ee5eb299099484dabbfb")]
