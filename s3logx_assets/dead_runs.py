"""`python -m s3logx_assets.dead_runs`: ends the runs whose process is gone, which Dagster leaves as started for good: they hold
their places in the queue, and what asked for them takes them for answered.

Runs that Dagster's default launcher launched are processes of the code location and end with it, and nobody watches them
(`run_monitoring` knows their longest time alone). So this is to be called before the code location starts, as
`deploy/local/ui.sh`, `deploy/celery/start.sh` and `deploy/docker/compose.yaml` do. A Celery worker that is still at a step of
such a run ends the step: its table is whole, and what asks for it again finds that out. Runs of commands have processes of their
own; `dead_runs_sensor` looks after them, too, on one machine. On ECS and Kubernetes the launcher watches runs itself.
"""

import errno
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES, RunRecord
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.tags import GRPC_INFO_TAG, RUN_KEY_TAG

from s3logx_assets.run_requests import GIVEN_BACK

_BEGUN = [*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.NOT_STARTED]
# A run says which process it is in as soon as it begins. One that has not for so long does not begin any more.
_BEGINS_WITHIN = timedelta(minutes=10)
# How far a clock may have been put right since a process began.
_CLOCKS_DIFFER = 60.0  # seconds


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Where no code location is at work: ends the runs that one launched, and those of commands that are dead; their ids."""
    launched = [
        run for run in instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES)) if GRPC_INFO_TAG in run.tags
    ]
    for run in launched:
        _end(instance, run, "The run ended with the machine, or with the code location that it was a process of.")
    return [*(run.run_id for run in launched), *end_dead_commands(instance)]


def end_dead_commands(instance: dg.DagsterInstance) -> list[str]:
    """Ends the runs of commands, which nobody launched, whose process is gone; their ids. Nothing is known of processes of
    other machines: where the history is not in a folder, no run is looked at."""
    if not isinstance(instance.event_log_storage, SqliteEventLogStorage):
        return []
    dead = [
        record.dagster_run
        for record in instance.get_run_records(dg.RunsFilter(statuses=_BEGUN))
        if record.dagster_run.remote_job_origin is None and _is_dead(instance, record)
    ]
    for run in dead:
        _end(instance, run, "The process of the command is gone: it was killed, or ended with the machine.")
    return [run.run_id for run in dead]


def _end(instance: dg.DagsterInstance, run: dg.DagsterRun, why: str) -> None:
    """Marks a run as failed and frees the key that it was asked for by, so that a sensor may ask again."""
    if RUN_KEY_TAG in run.tags:
        instance.add_run_tags(run.run_id, {RUN_KEY_TAG: f"{GIVEN_BACK} {run.run_id}"})
    instance.report_run_failed(run, why)


def _is_dead(instance: dg.DagsterInstance, record: RunRecord) -> bool:
    events = instance.get_records_for_run(record.dagster_run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
    for entry in (event.event_log_entry for event in events):
        metadata = entry.dagster_event.engine_event_data.metadata if entry.dagster_event is not None else {}
        if "pid" in metadata:
            return not _is_running(int(str(metadata["pid"].value)), entry.timestamp)
    return record.create_timestamp < datetime.now(UTC) - _BEGINS_WITHIN


def _is_running(process: int, moment: float) -> bool:
    """Whether the process that had this number at a `moment`, in seconds since 1970, is alive."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it is gone, or somebody else's and hidden, or the system has no /proc
        return _exists(process)
    # Its number may have gone to another one since: proc_pid_stat(5), field 22, in ticks since the machine began.
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[18]) / os.sysconf("SC_CLK_TCK")
    return state != "Z" and time.time() - age < moment + _CLOCKS_DIFFER


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


if __name__ == "__main__":
    with dg.DagsterInstance.get() as found:
        for ended in end_dead_runs(found):
            print(f"run {ended} had ended without a word; it is marked as failed")
