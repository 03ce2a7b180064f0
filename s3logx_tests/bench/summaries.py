"""Summaries: counting everything anew against the usual engines, and one more day against counting everything anew.

Peers compute, from the same Parquet files, what a scope's tables hold: by day, by asset, by region, the distinct
requesters, of every dataset and of the archive. They stop at tables in memory, and so does `count`. `full` and `more` are
whole updates as the job `update_scopes` makes them, all files written, without Dagster's events. `more` finds one log
date that the scopes have not counted yet. What the usage looks like is `usage_data`'s business.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from s3logx_assets.adapters.memory import freed_memory_kept
from s3logx_assets.adapters.scope_state import DAILY_USAGE, DIGESTS, held_usage, serialized_groups
from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.assets import summaries as assets
from s3logx_assets.core.concurrency import mapped
from s3logx_assets.core.digests import table_digest
from s3logx_assets.core.scopes import ARCHIVE
from s3logx_assets.core.summaries import summarise
from s3logx_assets.resources import Rules
from s3logx_assets.settings import Settings
from s3logx_tests.bench.measure import Contestant, Outcome, Round, Step, middle, ratio, run_rounds
from s3logx_tests.bench.measurements import Bench, Measured
from s3logx_tests.bench.usage_data import SLOPE, UsageSpec

_MODULE = "s3logx_tests.bench.summaries"
_PEERS = ("polars", "duckdb", "pandas")
_ROWS_PER_DATE = 25_000
_DATES, _FEWER, _MORE_DATES = 400, 100, 1_600
_EVERY_DATASET = 0.5
_GLOB = "private/daily_usage/*/part-0.parquet"
_COUNTS = ("bytes_sent", "request_count", "download_count")


def summaries(bench: Bench) -> Measured:
    """10 million rows of 400 dates and 500 datasets; growth from 100 to 1,600 dates."""
    warm_up = _data(bench, 2)
    data = _data(bench, _DATES)

    def rounds_of(names: tuple[str, ...], folder: Path, rounds: int) -> list[Round]:
        contestants = [Contestant(name, f"{_MODULE}:{name}", folder) for name in names]
        return run_rounds(contestants, rounds, bench.scratch, warm_up, same_tables, bench.tell)

    rounds = rounds_of(("count", *_PEERS), data, bench.rounds)
    updates = rounds_of(("full", "more"), data, bench.rounds)
    figures = {f"summaries_full_vs_{peer}": ratio(rounds, peer, "count") for peer in _PEERS}
    figures = {"summaries_full_vs_best_peer": min(figures.values()), **figures}
    figures["summaries_one_more_day_vs_full"] = ratio(updates, "full", "more")
    figures["summaries_full_peak_mb"] = middle(updates, "full", lambda sample: sample.peak_bytes / 1e6)
    notes = [_touched("One more day", updates)]
    flat = rounds_of(("full", "more"), _data(bench, _DATES, _EVERY_DATASET), 1)
    figures["summaries_one_more_day_vs_full_all_touched"] = ratio(flat, "full", "more")
    notes.append(_touched("Where every dataset is used every day, it", flat))
    for dates in (_FEWER, _MORE_DATES):
        grown = rounds_of(("full", "more"), _data(bench, dates), 1)
        figures[f"summaries_one_more_day_vs_full_{dates}_dates"] = ratio(grown, "full", "more")
        seconds = ", ".join(f"{name} {middle(grown, name, lambda sample: sample.seconds):.2f} s" for name in grown[0])
        peak = middle(grown, "full", lambda sample: sample.peak_bytes / 1e6)
        notes.append(f"{dates:,} dates: {seconds}, peak {peak:,.0f} MB.")
    both = [{**first, **second} for first, second in zip(rounds, updates, strict=True)]
    return Measured("Summaries of 10 million rows of daily usage", both, figures, notes)


def _touched(what: str, rounds: list[Round]) -> str:
    extra = rounds[0]["more"].outcome.extra
    return f"{what} touches {extra['updated']:.0f} of {extra['scopes']:.0f} scopes."


@dataclass(frozen=True, slots=True)
class _Store:
    """Daily usage of some dates and one more, and the scopes as they are before that one."""

    folder: Path

    @property
    def last(self) -> str:
        """The folder name of the one more date."""
        return max(os.listdir(self.folder / "private" / DAILY_USAGE))

    def copied(self, out: Path, leave_out: tuple[str, ...]) -> TableStore:
        """The store with everything but the names in `leave_out`, by hard links."""
        shutil.copytree(
            self.folder / "private",
            out / "private",
            copy_function=os.link,
            ignore=lambda _, names: [name for name in names if name in leave_out],
        )
        return TableStore(out / "private")


def _data(bench: Bench, dates: int, slope: float = SLOPE) -> Path:
    """The folder with usage of so many dates and one more, made if need be."""
    rows = max(1, round(_ROWS_PER_DATE * bench.data.scale))
    folder = bench.data.root / f"usage-{rows}-{dates}-{slope:g}"
    if not (folder / "whole").exists():
        shutil.rmtree(folder, ignore_errors=True)
        store = TableStore(folder / "private")
        for day, table in UsageSpec(rows * (dates + 1), dates + 1, slope).tables():
            record = {"data_version": table_digest(table)}
            store.write(DAILY_USAGE, f"log_date={day}", table, record, {DIGESTS: serialized_groups(table)})
        last = folder / "private" / DAILY_USAGE / _Store(folder).last
        last.rename(folder / "last")
        _update(store)
        (folder / "last").rename(last)
        (folder / "whole").touch()
    return folder


def _rules() -> Rules:
    here = Path.cwd()
    cores = len(os.sched_getaffinity(0))
    first = UsageSpec(0, 1).first_date
    return Rules(Settings(home=here, logs=here, first_date=first, store=here, workers=cores))


def _update(store: TableStore) -> tuple[int, int]:
    """Updates all scopes; how many were, of how many."""
    rules = _rules()
    with held_usage(store) as usage:
        found = assets.plan_of(usage, rules)
        return sum(1 for _ in assets.bring_up_to_date(usage, rules, found)), len(found.versions)


def full(data: Path, out: Path) -> Step:
    """An update of a store whose scopes were never counted."""
    source = _Store(data)
    store = source.copied(out, ("summaries", "totals", "summarised_usage", source.last))
    return _updating(store)


def more(data: Path, out: Path) -> Step:
    """An update of a store that has one more date than its scopes have counted."""
    return _updating(_Store(data).copied(out, ()))


def _updating(store: TableStore) -> Step:
    def step() -> Callable[[], Outcome]:
        updated, scopes = _update(store)
        return lambda: Outcome(updated, extra={"updated": updated, "scopes": scopes})

    return step


def count(data: Path, out: Path) -> Step:
    """This project, as far as the peers go."""
    source = _Store(data)
    store, rules = TableStore(data / "private"), _rules()
    names = sorted(os.listdir(data / "private" / DAILY_USAGE))
    scopes = [name.removeprefix("scope=") for name in os.listdir(data / "private" / "summaries")]

    def read(name: str) -> pa.Table:
        return store.read(DAILY_USAGE, name, encoded=("dataset", "asset_path", "region"))

    def step() -> Callable[[], Outcome]:
        usage = mapped(read, [name for name in names if name != source.last], rules.settings.workers)
        with freed_memory_kept():
            tables = summarise(usage, scopes, rules.asset_types, rules.settings.workers)
        archive = tables.pop(ARCHIVE)
        found = {
            "day": [each.by_day for each in tables.values()],
            "asset": [each.by_asset for each in tables.values()],
            "region": [each.by_region for each in tables.values()],
            "requester": [each.requesters for each in tables.values()],
            "all_day": [archive.by_day],
            "all_region": [archive.by_region],
            "all_requester": [archive.requesters],
        }
        return lambda: _outcome({name: pa.concat_tables(each) for name, each in found.items()})

    return step


_GROUPS: dict[str, tuple[str, ...]] = {
    "day": ("dataset", "event_date"),
    "asset": ("dataset", "asset_path"),
    "region": ("dataset", "region"),
    "requester": ("dataset", "ip_index"),
    "all_day": ("event_date",),
    "all_region": ("region",),
    "all_requester": ("ip_index",),
}


def _files(data: Path) -> list[str]:
    last = _Store(data).last
    return sorted(str(path) for path in data.glob(_GLOB) if path.parent.name != last)


def polars(data: Path, out: Path) -> Step:
    """All groupings in one lazy query, so that the files are read once."""
    import polars as engine

    files = _files(data)

    def step() -> Callable[[], Outcome]:
        rows = engine.scan_parquet(files, hive_partitioning=False)
        sums = [engine.col(name).sum() for name in _COUNTS]
        queries = [
            rows.select(keys).unique() if "ip_index" in keys else rows.group_by(keys).agg(sums)
            for keys in _GROUPS.values()
        ]
        found = engine.collect_all(queries)
        return lambda: _outcome({name: frame.to_arrow() for name, frame in zip(_GROUPS, found, strict=True)})

    return step


def duckdb(data: Path, out: Path) -> Step:
    """One query a grouping, over a table in memory that has the columns in use."""
    import duckdb as engine

    files = _files(data)

    def step() -> Callable[[], Outcome]:
        connection = engine.connect()
        columns = ", ".join(["dataset", "event_date", "asset_path", "region", "ip_index", *_COUNTS])
        connection.execute(f"create table u as select {columns} from read_parquet(?, hive_partitioning=false)", [files])  # noqa: S608
        sums = ", ".join(f"sum({name})::bigint as {name}" for name in _COUNTS)
        found = {}
        for name, keys in _GROUPS.items():
            what = f"distinct {', '.join(keys)}" if "ip_index" in keys else f"{', '.join(keys)}, {sums}"
            end = "" if "ip_index" in keys else " group by all"
            found[name] = connection.execute(f"select {what} from u{end}").to_arrow_table()  # noqa: S608
        return lambda: _outcome(found)

    return step


def pandas(data: Path, out: Path) -> Step:
    """One frame of all files, texts as categories."""
    import pandas as engine
    import pyarrow.parquet as pq

    files = _files(data)
    columns = ["dataset", "event_date", "asset_path", "region", "ip_index", *_COUNTS]

    def step() -> Callable[[], Outcome]:
        texts = ["dataset", "asset_path", "region"]
        tables = [pq.ParquetFile(file, read_dictionary=texts).read(columns) for file in files]
        frame = pa.concat_tables(tables).unify_dictionaries().to_pandas(date_as_object=False)
        found = {}
        for name, keys in _GROUPS.items():
            if "ip_index" in keys:
                found[name] = frame[list(keys)].drop_duplicates()
            else:
                grouped = frame.groupby(list(keys), observed=True, sort=False)
                found[name] = grouped[list(_COUNTS)].sum().reset_index()
        return lambda: _outcome(
            {name: pa.Table.from_pandas(cast(Any, engine).DataFrame(each)) for name, each in found.items()}
        )

    return step


def _outcome(tables: dict[str, pa.Table]) -> Outcome:
    sums = {
        f"{name} {column}": float(sum(table[column].to_pylist()) % (1 << 50))
        for name, table in tables.items()
        if "requester" not in name
        for column in _COUNTS
    }
    rows = {f"{name} rows": float(table.num_rows) for name, table in tables.items()}
    return Outcome(int(sum(rows.values())), extra={**sums, **rows})


def same_tables(samples: Round) -> None:
    """Raises AssertionError unless all who count found as many rows in each table, and the same sums."""
    found = {name: sample.outcome.extra for name, sample in samples.items() if "scopes" not in sample.outcome.extra}
    first = next(iter(found.values()), None)
    for name, extra in found.items():
        assert extra == first, f"{name} found other tables"
