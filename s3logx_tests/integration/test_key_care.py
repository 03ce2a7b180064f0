"""The key's commands over a real store: a rotation equals a store made under the new key, and survives being killed."""

import base64
import errno
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import dagster as dg
import pytest

from s3logx_assets import key_care
from s3logx_assets.__main__ import main
from s3logx_assets.adapters import epochs, key_store
from s3logx_assets.adapters.epochs import next_epoch
from s3logx_assets.adapters.local_files import LocalFiles
from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.core.errors import MasterKeyError, SettingsError, StoreBusyError, StoreError
from s3logx_assets.resources import private_files
from s3logx_assets.settings import Settings
from s3logx_tests.platform import DAILY, Platform, failure_text, line
from s3logx_tests.processes import CONTEXT, rotate_key

DAYS = ("2025-03-01", "2025-03-02", "2025-03-03")
NEW_KEY = bytes(range(32))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a platform with three dates, scopes and a release."""
    folder = tmp_path_factory.mktemp("template")
    with dg.DagsterInstance.ephemeral() as instance:
        platform = Platform.make(folder, instance, S3LOGX_LAG_DAYS="0")
        for day in DAYS:
            rows = [line(f"ds{n % 2}/file", day, n // 3, host=n % 40 + 1) for n in range(120)]
            # The same key, second and figures from several addresses: their order is that of the sealed address.
            ties = [line("ds1/tie", day, ip=ip) for ip in ("2001:db8::1", "2001:db8::2", "192.0.2.77", "-", "-")]
            platform.log(f"{day}-05-00-00-AA", *rows, *ties)
        assert platform.daily(DAYS[0], DAYS[-1]).success
        assert platform.update_scopes().success
        assert platform.publish().success
    return folder


@pytest.fixture
def platform(template: Path, tmp_path: Path) -> Iterator[Platform]:
    """A copy of it."""
    with dg.DagsterInstance.ephemeral() as instance:
        platform = Platform.make(tmp_path, instance, S3LOGX_LAG_DAYS="0")
        for name in ("logs", "home"):
            shutil.copytree(template / name, tmp_path / name, dirs_exist_ok=True, symlinks=True)
        yield platform


def daily_files(platform: Platform) -> dict[str, bytes]:
    root = platform.store.root
    return {
        str(p.relative_to(root)): p.read_bytes() for asset in DAILY for p in sorted((root / asset).rglob("*.parquet"))
    }


def released(platform: Platform) -> dict[str, bytes]:
    return {str(p.relative_to(platform.latest)): p.read_bytes() for p in platform.latest.rglob("*") if p.is_file()}


def goes_on(platform: Platform, release: dict[str, bytes]) -> None:
    """A rotation that ended midway hinders no run, and the next call ends it; the release stays what it was."""
    assert key_care.status(platform.settings) == 0
    assert platform.daily(DAYS[0], DAYS[0]).success
    rotate(platform)
    assert platform.update_scopes().success
    assert platform.publish().success
    assert released(platform) == release


def rotate(platform: Platform) -> None:
    assert key_care.rotate(platform.settings) == 0


def test_a_rotated_store_is_the_one_that_would_have_been_made_under_the_new_key(
    platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before, release = daily_files(platform), released(platform)
    old_key = (platform.folder / "home" / key_store.KEY_FILE).read_bytes()
    rotate(platform)
    key = (platform.folder / "home" / key_store.KEY_FILE).read_bytes()
    assert key != old_key
    after = daily_files(platform)
    assert after.keys() == before.keys()
    assert not [name for name in after if after[name] == before[name] and "region_coordinates" not in name]
    with dg.DagsterInstance.ephemeral() as instance:
        fresh = Platform.make(
            tmp_path_factory.mktemp("fresh"), instance, S3LOGX_KEY=base64.b64encode(key).decode(), S3LOGX_LAG_DAYS="0"
        )
        shutil.copytree(platform.folder / "logs", fresh.folder / "logs", dirs_exist_ok=True)
        assert fresh.daily(DAYS[0], DAYS[-1]).success
        assert daily_files(fresh) == after
    assert "out of date" in failure_text(platform.publish())
    assert platform.update_scopes().success
    assert platform.publish().success
    assert released(platform) == release
    left = {path.name for path in platform.store.root.parent.iterdir()} | {
        p.name for p in platform.store.root.iterdir()
    }
    assert not left & {"private.next", "rotation.jsonl"}


def test_a_rotation_with_keys_from_settings_says_when_it_is_done(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    old = (platform.folder / "home" / key_store.KEY_FILE).read_bytes()
    platform.environment["S3LOGX_KEY"] = base64.b64encode(old).decode()
    with pytest.raises(SettingsError, match="S3LOGX_NEW_KEY"):
        rotate(platform)
    platform.environment["S3LOGX_NEW_KEY"] = platform.environment["S3LOGX_KEY"]
    with pytest.raises(SettingsError, match="has already"):
        rotate(platform)
    platform.environment["S3LOGX_NEW_KEY"] = base64.b64encode(NEW_KEY).decode()
    rotate(platform)
    once = daily_files(platform)
    rotate(platform)
    assert daily_files(platform) == once
    assert "Set S3LOGX_KEY to what is in S3LOGX_NEW_KEY." in capsys.readouterr().out
    assert "not the one that" in failure_text(platform.daily(DAYS[0], DAYS[0]))
    platform.environment["S3LOGX_KEY"] = platform.environment.pop("S3LOGX_NEW_KEY")
    assert platform.daily(DAYS[0], DAYS[0]).success
    assert daily_files(platform) == once


def test_an_old_epoch_stays_until_the_new_key_is_at_hand(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rotation ended after the switch: with another new key the old epoch was removed, with the new key set it was not."""
    old = (platform.folder / "home" / key_store.KEY_FILE).read_bytes()
    keys = [base64.b64encode(key).decode() for key in (old, NEW_KEY, NEW_KEY[::-1])]
    platform.environment |= {"S3LOGX_KEY": keys[0], "S3LOGX_NEW_KEY": keys[1]}
    with monkeypatch.context() as patch:
        patch.setattr(key_care, "_end_rotation", lambda settings, private: None)
        rotate(platform)
    platform.environment["S3LOGX_NEW_KEY"] = keys[2]
    with pytest.raises(MasterKeyError, match="neither S3LOGX_KEY nor S3LOGX_NEW_KEY"):
        rotate(platform)
    assert next_epoch(platform.store.root).exists()
    del platform.environment["S3LOGX_NEW_KEY"]
    platform.environment["S3LOGX_KEY"] = keys[1]
    capsys.readouterr()
    rotate(platform)
    assert "Set S3LOGX_KEY" not in capsys.readouterr().out
    assert not next_epoch(platform.store.root).exists()
    assert platform.daily(DAYS[0], DAYS[0]).success


# The command as it is, killed (-9) before it makes the folder that the first argument names.
_KILLED = """
import os, runpy, signal, sys
folder = sys.argv.pop(1)
sys.addaudithook(
    lambda event, arguments: event == "os.mkdir" and str(arguments[0]) == folder and os.kill(os.getpid(), signal.SIGKILL)
)
runpy.run_module("s3logx_assets", run_name="__main__")
"""


def test_a_command_that_is_killed_within_a_date_is_taken_up_again(platform: Platform) -> None:
    """The old epoch lives on meanwhile, and its news are not lost."""

    def requests() -> list[int]:
        tables = [platform.store.read("daily_usage", f"log_date={day}") for day in DAYS]
        return [int(table["request_count"].to_numpy().sum()) for table in tables]

    before, counted = daily_files(platform), requests()
    folder = next_epoch(platform.store.root) / "daily_usage" / f"log_date={DAYS[1]}"
    command = [sys.executable, "-c", _KILLED, str(folder), "key", "rotate"]
    environment = {**os.environ, **platform.environment}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert daily_files(platform) == before
    assert (next_epoch(platform.store.root) / "daily_usage" / f"log_date={DAYS[0]}").exists()
    platform.log(f"{DAYS[0]}-05-00-00-BB", line("ds1/late", DAYS[0], host=41))
    assert platform.daily(DAYS[0], DAYS[0]).success
    rotate(platform)
    assert requests() == [counted[0] + 1, *counted[1:]]


def copied(folder: Path, target: Path) -> dict[str, str]:
    """The settings for a copy of a platform, whose next key is known."""
    shutil.copytree(folder / "home", target / "home", symlinks=True)
    (target / "home" / key_store.NEXT_KEY_FILE).write_bytes(NEW_KEY)
    (target / "home" / key_store.NEXT_KEY_FILE).chmod(0o600)
    return {
        "DAGSTER_HOME": str(target / "home"),
        "S3LOGX_LOGS": str(folder / "logs"),
        "S3LOGX_FIRST_DATE": DAYS[0],
        "S3LOGX_WORKERS": "1",
    }


def test_a_rotation_can_be_killed_anywhere(template: Path, tmp_path: Path) -> None:
    """Killed before every kind of step, and before each around the switch: every table is of one epoch or the other, the
    store opens, and the same command ends the rotation."""

    def tables(home: Path) -> dict[str, bytes]:
        root = home / "s3logx" / "private"
        return {
            str(path.relative_to(root)): path.read_bytes()
            for asset in DAILY
            for path in sorted((root / asset).rglob("*.parquet"))
        }

    def run(environment: dict[str, str], until: int, steps: Any = None) -> int | None:
        process = CONTEXT.Process(target=rotate_key, args=(environment, until, steps))
        process.start()
        process.join()
        return process.exitcode

    queue = CONTEXT.Queue()
    assert run(copied(template, tmp_path / "whole"), -1, queue) == 0
    steps = queue.get()
    before, after = tables(template / "home"), tables(tmp_path / "whole" / "home")
    assert before != after
    switch = steps.index("ctypes.dlsym")
    stops = sorted({*range(0, switch, 16), *range(switch - 1, switch + 8), *range(len(steps) - 4, len(steps))})
    seen = set()
    for stop in stops:
        environment = copied(template, tmp_path / str(stop))
        home = tmp_path / str(stop) / "home"
        assert run(environment, stop) == -signal.SIGKILL
        present = tables(home)
        assert present in (before, after)
        seen.add(present == after)
        settings = Settings.read(environment)
        private = TableStore(private_files(settings)).root
        assert "fits the store" in key_store.verify(LocalFiles(private), home, None)
        if next_epoch(private).exists() or (private / "rotation.jsonl").exists() or present == before:
            assert key_care.rotate(settings) == 0
        assert tables(home) == after
        assert (home / key_store.KEY_FILE).read_bytes() == NEW_KEY
        assert {path.name for path in private.parent.iterdir()} == {"private", "private.lock", "public"}
        assert {path.name for path in private.iterdir()} == {key_store.KEY_ID, *DAILY}
        shutil.rmtree(tmp_path / str(stop))
    assert seen == {False, True}


@pytest.mark.parametrize("ends_at", ["exchange", "_end_rotation", "open_sealer", "rmtree"])
def test_a_rotation_that_ends_around_the_switch_is_ended_by_the_next(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, ends_at: str
) -> None:
    """Between the switch and the key file's turn, an ordinary run too must find the key."""
    release = released(platform)

    def end(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if ends_at == "open_sealer":
            original, calls = key_store.open_sealer, []

            def second(*arguments: object) -> object:
                calls.append(1)
                return original(*arguments) if len(calls) == 1 else end()  # type: ignore[arg-type]

            patch.setattr(key_store, "open_sealer", second)
        else:
            patch.setattr(shutil if ends_at == "rmtree" else key_care, ends_at, end)
        with pytest.raises(KeyboardInterrupt):
            rotate(platform)
    goes_on(platform, release)


def test_where_folders_cannot_be_exchanged_in_one_step_no_run_finds_the_store_missing(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, rename, root = released(platform), os.rename, platform.store.root

    def moves(folder: Path, target: Path) -> None:
        if target == root:
            raise KeyboardInterrupt
        rename(folder, target)

    with monkeypatch.context() as patch:
        patch.setattr(epochs, "exchanged", lambda first, second: False)
        patch.setattr(os, "rename", moves)
        with pytest.raises(KeyboardInterrupt):
            rotate(platform)
    assert not root.exists()
    goes_on(platform, release)
    assert {path.name for path in root.parent.iterdir()} == {"private", "private.lock", "public"}


def test_an_old_epoch_that_cannot_be_removed_is_told_of(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was left where it lay, and the command said that all was well."""

    def fail(folder: Path) -> NoReturn:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", fail)
        with pytest.raises(StoreError, match=r"Permission denied[.] Nothing is lost"):
            rotate(platform)
    assert next_epoch(platform.store.root).exists()
    rotated = daily_files(platform)
    rotate(platform)
    assert not next_epoch(platform.store.root).exists()
    assert daily_files(platform) == rotated


def test_what_is_done_is_not_done_again_even_after_a_line_that_was_cut_off(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    rekey = key_care._rekey_date

    def counted(*arguments: Any) -> None:
        rekey(*arguments)
        done.append(arguments[2])
        if len(done) in (2, 3):
            raise KeyboardInterrupt

    monkeypatch.setattr(key_care, "_rekey_date", counted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            rotate(platform)
        with (next_epoch(platform.store.root) / "rotation.jsonl").open("a") as progress:
            progress.write('\n["2025-03-0')
    rotate(platform)
    assert done == [DAYS[0], DAYS[1], DAYS[1], DAYS[1], DAYS[2]]


def test_a_wrong_or_missing_key_rotates_nothing(platform: Platform) -> None:
    def state() -> dict[str, int]:
        home = platform.folder / "home"
        return {str(path): path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}

    with platform.store.alone():  # makes the lock's file
        pass
    before = state()
    platform.environment["S3LOGX_KEY"] = base64.b64encode(NEW_KEY[::-1]).decode()
    platform.environment["S3LOGX_NEW_KEY"] = base64.b64encode(NEW_KEY).decode()
    with pytest.raises(
        MasterKeyError, match=r"not the one that .* was written with; nothing was written[.] Set S3LOGX_KEY"
    ):
        rotate(platform)
    assert state() == before
    del platform.environment["S3LOGX_KEY"], platform.environment["S3LOGX_NEW_KEY"]
    (platform.folder / "home" / key_store.KEY_FILE).rename(platform.folder / "kept")
    del before[str(platform.folder / "home" / key_store.KEY_FILE)]
    with pytest.raises(MasterKeyError, match="restore it from its backup, or set S3LOGX_KEY"):
        rotate(platform)
    assert state() == before


def test_nobody_works_on_a_store_that_is_rotated_and_the_other_way_round(platform: Platform) -> None:
    with platform.store.alone():
        for failed in (platform.daily(DAYS[0], DAYS[0]), platform.update_scopes(), platform.publish()):
            assert "is being rotated" in failure_text(failed)
    with platform.store.in_use(), platform.store.in_use(), pytest.raises(StoreBusyError, match="in use by a run"):
        rotate(platform)


def test_an_address_is_looked_up_and_an_index_turned_back(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("2001:db8::1\n"))
    for name, value in platform.environment.items():
        monkeypatch.setenv(name, value)
    assert main(["key", "lookup"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [row.split()[:2] for row in shown[2:]] == [[day, "1"] for day in DAYS]
    index = shown[0].split()[1]
    assert main(["key", "lookup", "--index", index]) == 0
    assert capsys.readouterr().out == "2001:db8::1\n"
    assert main(["key", "lookup", "--index", "7"]) == 1
    assert main(["key", "lookup", "--index", str(1 << 63)]) == 1
    monkeypatch.setattr(sys, "stdin", io.StringIO("203.0.113.9\n"))
    capsys.readouterr()
    assert main(["key", "lookup"]) == 0
    assert capsys.readouterr().out.endswith("\nno stored date has a request from there\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("203.0.113.9x\n"))
    assert main(["key", "lookup"]) == 1
    assert "203.0.113" not in capsys.readouterr().err


def test_no_command_of_the_key_leaves_a_core_dump(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """`key rotate` opened the sealers itself, and went through all addresses without what keeps memory from disk."""
    for name, value in platform.environment.items():
        monkeypatch.setenv(name, value)
    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda *given: limits.append(given))
    assert main(["key", "status"]) == 0
    assert limits == [(resource.RLIMIT_CORE, (0, 0))]


def test_a_destroyed_key_is_gone_and_runs_say_what_is_left_to_do(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: Settings = platform.settings
    with pytest.raises(SettingsError, match="Nothing was done"):
        key_care.destroy(settings, "no")
    assert key_care.status(settings) == 0
    assert "fits the store" in capsys.readouterr().out
    known = key_store.key_id(platform.store.files)
    assert known is not None
    assert key_care.destroy(settings, known) == 0
    assert not list((platform.folder / "home").glob("s3logx.key*"))
    assert "restore it from its backup" in failure_text(platform.daily(DAYS[0], DAYS[0]))
    with pytest.raises(MasterKeyError, match="is not there"):
        rotate(platform)


def test_a_key_of_another_store_is_not_destroyed(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    """The key file of the home was destroyed, whichever store's it was."""
    key_file = platform.folder / "home" / key_store.KEY_FILE
    platform.environment["S3LOGX_KEY"] = base64.b64encode(key_file.read_bytes()).decode()
    key_file.write_bytes(NEW_KEY)
    known = key_store.key_id(platform.store.files)
    assert known is not None
    assert key_care.destroy(platform.settings, known) == 0
    assert key_file.read_bytes() == NEW_KEY
    shown = capsys.readouterr().out
    assert f"left {key_file} alone" in shown
    assert "S3LOGX_KEY is not in reach" in shown


def test_both_keys_of_a_rotation_that_was_not_ended_are_destroyed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(root: Path) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(key_care, "exchange", end)
    with pytest.raises(KeyboardInterrupt):
        rotate(platform)
    known = key_store.key_id(platform.store.files)
    assert known is not None
    assert key_care.destroy(platform.settings, known) == 0
    assert not list((platform.folder / "home").glob("s3logx.key*"))


def test_a_new_place_has_no_key_to_care_for(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        platform = Platform.make(tmp_path, instance)
        for command in (key_care.rotate, lambda settings: key_care.destroy(settings, "")):
            with pytest.raises(MasterKeyError, match="has no tables yet"):
                command(platform.settings)
        assert key_care.status(platform.settings) == 0
        assert not (tmp_path / "home").exists()


def test_the_commands_do_not_wait_for_dagster_to_be_imported() -> None:
    program = "import sys, s3logx_assets.__main__; sys.exit('dagster' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
