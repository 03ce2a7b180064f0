"""The addresses chain through real materialisation, with the embedded regions and no network."""

import socket
from pathlib import Path

import dagster as dg
import pytest

from s3logx_assets.adapters.geolocation import EmbeddedGeolocator
from s3logx_assets.core.schemas import IP_INDEXES, IP_REGIONS, REGION_COORDINATES
from s3logx_assets.sample_logs import SampleSpec, generate
from s3logx_tests.platform import DAILY, Platform, line

ADDRESSES = ("extracted_logs", "ip_indexes", "ip_regions", "region_coordinates")
DAY = "2025-03-01"


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedGeolocator:
    return EmbeddedGeolocator(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection to anywhere."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("a connection was asked for")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def offline_platform(platform: Platform, embedded: EmbeddedGeolocator) -> Platform:
    platform.geolocator = embedded
    return platform


def rows_of(platform: Platform, asset: str, day: str = DAY) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = platform.store.read(asset, f"log_date={day}").to_pylist()
    return rows


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, dict[str, object]]:
    """What was said of each partition of an asset."""
    events = [event.step_materialization_data.materialization for event in result.get_asset_materialization_events()]
    return {
        str(event.partition): {name: value.value for name, value in event.metadata.items()}
        for event in events
        if event.asset_key == dg.AssetKey(asset)
    }


def checked(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (found,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "coordinates_known"]
    return found


@pytest.mark.parametrize("addresses", [[], ["-", "-"]], ids=["no requester", "only internal"])
def test_a_date_without_requesters_goes_through(offline_platform: Platform, addresses: list[str]) -> None:
    lines = [line(f"ds1/{number}", ip=address) for number, address in enumerate(addresses)]
    offline_platform.log(f"{DAY}-05-00-00-AA", *lines)
    result = offline_platform.daily(DAY, DAY)
    assert result.success
    schemas = {"ip_indexes": IP_INDEXES, "ip_regions": IP_REGIONS, "region_coordinates": REGION_COORDINATES}
    for asset, schema in schemas.items():
        table = offline_platform.store.read(asset, f"log_date={DAY}")
        assert table.num_rows == 0
        assert table.schema.equals(schema)
    usage = rows_of(offline_platform, "daily_usage")
    assert [row["region"] for row in usage] == ["internal"] * len(addresses)
    said = metadata_of(result, "ip_indexes")[DAY]
    assert (said["requesters"], said["networks"], said["new_requesters"]) == (0, 0, 0)
    said = metadata_of(result, "ip_regions")[DAY]
    assert (said["regions"], said["clouds"], said["countries"]) == (0, 0, 0)
    assert checked(result).passed
    assert checked(result).metadata["share_without_coordinate"].value == (1.0 if addresses else 0.0)


def test_a_date_with_only_bogons_goes_through(offline_platform: Platform) -> None:
    bogons = ["192.0.2.1", "10.1.2.3", "127.0.0.1", "100.64.0.1", "2001:db8::1", "fe80::1", "::1", "2002:a00:1::1"]
    lines = [line("ds1/a", second=number, ip=address) for number, address in enumerate(bogons)]
    offline_platform.log(f"{DAY}-05-00-00-AA", *lines)
    result = offline_platform.daily(DAY, DAY)
    assert result.success
    regions = rows_of(offline_platform, "ip_regions")
    assert [(row["region"], row["method"], row["subdivision"]) for row in regions] == [("bogon", "bogon", None)] * 8
    assert rows_of(offline_platform, "region_coordinates") == []
    (usage,) = {row["region"] for row in rows_of(offline_platform, "daily_usage")}
    assert usage == "bogon"
    assert checked(result).passed
    assert "| bogon | names no place | 8 | 100.00% |" in str(checked(result).metadata["without_coordinate"].value)


def test_addresses_that_carry_an_ipv4_address_lie_where_that_one_lies(offline_platform: Platform) -> None:
    asked = ["8.8.8.8", "::ffff:8.8.8.8", "::FFFF:808:808", "2002:808:808::1", "64:ff9b::808:808", "2002:808:808::2"]
    lines = [line("ds1/a", second=number, ip=address) for number, address in enumerate(asked)]
    offline_platform.log(f"{DAY}-05-00-00-AA", *lines)
    result = offline_platform.daily(DAY, DAY)
    assert result.success
    assert sorted(str(row["request_count"]) for row in rows_of(offline_platform, "ip_indexes")) == ["1", "1", "1", "3"]
    assert {row["region"] for row in rows_of(offline_platform, "ip_regions")} == {"US/California"}
    (place,) = rows_of(offline_platform, "region_coordinates")
    assert place["region"] == "US/California"
    assert {row["region"] for row in rows_of(offline_platform, "daily_usage")} == {"US/California"}
    said = metadata_of(result, "ip_indexes")[DAY]
    assert (said["requesters"], said["networks"]) == (4, 3)  # the two of 2002:808:808::/64 are one network


def test_where_requesters_come_from_is_told_by_region_cloud_and_country(offline_platform: Platform) -> None:
    asked = ["8.8.8.8"] * 2 + ["128.32.1.1", "3.16.0.1", "140.82.112.3", "2a05:d018::1", "2a05:d018::2", "192.0.2.1"]
    lines = [line("ds1/a", second=number, ip=address) for number, address in enumerate(asked)]
    offline_platform.log(f"{DAY}-05-00-00-AA", *lines)
    said = metadata_of(offline_platform.daily(DAY, DAY), "ip_regions")[DAY]
    head = ["| label | requesters | networks | requests |", "| --- | --- | --- | --- |"]
    assert str(said["top_clouds"]).splitlines() == [*head, "| AWS | 3 | 2 | 3 |", "| GitHub | 1 | 1 | 1 |"]
    assert str(said["top_countries"]).splitlines() == [*head, "| US | 2 | 2 | 3 |"]
    assert str(said["top_regions"]).splitlines()[:4] == [
        *(*head, "| US/California | 2 | 2 | 3 |", "| AWS/eu-west-1 | 2 | 1 | 2 |")
    ]
    assert (said["regions"], said["clouds"], said["countries"]) == (5, 2, 1)


def test_new_requesters_are_those_that_no_earlier_date_in_the_store_has(offline_platform: Platform) -> None:
    hosts = {1: [1, 2], 2: [2, 3], 3: [1, 3, 4], 4: [4]}
    for number, asking in hosts.items():
        day = f"2025-03-0{number}"
        offline_platform.log(f"{day}-05-00-00-AA", *(line("ds1/a", day, second=host, host=host) for host in asking))

    def new(first: str, last: str) -> dict[str, tuple[object, object]]:
        said = metadata_of(offline_platform.daily(first, last, ADDRESSES), "ip_indexes")
        return {day: (each["new_requesters"], each["earlier_dates"]) for day, each in said.items()}

    assert new("2025-03-03", "2025-03-03") == {"2025-03-03": (3, 0)}
    before = offline_platform.store.path("ip_indexes", "log_date=2025-03-03").read_bytes()
    assert new("2025-03-01", "2025-03-02") == {"2025-03-01": (2, 0), "2025-03-02": (1, 1)}
    assert new("2025-03-03", "2025-03-04") == {"2025-03-03": (1, 2), "2025-03-04": (0, 3)}
    assert offline_platform.store.path("ip_indexes", "log_date=2025-03-03").read_bytes() == before


def test_a_damaged_earlier_date_stops_no_other(offline_platform: Platform) -> None:
    for number in (1, 2):
        offline_platform.log(f"2025-03-0{number}-05-00-00-AA", line("ds1/a", f"2025-03-0{number}"))
    assert offline_platform.daily(DAY, DAY, ADDRESSES).success
    offline_platform.store.path("ip_indexes", f"log_date={DAY}").write_bytes(b"damaged")
    result = offline_platform.daily("2025-03-02", "2025-03-02", ADDRESSES)
    assert result.success
    assert metadata_of(result, "ip_indexes")["2025-03-02"]["new_requesters"] == 1


def test_the_coordinates_of_a_stored_date_can_be_checked_again(offline_platform: Platform) -> None:
    offline_platform.log(f"{DAY}-05-00-00-AA", line("ds1/a", ip="8.8.8.8"), line("ds1/a", second=2))
    assert checked(offline_platform.daily(DAY, DAY, ADDRESSES)).passed
    places = offline_platform.store.read("region_coordinates", f"log_date={DAY}")
    offline_platform.store.write("region_coordinates", f"log_date={DAY}", places.slice(0, 0), {"data_version": "x"})
    key = dg.AssetCheckKey(dg.AssetKey("region_coordinates"), "coordinates_known")
    job = offline_platform._job().get_subset(asset_selection=set(), asset_check_selection={key})
    tags = {"dagster/asset_partition_range_start": DAY, "dagster/asset_partition_range_end": DAY}
    result = job.execute_in_process(instance=offline_platform.instance, tags=tags)
    assert not checked(result).passed
    assert checked(result).severity == dg.AssetCheckSeverity.WARN
    assert checked(result).metadata["share_missing"].value == 0.5


def test_the_sample_logs_have_regions_and_coordinates_without_a_network(
    offline_platform: Platform, tmp_path: Path
) -> None:
    logs = tmp_path / "sample"
    generate(SampleSpec(), logs)
    offline_platform.environment["S3LOGX_LOGS"] = str(logs)
    first, last = "2025-03-01", "2025-03-16"
    assert offline_platform.daily(first, last, DAILY).success
    requests = located = 0
    for day in offline_platform.store.partitions("daily_usage", "log_date"):
        places = {row["region"] for row in rows_of(offline_platform, "region_coordinates", day)}
        usage = offline_platform.store.read("daily_usage", f"log_date={day}", columns=["region", "request_count"])
        for region, count in zip(*(column.to_pylist() for column in usage.columns), strict=True):
            if region not in ("bogon", "internal"):
                requests += count
                located += count * (region in places)
    assert requests > 20_000
    assert located / requests >= 0.95
