"""What is measured: who runs over which logs, and which figures that gives.

A ratio is of seconds, above 1 where this project is the faster one. How runs are timed is `measure`'s business.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from s3logx_tests.bench.data import BenchData
from s3logx_tests.bench.measure import Contestant, Round, middle, ratio, run_rounds

_OURS = "s3logx_tests.bench.extraction:extract"
_CHECKED = "s3logx_tests.bench.extraction:extract_and_check"
_DAGSTER = "s3logx_tests.bench.extraction:through_dagster"
_PEERS = ("polars", "duckdb", "chdb")
_CAT = "cat_wc"


@dataclass(frozen=True, slots=True)
class Measured:
    """The rounds of one measurement, the figures they give, and anything worth a line of its own."""

    title: str
    rounds: Sequence[Round]
    figures: dict[str, float]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement works with."""

    data: BenchData
    rounds: int
    scratch: Path
    tell: Callable[[str], None]

    def run(self, contestants: Sequence[Contestant], rounds: int | None = None) -> list[Round]:
        """The rounds of these contestants, who must agree on the rows."""
        warm_up = self.data.logs("warm-up")
        return run_rounds(contestants, rounds or self.rounds, self.scratch, warm_up, agree, self.tell)


def large(bench: Bench) -> Measured:
    """Few large files, against every peer."""
    logs = bench.data.logs("large")
    rounds = bench.run([*_against_peers(logs), _peer("polars_split", logs)])
    figures = _ratios("extract_large", rounds)
    figures["extract_large_vs_polars_split"] = ratio(rounds, "polars_split", "s3logx")
    figures["bytes_per_row_at_rest"] = _stored_bytes_per_row(rounds, "s3logx")
    peers = ", ".join(f"{peer} {_stored_bytes_per_row(rounds, peer):.1f}" for peer in _PEERS)
    return Measured("One date in 8 files", rounds, figures, [f"Bytes per row at rest, peers: {peers}."])


def small(bench: Bench) -> Measured:
    """The same lines in many small files, against every peer and against only reading them."""
    logs = bench.data.logs("small")
    rounds = bench.run([*_against_peers(logs), _peer(_CAT, logs)])
    figures = _ratios("extract_small", rounds)
    figures["extract_small_vs_cat_wc"] = ratio(rounds, _CAT, "s3logx")
    return Measured("The same lines in 20,000 files", rounds, figures)


def sparse(bench: Bench) -> Measured:
    """The same small files, all of one date or spread over many."""
    dense, spread = (
        Contestant("dense", _OURS, bench.data.logs("small")),
        Contestant("sparse", _OURS, bench.data.logs("sparse")),
    )
    rounds = bench.run([dense, spread])
    figures = {"extract_sparse_vs_dense": ratio(rounds, "dense", "sparse")}
    return Measured("The same lines over 2,000 dates, in one range", rounds, figures)


def upstream(bench: Bench) -> Measured:
    """Data of the shape that the upstream tool is measured on."""
    rounds = bench.run([Contestant("s3logx", _OURS, bench.data.logs("upstream"))])
    rate = middle(rounds, "s3logx", lambda sample: sample.outcome.extra["files"] / sample.seconds)
    return Measured("Like the upstream tool's benchmark", rounds, {"extract_upstream_like_files_per_second": rate})


def memory(bench: Bench) -> Measured:
    """The memory of all processes together for one huge date. Its logs are deleted afterwards."""
    try:
        rounds = bench.run([Contestant("s3logx", _OURS, bench.data.logs("huge"))], rounds=1)
    finally:
        bench.data.remove("huge")
    peak = middle(rounds, "s3logx", lambda sample: sample.peak_bytes / 1e6)
    return Measured("One date of 4 GB", rounds, {"extract_peak_memory_mb_4gb_date": peak})


def dagster(bench: Bench) -> Measured:
    """A range run through the CLI, from the start of the process to its end, against the engine alone."""
    logs = bench.data.logs("month")
    rounds = bench.run(
        [Contestant("engine", _OURS, logs), Contestant("checked", _CHECKED, logs), Contestant("cli", _DAGSTER, logs)]
    )

    def stage(name: str) -> float:
        return middle(rounds, "cli", lambda sample: sample.outcome.extra[name])

    step = stage("step_ended") - stage("step_started")
    engine, checked = (middle(rounds, name, lambda sample: sample.seconds) for name in ("engine", "checked"))
    breakdown = {
        "imports": stage("imported"),
        "definitions and creating the run": stage("run_started") - stage("imported"),
        "starting the step": stage("step_started") - stage("run_started"),
        "the engine": engine,
        "the asset checks": checked - engine,
        "events and the rest of the step": step - checked,
        "ending": stage("ended") - stage("step_ended"),
    }
    shares = ", ".join(f"{name} {seconds:.2f}" for name, seconds in breakdown.items())
    notes = [
        f"Where the seconds of the CLI run go: {shares}.",
        f"The run records {stage('events'):.0f} events, {stage('check_events'):.0f} of them of asset checks:"
        f" {(step - checked) / 30 * 1000:.0f} ms per partition.",
    ]
    return Measured(
        "30 dates through `dagster asset materialize`",
        rounds,
        {"dagster_run_30_dates_vs_engine": ratio(rounds, "engine", "cli")},
        notes,
    )


MEASUREMENTS: dict[str, Callable[[Bench], Measured]] = {
    function.__name__: function for function in (large, small, sparse, upstream, memory, dagster)
}


def _peer(name: str, logs: Path) -> Contestant:
    return Contestant(name, f"s3logx_tests.bench.peers:{name}", logs)


def _against_peers(logs: Path) -> list[Contestant]:
    return [Contestant("s3logx", _OURS, logs), *(_peer(name, logs) for name in _PEERS)]


def _ratios(prefix: str, rounds: Sequence[Round]) -> dict[str, float]:
    ratios = {f"{prefix}_vs_{peer}": ratio(rounds, peer, "s3logx") for peer in _PEERS}
    return {f"{prefix}_vs_best_peer": min(ratios.values()), **ratios}


def _stored_bytes_per_row(rounds: Sequence[Round], name: str) -> float:
    return middle(rounds, name, lambda sample: sample.outcome.extra["stored_bytes"] / sample.outcome.rows)


def agree(samples: Round) -> None:
    """Raises AssertionError unless all have the same number of rows (or of records, who only counts lines) and, where
    they wrote one table, the same rows in the same order, apart from the address, which is sealed in ours."""
    outcomes = {name: sample.outcome for name, sample in samples.items()}
    first_name, first = next(iter((name, one) for name, one in outcomes.items() if name != _CAT))
    columns = [column for column in pq.read_schema(first.table).names if "_ip" not in column] if first.table else []
    expected = _comparable(first.table, columns) if first.table else None
    for name, outcome in outcomes.items():
        if name == _CAT:
            assert outcome.rows == outcomes["s3logx"].extra["records"], f"{name} counts {outcome.rows} lines"
            continue
        assert outcome.rows == first.rows, f"{name} has {outcome.rows} rows, {first_name} has {first.rows}"
        if outcome.table and expected is not None:
            assert _comparable(outcome.table, columns).equals(expected), f"{name} and {first_name} differ in their rows"


def _comparable(table: str, columns: list[str]) -> pa.Table:
    types = {"object_key": pa.string(), "requested_at": pa.timestamp("s")}
    read = pq.ParquetFile(table).read(columns)
    return pa.table([read[name].cast(types.get(name, pa.int64())).combine_chunks() for name in columns], names=columns)
