"""Alerts: who is told of which failed run, and in what words."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import WILL_RETRY_TAG

from s3logx_assets.alerts import NAME, build_alerts
from s3logx_assets.definitions import build_defs
from s3logx_tests.http_service import Answer, Service, running_service
from s3logx_tests.platform import Platform, line

SECRET = "192.0.2.77 said something"


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as running:
        running.answers(Answer(200))
        yield running


@dg.op
def quoting() -> None:
    raise ValueError(SECRET)


@dg.job
def careless() -> None:
    quoting()


def tell(platform: Platform, result: dg.ExecuteInProcessResult, run: dg.DagsterRun | None = None) -> object:
    """What the sensor does about a failed run."""
    (sensor,) = build_alerts(platform.settings)
    assert isinstance(sensor, dg.RunStatusSensorDefinition)
    event = next(event for event in result.all_events if event.is_run_failure)
    context = dg.build_run_status_sensor_context(
        NAME, event, platform.instance, run or result.dagster_run
    ).for_run_failure()
    return sensor(context)


def test_nobody_is_told_unless_somebody_is_named(platform: Platform) -> None:
    assert build_alerts(platform.settings) == []


def test_the_alert_is_a_sensor_that_runs_by_itself(platform: Platform) -> None:
    platform.environment["S3LOGX_ALERT_WEBHOOK"] = "https://chat.example/hooks/x"
    sensor = build_defs(platform.settings).get_repository_def().get_sensor_def(NAME)
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING


def test_a_failed_date_is_told_in_our_own_words(platform: Platform, service: Service) -> None:
    platform.environment["S3LOGX_ALERT_WEBHOOK"] = service.url
    platform.log("2025-03-01-00-00-00-AA", line("ds1/x"))
    platform.log("2025-03-02-00-00-00-BB").write_bytes(b"\x1f\x8b broken")
    result = platform.daily("2025-03-01", "2025-03-02")
    assert not result.success
    assert tell(platform, result) is None
    (asked,) = service.asked
    assert asked.content["job"] == "assets"
    assert asked.content["run_id"] == result.run_id
    assert asked.content["failed_steps"] == ["daily"]
    (reason,) = asked.content["reasons"]
    assert reason.startswith("1 of 2 dates failed: 2025-03-02: ")


def test_what_is_not_our_own_word_is_not_told(platform: Platform, service: Service) -> None:
    platform.environment["S3LOGX_ALERT_WEBHOOK"] = service.url
    result = careless.execute_in_process(instance=platform.instance, raise_on_error=False)
    tell(platform, result)
    (asked,) = service.asked
    assert SECRET not in asked.body.decode()
    assert asked.content["failed_steps"] == ["quoting"]
    assert asked.content["reasons"] == []


def test_a_run_that_is_started_again_is_no_news(platform: Platform, service: Service) -> None:
    platform.environment["S3LOGX_ALERT_WEBHOOK"] = service.url
    result = careless.execute_in_process(instance=platform.instance, raise_on_error=False)
    told = tell(platform, result, result.dagster_run.with_tags({WILL_RETRY_TAG: "true"}))
    assert isinstance(told, dg.SkipReason)
    assert service.asked == []


def test_a_message_that_does_not_get_through_is_a_failed_tick(
    platform: Platform, service: Service, tmp_path: Path
) -> None:
    platform.environment["S3LOGX_ALERT_WEBHOOK"] = service.url
    service.answers(Answer(500))
    result = careless.execute_in_process(instance=platform.instance, raise_on_error=False)
    with pytest.raises(dg.Failure, match=r"S3LOGX_ALERT_WEBHOOK refuses the message \(HTTP 500\)"):
        tell(platform, result)
