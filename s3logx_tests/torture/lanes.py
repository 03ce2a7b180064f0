"""Attacks side by side, each in a process of its own: one that computes beside one that mostly waits, so that two cores have
something to do all the time. One that takes too long is ended, with all that it started, and counts as harm.

What an attack does, and what is made of its rows, does not belong here.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from s3logx_tests.torture.attack import Attack, Toll
from s3logx_tests.torture.record import Row

# How long an attack on one build may take, in seconds.
_LIMIT, _SHORT_LIMIT = 3600.0, 900.0

Told = Callable[[Row], None]


class Lanes:
    """Runs attacks with `options` of `alone`, with temporary files below `folder`; tells each row as it comes."""

    def __init__(self, attacks: Sequence[Attack], options: Sequence[str], folder: Path, told: Told) -> None:
        self._computing = deque(attack for attack in attacks if not attack.waits)
        self._waiting = deque(attack for attack in attacks if attack.waits)
        self._options, self._told = options, told
        self._environment = {**os.environ, "TMPDIR": str(folder)}
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._ended = False

    def run(self) -> None:
        """All of them. When this is interrupted, nothing of them is left."""
        lanes = [
            threading.Thread(target=self._lane, args=order)
            for order in ((self._computing, self._waiting), (self._waiting, self._computing))
        ]
        for lane in lanes:
            lane.start()
        try:
            for lane in lanes:
                lane.join()
        except BaseException:
            self._end()
            for lane in lanes:
                lane.join()
            raise

    def _lane(self, own: deque[Attack], other: deque[Attack]) -> None:
        while (attack := self._next(own, other)) is not None:
            self._attack(attack)

    def _next(self, own: deque[Attack], other: deque[Attack]) -> Attack | None:
        with self._lock:
            if self._ended or not (own or other):
                return None
            return (own or other).popleft()

    def _attack(self, attack: Attack) -> None:
        command = [sys.executable, "-m", "s3logx_tests.torture.alone", attack.name, *self._options]
        # A session of its own: an interrupt from the terminal is for us, who then end it with all that it started.
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=self._environment, start_new_session=True)
        with self._lock:
            self._running.add(process.pid)
        assert process.stdout is not None
        limit = _SHORT_LIMIT if "--short" in self._options else _LIMIT
        broken = ["", *(fault.name for fault in attack.breaks)] if "--breaks" in self._options else [""]
        for build in broken:
            words = _line(process.stdout.fileno(), limit)
            if words.endswith("\n"):
                self._told(Row.read(words))
                continue
            if not self._ended:
                reason = "its process ended" if process.poll() is not None else f"it did not end in {limit:.0f} s"
                self._told(Row(attack.name, build, Toll(1, manual=1), limit, broke_off=reason))
            break
        end_all(process.pid)
        process.wait()
        process.stdout.close()
        with self._lock:
            self._running.discard(process.pid)

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            running = list(self._running)
        for process in running:
            end_all(process)


def _line(descriptor: int, seconds: float) -> str:
    """The next line; what there is of it when the time is over, or the other end closed."""
    deadline = time.monotonic() + seconds
    received = b""
    while not received.endswith(b"\n"):
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        byte = os.read(descriptor, 1)
        if not byte:
            break
        received += byte
    return received.decode()


def end_all(process: int) -> None:
    """Kills a process and all that descends from it."""
    while found := [*_descendants(process), *([process] if _is_running(process) else [])]:
        for one in found:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        time.sleep(0.05)


def _is_running(process: int) -> bool:
    with suppress(OSError):
        return _state(process)[0] != "Z"
    return False


def _descendants(process: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, parent = _state(int(entry.name))
                if state != "Z":
                    children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    todo = [process]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _state(process: int) -> tuple[str, int]:
    """A process's state and its parent."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1])
