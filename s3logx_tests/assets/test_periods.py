"""Policy `strict` in the graph: what closes when, what is told once, and what is refused."""

import json
import shutil
from dataclasses import replace

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from s3logx_assets import key_care
from s3logx_assets.adapters.closed_periods import RELEASED_USAGE, read_periods, rows_of, write_period
from s3logx_assets.adapters.release_store import LocalReleaseStore
from s3logx_assets.assets.publish import WITHSTANDS
from s3logx_assets.core.addresses import AddressBlock
from s3logx_assets.core.errors import StoreBusyError, StoreError
from s3logx_assets.core.privacy import strict as engine
from s3logx_assets.core.privacy.attack import read_release
from s3logx_tests.platform import EvenOddGeolocator, Platform, failure_text, line

# The first log date, 2025-03-01, is a Saturday: the first period ends the day after, the next ones on the 9th and the 16th.
SUNDAYS = ("2025-03-02", "2025-03-09", "2025-03-16")


def day_of(platform: Platform, day: int, *more: str, hosts: range = range(1, 41), dataset: str = "ds") -> None:
    """A log file of a day on which each of these hosts reads a file of a dataset."""
    date = f"2025-03-{day:02}"
    lines = [line(f"{dataset}/sub-{host % 2}/a.nwb", date, host, sent=1000, host=host) for host in hosts]
    platform.log(f"{date}-05-00-00-{dataset.upper()}{hosts.start}", *lines, *more)


def published(platform: Platform, last: int) -> dict[str, bytes]:
    """The files of the release after all dates up to `last`."""
    assert platform.daily("2025-03-01", f"2025-03-{last:02}").success
    assert platform.update_scopes().success
    assert platform.publish().success
    folder = platform.latest
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def days(files: dict[str, bytes], scope: str = "ds") -> dict[str, int | None]:
    return {label: row[0] for label, row in read_release(files).tables[scope]["day"].items()}


@pytest.fixture
def strict(platform: Platform) -> Platform:
    """A platform of eleven dates; with two days of lag those up to the 9th are complete."""
    platform.environment["S3LOGX_POLICY"] = "strict"
    for day in range(1, 12):
        day_of(platform, day)
    return platform


def test_whole_weeks_are_told_and_no_more(strict: Platform) -> None:
    files = published(strict, 11)
    assert days(files) == {f"2025-03-{day:02}": 40 for day in range(1, 10)}
    policy = json.loads(files["privacy.json"])
    assert (policy["policy"], policy["people"], policy["largest"], policy["coalition"]) == ("strict", 10, 0.5, 0.9)
    assert [each["until"] for each in policy["periods"]] == list(SUNDAYS[:2])
    assert files["summaries/ds/requester_count.tsv"] == b"40"
    assert not [name for name in files if "by_asset_type" in name]
    assert b"at least 40 requesters" in files["index.html"]
    assert sorted(path.name for path in (strict.store.root / RELEASED_USAGE).iterdir()) == [
        f"period={sunday}" for sunday in SUNDAYS[:2]
    ]


def test_nothing_is_told_before_a_week_is_over(strict: Platform) -> None:
    assert strict.daily("2025-03-01", "2025-03-03").success
    assert strict.update_scopes().success
    assert "no week is over yet: 2025-03-01 is the last date" in failure_text(strict.publish())


def test_other_periods(strict: Platform) -> None:
    strict.environment["S3LOGX_RELEASE_PERIOD"] = "day"
    assert days(published(strict, 4)) == {"2025-03-01": 40, "2025-03-02": 40}
    strict.environment["S3LOGX_RELEASE_PERIOD"] = "month"
    assert strict.publish().success
    assert [str(period.until) for period in read_periods(strict.store)] == ["2025-03-01", "2025-03-02"]


def test_the_same_state_is_the_same_release(strict: Platform) -> None:
    before = published(strict, 11)
    name = strict.latest.resolve().name
    assert published(strict, 11) == before
    assert strict.latest.resolve().name == name


def test_a_late_file_changes_nothing_that_was_told_and_counts_in_the_next_week(strict: Platform) -> None:
    """One more person on a day that was told: the next release, with nothing else new, would have been that person's."""
    before = published(strict, 11)
    day_of(strict, 4, hosts=range(100, 101))
    assert published(strict, 11) == before
    for day in range(12, 19):
        day_of(strict, day)
    after = published(strict, 18)
    assert days(after)["2025-03-04"] == 40
    assert sum(count or 0 for count in days(after).values()) == 16 * 40 + 1
    assert max(days(after)) == "2025-03-16"
    assert "../2025-03-16" in days(after)


def test_few_people_wait_until_they_are_enough(strict: Platform) -> None:
    for day, hosts in ((2, range(1, 7)), (8, range(7, 13))):
        day_of(strict, day, hosts=hosts, dataset="rare")
    first = published(strict, 4)
    assert [each["until"] for each in json.loads(first["privacy.json"])["periods"]] == ["2025-03-02"]
    assert "rare" not in json.loads(first["totals.json"])
    assert json.loads(first["archive_totals.json"])["total_number_of_requests"] == 80
    second = published(strict, 11)
    # Six people of one week and six of the next: told together, of no day, no week and no month.
    assert days(second, "rare") == {"2024-12-30/2025-12-28": 12}
    assert json.loads(second["archive_totals.json"])["total_number_of_requests"] == 9 * 40 + 12


def test_what_was_told_must_be_known(strict: Platform) -> None:
    """From the same usage the same would be told again; from other usage something else, that can be compared."""
    published(strict, 11)
    day_of(strict, 4, hosts=range(100, 160))
    published(strict, 11)
    kept = strict.folder / "kept"
    shutil.move(strict.store.root / RELEASED_USAGE, kept)
    text = failure_text(strict.publish())
    assert "the latest release tells of 2 closed periods" in text
    assert "bring private/released_usage back from the backup" in text
    shutil.rmtree(strict.store.root / RELEASED_USAGE)
    shutil.move(kept, strict.store.root / RELEASED_USAGE)
    assert strict.publish().success
    shutil.rmtree(strict.store.root / RELEASED_USAGE / "period=2025-03-02")
    assert "does not follow the period before it" in failure_text(strict.publish())


def test_a_damaged_period_says_what_helps(strict: Platform) -> None:
    """It said that the asset `released_usage` was to be materialised again, which there is not."""
    published(strict, 11)
    path = strict.store.path(RELEASED_USAGE, "period=2025-03-09")
    path.write_bytes(path.read_bytes()[:1000])
    text = failure_text(strict.publish())
    assert "period=2025-03-09" in text
    assert "bring it back from the backup" in text


def test_a_release_that_was_cut_short_is_told_the_same_later(strict: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The period was closed and the release was not written: its figures must not be worked out a second time from other usage."""

    def fail(*arguments: object) -> None:
        raise StoreError("the disk is full")

    assert strict.daily("2025-03-01", "2025-03-11").success
    assert strict.update_scopes().success
    with monkeypatch.context() as patched:
        patched.setattr(LocalReleaseStore, "publish", fail)
        assert "the disk is full" in failure_text(strict.publish())
    cells = [period.cells for period in read_periods(strict.store)]
    day_of(strict, 4, hosts=range(100, 160))
    files = published(strict, 11)
    assert [period.cells for period in read_periods(strict.store)] == cells
    assert days(files)["2025-03-04"] == 40


def test_a_run_that_died_while_it_closed_a_period_has_closed_none(strict: Platform) -> None:
    """It had made the folder and no more. No release came out any more: each asked for a file from the backup that had never
    been there."""
    published(strict, 4)
    (strict.store.root / RELEASED_USAGE / "period=2025-03-09").mkdir()
    files = published(strict, 11)
    assert [each["until"] for each in json.loads(files["privacy.json"])["periods"]] == ["2025-03-02", "2025-03-09"]


def test_periods_of_another_key_are_refused(strict: Platform) -> None:
    """A backup from before a rotation: nobody in it is anybody in the store, so all would be told again, and everybody be two."""
    published(strict, 4)
    [period] = read_periods(strict.store)
    rows = rows_of(strict.store, period.until)
    strict.store.remove(RELEASED_USAGE, f"period={period.until}")
    write_period(strict.store, replace(period, key_id="of another"), rows)
    text = failure_text(strict.publish())
    assert "is of another master key than the store: it is from before a rotation" in text
    strict.store.remove(RELEASED_USAGE, f"period={period.until}")
    write_period(strict.store, period, rows)
    assert strict.publish().success


def test_a_period_is_closed_once(strict: Platform) -> None:
    """A run that was thought dead came back, and what it made of a period replaced what another one had told of it."""
    published(strict, 4)
    [period] = read_periods(strict.store)
    rows = rows_of(strict.store, period.until)
    strict.store.remove(RELEASED_USAGE, f"period={period.until}")
    for _ in range(2):  # the second is the same, as where the first answer was lost
        write_period(strict.store, period, rows)
    with pytest.raises(StoreBusyError, match="made by another run meanwhile; run again"):
        write_period(strict.store, replace(period, left_out=7), rows)
    assert read_periods(strict.store)[0].left_out == period.left_out


def test_a_period_that_was_told_otherwise_is_not_closed_again(strict: Platform) -> None:
    """The refused release left a period behind that did not follow those which were then brought back from the backup."""
    published(strict, 11)
    kept = strict.folder / "kept"
    shutil.move(strict.store.root / RELEASED_USAGE, kept)
    (strict.store.root / RELEASED_USAGE).mkdir(mode=0o700)
    day_of(strict, 4, hosts=range(100, 160))
    assert strict.daily("2025-03-01", "2025-03-18").success
    assert "the latest release tells of 2 closed periods" in failure_text(strict.publish())
    assert [period.until.day for period in read_periods(strict.store)] == [2], "closed as before: nothing new is in it"
    shutil.rmtree(strict.store.root / RELEASED_USAGE)
    shutil.move(kept, strict.store.root / RELEASED_USAGE)
    assert strict.publish().success


def test_what_is_closed_the_same_again_is_what_was_lost(strict: Platform) -> None:
    before = published(strict, 11)
    shutil.rmtree(strict.store.root / RELEASED_USAGE)
    assert strict.publish().success
    assert published(strict, 11)["privacy.json"] == before["privacy.json"]


def test_scopes_that_are_out_of_date_hold_no_release_back(strict: Platform) -> None:
    """Nothing that is told comes from them, and logs arrive all the time."""
    assert strict.daily("2025-03-01", "2025-03-11").success
    assert strict.publish().success


def test_a_date_that_a_run_left_empty_holds_no_release_back(strict: Platform) -> None:
    published(strict, 4)
    for asset in ("extracted_logs", "region_coordinates"):
        (strict.store.root / asset / "log_date=2025-02-20").mkdir()
    assert strict.publish().success


class OtherGeolocator(EvenOddGeolocator):
    """The same addresses in other regions."""

    data_version = "other"

    def regions(self, addresses: AddressBlock) -> pa.Table:
        """CC/Other."""
        table = super().regions(addresses)
        return table.set_column(0, "region", pa.array(["CC/Other"] * table.num_rows))


def test_regions_that_are_called_otherwise_are_not_told_again(strict: Platform) -> None:
    before = published(strict, 11)
    strict.geolocator = OtherGeolocator()
    for day in range(12, 19):
        day_of(strict, day)
    after = read_release(published(strict, 18))
    regions = after.tables["ds"]["region"]
    assert regions["CC/Other"][0] == 7 * 40
    assert {label: row for label, row in regions.items() if label != "CC/Other"} == read_release(before).tables["ds"][
        "region"
    ]


def test_only_regions_that_are_told_have_a_place(strict: Platform) -> None:
    """The list of coordinates of a release would tell where somebody was."""
    day_of(strict, 3, hosts=range(200, 201), dataset="rare")
    files = published(strict, 11)
    told = set(read_release(files).tables["archive"]["region"])
    places = {row.split("\t")[0] for row in files["region_coordinates.tsv"].decode().splitlines()[1:]}
    assert places <= told


def test_what_was_taken_adds_up(strict: Platform) -> None:
    published(strict, 11)
    rows = pa.concat_tables([rows_of(strict.store, period.until) for period in read_periods(strict.store)])
    assert pc.sum(rows["request_count"]).as_py() == 9 * 40
    assert rows.num_rows == len({tuple(map(str, row.values())) for row in rows.to_pylist()})
    assert (strict.store.root / RELEASED_USAGE / "period=2025-03-02" / "part-0.parquet").stat().st_mode & 0o777 == 0o600


def test_metadata_tell_operators_what_waits(strict: Platform) -> None:
    day_of(strict, 3, hosts=range(200, 205), dataset="rare")
    published(strict, 11)
    event = strict.instance.get_latest_materialization_event(dg.AssetKey("publication"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["requests_waiting"].value == 5
    assert metadata["policy"].value == "strict"
    assert metadata["periods"].value == 2


def test_what_an_attacker_could_tell_is_not_released(strict: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """With groups of one person each the attacker has something to find. Nothing is closed and nothing released."""
    day_of(strict, 2, hosts=range(200, 203), dataset="rare")
    assert strict.daily("2025-03-01", "2025-03-11").success
    assert strict.update_scopes().success
    with monkeypatch.context() as patched:
        patched.setattr(engine, "safe", lambda group, groups, person, measures, rule: np.ones(groups, bool))
        text = failure_text(strict.publish())
    assert "the period up to 2025-03-02 is not closed, since an attacker could tell" in text
    assert "rare by total, from a figure" in text
    assert not strict.latest.exists()
    assert not read_periods(strict.store)
    assert outcome_of_check(strict) is False
    assert strict.publish().success
    assert outcome_of_check(strict) is True
    strict.environment["S3LOGX_POLICY"] = "compatible"
    assert strict.publish().success
    assert outcome_of_check(strict) is False


def outcome_of_check(platform: Platform) -> bool:
    """Of the last time that the attacker was asked."""
    key = dg.AssetCheckKey(dg.AssetKey("publication"), WITHSTANDS)
    [record] = platform.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event is not None
    event = record.event.dagster_event
    assert event is not None
    return event.asset_check_evaluation_data.passed


def test_a_new_master_key_does_not_make_two_people_of_one(strict: Platform) -> None:
    """Six people wait, the key is exchanged, and the same six come again. Under their new pseudonyms they would be twelve."""
    for day in (2, 8):
        day_of(strict, day, hosts=range(1, 7), dataset="rare")
    before = published(strict, 4)
    networks = rows_of(strict.store, read_periods(strict.store)[0].until)["network_index"].unique().to_pylist()
    assert key_care.rotate(strict.settings) == 0
    assert published(strict, 4) == before
    renewed = rows_of(strict.store, read_periods(strict.store)[0].until)["network_index"].unique().to_pylist()
    assert len(renewed) == len(networks) == 40
    assert not set(renewed) & set(networks)
    after = published(strict, 11)
    assert "rare" not in json.loads(after["totals.json"])
    assert after["summaries/ds/requester_count.tsv"] == b"40"


def test_people_whose_addresses_are_gone_keep_a_pseudonym_under_a_new_key(strict: Platform) -> None:
    """The logs of two days expired, and the days were made again without them. What was told of them stays."""
    day_of(strict, 1, hosts=range(50, 60))
    before = published(strict, 4)
    for path in (strict.folder / "logs").glob("*DS50"):
        path.unlink()
    strict.environment["S3LOGX_ALLOW_SHRINK"] = "1"
    assert published(strict, 4) == before
    assert key_care.rotate(strict.settings) == 0
    assert published(strict, 4) == before
    networks = rows_of(strict.store, read_periods(strict.store)[0].until)["network_index"]
    assert len(networks.unique()) == 50
