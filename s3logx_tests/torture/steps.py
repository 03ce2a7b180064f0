"""The steps by which the platform changes what lasts, seen from within its own process: to be counted, to die at, to fail.

A step is a change of the store's, the release's or the scratch's files (made, written, synced, renamed, linked, removed),
a request that changes a bucket, or an event in Dagster's history. What happens at a step is the caller's: a plan is called
before each. A step is named by its kind, so that a broken build, which has more or fewer of another kind, has it too.
"""

import io
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple


class Step(NamedTuple):
    """The `number`th of its kind, from 0 on."""

    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind}-{self.number}".replace(" ", "-")


Plan = Callable[[Step], None]

# What paths of the store, the release and the scratch have in them.
_PLACES = ("/s3logx", "/scratch")
_LOCAL = {"os.mkdir": "mkdir", "os.rename": "rename", "os.link": "link", "os.remove": "remove", "os.rmdir": "rmdir"}
_OF_BUCKET = ("put", "put_if", "copy", "remove")


def _nothing(descriptor: int) -> None:
    pass


def watch(
    plan: Plan,
    wrote: Callable[[int], None] = _nothing,
    synced: Callable[[int], None] = _nothing,
) -> None:
    """From now on in this process, `plan` is called before every step at one of _PLACES, and before every change of a bucket
    and every event. `wrote` and `synced` get the descriptor of each file that a table was written
    to, and of each that was synced."""
    from dagster import DagsterInstance

    from s3logx_assets.adapters import local_files
    from s3logx_assets.adapters.s3 import Bucket

    counts: Counter[str] = Counter()
    lock = threading.RLock()

    def step(kind: str) -> None:
        with lock:
            counts[kind] += 1
            plan(Step(kind, counts[kind] - 1))

    def is_watched(path: object) -> bool:
        return isinstance(path, str | os.PathLike) and any(place in os.fspath(path) for place in _PLACES)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _LOCAL and is_watched(arguments[0]):
            step(_LOCAL[event])
        elif (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT and is_watched(arguments[0])
        ):
            step("create")

    class WatchedFile(io.FileIO):
        def write(self, content: Any) -> int:
            step("write")
            wrote(self.fileno())
            return super().write(content) or 0

    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if is_watched(os.readlink(f"/proc/self/fd/{descriptor}")):
            step("fsync")
        sync(descriptor)
        synced(descriptor)

    def before(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def stepped(*arguments: Any, **options: Any) -> Any:
            step(kind)
            return function(*arguments, **options)

        return stepped

    sys.addaudithook(hook)
    setattr(os, "fsync", fsync)  # noqa: B010
    setattr(local_files, "io", SimpleNamespace(FileIO=WatchedFile, BufferedWriter=io.BufferedWriter))  # noqa: B010
    for name in _OF_BUCKET:
        setattr(Bucket, name, before(getattr(Bucket, name), f"bucket {name}"))
    handle = DagsterInstance.handle_new_event

    def handle_new_event(self: DagsterInstance, entry: Any, **options: Any) -> None:
        if entry.is_dagster_event:
            step("event")
        handle(self, entry, **options)

    setattr(DagsterInstance, "handle_new_event", handle_new_event)  # noqa: B010


def die() -> None:
    """Kills the whole process group."""
    os.killpg(0, signal.SIGKILL)
    signal.pause()


@dataclass(frozen=True)
class Count:
    """Writes each step to a file, a line each."""

    file: Path

    @property
    def steps(self) -> list[Step]:
        """What it has written."""
        found = (line.rpartition(" ") for line in self.file.read_text().splitlines())
        return [Step(kind, int(number)) for kind, _, number in found]

    def __call__(self) -> None:
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        def plan(step: Step) -> None:
            os.write(descriptor, f"{step.kind} {step.number}\n".encode())

        watch(plan)


@dataclass(frozen=True)
class Die:
    """Kills the whole process group before the step `at`."""

    at: Step

    def __call__(self) -> None:
        def plan(step: Step) -> None:
            if step == self.at:
                die()

        watch(plan)


@dataclass(frozen=True)
class Fail:
    """Fails the step `at`, and every later one of its kind where the trouble is `lasting`, with an errno."""

    at: Step
    number: int
    lasting: bool = False

    def __call__(self) -> None:
        def plan(step: Step) -> None:
            if step == self.at or (self.lasting and step.kind == self.at.kind and step.number > self.at.number):
                raise OSError(self.number, os.strerror(self.number))

        watch(plan)
