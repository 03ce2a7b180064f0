"""This project as a contestant: the extraction step as the asset runs it, and a whole run through Dagster's CLI.

Nothing is rebuilt here: the settings, the resources and the step are those of the product.
"""

import base64
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
from dagster import DagsterEventType

from s3logx_assets.adapters.log_store import LocalLogStore
from s3logx_assets.adapters.table_store import TableStore, partition
from s3logx_assets.assets import extract as extract_module
from s3logx_assets.assets.daily import Made, Tools
from s3logx_assets.assets.extract import EXTRACTED_LOGS, KEY
from s3logx_assets.resources import build_resources, private_files
from s3logx_assets.settings import Settings
from s3logx_tests.bench.measure import ROOT, Outcome, Step

_MODULE = "s3logx_assets.definitions"


def extract(logs: Path, out: Path, source: str | None = None) -> Step:
    """Extraction over every date of the logs: list, gawk, dedup, seal, sort, digest, ledger, write, sync. The asset
    checks, which look at a date once it is stored, are left out. `source`: where the same logs are read from."""
    step = extract_and_check(logs, out, source)

    def without_checks() -> Callable[[], Outcome]:
        with mock.patch.object(extract_module, "_evaluate", return_value=()):
            return step()

    return without_checks


def extract_and_check(logs: Path, out: Path, source: str | None = None) -> Step:
    """All that the asset does: extraction, and the asset checks of every date."""
    days = LocalLogStore(logs).days()
    environment = _environment(logs, out, days[0])
    if source is not None:
        environment["S3LOGX_LOGS"] = source

    def step() -> Callable[[], Outcome]:
        settings = Settings.read(environment)
        resources: dict[str, Any] = build_resources(settings)
        used = {field.name: resources[field.name] for field in fields(Tools) if field.name in resources}
        tools = Tools(**used, log=lambda line: None)
        assert EXTRACTED_LOGS.stream is not None
        rows = files = records = 0
        for _, made in EXTRACTED_LOGS.stream(tools, days):
            if not isinstance(made, Made):
                raise made
            rows += made.metadata["dagster/partition_row_count"]
            files += made.metadata["files"]
            records += made.metadata["records"]
        return lambda: _outcome(settings, days, rows, {"files": files, "records": records})

    return step


def through_dagster(logs: Path, out: Path) -> Step:
    """`dagster asset materialize` over the range of the logs' dates, with a history of its own. Reports the seconds
    from the start of the process to each stage, those of the imports alone, and how many events were recorded."""
    days = LocalLogStore(logs).days()
    environment = _environment(logs, out, days[0])
    home = Path(environment["DAGSTER_HOME"])
    home.mkdir()
    shutil.copy(ROOT / "deploy" / "local" / "dagster.yaml", home)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("S3LOGX_")}
    full = {**inherited, **environment, "DAGSTER_DISABLE_TELEMETRY": "1"}

    def run(*arguments: str) -> tuple[float, float]:
        """When it started, by the clock, and how many seconds it took."""
        start = time.time()
        subprocess.run([sys.executable, *arguments], check=True, env=full, cwd=ROOT, stdout=subprocess.DEVNULL)
        return start, time.time() - start

    _, importing = run("-c", f"import dagster._cli, {_MODULE}")

    def step() -> Callable[[], Outcome]:
        dates = f"{days[0]}...{days[-1]}"
        start, seconds = run(
            *("-m", "dagster", "asset", "materialize", "-m", _MODULE, "--select", KEY, "--partition-range", dates)
        )

        def report() -> Outcome:
            rows, stages = _history(home, start)
            times = {"imported": importing, **stages, "ended": seconds}
            return _outcome(Settings.read(environment), days, rows, times)

        return report

    return step


def _history(home: Path, start: float) -> tuple[int, dict[str, float]]:
    """The rows that the only run of a Dagster history materialised, when it reached each stage, and its events: all of
    them, and those of asset checks."""
    rows, stages = 0, {"events": 0.0, "check_events": 0.0}
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for entry in instance.all_logs(instance.get_runs()[0].run_id):
            stages["events"] += 1
            event = entry.dagster_event
            if event is None:
                continue
            stages["check_events"] += event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION
            if event.event_type in _STAGES:
                stages[_STAGES[event.event_type]] = entry.timestamp - start
            if event.event_type == DagsterEventType.ASSET_MATERIALIZATION:
                metadata = event.step_materialization_data.materialization.metadata
                rows += int(str(metadata["dagster/partition_row_count"].value))
    return rows, stages


_STAGES = {
    DagsterEventType.RUN_START: "run_started",
    DagsterEventType.STEP_START: "step_started",
    DagsterEventType.STEP_SUCCESS: "step_ended",
}


def _environment(logs: Path, out: Path, first: date) -> dict[str, str]:
    return {
        "DAGSTER_HOME": str(out / "home"),
        "S3LOGX_LOGS": str(logs),
        "S3LOGX_STORE": str(out / "store"),
        "S3LOGX_FIRST_DATE": first.isoformat(),
        "S3LOGX_KEY": base64.b64encode(bytes(range(32))).decode(),
    }


def _outcome(settings: Settings, days: list[date], rows: int, extra: Mapping[str, float]) -> Outcome:
    store = TableStore(private_files(settings))
    tables = [store.path(KEY, partition(day)) for day in days]
    stored = sum(table.stat().st_size for table in tables)
    return Outcome(rows, str(tables[0]) if len(tables) == 1 else None, {**extra, "stored_bytes": stored})
