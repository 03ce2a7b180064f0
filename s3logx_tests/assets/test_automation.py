"""What sensors and schedules ask for, by what lies in the source and in the store."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.storage.tags import GRPC_INFO_TAG, RUN_KEY_TAG, SCHEDULE_NAME_TAG
from hypothesis import given
from hypothesis import strategies as st

from s3logx_assets import __main__ as commands
from s3logx_assets import automation, ticks
from s3logx_assets.adapters.log_store import Listing, LocalLogStore
from s3logx_assets.core.errors import SourceUnavailable
from s3logx_assets.dead_runs import end_dead_runs
from s3logx_assets.look_back import LookBack
from s3logx_assets.run_requests import GIVEN_BACK, run_key_of
from s3logx_tests.platform import DAILY, Platform, line

TODAY = datetime.now(UTC).date()


def ranges(requests: Sequence[dg.RunRequest] | str) -> list[tuple[str, str]]:
    assert not isinstance(requests, str), requests
    names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    return [(request.tags[names[0]], request.tags[names[1]]) for request in requests]


@pytest.fixture
def young(tmp_path: Path) -> Iterator[Platform]:
    """Log files of yesterday and of five days ago; an instance on disk, as schedules want it."""
    (tmp_path / "instance").mkdir()
    with dg.instance_for_test(temp_dir=str(tmp_path / "instance")) as instance:
        yield with_young_files(Platform.make(tmp_path, instance))


def with_young_files(platform: Platform) -> Platform:
    for back in (1, 5):
        day = str(TODAY - timedelta(days=back))
        platform.log(f"{day}-05-00-00-AA", line("ds1/a", day))
    platform.log("2025-03-01-05-00-00-AA", line("ds1/a"))  # older than the window
    return platform


@pytest.mark.parametrize("name", ["new_log_files_sensor", "daily_update"])
def test_dates_whose_files_are_not_those_extracted_are_asked_for(young: Platform, name: str) -> None:
    five, one = str(TODAY - timedelta(days=5)), str(TODAY - timedelta(days=1))
    requests = young.tick(name)
    assert ranges(requests) == [(five, five), (one, one)]
    assert {key.to_user_string() for key in requests[0].asset_selection or ()} == set(DAILY)  # type: ignore[union-attr]
    assert young.daily(five, one).success
    words = str(young.tick(name))
    assert "dates are up to date" in words
    assert words.endswith(f" to {TODAY}")
    young.log(f"{five}-09-00-00-BB", line("ds1/b", five))
    assert ranges(young.tick(name)) == [(five, five)]


@pytest.mark.parametrize("name", ["stale_scopes_sensor", "daily_scopes"])
def test_scopes_that_the_usage_has_moved_on_from_are_asked_for(young: Platform, name: str) -> None:
    assert young.tick(name) == "all 0 scopes are up to date"
    assert young.daily(str(TODAY - timedelta(days=5)), str(TODAY)).success
    assert len(young.tick(name)) == 1
    assert young.update_scopes().success
    assert young.tick(name) == "all 2 scopes are up to date"


@pytest.mark.parametrize("name", ["stale_scopes_sensor", "daily_scopes"])
def test_scopes_that_a_run_is_under_way_for_are_not_asked_for(young: Platform, name: str) -> None:
    """With each date of a backfill the usage was another one, and so was the key of the run that was asked for: over a
    thousand updates waited in the queue behind a backfill of twelve hours."""
    assert young.daily(str(TODAY - timedelta(days=5)), str(TODAY)).success
    for start, what in ((young.start_job, "update_scopes"), (young.start_scope, "archive")):
        run = start(what)
        assert young.tick(name) == "2 scopes are out of date, and a run that updates scopes is under way"
        young.instance.report_run_canceled(run)
    other = young.start_run("2025-03-01", "2025-03-01")
    assert len(young.tick(name)) == 1, "a run of dates is none of scopes"
    young.instance.report_run_canceled(other)


def test_a_release_that_failed_is_tried_each_morning_until_there_is_one(young: Platform) -> None:
    """One try on Wednesday was all: scopes that were out of date at that minute, or a store away, cost a week."""
    assert young.tick("weekly_publication") == "there is nothing to publish yet"
    assert young.daily(str(TODAY - timedelta(days=5)), str(TODAY)).success
    wednesday = automation.last_wednesday(datetime.now(UTC)).date()
    asked_for = {SCHEDULE_NAME_TAG: "weekly_publication"}
    young.instance.report_run_failed(young.start_job("update_scopes", asked_for))
    asked = young.tick("weekly_publication")
    assert not isinstance(asked, str)
    assert [request.run_key for request in asked] == [None], "as often as it is asked for"
    young.start_job("update_scopes", asked_for)
    assert young.tick("weekly_publication") == f"the release of {wednesday} is out, or on its way"


@given(seconds=st.integers(0, 2**31))
def test_the_last_wednesday_is_within_a_week(seconds: int) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    found = automation.last_wednesday(moment)
    assert timedelta() <= moment - found < timedelta(days=7)
    assert (found.isoweekday(), found.hour, found.minute) == (3, 6, 0)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (lambda folder: folder.rename(folder.with_name("gone")), "is not a folder"),
        (lambda folder: (folder / "2020").write_text(""), "up to date"),
    ],
    ids=["gone", "other files"],
)
def test_a_source_in_trouble_is_a_reason_and_no_failure(
    platform: Platform, trouble: Callable[[Path], object], words: str
) -> None:
    platform.log("2025-03-01-05-00-00-AA", line("ds1/a"))
    trouble(platform.folder / "logs")
    assert words in str(platform.tick("new_log_files_sensor"))


def test_a_date_that_fails_is_asked_for_again_the_next_day_but_not_before() -> None:
    """Once it was asked for one time only: an hour without the network cost a date for good."""
    days = [date(2025, 3, 1), date(2025, 3, 2), date(2025, 3, 5)]
    wanted = dict.fromkeys(days, "digest")
    key = run_key_of(wanted, days[0], days[1], date(2025, 3, 6))
    assert key == run_key_of(wanted | {days[2]: "other"}, days[0], days[1], date(2025, 3, 6))
    assert key != run_key_of(wanted, days[0], days[1], date(2025, 3, 7))
    assert key != run_key_of(wanted | {days[1]: "other"}, days[0], days[1], date(2025, 3, 6))


def test_a_recent_date_that_got_no_further_is_asked_for_again(young: Platform) -> None:
    """Its files were extracted, so the listing had no news: it stayed half-way for good."""
    one = str(TODAY - timedelta(days=1))
    assert young.daily(str(TODAY - timedelta(days=5)), one).success
    young.log(f"{one}-09-00-00-BB", line("ds1/b", one))
    assert young.daily(one, one, ["extracted_logs", "ip_indexes"]).success
    assert ranges(young.tick("new_log_files_sensor")) == [(one, one)]
    assert young.daily(one, one, DAILY[2:]).success
    assert "up to date" in str(young.tick("new_log_files_sensor"))


def test_a_run_that_ended_with_the_machine_is_failed_and_may_be_asked_for_again(young: Platform) -> None:
    """It held the only place in the queue for good, and its key made the sensor's next request a known one."""
    command_line, launched = (young.start_run("2025-03-01", "2025-03-02") for _ in range(2))
    young.instance.add_run_tags(launched.run_id, {GRPC_INFO_TAG: "{}", RUN_KEY_TAG: "key"})
    assert end_dead_runs(young.instance) == [launched.run_id]
    assert end_dead_runs(young.instance) == []
    found = {run.run_id: run for run in young.instance.get_runs()}
    assert found[launched.run_id].status == dg.DagsterRunStatus.FAILURE
    assert found[command_line.run_id].status == dg.DagsterRunStatus.STARTED
    assert young.instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: "key"})) == []


def test_a_command_that_was_killed_is_ended_and_a_living_one_is_not(young: Platform) -> None:
    """It was taken for at work for good: the queue of one place launched nothing any more, and no sensor asked for its dates."""
    five = str(TODAY - timedelta(days=5))
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    living, dead, reused, begun, never = (young.start_run(five, five) for _ in range(5))
    _begins(young.instance, living, os.getpid(), datetime.now(UTC))
    _begins(young.instance, dead, gone.pid, datetime.now(UTC))
    _begins(young.instance, reused, os.getpid(), datetime.now(UTC) - timedelta(days=1))
    with closing(sqlite3.connect(young.folder / "instance" / "history" / "runs.db")) as runs, runs:
        runs.execute("UPDATE runs SET create_timestamp = '2025-03-01 00:00:00' WHERE run_id = ?", (never.run_id,))
    assert ranges(young.tick("new_log_files_sensor")) == [(str(TODAY - timedelta(days=1)),) * 2]
    said = str(young.tick("dead_runs_sensor"))
    assert "3 runs were ended" in said
    ended = {run.run_id for run in young.instance.get_runs() if run.status == dg.DagsterRunStatus.FAILURE}
    assert ended == {dead.run_id, reused.run_id, never.run_id}
    assert young.tick("dead_runs_sensor") == "every run is alive"
    for run in (living, begun):
        young.instance.report_run_failed(run)
    assert ranges(young.tick("new_log_files_sensor"))[0] == (five, five)


def test_new_files_of_young_dates_gather_for_an_hour(young: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    """Every new log object made its date be extracted whole again at the next tick: over a thousand runs a day in a
    busy bucket, and a day's work quadratic in its files."""
    one = str(TODAY - timedelta(days=1))
    assert (one, one) in ranges(young.tick("new_log_files_sensor")), "at once, when it is seen first"
    assert young.daily(str(TODAY - timedelta(days=6)), one).success
    for number in range(2):
        young.log(f"{one}-09-00-00-B{number}", line("ds1/b", one, number))
        assert (
            young.tick("new_log_files_sensor")
            == "new log files of 1 dates gather: these were extracted within the hour"
        )
    assert ranges(young.tick("daily_update")) == [(one, one)], "once a night, it does not wait"
    capsys.readouterr()
    assert commands.print_behind(young.settings) == 0
    assert f"{one}...{one}" in capsys.readouterr().out, "who asks is told all"
    _age(young, timedelta(hours=1))
    assert ranges(young.tick("new_log_files_sensor")) == [(one, one)]


def test_a_young_date_that_fails_does_not_fail_at_each_new_file(young: Platform) -> None:
    """Its files were others each time, so the request was another one."""
    one = str(TODAY - timedelta(days=1))
    assert young.daily(str(TODAY - timedelta(days=6)), str(TODAY - timedelta(days=2))).success
    young.log(f"{one}-09-00-00-BAD", "").write_bytes(b"\x1f\x8b damaged")
    assert not young.daily(one, one).success
    assert "new log files of 1 dates gather" in str(young.tick("new_log_files_sensor"))
    (run,) = young.instance.get_runs(limit=1)
    young.instance.add_run_tags(run.run_id, {RUN_KEY_TAG: f"{GIVEN_BACK} {run.run_id}"})
    assert ranges(young.tick("new_log_files_sensor")) == [(one, one)], "a run that was killed is no answer"


def _age(platform: Platform, by: timedelta) -> None:
    """Lets all runs have been asked for so long ago."""
    with closing(sqlite3.connect(platform.folder / "instance" / "history" / "runs.db")) as runs, runs:
        moment = f"{datetime.now(UTC) - by:%Y-%m-%d %H:%M:%S.%f}"
        runs.execute("UPDATE runs SET create_timestamp = ?", (moment,))


def _begins(instance: dg.DagsterInstance, run: dg.DagsterRun, process: int, moment: datetime) -> None:
    """What an executor reports when it begins."""
    data = EngineEventData.in_process(process)
    event = dg.DagsterEvent("ENGINE_EVENT", run.job_name, message="begins", event_specific_data=data)
    instance.report_dagster_event(event, run.run_id, timestamp=moment.timestamp())


def test_what_is_behind_is_printed_as_ranges(young: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    def behind() -> list[str]:
        capsys.readouterr()
        assert commands.print_behind(young.settings) == 0
        return capsys.readouterr().out.splitlines()

    five, one = str(TODAY - timedelta(days=5)), str(TODAY - timedelta(days=1))
    assert behind() == ["2025-03-01...2025-03-01", f"{five}...{five}", f"{one}...{one}"]
    assert young.daily("2025-03-01", "2025-03-01").success
    assert young.daily(five, five, DAILY[:3]).success
    assert behind() == [f"{five}...{five}", f"{one}...{one}"]
    assert young.daily(five, one).success
    assert behind() == []


def test_after_the_last_slice_of_dates_the_first_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over more dates than a tick lists, the cursor stayed behind the last but one slice for good, and a late file of an
    earlier date was never seen."""
    monkeypatch.setattr(automation, "_SLICE", 4)
    (tmp_path / "instance").mkdir()
    with dg.instance_for_test(temp_dir=str(tmp_path / "instance")) as instance:
        young = with_young_files(Platform.make(tmp_path, instance))
        assert young.daily(str(TODAY - timedelta(days=6)), str(TODAY)).success
        first = f"4 dates are up to date, {TODAY - timedelta(days=6)} to {TODAY - timedelta(days=3)}"
        last = f"3 dates are up to date, {TODAY - timedelta(days=2)} to {TODAY}"
        assert [young.tick("new_log_files_sensor") for _ in range(4)] == [first, last, first, last]


def test_dates_that_take_long_to_list_are_listed_in_several_ticks(
    young: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a bucket of 110,000 objects a day, seven dates took longer to list than a tick may: Dagster gave it up, and
    the next one began anew, for good; nothing was ever extracted."""
    monkeypatch.setattr(ticks, "SECONDS", 0.0)
    five, one = str(TODAY - timedelta(days=5)), str(TODAY - timedelta(days=1))
    found = [young.tick("new_log_files_sensor") for _ in range(8)]
    assert [ranges(each) for each in found if not isinstance(each, str)] == [[(five, five)], [(one, one)]]
    assert [each for each in found if isinstance(each, str)] == [
        f"1 dates are up to date, {day} to {day}"
        for day in (TODAY - timedelta(days=back) for back in (6, 4, 3, 2, 0, 6))
    ]


def test_what_was_found_before_the_source_failed_is_asked_for(young: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next tick goes on where it failed, and says so; the one after it is behind that."""
    genuine = LocalLogStore.listings

    def failing(store: LocalLogStore, days: Sequence[date]) -> Iterator[tuple[date, Listing]]:
        if TODAY - timedelta(days=3) in days:
            raise SourceUnavailable("the source is down")
        return genuine(store, days)

    monkeypatch.setattr(LocalLogStore, "listings", failing)
    five, one = str(TODAY - timedelta(days=5)), str(TODAY - timedelta(days=1))
    assert ranges(young.tick("new_log_files_sensor")) == [(five, five)]
    assert young.tick("new_log_files_sensor") == "the source is down"
    assert ranges(young.tick("new_log_files_sensor")) == [(one, one)]


def _back(days: int) -> str:
    return str(TODAY - timedelta(days=days))


def test_after_an_outage_the_dates_that_nobody_saw_are_asked_for(young: Platform) -> None:
    """The machine was off for ten days. The dates that had left the window meanwhile, and the one in whose middle it went
    off, were never looked at again, and nothing said so."""
    young.log(f"{_back(12)}-05-00-00-AA", line("ds1/a", _back(12)))
    assert young.daily(_back(12), _back(12)).success
    young.cursors["new_log_files_sensor"] = LookBack(since=_back(12)).cursor
    young.log(f"{_back(12)}-15-00-00-AA", line("ds1/b", _back(12)))
    young.log(f"{_back(10)}-05-00-00-AA", line("ds1/a", _back(10)))
    missed = [(_back(12), _back(12)), (_back(10), _back(10)), (_back(5), _back(5)), (_back(1), _back(1))]
    assert ranges(young.tick("new_log_files_sensor")) == missed
    # While their runs fail they are not forgotten, and no other old date is listed.
    assert ranges(young.tick("new_log_files_sensor")) == missed
    assert young.daily(_back(12), _back(0)).success
    assert young.tick("new_log_files_sensor") == f"9 dates are up to date, {_back(12)} to {TODAY}"
    assert young.tick("new_log_files_sensor") == f"7 dates are up to date, {_back(6)} to {TODAY}"


@pytest.mark.parametrize("name", ["new_log_files_sensor", "daily_update"])
def test_without_a_cursor_the_store_tells_how_long_the_outage_was(young: Platform, name: str) -> None:
    """A backup of three weeks ago was restored, or Dagster's history begun anew."""
    young.log(f"{_back(20)}-05-00-00-AA", line("ds1/a", _back(20)))
    young.log(f"{_back(14)}-05-00-00-AA", line("ds1/a", _back(14)))
    assert young.daily(_back(20), _back(20)).success
    assert ranges(young.tick(name))[0] == (_back(14), _back(14))


def test_a_history_that_was_brought_there_is_no_outage(young: Platform) -> None:
    """Who made the dates of years ago by a command did not ask for all that came since."""
    young.log(f"{_back(100)}-05-00-00-AA", line("ds1/a", _back(100)))
    young.log(f"{_back(50)}-05-00-00-AA", line("ds1/a", _back(50)))
    assert young.daily(_back(100), _back(100)).success
    assert ranges(young.tick("new_log_files_sensor"))[0] == (_back(5), _back(5))


def test_while_the_source_is_away_no_date_goes_by_unseen(young: Platform) -> None:
    """Its credentials had expired: each tick passed over the dates as if they had been seen."""
    logs, away = young.folder / "logs", young.folder / "away"
    young.cursors["new_log_files_sensor"] = LookBack(since=_back(9)).cursor
    young.log(f"{_back(9)}-05-00-00-AA", line("ds1/a", _back(9)))
    logs.rename(away)
    for _ in range(20):
        assert "is not a folder" in str(young.tick("new_log_files_sensor"))
    away.rename(logs)
    found = [
        ranges(each) for each in (young.tick("new_log_files_sensor") for _ in range(2)) if not isinstance(each, str)
    ]
    assert (_back(9), _back(9)) in [each for asked in found for each in asked]


@pytest.mark.parametrize("cursor", ["", "2025-03-04", "0000-00-00", "[]", "{", '{"other": 1}', "null", '{"behind": 3}'])
def test_any_other_cursor_is_none(young: Platform, cursor: str) -> None:
    """One of an earlier version was a date."""
    young.cursors["new_log_files_sensor"] = cursor
    assert ranges(young.tick("new_log_files_sensor")) == [(_back(5), _back(5)), (_back(1), _back(1))]
