"""Runs that ask a service on the network: while it is down, when it is back, and who asks again."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from s3logx_assets.adapters import cloud_ranges
from s3logx_assets.adapters.http import HttpClient, Limits
from s3logx_assets.adapters.ipinfo import IpinfoClient, IpinfoGeolocator
from s3logx_assets.definitions import build_defs
from s3logx_assets.resources import Keyring, build_resources, private_files
from s3logx_tests.http_service import Answer, Service, json_answer, running_service
from s3logx_tests.platform import Platform, line

DAY = "2025-03-01"
PARTITION = f"log_date={DAY}"
KEYS = {"S3LOGX_GEO": "ipinfo", "IPINFO_API_KEY": "t0ken"}
CALIFORNIA = {"8.8.8.8": {"ip": "8.8.8.8", "country": "US", "region": "California"}}


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as running:
        yield running


@pytest.fixture
def platform(tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    starts = pa.array([bytes(16), bytes(10) + b"\xff\xff" + bytes(4), (1 << 48).to_bytes(16)], pa.binary(16))
    made = pa.table({"start": starts, "region": pa.nulls(3, pa.string())})
    dates = dict.fromkeys(("cloudip_date", "iporigin_date"), "2026-09-01")
    monkeypatch.setattr(cloud_ranges, "_made", lambda: made.replace_schema_metadata(dates))
    with dg.DagsterInstance.ephemeral() as instance:
        platform = Platform.make(tmp_path, instance, **KEYS)
        platform.log(f"{DAY}-00-00-00-A", line("ds1/a", ip="8.8.8.8"), line("ds1/b", ip="10.0.0.1", second=5))
        yield platform


def geolocator(platform: Platform, service: Service) -> IpinfoGeolocator:
    """As a run of its own has it."""
    http = HttpClient("ipinfo.io", "IPINFO_API_KEY", Limits(attempts=2), sleep=lambda seconds: None)
    settings = platform.settings
    keyring = Keyring(private_files(settings), settings.home, settings.key)
    client = IpinfoClient("t0ken", http, service.url)
    return IpinfoGeolocator(client, lambda: keyring.sealer(print), settings.home / "cache", settings.lookup_days)


def regions(platform: Platform) -> list[str]:
    return sorted(set(platform.store.read("daily_usage", PARTITION)["region"].to_pylist()))


def record(platform: Platform) -> dict[str, object]:
    found = platform.store.record("ip_regions", PARTITION)
    assert found is not None
    return found


def requested(platform: Platform) -> list[dg.RunRequest]:
    """What the schedule asks for now."""
    found = platform.tick("ask_again")
    return [] if isinstance(found, str) else list(found)


def backdate(platform: Platform, days: int) -> None:
    """As if the date had been made so many days ago."""
    table = platform.store.read("ip_regions", PARTITION)
    earlier = {"asked_on": (datetime.now(UTC).date() - timedelta(days=days)).isoformat()}
    platform.store.write("ip_regions", PARTITION, table, {**record(platform), **earlier})


def test_a_service_that_is_down_stops_nothing_and_is_asked_again(platform: Platform, service: Service) -> None:
    service.answers(Answer(500))
    platform.geolocator = geolocator(platform, service)
    result = platform.daily(DAY, DAY)
    assert result.success
    assert regions(platform) == ["bogon", "undetermined"]
    made = result.asset_materializations_for_node("daily")
    (metadata,) = [event.metadata for event in made if event.asset_key == dg.AssetKey("ip_regions")]
    assert metadata["undetermined"].value == 1
    found = record(platform)
    assert (found["undetermined"], found["asked_on"]) == (1, datetime.now(UTC).date().isoformat())
    version = found["data_version"]
    assert requested(platform) == [], "once a day is enough"

    backdate(platform, 1)
    (request,) = requested(platform)
    assert request.tags["dagster/asset_partition_range_start"] == DAY
    service.answers(json_answer(CALIFORNIA))
    platform.geolocator = geolocator(platform, service)
    repository = build_defs(platform.settings, {"geolocator": platform.geolocator}).get_repository_def()
    job = repository.get_job(repository.get_schedule_def("ask_again").job_name)
    assert job.execute_in_process(instance=platform.instance, tags=request.tags).success
    assert regions(platform) == ["US/California", "bogon"]
    assert record(platform)["undetermined"] == 0
    assert record(platform)["data_version"] != version
    backdate(platform, 1)
    assert requested(platform) == []
    backdate(platform, 91)
    assert len(requested(platform)) == 1


def test_a_region_that_was_known_stays_while_the_service_is_out_of_quota(platform: Platform, service: Service) -> None:
    """Half a year after a date was made its kept answers were gone: asked again without a quota, its regions became
    `undetermined`, night by night, the whole past."""
    service.answers(json_answer(CALIFORNIA))
    platform.geolocator = geolocator(platform, service)
    assert platform.daily(DAY, DAY).success
    version = record(platform)["data_version"]
    (platform.settings.home / "cache" / "ipinfo.sqlite").unlink()
    service.answers(Answer(429))
    platform.log(f"{DAY}-00-00-00-B", line("ds1/a", ip="1.1.1.1"))
    platform.geolocator = geolocator(platform, service)
    assert platform.daily(DAY, DAY).success
    assert regions(platform) == ["US/California", "bogon", "undetermined"]
    assert record(platform)["undetermined"] == 2, "both are asked again"
    assert record(platform)["data_version"] != version
    backdate(platform, 1)
    assert len(requested(platform)) == 1

    both = {**CALIFORNIA, "1.1.1.1": {"ip": "1.1.1.1", "country": "AU", "region": "Queensland"}}
    service.answers(json_answer(both))
    platform.geolocator = geolocator(platform, service)
    assert platform.daily(DAY, DAY).success
    assert regions(platform) == ["AU/Queensland", "US/California", "bogon"]
    assert record(platform)["undetermined"] == 0


def test_when_a_date_was_asked_is_no_part_of_its_data_version(platform: Platform, service: Service) -> None:
    service.answers(json_answer(CALIFORNIA))
    platform.geolocator = geolocator(platform, service)
    platform.daily(DAY, DAY)
    version = record(platform)["data_version"]
    backdate(platform, 200)
    platform.daily(DAY, DAY)
    assert record(platform)["data_version"] == version
    assert date.fromisoformat(str(record(platform)["asked_on"])) >= datetime.now(UTC).date() - timedelta(days=1)
    assert [asked.content for asked in service.asked] == [["8.8.8.8"]]


def test_the_schedule_selects_what_hangs_on_lookups_and_runs_share_a_pool(platform: Platform) -> None:
    repository = build_defs(platform.settings).get_repository_def()
    schedule = repository.get_schedule_def("ask_again")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    job = repository.get_job(schedule.job_name)
    assert {key.to_user_string() for key in job.asset_layer.selected_asset_keys} == {
        *("ip_regions", "region_coordinates", "daily_usage")
    }
    daily = repository.assets_defs_by_key[dg.AssetKey("ip_regions")]
    assert daily.op.pool == "geolocation"


def test_without_a_service_there_is_neither_pool_nor_schedule_nor_date_of_asking(platform: Platform) -> None:
    platform.environment = {name: text for name, text in platform.environment.items() if name not in KEYS}
    repository = build_defs(platform.settings).get_repository_def()
    assert not repository.has_schedule_def("ask_again")
    assert repository.assets_defs_by_key[dg.AssetKey("ip_regions")].op.pool is None
    platform.daily(DAY, DAY)
    assert set(record(platform)) >= {"undetermined"}
    assert "asked_on" not in record(platform)


def test_the_settings_choose_the_source(platform: Platform, tmp_path: Path) -> None:
    platform.environment |= {"OPENCAGE_API_KEY": "k3y", "S3LOGX_CLOUD_RANGES": "live"}
    built = build_resources(platform.settings)["geolocator"]
    assert isinstance(built, IpinfoGeolocator)
    assert "t0ken" not in repr(built) + repr(vars(built))
    assert "k3y" not in repr(built) + repr(vars(built))
    assert not (tmp_path / "home").exists(), "making it opens nothing"
