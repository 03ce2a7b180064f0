"""What the distributed tests share: an S3 server with logs of sixty dates, and what one machine makes of them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.sample_logs import SampleSpec, generate
from s3logx_tests.commands import UPDATE_SCOPES, backfill
from s3logx_tests.distributed.cluster import KEY, LOGS, STORE
from s3logx_tests.s3_server import S3Server, s3_server

SPEC = SampleSpec(days=60, lines=120_000, files=900)
DATES = [(SPEC.first_date + timedelta(days=number)).isoformat() for number in range(SPEC.days)]


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server with the logs in one bucket and an empty one for the store."""
    logs = tmp_path_factory.mktemp("logs")
    generate(SPEC, logs, force=True)
    with s3_server(tmp_path_factory.mktemp("seaweedfs")) as server:
        for bucket in (LOGS, STORE):
            server.make_bucket(bucket)
        objects = {f"logs/{path.relative_to(logs)}": path for path in logs.rglob("*") if path.is_file()}
        server.put(LOGS, {key: path.read_bytes() for key, path in objects.items()})
        yield server


@dataclass(frozen=True)
class SingleMachine:
    """What one machine made, in one run, and how long it took over the dates."""

    store: TableStore
    seconds: float


@pytest.fixture(scope="session")
def single(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> SingleMachine:
    """The same logs on one machine, by the commands of the README."""
    home = tmp_path_factory.mktemp("single")
    environment = {
        **os.environ,
        **s3.environment(),
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "S3LOGX_LOGS": f"s3://{LOGS}/logs",
        "S3LOGX_FIRST_DATE": DATES[0],
        "S3LOGX_KEY": KEY,
        "S3LOGX_LAG_DAYS": "0",
    }

    def run(words: list[str]) -> float:
        begun = time.monotonic()
        answer = subprocess.run(
            [sys.executable, "-m", *words], env=environment, capture_output=True, text=True, check=False, cwd=home
        )
        assert answer.returncode == 0, answer.stderr[-2000:]
        return time.monotonic() - begun

    seconds = run(backfill(f"{DATES[0]}...{DATES[-1]}"))
    run(UPDATE_SCOPES)
    return SingleMachine(TableStore(Path(home) / "s3logx" / "private"), seconds)
