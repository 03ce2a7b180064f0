"""The UI, its daemon and its webserver: runs terminated from the UI, and the processes killed and started again.

Everything goes through what `make ui` starts and the requests that the UI makes. What dies with a run that was started by
hand is `crash`.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg

from s3logx_assets import automation
from s3logx_assets.run_requests import range_tags
from s3logx_tests.platform import DAILY
from s3logx_tests.torture.archive import Archive, Contents
from s3logx_tests.torture.attack import SABOTAGE, Attack, Break, Campaign, Toll
from s3logx_tests.torture.child import SESSION, processes_of
from s3logx_tests.torture.crash import at_once, outliving

_ROOT = Path(__file__).parents[2]
_PORT = 14732
_PATIENCE = 300.0  # seconds
# How long after it was asked for a run may be under way.
_SPAN = 8.0  # seconds
_STEPS = ("dates", "scopes")
_WORKSPACE = """load_from:
  - python_module:
      module_name: s3logx_tests.torture.sabotaged
      location_name: s3logx_assets
"""
_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } } }"""
_TERMINATE = """mutation($run: String!, $policy: TerminateRunPolicy!) {
  terminateRun(runId: $run, terminatePolicy: $policy) { __typename } }"""
_STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
_POLICIES = ("SAFE_TERMINATE", "MARK_AS_CANCELED_IMMEDIATELY")
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")
# What is killed, by words of the command line; nothing: all of it at once.
_VICTIMS = ("", "dagster._daemon", "dagster_webserver")


class Ui:
    """What `make ui` starts over an archive, in a session of its own."""

    def __init__(self, archive: Archive, sabotage: Callable[[], None]) -> None:
        (archive.folder / "workspace.yaml").write_text(_WORKSPACE)
        environment = {
            **os.environ,
            **archive.environment,
            "PORT": str(_PORT),
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

    def processes(self, words: str = "") -> list[int]:
        """Its processes that have `words` in their command lines."""
        found = []
        for process in processes_of(SESSION, self._process.pid):
            with suppress(OSError):
                if words in Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode():
                    found.append(process)
        return found

    def kill(self, words: str = "") -> None:
        """Kills these of its processes."""
        for process in self.processes(words):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

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
            f"http://127.0.0.1:{_PORT}/graphql", body, {"Content-Type": "application/json"}
        )

        def answered() -> Any:
            with suppress(OSError), urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                (found,) = json.load(answer)["data"].values()
                return found
            return None

        return _until(answered)

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

        return str(_until(launched))

    def status(self, run: str) -> str:
        """A run's status."""
        return str(self.ask(_STATUS, run=run)["status"])


@contextmanager
def _ui(archive: Archive, sabotage: Callable[[], None]) -> Iterator[Ui]:
    ui = Ui(archive, sabotage)
    try:
        yield ui
    finally:
        ui.end()


def terminated(campaign: Campaign) -> Toll:
    """A run is terminated from the UI at some moment, kindly or by force, and asked for again: no process of it is left, no
    table is damaged, and the sensors do the rest."""
    expected = _archive(campaign, "calm").made(_STEPS)

    def one(plan: tuple[int, float]) -> Toll:
        number, moment = plan
        archive = _archive(campaign, f"terminated-{number}")
        with _ui(archive, campaign.sabotage) as ui:
            run = ui.launch(archive)
            _until(lambda: ui.status(run) not in ("QUEUED", "NOT_STARTED") or None)
            time.sleep(moment)
            ui.ask(_TERMINATE, run=run, policy=_POLICIES[number % 2])
            _until(lambda: ui.status(run) in _ENDED or None)
            left = _left(ui)
            damaged = archive.damaged()
            again = ui.launch(archive)
            _until(lambda: ui.status(again) in _ENDED or None)
            failed = ui.status(again) != "SUCCESS"
            _caught_up(archive, expected)
        return archive.toll(expected) + Toll(lost=damaged, manual=left + failed)

    return at_once(one, _plans(campaign, 12), "kindly and by force", parallel=1)


def started_again(campaign: Campaign) -> Toll:
    """The daemon, the webserver, or all that `make ui` started, is killed at some moment after the first run was asked for,
    and `make ui` is typed again: nothing else is done, and everything is made."""
    expected = _archive(campaign, "calm").made(_STEPS)

    def one(plan: tuple[int, float]) -> Toll:
        number, moment = plan
        archive = _archive(campaign, f"again-{number}", S3LOGX_TRAILING_DATES="0")
        with _ui(archive, campaign.sabotage) as ui:
            _until(lambda: _asked_for_runs(archive) or None)
            time.sleep(moment)
            ui.kill(_VICTIMS[number % 3])
        with _ui(archive, campaign.sabotage):
            _caught_up(archive, expected)
        return archive.toll(expected)

    return at_once(one, _plans(campaign, 12), "the daemon, the webserver, all of it", parallel=1)


def _archive(campaign: Campaign, name: str, **settings: str) -> Archive:
    return Archive(campaign.folder / name, days=2, files=2, lines=25, S3LOGX_LAG_DAYS="0", **settings)


def _plans(campaign: Campaign, tries: int) -> Sequence[tuple[int, float]]:
    """Each try's number and its moment, in seconds: one in every part of the span, so that few tries see all of it too."""
    rng = random.Random(campaign.seed)
    count = 2 if campaign.short else tries
    edges = [_SPAN * number / count for number in range(count + 1)]
    moments = [rng.uniform(*edge) for edge in pairwise(edges)]
    return list(enumerate(moments))


def _asked_for_runs(archive: Archive) -> int:
    home = archive.folder / "home"
    if not (home / "dagster.yaml").exists():
        return 0
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return instance.get_runs_count()


def _left(ui: Ui) -> int:
    """Processes of a run that has ended, after some time to go."""
    words = ("execute_run", "gawk", "sleep 1000")
    deadline = time.monotonic() + 20

    def found() -> int:
        return sum(len(ui.processes(word)) for word in words)

    while found() and time.monotonic() < deadline:
        time.sleep(0.1)
    return found()


def _caught_up(archive: Archive, expected: Contents) -> None:
    """Waits until everything is as it should be; what is not in the end, the toll will tell."""
    with suppress(TimeoutError):
        _until(lambda: not archive.toll(expected).harm or None, seconds=120)


def _until(condition: Callable[[], Any], seconds: float = _PATIENCE) -> Any:
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


ATTACKS = (
    Attack("restarts: terminated from the UI", terminated, (Break("a process outlives the run", outliving),)),
    Attack(
        "restarts: daemon and webserver",
        started_again,
        (Break("what was asked for once is never asked for again", _asked_for_once),),
    ),
)
