"""The UI, its daemon and its webserver: runs terminated from the UI, and the processes killed and started again.

Everything goes through what `make ui` starts and the requests that the UI makes. What dies with a run that was started by
hand is `crash`.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from s3logx_assets import automation, dagster_home
from s3logx_assets.assets import daily
from s3logx_assets.run_requests import range_tags
from s3logx_tests.commands import after, backfill
from s3logx_tests.platform import DAILY
from s3logx_tests.torture.archive import SCOPED, Archive, Contents
from s3logx_tests.torture.attack import SABOTAGE, Attack, Break, Campaign, Toll
from s3logx_tests.torture.child import SESSION, processes_of, with_own_regions
from s3logx_tests.torture.crash import outliving

_ROOT = Path(__file__).parents[2]
_PATIENCE = 300.0  # seconds
_WORKSPACE = """load_from:
  - python_module:
      module_name: s3logx_tests.torture.sabotaged
      location_name: s3logx_assets
"""
_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } } }"""
_TERMINATE = """mutation($run: String!, $policy: TerminateRunPolicy!) {
  terminateRun(runId: $run, terminatePolicy: $policy) { __typename } }"""
_RUNS = "{ runsOrError(limit: 50) { ... on Runs { results { runId status startTime endTime } } } }"
_POLICIES = ("SAFE_TERMINATE", "MARK_AS_CANCELED_IMMEDIATELY")
_WAITING = ("QUEUED", "NOT_STARTED", "STARTING")
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")
# What is killed, by words of the command line; nothing: all of it at once.
_VICTIMS = ("", "dagster._daemon", "dagster_webserver")


class Ui:
    """What `make ui` starts over an archive, in a session of its own."""

    def __init__(self, archive: Archive, sabotage: Callable[[], None]) -> None:
        (archive.folder / "workspace.yaml").write_text(_WORKSPACE)
        self._port = _free_port()
        environment = {
            **os.environ,
            **archive.environment,
            "PORT": str(self._port),
            "PYTHONPATH": str(_ROOT),
            SABOTAGE: f"{sabotage.__module__}:{sabotage.__name__}",
        }
        with (archive.folder / "output-of-ui").open("ab") as output:
            self._process = subprocess.Popen(
                [_ROOT / "deploy" / "local" / "ui.sh", str(Path(sys.executable).parent)],
                cwd=archive.folder,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def processes(self, words: str = "") -> set[int]:
        """Its processes that have `words` in their command lines."""
        found = set()
        for process in processes_of(SESSION, self._process.pid):
            with suppress(OSError):
                if words in Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode():
                    found.add(process)
        return found

    def kill(self, words: str = "") -> int:
        """Kills these of its processes; how many there were."""
        victims = self.processes(words)
        for process in victims:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return len(victims)

    def ends_by_itself(self) -> bool:
        """Whether the command returns within a minute."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(60)
        return self._process.returncode is not None

    def end(self) -> None:
        """Ends what is left of it."""
        deadline = time.monotonic() + 20
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.kill()
        self._process.wait()

    def ask(self, query: str, **variables: object) -> Any:
        """The answer to a request of the UI, which is tried until somebody answers."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/graphql", body, {"Content-Type": "application/json"}
        )

        def answered() -> Any:
            with suppress(OSError), urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                (found,) = json.load(answer)["data"].values()
                return found
            return None

        return until(answered)

    def launch(self, archive: Archive) -> str:
        """Asks for a run of all dates; its id."""
        tags = [{"key": key, "value": value} for key, value in range_tags(archive.days[0], archive.days[-1]).items()]
        selector = {
            "repositoryLocationName": "s3logx_assets",
            "repositoryName": "__repository__",
            "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": [name]} for name in DAILY],
        }
        params = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}}

        def launched() -> str | None:
            answer = self.ask(_LAUNCH, params=params)
            return str(answer["run"]["runId"]) if "run" in answer else None

        return str(until(launched))

    def runs(self) -> dict[str, dict[str, Any]]:
        """The latest runs, by id."""
        return {run["runId"]: run for run in self.ask(_RUNS)["results"]}

    def ended(self, run: str) -> dict[str, Any]:
        """A run when it has ended."""
        until(lambda: self.runs()[run]["status"] in _ENDED or None)
        return self.runs()[run]

    def is_busy(self) -> bool:
        """Whether any run has not ended."""
        return any(run["status"] not in _ENDED for run in self.runs().values())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def ui_over(archive: Archive, sabotage: Callable[[], None]) -> Iterator[Ui]:
    """The UI until the block ends."""
    ui = Ui(archive, sabotage)
    try:
        yield ui
    finally:
        ui.end()


def terminated(campaign: Campaign) -> Toll:
    """A late file, and a run that is terminated from the UI at some moment, kindly or by force, and asked for again, many
    times: no process of it is left, no table is damaged, the run after it makes all of it; and the sensors do the rest."""
    archive, calm = _archive(campaign, "archive"), _archive(campaign, "calm")
    rng = random.Random(campaign.seed)
    count = 2 if campaign.short else 10
    toll = Toll()
    with ui_over(archive, campaign.sabotage) as ui:
        whole = ui.ended(ui.launch(archive))
        toll += Toll(manual=whole["status"] != "SUCCESS")
        until(lambda: not ui.is_busy() or None)
        known = ui.processes()
        for number in range(count):
            for each in (archive, calm):
                each.deliver(each.days[number % 2], 5 + number)
            assert calm.run(steps=("dates",)) == 0
            run = ui.launch(archive)
            until(partial(_is_under_way, ui, run))
            # A moment in every part of a run's time, so that few tries see all of it too.
            time.sleep((number + rng.random()) / count * (whole["endTime"] - whole["startTime"]))
            ui.ask(_TERMINATE, run=run, policy=_POLICIES[number % 2])
            ui.ended(run)
            left = _left(ui, known)
            damaged = archive.damaged()
            failed = ui.ended(ui.launch(archive))["status"] != "SUCCESS"
            toll += archive.toll(calm.contents(), assets=DAILY) + Toll(lost=damaged, manual=left + failed)
        assert calm.run(steps=("dates", "scopes")) == 0
        toll += _caught_up(archive, calm.contents())
    return toll + Toll(seen=f"{count} runs, kindly and by force; then the sensors")


def started_again(campaign: Campaign) -> Toll:
    """The daemon, the webserver, or all that `make ui` started, is killed at some moment after the first run was asked for,
    and `make ui` is typed again: nothing else is done, and everything is made."""
    calm = _archive(campaign, "calm")
    assert calm.run(steps=("dates", "scopes")) == 0
    expected = calm.contents()
    rng = random.Random(campaign.seed)
    toll = Toll()
    for number in range(2 if campaign.short else 6):
        archive = _archive(campaign, f"again-{number}", S3LOGX_TRAILING_DATES="0")
        with ui_over(archive, campaign.sabotage) as ui:
            # In every other try the run is under way already: one that waits in the queue is lost in other ways.
            until(partial(_is_under_way, ui) if number % 2 == 0 else partial(_is_there, ui))
            time.sleep(rng.uniform(0, 2))
            killed = ui.kill(_VICTIMS[number % 3])
            stuck = not ui.ends_by_itself()
            if stuck:
                ui.end()
            with ui_over(archive, campaign.sabotage):
                toll += _caught_up(archive, expected) + Toll(manual=stuck + (killed == 0))
    return toll + Toll(seen="the daemon, the webserver, all of it")


def command_killed(campaign: Campaign) -> Toll:
    """A backfill that was typed beside the UI, or before it, is killed: its run, which nobody launched, is ended, and the
    sensors ask for what it left."""
    calm = _archive(campaign, "calm")
    assert calm.run(steps=("dates", "scopes")) == 0
    expected = calm.contents()
    toll = Toll()
    for number in range(1 if campaign.short else 4):
        archive = _archive(campaign, f"command-{number}", S3LOGX_TRAILING_DATES="0")
        dagster_home.make_ready(archive.folder / "home")
        with (archive.folder / "output-of-command").open("wb") as output:
            command = subprocess.Popen(
                after(_second_date_hangs, backfill(f"{archive.days[0]}...{archive.days[-1]}")),
                env={**os.environ, **archive.environment, "PYTHONPATH": str(_ROOT)},
                stdout=output,
                stderr=output,
            )
        begun = until(partial(_run_of_a_command, archive))
        if number % 2:
            command.kill()
        with ui_over(archive, campaign.sabotage) as ui:
            until(partial(_is_under_way, ui, begun))
            command.kill()
            command.wait()
            caught_up = _caught_up(archive, expected)
            ended = ui.runs()[begun]["status"] in _ENDED
            toll += caught_up + Toll(manual=not ended)
    return toll + Toll(seen=f"{toll.tries} backfills, before the UI and beside it")


def _second_date_hangs() -> None:
    """A run gets through one date, and not through the next one."""
    genuine, seen = vars(daily)["_through"], []

    def through(steps, tools, day, outcome):  # type: ignore[no-untyped-def]
        seen.append(day)
        if len(seen) > 1:
            time.sleep(_PATIENCE)
        genuine(steps, tools, day, outcome)

    vars(daily)["_through"] = through


def _run_of_a_command(archive: Archive) -> str | None:
    """The id of a run that is under way, when there is one that says which process it is in."""
    with dg.DagsterInstance.from_config(str(archive.folder / "home")) as instance:
        for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            if instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records:
                return run.run_id
    return None


def _is_there(ui: Ui) -> bool | None:
    """True when there is any run."""
    return bool(ui.runs()) or None


def _is_under_way(ui: Ui, run: str = "") -> bool | None:
    """True when that run, or any, has begun."""
    begun = [found for found, facts in ui.runs().items() if facts["status"] not in _WAITING]
    return (run in begun if run else bool(begun)) or None


def _archive(campaign: Campaign, name: str, **settings: str) -> Archive:
    archive = Archive(campaign.folder / name, days=2, files=2, lines=25, S3LOGX_LAG_DAYS="0", **settings)
    archive.terms = with_own_regions
    return archive.without_history()


def _left(ui: Ui, known: set[int]) -> int:
    """Processes beside the `known` ones when no run is under way, after some time to go."""
    deadline = time.monotonic() + 20
    while left := ui.processes() - known:
        if time.monotonic() > deadline and not ui.is_busy():
            return len(left)
        time.sleep(0.2)
    return 0


def _caught_up(archive: Archive, expected: Contents) -> Toll:
    """The toll, as soon as there is none or it has been waited for long enough."""
    assets = (*DAILY, *SCOPED)
    with suppress(TimeoutError):
        until(lambda: not archive.toll(expected, assets=assets).harm or None, seconds=120)
    return archive.toll(expected, assets=assets)


def until(condition: Callable[[], Any], seconds: float = _PATIENCE) -> Any:
    """What `condition` gives when that is not None any more. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while (found := condition()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited for {seconds:.0f} s")
        time.sleep(0.2)
    return found


def _asked_for_once() -> None:
    """What was asked for once is never asked for again."""
    genuine = vars(automation)["asked_for"]
    memory = Path(os.environ["DAGSTER_HOME"]) / "asked-for"

    def asked_for(instance, wanted, keys):  # type: ignore[no-untyped-def]
        known = set(memory.read_text().split()) if memory.exists() else set()
        new = {day: digest for day, digest in wanted.items() if f"{day}" not in known}
        if not new:
            return {"skip_reason": "asked for already"}
        memory.write_text(" ".join([*known, *map(str, new)]))
        return genuine(instance, new, keys)

    vars(automation)["asked_for"] = asked_for


def _nobody_ends_commands() -> None:
    """The run of a command whose process is gone stays."""
    vars(automation)["end_dead_commands"] = lambda instance: []


ATTACKS = (
    Attack(
        "restarts: terminated from the UI", terminated, (Break("a process outlives the run", outliving),), waits=True
    ),
    Attack(
        "restarts: daemon and webserver",
        started_again,
        (Break("what was asked for once is never asked for again", _asked_for_once),),
        waits=True,
    ),
    Attack(
        "restarts: a command that is killed",
        command_killed,
        (Break("the run of a command that was killed stays", _nobody_ends_commands),),
        waits=True,
    ),
)
