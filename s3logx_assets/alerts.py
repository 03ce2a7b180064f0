"""Telling somebody that a run failed: by a webhook, by e-mail, or both, as the settings say.

A message goes to where others read it, so it has the job, the run, the failed steps, and of the reasons only those that are
in the project's own words. How failures come to such words is `retries`' business. No alert is lost: each way has come as far
as a failed run that it delivered, and goes on from there. What could not be delivered is delivered later, and if the daemon
dies meanwhile, perhaps twice; Dagster's own sensor of failed runs tries each once and forgets it.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any

import dagster as dg
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from dagster._core.storage.tags import WILL_RETRY_TAG

from s3logx_assets.adapters.messages import Message, post, send
from s3logx_assets.core.errors import ServiceError, ServiceUnavailable
from s3logx_assets.settings import Settings

NAME = "run_failure_alert"
_LONGEST = 1000
# After so many failed runs, or so many seconds, a way goes on at the next tick.
_A_TICK, _SECONDS_A_TICK = 20, 10.0
_ENDS = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE}
_HISTORY = "history"  # beside the ways in the cursor


def build_alerts(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensor that tells of failed runs, where somebody is to be told."""
    ways = _ways(settings)
    if not ways:
        return []

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells of a failed run, by webhook or e-mail, unless Dagster starts it again by itself. Asks for nothing.",
    )
    def run_failure_alert(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        history = _history(context.instance)
        before = _positions(context.instance, history, json.loads(context.cursor or "{}"))
        # A way that is new begins with what fails from now on.
        reached = {way: before[way] if way in before else _newest(context.instance) for way in ways}
        told, troubles = 0, []
        for way, tell in ways.items():
            until = monotonic() + _SECONDS_A_TICK
            try:
                for position, run in _failed_runs(context, reached[way]):
                    if run is not None:
                        tell(message_of(context.instance, run))
                        told += 1
                    reached[way] = position
                    if monotonic() > until:
                        break
            except (ServiceError, ServiceUnavailable) as error:  # the other way may still work
                troubles.append(str(error))
        if troubles and reached == before:
            raise dg.Failure("; ".join(troubles))
        # Not where the tick fails: Dagster would keep none of this.
        context.update_cursor(json.dumps({**reached, _HISTORY: history}))
        return dg.SkipReason("; ".join([f"{told} messages were delivered", *troubles]))

    return [run_failure_alert]


def _ways(settings: Settings) -> dict[str, Callable[[Message], None]]:
    ways: dict[str, Callable[[Message], None]] = {}
    if settings.alert_webhook is not None:
        ways["webhook"] = partial(post, settings.alert_webhook)
    if settings.alert_smtp is not None:
        ways["email"] = partial(send, settings.alert_smtp, settings.alert_email)
    return ways


def _history(instance: dg.DagsterInstance) -> str | None:
    """What tells the history from every other one, None where its storage has no such thing."""
    storage = instance.run_storage
    return storage.get_run_storage_id() if isinstance(storage, SqlRunStorage) else None


def _positions(instance: dg.DagsterInstance, history: str | None, kept: dict[str, Any]) -> dict[str, int]:
    """How far each way of a cursor has come in the present history. Cursors outlive a history that is removed, and in the
    next one positions begin at 1 again; and the position of an event that is deleted may be given to the next one."""
    of_history = kept.pop(_HISTORY, None)
    greatest = instance.event_log_storage.get_maximum_record_id() or 0
    if of_history is None:  # not known, so that only a position that cannot be tells
        return {way: position if position <= greatest else 0 for way, position in kept.items()}
    return {way: min(position, greatest) if of_history == history else 0 for way, position in kept.items()}


def _newest(instance: dg.DagsterInstance) -> int:
    records = instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=1).records
    return records[0].storage_id if records else 0


def _failed_runs(context: dg.SensorEvaluationContext, after: int) -> Iterator[tuple[int, dg.DagsterRun | None]]:
    """The position of each failure behind `after`, and its run, where that is to be told of."""
    wanted = dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_FAILURE, after_storage_id=after)
    for record in context.instance.fetch_run_status_changes(wanted, limit=_A_TICK, ascending=True).records:
        run = context.instance.get_run_by_id(record.event_log_entry.run_id)
        news = run is not None and _is_ours(context, run) and run.tags.get(WILL_RETRY_TAG) != "true"
        yield record.storage_id, run if news else None


def _is_ours(context: dg.SensorEvaluationContext, run: dg.DagsterRun) -> bool:
    """Not another project's, which may share the history. Of a command's run it is not known whose it is."""
    own, origin = context.code_location_origin, run.remote_job_origin
    return own is None or origin is None or origin.location_name == own.location_name


def message_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Message:
    """What is told of a failed run."""
    job = "assets" if run.job_name.startswith("__") else run.job_name
    steps, reasons = [], []
    begun: dict[str, bool] = {}  # and whether it ended
    for record in instance.get_records_for_run(run.run_id, of_type={*_ENDS, dg.DagsterEventType.STEP_START}).records:
        event = record.event_log_entry.get_dagster_event()
        step = event.step_key or "?"
        begun[step] = event.event_type in _ENDS
        if event.event_type != dg.DagsterEventType.STEP_FAILURE:
            continue
        steps.append(step)
        told = event.step_failure_data.user_failure_data  # a dg.Failure's, whose text is always our own
        if told is not None and told.description:
            reasons.append(told.description[:_LONGEST])
    unfinished = tuple(step for step, ended in begun.items() if not ended)
    return Message(job, run.run_id, tuple(steps), tuple(reasons), unfinished, bool(begun))
