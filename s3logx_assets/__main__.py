"""`python -m s3logx_assets check`, `… range`, `… behind` and `… report`: what the settings say and whether they work, which
dates there are, which are out of date, what the release holds. None of these changes anything; `… key` is `key_care`'s business.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from s3logx_assets import dagster_home, key_care
from s3logx_assets.adapters import key_store, memory
from s3logx_assets.adapters.gawk import executable, program
from s3logx_assets.adapters.mapping_tables import count_rows
from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.core.errors import S3logxError, SettingsError, SourceError, StoreError
from s3logx_assets.resources import Rules, build_destination, build_log_store, build_release_store, private_files
from s3logx_assets.settings import Settings


def main(arguments: list[str]) -> int:
    """Runs one command; 0 if all is well."""
    parser = argparse.ArgumentParser(prog="python -m s3logx_assets")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="show every setting, try source, store, key and gawk; change nothing")
    commands.add_parser("range", help="print the log dates of the source as FIRST...LAST, for --partition-range")
    commands.add_parser("behind", help="print the dates that are out of date, as ranges FIRST...LAST, one per line")
    commands.add_parser("report", help="print the latest release as a table")
    key_care.add_commands(commands)
    chosen = parser.parse_args(arguments)
    memory.keep_out_of_core_dumps()  # the settings have the key, and `key …` has addresses
    try:
        settings = Settings.read()
        if chosen.command == "key":
            return key_care.run(settings, chosen)
        return {"check": check, "range": print_range, "behind": print_behind, "report": report}[chosen.command](
            settings
        )
    except S3logxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def check(settings: Settings) -> int:
    """Prints every setting and the outcome of every trial; 1 if one failed."""
    for name, value in settings.shown():
        print(f"{name:26} {value}")
    print()
    trials: dict[str, Callable[[], str]] = {
        "gawk": _try_gawk,
        "home": lambda: _try_home(settings.home),
        "source": lambda: _try_source(settings),
        "store": lambda: _try_store(settings),
        "key": lambda: key_store.verify(private_files(settings), settings.home, settings.key),
        "geolocation": lambda: _providers(settings),
        **({"destination": lambda: _try_destination(settings)} if settings.publish_to else {}),
        "executor": lambda: _try_executor(settings),
        "dataset rule": lambda: _try_dataset_rule(settings),
    }
    failed = 0
    for name, trial in trials.items():
        try:
            print(f"{name:14} {trial()}")
        except S3logxError as error:
            failed += 1
            print(f"{name:14} FAILED: {error}")
    return 1 if failed else 0


def _try_gawk() -> str:
    answer = subprocess.run([executable(), "--version"], capture_output=True, text=True, check=False)
    if answer.returncode or not program().is_file():
        raise SettingsError(f"gawk does not run, or {program()} is not there; reinstall the package")
    return answer.stdout.partition("\n")[0]


def _try_home(home: Path) -> str:
    """Whether nobody else can read Dagster's history. A folder of another user's, without one, is a container's own."""
    if not home.exists():
        return "will be made"
    if dagster_home.is_open(home) and (home.stat().st_uid == os.getuid() or (home / "history").exists()):
        raise SettingsError(
            f"DAGSTER_HOME: others may enter {home}, and read figures of single people: chmod 700 {home}"
        )
    return "ready"


def _try_source(settings: Settings) -> str:
    store = build_log_store(settings)
    days = store.days()
    if not days:
        # Lists one date, which tells an empty folder from one that holds something else.
        next(iter(store.listings([datetime.now(UTC).date()])))
        return "no log files yet"
    early = sum(day < settings.first_date for day in days)
    note = f"; {early} dates are before S3LOGX_FIRST_DATE" if early else ""
    if days[-1] > datetime.now(UTC).date() + timedelta(days=1):
        raise SourceError(f"S3LOGX_LOGS: the newest log files are of {days[-1]}, in the future")
    return f"log files of {len(days)} dates, {days[0]} to {days[-1]}{note}"


def _providers(settings: Settings) -> str:
    """Where regions and coordinates will come from; nobody is asked for it."""
    regions = {"embedded": "the packaged table", "mmdb": str(settings.mmdb), "ipinfo": "ipinfo.io"}[settings.geo]
    geocoder = ", then opencagedata.com" if settings.opencage_key else ""
    return f"regions from {regions}; coordinates packaged{geocoder}; ranges of clouds {settings.cloud_ranges}"


def _try_executor(settings: Settings) -> str:
    """How steps are executed; where workers do it, whether the broker that brings them to the workers answers."""
    if settings.celery_config is None:
        return {"in_process": "each run in its own process"}.get(settings.executor, "each step in a process of its own")
    from s3logx_assets.executors import broker_answers  # brings Dagster, which takes a second

    broker_answers(settings.celery_config)
    return "Celery workers; the broker answers"


def _try_dataset_rule(settings: Settings) -> str:
    if settings.dataset_mapping is not None:  # a large table's rule would leave files in the cache
        return f"ok, a table of {count_rows(settings.dataset_mapping):,} rows"
    return f"ok, version {Rules(settings).dataset_rule.digest[:8]}"


def _try_store(settings: Settings) -> str:
    store = settings.store
    if not isinstance(store, Path):
        return "ready, and empty" if private_files(settings).is_empty() else "ready, with tables in it"
    nearest = store
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise StoreError(f"S3LOGX_STORE: {nearest} is not a folder")

    if not os.access(nearest, os.W_OK | os.X_OK):
        raise StoreError(f"S3LOGX_STORE: {nearest} cannot be written to")
    return "ready" if store.exists() else f"will be made below {nearest}"


def _try_destination(settings: Settings) -> str:
    place = build_destination(settings)
    return "none" if place is None else place.trial()


def print_range(settings: Settings) -> int:
    """Prints the first and last log date of the source that are partitions."""
    days = [day for day in build_log_store(settings).days() if day >= settings.first_date]
    if not days:
        raise SourceError(f"S3LOGX_LOGS: {settings.logs} has no log files since {settings.first_date}")
    print(f"{days[0]}...{days[-1]}")
    return 0


def print_behind(settings: Settings) -> int:
    """Prints the dates, of all there are, whose log files are not those that were extracted, or that did not come through
    all steps since: what a sensor would ask for, or what is left of a run that was stopped."""
    from s3logx_assets.automation import days_behind  # brings Dagster, which takes a second
    from s3logx_assets.run_requests import contiguous

    log_store = build_log_store(settings)
    days = [day for day in log_store.days() if settings.first_date <= day <= datetime.now(UTC).date()]
    for first, last in contiguous(list(days_behind(log_store, TableStore(private_files(settings)), days))):
        print(f"{first}...{last}")
    return 0


def report(settings: Settings) -> int:
    """Prints the published totals of the latest release, and where its report lies."""
    store = build_release_store(settings)
    latest = store.latest()
    if latest is None:
        raise StoreError(f"{settings.store} has no release yet; materialise publication first")
    datasets = json.loads(store.read(latest, "totals.json"))
    archive = json.loads(store.read(latest, "archive_totals.json"))
    columns = {
        "requests": "total_number_of_requests",
        "downloads": "total_number_of_downloads",
        "bytes": "total_bytes_sent",
        "requesters": "number_of_requesters",
        "regions": "number_of_unique_regions",
    }
    print(f"{'dataset':24}" + "".join(f"{name:>16}" for name in columns))
    for name, figures in [*datasets.items(), ("(archive)", archive)]:
        print(f"{name[:24]:24}" + "".join(f"{figures[key]!s:>16}" for key in columns.values()))
    print(f"\nrelease  {latest}\nreport   {store.uri(latest, 'index.html')}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
