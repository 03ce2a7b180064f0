"""The commands a user types, as real processes, over real folders: a backfill without a daemon, the wheel, the leaks."""

import os
import re
import sqlite3
import subprocess
import sys
import venv
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from s3logx_assets.sample_logs import SampleSpec, addresses_in, generate
from s3logx_tests.commands import PUBLISH, UPDATE_SCOPES, backfill
from s3logx_tests.platform import DAILY, line

CHECKOUT = Path(__file__).parents[2]


def run(python: Path, arguments: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """One command with a bare environment, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "home").mkdir(mode=0o700, exist_ok=True)
    keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(
        [str(python), *arguments],
        cwd=folder,
        env={**keep, "HOME": str(folder), "TMPDIR": str(folder), "DAGSTER_HOME": str(folder / "home"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def materialize(python: Path, folder: Path, days: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The backfill of the README."""
    return run(python, ["-m", *backfill(days)], folder, **environment)


def materialized(home: Path, asset: str) -> set[str]:
    """The partitions of an asset that the event log has, straight from its files."""
    found = set()
    for database in (home / "history" / "runs").glob("*.db"):
        with sqlite3.connect(database) as connection:
            rows = connection.execute(
                "SELECT partition FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND asset_key = ?",
                (f'["{asset}"]',),
            )
            found |= {row[0] for row in rows}
    return found


def test_a_backfill_of_30_dates_needs_no_daemon_and_survives_a_bad_file(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for day in range(1, 31):
        date_ = f"2025-03-{day:02}"
        (logs / f"{date_}-05-00-00-AA").write_text(line("ds1/a", date_) + line("ds2/b", date_, 5, host=day))
    (logs / "2025-03-17-06-00-00-BB").write_bytes(b"\x1f\x8bnot gzip")
    environment = {"S3LOGX_LOGS": str(logs), "S3LOGX_FIRST_DATE": "2025-03-01"}
    result = materialize(Path(sys.executable), tmp_path / "work", "2025-03-01...2025-03-30", **environment)
    assert result.returncode != 0
    assert "1 of 30 dates failed: 2025-03-17" in result.stderr
    store = tmp_path / "work" / "home" / "s3logx" / "private"
    good = {f"2025-03-{day:02}" for day in range(1, 31) if day != 17}
    for asset in DAILY:
        assert {path.name.removeprefix("log_date=") for path in (store / asset).iterdir()} == good
        assert materialized(tmp_path / "work" / "home", asset) == good


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, bytes]]:
    """Everything, once, over sample logs: the folder of the run, all that it printed, the addresses of the logs."""
    base = tmp_path_factory.mktemp("sampled")
    generate(SampleSpec(days=4, lines=6000, files=60), base / "logs")
    environment = {"S3LOGX_LOGS": str(base / "logs"), "S3LOGX_FIRST_DATE": "2025-03-01"}
    python, folder = Path(sys.executable), base / "work"
    printed = ""
    for result in (
        materialize(python, folder, "2025-03-01...2025-03-04", **environment),
        run(python, ["-m", *UPDATE_SCOPES], folder, **environment),
        run(
            python,
            ["-m", *PUBLISH],
            folder,
            **environment,
        ),
        run(python, ["-m", "s3logx_assets", "report"], folder, **environment),
    ):
        assert result.returncode == 0, result.stderr[-2000:]
        printed += result.stdout + result.stderr
    return folder, printed, addresses_in(base / "logs")


def test_no_address_of_the_logs_can_be_read_anywhere(sampled: tuple[Path, str, dict[str, bytes]]) -> None:
    folder, printed, addresses = sampled
    assert len(addresses) > 100
    texts = {text.encode() for text in addresses if text != "-"}
    packed = set(addresses.values())
    token = re.compile(rb"[0-9a-fA-F:.]{3,45}")
    leaks = []
    looked_at = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            looked_at += 1
            if texts.intersection(token.findall(content)) or any(one in content for one in packed):
                leaks.append(str(path.relative_to(folder)))
    assert looked_at > 50
    assert not leaks
    assert not texts.intersection(token.findall(printed.encode()))


def test_no_address_is_in_a_value_of_a_compressed_table(sampled: tuple[Path, str, dict[str, bytes]]) -> None:
    folder, _, addresses = sampled
    packed, texts = set(addresses.values()), set(addresses)
    tables = list(folder.rglob("*.parquet"))
    assert len(tables) > 20
    for path in tables:
        table = pq.ParquetFile(path).read()
        for name in table.column_names:
            values = table[name].unique().to_pylist()
            if values and isinstance(values[0], bytes | str):
                assert not packed.intersection(values), (path, name)
                assert not texts.intersection(values), (path, name)


def test_private_files_are_private(sampled: tuple[Path, str, dict[str, bytes]]) -> None:
    folder, _, _ = sampled
    private = folder / "home" / "s3logx" / "private"
    for path in [private, *private.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert (folder / "home" / "s3logx.key").stat().st_mode & 0o777 == 0o600


def test_the_report_command_names_the_release(sampled: tuple[Path, str, dict[str, bytes]]) -> None:
    folder, printed, _ = sampled
    assert "(archive)" in printed
    assert str((folder / "home" / "s3logx" / "public" / "latest").resolve() / "index.html") in printed


def test_the_check_command_masks_secrets_and_changes_nothing(tmp_path: Path) -> None:
    secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTI="
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "2025-03-01-05-00-00-AA").write_text(line("ds1/a"))
    environment = {"S3LOGX_LOGS": str(logs), "S3LOGX_FIRST_DATE": "2025-03-01", "S3LOGX_KEY": secret}
    result = run(Path(sys.executable), ["-m", "s3logx_assets", "check"], tmp_path / "work", **environment)
    assert result.returncode == 0
    assert secret not in result.stdout + result.stderr
    assert "log files of 1 dates, 2025-03-01 to 2025-03-01" in result.stdout
    assert list((tmp_path / "work" / "home").iterdir()) == []
    broken = run(
        Path(sys.executable), ["-m", "s3logx_assets", "check"], tmp_path / "work", **environment, S3LOGX_LAG_DAYS="two"
    )
    assert broken.returncode == 1
    assert "S3LOGX_LAG_DAYS='two' is not legal; it must be a whole number from 0" in broken.stderr


def test_the_wheel_works_outside_a_checkout(tmp_path: Path) -> None:
    """The extraction program and the embedded tables travel inside the wheel."""
    wheels = tmp_path / "wheels"
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(CHECKOUT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = wheels.glob("*.whl")
    assert wheel.stat().st_size < 25 * 2**20
    # A fresh environment that sees the packages installed here, but not the checkout.
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (here,) = {path for path in sys.path if path.endswith("site-packages")}
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--target",
            str(site),
            str(wheel),
        ],
        check=True,
        capture_output=True,
    )
    # Packages only: a .pth line is a path, and the .pth files of that folder, which name the checkout, are not read.
    (site / "packages.pth").write_text(f"{here}\n")
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "2025-03-01-05-00-00-AA").write_text(line("ds1/a"))
    environment = {"S3LOGX_LOGS": str(logs), "S3LOGX_FIRST_DATE": "2025-03-01"}
    where = run(python, ["-c", "import s3logx_assets; print(s3logx_assets.__file__)"], tmp_path / "work")
    assert where.stdout.startswith(str(site))
    result = materialize(python, tmp_path / "work", "2025-03-01...2025-03-01", **environment)
    assert result.returncode == 0, result.stderr[-2000:]
    (part,) = (tmp_path / "work" / "home" / "s3logx" / "private" / "daily_usage").rglob("*.parquet")
    assert pq.ParquetFile(part).read()["event_date"].to_pylist() == [date(2025, 3, 1)]
