"""Every shipped configuration: read as the program reads it that it is for, and held to what all promise: nothing listens
but on this machine, no secret is written down, every image has a version, nothing runs as root.

The engines themselves (Docker, a Kubernetes cluster, the Helm chart) are not to be had in these tests.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from dagster._config import process_config
from dagster._core.instance.config import dagster_instance_config
from dagster._core.workspace.config_schema import WORKSPACE_CONFIG_SCHEMA
from dagster._grpc.utils import default_sensor_grpc_timeout
from dagster_celery.cli import get_validated_config
from dagster_k8s.container_context import K8sContainerContext

from s3logx_assets.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
INSTANCES = ("local", "celery", "docker", "ecs")
_ENVIRONMENT = {
    "S3LOGX_PG_HOST": "127.0.0.1",
    "S3LOGX_PG_PORT": "5432",
    "S3LOGX_PG_DATABASE": "dagster",
    "S3LOGX_PG_USER": "s3logx",
    "S3LOGX_PG_PASSWORD": "p",
    "S3LOGX_COMPUTE_LOG_BUCKET": "bucket",
    "S3LOGX_COMPUTE_LOG_PREFIX": "prefix",
    "S3LOGX_BROKER_URL": "redis://127.0.0.1:1/0",
    "S3LOGX_RESULT_URL": "redis://127.0.0.1:1/1",
    "S3LOGX_CODE_PORT": "4000",
}


def load(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_text())


def texts(value: Any) -> Iterator[tuple[str, str]]:
    """(name, text) of every text in a configuration."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from ((name, inner),) if isinstance(inner, str) else texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", INSTANCES)
def test_dagster_takes_each_instance(name: str, tmp_path: Path) -> None:
    shutil.copy(DEPLOY / name / "dagster.yaml", tmp_path)
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["telemetry"]["enabled"] is False
    # One limit for every pool: those who ask services go one after the other, and wait in the queue.
    assert config["concurrency"]["pools"] == {"granularity": "run", "default_limit": 1}
    assert config["concurrency"]["runs"]["max_concurrent_runs"] >= 1
    assert config["run_monitoring"]["enabled"] is True
    assert config["retention"]["sensor"]["purge_after_days"]["skipped"] == 7
    if name != "local":
        assert config["storage"]["postgres"]["postgres_db"]["scheme"] == "postgresql+psycopg2"
        assert config["run_retries"] == {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False}


@pytest.mark.parametrize("name", ["celery", "docker"])
def test_dagster_takes_each_workspace(name: str) -> None:
    found = process_config(WORKSPACE_CONFIG_SCHEMA, load(f"{name}/workspace.yaml"))
    assert found.success, found.errors
    (location,) = load(f"{name}/workspace.yaml")["load_from"]
    assert location["grpc_server"]["host"] == "127.0.0.1"


def test_celery_takes_its_configuration() -> None:
    config = get_validated_config(str(DEPLOY / "celery" / "celery.yaml"))
    assert config["broker"] == _ENVIRONMENT["S3LOGX_BROKER_URL"]
    options = config["config_source"]["broker_transport_options"]
    assert options["visibility_timeout"] >= 2 * 3600


def test_the_example_settings_are_settings() -> None:
    lines = (DEPLOY / "celery" / "settings.env").read_text().splitlines()
    names = [line.lstrip("#").partition("=")[0] for line in lines if re.match(r"#?[A-Z0-9_]+=", line)]
    values = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z0-9_]+=", line))
    assert values["S3LOGX_KEY"] == "", "no key is shipped"
    found = Settings.read({**values, "S3LOGX_KEY": "A" * 43 + "="})
    known = {name for name, _ in found.shown()}
    assert {name for name in names if name.startswith("S3LOGX_")} <= known | set(_ENVIRONMENT)


@pytest.mark.parametrize(
    "name", ["celery/start.sh", "celery/services.sh", "celery/packages.sh", "docker/entrypoint.sh"]
)
def test_scripts_are_shell_and_can_be_run(name: str) -> None:
    path = DEPLOY / name
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)


# Each with a folder of commands, where it takes one, whose `python` tells of its limits.
@pytest.mark.parametrize(
    "words",
    [["local/ui.sh", "bin"], ["local/run.sh", "bin"], ["celery/start.sh", "bin/python"], ["docker/entrypoint.sh", "bin/python"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_nothing_that_has_the_key_leaves_a_core_dump(words: list[str], tmp_path: Path) -> None:
    """Only steps that open the sealer were kept from it; UI, daemon and code location had S3LOGX_KEY in their memory."""
    script, argument = words
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nulimit -S -c >&2; ulimit -H -c >&2; exit 3\n")
    python.chmod(0o755)
    answer = subprocess.run(
        ["bash", "-c", 'ulimit -S -c "$(ulimit -H -c)"; "$@"', "-", DEPLOY / script, tmp_path / argument],
        env={"PATH": os.environ["PATH"], "DAGSTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (3, "0\n0\n")


def make(*words: str, **given: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **given}
    command = ["make", "--directory", str(DEPLOY.parent), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_samples_do_not_go_among_an_archives_own_usage(tmp_path: Path) -> None:
    """Who had DAGSTER_HOME set and not S3LOGX_LOGS, and typed `make run`, had the samples' usage in the next release."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    script = [str(DEPLOY / "local" / "samples_only.sh")]

    def begin(**given: str) -> int:
        environment = {"PATH": os.environ["PATH"], "DAGSTER_HOME": str(home), **given}
        return subprocess.run(script, env=environment, capture_output=True, check=False).returncode

    (elsewhere / "private" / "extracted_logs").mkdir(parents=True)
    assert begin(S3LOGX_STORE=str(elsewhere)) == 1
    assert not home.exists()
    assert begin() == 0
    (home / "s3logx" / "private" / "extracted_logs").mkdir(parents=True)
    assert begin() == 0, "they were there before"
    (home / ".samples").unlink()
    assert begin() == 1


@pytest.mark.parametrize(
    ("given", "asks"),
    [({}, False), ({"DAGSTER_HOME": "/x"}, True), ({"S3LOGX_STORE": "/x"}, True), ({"DAGSTER_HOME": "/x", "S3LOGX_LOGS": "/y"}, False)],
    ids=str,
)  # fmt: skip
def test_make_looks_before_it_puts_samples_where_somebody_says(given: dict[str, str], asks: bool) -> None:
    told = make("--dry-run", "run", **given)
    assert told.returncode == 0
    assert ("samples_only.sh" in told.stdout) == asks


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """What `python` and `dagster` of a folder of commands are called with, a line for each."""
    told = tmp_path / "told"
    told.touch()
    for name in ("python", "dagster"):
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f'#!/bin/sh\necho {name} "$@" >>{told}\n')
        command.chmod(0o755)
    return told


def test_runs_that_ended_with_a_code_location_are_ended_before_the_next_one_starts(told: Path, tmp_path: Path) -> None:
    """After a crash of the head its runs stayed as started, since the default launcher watches none, and held their places
    in the queue for 24 hours."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {
            "PATH": os.environ["PATH"],
            "DAGSTER_HOME": str(tmp_path),
            "S3LOGX_BIN": str(tmp_path / "bin"),
            "S3LOGX_CODE_PORT": str(taken.getsockname()[1]),
        }
        command = [str(DEPLOY / "celery" / "start.sh"), "code-location"]
        second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (second.returncode, told.read_text()) == (1, ""), "the runs of one that is at work live"
        assert "listens on 127.0.0.1" in second.stderr
    subprocess.run(command, env=environment, check=True)
    _dead_runs_then_code_location(told)
    words = load("docker/compose.yaml")["services"]["code-location"]["command"]
    told.write_text("")
    subprocess.run(words, env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}, check=True)
    _dead_runs_then_code_location(told)


def _dead_runs_then_code_location(told: Path) -> None:
    first, second = told.read_text().splitlines()
    assert first == "python -m s3logx_assets.dead_runs"
    assert second.startswith("dagster api grpc --host 127.0.0.1 --port ")
    assert second.endswith(" --module-name s3logx_assets.definitions --location-name s3logx_assets")


def test_a_sensor_may_take_five_minutes(tmp_path: Path) -> None:
    """The daemon gave a tick up after 60 seconds; over a bucket of ten years the next one began anew, and so on."""
    (tmp_path / "dagster").write_text('#!/bin/sh\necho "$DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS"\n')
    (tmp_path / "dagster").chmod(0o755)
    (tmp_path / "python").symlink_to("/bin/true")
    environment = {"PATH": os.environ["PATH"], "DAGSTER_HOME": str(tmp_path), "S3LOGX_BIN": str(tmp_path)}
    for script, argument in (("local/ui.sh", str(tmp_path)), ("celery/start.sh", "dagster")):
        for given, taken in (({}, "300"), ({"DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "90"}, "90")):
            words = [str(DEPLOY / script), argument]
            answer = subprocess.run(words, env=environment | given, capture_output=True, text=True, check=True)
            assert answer.stdout == f"{taken}\n"
    # Its containers are of one image.
    assert "    DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS=300 \\\n" in (DEPLOY / "docker" / "Dockerfile").read_text()
    with mock.patch.dict(os.environ, {"DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "300"}):
        assert default_sensor_grpc_timeout() == 300


def test_services_listen_nowhere_for_everybody(tmp_path: Path) -> None:
    for address in ("0.0.0.0", "*", "::"):  # noqa: S104 that is what is refused
        with mock.patch.dict(os.environ, {"S3LOGX_LISTEN": address}):
            answer = subprocess.run(
                [DEPLOY / "celery" / "services.sh", "start", tmp_path / "s"],
                capture_output=True,
                text=True,
                check=False,
            )
        assert answer.returncode == 2
        assert "would let everybody in" in answer.stderr
        assert not (tmp_path / "s" / "services.env").exists()


UNITS = sorted(DEPLOY.glob("*/systemd/*"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_are_sound_and_name_what_there_is(path: Path, tmp_path: Path) -> None:
    unit = path.read_text()
    # Those start what runs as other users, and a timer starts a unit.
    if not {"services", "docker"} & set(re.split("[-.]", path.name)):
        for line in ("User=s3logx", "NoNewPrivileges=true", "ProtectSystem=strict", "UMask=0077", "LimitCORE=0"):
            assert f"\n{line}\n" in unit
    for name in re.findall(r"/opt/s3logx/deploy/(\S+)", unit):
        assert (DEPLOY / name).is_file()
    if verifier := shutil.which("systemd-analyze"):
        here = tmp_path / path.name.replace("@", "@worker")
        here.write_text(unit.replace("/opt/s3logx", str(DEPLOY.parent)))
        answer = subprocess.run([verifier, "verify", here], capture_output=True, text=True, check=False)
        assert (answer.returncode, answer.stderr) == (0, "")


def unit_lines(path: str) -> dict[str, str]:
    """The settings of a unit, of the same name the last one."""
    lines = (DEPLOY / path).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_the_services_start_again_until_they_run() -> None:
    """After a power failure PostgreSQL needed longer than a minute to recover: the unit failed for good, and with it all else."""
    lines = unit_lines("celery/systemd/s3logx-services.service")
    assert (lines["Type"], lines["Restart"], lines["TimeoutStartSec"]) == ("oneshot", "on-failure", "infinity")
    (seconds,) = re.findall(r"pg_ctl.* -t (\d+) ", (DEPLOY / "celery" / "services.sh").read_text())
    assert int(seconds) >= 600


@pytest.mark.parametrize(("alive", "told"), [(True, ""), (False, "restart s3logx-services.service\n")])
def test_services_that_ended_are_started_again(alive: bool, told: str, tmp_path: Path) -> None:
    """A database that ended on a full disk stayed ended: its unit starts it and is then "active", whatever becomes of it."""
    folder, program = tmp_path / "deploy" / "celery", tmp_path / "systemctl"
    folder.mkdir(parents=True)
    (folder / "services.sh").write_text(f"#!/bin/sh\n[ $1 = alive ] && {str(alive).lower()}\n")
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/told\n')
    (tmp_path / "told").touch()
    for path in (folder / "services.sh", program):
        path.chmod(0o755)
    command = unit_lines("celery/systemd/s3logx-services-watch.service")["ExecStart"].replace(
        "/opt/s3logx", str(tmp_path)
    )
    subprocess.run(shlex.split(command), env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True)
    assert (tmp_path / "told").read_text() == told


@pytest.mark.parametrize(("answers", "code"), [(["LOADING"] * 300 + ["PONG"], 0), ([""] * 99 + ["PONG"], 0), ([], 1)])
def test_a_redis_that_reads_its_queue_is_waited_for(answers: list[str], code: int, tmp_path: Path) -> None:
    """It was given ten seconds, whatever it was at, and ended in the middle of it. Of the script only this part is run, and
    waits for nothing."""
    script = (DEPLOY / "celery" / "services.sh").read_text()
    part = script[script.index("redis_answer() {") : script.index("stop() {")]
    (tmp_path / "answers").write_text("".join(f"{answer}\n" for answer in answers))
    stand_in = "redis-cli() { sed -n 1p answers; sed -i 1d answers; }; sleep() { :; }; S3LOGX_PG_HOST=- redis_port=-"
    answer = subprocess.run(["bash", "-euc", f"{stand_in}\n{part}\nwait_for_redis"], cwd=tmp_path, check=False)
    assert answer.returncode == code


def test_one_machine_has_its_ui_again_after_a_restart(told: Path, tmp_path: Path) -> None:
    """A terminal had it; after a restart of the machine nothing was extracted any more until somebody noticed."""
    lines = unit_lines("local/systemd/s3logx-local.service")
    assert (lines["Restart"], lines["WantedBy"]) == ("always", "multi-user.target")
    here = {"/opt/s3logx/.venv": str(tmp_path), "/opt/s3logx": str(DEPLOY.parent), "/var/lib/s3logx": str(tmp_path)}

    def moved(text: str) -> list[str]:
        for name, place in here.items():
            text = text.replace(name, place)
        return text.split()

    environment = {"PATH": os.environ["PATH"], **dict(word.split("=", 1) for word in moved(lines["Environment"]))}
    (folder,) = moved(lines["WorkingDirectory"])
    subprocess.run(moved(lines["ExecStart"]), cwd=folder, env=environment, check=True)
    assert told.read_text().splitlines()[-1] == "dagster dev -w workspace.yaml --host 127.0.0.1 --port 3000"
    assert (Path(folder) / "workspace.yaml").is_file()


def passed_on(**given: str) -> dict[str, str]:
    """The environment of compose's daemon, where `given` is set for compose."""
    environment = load("docker/compose.yaml")["services"]["daemon"]["environment"]
    variable = re.compile(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)\}")
    return {
        name: variable.sub(lambda found: given.get(found[1]) or found[2] or "", text)
        for name, text in environment.items()
    }


def test_compose_divides_a_backfill_since_it_ends_long_runs(tmp_path: Path) -> None:
    """Under compose a backfill was one run, which was ended after 24 hours and begun anew, for ever."""
    given = {"S3LOGX_FIRST_DATE": "2020-01-01", "DAGSTER_HOME": str(tmp_path)}
    assert load("docker/dagster.yaml")["run_monitoring"]["max_runtime_seconds"] == 86400
    assert Settings.read({**passed_on(**given), **given}).partitions_per_run == 30
    given["S3LOGX_PARTITIONS_PER_RUN"] = "7"
    assert Settings.read({**passed_on(**given), **given}).partitions_per_run == 7


def test_compose_passes_on_who_is_told_and_the_policy(tmp_path: Path) -> None:
    """They had no effect: nobody was told of any failed run."""
    given = {"S3LOGX_FIRST_DATE": "2020-01-01", "DAGSTER_HOME": str(tmp_path)}
    plain = Settings.read({**passed_on(**given), **given})
    assert (plain.policy, plain.alert_webhook, plain.alert_email, plain.alert_smtp) == ("strict", None, (), None)
    wanted = {
        "S3LOGX_POLICY": "compatible",
        "S3LOGX_ALERT_WEBHOOK": "https://chat.example/hooks/x",
        "S3LOGX_ALERT_EMAIL": "archive@example.org",
        "S3LOGX_ALERT_SMTP": "smtps://archive%40example.org:password@mail.example:465",
    }
    passed = passed_on(**given, **wanted)
    assert {name: passed[name] for name in wanted} == wanted
    found = Settings.read({**passed, **given})
    assert (found.policy, found.alert_webhook) == ("compatible", wanted["S3LOGX_ALERT_WEBHOOK"])


def test_compose_refers_only_to_what_there_is() -> None:
    compose = load("docker/compose.yaml")
    for name, service in compose["services"].items():
        assert set(service.get("secrets", [])) <= set(compose["secrets"]), name
        mode = service.get("network_mode")
        assert mode is None or mode.removeprefix("service:") in compose["services"]
        assert set(service.get("depends_on", [])) <= set(compose["services"])
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or source.startswith("${") or (DEPLOY / "docker" / source).exists()
    assert {secret["file"].partition("/secrets/")[0] for secret in compose["secrets"].values()} == {"."}
    assert (DEPLOY / "docker" / ".gitignore").read_text() == "secrets/\n"


_SECRET_NAME = re.compile("password|secret|key|token", re.IGNORECASE)
_MAY = re.compile(r"/run/secrets/|^\./secrets/|^\{\{resolve:|^example|^dagster-postgresql-secret$|^alias/")


@pytest.mark.parametrize("path", ["docker/compose.yaml", "celery/dagster.yaml", "celery/celery.yaml", "docker/dagster.yaml",
                                  "ecs/dagster.yaml", "kubernetes/values.yaml"])  # fmt: skip
def test_no_secret_is_written_down(path: str) -> None:
    for name, text in texts(load(path)):
        if _SECRET_NAME.search(name) and name not in ("secretName", "value"):
            assert _MAY.search(text), (path, name)
    raw = (DEPLOY / path).read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|://[^/\s]+:[^@/\s$]+@", raw)


def test_the_dockerfile_passes_its_linter() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    subprocess.run([linter, DEPLOY / "docker" / "Dockerfile"], check=True)


def test_the_image_is_of_locked_packages_and_runs_as_nobody() -> None:
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    instructions = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert "USER 10001:10001" in instructions
    installs = re.findall(r"pip install .*", text)
    assert len(installs) == 3
    assert all("--require-hashes" in words or "--no-deps" in words for words in installs)
    assert "gawk" in text
    root = DEPLOY.parent
    for words in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        for source in words.split()[:-1]:
            assert (root / source).exists(), source
    # What is copied is let through to the builder.
    allowed = [line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for words in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        for source in words.split()[:-1]:
            assert any(source == name or source.startswith(f"{name}/") for name in allowed), source


# The groups of values that the chart has, of version 1.13.
_CHART = {
    "global", "serviceAccount", "telemetry", "generatePostgresqlPasswordSecret",
    "generateCeleryConfigSecret", "postgresql", "rabbitmq", "redis", "flower", "ingress", "dagsterWebserver",
    "dagsterDaemon", "concurrency", "dagster-user-deployments", "runLauncher", "computeLogManager", "pythonLogs",
    "retention", "migrate",
}  # fmt: skip


def test_kubernetes_values_make_sound_pods() -> None:
    values = load("kubernetes/values.yaml")
    assert set(values) <= _CHART
    (code,) = values["dagster-user-deployments"]["deployments"]
    assert code["dagsterApiGrpcArgs"] == ["--module-name", "s3logx_assets.definitions"]
    assert values["ingress"]["enabled"] is False
    assert values["dagsterWebserver"]["service"]["type"] == "ClusterIP"
    for part in (values["dagsterWebserver"], values["dagsterDaemon"], code):
        image = part["image"]
        assert image["tag"] != "latest"
        assert part["podSecurityContext"]["runAsNonRoot"] is True
        assert part["securityContext"]["readOnlyRootFilesystem"] is True
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "s3logx"},
            "spec": {
                "securityContext": part["podSecurityContext"],
                "volumes": part["volumes"],
                "containers": [
                    {
                        "name": "s3logx",
                        "image": f"{image['repository']}:{image['tag']}",
                        "imagePullPolicy": image["pullPolicy"],
                        "env": part.get("env", []),
                        "envFrom": [{"secretRef": each} for each in part.get("envSecrets", [])],
                        "securityContext": part["securityContext"],
                        "volumeMounts": part["volumeMounts"],
                        "resources": part["resources"],
                    }
                ],
            },
        }
        kubernetes_validate.validate(pod, "1.33", strict=True)
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    assert launcher["securityContext"] == code["securityContext"]


def test_kubernetes_pods_write_where_they_may_and_runs_get_what_a_run_needs() -> None:
    """The chart reads `global.dagsterHome` alone, so large dates were to be put down on a read-only disk; and of what a run
    was to get the code location's share came first, a quarter of it."""
    values = load("kubernetes/values.yaml")
    (code,) = values["dagster-user-deployments"]["deployments"]
    home = values["global"]["dagsterHome"]
    for part in (values["dagsterWebserver"], values["dagsterDaemon"], code):
        assert home in [mount["mountPath"] for mount in part["volumeMounts"]]
    launcher = K8sContainerContext(resources=values["runLauncher"]["config"]["k8sRunLauncher"]["resources"])
    run = launcher.merge(K8sContainerContext(resources=code["resources"])).run_k8s_config
    assert run.container_config["resources"]["limits"] == {"memory": "8Gi"}


def test_other_namespaces_of_a_cluster_are_shut_out() -> None:
    policy = load("kubernetes/network-policy.yaml")
    kubernetes_validate.validate(policy, "1.33", strict=True)
    assert policy["spec"]["podSelector"] == {}, "all pods of the namespace"
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert policy["spec"]["ingress"] == [{"from": [{"podSelector": {}}]}]
