"""Updating scopes: news are added, never counted twice or missed, and give the bytes of counting everything anew."""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from s3logx_assets.adapters import local_files, scope_state
from s3logx_assets.adapters.files import Confirm
from s3logx_assets.assets import summaries
from s3logx_assets.core.errors import StoreBusyError
from s3logx_tests.platform import Platform, failure_text, line

MADE = ("summaries", "totals", "summarised_usage")


def written(platform: Platform) -> dict[str, bytes]:
    """Every byte of what an update makes."""
    files = [path for asset in MADE for path in (platform.store.root / asset).rglob("*") if path.is_file()]
    found = {str(path.relative_to(platform.store.root)): path.read_bytes() for path in sorted(files)}
    return {name: _without_tags(content) if name.endswith(".json") else content for name, content in found.items()}


def _without_tags(state: bytes) -> bytes:
    """A state without what only tells the files of one place from one another."""
    told = json.loads(state)
    return json.dumps({name: told[name] for name in ("days", "scopes", "types")}, sort_keys=True).encode()


def anew(platform: Platform) -> dict[str, bytes]:
    """The same, counted from nothing."""
    for asset in MADE:
        shutil.rmtree(platform.store.root / asset)
    assert platform.update_scopes().success
    return written(platform)


@pytest.fixture
def counted_anew(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scopes that updates count anew, as they come."""
    scopes: list[str] = []
    original = summaries.make_scopes

    def noted(usage: object, rules: object, versions: object, chosen: Mapping[str, object], wanted: object) -> object:
        scopes.extend(chosen)
        return original(usage, rules, versions, chosen, wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(summaries, "make_scopes", noted)
    return scopes


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a platform with dates in three log months, all scopes up to date."""
    folder = tmp_path_factory.mktemp("template")
    with dg.DagsterInstance.ephemeral() as instance:
        platform = Platform.make(folder, instance)
        for day in ("2025-03-30", "2025-03-31", "2025-04-01", "2025-05-02"):
            dataset = "old" if day == "2025-03-30" else "ds1"
            platform.log(f"{day}-05-00-00-AA", *(line(f"{dataset}/a.nwb", day, n, host=n) for n in range(1, 6)))
            assert platform.daily(day, day).success
        assert platform.update_scopes().success
    return folder


@pytest.fixture
def updated(template: Path, tmp_path: Path, counted_anew: list[str]) -> Iterator[Platform]:
    """A copy of the template: links, as the store only ever replaces files, but for the logs."""
    with dg.DagsterInstance.ephemeral() as instance:
        platform = Platform.make(tmp_path, instance)
        shutil.copytree(template / "logs", tmp_path / "logs", dirs_exist_ok=True)
        shutil.copytree(template / "home", tmp_path / "home", copy_function=os.link)
        yield platform


@pytest.mark.parametrize(
    ("day", "key", "touched"),
    [
        ("2025-05-03", "ds1/b", {"archive", "ds1"}),  # a new date of the newest month
        ("2025-05-02", "ds1/b", {"archive", "ds1"}),  # a late file of the newest date
        ("2025-04-01", "ds1/b", {"archive", "ds1"}),  # a late file of an earlier month
        (
            "2025-03-30",
            "old/b",
            {"archive", "old"},
        ),  # a month that is earlier for the archive, the newest for a dataset
        ("2025-06-01", "old/b", {"archive", "old"}),  # a month begins
        ("2025-05-09", "new/b", {"archive", "new"}),  # a dataset appears
    ],
)
def test_news_are_added_with_the_bytes_of_counting_anew(
    updated: Platform, counted_anew: list[str], day: str, key: str, touched: set[str]
) -> None:
    before = written(updated)
    updated.log(f"{day}-09-00-00-BB", line(key, day, host=3), line(key, "2025-02-28", host=9))
    assert updated.daily(day, day).success
    assert updated.update_scopes().success
    after = written(updated)
    assert counted_anew == []
    changed = {name.split("/")[1] for name in after if after[name] != before.get(name) and "scope=" in name}
    assert changed == {f"scope={scope}" for scope in touched}
    assert anew(updated) == after
    assert updated.publish().success


def test_a_date_of_the_newest_month_rewrites_nothing_of_the_months_before(updated: Platform) -> None:
    """The cost of news must not grow with the history."""
    earlier = updated.store.path("summaries", "scope=archive", "earlier_months")
    before = earlier.stat().st_ino
    updated.log("2025-05-03-09-00-00-BB", line("ds1/b", "2025-05-03"))
    assert updated.daily("2025-05-03", "2025-05-03").success
    assert updated.update_scopes().success
    assert earlier.stat().st_ino == before


def test_a_date_made_again_with_the_same_rows_is_no_news(updated: Platform, counted_anew: list[str]) -> None:
    before = written(updated)
    made = {path: path.stat().st_mtime_ns for path in (updated.store.root / "summaries").rglob("*.parquet")}
    assert updated.daily("2025-04-01", "2025-04-01").success
    assert updated.update_scopes().success
    assert written(updated) == before
    assert made == {path: path.stat().st_mtime_ns for path in made}
    assert counted_anew == []


def test_rows_that_went_are_taken_off(updated: Platform, counted_anew: list[str]) -> None:
    updated.environment["S3LOGX_ALLOW_SHRINK"] = "1"
    updated.log("2025-05-02-05-00-00-AA", line("ds1/a.nwb", "2025-05-02", 1, host=1))
    assert updated.daily("2025-05-02", "2025-05-02").success
    assert updated.update_scopes().success
    assert counted_anew == []
    assert anew(updated) == written(updated)


@pytest.mark.parametrize("part", ["newest_month", "earlier_months"])
def test_a_summary_that_counts_less_than_is_taken_off_it_is_counted_anew(
    updated: Platform, counted_anew: list[str], part: str
) -> None:
    """Bits that flip within a page of numbers leave a file that reads well. Every update failed for good then, since more
    was to be taken off the summary than it said that it had counted; no scope was brought up to date any more."""
    found = updated.store.read_whole("summaries", "scope=ds1", part)
    assert found is not None
    rows, record = found
    place = rows.column_names.index("bytes_sent")
    less = rows.set_column(place, rows.schema.field(place), pa.array([1] * rows.num_rows))
    updated.store.write("summaries", "scope=ds1", less, record, part=part)
    updated.environment["S3LOGX_ALLOW_SHRINK"] = "1"
    day = "2025-05-02" if part == "newest_month" else "2025-04-01"
    updated.log(f"{day}-05-00-00-AA", line("ds1/a.nwb", day, 1, host=1))
    assert updated.daily(day, day).success
    assert updated.update_scopes().success
    assert sorted(counted_anew) == ["archive", "ds1"]
    assert all_are_counted(updated)
    result = written(updated)
    assert anew(updated) == result


def test_a_newest_month_that_is_gone_makes_an_earlier_one_the_newest(
    updated: Platform, counted_anew: list[str]
) -> None:
    updated.environment["S3LOGX_ALLOW_SHRINK"] = "1"
    updated.log("2025-05-02-05-00-00-AA", line("other/a.nwb", "2025-05-02"))
    assert updated.daily("2025-05-02", "2025-05-02").success
    assert updated.update_scopes().success
    assert counted_anew == ["ds1"]
    assert anew(updated) == written(updated)


@pytest.mark.parametrize("asset", [*MADE, "summarised_usage/state.json"])
def test_whatever_is_lost_is_made_anew(updated: Platform, asset: str) -> None:
    before = written(updated)
    path = updated.store.root / asset
    path.unlink() if path.is_file() else shutil.rmtree(path)
    assert updated.update_scopes().success
    assert written(updated) == before


@pytest.mark.parametrize("content", [b"", b"{}", b"not json"])
def test_a_damaged_file_of_a_scope_or_state_is_never_added_to(updated: Platform, content: bytes) -> None:
    for path in (
        updated.store.path("summaries", "scope=ds1", "newest_month"),
        updated.store.root / "summarised_usage" / "state.json",
    ):
        updated.log("2025-05-03-09-00-00-BB", line("ds1/b", "2025-05-03", host=len(path.name)))
        assert updated.daily("2025-05-03", "2025-05-03").success
        path.unlink()  # the template has a link to it
        path.write_bytes(content)
        assert updated.update_scopes().success
        after = written(updated)
        assert anew(updated) == after


@pytest.mark.parametrize(
    "place", [("summaries", "newest_month"), ("summaries", "earlier_months"), ("totals", "part-0")], ids="-".join
)
def test_a_release_refuses_a_scope_whose_file_was_damaged_and_says_what_mends_it(
    updated: Platform, place: tuple[str, str]
) -> None:
    """No date is news then, so the update that it used to name found nothing to do."""
    asset, part = place
    path = updated.store.path(asset, "scope=archive", part)
    whole = path.read_bytes()
    path.unlink()  # the template has a link to it
    path.write_bytes(whole[:-20])
    refusal = failure_text(updated.publish())
    assert "--select summaries,totals --partition archive" in refusal
    updated.instance.add_dynamic_partitions("scope", ["archive"])
    assert updated.scope("archive").success
    assert path.read_bytes() == whole
    assert updated.publish().success


def test_other_asset_types_make_every_scope_anew(updated: Platform, counted_anew: list[str]) -> None:
    updated.environment["S3LOGX_ASSET_TYPES"] = "Recordings=.nwb"
    assert "out of date" in failure_text(updated.publish())
    assert updated.update_scopes().success
    assert set(counted_anew) == {"archive", "ds1", "old"}
    assert updated.publish().success
    weekly = (updated.latest / "summaries" / "ds1" / "by_asset_type_per_week.tsv").read_text()
    assert weekly.startswith("week_start\tRecordings\tMiscellaneous\n")


@pytest.mark.parametrize("after", range(7))
def test_an_update_that_ends_anywhere_is_taken_up_again(
    updated: Platform, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Scopes that had the news already must not get them twice."""
    updated.log("2025-05-03-09-00-00-BB", line("ds1/b", "2025-05-03"), line("new/b", "2025-05-03", host=7))
    assert updated.daily("2025-05-03", "2025-05-03").success
    writes = 0
    original = local_files.replacing

    def dying(path: Path, settled: bool = True) -> object:
        nonlocal writes
        writes += 1
        if writes > after:
            raise OSError(5, "Input/output error")
        return original(path, settled)

    monkeypatch.setattr(local_files, "replacing", dying)
    failed = not updated.update_scopes().success
    assert failed == (after < 7)
    monkeypatch.undo()
    assert updated.update_scopes().success
    result = written(updated)
    assert anew(updated) == result


@pytest.mark.parametrize("position", range(3))
def test_a_date_that_could_not_take_its_counted_place_gets_there_with_the_next_update(
    updated: Platform, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    """The state called late requests counted, the disk was full when their usage was to take the place of what was counted,
    and the update threw it away: the date was no news any more, and no release ever told of them."""
    days = ("2025-03-31", "2025-04-01", "2025-05-02")
    for day in days:
        updated.log(f"{day}-09-00-00-BB", line("ds1/late", day, host=9))
        assert updated.daily(day, day).success
    moves = 0
    original = local_files.LocalFiles.move

    def full(files: local_files.LocalFiles, name: str, target: str) -> None:
        nonlocal moves
        moves += 1
        if moves == position + 1:
            raise OSError(28, "No space left on device")
        original(files, name, target)

    monkeypatch.setattr(local_files.LocalFiles, "move", full)
    assert "No space left" in failure_text(updated.update_scopes())
    monkeypatch.undo()
    assert updated.update_scopes().success
    assert all_are_counted(updated)
    result = written(updated)
    assert anew(updated) == result


def all_are_counted(platform: Platform) -> bool:
    """Whether the counted usage of each date is its daily usage, and nothing is held any more."""
    store = platform.store
    days = store.partitions("daily_usage", "log_date")
    state = scope_state.read_state(store)
    versions = {
        asset: {day: scope_state.version(store, asset, day) for day in days}
        for asset in ("daily_usage", "summarised_usage")
    }
    assert not store.partitions(scope_state._NEWS, "log_date")
    return versions["daily_usage"] == versions["summarised_usage"] == state.days


def test_whoever_lost_the_lock_leaves_alone_what_another_one_holds(
    updated: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update whose lock in a bucket had been taken over removed the news of the update that had it now."""
    updated.log("2025-05-03-09-00-00-BB", line("ds1/b", "2025-05-03"))
    assert updated.daily("2025-05-03", "2025-05-03").success
    lost = False

    def confirm() -> None:
        if lost:
            raise StoreBusyError("taken over")

    @contextmanager
    def lease(files: local_files.LocalFiles, folder: str) -> Iterator[Confirm]:
        yield confirm

    monkeypatch.setattr(local_files.LocalFiles, "locked", lease)
    with scope_state.held_usage(updated.store) as usage:
        lost = True
        with pytest.raises(StoreBusyError):
            usage.settle({}, "")
    assert updated.store.partitions(scope_state._NEWS, "log_date") == ["2025-05-03"]
    assert scope_state.read_state(updated.store).scopes
    lost = False
    with scope_state.held_usage(updated.store):
        pass
    assert not updated.store.partitions(scope_state._NEWS, "log_date")


@pytest.mark.parametrize("kind", ["other", "damaged", "absent"])
def test_a_counted_file_that_is_not_what_was_counted_is_never_read_for_it(
    updated: Platform, counted_anew: list[str], kind: str
) -> None:
    """A store could have such a file, without a sign: a release told the old requests as the present ones. A damaged one
    stopped every release, with the advice to materialise `summarised_usage`, which is no asset."""
    path = updated.store.path("summarised_usage", "log_date=2025-04-01")
    path.unlink()  # daily_usage and the template have links to it
    if kind == "other":
        other = updated.store.path("summarised_usage", "log_date=2025-03-31").read_bytes()
        path.write_bytes(other)
    elif kind == "damaged":
        path.write_bytes(b"PAR1")
    updated.environment["S3LOGX_LAG_DAYS"] = "20"
    assert updated.publish().success
    by_day = (updated.latest / "summaries" / "archive" / "by_day.tsv").read_text()
    assert [row.split("\t")[0] for row in by_day.splitlines()] == ["date", "2025-03-30", "2025-03-31", "2025-04-01"]
    assert updated.update_scopes().success
    assert all_are_counted(updated)
    assert counted_anew == []


def test_a_damaged_counted_file_of_a_date_that_is_news_makes_every_scope_anew(
    updated: Platform, counted_anew: list[str]
) -> None:
    """It stopped every update, and the sensor that asks for them: the date could not be taken off the scopes."""
    updated.log("2025-04-01-09-00-00-BB", line("ds1/late", "2025-04-01", host=9))
    assert updated.daily("2025-04-01", "2025-04-01").success
    path = updated.store.path("summarised_usage", "log_date=2025-04-01")
    path.unlink()
    path.write_bytes(b"PAR1")
    assert len(updated.tick("stale_scopes_sensor")) == 1
    assert updated.update_scopes().success
    assert "ds1" in counted_anew
    assert all_are_counted(updated)
    result = written(updated)
    assert anew(updated) == result


def test_a_damaged_daily_usage_is_named_as_what_to_make_again(updated: Platform) -> None:
    """The advice named `.usage_news`, the place where an update holds it."""
    updated.store.path("daily_usage", "log_date=2025-05-02").unlink()
    updated.store.path("daily_usage", "log_date=2025-05-02").write_bytes(b"PAR1")
    assert "materialise daily_usage for 2025-05-02 again" in failure_text(updated.update_scopes())
    assert updated.daily("2025-05-02", "2025-05-02", ["daily_usage"]).success
    assert updated.update_scopes().success
    assert all_are_counted(updated)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMLINK])
def test_scopes_are_updated_where_files_cannot_have_two_names(
    updated: Platform, counted_anew: list[str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Some file systems have no hard links (exFAT, many network drives): no scope was ever counted on them."""

    def refused(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number), str(source), None, str(target))

    monkeypatch.setattr(os, "link", refused)
    for host in (7, 8):  # what was held as a copy is taken off again
        updated.log(f"2025-05-02-09-00-00-B{host}", line("ds1/b", "2025-05-02", host=host))
        assert updated.daily("2025-05-02", "2025-05-02").success
        assert updated.update_scopes().success
    assert counted_anew == []
    assert all_are_counted(updated)
    result = written(updated)
    assert anew(updated) == result


def test_usage_that_changes_during_an_update_does_not_get_into_it(updated: Platform) -> None:
    """A run that replaces a date between its digests and its rows would else be counted under the wrong version."""
    updated.log("2025-05-03-09-00-00-BB", line("ds1/b", "2025-05-03"))
    assert updated.daily("2025-05-03", "2025-05-03").success
    with scope_state.held_usage(updated.store) as usage:
        before = usage.present("2025-05-03")
        updated.log("2025-05-03-10-00-00-CC", line("ds1/c", "2025-05-03", 7))
        assert updated.daily("2025-05-03", "2025-05-03").success
        assert usage.present("2025-05-03").equals(before)
        assert list(usage.news) == ["2025-05-03"]
    assert scope_state.changed_days(updated.store, scope_state.read_state(updated.store)) == ["2025-05-03"]


def test_a_scope_made_alone_is_the_one_that_an_update_makes(updated: Platform) -> None:
    before = written(updated)
    shutil.rmtree(updated.store.root / "summaries" / "scope=ds1")
    updated.instance.add_dynamic_partitions("scope", ["ds1"])
    assert updated.scope("ds1").success
    assert written(updated) == before
