"""What an attack is, what it costs, and the broken builds that show it can fail.

An attack does its worst to the platform, many times, and counts. A break is a change of the product's code, made in the
process that runs it, that takes away one protection: an attack that finds nothing against its broken builds proves
nothing about the real one. What the attacks do lies in the modules beside this one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Names the function, MODULE:FUNCTION, that breaks the build in processes which start from nothing; see `sabotaged`.
SABOTAGE = "S3LOGX_TORTURE_SABOTAGE"


@dataclass(frozen=True)
class Toll:
    """What an attack cost: rows or files that were lost, that were counted twice, places where something secret was found,
    and steps that a person would have to take: a second command, a file or a process to remove, a message that does not
    name its cause. `seen` tells what was tried, in a few words."""

    tries: int = 0
    lost: int = 0
    doubled: int = 0
    leaked: int = 0
    manual: int = 0
    seen: str = ""

    def __add__(self, other: "Toll") -> "Toll":
        return Toll(
            self.tries + other.tries,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.leaked + other.leaked,
            self.manual + other.manual,
            self.seen or other.seen,
        )

    @property
    def harm(self) -> int:
        """All that should be zero."""
        return self.lost + self.doubled + self.leaked + self.manual


@dataclass(frozen=True)
class Break:
    """A broken build: `name` tells what was taken away, `apply` takes it away from the process that calls it."""

    name: str
    apply: Callable[[], None]


def intact() -> None:
    """The build as it is."""


@dataclass(frozen=True)
class Both:
    """Calls one, then the other."""

    first: Callable[[], None]
    second: Callable[[], None]

    def __call__(self) -> None:
        self.first()
        self.second()


@dataclass(frozen=True)
class Campaign:
    """One attack's terms: a folder of its own; `short`: as many tries as a test has time for, chosen by `seed`;
    `sabotage` is what breaks the build, in every process that runs it."""

    folder: Path
    short: bool
    seed: int = 0
    sabotage: Callable[[], None] = intact


@dataclass(frozen=True)
class Attack:
    """An attack by name. Each of `breaks` is one that it must notice. `waits`: most of its time nothing is computed."""

    name: str
    run: Callable[[Campaign], Toll]
    breaks: Sequence[Break]
    waits: bool = False
