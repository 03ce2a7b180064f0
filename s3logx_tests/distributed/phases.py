"""Where the time of a backfill goes: from Dagster's own events, and from the processor time of the processes.

What is expected of the figures does not belong here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import dagster as dg
from dagster._core.events import DagsterEventType as Kind
from dagster._core.storage.tags import BACKFILL_ID_TAG

# A run's way, each phase with the event that ends it.
PHASES = {
    "waits in the run queue": Kind.PIPELINE_STARTING,
    "the run's own process starts": Kind.PIPELINE_START,
    "the step waits for a worker": Kind.STEP_START,
    "the step works": Kind.STEP_SUCCESS,
    "the run ends": Kind.PIPELINE_SUCCESS,
}


@dataclass(frozen=True)
class Moments:
    """When a run came to each of its events (seconds since 1970), the first time: what a second delivery of its step does
    after the run has ended is no part of it."""

    run_id: str
    created: float
    at: Mapping[Kind, float]
    starts: int
    workers: tuple[str, ...]

    def phases(self) -> dict[str, float]:
        """The seconds of each phase."""
        seconds, since = {}, self.created
        for name, kind in PHASES.items():
            seconds[name] = self.at[kind] - since
            since = self.at[kind]
        return seconds


def runs_of(instance: dg.DagsterInstance, backfill: str) -> list[Moments]:
    """The runs of a backfill, all of which have succeeded."""
    records = instance.get_run_records(dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill}))
    return [moments(instance, record.dagster_run.run_id, record.create_timestamp.timestamp()) for record in records]


def moments(instance: dg.DagsterInstance, run_id: str, created: float) -> Moments:
    """What a run's events tell."""
    at: dict[Kind, float] = {}
    starts, workers = 0, []
    wanted = {*PHASES.values(), Kind.ENGINE_EVENT}
    for record in instance.get_records_for_run(run_id, of_type=wanted, limit=1000).records:
        entry = record.event_log_entry
        event = entry.dagster_event
        assert event is not None
        kind = event.event_type
        if kind == Kind.ENGINE_EVENT:
            found = event.engine_event_data.metadata.get("Celery worker")
            if found is not None:
                workers.append(str(found.value).partition("@")[0])
        elif kind not in at:
            at[kind] = entry.timestamp
        starts += kind == Kind.STEP_START
    return Moments(run_id, created, at, starts, tuple(workers))


def summary(runs: Iterable[Moments], launched: float, ended: float, workers: int) -> dict[str, object]:
    """The wall time of a backfill, what its workers had of it, and the phases of its runs, in seconds."""
    found = list(runs)
    first = min(run.at[Kind.STEP_START] for run in found)
    last = max(run.at[Kind.STEP_SUCCESS] for run in found)
    busy = sum(run.phases()["the step works"] for run in found)
    mean = {name: round(sum(run.phases()[name] for run in found) / len(found), 1) for name in PHASES}
    return {
        "workers": workers,
        "runs": len(found),
        "seconds": round(ended - launched, 1),
        "seconds_until_the_first_step": round(first - launched, 1),
        "seconds_from_first_to_last_step": round(last - first, 1),
        "seconds_after_the_last_step": round(ended - last, 1),
        "seconds_of_work": round(busy, 1),
        "share_of_workers_busy": round(busy / (workers * (last - first)), 2),
        "mean_seconds_of_a_run": mean,
    }
