"""Exact summaries of scopes: usage by day and asset type, by asset, by region, the requesters, and totals.

A scope is a dataset or the whole archive (core/scopes.py). All tables are counts under keys, and every row has at least
one request, so summaries form a group: they are added, and what was added can be taken off again without a trace. One
new date is added to a scope, a changed one exchanged, the provisional dates taken off for a release, always with the
very rows that counting everything anew would give. Thresholds and rounding come afterwards and elsewhere.

Counting anew goes over the rows once (core/counting.py).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.core import counting
from s3logx_assets.core.asset_types import AssetTypes
from s3logx_assets.core.concurrency import mapped
from s3logx_assets.core.counting import Choice, Counts, Growing, Requesters, chosen, gathering, nonzero
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.grouping import Codes, Measure, among, coded, ranked, run_starts, summed_runs
from s3logx_assets.core.regions import country_of
from s3logx_assets.core.schemas import BY_ASSET, BY_DAY, BY_DAY_AND_TYPE, BY_REGION, REQUESTERS, SUMMARIES, TOTALS
from s3logx_assets.core.scopes import ARCHIVE, scope_of

COUNTS = ("bytes_sent", "request_count", "download_count")
_REQUESTS = COUNTS.index("request_count")
# As date32 counts, from the first day of year 1 to the last of year 9999.
_FIRST_DAY, _DAYS = -719_162, 3_652_059
_EARLIER, _EARLIER_OF_ALL, _NOT_IN_ARCHIVE, _BITS = 4, 2, 1, 3

_Part = Counts | Requesters


@dataclass(frozen=True)
class ScopeTables:
    """The exact tables of one scope, in the schemas BY_DAY_AND_TYPE, BY_ASSET, BY_REGION and REQUESTERS.

    Each is sorted by its key, texts by UTF-8 bytes: event date and asset type, asset path, region, index. No key comes
    twice. `by_asset` is empty for the archive.
    """

    by_day_and_type: pa.Table
    by_asset: pa.Table
    by_region: pa.Table
    requesters: pa.Table

    @property
    def by_day(self) -> pa.Table:
        """The table BY_DAY: all asset types together."""
        rows = self.by_day_and_type
        event_date = rows["event_date"].combine_chunks()
        starts = run_starts(event_date.cast(pa.int32()).to_numpy().astype(np.int64))
        if not starts.size:
            return BY_DAY.empty_table()
        sums = [pa.array(np.add.reduceat(rows[name].to_numpy(), starts)) for name in COUNTS]
        return pa.table([event_date.take(pa.array(starts)), *sums], schema=BY_DAY)


# The tables by the value of `dimension` that their rows have in SUMMARIES, and their keys.
_DIMENSIONS = {
    "day": ("by_day_and_type", BY_DAY_AND_TYPE, ("event_date", "asset_type")),
    "asset": ("by_asset", BY_ASSET, ("asset_path",)),
    "region": ("by_region", BY_REGION, ("region",)),
    "requester": ("requesters", REQUESTERS, ("ip_index",)),
}
EMPTY = ScopeTables(*(schema.empty_table() for _, schema, _ in _DIMENSIONS.values()))


@dataclass(frozen=True)
class SplitTables:
    """The tables of a scope in two parts that add up to them: its newest log month, and the months before."""

    newest: ScopeTables
    earlier: ScopeTables


def summarise(
    usage: Iterable[pa.Table], scopes: Collection[str], types: AssetTypes, workers: int = 1
) -> dict[str, ScopeTables]:
    """The tables of each requested scope over DAILY_USAGE tables, in whatever order they come.

    Text columns may be dictionary-encoded, in all tables alike; that is faster. The archive covers all datasets,
    requested or not; it counts the rows with `in_archive`, and its requesters are the datasets' union. A scope without
    rows has empty tables. The result is in the order of the names. `workers`: threads.
    """
    together = ((table, "") for table in usage)
    split = summarise_split(together, dict.fromkeys(scopes, ""), types, workers)
    return {scope: tables.newest for scope, tables in split.items()}


def summarise_split(
    usage: Iterable[tuple[pa.Table, str]], months: Mapping[str, str], types: AssetTypes, workers: int = 1
) -> dict[str, SplitTables]:
    """The same in two parts: `usage` are tables with their log month, `months` the newest one of each requested scope."""
    datasets = sorted(set(months) - {ARCHIVE})
    numbers = _ScopeNumbers(datasets, months)
    merges = (Counts.merged, Counts.merged, Counts.merged, Requesters.merged)
    sums: list[Growing[Any]] = [Growing(merge) for merge in merges]

    def add(parts: tuple[_Part, ...]) -> None:
        for growing, part in zip(sums, parts, strict=True):
            growing.add(part)

    # Merging has a thread of its own, so that the next batches are read and counted meanwhile.
    for _ in mapped(add, mapped(lambda batch: _parts(batch, numbers, types), _batches(usage), workers), 1):
        pass

    def tables(kind: tuple[str, Growing[Any]]) -> list[pa.Table]:
        dimension, growing = kind
        part = _whole(dimension, growing)
        of_datasets = _by_scope(dimension, part, len(datasets), types)
        return of_datasets + _of_all(dimension, part, types) if ARCHIVE in months else of_datasets

    # Requesters take longest: begun first, they do not keep the others waiting at the end.
    last_first = reversed(list(zip(_DIMENSIONS, sums, strict=True)))
    by_dimension = list(mapped(tables, last_first, workers))[::-1]
    parts_of_scopes = [ScopeTables(*each) for each in zip(*by_dimension, strict=True)]
    scopes = [*datasets, ARCHIVE] if ARCHIVE in months else datasets
    result = dict(zip(scopes, map(SplitTables, parts_of_scopes[::2], parts_of_scopes[1::2]), strict=True))
    return {scope: result[scope] for scope in sorted(result)}


def added_up(
    terms: Sequence[tuple[int, Mapping[str, ScopeTables]]], types: AssetTypes, whole: bool = True
) -> dict[str, ScopeTables]:
    """The sum of tables by scope, each with its sign, 1 or -1; a scope that a term lacks is empty there. Rows of which
    nothing is left are gone. The result is in the order of the names.

    Raises StoreError if a sum that is to be `whole` counts less than nothing somewhere: then more was taken off than had
    been added.
    """
    scopes = sorted(set().union(*(tables for _, tables in terms)))
    number_of_scope = {scope: number for number, scope in enumerate(scopes)}
    summands = [(number_of_scope[scope], sign, tables) for sign, term in terms for scope, tables in term.items()]
    split = [_sums(dimension, summands, len(scopes), types, whole) for dimension in _DIMENSIONS]
    return {scope: ScopeTables(*tables) for scope, tables in zip(scopes, zip(*split, strict=True), strict=True)}


def flattened(tables: ScopeTables) -> pa.Table:
    """The tables of a scope as the one table that is stored (schema SUMMARIES): one row each, what is no key null."""
    parts = [SUMMARIES.empty_table()]  # the first decides the order of the columns
    for dimension, (name, _, _) in _DIMENSIONS.items():
        table = getattr(tables, name)
        parts.append(table.append_column("dimension", pa.repeat(dimension, table.num_rows)))
    rows = pa.concat_tables(parts, promote_options="permissive")
    return pa.Table.from_arrays(rows.columns, schema=SUMMARIES)


def row_counts(tables: ScopeTables) -> dict[str, int]:
    """How many rows of each dimension `flattened` makes, in their order."""
    return {dimension: getattr(tables, name).num_rows for dimension, (name, _, _) in _DIMENSIONS.items()}


def unflattened(rows: pa.Table, counts: Mapping[str, Any]) -> ScopeTables:
    """The tables that `flattened` made the rows of; the column `dimension` may be missing. Raises KeyError, TypeError and
    ValueError for `counts` that are not their row counts."""
    places = _places(rows, counts)
    tables = []
    for dimension, (_, schema, _) in _DIMENSIONS.items():
        columns = [rows[name].slice(*places[dimension]) for name in schema.names]
        tables.append(pa.Table.from_arrays(columns, schema=schema))
    return ScopeTables(*tables)


def _places(rows: pa.Table, counts: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Where the rows of each dimension begin, and how many there are."""
    sizes = [int(counts[dimension]) for dimension in _DIMENSIONS]
    if sum(sizes) != rows.num_rows or min(sizes) < 0:
        raise ValueError("the figures are of another number of rows")
    return dict(zip(_DIMENSIONS, zip(accumulate([0, *sizes[:-1]]), sizes, strict=True), strict=True))


@dataclass(frozen=True)
class Outline:
    """What the totals of a scope need of one of the parts that add up to it.

    `rows` are the numbers of rows by dimension, `sums` by the names in COUNTS, `dates` the first and the last event date,
    `regions` the distinct labels; `ip_index` (n,) ascends, `network_index` (n,) goes with it, the very same array where
    every requester is a network of its own, as mostly.
    """

    rows: Mapping[str, int]
    sums: Mapping[str, int]
    dates: tuple[date, date] | None
    regions: Collection[str]
    ip_index: npt.NDArray[np.int64]
    network_index: npt.NDArray[np.int64]

    @staticmethod
    def of(tables: ScopeTables) -> "Outline":
        """The outline of tables."""
        days = tables.by_day_and_type
        index, network = (tables.requesters[name].to_numpy() for name in ("ip_index", "network_index"))
        return Outline(
            row_counts(tables),
            {name: int(days[name].to_numpy().sum()) for name in COUNTS},
            (days["event_date"][0].as_py(), days["event_date"][-1].as_py()) if days.num_rows else None,
            tables.by_region["region"].to_pylist(),
            index,
            index if np.array_equal(index, network) else network,
        )

    @staticmethod
    def columns(figures: Mapping[str, Any]) -> list[str]:
        """The columns of what `flattened` makes that `stored` needs beside the `figures`. Raises KeyError, TypeError."""
        return ["ip_index"] if figures["alone"] else ["ip_index", "network_index"]

    @staticmethod
    def stored(rows: pa.Table, figures: Mapping[str, Any]) -> "Outline":
        """The outline of stored tables, from their `columns` and `figures`. Raises KeyError, TypeError and ValueError for
        figures that are none, or not of these rows."""
        places = _places(rows, figures["rows"])
        requesters = rows.slice(*places["requester"])
        indexes = [requesters[name].to_numpy() for name in Outline.columns(figures)]
        return Outline(
            {dimension: count for dimension, (_, count) in places.items()},
            {name: int(figures["sums"][name]) for name in COUNTS},
            figures["dates"] and (date.fromisoformat(figures["dates"][0]), date.fromisoformat(figures["dates"][1])),
            list(map(str, figures["regions"])),
            indexes[0],
            indexes[-1],
        )

    @property
    def is_alone(self) -> bool:
        """Whether every requester is a network of its own."""
        return self.network_index is self.ip_index

    @property
    def figures(self) -> dict[str, Any]:
        """What the columns do not tell, for JSON."""
        return {
            "rows": dict(self.rows),
            "sums": dict(self.sums),
            "dates": self.dates and [each.isoformat() for each in self.dates],
            "regions": list(self.regions),
            "alone": self.is_alone,
        }


def by_type_per_week(by_day_and_type: pa.Table, types: AssetTypes) -> pa.Table:
    """Bytes sent by week and asset type: `week_start` (a Monday, date32), then one int64 column per type in the order of
    the setting. `by_day_and_type`: schema BY_DAY_AND_TYPE. A week without usage has no row."""
    days = by_day_and_type["event_date"].cast(pa.int32()).to_numpy().astype(np.int64)
    week, weeks = ranked(pa.array(days - (days + 3) % 7))  # 1970-01-01, day 0, was a Thursday
    place = pc.index_in(by_day_and_type["asset_type"], value_set=pa.array(types.names)).to_numpy()
    sums = np.zeros((len(types.names), len(weeks)), np.int64)
    np.add.at(sums, (place, week), by_day_and_type["bytes_sent"].to_numpy())
    starts = weeks.cast(pa.int32()).cast(pa.date32())
    return pa.table([starts, *map(pa.array, sums)], names=["week_start", *types.names])


def totals(*parts: ScopeTables | Outline) -> pa.Table:
    """The exact totals of one scope, whose tables are the sum of `parts`: one row in the schema TOTALS.

    Regions are counted by label; countries as `country_of` finds them in the labels. A scope without rows has zeros and
    no dates.
    """
    outlines = [part if isinstance(part, Outline) else Outline.of(part) for part in parts]
    labels = set().union(*(each.regions for each in outlines))
    dates = [each.dates for each in outlines if each.dates]
    requester_count = _distinct([each.ip_index for each in outlines])
    alone = all(each.is_alone for each in outlines)
    row = {
        **{f"total_{name}": sum(each.sums[name] for each in outlines) for name in COUNTS},
        "requester_count": requester_count,
        "network_count": requester_count if alone else _distinct([np.unique(each.network_index) for each in outlines]),
        "region_count": len(labels),
        "country_count": len(set(map(country_of, labels)) - {None}),
        "first_event_date": min((first for first, _ in dates), default=None),
        "last_event_date": max((last for _, last in dates), default=None),
    }
    return pa.table([pa.array([row[field.name]], field.type) for field in TOTALS], schema=TOTALS)


def _distinct(parts: Sequence[npt.NDArray[np.int64]]) -> int:
    """How many numbers there are in ascending arrays without repetitions."""
    largest, *others = sorted(parts, key=len, reverse=True) or [np.zeros(0, np.int64)]
    rest = np.unique(np.concatenate(others)) if others else largest[:0]
    return largest.size + int(np.count_nonzero(~among(rest, largest)))


class _ScopeNumbers:
    """Numbers the requested scopes from 0, in order; all other datasets share the next number."""

    def __init__(self, scopes: list[str], months: Mapping[str, str]) -> None:
        self.count = len(scopes)
        self._months = months
        self._number_of_scope = {scope: number for number, scope in enumerate(scopes)}
        self._others = len(scopes) if ARCHIVE in months else -1
        self._scope_of_dataset: dict[str, str] = {}

    def of(self, datasets: Iterable[str]) -> Codes:
        """The number of each dataset, -1 for one that is not asked for."""
        return np.array([self._number_of_scope.get(self._scope(each), self._others) for each in datasets], np.int64)

    def earlier(self, datasets: Iterable[str], month: str) -> Codes:
        """The bits that say whether the month comes before the newest one of each dataset's scope, of the archive."""
        of_all = (self._months.get(ARCHIVE) != month) * _EARLIER_OF_ALL
        return np.array([(self._months.get(self._scope(each)) != month) * _EARLIER + of_all for each in datasets], int)

    def _scope(self, dataset: str) -> str:
        scope = self._scope_of_dataset.get(dataset)
        if scope is None:
            scope = self._scope_of_dataset[dataset] = scope_of(dataset)
        return scope


def _batches(usage: Iterable[tuple[pa.Table, str]]) -> Iterator[list[tuple[pa.Table, str]]]:
    """The tables in batches of many rows: many small dates cost as much as one."""
    waiting: list[tuple[pa.Table, str]] = []
    for table in usage:
        waiting.append(table)
        if sum(part.num_rows for part, _ in waiting) >= counting.ROWS_AT_ONCE:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _parts(
    batch: list[tuple[pa.Table, str]], numbers: _ScopeNumbers, types: AssetTypes
) -> tuple[Counts, Counts, Counts, Requesters]:
    """The batch's part of each dimension, in their order.

    Holders are the number of the scope and three bits: _EARLIER for rows before the scope's newest month, _EARLIER_OF_ALL
    for rows before the archive's, _NOT_IN_ARCHIVE for rows that the archive does not count.
    """
    rows = pa.concat_tables([table for table, _ in batch])
    dataset, datasets = coded(rows["dataset"])
    holder = _holders(batch, dataset, datasets.to_pylist(), numbers)
    outside = pc.invert(rows["in_archive"])
    if pc.any(outside, min_count=0).as_py():
        holder += outside.to_numpy() * _NOT_IN_ARCHIVE
    wanted = holder >= 0
    if not wanted.all():
        rows, holder = rows.filter(pa.array(wanted)), holder[wanted]
    measures = [rows[name].to_numpy() for name in COUNTS]
    region, regions = coded(rows["region"])
    by_region, requesters = _by_requester(holder, region, regions, rows, measures)
    return (*_by_file(holder, rows, measures, numbers.count, types), by_region, requesters)


def _holders(batch: list[tuple[pa.Table, str]], dataset: Codes, datasets: list[str], numbers: _ScopeNumbers) -> Codes:
    """The holder of each row, below zero where its dataset is not asked for."""
    shifted = numbers.of(datasets) << _BITS
    of_month = {month: shifted + numbers.earlier(datasets, month) for month in {month for _, month in batch}}
    ends = np.cumsum([table.num_rows for table, _ in batch]).tolist()
    parts = [
        of_month[month][dataset[start:end]]
        for (_, month), (start, end) in zip(batch, pairwise([0, *ends]), strict=True)
    ]
    return np.concatenate(parts)


def _by_file(
    holder: Codes, rows: pa.Table, measures: list[Measure], scope_count: int, types: AssetTypes
) -> tuple[Counts, Counts]:
    """By day and type, and by asset. Rows of one file and one day are neighbours in a date's usage, so all but the first
    look at the rows is on a fraction of them."""
    path, paths = coded(rows["asset_path"])
    day = rows["event_date"].cast(pa.int32()).to_numpy()
    starts = run_starts(holder, day, path)
    holder, path = holder[starts], path[starts]
    measures = summed_runs(measures, starts)
    of_dataset = chosen(holder < scope_count << _BITS)
    return (
        _by_day_and_type(holder, day[starts], types.classify(paths)[path], measures, types),
        Counts.of(holder[of_dataset], path[of_dataset], len(paths), paths, [m[of_dataset] for m in measures]),
    )


def _by_requester(
    holder: Codes, region: Codes, regions: pa.Array, rows: pa.Table, measures: list[Measure]
) -> tuple[Counts, Requesters]:
    """By region, and the requesters: these first, since on one date a requester is in one region."""
    index, network = (pc.fill_null(rows[name], 0).to_numpy() for name in ("ip_index", "network_index"))
    # Narrower numbers are gathered faster.
    narrow = (holder * 2 + rows["ip_index"].is_null().to_numpy()).astype(np.int32)
    order = gathering(narrow, index)
    narrow, index = narrow[order], index[order]
    starts = run_starts(narrow, index, region.astype(np.int32)[order])
    first = order[starts]
    measures = summed_runs([measure[order] for measure in measures], starts)
    holder = narrow[starts].astype(np.int64)
    known = chosen(holder & 1 == 0)
    holder >>= 1
    requesters = holder[known], index[starts][known], network[first][known], [measure[known] for measure in measures]
    return Counts.of(holder, region[first], len(regions), regions, measures), Requesters(*requesters)


def _by_day_and_type(
    holder: Codes, day: npt.NDArray[np.int32], kind: Codes, measures: list[Measure], types: AssetTypes
) -> Counts:
    """From rows with their event date, as a date32, and their type, as a place in `types.names`."""
    place = np.argsort(np.argsort(np.array(types.names, object)))  # rows are sorted by the name of the type
    code = (day - np.int64(_FIRST_DAY)) * place.size + place[kind]
    return Counts.of(holder, code, _DAYS * place.size, None, measures)


def _whole(dimension: str, growing: Growing[Any]) -> _Part | None:
    """All parts together, requesters so that `exact` can be asked of them."""
    if dimension == "requester" and (parts := growing.parts()):
        return Requesters.by_index(parts)
    part: _Part | None = growing.merged()
    return part


def _by_scope(dimension: str, part: _Part | None, scope_count: int, types: AssetTypes) -> list[pa.Table]:
    """The tables of the newest month and of the months before of the scopes 0 to scope_count - 1, in order."""
    if part is None:
        return [_DIMENSIONS[dimension][1].empty_table()] * scope_count * 2
    rows = chosen(part.holder < scope_count << _BITS)
    # The number of the scope and the bit for the earlier months.
    return _split(dimension, _taken(part, rows, part.holder[rows] // _EARLIER), scope_count * 2, types)


def _of_all(dimension: str, part: _Part | None, types: AssetTypes) -> list[pa.Table]:
    """The tables of the newest month and of the months before of the archive."""
    if part is None or dimension == "asset":
        return [_DIMENSIONS[dimension][1].empty_table()] * 2
    rows = chosen(part.holder & _NOT_IN_ARCHIVE == 0)
    earlier = (part.holder[rows] & _EARLIER_OF_ALL) // _EARLIER_OF_ALL
    return _split(dimension, _taken(part, rows, earlier), 2, types)


def _taken(part: _Part, rows: Choice, holder: Codes) -> _Part:
    return part.taken(rows, holder) if isinstance(part, Counts) else part.exact(rows, holder)


def _split(dimension: str, part: _Part, count: int, types: AssetTypes) -> list[pa.Table]:
    """The dimension's table of each of `count` holders."""
    schema = _DIMENSIONS[dimension][1]
    if isinstance(part, Requesters):
        keys = [part.index, part.network]
    elif dimension == "day":
        names = sorted(types.names)
        days = pa.array((part.code // len(names) + _FIRST_DAY).astype(np.int32)).cast(pa.date32())
        keys = [days, pa.array(names).take(pa.array(part.code % len(names)))]
    else:
        keys = [part.texts()]
    table = pa.table([*keys, *part.measures], schema=schema)
    ends = np.searchsorted(part.holder, np.arange(count + 1)).tolist()
    return [table.slice(start, end - start) for start, end in pairwise(ends)]


def _sums(
    dimension: str, summands: Sequence[tuple[int, int, ScopeTables]], scope_count: int, types: AssetTypes, whole: bool
) -> list[pa.Table]:
    """The sum of the tables of a dimension for each scope number, in order; `summands`: number, sign and tables."""
    name, schema, keys = _DIMENSIONS[dimension]
    filled = [(number, sign, table) for number, sign, tables in summands if (table := getattr(tables, name)).num_rows]
    rows = pa.concat_tables([schema.empty_table(), *(table for _, _, table in filled)])
    sizes = [table.num_rows for _, _, table in filled]
    holder = np.repeat(np.array([number for number, _, _ in filled], np.int64), sizes)
    signs = np.repeat(np.array([sign for _, sign, _ in filled], np.int64), sizes)
    measures = [rows[count].to_numpy() * signs for count in COUNTS]
    part: _Part
    if dimension == "requester":
        every = Requesters(holder, rows["ip_index"].to_numpy(), rows["network_index"].to_numpy(), measures)
        ascending = Requesters.by_index([every])
        part = ascending.exact(slice(None), ascending.holder)
    elif dimension == "day":
        kind = pc.index_in(rows["asset_type"], value_set=pa.array(types.names, pa.string())).to_numpy()
        day = rows["event_date"].cast(pa.int32()).to_numpy()
        part = _by_day_and_type(holder, day, kind, measures, types)
    else:
        code, values = ranked(rows[keys[0]])
        part = Counts.of(holder, code, len(values), values, measures)
    part = nonzero(part)
    if whole and part.holder.size and min(part.measures[_REQUESTS].min(), *(m.min() + 1 for m in part.measures)) < 1:
        raise StoreError("more is taken off a summary than was ever counted in it")
    return _split(dimension, part, scope_count, types)
