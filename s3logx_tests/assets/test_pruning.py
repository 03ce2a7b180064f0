"""Dagster's history made smaller: what goes, what Dagster knows afterwards, and what it forgets when too much goes."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from s3logx_assets import dagster_home, pruning
from s3logx_tests.platform import DAILY, Platform, line

FIRST, LAST = "2025-03-01", "2025-03-03"


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    home = tmp_path / "home"
    dagster_home.make_ready(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        platform = Platform.make(tmp_path, instance, S3LOGX_TRAILING_DATES="0")
        for day in (FIRST, "2025-03-02", LAST):
            platform.log(f"{day}-00-00-00-A", line("ds1/a", day), line("ds2/b", day, host=2))
        assert platform.daily(FIRST, LAST).success
        assert platform.update_scopes().success
        yield platform


def now() -> datetime:
    return datetime.now(UTC)


def run_ids(platform: Platform) -> set[str]:
    return {run.run_id for run in platform.instance.get_runs()}


def test_a_run_that_made_anything_last_stays(platform: Platform) -> None:
    before = run_ids(platform)
    assert platform.daily(FIRST, "2025-03-02").success, "the last date is still the first run's"
    assert pruning.superseded(platform.instance, now()) == []
    assert before < run_ids(platform)


def test_what_was_made_again_goes_with_its_files_and_dagster_knows_all(platform: Platform, tmp_path: Path) -> None:
    old = run_ids(platform)
    assert platform.daily(FIRST, LAST).success
    assert platform.update_scopes().success
    gone = pruning.superseded(platform.instance, now())
    assert len(gone) == 2, "the first run over the dates, and the second update, for which nothing was stale"
    assert len(old.intersection(gone)) == 1
    assert pruning.superseded(platform.instance, datetime(2025, 1, 1, tzinfo=UTC)) == [], "none is so old"
    before = pruning.size(tmp_path / "home")
    pruning.delete(platform.instance, gone)
    pruning.shrink(tmp_path / "home")
    assert pruning.size(tmp_path / "home") < before
    assert not any(run in path.name for run in gone for path in (tmp_path / "home").rglob("*"))
    assert all(platform.materialized(asset) == {FIRST, "2025-03-02", LAST} for asset in DAILY)
    assert platform.materialized("summaries") == {"archive", "ds1", "ds2"}
    assert "up to date" in str(platform.tick("new_log_files_sensor"))
    assert "up to date" in str(platform.tick("stale_scopes_sensor"))


def test_a_deleted_run_of_dates_is_forgotten_by_dagster_and_by_nothing_else(platform: Platform) -> None:
    (run,) = (run for run in platform.instance.get_runs() if run.job_name == "__ASSET_JOB")
    platform.instance.delete_run(run.run_id)
    assert platform.materialized("daily_usage") == set()
    assert platform.store.partitions("daily_usage", "log_date") == [FIRST, "2025-03-02", LAST]
    assert "up to date" in str(platform.tick("new_log_files_sensor"))


def test_a_run_under_way_stays(platform: Platform) -> None:
    started = platform.start_run(FIRST, LAST)
    assert started.run_id not in pruning.superseded(platform.instance, now())


def test_by_its_command(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(os.environ, "DAGSTER_HOME", str(platform.folder / "home"))
    assert platform.daily(FIRST, LAST).success
    assert pruning.main(["--older-than", "0", "--show"]) == 0
    assert "1 of 3 runs can go" in capsys.readouterr().out
    assert pruning.main(["--older-than", "0"]) == 0
    assert "1 runs are deleted" in capsys.readouterr().out
    assert pruning.main(["--older-than", "0", "--show"]) == 0
    assert "0 of 2 runs can go" in capsys.readouterr().out


def test_a_file_that_is_in_use_is_told(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = platform.folder / "home"
    monkeypatch.setitem(os.environ, "DAGSTER_HOME", str(home))
    monkeypatch.setattr(pruning, "_PATIENCE", 0.1)
    with closing(sqlite3.connect(home / "history" / "runs" / "index.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        assert pruning.main(["--older-than", "1"]) == 1
        other.rollback()
    assert "could not be made smaller" in capsys.readouterr().err
    assert pruning.main(["--older-than", "1"]) == 0
