"""What a measurement leaves: bench.json, flat, name -> figure; and bench.md, for reading."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from s3logx_tests.bench.measure import Round, middle
from s3logx_tests.bench.measurements import Measured

_PACKAGES = ("pyarrow", "numpy", "dagster", "polars", "duckdb", "chdb", "chdb-core", "pytricia", "maxminddb")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and under what load it was measured."""

    processor: str
    cores: int
    memory_gb: float
    load: float
    versions: str

    @staticmethod
    def here() -> "Machine":
        """This machine, now."""
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        gawk = subprocess.run(["gawk", "--version"], capture_output=True, text=True, check=True).stdout
        return Machine(
            models[0].partition(":")[2].strip() if models else platform.machine(),
            len(os.sched_getaffinity(0)),
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
            os.getloadavg()[0],
            ", ".join(
                [f"Python {platform.python_version()}", gawk.partition(",")[0]]
                + [f"{package} {version(package)}" for package in _PACKAGES]
            ),
        )


def write(folder: Path, measured: Sequence[Measured], machine: Machine, scale: float) -> None:
    """Writes both files."""
    figures = {name: round(value, 3) for item in measured for name, value in item.figures.items()}
    (folder / "bench.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    (folder / "bench.md").write_text(as_markdown(measured, machine, scale), "utf-8")


def as_markdown(measured: Sequence[Measured], machine: Machine, scale: float) -> str:
    """The figures, then each measurement with its contestants."""
    lines = [
        "# Measurements",
        "",
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gb:.0f} GB; load {machine.load:.1f} at the start,"
        f" {os.getloadavg()[0]:.1f} at the end. {machine.versions}.",
        "",
        "Contestants take turns in every round, each in a fresh process that is warmed up and whose imports do not",
        "count. Ratios are medians of the rounds' ratios, above 1 where this project is faster. Memory is the resident",
        "memory of all processes together, at its peak and (in brackets) before the step began.",
    ]
    if scale != 1:
        lines += ["", f"**Only {scale:g} of the full data: fixed costs weigh more than they should.**"]
    lines += ["", "| figure | value |", "|---|---:|"]
    lines += [f"| {name} | {value:,.2f} |" for item in measured for name, value in item.figures.items()]
    for item in measured:
        lines += ["", f"## {item.title}", "", *_table(item.rounds), *(f"\n{note}" for note in item.notes)]
    return "\n".join(lines) + "\n"


def _table(rounds: Sequence[Round]) -> list[str]:
    lines = [
        "| contestant | seconds (median) | fastest to slowest | CPU seconds | peak memory, MB | rows |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, first in rounds[0].items():
        seconds = sorted(samples[name].seconds for samples in rounds)
        lines.append(
            f"| {name} | {middle(rounds, name, lambda sample: sample.seconds):.2f}"
            f" | {seconds[0]:.2f} to {seconds[-1]:.2f}"
            f" | {middle(rounds, name, lambda sample: sample.cpu_seconds):.2f}"
            f" | {middle(rounds, name, lambda sample: sample.peak_bytes) / 1e6:,.0f}"
            f" ({middle(rounds, name, lambda sample: sample.idle_bytes) / 1e6:,.0f})"
            f" | {first.outcome.rows:,} |"
        )
    return lines
