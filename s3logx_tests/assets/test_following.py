"""Steps that follow others by automation conditions: once for each change, and not for what did not change."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from s3logx_assets.core.addresses import AddressBlock
from s3logx_assets.core.errors import StoreError
from s3logx_assets.run_requests import FIRST, LAST
from s3logx_tests.platform import DAILY, EvenOddGeolocator, Platform, line

DAYS = ("2025-03-01", "2025-03-02")


class OtherGeolocator(EvenOddGeolocator):
    """Other names for the same."""

    data_version = "other"

    def regions(self, addresses: AddressBlock) -> pa.Table:
        found = super().regions(addresses)
        return found.set_column(0, "region", pc.replace_substring(found["region"], "Even", "Equal"))


class FailingGeolocator(EvenOddGeolocator):
    """Out of order."""

    data_version = "failing"

    def regions(self, addresses: AddressBlock) -> pa.Table:
        raise StoreError("out of order")


class Watch:
    """The automation conditions of the graph, evaluated again and again."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.cursor: Any = None

    def requested(self) -> dict[str, set[str | None]]:
        """The partitions that are asked for now, by asset."""
        result = dg.evaluate_automation_conditions(
            self.platform.definitions(),
            instance=self.platform.instance,
            asset_selection=dg.AssetSelection.assets(*DAILY),
            cursor=self.cursor,
        )
        self.cursor = result.cursor
        found = {name: set(result.get_requested_partitions(dg.AssetKey(name))) for name in DAILY}
        return {name: days for name, days in found.items() if days}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[tuple[Platform, Watch]]:
    """Two dates, made whole, and a look at them."""
    with dg.DagsterInstance.ephemeral() as instance:
        platform = Platform.make(tmp_path, instance)
        for day in DAYS:
            platform.log(f"{day}-05-00-00-AA", line("ds1/a", day), line("ds2/b", day, host=2))
        watch = Watch(platform)
        assert watch.requested() == {}
        assert platform.daily(*DAYS).success
        yield platform, watch


def test_what_one_run_makes_together_is_not_asked_for(made: tuple[Platform, Watch]) -> None:
    _, watch = made
    assert watch.requested() == {}
    assert watch.requested() == {}


def test_steps_follow_the_one_that_was_made_alone_and_changed(made: tuple[Platform, Watch]) -> None:
    platform, watch = made
    assert watch.requested() == {}
    platform.log(f"{DAYS[1]}-09-00-00-BB", line("ds1/new", DAYS[1], host=3))
    assert platform.daily(DAYS[0], DAYS[1], ["extracted_logs"]).success
    assert watch.requested() == {key: {DAYS[1]} for key in DAILY[1:]}
    assert platform.daily(DAYS[1], DAYS[1], DAILY[1:]).success
    assert watch.requested() == {}
    assert watch.requested() == {}


def test_nothing_follows_what_stayed_as_it_was(made: tuple[Platform, Watch]) -> None:
    platform, watch = made
    assert watch.requested() == {}
    assert platform.daily(DAYS[0], DAYS[1], ["extracted_logs"]).success
    assert watch.requested() == {}
    assert platform.daily(DAYS[0], DAYS[1], ["ip_regions"]).success
    assert watch.requested() == {}


def test_a_step_in_the_middle_is_followed_by_those_after_it(made: tuple[Platform, Watch]) -> None:
    platform, watch = made
    assert watch.requested() == {}
    platform.geolocator = OtherGeolocator()
    assert platform.daily(DAYS[0], DAYS[0], ["ip_regions"]).success
    assert watch.requested() == {name: {DAYS[0]} for name in ("region_coordinates", "daily_usage")}


def test_dates_that_lack_a_step_before_are_left_alone(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        platform = Platform.make(tmp_path, instance)
        platform.log(f"{DAYS[0]}-05-00-00-AA", line("ds1/a", DAYS[0]))
        watch = Watch(platform)
        assert watch.requested() == {}
        assert platform.daily(DAYS[0], DAYS[0], ["extracted_logs"]).success
        assert watch.requested() == {key: {DAYS[0]} for key in DAILY[1:]}


def test_a_date_that_got_no_further_is_tried_once_more(made: tuple[Platform, Watch]) -> None:
    """Its run had made both, or meant to: nothing followed, and nothing asked for the rest."""
    platform, watch = made
    assert watch.requested() == {}
    platform.log(f"{DAYS[0]}-09-00-00-BB", line("ds1/new", DAYS[0], host=3))
    platform.geolocator = FailingGeolocator()
    assert not platform.daily(*DAYS).success
    assert watch.requested() == {key: {DAYS[0]} for key in DAILY[2:]}
    assert not platform.daily(DAYS[0], DAYS[0], DAILY[2:]).success
    assert watch.requested() == {}
    platform.geolocator = EvenOddGeolocator()
    assert platform.daily(DAYS[0], DAYS[0], DAILY[2:]).success
    assert watch.requested() == {}


def test_what_the_store_has_and_the_history_has_not_is_told_and_followed_by_nothing(tmp_path: Path) -> None:
    """A run was killed between a date's last table and its events: the store had the date whole, so no sensor asked,
    the UI showed it as missing for good, and no step ever followed another on it."""
    today = datetime.now(UTC).date()
    whole, part = (str(today - timedelta(days=back)) for back in (3, 2))
    with dg.DagsterInstance.ephemeral() as instance, dg.DagsterInstance.ephemeral() as killed:
        platform = Platform.make(tmp_path, instance)
        for day in (whole, part):
            platform.log(f"{day}-05-00-00-AA", line("ds1/a", day))
        assert replace(platform, instance=killed).daily(whole, whole).success
        assert replace(platform, instance=killed).daily(part, part, DAILY[:3]).success
        watch = Watch(platform)
        assert watch.requested() == {}
        run = platform.start_run(whole, whole)
        platform.tick("new_log_files_sensor")
        assert platform.materialized("daily_usage") == set(), "the run will tell it"
        instance.report_run_canceled(run)
        for _ in range(2):
            found = platform.tick("new_log_files_sensor")
            assert not isinstance(found, str)
            (request,) = found
            assert request.tags[FIRST] == request.tags[LAST] == part
            assert [platform.materialized(asset) for asset in DAILY] == [{whole}] * len(DAILY)
            assert watch.requested() == {}
        for asset in DAILY:
            (event,) = instance.fetch_materializations(dg.AssetKey(asset), limit=9).records
            assert event.asset_materialization is not None
            record = platform.store.record(asset, f"log_date={whole}")
            assert record is not None
            assert (event.asset_materialization.tags or {})["dagster/data_version"] == record["data_version"]
        platform.log(f"{whole}-09-00-00-BB", line("ds1/new", whole, host=3))
        assert platform.daily(whole, whole, ["extracted_logs"]).success
        assert watch.requested() == {key: {whole} for key in DAILY[1:]}, "from now on steps follow"
