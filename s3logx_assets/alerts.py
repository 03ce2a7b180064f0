"""Telling somebody that a run failed: by a webhook, by e-mail, or both, as the settings say.

A message goes to where others read it, so it has the job, the run, the failed steps, and of the reasons only those that are
in the project's own words. How failures come to such words is `retries`' business.
"""

from collections.abc import Callable
from functools import partial

import dagster as dg
from dagster._core.storage.tags import WILL_RETRY_TAG

from s3logx_assets.adapters.messages import Message, post, send
from s3logx_assets.core.errors import ServiceError, ServiceUnavailable
from s3logx_assets.settings import Settings

NAME = "run_failure_alert"
_LONGEST = 1000


def build_alerts(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensor that tells of failed runs, where somebody is to be told."""
    if settings.alert_webhook is None and not settings.alert_email:
        return []

    @dg.run_failure_sensor(
        name=NAME,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells of a failed run, by webhook or e-mail, unless Dagster starts it again by itself.",
    )
    def run_failure_alert(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        if context.dagster_run.tags.get(WILL_RETRY_TAG) == "true":
            return dg.SkipReason("Dagster starts the run again")
        message = message_of(context)
        ways: list[Callable[[], None]] = []
        if settings.alert_webhook is not None:
            ways.append(partial(post, settings.alert_webhook, message))
        if settings.alert_smtp is not None:
            ways.append(partial(send, settings.alert_smtp, settings.alert_email, message))
        troubles = []
        for tell in ways:
            try:
                tell()
            except (ServiceError, ServiceUnavailable) as error:  # the other way may still work
                troubles.append(str(error))
        if troubles:
            raise dg.Failure("; ".join(troubles))
        return None

    return [run_failure_alert]


def message_of(context: dg.RunFailureSensorContext) -> Message:
    """What is told of a failed run."""
    run = context.dagster_run
    job = "assets" if run.job_name.startswith("__") else run.job_name
    steps, reasons = [], []
    for event in context.get_step_failure_events():
        steps.append(event.step_key or "?")
        told = event.step_failure_data.user_failure_data  # a dg.Failure's, whose text is always our own
        if told is not None and told.description:
            reasons.append(told.description[:_LONGEST])
    return Message(job, run.run_id, tuple(steps), tuple(reasons))
