"""Executors: what a setting chooses, what it needs, and what is not imported by who does not choose it."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from socket import create_server

import dagster as dg
import pytest

from s3logx_assets.core.errors import ServiceUnavailable, SettingsError
from s3logx_assets.executors import broker_answers, build_executor, celery_configuration
from s3logx_assets.settings import Settings

SHIPPED = Path(__file__).parents[2] / "deploy" / "celery" / "celery.yaml"


def settings(**more: str) -> Settings:
    home = {"DAGSTER_HOME": "/srv/dagster", "S3LOGX_LOGS": "/srv/logs", "S3LOGX_FIRST_DATE": "2025-03-01"}
    return Settings.read({**home, **more})


def celery(path: Path = SHIPPED) -> Settings:
    return settings(S3LOGX_EXECUTOR="celery", S3LOGX_CELERY_CONFIG=str(path))


def test_one_machine_runs_in_process_unless_it_is_told_otherwise() -> None:
    assert build_executor(settings()) is dg.in_process_executor
    assert build_executor(settings(S3LOGX_EXECUTOR="multiprocess")) is dg.multiprocess_executor


def test_celery_is_configured_by_the_file_that_the_workers_are_started_with() -> None:
    executor = build_executor(celery())
    assert executor.name == "celery"
    # A lost step comes back only with these.
    source = celery_configuration(SHIPPED)["config_source"]
    assert source["task_acks_late"] is source["task_reject_on_worker_lost"] is True
    assert source["worker_prefetch_multiplier"] == 1
    assert source["accept_content"] == ["json"]


def test_who_does_not_choose_celery_does_not_import_it() -> None:
    program = (
        "import sys; from s3logx_assets.definitions import build_defs; from s3logx_assets.settings import Settings; "
        "build_defs(Settings.read()); assert not {'celery', 'kombu', 'psycopg2'} & set(sys.modules)"
    )
    environment = {"DAGSTER_HOME": "/srv/dagster", "S3LOGX_LOGS": "/srv/logs", "S3LOGX_FIRST_DATE": "2025-03-01"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dagster_celery", None)
    with pytest.raises(SettingsError, match="the extra `distributed`"):
        build_executor(celery())


@pytest.mark.parametrize(
    "text", ["", "a: [", "execution: {}", "execution: {config: {}}", "[]", "execution: {config: [1]}"]
)
def test_a_file_that_names_no_broker_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "celery.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match="S3LOGX_CELERY_CONFIG="):
        build_executor(celery(path))


def test_a_broker_that_is_not_there_is_told_without_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with closing(create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("S3LOGX_BROKER_URL", f"redis://:canary-password@127.0.0.1:{port}/0")
    with pytest.raises(ServiceUnavailable) as caught:
        broker_answers(SHIPPED)
    assert "canary" not in str(caught.value)
    assert str(port) not in str(caught.value)
    assert caught.value.__cause__ is None
    monkeypatch.delenv("S3LOGX_BROKER_URL")
    with pytest.raises(SettingsError, match="S3LOGX_BROKER_URL is not set"):
        broker_answers(SHIPPED)
