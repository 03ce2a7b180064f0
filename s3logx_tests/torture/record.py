"""What the campaign has found so far: a row for each attack on each build, kept in a file as it ends, and the two tables.

A campaign that is cut short leaves the rows of what was done; what has no row was not done. A row counts for the sources,
of the platform and of its attack, and the options that it was made with, and for no others. How attacks are run is not told here.
"""

import ast
import hashlib
import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from s3logx_tests.torture.attack import Attack, Toll

_COLUMNS = ("attack", "tries", "lost", "doubled", "leaked", "manual steps", "seconds", "seen")
_BROKEN_COLUMNS = ("attack", "deliberately broken build", "harm done")
NOT_DONE = "not done"
_ROOT = Path(__file__).parents[2]
_SOURCES = ("awk", "s3logx_assets")
_KINDS = (".py", ".awk", ".toml")
# Also where another process is told to run it.
_MENTIONED = re.compile(r"\bs3logx_tests(?:\.\w+)+")


def terms(attack: Attack, seed: int, short: bool) -> str:
    """What stands for these options and the present sources of the platform and of an attack, with all that it imports."""
    digest = hashlib.sha256(f"{attack.name} {seed} {short}".encode())
    product = {path for folder in _SOURCES for path in (_ROOT / folder).rglob("*") if path.suffix in _KINDS}
    run = attack.run.func if isinstance(attack.run, partial) else attack.run
    for path in sorted(product | _imported(run.__module__)):
        content = path.read_bytes()
        digest.update(f"\n{path.relative_to(_ROOT)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _imported(module: str) -> set[Path]:
    """The files of a module of the tests and of those that it imports, and so on."""
    found: set[Path] = set()
    left = [module]
    while left:
        name = left.pop()
        path = _ROOT.joinpath(*name.split(".")).with_suffix(".py")
        if path.exists() and path not in found:
            found.add(path)
            text = path.read_text()
            left += _MENTIONED.findall(text)
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ImportFrom):
                    left += [f"{node.module}.{each.name}" for each in node.names]
    return found


@dataclass(frozen=True)
class Row:
    """An attack on the build as it is (`broken` is empty), or on a broken one. `broke_off`: why it did not come to its
    end, which counts as harm to the one and as nothing noticed of the other. `terms`: see there."""

    attack: str
    broken: str
    toll: Toll
    seconds: float = 0.0
    short: bool = False
    broke_off: str = ""
    terms: str = ""

    @staticmethod
    def read(words: str) -> "Row":
        """A row as `line` wrote it."""
        found: dict[str, Any] = json.loads(words)
        return Row(**{**found, "toll": Toll(**found["toll"])})

    @property
    def line(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self))

    @property
    def is_well(self) -> bool:
        """Whether no harm was done to the build as it is, or some to a broken one."""
        return not self.broke_off and bool(self.toll.harm) == bool(self.broken)


class Record:
    """The rows, also in the JSON lines of `file`, which is begun anew, or goes on with what it has where that is `kept`. Those
    of other `terms` than these of their attacks, by name, stay in the file and count for nothing."""

    def __init__(self, file: Path, kept: bool = False, terms: Mapping[str, str] | None = None) -> None:
        self._file, self._lock, self._terms = file, threading.Lock(), terms or {}
        self.rows: list[Row] = []
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.read_text().splitlines() if kept and file.exists() else []
        file.write_text("")
        for words in before:
            self._keep(Row.read(words))

    def add(self, row: Row) -> None:
        """One more row, from any thread."""
        self._keep(replace(row, terms=self._terms.get(row.attack, "")))

    def _keep(self, row: Row) -> None:
        with self._lock:
            self.rows.append(row)
            with self._file.open("a") as stream:
                stream.write(f"{row.line}\n")

    def is_well(self, wanted: Sequence[tuple[Attack, str]]) -> bool:
        """Whether all that was `wanted`, an attack and the name of its break, was done and is as it should be."""
        found = self._by_case()
        return all((row := found.get((attack.name, broken))) is not None and row.is_well for attack, broken in wanted)

    def tables(self, wanted: Sequence[tuple[Attack, str]]) -> str:
        """The table of the build as it is, and the one of broken builds."""
        found = self._by_case()
        rows, broken_rows = [], []
        for attack, broken in wanted:
            row = found.get((attack.name, broken))
            if broken:
                broken_rows.append((attack.name, broken, _noticed(row)))
            else:
                rows.append((attack.name, *_figures(row)))
        tables = [_as_markdown(_COLUMNS, rows)]
        if broken_rows:
            tables.append(_as_markdown(_BROKEN_COLUMNS, broken_rows))
        return "\n\n".join(tables)

    def _by_case(self) -> Mapping[tuple[str, str], Row]:
        with self._lock:
            return {(row.attack, row.broken): row for row in self.rows if row.terms == self._terms.get(row.attack, "")}


def _figures(row: Row | None) -> tuple[str, ...]:
    if row is None:
        return (*["-"] * 6, NOT_DONE)
    toll = row.toll
    counts = (toll.tries, toll.lost, toll.doubled, toll.leaked, toll.manual)
    seen = f"IT BROKE OFF: {row.broke_off}" if row.broke_off else toll.seen
    return (*(f"{count:,}" for count in counts), f"{row.seconds:,.0f}", seen)


def _noticed(row: Row | None) -> str:
    if row is None:
        return NOT_DONE
    if row.broke_off:
        return f"NOT NOTICED, it broke off: {row.broke_off}"
    return f"{row.toll.harm:,} in {row.toll.tries:,} tries" if row.toll.harm else "NOT NOTICED"


def _as_markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
