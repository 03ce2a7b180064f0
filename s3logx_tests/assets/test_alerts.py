"""Alerts: who is told of which failed run, and in what words."""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import WILL_RETRY_TAG

from s3logx_assets.adapters.messages import Message
from s3logx_assets.alerts import NAME, build_alerts
from s3logx_assets.core.errors import ServiceUnavailable
from s3logx_assets.dead_runs import end_dead_commands
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


@dg.op
def quick() -> int:
    return 1


@dg.op
def killed(before: int) -> None:
    """As the system does it where memory is out."""
    os.kill(os.getpid(), signal.SIGKILL)


@dg.job
def doomed() -> None:
    killed(quick())


def run_doomed(home: str) -> None:
    with dg.DagsterInstance.local_temp(home) as instance:
        doomed.execute_in_process(instance=instance)


@pytest.fixture
def alerted(platform: Platform, service: Service) -> Platform:
    """A platform whose alert has looked before, so that it tells of what fails from now on."""
    platform.environment["S3LOGX_ALERT_WEBHOOK"] = service.url
    assert platform.tick(NAME) == "0 messages were delivered"
    return platform


def fail(platform: Platform, **tags: str) -> dg.ExecuteInProcessResult:
    return careless.execute_in_process(instance=platform.instance, raise_on_error=False, tags=tags)


def told(service: Service) -> list[str]:
    """The runs that were told of, by what was sent to the webhook."""
    return [asked.content["run_id"] for asked in service.asked]


def test_nobody_is_told_unless_somebody_is_named(platform: Platform) -> None:
    assert build_alerts(platform.settings) == []


def test_the_alert_is_a_sensor_that_runs_by_itself(platform: Platform) -> None:
    platform.environment["S3LOGX_ALERT_WEBHOOK"] = "https://chat.example/hooks/x"
    sensor = build_defs(platform.settings).get_repository_def().get_sensor_def(NAME)
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING


def test_a_failed_date_is_told_in_our_own_words(alerted: Platform, service: Service) -> None:
    alerted.log("2025-03-01-00-00-00-AA", line("ds1/x"))
    alerted.log("2025-03-02-00-00-00-BB").write_bytes(b"\x1f\x8b broken")
    result = alerted.daily("2025-03-01", "2025-03-02")
    assert not result.success
    assert alerted.tick(NAME) == "1 messages were delivered"
    (asked,) = service.asked
    assert asked.content["job"] == "assets"
    assert asked.content["run_id"] == result.run_id
    assert asked.content["failed_steps"] == ["daily"]
    (reason,) = asked.content["reasons"]
    assert reason.startswith("1 of 2 dates failed: 2025-03-02: ")
    assert alerted.tick(NAME) == "0 messages were delivered"


def test_what_is_not_our_own_word_is_not_told(alerted: Platform, service: Service) -> None:
    fail(alerted)
    alerted.tick(NAME)
    (asked,) = service.asked
    assert SECRET not in asked.body.decode()
    assert asked.content["failed_steps"] == ["quoting"]
    assert asked.content["reasons"] == []


def test_a_run_that_was_killed_says_in_which_step(tmp_path: Path, service: Service) -> None:
    """After 20 hours of work a run was out of memory, and "failed before its first step" sent people to the settings."""
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        platform = Platform.make(tmp_path, instance, S3LOGX_ALERT_WEBHOOK=service.url)
        platform.tick(NAME)
        process = multiprocessing.get_context("spawn").Process(target=run_doomed, args=(str(home),))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        (run_id,) = end_dead_commands(instance)
        assert platform.tick(NAME) == "1 messages were delivered"
    (asked,) = service.asked
    assert asked.content["run_id"] == run_id
    assert (asked.content["failed_steps"], asked.content["unfinished_steps"]) == ([], ["killed"])
    assert "It ended during killed without a word" in asked.content["text"]
    assert "first step" not in asked.content["text"]


def test_a_run_that_never_began_says_so(alerted: Platform, service: Service) -> None:
    alerted.instance.report_run_failed(alerted.start_job("update_scopes"), "the code location went away")
    assert alerted.tick(NAME) == "1 messages were delivered"
    (asked,) = service.asked
    assert "failed before its first step." in asked.content["text"]
    assert asked.content["unfinished_steps"] == []


def test_a_run_that_is_started_again_is_no_news(alerted: Platform, service: Service) -> None:
    fail(alerted, **{WILL_RETRY_TAG: "true"})
    assert alerted.tick(NAME) == "0 messages were delivered"
    assert service.asked == []


def test_what_failed_before_somebody_was_named_is_no_news(platform: Platform, service: Service) -> None:
    fail(platform)
    platform.environment["S3LOGX_ALERT_WEBHOOK"] = service.url
    assert platform.tick(NAME) == platform.tick(NAME) == "0 messages were delivered"
    assert service.asked == []


@pytest.mark.parametrize("known", [True, False], ids=["cursor of this version", "cursor without a history"])
def test_failures_of_a_new_history_are_told(tmp_path: Path, service: Service, known: bool) -> None:
    """`history/` was removed, as docs/pruning.md tells: the alert remembered a position that the new history reached months
    later, and told of nothing until then."""
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        platform = Platform.make(tmp_path, instance, S3LOGX_ALERT_WEBHOOK=service.url)
        platform.tick(NAME)
        for _ in range(3):
            fail(platform)
        assert platform.tick(NAME) == "3 messages were delivered"
    if not known:
        platform.cursors[NAME] = json.dumps({"webhook": json.loads(platform.cursors[NAME])["webhook"]})
    shutil.rmtree(home / "history")
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        platform.instance = instance
        failed = fail(platform)
        assert platform.tick(NAME) == "1 messages were delivered"
        assert platform.tick(NAME) == "0 messages were delivered"
    assert told(service)[3:] == [failed.run_id]


def test_a_new_history_that_has_grown_past_the_old_one_is_told_from_its_beginning(
    alerted: Platform, service: Service
) -> None:
    """While nobody looked it may become longer than the one before."""
    fail(alerted)
    alerted.tick(NAME)
    with dg.DagsterInstance.ephemeral() as alerted.instance:
        runs = [fail(alerted).run_id for _ in range(3)]
        assert alerted.tick(NAME) == "3 messages were delivered"
    assert told(service)[1:] == runs


def test_a_failed_run_that_is_deleted_neither_hides_the_next_one_nor_brings_back_the_others(
    tmp_path: Path, service: Service
) -> None:
    """SQLite gives the position of a newest event that was deleted to the next one."""
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        platform = Platform.make(tmp_path, instance, S3LOGX_ALERT_WEBHOOK=service.url)
        platform.tick(NAME)
        runs = [fail(platform).run_id for _ in range(2)]
        assert platform.tick(NAME) == "2 messages were delivered"
        instance.delete_run(runs[1])
        assert platform.tick(NAME) == "0 messages were delivered"
        runs.append(fail(platform).run_id)
        assert platform.tick(NAME) == "1 messages were delivered"
    assert told(service) == runs


def test_a_message_that_does_not_get_through_is_a_failed_tick_and_gets_through_later(
    alerted: Platform, service: Service
) -> None:
    """A webhook was away for the half minute in which a run failed: Dagster's sensor had moved on, and nobody was ever told."""
    runs = [fail(alerted).run_id for _ in range(3)]
    service.answers(Answer(200), Answer(500))
    said = alerted.tick(NAME)
    assert said == "1 messages were delivered; the webhook of S3LOGX_ALERT_WEBHOOK refuses the message (HTTP 500)"
    with pytest.raises(dg.Failure, match=r"S3LOGX_ALERT_WEBHOOK refuses the message \(HTTP 500\)"):
        alerted.tick(NAME)
    service.answers(Answer(200))
    assert alerted.tick(NAME) == "2 messages were delivered"
    assert told(service) == runs[1:]


def test_a_way_that_is_closed_holds_the_other_up_neither_once_nor_repeatedly(
    alerted: Platform, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerted.environment |= {
        "S3LOGX_ALERT_EMAIL": "archive@example.org",
        "S3LOGX_ALERT_SMTP": "smtps://archive%40example.org:password@mail.example:465",
    }
    delivered: list[str] = []
    closed = True

    def send(server: str, recipients: Sequence[str], message: Message) -> None:
        if closed:
            raise ServiceUnavailable("the mail server cannot be reached")
        delivered.append(message.run_id)

    monkeypatch.setattr("s3logx_assets.alerts.send", send)
    alerted.tick(NAME)
    runs = [fail(alerted).run_id for _ in range(2)]
    assert alerted.tick(NAME) == "2 messages were delivered; the mail server cannot be reached"
    with pytest.raises(dg.Failure, match="the mail server cannot be reached"):
        alerted.tick(NAME)
    closed = False
    assert alerted.tick(NAME) == "2 messages were delivered"
    assert told(service) == delivered == runs


def test_many_failed_runs_are_told_a_few_a_tick(
    alerted: Platform, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s3logx_assets.alerts._A_TICK", 2)
    runs = [fail(alerted).run_id for _ in range(3)]
    assert alerted.tick(NAME) == "2 messages were delivered"
    monkeypatch.setattr("s3logx_assets.alerts._SECONDS_A_TICK", -1.0)
    runs += [fail(alerted).run_id]
    assert alerted.tick(NAME) == alerted.tick(NAME) == "1 messages were delivered"
    assert told(service) == runs
