"""Which labels of a stored date have no coordinate, and what share of its requests that is."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from s3logx_assets.adapters.table_store import TableStore, partition
from s3logx_assets.address_checks import coordinates_known
from s3logx_assets.assets.daily import CheckOutcome
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.schemas import EXTRACTED_LOGS, IP_INDEXES, IP_REGIONS, REGION_COORDINATES

DAY = date(2025, 3, 1)


def checked(folder: Path, requests: Mapping[str, int], located: list[str], internal: int = 0) -> CheckOutcome:
    """The outcome for a date with one requester per label."""
    store = TableStore(folder)
    indexes = [
        {"ip_index": number, "network_index": number, "sealed_ip": bytes(16), "request_count": count}
        for number, count in enumerate(requests.values())
    ]
    regions = [{"ip_index": number, "region": label, "method": "none"} for number, label in enumerate(requests)]
    places = [{"region": label, "latitude": 1.0, "longitude": 2.0, "source": "test"} for label in located]
    counts = {"counts": {"extracted": sum(requests.values()) + internal}}
    for asset, rows, schema, record in (
        ("extracted_logs", [], EXTRACTED_LOGS, counts),
        ("ip_indexes", indexes, IP_INDEXES, {}),
        ("ip_regions", regions, IP_REGIONS, {}),
        ("region_coordinates", places, REGION_COORDINATES, {}),
    ):
        store.write(asset, partition(DAY), pa.Table.from_pylist(rows, schema=schema), record)
    return coordinates_known(store, DAY)


def test_a_label_that_names_a_place_must_have_a_coordinate(tmp_path: Path) -> None:
    requests = {"US/California": 50, "XX/Nowhere": 6, "VPN": 20, "AWS/xx-new-1": 4, "bogon": 10}
    outcome = checked(tmp_path, requests, ["US/California"], internal=10)
    assert not outcome.passed
    assert outcome.warning
    assert outcome.metadata["labels_missing"] == 2
    assert outcome.metadata["share_missing"] == pytest.approx(0.10)
    assert outcome.metadata["share_without_coordinate"] == pytest.approx(0.50)
    assert outcome.metadata["without_coordinate"].md_str.splitlines() == [
        "| label | coordinate | requests | share |",
        "| --- | --- | --- | --- |",
        "| XX/Nowhere | missing | 6 | 6.00% |",
        "| AWS/xx-new-1 | missing | 4 | 4.00% |",
        "| VPN | names no place | 20 | 20.00% |",
        "| bogon | names no place | 10 | 10.00% |",
        "| internal | names no place | 10 | 10.00% |",
    ]


def test_labels_that_name_no_place_are_listed_and_pass(tmp_path: Path) -> None:
    placeless = ("bogon", "VPN", "unknown", "undetermined", "missing")
    outcome = checked(tmp_path, dict.fromkeys(placeless, 1), [], internal=1)
    assert outcome.passed
    assert outcome.metadata["share_without_coordinate"] == 1
    assert outcome.metadata["share_missing"] == 0
    assert outcome.metadata["without_coordinate"].md_str.count("names no place") == 6


def test_the_table_is_short(tmp_path: Path) -> None:
    outcome = checked(tmp_path, {f"XX/{number:02}": number + 1 for number in range(30)}, [])
    lines = outcome.metadata["without_coordinate"].md_str.splitlines()
    assert [line.split()[1] for line in lines[2:]] == [f"XX/{number:02}" for number in range(29, 19, -1)]
    assert outcome.metadata["labels_missing"] == 30


def test_a_date_with_nobody_and_one_with_all_places_known_have_nothing_to_list(tmp_path: Path) -> None:
    for folder, requests in (("empty", {}), ("known", {"FR": 3})):
        outcome = checked(tmp_path / folder, requests, list(requests))
        assert outcome.passed
        assert dict(outcome.metadata) == {"labels_missing": 0, "share_missing": 0.0, "share_without_coordinate": 0.0}


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    checked(tmp_path, {"FR": 1}, [])
    TableStore(tmp_path).remove("ip_regions", partition(DAY))
    with pytest.raises(StoreError, match="materialise ip_regions"):
        coordinates_known(TableStore(tmp_path), DAY)
