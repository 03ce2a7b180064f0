"""The stack for Amazon ECS: its linter, who may do what by it, that nothing of it can be reached, and the launcher's way to
RunTask, against a server of this machine that speaks AWS's protocol.
"""

import fnmatch
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT, JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from moto.server import ThreadedMotoServer

from s3logx_assets.settings import Settings
from s3logx_tests.http_service import Service, json_answer, running_service

ECS = Path(__file__).parents[2] / "deploy" / "ecs"
PARAMETERS = {
    "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/s3logx:0.1.0",
    "LogsBucket": "logs",
    "LogsPrefix": "access/",
    "StoreBucket": "store",
    "StorePrefix": "s3logx",
    "FirstDate": "2020-01-01",
    "MasterKeySecret": "arn:aws:secretsmanager:us-east-1:123456789012:secret:key",
    "DatesPerRun": 30,
    "AlarmTopic": "arn:aws:sns:us-east-1:123456789012:alarms",
    "RunCpu": 2048,
    "RunMemory": 8192,
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "123456789012",
    "AWS::StackName": "s3logx",
}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML with CloudFormation's functions, whose names are kept."""


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {suffix: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _function)


def resolved(value: Any) -> Any:
    """A part of the template with the parameters filled in; what the stack makes is called by its name there."""
    if isinstance(value, dict):
        if set(value) == {"Ref"}:
            return PARAMETERS.get(value["Ref"], f"<{value['Ref']}>")
        if set(value) == {"GetAtt"}:
            return f"<{value['GetAtt']}>"
        if set(value) == {"If"}:
            condition, then, otherwise = value["If"]
            given = {"HasLogsPrefix": "LogsPrefix", "SomebodyIsTold": "AlarmTopic"}[condition]
            return resolved(then if PARAMETERS[given] else otherwise)
        if set(value) == {"Sub"}:
            text = value["Sub"]
            if isinstance(text, list):
                text = text[0]
            for name, each in PARAMETERS.items():
                text = text.replace(f"${{{name}}}", str(each))
            return text
        return {name: resolved(inner) for name, inner in value.items() if resolved(inner) != "<AWS::NoValue>"}
    return [resolved(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    return stack_of_parameters()


def stack_of_parameters() -> dict[str, Any]:
    template = yaml.load((ECS / "template.yaml").read_text(), _Loader)  # noqa: S506 a SafeLoader with names
    return {
        name: {**found, "Properties": resolved(found["Properties"])} for name, found in template["Resources"].items()
    }


def test_the_linter_has_nothing_to_say() -> None:
    linter = Path(sys.executable).parent / "cfn-lint"
    command = [str(linter), "--regions", "us-east-1", "eu-central-1", "--", str(ECS / "template.yaml")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_somebody_is_told_of_a_platform_that_is_down(stack: dict[str, Any]) -> None:
    """The alarm went off in the console, where nobody looked."""
    alarm = stack["PlatformDown"]["Properties"]
    assert alarm["AlarmActions"] == alarm["OKActions"] == [PARAMETERS["AlarmTopic"]]


@dataclass(frozen=True)
class Asked:
    """A request that a policy is asked about."""

    action: str
    resource: str
    prefix: str | None = ""


def allows(policy: dict[str, Any], asked: Asked) -> bool:
    """Whether a policy of allowances lets a request through, as far as these policies go."""

    def many(value: Any) -> list[str]:
        return value if isinstance(value, list) else [value]

    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        if not any(fnmatch.fnmatchcase(asked.action, each) for each in many(statement["Action"])):
            continue
        if not any(fnmatch.fnmatchcase(asked.resource, each) for each in many(statement["Resource"])):
            continue
        prefixes = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
        if prefixes is None:
            return True
        if asked.prefix is not None and any(fnmatch.fnmatchcase(asked.prefix, each) for each in many(prefixes)):
            return True
    return False


LOGS, STORE = "arn:aws:s3:::logs", "arn:aws:s3:::store"
YES = [
    Asked("s3:ListBucket", LOGS, "access/2025-03-01"),
    Asked("s3:ListBucket", LOGS, "access/"),
    Asked("s3:GetObject", f"{LOGS}/access/2025-03-01-00-00-00-AA"),
    Asked("s3:ListBucket", STORE, "s3logx/private/"),
    Asked("s3:GetObject", f"{STORE}/s3logx/private/x"),
    Asked("s3:PutObject", f"{STORE}/s3logx/public/latest.json"),
    Asked("s3:PutObject", f"{STORE}/s3logx/compute-logs/x"),
    Asked("s3:DeleteObject", f"{STORE}/s3logx/private/lock"),
]
NO = [
    Asked("s3:PutObject", f"{LOGS}/access/x"),
    Asked("s3:DeleteObject", f"{LOGS}/access/x"),
    Asked("s3:GetObject", f"{LOGS}/elsewhere/x"),
    Asked("s3:ListBucket", LOGS, ""),
    Asked("s3:ListBucket", LOGS, "elsewhere/"),
    Asked("s3:GetObject", f"{STORE}/other/x"),
    Asked("s3:PutObject", f"{STORE}/s3logx-other/x"),
    Asked("s3:ListBucket", STORE, ""),
    Asked("s3:PutBucketPolicy", STORE),
    Asked("s3:PutObjectAcl", f"{STORE}/s3logx/public/x"),
    Asked("s3:GetObject", "arn:aws:s3:::third/x"),
    Asked("secretsmanager:GetSecretValue", str(PARAMETERS["MasterKeySecret"])),
    Asked("ecs:RunTask", "<RunTask>"),
    Asked("iam:PassRole", "<RunRole.Arn>"),
]


def test_a_run_reads_logs_and_writes_the_store_and_does_nothing_else(stack: dict[str, Any]) -> None:
    run = stack["RunRole"]["Properties"]
    assert run["ManagedPolicyArns"] == ["<DataPolicy>"]
    assert "Policies" not in run
    policy = stack["DataPolicy"]["Properties"]["PolicyDocument"]
    assert [asked for asked in YES if not allows(policy, asked)] == []
    assert [asked for asked in NO if allows(policy, asked)] == []
    actions = {
        each
        for one in policy["Statement"]
        for each in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
    }
    assert all(action.startswith("s3:") and "*" not in action for action in actions)


@pytest.mark.parametrize(
    ("prefix", "listed", "not_listed"),
    [
        ("access/", ["access/", "access/2025-"], ["", "access-x/", None]),
        ("access-", ["access-", "access-2025-", "access-2025/03/01/"], ["", "access", None]),
        ("", ["", "2025-", "2025/03/01/", None], []),
    ],
)
def test_the_logs_may_be_listed_by_every_prefix_there_can_be(
    prefix: str, listed: list[str | None], not_listed: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`access-`, which the template names as an example, was listed by a request for all of the bucket, which its policy denied,
    as it did without a prefix: a condition on what a request does not have is not met."""
    monkeypatch.setitem(PARAMETERS, "LogsPrefix", prefix)
    policy = stack_of_parameters()["DataPolicy"]["Properties"]["PolicyDocument"]
    assert [each for each in listed if not allows(policy, Asked("s3:ListBucket", LOGS, each))] == []
    assert [each for each in not_listed if allows(policy, Asked("s3:ListBucket", LOGS, each))] == []
    assert allows(policy, Asked("s3:GetObject", f"{LOGS}/{prefix}2025-03-01-00-00-00-AA"))


def test_the_platform_starts_runs_of_its_own_definition_and_passes_no_other_role(stack: dict[str, Any]) -> None:
    start, forward = stack["PlatformRole"]["Properties"]["Policies"]
    everywhere = set()
    for one in (*start["PolicyDocument"]["Statement"], *forward["PolicyDocument"]["Statement"]):
        actions = [one["Action"]] if isinstance(one["Action"], str) else one["Action"]
        assert not any("*" in action for action in actions)
        if one["Resource"] == "*":
            everywhere |= set(actions)
    # What AWS lets nobody confine: looking, and the channel of the port forwarding.
    assert {action for action in everywhere if not action.startswith("ssmmessages:")} == {
        "ecs:DescribeTaskDefinition",
        "ec2:DescribeNetworkInterfaces",
    }
    policy = start["PolicyDocument"]
    assert allows(policy, Asked("ecs:RunTask", "<RunTask>"))
    assert not allows(policy, Asked("ecs:RunTask", "another"))
    assert allows(policy, Asked("iam:PassRole", "<RunRole.Arn>"))
    assert not allows(policy, Asked("iam:PassRole", "<PlatformRole.Arn>"))
    assert not allows(policy, Asked("ecs:RegisterTaskDefinition", "*"))


def test_secrets_are_read_by_the_execution_role_alone(stack: dict[str, Any]) -> None:
    (policy,) = stack["ExecutionRole"]["Properties"]["Policies"]
    document = policy["PolicyDocument"]
    assert allows(document, Asked("secretsmanager:GetSecretValue", str(PARAMETERS["MasterKeySecret"])))
    assert not allows(document, Asked("secretsmanager:GetSecretValue", "another"))
    assert not any(allows(document, asked) for asked in YES)
    assert stack["ExecutionRole"]["Properties"] != stack["RunRole"]["Properties"]
    for task in ("RunTask", "PlatformTask"):
        for container in stack[task]["Properties"]["ContainerDefinitions"]:
            assert {secret["Name"] for secret in container["Secrets"]} == {"S3LOGX_KEY", "S3LOGX_PG_PASSWORD"}
            assert not {"S3LOGX_KEY", "S3LOGX_PG_PASSWORD"} & {each["Name"] for each in container["Environment"]}


def test_nothing_can_be_reached(stack: dict[str, Any]) -> None:
    kinds = {found["Type"] for found in stack.values()}
    assert (
        not {"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::ElasticLoadBalancingV2::LoadBalancer"} & kinds
    )
    service = stack["Platform"]["Properties"]
    assert service["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] == "DISABLED"
    assert service["DeploymentConfiguration"] == {"MinimumHealthyPercent": 0, "MaximumPercent": 100}
    assert "SecurityGroupIngress" not in stack["TaskSecurityGroup"]["Properties"]
    for name in ("EndpointSecurityGroup", "DatabaseSecurityGroup"):
        (rule,) = stack[name]["Properties"]["SecurityGroupIngress"]
        assert rule["SourceSecurityGroupId"] == "<TaskSecurityGroup>"
    assert stack["Database"]["Properties"]["PubliclyAccessible"] is False
    assert stack["Database"]["Properties"]["StorageEncrypted"] is True
    assert stack["Vpc"]["Properties"]["EnableDnsHostnames"] is True
    for container in stack["PlatformTask"]["Properties"]["ContainerDefinitions"]:
        assert "PortMappings" not in container
        words = container["Command"]
        assert "--host" not in words or words[words.index("--host") + 1] == "127.0.0.1"
        assert container["User"] == "10001:10001"
        # SSM's agent, which forwards the port, writes into the one container that has it.
        assert container["ReadonlyRootFilesystem"] is (container["Name"] != "webserver")


def test_all_containers_have_the_settings_that_the_configuration_asks_for(stack: dict[str, Any]) -> None:
    def asked_for(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for name, inner in value.items():
                if name == "env":
                    yield inner
                else:
                    yield from asked_for(inner)

    wanted = set(asked_for(yaml.safe_load((ECS / "dagster.yaml").read_text())))
    for task in ("RunTask", "PlatformTask"):
        for container in stack[task]["Properties"]["ContainerDefinitions"]:
            has = {each["Name"] for each in (*container["Environment"], *container["Secrets"])}
            # A run starts no other.
            assert wanted - has <= ({"S3LOGX_RUN_TASK_DEFINITION"} if task == "RunTask" else set())
            values = {each["Name"]: str(each["Value"]) for each in container["Environment"]}
            found = Settings.read({**values, "S3LOGX_KEY": "A" * 43 + "=", "DAGSTER_HOME": "/var/lib/s3logx"})
            assert str(found.logs) == "s3://logs/access/"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that speaks AWS's protocol, found by the environment."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    endpoint = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    yield endpoint
    server.stop()


@pytest.fixture
def metadata() -> Iterator[Service]:
    """What a container of ECS asks about itself."""
    with running_service() as service:
        yield service


def test_the_launcher_runs_a_task_of_the_stacks_definition_in_its_own_network(
    aws: str, metadata: Service, stack: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecs, ec2 = boto3.client("ecs"), boto3.client("ec2")
    ecs.create_cluster(clusterName="platform")
    vpc = ec2.create_vpc(CidrBlock="198.51.100.0/24")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="198.51.100.0/26")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="tasks", Description="tasks", VpcId=vpc)["GroupId"]
    definition = _registered(ecs, stack["RunTask"]["Properties"])
    platform = _registered(ecs, {**stack["PlatformTask"]["Properties"], "Cpu": "1024"})
    network = {"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": [group], "assignPublicIp": "DISABLED"}}
    (own,) = ecs.run_task(
        cluster="platform", taskDefinition=platform, launchType="FARGATE", networkConfiguration=network
    )["tasks"]
    metadata.answers(json_answer({"Cluster": own["clusterArn"], "TaskARN": own["taskArn"], "Name": "daemon"}))
    monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", metadata.url)
    monkeypatch.setenv("S3LOGX_RUN_TASK_DEFINITION", definition)

    config = yaml.safe_load((ECS / "dagster.yaml").read_text())
    overrides = {"run_launcher": config["run_launcher"], "telemetry": {"enabled": False}}
    with dg.instance_for_test(temp_dir=str(tmp_path), overrides=overrides) as instance:
        run, context = _a_run(instance)
        instance.run_launcher.launch_run(context)
        started = instance.get_run_by_id(run.run_id)
        assert started is not None
        (task,) = ecs.describe_tasks(cluster="platform", tasks=[started.tags["ecs/task_arn"]])["tasks"]
        assert instance.run_launcher.check_run_worker_health(started).status.value == "RUNNING"
    assert task["taskDefinitionArn"] == definition
    (override,) = task["overrides"]["containerOverrides"]
    assert override["name"] == "run"
    assert override["command"][:3] == ["dagster", "api", "execute_run"]
    assert run.run_id in json.dumps(override["command"])
    assert not override.get("environment"), "settings and secrets come with the definition, not with the request"
    details = {each["name"]: each["value"] for attachment in task["attachments"] for each in attachment["details"]}
    assert details["subnetId"] == subnet
    tags = {tag["key"]: tag["value"] for tag in ecs.list_tags_for_resource(resourceArn=task["taskArn"])["tags"]}
    assert tags["dagster/run_id"] == run.run_id


def _registered(ecs: Any, properties: dict[str, Any]) -> str:
    """A task definition of the template at the server; its ARN."""

    def lower(value: Any) -> Any:
        if isinstance(value, dict):
            return {name[:1].lower() + name[1:]: lower(inner) for name, inner in value.items()}
        return [lower(inner) for inner in value] if isinstance(value, list) else value

    wanted = ("family", "networkMode", "cpu", "memory", "requiresCompatibilities")
    request = {name: value for name, value in lower(properties).items() if name in wanted}
    request |= {"cpu": str(request["cpu"]), "memory": str(request["memory"])}
    containers = [
        {"name": container["Name"], "image": container["Image"], "memory": int(container["Memory"])}
        for container in properties["ContainerDefinitions"]
    ]
    found = ecs.register_task_definition(**request, containerDefinitions=containers)
    return str(found["taskDefinition"]["taskDefinitionArn"])


def _a_run(instance: dg.DagsterInstance) -> tuple[dg.DagsterRun, LaunchRunContext]:
    """A run of our graph over a date, as the daemon would launch it."""
    job = "daily_dates"
    target = LoadableTargetOrigin(executable_path="python", module_name="s3logx_assets.definitions")
    location = InProcessCodeLocationOrigin(target, location_name="s3logx_assets")
    repository = RepositoryPythonOrigin(
        "python",
        ModuleCodePointer("s3logx_assets.definitions", "defs", None),
        entry_point=DEFAULT_DAGSTER_ENTRY_POINT,
    )
    run = create_run_for_test(
        instance,
        job_name=job,
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job),
        job_code_origin=JobPythonOrigin(job, repository),
    )
    return run, LaunchRunContext(run, workspace=None)
