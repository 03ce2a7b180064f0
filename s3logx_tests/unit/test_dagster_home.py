"""DAGSTER_HOME made ready: once, and right again where two processes had made it at the same moment."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.sqlite import LAST_KNOWN_STAMPED_SQLITE_ALEMBIC_REVISION

from s3logx_assets import __main__ as commands
from s3logx_assets import dagster_home
from s3logx_assets.core.errors import SettingsError

FILES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")


def test_configuration_and_history_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, given = tmp_path / "a" / "home", tmp_path / "given.yaml"
    given.write_text("telemetry:\n  enabled: false\n")
    dagster_home.make_ready(home, given)
    assert (home / "dagster.yaml").read_text() == given.read_text()
    assert all((home / name).exists() for name in FILES)

    given.write_text("something else")
    monkeypatch.setattr(dagster_home, "_open_history", lambda home: pytest.fail("it was made already"))
    dagster_home.make_ready(home, given)
    assert "something" not in (home / "dagster.yaml").read_text()


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_marked_twice_is_put_right(name: str, tmp_path: Path) -> None:
    """Two runs over a new DAGSTER_HOME had been started in the same second, and every run after them failed."""
    dagster_home.make_ready(tmp_path)
    with closing(sqlite3.connect(tmp_path / name)) as connection, connection:
        connection.execute("INSERT INTO alembic_version VALUES (?)", (LAST_KNOWN_STAMPED_SQLITE_ALEMBIC_REVISION,))
    dagster_home.make_ready(tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.get_runs_count() == 0
        assert instance.all_asset_keys() == []


def test_what_was_begun_only_is_made(tmp_path: Path) -> None:
    (tmp_path / "history" / "runs").mkdir(parents=True)
    (tmp_path / "history" / "runs" / "index.db").touch()
    dagster_home.make_ready(tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.all_asset_keys() == []


@pytest.mark.parametrize("there_before", [False, True])
def test_nobody_else_may_enter(there_before: bool, tmp_path: Path) -> None:
    """The history was as open as the user's umask made it: any user of the machine read the exact figures of dates with one
    requester in its `history/runs/index.db`, which the release hides."""
    home = tmp_path / "home"
    before = os.umask(0)
    try:
        if there_before:
            home.mkdir()
            with pytest.raises(SettingsError, match=r"others may enter .*: chmod 700 /"):
                commands._try_home(home)
        else:
            assert commands._try_home(home) == "will be made"
        dagster_home.make_ready(home)
    finally:
        os.umask(before)
    assert home.stat().st_mode & 0o777 == 0o700
    assert commands._try_home(home) == "ready"


def test_without_a_home_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert dagster_home.main([]) == 1
    assert "DAGSTER_HOME is not set" in capsys.readouterr().err


def test_by_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    assert dagster_home.main([]) == 0
    assert (tmp_path / "home" / FILES[0]).exists()
