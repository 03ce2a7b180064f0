"""The platform in a process group of its own, which can be killed at any moment with all that it started.

The functions that run there live here, because a process imports the module of its function. They begin from a server
that has imported everything, so that a try takes a second and not five.
"""

import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

import dagster as dg

from s3logx_assets import dagster_home
from s3logx_assets.adapters.geolocation import Geolocator
from s3logx_assets.resources import build_resources
from s3logx_assets.run_requests import FIRST, LAST
from s3logx_tests.platform import DAILY, Platform
from s3logx_tests.torture.attack import intact

# The steps of a whole run, in order.
STEPS = ("dates", "scopes", "publication")

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["pandas", "obstore", "dagster_aws.s3", "s3logx_assets.definitions", "s3logx_tests.torture.child"]
)
_PATIENCE = 1200  # seconds
# Not empty where regions come from what users have, and not from a stand-in that loads no tables.
_OWN_REGIONS: set[str] = set()
# Where /proc/PID/stat has them, behind the name.
_GROUP, SESSION = 2, 3


@dataclass(frozen=True)
class Job:
    """What a child does: `steps` of the platform in `folder` over the dates `first` to `last`. `sabotage` and then `doom`
    are called before, in the child."""

    folder: Path
    environment: dict[str, str]
    first: str
    last: str
    steps: Sequence[str] = STEPS
    sabotage: Callable[[], None] = intact
    doom: Callable[[], None] = intact


class Child:
    """A running job. All that it prints goes to `output`."""

    def __init__(self, job: Job) -> None:
        self.output = job.folder / f"output-{time.monotonic_ns()}.txt"
        self._process: BaseProcess = _CONTEXT.Process(target=_work, args=(job, self.output))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def end(self) -> int:
        """Waits for it; the exit code: 0 when every step succeeded, 1 when one failed, negative for a signal."""
        self._process.join(_PATIENCE)
        if self._process.exitcode is None:
            self.kill()
            raise AssertionError(f"a run hung for {_PATIENCE} s")
        return self._process.exitcode

    def wait(self, seconds: float) -> bool:
        """Whether it ended by itself within so many seconds."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def has_begun(self) -> bool:
        """Whether a step of a run has begun."""
        with suppress(FileNotFoundError):  # nor has the process
            return "STEP_START" in self.output.read_text()
        return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        """A signal to the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def group(self) -> list[int]:
        """The processes of its group."""
        return processes_of(_GROUP, self.pid)

    def orphans(self) -> list[int]:
        """Processes that its end left behind, after a moment to notice it."""
        deadline = time.monotonic() + 5
        while (left := self.group()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return left


def with_own_regions() -> None:
    """From now on in this process, regions are found as for users."""
    _OWN_REGIONS.add("own")


def processes_of(kind: int, number: int) -> list[int]:
    """The processes that live in a group (`_GROUP`) or a session (SESSION) of that number."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                if int(fields[kind]) == number and fields[0] != "Z":
                    found.append(int(process.name))
    return found


def _work(job: Job, output: Path) -> None:
    os.setsid()
    gc.freeze()  # what the server has imported stays as it is, and is not looked through again and again
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    # What a child inherits is the server's: signals as a shell would have them.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.environ.update(job.environment)
    job.sabotage()
    job.doom()
    try:
        done = _all_steps(job)
    except BaseException:
        traceback.print_exc()
        done = False
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if done else 1)


def _all_steps(job: Job) -> bool:
    home = Path(job.environment["DAGSTER_HOME"])
    dagster_home.make_ready(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        platform = Platform(job.folder, instance, job.environment)
        if _OWN_REGIONS:
            platform.geolocator = cast(Geolocator, build_resources(platform.settings)["geolocator"])
        run: dict[str, Callable[[], dg.ExecuteInProcessResult]] = {
            "dates": lambda: platform.daily(job.first, job.last, DAILY),
            "extraction": lambda: platform.daily(job.first, job.last, DAILY[:1]),
            "scopes": platform.update_scopes,
            "publication": platform.publish,
            "sharing": lambda: platform.materialize("shared_release"),
            "statistics": lambda: platform.materialize("statistics"),
        }
        asked: dict[str, Callable[[Platform], bool]] = {
            "asked again": partial(_asked_for, "ask_again", ("ip_regions", "region_coordinates", "daily_usage")),
            "news": partial(_asked_for, "new_log_files_sensor", DAILY),
            "inventory": _newest_snapshot,
        }
        return all(asked[step](platform) if step in asked else run[step]().success for step in job.steps)


def _asked_for(name: str, selection: Sequence[str], platform: Platform) -> bool:
    """Whether all runs over dates succeed that the sensor or schedule of this name asks for."""
    found = platform.tick(name)
    requests = [] if isinstance(found, str) else found
    return all(platform.daily(request.tags[FIRST], request.tags[LAST], selection).success for request in requests)


def _newest_snapshot(platform: Platform) -> bool:
    """Whether the runs succeed that the sensor of the inventory asks for."""
    found = platform.tick("inventory_manifest_sensor")
    requests = [] if isinstance(found, str) else found
    return all(platform.materialize("log_inventory", request.partition_key).success for request in requests)
