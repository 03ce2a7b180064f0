"""`python -m s3logx_tests.bench`: measures, prints what it sees, and writes build/bench.json and build/bench.md."""

import argparse
import importlib.util
import shutil
import sys
from collections.abc import Sequence

from s3logx_tests.bench.buckets import s3
from s3logx_tests.bench.data import BenchData
from s3logx_tests.bench.measure import ROOT
from s3logx_tests.bench.measurements import MEASUREMENTS, Bench, Measured
from s3logx_tests.bench.privacy import privacy
from s3logx_tests.bench.regions import regions
from s3logx_tests.bench.report import report
from s3logx_tests.bench.results import Machine, as_markdown, write
from s3logx_tests.bench.summaries import summaries

_BUILD = ROOT / "build"
_PEERS = ("polars", "duckdb", "chdb", "pytricia", "maxminddb")
_MEASUREMENTS = {
    **MEASUREMENTS,
    "s3": s3,
    "regions": regions,
    "summaries": summaries,
    "report": report,
    "privacy": privacy,
}


def main(arguments: Sequence[str]) -> int:
    """0 when everything asked for was measured."""
    parser = argparse.ArgumentParser(prog="python -m s3logx_tests.bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=_MEASUREMENTS, default=list(_MEASUREMENTS), metavar="NAME",
                        help=f"of {', '.join(_MEASUREMENTS)}")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the data; `memory` is measured at 1 only")
    chosen = parser.parse_args(arguments)
    absent = [peer for peer in _PEERS if importlib.util.find_spec(peer) is None]
    if absent:
        print(f"error: {', '.join(absent)} not installed; `make bench` installs the peers", file=sys.stderr)
        return 1
    root = _BUILD / "bench-data"
    root.mkdir(parents=True, exist_ok=True)
    scratch = _BUILD / "bench-scratch"
    shutil.rmtree(scratch, ignore_errors=True)  # of a bench that was broken off
    bench = Bench(BenchData(root, chosen.scale), chosen.rounds, scratch, _tell)
    machine = Machine.here()
    measured: list[Measured] = []
    for name in chosen.only:
        if name == "memory" and chosen.scale != 1:
            continue
        _tell(name)
        measured.append(_MEASUREMENTS[name](bench))
    shutil.rmtree(scratch, ignore_errors=True)
    write(_BUILD, measured, machine, chosen.scale)
    print(as_markdown(measured, machine, chosen.scale))
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
