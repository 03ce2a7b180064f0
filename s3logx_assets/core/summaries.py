"""Exact summaries of scopes: usage by day and asset type, by asset, by region, the requesters, and totals.

A scope is a dataset or the whole archive (core/scopes.py). All tables are counts under keys, and every row has at least
one request, so summaries form a group: they are added, and what was added can be taken off again without a trace. One
new date is added to a scope, a changed one exchanged, the provisional dates taken off for a release, always with the
very rows that counting everything anew would give. Thresholds and rounding come afterwards and elsewhere.

Counting anew goes over the rows once: batches are reduced to one row per scope and key, and these reductions are merged
now and then, so memory follows the size of the result and not the number of rows or dates.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.core.asset_types import AssetTypes
from s3logx_assets.core.concurrency import mapped
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.grouping import Codes, Measure, among, coded, ranked, ranks, reduced, run_starts
from s3logx_assets.core.regions import country_of
from s3logx_assets.core.schemas import BY_ASSET, BY_DAY, BY_DAY_AND_TYPE, BY_REGION, REQUESTERS, SUMMARIES, TOTALS
from s3logx_assets.core.scopes import ARCHIVE, scope_of

COUNTS = ("bytes_sent", "request_count", "download_count")
_REQUESTS = COUNTS.index("request_count")
_ROWS_AT_ONCE = 1 << 19
# As date32 counts, from the first day of year 1 to the last of year 9999.
_FIRST_DAY, _DAYS = -719_162, 3_652_059
_EARLIER, _EARLIER_OF_ALL, _NOT_IN_ARCHIVE, _BITS = 4, 2, 1, 3


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
    reductions = [_Reduction() for _ in _DIMENSIONS]
    for parts in mapped(lambda batch: _parts(batch, numbers, types), _batches(usage), workers):
        for reduction, part in zip(reductions, parts, strict=True):
            reduction.add(part)
    kinds = list(zip(_DIMENSIONS, mapped(_Reduction.merged, reductions, workers), strict=True))
    split = mapped(lambda kind: list(_by_scope(*kind, len(datasets), types)), kinds, workers)
    tables = [ScopeTables(*each) for each in zip(*split, strict=True)]
    result = {scope: SplitTables(*tables[2 * number : 2 * number + 2]) for number, scope in enumerate(datasets)}
    if ARCHIVE in months:
        split = mapped(lambda kind: list(_of_all(*kind, types)), kinds, workers)
        result[ARCHIVE] = SplitTables(*(ScopeTables(*each) for each in zip(*split, strict=True)))
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
    split = [list(_sums(dimension, summands, len(scopes), types, whole)) for dimension in _DIMENSIONS]
    return {scope: ScopeTables(*tables) for scope, tables in zip(scopes, zip(*split, strict=True), strict=True)}


def flattened(tables: ScopeTables) -> pa.Table:
    """The tables of a scope as the one table that is stored (schema SUMMARIES): one row each, what is no key null."""
    named = [getattr(tables, name) for name, _, _ in _DIMENSIONS.values()]
    sizes = [table.num_rows for table in named]
    dimensions = pa.array(list(_DIMENSIONS)).take(pa.array(np.repeat(np.arange(len(sizes)), sizes)))
    columns = [dimensions]
    for field in SUMMARIES.remove(0):
        chunks: list[pa.Array] = []
        for table, size in zip(named, sizes, strict=True):
            if field.name in table.schema.names:
                chunks += table.column(field.name).chunks
            else:
                chunks.append(pa.nulls(size, field.type))
        columns.append(pa.concat_arrays(chunks))
    return pa.table(columns, schema=SUMMARIES)


def unflattened(rows: pa.Table) -> ScopeTables:
    """The tables that `flattened` made the rows of; columns that are missing are null. Raises StoreError where the rows
    are not in their order."""
    runs = pc.run_end_encode(rows["dimension"].combine_chunks())
    order, ends = runs.values.to_pylist(), runs.run_ends.to_pylist()
    if order != [dimension for dimension in _DIMENSIONS if dimension in order]:
        raise StoreError("the rows of a summary are not in the order of their dimensions")
    found = dict(zip(order, pairwise([0, *ends]), strict=True))
    there = set(rows.schema.names)
    tables = []
    for dimension, (_, schema, _) in _DIMENSIONS.items():
        start, end = found.get(dimension, (0, 0))
        columns = [
            rows.column(field.name).slice(start, end - start)
            if field.name in there
            else pa.chunked_array([pa.nulls(end - start, field.type)])
            for field in schema
        ]
        tables.append(pa.table(columns, schema=schema))
    return ScopeTables(*tables)


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


def totals(*parts: ScopeTables) -> pa.Table:
    """The exact totals of one scope, whose tables are the sum of `parts`: one row in the schema TOTALS.

    Regions are counted by label; countries as `country_of` finds them in the labels. A scope without rows has zeros and
    no dates. Asset paths and types are not looked at.
    """
    labels = {label for part in parts for label in part.by_region["region"].to_pylist()}
    dates = [part.by_day_and_type["event_date"] for part in parts if part.by_day_and_type.num_rows]
    requesters = [part.requesters["ip_index"].to_numpy() for part in parts]
    networks = [part.requesters["network_index"].to_numpy() for part in parts]
    requester_count = _distinct(requesters)
    alone = all(map(np.array_equal, requesters, networks))  # nobody shares a network: no need to look again
    row = {
        **{f"total_{name}": sum(_sum(part.by_day_and_type[name]) for part in parts) for name in COUNTS},
        "requester_count": requester_count,
        "network_count": requester_count if alone else _distinct([np.unique(each) for each in networks]),
        "region_count": len(labels),
        "country_count": len({country_of(label) for label in labels} - {None}),
        "first_event_date": min((each[0].as_py() for each in dates), default=None),
        "last_event_date": max((each[-1].as_py() for each in dates), default=None),
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

    def earlier(self, datasets: Iterable[str], month: str) -> npt.NDArray[np.bool_]:
        """Whether the month comes before the newest one of each dataset's scope."""
        return np.array([self._months.get(self._scope(dataset)) != month for dataset in datasets], np.bool_)

    def earlier_of_all(self, month: str) -> bool:
        """Whether the month comes before the newest one of the archive."""
        return self._months.get(ARCHIVE) != month

    def _scope(self, dataset: str) -> str:
        scope = self._scope_of_dataset.get(dataset)
        if scope is None:
            scope = self._scope_of_dataset[dataset] = scope_of(dataset)
        return scope


@dataclass(frozen=True)
class _Part:
    """Counts of keys in scopes, (n,) rows.

    `holder` (n,) is the number of the scope and three bits: _EARLIER for rows before the scope's newest month,
    _EARLIER_OF_ALL for rows before the archive's, _NOT_IN_ARCHIVE for rows that the archive does not count. `code` (n,)
    is a row of `values` (int64 or large_string, distinct), or the key itself where that is None, below `size`.
    `networks` goes with `values` for requesters.
    """

    holder: Codes
    code: Codes
    size: int
    values: pa.Array | None
    measures: list[Measure]
    networks: Codes | None = None


class _Reduction:
    """One table of every scope, growing: each holder and key once."""

    def __init__(self) -> None:
        self._merged: _Part | None = None
        self._news: list[_Part] = []

    def add(self, part: _Part) -> None:
        """Adds a batch. Waiting until the news are as many as what is there keeps the cost of merging linear."""
        self._news.append(part)
        there = self._merged.holder.size if self._merged else 0
        if sum(news.holder.size for news in self._news) >= max(_ROWS_AT_ONCE, there):
            self.merged()

    def merged(self) -> _Part | None:
        """Everything added so far as one part, None for nothing."""
        parts = [*([self._merged] if self._merged else []), *self._news]
        self._news = []
        if len(parts) > 1:
            self._merged = _merged(parts)
        elif parts:
            self._merged = parts[0]
        return self._merged


def _batches(usage: Iterable[tuple[pa.Table, str]]) -> Iterator[list[tuple[pa.Table, str]]]:
    """The tables in batches of many rows: many small dates cost as much as one."""
    waiting: list[tuple[pa.Table, str]] = []
    for table in usage:
        waiting.append(table)
        if sum(part.num_rows for part, _ in waiting) >= _ROWS_AT_ONCE:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _parts(batch: list[tuple[pa.Table, str]], numbers: _ScopeNumbers, types: AssetTypes) -> list[_Part]:
    """The batch's part of each dimension."""
    rows = pa.concat_tables([table for table, _ in batch])
    dataset, datasets = coded(rows["dataset"])
    names = datasets.to_pylist()
    numbers_of_names = numbers.of(names)
    holder = np.empty(rows.num_rows, np.int64)
    start = 0
    for table, month in batch:
        place = slice(start, start := start + table.num_rows)
        bits = numbers.earlier(names, month) * _EARLIER + numbers.earlier_of_all(month) * _EARLIER_OF_ALL
        holder[place] = ((numbers_of_names << _BITS) + bits)[dataset[place]]
    outside = pc.invert(rows["in_archive"])
    if pc.any(outside, min_count=0).as_py():
        holder += outside.to_numpy() * _NOT_IN_ARCHIVE
    if numbers_of_names.min(initial=0) < 0:
        wanted = holder >= 0
        rows, holder = rows.filter(pa.array(wanted)), holder[wanted]
    measures = [rows[name].to_numpy() for name in COUNTS]
    path, paths = coded(rows["asset_path"])
    day_and_type = _day_numbers(rows) * len(types.names) + types.classify(paths)[path]
    of_dataset = slice(None) if numbers_of_names.max(initial=0) < numbers.count else holder < numbers.count << _BITS
    known = _chosen(rows["ip_index"].is_valid().to_numpy())
    address, addresses = coded(rows["ip_index"].drop_null())
    networks = _by_code(address, len(addresses), rows["network_index"].drop_null().to_numpy())
    return [
        _reduced(holder, day_and_type, _DAYS * len(types.names), None, measures),
        _reduced(holder[of_dataset], path[of_dataset], len(paths), paths, [m[of_dataset] for m in measures]),
        _reduced(holder, *_vocabulary(rows["region"]), measures),
        _reduced(holder[known], address, len(addresses), addresses, [m[known] for m in measures], networks),
    ]


def _chosen(mask: npt.NDArray[np.bool_]) -> slice | npt.NDArray[np.bool_]:
    """The mask as an index that copies nothing where all is chosen."""
    return slice(None) if mask.all() else mask


def _day_numbers(rows: pa.Table) -> Codes:
    """The event date of each row, counted from the first day there is."""
    days: Codes = rows["event_date"].cast(pa.int32()).to_numpy() - np.int64(_FIRST_DAY)
    return days


def _by_code(code: Codes, size: int, values: Measure) -> Measure:
    """The value of each of `size` codes, where (n,) rows of one code have the same value."""
    found = np.zeros(size, np.int64)
    found[code] = values
    return found


def _vocabulary(column: pa.ChunkedArray) -> tuple[Codes, int, pa.Array]:
    code, values = coded(column)
    return code, len(values), values


def _reduced(
    holder: Codes,
    code: Codes,
    size: int,
    values: pa.Array | None,
    measures: Sequence[Measure],
    networks: Codes | None = None,
) -> _Part:
    size = max(size, 1)
    # All scopes together may hold more text than the offsets of a plain string array reach.
    if values is not None and pa.types.is_string(values.type):
        values = values.cast(pa.large_string())
    key, sums = reduced(holder * size + code, (int(holder.max(initial=0)) + 1) * size, measures)
    return _Part(key // size, key % size, size, values, sums, networks)


def _merged(parts: list[_Part]) -> _Part:
    holder = np.concatenate([part.holder for part in parts])
    measures = [np.concatenate(same) for same in zip(*(part.measures for part in parts), strict=True)]
    vocabularies = [part.values for part in parts if part.values is not None]
    if not vocabularies:
        return _reduced(holder, np.concatenate([part.code for part in parts]), parts[0].size, None, measures)
    renamed, values = coded(pa.chunked_array(vocabularies))
    offsets = np.cumsum([0, *map(len, vocabularies)])
    code = np.concatenate(
        [renamed[start:end][part.code] for part, (start, end) in zip(parts, pairwise(offsets.tolist()), strict=True)]
    )
    networks = None
    if parts[0].networks is not None:
        networks = _by_code(
            renamed, len(values), np.concatenate([part.networks for part in parts if part.networks is not None])
        )
    return _reduced(holder, code, len(values), values, measures, networks)


def _by_scope(dimension: str, part: _Part | None, scope_count: int, types: AssetTypes) -> Iterator[pa.Table]:
    """The tables of the newest month and of the months before of the scopes 0 to scope_count - 1, in order."""
    if part is None:
        yield from [_DIMENSIONS[dimension][1].empty_table()] * scope_count * 2
        return
    wanted = _chosen(part.holder < scope_count << _BITS)
    # The number of the scope and the bit for the earlier months.
    which, table = _finished(dimension, part, part.holder[wanted] // _EARLIER, wanted, types)
    for start, end in pairwise(np.searchsorted(which, np.arange(scope_count * 2 + 1)).tolist()):
        yield table.slice(start, end - start)


def _of_all(dimension: str, part: _Part | None, types: AssetTypes) -> Iterator[pa.Table]:
    """The tables of the newest month and of the months before of the archive."""
    if part is None or dimension == "asset":
        yield from [_DIMENSIONS[dimension][1].empty_table()] * 2
        return
    counted = _chosen(part.holder & _NOT_IN_ARCHIVE == 0)
    earlier = (part.holder[counted] & _EARLIER_OF_ALL) // _EARLIER_OF_ALL
    which, table = _finished(dimension, part, earlier, counted, types)
    (split,) = np.searchsorted(which, [1]).tolist()
    yield from (table.slice(0, split), table.slice(split))


def _finished(
    dimension: str, part: _Part, scope: Codes, chosen: slice | npt.NDArray[np.bool_], types: AssetTypes
) -> tuple[Codes, pa.Table]:
    """The chosen rows of a part as the dimension's table, sorted by scope and key, and the scope of each row."""
    code, values, networks, measures = part.code[chosen], part.values, part.networks, part.measures
    if values is not None:
        rank, order = ranks(values)
        code, values = rank[code], values.take(pa.array(order))
        networks = networks[order] if networks is not None else None
    else:  # types are numbered as set; rows are sorted by name
        _, rank = np.unique(np.array(types.names, object), return_inverse=True)
        code = code // len(rank) * len(rank) + rank[code % len(rank)]
    key, sums = reduced(
        scope * part.size + code, (int(scope.max(initial=0)) + 1) * part.size, [m[chosen] for m in measures]
    )
    code = key % part.size
    if values is not None:
        keys = [values.take(pa.array(code))]
        if networks is not None:
            keys.append(pa.array(networks[code]))
    else:
        names = sorted(types.names)
        days = pa.array((code // len(names) + _FIRST_DAY).astype(np.int32)).cast(pa.date32())
        keys = [days, pa.array(names).take(pa.array(code % len(names)))]
    schema = _DIMENSIONS[dimension][1]
    if pa.types.is_large_string(keys[0].type):
        return key // part.size, _in_reach(keys[0], sums, schema)
    return key // part.size, pa.table([*keys, *map(pa.array, sums)], schema=schema)


def _in_reach(texts: pa.Array, sums: list[Measure], schema: pa.Schema) -> pa.Table:
    """A table of texts that may be too many for one plain string array: in chunks that are not."""
    step = 1 << 20
    chunks = [texts.slice(at, step).cast(pa.string()) for at in range(0, len(texts), step)]
    return pa.table([pa.chunked_array(chunks, pa.string()), *map(pa.array, sums)], schema=schema)


def _sums(
    dimension: str, summands: Sequence[tuple[int, int, ScopeTables]], scope_count: int, types: AssetTypes, whole: bool
) -> Iterator[pa.Table]:
    """The sum of the tables of a dimension for each scope number, in order; `summands`: number, sign and tables."""
    name, schema, keys = _DIMENSIONS[dimension]
    filled = [(number, sign, table) for number, sign, tables in summands if (table := getattr(tables, name)).num_rows]
    rows = pa.concat_tables([schema.empty_table(), *(table for _, _, table in filled)])
    sizes = [table.num_rows for _, _, table in filled]
    holder = np.repeat(np.array([number << _BITS for number, _, _ in filled], np.int64), sizes)
    signs = np.repeat(np.array([sign for _, sign, _ in filled], np.int64), sizes)
    measures = [rows[count].to_numpy() * signs for count in COUNTS]
    networks = None
    if dimension == "day":
        kind = pc.index_in(rows["asset_type"], value_set=pa.array(types.names, pa.string())).to_numpy()
        code, size, values = _day_numbers(rows) * len(types.names) + kind, _DAYS * len(types.names), None
    else:
        code, size, values = _vocabulary(rows[keys[0]])
    if dimension == "requester":
        networks = _by_code(code, size, rows["network_index"].to_numpy())
    part = _reduced(holder, code, size, values, measures, networks)
    left = _chosen(np.logical_or.reduce(part.measures))
    part = replace(
        part, holder=part.holder[left], code=part.code[left], measures=[measure[left] for measure in part.measures]
    )
    if whole and part.holder.size and min(part.measures[_REQUESTS].min(), *(m.min() + 1 for m in part.measures)) < 1:
        raise StoreError("more is taken off a summary than was ever counted in it")
    tables = _by_scope(dimension, part, scope_count, types)
    yield from islice(tables, 0, None, 2)


def _sum(column: pa.ChunkedArray) -> int:
    total: int = pc.sum(column, min_count=0).as_py()
    return total
