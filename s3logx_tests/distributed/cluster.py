"""The platform on several machines: a head with PostgreSQL, Redis, code location, daemon and webserver, and workers, each
started by the scripts that deploy/README.md tells of, configured by the files that are shipped there.

What is different from a real installation: the broker gives a lost step to another worker after a minute, not hours.
"""

import base64
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import requests

from s3logx_tests.distributed.machines import (
    Machine,
    cpu_seconds,
    descendants_named,
    family,
    kill_left_over,
    require_namespaces,
    wait_for,
)
from s3logx_tests.platform import DAILY
from s3logx_tests.s3_server import S3Server

ROOT = Path(__file__).parents[2]
CELERY = ROOT / "deploy" / "celery"
VISIBILITY = 60  # seconds, of this cluster's broker
LOGS, STORE = "many-logs", "many-store"
LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "s3logx_assets"}
KEY = base64.b64encode(random.Random("distributed").randbytes(32)).decode()


class Cluster:
    """Machines below `root`, over the buckets of `server`. `dates`: how many go in one run."""

    def __init__(self, root: Path, server: S3Server, first_date: str, dates: int) -> None:
        require_namespaces()
        self.root, self.server = root, server
        self.ports = dict(zip(("pg", "redis", "code", "ui"), _free_ports(4), strict=True))
        self.services = root / "services"
        self.run_services("start")
        celery = (CELERY / "celery.yaml").read_text()
        assert celery.count("visibility_timeout: 7200") == 1
        self.files = {
            "services.env": (self.services / "services.env").read_text(),
            "settings.env": self._settings(first_date, dates),
            "celery.yaml": celery.replace("visibility_timeout: 7200", f"visibility_timeout: {VISIBILITY}"),
        }
        self.head = Machine(root, "head", self.files)
        self.workers: dict[str, Machine] = {}

    def _settings(self, first_date: str, dates: int) -> str:
        """The shipped example, with the values of this cluster, as somebody would fill it in."""
        values = {
            **self.server.environment(),
            "S3LOGX_LOGS": f"s3://{LOGS}/logs",
            "S3LOGX_FIRST_DATE": first_date,
            "S3LOGX_STORE": f"s3://{STORE}/s3logx",
            "S3LOGX_KEY": KEY,
            "S3LOGX_PARTITIONS_PER_RUN": str(dates),
            "S3LOGX_COMPUTE_LOG_BUCKET": STORE,
            "DAGSTER_HOME": str(self.root / "machine" / "dagster"),
            "S3LOGX_CODE_PORT": str(self.ports["code"]),
            "PORT": str(self.ports["ui"]),
            "S3LOGX_WORKERS": "1",  # of two cores one is a machine's
            "S3LOGX_LAG_DAYS": "0",
        }
        lines = []
        for text in (CELERY / "settings.env").read_text().splitlines():
            name = text.removeprefix("#").partition("=")[0]
            lines.append(f"{name}={values.pop(name)}" if name in values else text)
        return "\n".join([*lines, *(f"{name}={value}" for name, value in values.items())]) + "\n"

    def run_services(self, *words: str, folder: Path | None = None, **ports: int) -> None:
        """`services.sh` with its action and what comes after the folder; `ports` other than this cluster's."""
        answer = self._services(*words, folder=folder, **ports)
        assert answer.returncode == 0, answer.stderr

    def services_are_alive(self, folder: Path) -> bool:
        """What the unit that watches over the services of a folder asks."""
        return self._services("alive", folder=folder).returncode == 0

    def _services(self, *words: str, folder: Path | None = None, **ports: int) -> subprocess.CompletedProcess[str]:
        used = {**self.ports, **ports}
        environment = {
            **os.environ,
            "S3LOGX_PG_PORT": str(used["pg"]),
            "S3LOGX_REDIS_PORT": str(used["redis"]),
        }
        command = [str(CELERY / "services.sh"), words[0], str(folder or self.services), *words[1:]]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)

    @property
    def environment(self) -> dict[str, str]:
        """The settings as the machines' processes read them, but for DAGSTER_HOME, which is the head's as seen from here."""
        found = {**_variables(self.files["services.env"]), **_variables(self.files["settings.env"])}
        return {**found, "DAGSTER_HOME": str(self.head.folder / "dagster"), "DAGSTER_DISABLE_TELEMETRY": "1"}

    def start(self, machine: Machine, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        """`start.sh` on a machine."""
        seen = machine.seen_as
        return machine.start(
            [str(CELERY / "start.sh"), *words],
            f"{words[0]}.log",
            S3LOGX_ENV=f"{seen / 'services.env'}:{seen / 'settings.env'}",
            S3LOGX_BIN=str(Path(sys.executable).parent),
            S3LOGX_CELERY_CONFIG=str(seen / "celery.yaml"),
            **environment,
        )

    def start_head(self) -> None:
        """Code location, daemon and webserver; ready when the UI knows the graph."""
        for role in ("code-location", "daemon", "webserver"):
            self.start(self.head, role)
        wait_for(self._location_is_loaded, "the webserver knows the code location", 240)

    def _location_is_loaded(self) -> bool:
        with suppress(requests.ConnectionError):
            found = self.ask("{workspaceOrError{... on Workspace{locationEntries{locationOrLoadError{__typename}}}}}")
            entries = found["workspaceOrError"]["locationEntries"]
            return [each["locationOrLoadError"]["__typename"] for each in entries if each["locationOrLoadError"]] == [
                "RepositoryLocation"
            ]
        return False

    def start_worker(self, name: str) -> Machine:
        """One more machine, which works; ready when the broker knows it."""
        machine = Machine(self.root, name, self.files)
        self.workers[name] = machine
        self.start(machine, "worker", S3LOGX_WORKER_NAME=name)
        wait_for(lambda: " ready." in machine.wrote("worker.log"), f"{name} is ready")
        return machine

    def ask(self, query: str, **variables: Any) -> Any:
        """The webserver's answer to a GraphQL query, as the UI asks it."""
        answer = requests.post(
            f"http://127.0.0.1:{self.ports['ui']}/graphql",
            json={"query": query, "variables": variables},
            timeout=30,
        )
        content = answer.json()
        assert "errors" not in content, content["errors"]
        return content["data"]

    def backfill(self, dates: Sequence[str]) -> str:
        """Launches the backfill of all daily assets over `dates`; its id."""
        found = self.ask(
            "mutation($p: LaunchBackfillParams!){launchPartitionBackfill(backfillParams:$p){__typename "
            "... on LaunchBackfillSuccess{backfillId} ... on PythonError{message}}}",
            p={"assetSelection": [{"path": [name]} for name in DAILY], "partitionNames": list(dates)},
        )["launchPartitionBackfill"]
        assert found["__typename"] == "LaunchBackfillSuccess", found
        return str(found["backfillId"])

    def backfill_status(self, backfill: str) -> str:
        """How it stands with a backfill."""
        found = self.ask(
            "query($id: String!){partitionBackfillOrError(backfillId:$id){... on PartitionBackfill{status}}}",
            id=backfill,
        )
        return str(found["partitionBackfillOrError"]["status"])

    def switch_sensor(self, name: str, on: bool) -> None:
        """Starts or stops a sensor."""
        selector = {**LOCATION, "sensorName": name}
        if on:
            self.ask("mutation($s: SensorSelector!){startSensor(sensorSelector:$s){__typename}}", s=selector)
            return
        found = self.ask(
            "query($s: SensorSelector!){sensorOrError(sensorSelector:$s){... on Sensor{sensorState{id}}}}", s=selector
        )
        state = found["sensorOrError"]["sensorState"]["id"]
        self.ask("mutation($id: String!){stopSensor(id:$id){__typename}}", id=state)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Dagster's history, read from outside."""
        with (
            mock.patch.dict(os.environ, self.environment),
            dg.DagsterInstance.from_config(str(self.head.folder / "dagster")) as instance,
        ):
            yield instance

    def cpu_seconds(self) -> dict[str, float]:
        """The processor time so far, by part."""
        roles = ("code location and runs", "daemon", "webserver")
        parts = {role: cpu_seconds(process.pid) for role, process in zip(roles, self.head.processes, strict=True)}
        parts["workers"] = sum(machine.cpu_seconds() for machine in self.workers.values())
        postmaster = int((self.services / "postgres" / "postmaster.pid").read_text().split("\n")[0])
        parts["PostgreSQL"] = cpu_seconds(postmaster)
        parts["Redis"] = cpu_seconds(int((self.services / "redis" / "redis.pid").read_text()))
        parts["S3 server"] = sum(map(cpu_seconds, descendants_named("weed")))
        return parts

    def processes(self) -> list[int]:
        """All that runs of this cluster but the S3 server."""
        own = [process.pid for machine in (self.head, *self.workers.values()) for process in machine.processes]
        postmaster = int((self.services / "postgres" / "postmaster.pid").read_text().split("\n")[0])
        return sorted(family([*own, postmaster, int((self.services / "redis" / "redis.pid").read_text())]))

    def close(self) -> None:
        """Ends everything, without ado."""
        for machine in (*self.workers.values(), self.head):
            machine.lose_power()
        kill_left_over(self.root)
        self.run_services("stop")


@contextmanager
def running_cluster(server: S3Server, first_date: str, dates: int) -> Iterator[Cluster]:
    """A cluster with a head and no worker, until the block ends. Not below pytest's folders, which the users of PostgreSQL
    and Redis cannot enter."""
    root = Path(tempfile.mkdtemp(prefix="s3logx-"))
    root.chmod(0o711)
    cluster = None
    try:
        cluster = Cluster(root, server, first_date, dates)
        cluster.start_head()
        yield cluster
    except BaseException:
        _keep_logs(root)
        raise
    finally:
        if cluster is not None:
            cluster.close()
        shutil.rmtree(root)


def _keep_logs(root: Path) -> None:
    """What the parts of a cluster said before something went wrong, below build/distributed-logs."""
    kept = ROOT / "build" / "distributed-logs"
    shutil.rmtree(kept, ignore_errors=True)
    for path in root.glob("machines/*/*.log"):
        (kept / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, kept / path.parent.name)


@contextmanager
def restored(cluster: Cluster, dump: Path, bucket: str) -> Iterator[tuple[dict[str, str], dg.DagsterInstance]]:
    """The history of a backup in a database and a DAGSTER_HOME of its own, with the store in another bucket: the settings
    there, and the history."""
    folder, home = cluster.root / "restored-services", cluster.root / "restored-home"
    pg, redis = _free_ports(2)
    cluster.run_services("start", folder=folder, pg=pg, redis=redis)
    try:
        cluster.run_services("restore", str(dump), folder=folder)
        home.mkdir(mode=0o700)
        shutil.copy(CELERY / "dagster.yaml", home)
        environment = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            **cluster.environment,
            **_variables((folder / "services.env").read_text()),
            "S3LOGX_STORE": f"s3://{bucket}/s3logx",
            "DAGSTER_HOME": str(home),
            "S3LOGX_EXECUTOR": "celery",
            "S3LOGX_CELERY_CONFIG": str(CELERY / "celery.yaml"),
        }
        with mock.patch.dict(os.environ, environment), dg.DagsterInstance.from_config(str(home)) as instance:
            yield environment, instance
    finally:
        cluster.run_services("stop", folder=folder)


def _variables(text: str) -> dict[str, str]:
    """What a file of NAME=value sets."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
