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
# The system's own calls; of these two the place is the second argument.
_MADE_LAST = ("os.link", "os.symlink")
_MAKE = ("os.mkdir", *_MADE_LAST)
_CHANGES = (*_LOCAL, "os.symlink")
_OF_BUCKET = ("put", "put_if", "copy", "remove")


class Witness:
    """Is told what becomes of files and names at _PLACES; this one does not mind."""

    def opens(self, path: str, flags: int) -> None:
        """Before a file is opened that is made if it is not there."""

    def makes(self, path: str) -> None:
        """Before a folder or a link is made."""

    def renames(self, path: str, name: str) -> None:
        """Before `path` gets another name."""

    def wrote(self, descriptor: int) -> None:
        """Before a table is written to."""

    def synced(self, descriptor: int) -> None:
        """When a file or a folder was synced."""


def watch(plan: Plan, witness: Witness | None = None) -> None:
    """From now on in this process, `plan` is called before every step at one of _PLACES, and before every change of a bucket
    and every event; then the `witness` is told."""
    from dagster import DagsterInstance

    from s3logx_assets.adapters import local_files, renames
    from s3logx_assets.adapters.s3 import Bucket

    told = witness or Witness()
    counts: Counter[str] = Counter()
    lock = threading.RLock()

    def step(kind: str) -> None:
        with lock:
            counts[kind] += 1
            plan(Step(kind, counts[kind] - 1))

    def is_watched(path: object) -> bool:
        return isinstance(path, str | os.PathLike) and any(place in os.fspath(path) for place in _PLACES)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & os.O_CREAT and is_watched(path):
                step("create")
                told.opens(os.fspath(path), flags)
        elif event in _CHANGES and is_watched(place := arguments[event in _MADE_LAST]):
            if event in _LOCAL:
                step(_LOCAL[event])
            if event == "os.rename":
                told.renames(os.fspath(place), os.fspath(arguments[1]))
            elif event in _MAKE:
                told.makes(os.fspath(place))

    class WatchedFile(io.FileIO):
        def write(self, content: Any) -> int:
            step("write")
            told.wrote(self.fileno())
            return super().write(content) or 0

    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if is_watched(os.readlink(f"/proc/self/fd/{descriptor}")):
            step("fsync")
        sync(descriptor)
        told.synced(descriptor)

    rename = renames._renamed

    def renamed(path: Path, name: Path, how: int) -> bool:
        if how == renames._NOREPLACE and is_watched(path):
            told.renames(os.fspath(path), os.fspath(name))
        return rename(path, name, how)

    def before(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def stepped(*arguments: Any, **options: Any) -> Any:
            step(kind)
            return function(*arguments, **options)

        return stepped

    sys.addaudithook(hook)
    setattr(os, "fsync", fsync)  # noqa: B010
    setattr(renames, "_renamed", renamed)  # noqa: B010  # it goes past the audit
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
