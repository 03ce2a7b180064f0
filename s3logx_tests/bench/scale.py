"""`python -m s3logx_tests.bench.scale`: time and cost against terabytes and machines, as docs/scale.md.

Small runs are measured (`--measure`, processor time, so that a busy machine does not matter) and kept in `scale.json` beside
this module; a model is fitted to them; backfills that nobody can run here are simulated with it, date by date. What cannot
be measured here (how far S3 is, what a machine costs) is an assumption, said in the document.
"""

import argparse
import heapq
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np

from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.sample_logs import SampleSpec, generate
from s3logx_tests.bench.measure import ROOT
from s3logx_tests.commands import UPDATE_SCOPES, backfill

MEASURED = Path(__file__).with_name("scale.json")
DOCUMENT = ROOT / "docs" / "scale.md"
# Of the distributed test: what PostgreSQL took for each date, and the daemon for each run.
DISTRIBUTED = ROOT / "build" / "distributed.json"

# One thing grows from each to the first: dates, objects, bytes.
_RUNS = {
    "few dates": SampleSpec(days=4, files=40, lines=2_000, plain=True),
    "more dates": SampleSpec(days=40, files=40, lines=2_000, plain=True),
    "more objects": SampleSpec(days=4, files=4_000, lines=8_000, plain=True),
    "more bytes": SampleSpec(days=4, files=40, lines=400_000, plain=True),
}
YEARS = 10
DATES = 365 * YEARS
DATES_A_RUN = 30
TERABYTES = (1, 10, 100)
MACHINES = (1, 2, 10, 50)


@dataclass(frozen=True)
class Run:
    """A measured run of the daily assets, and of the scopes after it."""

    dates: int
    objects: int
    megabytes: float
    seconds: float
    scopes_seconds: float
    usage_rows: int
    history_kilobytes: float


@dataclass(frozen=True)
class Model:
    """Processor seconds of the platform for each thing there is to do, kilobytes of history, rows of usage."""

    a_run: float
    a_date: float
    an_object: float
    a_megabyte: float
    a_scopes_run: float
    a_million_usage_rows: float
    usage_rows_a_megabyte: float
    history_kilobytes_a_date: float
    database_a_date: float
    daemon_a_run: float


@dataclass(frozen=True)
class Assumptions:
    """What is not measured here."""

    object_kilobytes: float = 25.0
    cores: int = 2
    # Of two cores, since reading, parsing and writing do not overlap everywhere.
    efficiency: float = 0.8
    fetched_at_once: int = 64
    seconds_to_s3: float = 0.05
    start_seconds: float = 90.0
    database_cores: int = 2
    # Dates differ: sigma of the logarithm of a date's bytes.
    spread: float = 1.0


# List prices in US dollars, us-east-1, on demand, as known in November 2026; to be looked up again before they are relied on.
PRICES = {
    "Fargate, vCPU hour": 0.04048,
    "Fargate, GB hour": 0.004445,
    "S3, 1,000 GET": 0.0004,
    "S3, 1,000 PUT or LIST": 0.005,
    "S3, GB month": 0.023,
    "RDS db.t4g.small, hour": 0.032,
    "RDS storage, GB month": 0.115,
    "interface endpoint, hour": 0.01,
    "secret, month": 0.40,
}
_HOURS_A_MONTH = 730
_RUN_GB, _PLATFORM_VCPU, _PLATFORM_GB, _ENDPOINTS, _SECRETS = 8, 1, 4, 7, 2
_TABLE_REQUESTS_A_DATE = 25  # what one date's tables take of PUT and LIST


def fit(runs: Mapping[str, Run], distributed: Mapping[str, float]) -> Model:
    """The model that goes through the measured runs; nothing costs less than nothing."""
    found = list(runs.values())
    known = np.array([[1, run.dates, run.objects, run.megabytes] for run in found])
    costs = np.linalg.lstsq(known, np.array([run.seconds for run in found]), rcond=None)[0].clip(min=0)
    few, more, large = runs["few dates"], runs["more dates"], runs["more bytes"]
    rows = large.usage_rows - few.usage_rows
    a_run, a_date, an_object, a_megabyte = map(float, costs)
    return Model(
        a_run=a_run,
        a_date=a_date,
        an_object=an_object,
        a_megabyte=a_megabyte,
        a_scopes_run=few.scopes_seconds,
        a_million_usage_rows=max((large.scopes_seconds - few.scopes_seconds) / rows * 1e6, 0.0),
        usage_rows_a_megabyte=large.usage_rows / large.megabytes,
        history_kilobytes_a_date=(more.history_kilobytes - few.history_kilobytes) / (more.dates - few.dates),
        database_a_date=distributed["database_seconds_a_date"],
        daemon_a_run=distributed["daemon_seconds_a_run"],
    )


@dataclass(frozen=True)
class Simulated:
    """A backfill of ten years that was simulated: hours in all, and of the whole work what each part took."""

    hours: float
    machine_hours: float
    scopes_hours: float
    parts: Mapping[str, float]
    dollars: float

    @property
    def bottleneck(self) -> str:
        """What it waited for most."""
        return max(self.parts, key=lambda name: self.parts[name])


def simulate(model: Model, given: Assumptions, terabytes: float, machines: int) -> Simulated:
    """A backfill of ten years on so many machines, date by date: the daemon starts one run after the other, a machine takes the
    next run when it is free, and all share one database."""
    megabytes = _sizes(terabytes * 1e6, given.spread)
    parts = dict.fromkeys(("starting", "fetching objects", "parsing and writing", "event log", "summaries"), 0.0)
    runs = [megabytes[first : first + DATES_A_RUN] for first in range(0, DATES, DATES_A_RUN)]
    # (when, machine, what comes then, the dates that are left of its run)
    events: list[tuple[float, int, str, list[float]]] = [(0.0, machine, "go on", []) for machine in range(machines)]
    database = launched = busy = end = 0.0
    while events:
        now, machine, what, left = heapq.heappop(events)
        if what == "record":
            # The date's events, behind those of the dates that were earlier.
            ready = database = max(now, database) + model.database_a_date / given.database_cores
            parts["event log"] += ready - now
            heapq.heappush(events, (ready, machine, "go on", left))
            end = max(end, ready)
        elif left:
            fetching, working = _date(model, given, left[0])
            ready = now + max(fetching, working)
            parts["fetching objects" if fetching > working else "parsing and writing"] += ready - now
            heapq.heappush(events, (ready, machine, "record", left[1:]))
        elif runs:
            launched += model.daemon_a_run
            now = max(now, launched)
            ready = now + given.start_seconds + model.a_run / (given.cores * given.efficiency)
            parts["starting"] += ready - now
            heapq.heappush(events, (ready, machine, "go on", runs.pop(0)))
        else:
            continue
        busy += ready - now
    scopes = (
        model.a_scopes_run + terabytes * model.usage_rows_a_megabyte * model.a_million_usage_rows
    ) / given.efficiency
    # The summaries are made by one machine, while the others have gone.
    parts["summaries"] = scopes * machines
    return Simulated(
        hours=(end + scopes) / 3600,
        machine_hours=(busy + scopes) / 3600,
        scopes_hours=scopes / 3600,
        parts=parts,
        dollars=_once(given, terabytes, (busy + scopes) / 3600),
    )


def _date(model: Model, given: Assumptions, megabytes: float) -> tuple[float, float]:
    """The seconds that a date's objects take to come, and those that the machine works meanwhile."""
    objects = megabytes * 1000 / given.object_kilobytes
    working = model.a_date + objects * model.an_object + megabytes * model.a_megabyte
    return objects / given.fetched_at_once * given.seconds_to_s3, working / (given.cores * given.efficiency)


def _sizes(total: float, spread: float) -> list[float]:
    """Each date's megabytes: a few are large. Always the same ones."""
    rng = random.Random(0)
    weights = [rng.lognormvariate(0, spread) for _ in range(DATES)]
    return [weight * total / sum(weights) for weight in weights]


def _once(given: Assumptions, terabytes: float, machine_hours: float) -> float:
    objects = terabytes * 1e9 / given.object_kilobytes
    listed = objects / 1000 + DATES * _TABLE_REQUESTS_A_DATE
    machine = given.cores * PRICES["Fargate, vCPU hour"] + _RUN_GB * PRICES["Fargate, GB hour"]
    return (
        machine_hours * machine
        + objects / 1000 * PRICES["S3, 1,000 GET"]
        + listed / 1000 * PRICES["S3, 1,000 PUT or LIST"]
    )


def month(model: Model, given: Assumptions, terabytes: float) -> dict[str, float]:
    """What a month costs afterwards, with a tenth of a year's logs coming in each (the archive is ten years old)."""
    coming = terabytes / YEARS / 12
    objects = coming * 1e9 / given.object_kilobytes
    speed = given.cores * given.efficiency
    seconds = max(
        coming * 1e6 * model.a_megabyte / speed + objects * model.an_object / speed,
        objects / given.fetched_at_once * given.seconds_to_s3,
    )
    # Ten runs a day over late dates and scopes.
    hours = (seconds + 300 * (given.start_seconds + model.a_run / speed)) / 3600
    machine = given.cores * PRICES["Fargate, vCPU hour"] + _RUN_GB * PRICES["Fargate, GB hour"]
    platform = _PLATFORM_VCPU * PRICES["Fargate, vCPU hour"] + _PLATFORM_GB * PRICES["Fargate, GB hour"]
    history = DATES * model.history_kilobytes_a_date / 1e6
    store = terabytes * 1e6 * 0.1 * 0.25 / 1e3  # a tenth of the bytes are rows kept, in a quarter of their size
    return {
        "platform": platform * _HOURS_A_MONTH,
        "runs": hours * machine,
        "database": PRICES["RDS db.t4g.small, hour"] * _HOURS_A_MONTH
        + max(20.0, history) * PRICES["RDS storage, GB month"],
        "endpoints and secrets": _ENDPOINTS * PRICES["interface endpoint, hour"] * _HOURS_A_MONTH
        + _SECRETS * PRICES["secret, month"],
        "requests": objects / 1000 * PRICES["S3, 1,000 GET"]
        # Two looks a minute at seven dates.
        + (7 * 2 * 60 * 730 + objects / 1000) / 1000 * PRICES["S3, 1,000 PUT or LIST"],
        "store": store * PRICES["S3, GB month"],
    }


def measure() -> dict[str, Run]:
    """The runs, each a process of its own over a bucket of a server of this machine."""
    from s3logx_tests.s3_server import s3_server

    found = {}
    with tempfile.TemporaryDirectory(prefix="scale-") as name, s3_server(Path(name) / "server") as server:
        for number, (title, spec) in enumerate(_RUNS.items()):
            print(title, file=sys.stderr, flush=True)
            logs, home, bucket = Path(name) / f"logs-{number}", Path(name) / f"home-{number}", f"scale-{number}"
            home.mkdir()
            summary = generate(spec, logs, force=True)
            server.make_bucket(bucket)
            paths = [path for path in logs.rglob("*") if path.is_file()]
            server.put(bucket, {f"logs/{path.relative_to(logs)}": path.read_bytes() for path in paths})
            environment = {
                **os.environ,
                **server.environment(),
                "DAGSTER_HOME": str(home),
                "DAGSTER_DISABLE_TELEMETRY": "1",
                "S3LOGX_LOGS": f"s3://{bucket}/logs",
                "S3LOGX_FIRST_DATE": spec.first_date.isoformat(),
            }
            last = spec.first_date + timedelta(days=spec.days - 1)
            seconds = _processor(backfill(f"{spec.first_date}...{last}"), environment)
            history = sum(path.stat().st_size for path in (home / "history").rglob("*") if path.is_file())
            scopes = _processor(UPDATE_SCOPES, environment)
            store = TableStore(home / "s3logx" / "private")
            days = [f"log_date={day}" for day in store.partitions("daily_usage", "log_date")]
            found[title] = Run(
                dates=spec.days,
                objects=summary.files,
                megabytes=round(summary.bytes / 1e6, 1),
                seconds=round(seconds, 1),
                scopes_seconds=round(scopes, 1),
                usage_rows=sum(store.read("daily_usage", day).num_rows for day in days),
                history_kilobytes=round(history / 1e3),
            )
    return found


def _processor(words: Sequence[str], environment: Mapping[str, str]) -> float:
    """The processor seconds of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", *words], env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def distributed_figures(found: Mapping[str, object]) -> dict[str, float]:
    """Of a result of the distributed test: the database's seconds for each date, the daemon's for each run."""
    measured = found["two_workers"]
    assert isinstance(measured, dict)
    dates = float(str(found["measured_dates"]))
    seconds = measured["processor_seconds"]
    return {
        "database_seconds_a_date": round(seconds["PostgreSQL"] / dates, 3),
        "daemon_seconds_a_run": round(seconds["daemon"] / measured["runs"], 2),
    }


def document(kept: Mapping[str, Mapping[str, object]]) -> str:
    """docs/scale.md."""
    runs = {title: Run(**run) for title, run in kept["runs"].items()}  # type: ignore[arg-type]
    figures = {name: float(str(value)) for name, value in kept["distributed"].items()}
    model, given = fit(runs, figures), Assumptions()
    return _TEXT.format(
        measured=_table(
            ["run", "dates", "objects", "MB", "processor s", "scopes s", "usage rows"],
            [
                [
                    title,
                    run.dates,
                    f"{run.objects:,}",
                    f"{run.megabytes:,.1f}",
                    run.seconds,
                    run.scopes_seconds,
                    f"{run.usage_rows:,}",
                ]
                for title, run in runs.items()
            ],
        ),
        model=_table(["what", "costs"], _costs(model)),
        assumed=_assumed(given),
        backfill=_table(
            ["logs", "machines", "hours", "of that summaries", "dollars, once", "waits most for"],
            [
                _row(simulate(model, given, size, machines), size, machines)
                for size in TERABYTES
                for machines in MACHINES
            ],
        ),
        larger=_table(
            ["logs", "machines", "hours", "waits most for"],
            [
                [f"{size} TB", 10, _hours(found.hours), found.bottleneck]
                for size in TERABYTES
                for found in [simulate(model, Assumptions(object_kilobytes=1000), size, 10)]
            ],
        ),
        month=_table(
            ["logs", *month(model, given, 1), "sum"],
            [
                [f"{size} TB", *(f"{value:,.0f}" for value in parts.values()), f"{sum(parts.values()):,.0f}"]
                for size in TERABYTES
                for parts in [month(model, given, size)]
            ],
        ),
        prices=_table(["price", "US dollars"], [[name, f"{price:g}"] for name, price in PRICES.items()]),
        history=f"{DATES * model.history_kilobytes_a_date / 1e6:.1f}",
        database=f"{DATES * model.database_a_date / given.database_cores / 60:.0f}",
        rate=f"{given.database_cores / model.database_a_date:.1f}",
        fetch=f"{given.fetched_at_once / given.seconds_to_s3:,.0f}",
        summaries=f"{simulate(model, given, 100, 50).scopes_hours:.1f}",
    )


def _row(found: Simulated, size: float, machines: int) -> list[object]:
    hours, scopes = _hours(found.hours), _hours(found.scopes_hours)
    return [f"{size} TB", machines, hours, scopes, f"{found.dollars:,.0f}", found.bottleneck]


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours < 100 else f"{hours:,.0f}"


def _costs(model: Model) -> list[list[object]]:
    return [
        ["a run", f"{model.a_run:.1f} s"],
        ["a date: its tables, checks and events", f"{model.a_date:.2f} s"],
        ["1,000 objects", f"{model.an_object * 1000:.2f} s"],
        ["1 GB", f"{model.a_megabyte * 1000:.1f} s"],
        ["1 million rows of daily usage in the scopes", f"{model.a_million_usage_rows:.1f} s"],
        ["a date, in PostgreSQL", f"{model.database_a_date:.2f} s"],
        ["a run, in the daemon", f"{model.daemon_a_run:.1f} s"],
        ["a date's history (SQLite)", f"{model.history_kilobytes_a_date:.0f} kB"],
    ]


def _assumed(given: Assumptions) -> str:
    return (
        f"log objects of {given.object_kilobytes:g} kB, {YEARS} years of dates of uneven size, {DATES_A_RUN} dates a run, "
        f"machines of {given.cores} cores as fast as the one that was measured and used to {given.efficiency:.0%}, "
        f"{given.fetched_at_once} requests to S3 at once of {given.seconds_to_s3 * 1000:.0f} ms each, "
        f"{given.start_seconds:.0f} s until a task has started, a database with {given.database_cores} cores"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_TEXT = """# How it scales

Made by `make scale`: four small runs are measured, a model is fitted to them, and backfills of ten years are simulated with it,
date by date. What is simulated has not been run. Trust the ratios and the order of things, not the last digit.

## Measured

Processor seconds on a machine with two cores, logs in a bucket of a server on the same machine:

{measured}

From these, and from `make test-distributed` (whose database shares the cores with everything else, so that it looks dearer than it is;
the cost of the scopes is a difference near what can be measured):

{model}

## Simulated

Assumed: {assumed}.

{backfill}

The same with log objects of 1 MB, as a busy bucket has them:

{larger}

Each further machine shortens a backfill until what all share is the longest part. In the order in which that happens:

1. **Fetching small objects.** A machine fetches about {fetch} objects a second, however many cores it has: what counts is the
   number of objects, not their size. More machines help, to the last; dates a run (`S3LOGX_PARTITIONS_PER_RUN`) must be few enough
   that there are more runs than machines.
2. **The event log.** Dagster opens a connection for nearly every event, and a date has about 26 of them: {database} minutes of the
   whole backfill, on however many machines; with this database no more than {rate} dates a second. Its history takes about {history} GB.
   What to do: a database with more cores, then a pool of connections beside it.
3. **Summaries.** One process counts them, for all scopes together: {summaries} hours for 100 TB the first time, if usage grows with the
   logs as in the sample; each day afterwards adds what is new. What to do: a larger machine for that one run (`ecs/cpu`,
   `ecs/memory` as tags of the job `update_scopes`), fewer scopes, or usage by coarser `S3LOGX_DATASET_LEVEL`.
4. **Listing** is no bottleneck: a date is listed by the beginning of its keys, a thousand keys a request. The sensor looks at
   the last `S3LOGX_TRAILING_DATES` alone; older dates come by an Inventory.

One very large date is one step on one machine: it bounds from below what any number of machines can do.

## Cost on Amazon ECS

Dollars a month after the backfill, everything of `deploy/ecs` included, without taxes and without the storage of the logs themselves
(a tenth of the logs' bytes taken as rows that are kept):

{month}

Assumed list prices, us-east-1, on demand, as known in November 2026; look them up again before relying on them. Spot capacity for
runs costs about a third, and a run that is taken away is started again.

{prices}
"""


def main(arguments: Sequence[str]) -> int:
    """0 when the document is written."""
    parser = argparse.ArgumentParser(prog="python -m s3logx_tests.bench.scale", description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure anew, which takes some minutes")
    chosen = parser.parse_args(arguments)
    kept = json.loads(MEASURED.read_text()) if MEASURED.exists() else {"runs": {}, "distributed": {}}
    if chosen.measure:
        kept["runs"] = {title: asdict(run) for title, run in measure().items()}
        if DISTRIBUTED.exists():
            kept["distributed"] = distributed_figures(json.loads(DISTRIBUTED.read_text()))
        MEASURED.write_text(json.dumps(kept, indent=2) + "\n")
    if not kept["distributed"]:
        print("error: run `make test-distributed` first; it measures the database", file=sys.stderr)
        return 1
    DOCUMENT.write_text(document(kept))
    print(DOCUMENT.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
