"""`python -m s3logx_assets.pruning --older-than DAYS`: makes Dagster's history smaller without Dagster forgetting what there is.

What goes are ended runs of which nothing is the latest word: each date and scope that such a run made, and each check that it
evaluated, was made or evaluated again by a later one; with their events, their logs and, in SQLite, the space that they took. The
tables of the store, and what the platform itself goes by, are not Dagster's history and are never touched.
"""

import argparse
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.events import DagsterEventType
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager

_AT_ONCE = 500
_PATIENCE = 60.0  # seconds for another process to let go of a file


def superseded(instance: dg.DagsterInstance, before: datetime) -> list[str]:
    """The runs that ended, were asked for before that moment, and can go; the oldest first."""
    wanted = dg.RunsFilter(statuses=list(FINISHED_STATUSES), created_before=before)
    found = [record.dagster_run.run_id for record in instance.get_run_records(wanted, ascending=True)]
    needed = set(_latest_words(instance)) if found else set()
    return [run for run in found if run not in needed]


def _latest_words(instance: dg.DagsterInstance) -> Iterator[str]:
    """The runs that made an asset, or a partition of one, last; and those that evaluated a check last."""
    storage = instance.event_log_storage
    for key in instance.all_asset_keys():
        event = instance.get_latest_materialization_event(key)
        if event is not None:
            yield event.run_id
        latest = storage.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION)
        ids = sorted(latest.values())
        for start in range(0, len(ids), _AT_ONCE):
            some = dg.AssetRecordsFilter(asset_key=key, storage_ids=ids[start : start + _AT_ONCE])
            yield from (record.run_id for record in instance.fetch_materializations(some, limit=_AT_ONCE).records)
    checks = [check for key in instance.all_asset_keys() for check in _checks(instance, key)]
    for execution in storage.get_latest_asset_check_execution_by_key(checks).values():
        yield execution.run_id


def _checks(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[dg.AssetCheckKey]:
    """The checks of an asset that were ever evaluated."""
    if not isinstance(instance.event_log_storage, SqliteEventLogStorage):
        return []
    with instance.event_log_storage.index_connection() as connection:
        rows = connection.exec_driver_sql(
            "SELECT DISTINCT check_name FROM asset_check_executions WHERE asset_key = ?", (key.to_string(),)
        ).fetchall()
    return [dg.AssetCheckKey(key, name) for (name,) in rows]


def delete(instance: dg.DagsterInstance, runs: Sequence[str]) -> None:
    """Deletes runs, their events and their logs."""
    storage = instance.event_log_storage
    for run in runs:
        instance.delete_run(run)
        if isinstance(instance.compute_log_manager, LocalComputeLogManager):
            instance.compute_log_manager.delete_logs(prefix=[run])
        if isinstance(storage, SqliteEventLogStorage):
            for ending in ("", "-wal", "-shm"):  # each run's events have a file of their own
                Path(f"{storage.path_for_shard(run)}{ending}").unlink(missing_ok=True)


def shrink(home: Path) -> None:
    """Gives back what deleted rows took in the SQLite files below `home`. Raises sqlite3.OperationalError where a file is
    in use for too long."""
    for path in sorted([*home.glob("history/**/*.db"), *home.glob("schedules/*.db")]):
        with closing(sqlite3.connect(path, timeout=_PATIENCE)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def size(home: Path) -> int:
    """The bytes of Dagster's history and logs."""
    folders = (home / name for name in ("history", "schedules", "storage"))
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def main(arguments: Sequence[str]) -> int:
    """0 when it is done; 1 when a file was in use and is not smaller yet."""
    parser = argparse.ArgumentParser(prog="python -m s3logx_assets.pruning")
    parser.add_argument("--older-than", type=int, required=True, metavar="DAYS", help="which runs may go")
    parser.add_argument("--show", action="store_true", help="say how many would go, and leave them")
    chosen = parser.parse_args(arguments)
    with dg.DagsterInstance.get() as instance:
        home = Path(instance.root_directory)
        runs = superseded(instance, datetime.now(UTC) - timedelta(days=chosen.older_than))
        if chosen.show:
            print(f"{len(runs):,} of {instance.get_runs_count():,} runs can go; {size(home) / 1e6:,.0f} MB in all")
            return 0
        before = size(home)
        delete(instance, runs)
    try:
        shrink(home)
    except sqlite3.OperationalError as error:
        print(f"{len(runs):,} runs are deleted; the files could not be made smaller: {error}", file=sys.stderr)
        return 1
    print(f"{len(runs):,} runs are deleted; {before / 1e6:,.0f} MB became {size(home) / 1e6:,.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
