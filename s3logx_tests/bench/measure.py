"""How a measurement is taken: rounds of contestants, each run in a process of its own, timed from within, its memory
watched from without; and what two contestants' rounds say of each other.

Who the contestants are and what they do does not belong here. Needs Linux: memory is read from /proc.
"""

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from typing import Any

ROOT = Path(__file__).parents[2]
_TICK_SECONDS = 0.02
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a contestant reports of one run. `table` is the Parquet file with its rows, where there is one file;
    `extra` holds figures of its own."""

    rows: int
    table: str | None = None
    extra: Mapping[str, float] = field(default_factory=dict)


# A work takes a folder of logs and one for its output and prepares the step, which alone is timed; the step returns
# how its outcome is found afterwards.
Step = Callable[[], Callable[[], Outcome]]
Work = Callable[[Path, Path], Step]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A work, as `module:function` (it is imported only in its own process), over a folder of logs. The name is shown
    and must be unique among those it is compared with."""

    name: str
    work: str
    logs: Path


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed run. CPU seconds include child processes; the bytes are those of all its processes together, at their
    peak and before the step began."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    idle_bytes: int
    outcome: Outcome


Round = Mapping[str, Sample]


def run_rounds(
    contestants: Sequence[Contestant],
    rounds: int,
    scratch: Path,
    warm_up: Path,
    check: Callable[[Round], None],
    tell: Callable[[str], None] = lambda line: None,
) -> list[Round]:
    """`rounds` times every contestant once, each round beginning with the next one, so that a slow minute of the
    machine hits all alike. Each first runs over the logs of `warm_up`. `check` sees the first round. Raises RuntimeError
    if a contestant fails.

    What they write stays in `scratch`: while files were deleted a moment ago, ext4 takes up to six times as long to make a
    new one (it passes over each inode freed within the last minute), and whoever came next would pay for it."""
    for folder in {contestant.logs for contestant in contestants}:
        _read_through(folder)
    done: list[Round] = []
    for number in range(rounds):
        turn = number % len(contestants)
        samples = {}
        for contestant in (*contestants[turn:], *contestants[:turn]):
            scratch.mkdir(parents=True, exist_ok=True)
            sample = _run(contestant, Path(mkdtemp(prefix=f"{contestant.name}-", dir=scratch)), warm_up)
            samples[contestant.name] = sample
            tell(
                f"  round {number + 1}  {contestant.name:14} {sample.seconds:8.2f} s  {sample.cpu_seconds:8.2f} s CPU"
                f"  {sample.peak_bytes / 1e6:7.0f} MB  {sample.outcome.rows:,} rows"
            )
        if not number:
            check(samples)
        done.append(samples)
    return done


def ratio(rounds: Sequence[Round], of: str, to: str) -> float:
    """The median, over the rounds, of the seconds of one contestant divided by those of another."""
    return median(samples[of].seconds / samples[to].seconds for samples in rounds)


def middle(rounds: Sequence[Round], name: str, value: Callable[[Sample], float]) -> float:
    """The median, over the rounds, of some value of one contestant."""
    return median(value(samples[name]) for samples in rounds)


def _read_through(folder: Path) -> None:
    """Brings the files into the page cache: disks are not what is measured."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.read_bytes()


def _run(contestant: Contestant, scratch: Path, warm_up: Path) -> Sample:
    task = [contestant.work, str(warm_up.resolve()), str(contestant.logs.resolve()), str(scratch.resolve())]
    errors = scratch / "stderr"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "s3logx_tests.bench.worker", *task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=scratch,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        memory = ProcessTree(process.pid)
        ready = process.stdout.readline()
        idle = memory.resident_bytes() if ready else 0
        peak = idle
        if ready:
            process.stdin.write(b"go\n")
            process.stdin.flush()
            while not select.select([process.stdout], [], [], _TICK_SECONDS)[0]:
                peak = max(peak, memory.resident_bytes())
        finished, answer = process.stdout.readline(), process.stdout.read()
        process.stdin.close()
    if process.returncode or not finished:
        raise RuntimeError(f"{contestant.name} failed:\n{errors.read_text('utf-8', 'replace')[-4000:]}")
    told: dict[str, Any] = json.loads(answer)
    return Sample(told["seconds"], told["cpu_seconds"], peak, idle, Outcome(**told["outcome"]))


class ProcessTree:
    """A process and all that descend from it, whenever they begin."""

    def __init__(self, root: int) -> None:
        self._parents = {root: 0}
        self._known: set[int] = set()

    def resident_bytes(self) -> int:
        """The resident memory of all members together, now. Pages that several share count for each; only a child that
        is not yet itself, and so still shows its parent's memory, counts for nothing."""
        present = {int(name) for name in os.listdir("/proc") if name.isdecimal()}
        for pid in sorted(present - self._known):
            if (parent := _parent(pid)) in self._parents:
                self._parents.setdefault(pid, parent)
        self._known = present
        sizes = {pid: _pages(pid) for pid in self._parents}
        own = (resident for pid, (size, resident) in sizes.items() if size != sizes.get(self._parents[pid], (0, 0))[0])
        return sum(own) * _PAGE_BYTES


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _pages(pid: int) -> tuple[int, int]:
    """Pages of a process: of its address space, and in memory. None once it has ended."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            size, resident, *_ = file.read().split()
            return int(size), int(resident)
    except (OSError, ValueError):
        return 0, 0
