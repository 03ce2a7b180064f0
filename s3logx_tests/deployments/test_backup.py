"""Backup and restore of one machine, by the scripts that deploy/README.md tells of."""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from s3logx_tests.platform import DAILY, Platform, line

SCRIPTS = Path(__file__).parents[2] / "deploy" / "local"
DAYS = ("2025-03-01", "2025-03-02")


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """A platform with a history on disk, made as far as the release."""
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        found = Platform.make(tmp_path, instance, S3LOGX_LAG_DAYS="0")
        for day in DAYS:
            found.log(f"{day}-00-00-00-AA", line("ds1/x", day), line("ds2/y", day, host=2))
        assert found.daily(*DAYS).success
        assert found.update_scopes().success
        assert found.publish().success
        yield found


def run(script: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPTS / script, folder],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def check(environment: dict[str, str]) -> tuple[int, str]:
    command = [sys.executable, "-m", "s3logx_assets", "check"]
    answer = subprocess.run(
        command, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, check=False
    )
    return answer.returncode, answer.stdout


def test_what_was_backed_up_is_there_again_elsewhere(platform: Platform, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    made = run("backup.sh", backup, platform.environment)
    assert made.returncode == 0, made.stderr
    kept = sorted(path.name for path in backup.iterdir())
    assert kept == ["SHA256SUMS", "history.tar", "store.tar"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in backup.iterdir())
    key = (platform.settings.home / "s3logx.key").read_bytes()
    assert not any(key in path.read_bytes() for path in backup.iterdir()), "the key is kept apart"

    elsewhere = tmp_path / "elsewhere" / "home"
    environment = {**platform.environment, "DAGSTER_HOME": str(elsewhere)}
    elsewhere.mkdir(mode=0o755, parents=True)
    restored = run("restore.sh", backup, environment)
    assert restored.returncode == 0, restored.stderr
    assert elsewhere.stat().st_mode & 0o777 == 0o700
    # Without its key the store is told to be of no use; with it, all is well.
    code, text = check(environment)
    assert (code, "key            FAILED" in text) == (1, True)
    shutil.copy(platform.settings.home / "s3logx.key", elsewhere)
    code, text = check(environment)
    assert (code, "FAILED" in text) == (0, False), text

    with dg.DagsterInstance.local_temp(str(elsewhere)) as instance:
        again = Platform(tmp_path, instance, environment)
        for asset in DAILY:
            assert again.materialized(asset) == set(DAYS)
            for day in DAYS:
                place = f"log_date={day}"
                assert again.store.read(asset, place).equals(platform.store.read(asset, place))
        assert again.latest.readlink() == platform.latest.readlink()
        # It goes on from there.
        again.log(f"{DAYS[1]}-01-00-00-BB", line("ds1/z", DAYS[1], 60))
        assert again.daily(DAYS[1], DAYS[1]).success
        assert again.update_scopes().success


def test_a_copy_of_the_key_that_a_killed_process_left_is_not_in_it(platform: Platform, tmp_path: Path) -> None:
    """`history.tar` left out `s3logx.key` and had `.s3logx.key.0123abcd` with the same 32 bytes."""
    home = platform.settings.home
    key = (home / "s3logx.key").read_bytes()
    for name in (".s3logx.key.0123abcd", ".writing-s3logx.key.0123abcd", "s3logx.key.next"):
        (home / name).write_bytes(key)
    backup = tmp_path / "backup"
    assert run("backup.sh", backup, platform.environment).returncode == 0
    with tarfile.open(backup / "history.tar") as history:
        names = history.getnames()
    assert not [name for name in names if "key" in Path(name).name]
    assert "./history" in names
    assert not any(key in path.read_bytes() for path in backup.iterdir())


@pytest.mark.parametrize("above", [".", ".."])
def test_a_store_that_holds_the_key_is_not_backed_up(platform: Platform, tmp_path: Path, above: str) -> None:
    """`store.tar` had the master key in it, with the tables that it opens, and the script said that it had not."""
    backup = tmp_path / "backup"
    store = str(platform.settings.home / above)
    refused = run("backup.sh", backup, {**platform.environment, "S3LOGX_STORE": store})
    assert (refused.returncode, "holds DAGSTER_HOME, and so the master key" in refused.stderr) == (1, True)
    assert not backup.exists()


def test_what_lies_below_the_home_by_another_name_is_no_part_of_the_history(platform: Platform, tmp_path: Path) -> None:
    """A store of another name was in both files, and could not be restored; logs, with addresses, were in one."""
    home = platform.settings.home
    (home / "s3logx").rename(home / "tables")
    (home / "s3logx").mkdir()  # of before the store had another name
    shutil.move(tmp_path / "logs", home / "logs")
    places = {"S3LOGX_STORE": str(home / "tables"), "S3LOGX_LOGS": str(home / "logs")}
    backup, elsewhere = tmp_path / "backup", tmp_path / "elsewhere"
    assert run("backup.sh", backup, {**platform.environment, **places}).returncode == 0
    with tarfile.open(backup / "history.tar") as history:
        tops = {name.split("/")[1] for name in history.getnames() if "/" in name}
    assert "history" in tops
    assert tops.isdisjoint({"tables", "logs", "s3logx"})
    restored = run("restore.sh", backup, {"DAGSTER_HOME": str(elsewhere), "S3LOGX_STORE": str(elsewhere / "tables")})
    assert restored.returncode == 0, restored.stderr
    for part in ("private", "public"):
        assert sorted(os.listdir(elsewhere / "tables" / part)) == sorted(os.listdir(home / "tables" / part))


def test_a_restore_that_is_refused_has_put_nothing_anywhere(platform: Platform, tmp_path: Path) -> None:
    """The history was there already when it was found that the store is not empty, and was in the way of the next try."""
    backup, elsewhere = tmp_path / "backup", tmp_path / "elsewhere"
    assert run("backup.sh", backup, platform.environment).returncode == 0
    refused = run(
        "restore.sh", backup, {"DAGSTER_HOME": str(elsewhere), "S3LOGX_STORE": str(platform.settings.home / "s3logx")}
    )
    assert (refused.returncode, "is not empty" in refused.stderr) == (1, True)
    assert not elsewhere.exists()


def test_nothing_is_written_over(platform: Platform, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    assert run("backup.sh", backup, platform.environment).returncode == 0
    assert run("backup.sh", backup, platform.environment).returncode != 0
    refused = run("restore.sh", backup, platform.environment)
    assert (refused.returncode, "is not empty" in refused.stderr) == (1, True)


def test_a_backup_that_was_cut_short_is_none(platform: Platform, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    assert run("backup.sh", backup, platform.environment).returncode == 0
    with (backup / "store.tar").open("r+b") as file:
        file.truncate(1000)
    elsewhere = {**platform.environment, "DAGSTER_HOME": str(tmp_path / "elsewhere")}
    refused = run("restore.sh", backup, elsewhere)
    assert (refused.returncode, "no whole backup" in refused.stderr) == (1, True)
    assert not (tmp_path / "elsewhere").exists()
