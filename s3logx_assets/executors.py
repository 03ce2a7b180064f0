"""How the steps of a run are executed: in the run's process, in processes beside it, or by workers on other machines.

Only this module knows Dagster's executors, and what is chosen is the settings' business: no asset knows where it runs.
Where runs go (this machine, a task of ECS, a pod) is the instance's, in `dagster.yaml`.
"""

import os
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from s3logx_assets.core.errors import ServiceUnavailable, SettingsError
from s3logx_assets.settings import Settings

_EXTRA = "S3LOGX_EXECUTOR=celery needs the extra `distributed`: install requirements-distributed.lock"


def build_executor(settings: Settings) -> dg.ExecutorDefinition:
    """The executor of every job. Raises SettingsError."""
    if settings.executor == "celery" and settings.celery_config is not None:
        return _celery(settings.celery_config)
    if settings.executor == "multiprocess":
        return dg.multiprocess_executor
    return dg.in_process_executor


def celery_configuration(path: Path) -> dict[str, Any]:
    """What the file that the workers are started with says of broker and delivery. Raises SettingsError."""
    wrong = f"S3LOGX_CELERY_CONFIG={str(path)!r} is not legal; it must be a YAML file with execution: config: broker: …"
    try:
        config = yaml.safe_load(path.read_text("utf-8"))["execution"]["config"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        raise SettingsError(wrong) from None
    if not isinstance(config, dict) or not config.get("broker"):
        raise SettingsError(wrong)
    return config


def broker_answers(path: Path) -> None:
    """Connects to the broker of the workers. Raises SettingsError, ServiceUnavailable: neither tells the address, which
    has the password in it."""
    broker = celery_configuration(path)["broker"]
    address = os.environ.get(str(broker.get("env"))) if isinstance(broker, dict) else broker
    if not address:
        raise SettingsError(f"{broker.get('env')} is not set; {path} takes the broker's address from it")
    try:
        from kombu.connection import Connection
    except ImportError:
        raise SettingsError(_EXTRA) from None
    try:
        with Connection(address, connect_timeout=5, transport_options={"socket_connect_timeout": 5}) as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
    except Exception as error:
        trouble = type(error).__name__
    else:
        return
    raise ServiceUnavailable(f"the broker of {path} does not answer ({trouble})")


def _celery(path: Path) -> dg.ExecutorDefinition:
    config = celery_configuration(path)
    try:
        from dagster_celery import celery_executor  # of the extra `distributed`, which one machine does not need
    except ImportError:
        raise SettingsError(_EXTRA) from None
    # Each job gets it whole, so that who starts a run need not know of a broker.
    return dg.ExecutorDefinition.configured(celery_executor, config, name="celery")
