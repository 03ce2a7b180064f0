"""Policy `strict` at the size of a large archive: 500 datasets, 2,000 days in weeks, 200 regions, through engine and attacker.

There is no peer; what counts is the time of a history and of a week, and that memory does not grow with the history.
"""

import json
import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.core.privacy.strict import RELEASED, WAITING, Rule, tell
from s3logx_assets.core.privacy.truth import findings_in
from s3logx_tests.bench.measure import Contestant, Outcome, Round, Step, middle, run_rounds
from s3logx_tests.bench.measurements import Bench, Measured

_DATASETS, _WEEKS, _REGIONS, _FILES, _PEOPLE = 500, 286, 200, 100, 20_000
_ROWS = 60_000  # of a week: a person's requests for a file on a day are one
_FIRST = date(2019, 1, 6)
_EFFORT = 500  # as the release does


def privacy(bench: Bench) -> Measured:
    """The whole history, once; and the same through the engine alone."""
    folders = [bench.data.root / f"privacy-{weeks}" for weeks in (2, max(2, round(_WEEKS * bench.data.scale)))]
    for folder in folders:
        folder.mkdir(exist_ok=True)
        (folder / "weeks.json").write_text(folder.name.rpartition("-")[2])
    warm_up, data = folders
    contestants = [
        Contestant("engine", "s3logx_tests.bench.privacy:engine", data),
        Contestant("engine and attacker", "s3logx_tests.bench.privacy:engine_and_attacker", data),
    ]
    rounds = run_rounds(contestants, 1, bench.scratch, warm_up, _same, bench.tell)
    both = "engine and attacker"
    seconds = middle(rounds, both, lambda sample: sample.seconds)
    extra = rounds[0][both].outcome.extra
    figures = {
        "privacy_history_seconds": seconds,
        "privacy_week_seconds": seconds / float(data.name.rpartition("-")[2]),
        "privacy_engine_share": middle(rounds, "engine", lambda sample: sample.seconds) / seconds,
        "privacy_peak_mb": middle(rounds, both, lambda sample: sample.peak_bytes / 1e6),
        "privacy_rows_million": extra["rows"] / 1e6,
        "privacy_told_share": extra["told"],
    }
    return Measured(f"Policy strict: {data.name.rpartition('-')[2]} weeks of {_DATASETS} datasets", rounds, figures)


def engine(data: Path, out: Path) -> Step:
    """`tell`, week by week."""
    return _step(data, 0)


def engine_and_attacker(data: Path, out: Path) -> Step:
    """The same, and the attacker on each week."""
    return _step(data, _EFFORT)


def _step(data: Path, effort: int) -> Step:
    weeks = json.loads((data / "weeks.json").read_text())
    rule = Rule()

    def step() -> Callable[[], Outcome]:
        waiting = None
        cells = rows = told_rows = 0
        for until, usage in _usage(weeks):
            usage = usage if waiting is None else pa.concat_tables([usage, waiting])
            told = tell(usage, rule, until, lambda name: random.Random(name).random(), until - timedelta(weeks=52))
            if effort:
                assert not list(findings_in(usage, told, rule.people, effort)), "the attacker found something"
            waiting = usage.filter(pc.equal(told.fate, WAITING))
            rows += _ROWS
            cells += told.cells.num_rows
            told_rows += pc.sum(pc.equal(told.fate, RELEASED)).as_py()
        return lambda: Outcome(cells, extra={"rows": float(rows), "told": told_rows / rows})

    return step


def _usage(weeks: int) -> Iterator[tuple[date, pa.Table]]:
    """Each week's last day and usage; few datasets, people and files make most of it."""
    rng = np.random.default_rng(11)
    datasets = pa.array([f"ds{number:06}" for number in range(_DATASETS)])
    files = pa.array([f"sub-{number % 20:02}/ses-{number:03}.nwb" for number in range(_FILES)])
    regions = pa.array(
        [f"{chr(65 + number % 26)}{chr(65 + number // 26)}/Region {number}" for number in range(_REGIONS)]
    )
    sizes = (10 ** rng.uniform(3, 10, (_DATASETS, _FILES))).astype(np.int64)
    networks = rng.integers(-(2**62), 2**62, _PEOPLE)
    for week in range(weeks):
        dataset = (rng.pareto(0.7, _ROWS) * 5).astype(np.int64) % _DATASETS
        file = (rng.pareto(0.8, _ROWS) * 3).astype(np.int64) % _FILES
        person = (rng.pareto(0.5, _ROWS) * 20).astype(np.int64) % _PEOPLE
        requests = rng.integers(1, 5, _ROWS)
        downloads = rng.integers(0, requests + 1)
        start = _FIRST + timedelta(1 + 7 * week)
        days = (np.datetime64(start) + rng.integers(0, 7, _ROWS)).astype("datetime64[D]")
        until = start + timedelta(6)
        yield (
            until,
            pa.table(
                {
                    "dataset": datasets.take(pa.array(dataset)),
                    "asset_path": files.take(pa.array(file)),
                    "event_date": pa.array(days, pa.date32()),
                    "region": regions.take(pa.array(person % _REGIONS)),
                    "network_index": pa.array(networks[person]),
                    "request_count": pa.array(requests),
                    "download_count": pa.array(downloads),
                    "bytes_sent": pa.array(sizes[dataset, file] * downloads + rng.integers(0, 1000, _ROWS)),
                    "since": pa.repeat(pa.scalar(until, pa.date32()), _ROWS),
                }
            ),
        )


def _same(samples: Round) -> None:
    assert len({sample.outcome.rows for sample in samples.values()}) == 1, "the attacker changes what is told"
