"""The key's commands over a real store: a rotation equals a store made under the new key, and survives being killed."""

import base64
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import dagster as dg
import pytest

from s3logx_assets import key_care
from s3logx_assets.__main__ import main
from s3logx_assets.adapters import key_store
from s3logx_assets.core.errors import MasterKeyError, SettingsError, StoreBusyError
from s3logx_assets.settings import Settings
from s3logx_tests.platform import DAILY, Platform, failure_text, line

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
    assert "Set S3LOGX_KEY to it." in capsys.readouterr().out
    assert "not the one that" in failure_text(platform.daily(DAYS[0], DAYS[0]))
    platform.environment["S3LOGX_KEY"] = platform.environment.pop("S3LOGX_NEW_KEY")
    assert platform.daily(DAYS[0], DAYS[0]).success
    assert daily_files(platform) == once


_STOPS = {
    "before the first table": "private.next/rotation.jsonl",
    "within a date": "private.next/daily_usage/log_date=2025-03-02",
    "before the switch": "private.next/daily_usage/log_date=2025-03-03/part-0.parquet",
}


@pytest.mark.parametrize("appears", _STOPS.values(), ids=_STOPS.keys())
def test_a_rotation_that_is_killed_is_taken_up_again(platform: Platform, appears: str) -> None:
    before = daily_files(platform)
    environment = {**os.environ, **platform.environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "s3logx_assets", "key", "rotate"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    path = platform.store.root.parent / appears
    while process.poll() is None and not path.exists():
        time.sleep(0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if (platform.store.root.parent / "private.next").exists() and not (platform.store.root / "rotation.jsonl").exists():
        assert daily_files(platform) == before
        assert platform.daily(DAYS[1], DAYS[1]).success  # the old epoch lives on, and its news are not lost
    rotate(platform)
    assert platform.update_scopes().success
    assert platform.publish().success


@pytest.mark.parametrize("ends_at", ["_exchange", "_end_rotation", "open_sealer", "rmtree"])
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
    assert platform.daily(DAYS[0], DAYS[0]).success
    rotate(platform)
    assert platform.update_scopes().success
    assert platform.publish().success
    assert released(platform) == release


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
    monkeypatch.setattr(sys, "stdin", io.StringIO("203.0.113.9x\n"))
    assert main(["key", "lookup"]) == 1
    assert "203.0.113" not in capsys.readouterr().err


def test_a_destroyed_key_is_gone_and_runs_say_what_is_left_to_do(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: Settings = platform.settings
    with pytest.raises(SettingsError, match="Nothing was done"):
        key_care.destroy(settings, "no")
    assert key_care.status(settings) == 0
    assert "fits the store" in capsys.readouterr().out
    known = key_store.key_id(platform.store.root)
    assert known is not None
    assert key_care.destroy(settings, known) == 0
    assert not list((platform.folder / "home").glob("s3logx.key*"))
    assert "restore it from its backup" in failure_text(platform.daily(DAYS[0], DAYS[0]))
    with pytest.raises(MasterKeyError, match="is not there"):
        rotate(platform)
