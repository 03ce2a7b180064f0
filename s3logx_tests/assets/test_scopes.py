"""Updating scopes: news are added, never counted twice or missed, and give the bytes of counting everything anew."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
import pytest

from s3logx_assets.adapters import local_files, scope_state
from s3logx_assets.assets import summaries
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
