"""One run of one contestant, in a process of its own: `worker WORK WARM_UP_LOGS LOGS SCRATCH`.

Imports the work and runs it over the warm-up logs; says `ready`; on the answer runs it over the logs, says `done` and
reports, as JSON, its outcome and what it took. What is imported and what is prepared costs nothing: only the step is timed.
"""

import importlib
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from s3logx_tests.bench.measure import Work


def main(work_name: str, warm_up: str, logs: str, scratch: str) -> None:
    """Runs one contestant; the answers go to standard output, and nothing else does."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, function = work_name.partition(":")
    work: Work = getattr(importlib.import_module(module), function)
    work(Path(warm_up), _folder(scratch, "warm-up"))()()
    step = work(Path(logs), _folder(scratch, "run"))
    print("ready", file=answers, flush=True)
    sys.stdin.readline()
    cpu_start, start = _cpu_seconds(), time.perf_counter()
    report = step()
    seconds, cpu_seconds = time.perf_counter() - start, _cpu_seconds() - cpu_start
    print("done", file=answers, flush=True)
    json.dump({"seconds": seconds, "cpu_seconds": cpu_seconds, "outcome": asdict(report())}, answers)
    answers.close()


def _folder(scratch: str, name: str) -> Path:
    folder = Path(scratch) / name
    folder.mkdir()
    return folder


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main(*sys.argv[1:])
