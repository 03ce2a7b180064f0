"""Exact summaries of scopes: usage by day, by asset, by region, the requesters, and totals.

The tables hold everything. The newest event dates are incomplete while their logs still arrive, so the tables also
say which part of them is that new, and `settled` takes it off: as time goes by more of a scope is settled without its
tables being made again.

A scope is a dataset or the whole archive (core/scopes.py). Everything here is exact and private;
thresholds and rounding come afterwards and elsewhere.

One pass: tables are reduced in batches to one row per scope and value, and these reductions are
merged now and then, so memory follows the size of the result and not the number of rows or dates.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import date
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.core.grouping import Codes, Measure, coded, ranked, reduced
from s3logx_assets.core.regions import country_of
from s3logx_assets.core.schemas import BY_ASSET, BY_DAY, BY_REGION, PROVISIONAL, REQUESTERS, TOTALS
from s3logx_assets.core.scopes import ARCHIVE, scope_of

_ROWS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class ScopeTables:
    """The exact tables of one scope, in the schemas of these names.

    `by_asset` is empty for the archive, and in its `provisional` the asset path is. Each table is
    sorted by its first column (texts by UTF-8 bytes), where no value comes twice; `provisional` by
    its first three.
    """

    by_day: pa.Table
    by_asset: pa.Table
    by_region: pa.Table
    requesters: pa.Table
    provisional: pa.Table

    @classmethod
    def parts(cls) -> tuple[str, ...]:
        """The names of the tables."""
        return tuple(field.name for field in fields(cls))


def summarise(usage: Iterable[pa.Table], scopes: Collection[str], settled_until: date) -> dict[str, ScopeTables]:
    """The tables of each requested scope over DAILY_USAGE tables, in whatever order they come.

    Text columns may be dictionary-encoded, in all tables alike; that is faster. Rows with an
    event_date after `settled_until` are counted like all others and kept apart in `provisional`
    too. The archive covers all datasets, requested or not, and its requesters are their union. A
    scope without rows has empty tables. The result is in the order of the names.
    """
    datasets = sorted(set(scopes) - {ARCHIVE})
    numbers = _ScopeNumbers(datasets, with_others=ARCHIVE in scopes)
    by_day, by_asset = _Reduction(BY_DAY, np.add), _Reduction(BY_ASSET, np.add)
    by_region, requesters = _Reduction(BY_REGION, np.add), _Reduction(REQUESTERS, np.minimum)
    late: list[pa.Table] = []
    for batch in _batches(usage):
        rows, scope = numbers.select(batch)
        by_day.add(rows, scope)
        by_region.add(rows, scope)
        by_asset.add(*_where(scope < len(datasets), rows, scope))
        first = rows.append_column("first_event_date", rows["event_date"].cast(pa.int32()))
        requesters.add(*_where(rows["ip_index"].is_valid().to_numpy(), first, scope))
        late.append(_later(rows.append_column("scope", pa.array(scope)), settled_until))

    kinds = (by_day, by_asset, by_region, requesters)
    *provisional, provisional_of_all = _provisional(late, len(datasets))
    split = zip(*(kind.by_scope(len(datasets)) for kind in kinds), provisional, strict=True)
    result = {scope: ScopeTables(*tables) for scope, tables in zip(datasets, split, strict=True)}
    if ARCHIVE in scopes:
        result[ARCHIVE] = ScopeTables(
            by_day=by_day.overall(),
            by_asset=BY_ASSET.empty_table(),
            by_region=by_region.overall(),
            requesters=requesters.overall(),
            provisional=provisional_of_all,
        )
    return {scope: result[scope] for scope in sorted(result)}


def settled(tables: ScopeTables, cutoff: date) -> ScopeTables:
    """The tables of a scope without the rows of event dates after `cutoff`, which must not lie before the
    `settled_until` they were made with. What had no other rows disappears."""
    late = _later(tables.provisional, cutoff)
    return ScopeTables(
        by_day=tables.by_day.filter(_until(tables.by_day["event_date"], cutoff)),
        by_asset=_without(tables.by_asset, late, "asset_path"),
        by_region=_without(tables.by_region, late, "region"),
        requesters=tables.requesters.filter(_until(tables.requesters["first_event_date"], cutoff)),
        provisional=PROVISIONAL.empty_table(),
    )


def totals(tables: ScopeTables) -> pa.Table:
    """The exact totals of one scope: one row in the schema TOTALS.

    Regions are counted by label; countries as `country_of` finds them in the labels. A scope
    without rows has zeros and no dates.
    """
    day = tables.by_day
    labels = tables.by_region["region"].to_pylist()
    dates = pc.min_max(day["event_date"]).as_py()
    row = {
        "total_bytes_sent": _sum(day["bytes_sent"]),
        "total_request_count": _sum(day["request_count"]),
        "total_download_count": _sum(day["download_count"]),
        "requester_count": tables.requesters.num_rows,
        "network_count": len(tables.requesters["network_index"].unique()),
        "region_count": len(labels),
        "country_count": len({country_of(label) for label in labels} - {None}),
        "first_event_date": dates["min"],
        "last_event_date": dates["max"],
    }
    return pa.Table.from_pylist([row], schema=TOTALS)


class _ScopeNumbers:
    """Numbers the requested scopes from 0, in order; all other datasets share the next number."""

    def __init__(self, scopes: list[str], with_others: bool) -> None:
        self._number_of_scope = {scope: number for number, scope in enumerate(scopes)}
        self._others = len(scopes) if with_others else -1
        self._number_of_dataset: dict[str, int] = {}

    def select(self, rows: pa.Table) -> tuple[pa.Table, Codes]:
        """The rows of any requested scope, and the scope number of each."""
        code, datasets = coded(rows["dataset"])
        numbers = [self._number(dataset) for dataset in datasets.to_pylist()]
        scope = np.array(numbers, np.int64)[code]
        return _where(scope >= 0, rows, scope)

    def _number(self, dataset: str) -> int:
        number = self._number_of_dataset.get(dataset)
        if number is None:
            number = self._number_of_scope.get(scope_of(dataset), self._others)
            self._number_of_dataset[dataset] = number
        return number


@dataclass(frozen=True)
class _Part:
    """Measures of scope numbers and values, each of shape (n,)."""

    scope: Codes
    values: pa.Array
    measures: list[Measure]

    @property
    def rows(self) -> int:
        return self.scope.size


class _Reduction:
    """One table of every scope, growing: each scope number and value once.

    `schema` has the value in its first column and in all others the measures, which `reduction`
    (commutative and associative) brings together.
    """

    def __init__(self, schema: pa.Schema, reduction: np.ufunc) -> None:
        self._schema = schema
        self._reduction = reduction
        value_type = schema.field(0).type
        # All scopes together may hold more text than the offsets of a plain string array reach.
        self._type = pa.large_string() if pa.types.is_string(value_type) else value_type
        nothing = np.zeros(0, np.int64)
        measures = [nothing] * (len(schema) - 1)
        self._merged = _Part(nothing, pa.array([], self._type), measures)
        self._news: list[_Part] = []

    def add(self, rows: pa.Table, scope: Codes) -> None:
        """Adds rows (n,) with their scope numbers (n,)."""
        value, *measures = self._schema.names
        columns = [rows[name].to_numpy().astype(np.int64, copy=False) for name in measures]
        self._news.append(self._reduced(scope, rows[value], columns))
        # Waiting until the news are as many as what is there keeps the cost of merging linear.
        if sum(part.rows for part in self._news) >= max(_ROWS_AT_ONCE, self._merged.rows):
            self._merge()

    def by_scope(self, scope_count: int) -> Iterator[pa.Table]:
        """The tables of the scopes 0 to scope_count - 1, in order."""
        whole = self._table(self._merge())
        bounds = np.searchsorted(self._merged.scope, np.arange(scope_count + 1))
        for start, end in pairwise(bounds.tolist()):
            yield whole.slice(start, end - start).cast(self._schema)

    def overall(self) -> pa.Table:
        """The table of all scopes together."""
        part = self._merge()
        together = self._reduced(np.zeros_like(part.scope), part.values, part.measures)
        return self._table(together).cast(self._schema)

    def _merge(self) -> _Part:
        if self._news:
            parts = [self._merged, *self._news]
            self._news = []
            self._merged = self._reduced(
                np.concatenate([part.scope for part in parts]),
                pa.chunked_array([part.values for part in parts]),
                [np.concatenate(same) for same in zip(*(p.measures for p in parts), strict=True)],
            )
        return self._merged

    def _reduced(
        self,
        scope: Codes,
        values: pa.Array | pa.ChunkedArray,
        measures: list[Measure],
    ) -> _Part:
        rank, distinct = ranked(values)
        count = max(len(distinct), 1)
        size = (int(scope.max(initial=0)) + 1) * count
        key, measures = reduced(scope * count + rank, size, measures, self._reduction)
        return _Part(key // count, distinct.cast(self._type).take(pa.array(key % count)), measures)

    def _table(self, part: _Part) -> pa.Table:
        measures = [
            pa.array(measure).cast(pa.int32()).cast(kind) if pa.types.is_date(kind) else pa.array(measure)
            for measure, kind in zip(part.measures, self._schema.types[1:], strict=True)
        ]
        return pa.table([part.values, *measures], names=self._schema.names)


def _batches(usage: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The tables in batches of at least a million rows: many small dates cost as much as one."""
    waiting: list[pa.Table] = []
    for table in usage:
        waiting.append(table)
        if sum(part.num_rows for part in waiting) >= _ROWS_AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _until(dates: pa.ChunkedArray, cutoff: date) -> pa.ChunkedArray:
    return pc.less_equal(dates, pa.scalar(cutoff, pa.date32()))


def _later(rows: pa.Table, cutoff: date) -> pa.Table:
    return rows.filter(pc.invert(_until(rows["event_date"], cutoff)))


def _provisional(late: list[pa.Table], scope_count: int) -> list[pa.Table]:
    """The PROVISIONAL tables of scopes 0 to scope_count - 1, and last that of all rows together."""
    if not any(part.num_rows for part in late):
        return [PROVISIONAL.empty_table()] * (scope_count + 1)
    keys, counts = PROVISIONAL.names[:3], PROVISIONAL.names[3:]
    rows = pa.concat_tables(late)
    texts = [rows[name].cast(pa.string()) for name in ("asset_path", "region")]
    rows = pa.table(
        [rows["scope"], rows["event_date"], *texts, *(rows[name] for name in counts)], ["scope", *keys, *counts]
    )
    each = _grouped(rows, ["scope", *keys], counts)
    bounds = np.searchsorted(each["scope"].to_numpy(), np.arange(scope_count + 1)).tolist()
    tables = [each.slice(a, b - a).drop_columns(["scope"]).cast(PROVISIONAL) for a, b in pairwise(bounds)]
    nameless = rows.set_column(2, "asset_path", pa.repeat("", rows.num_rows))
    return [*tables, _grouped(nameless, keys, counts).cast(PROVISIONAL)]


def _grouped(rows: pa.Table, keys: list[str], counts: list[str]) -> pa.Table:
    sums = rows.group_by(keys).aggregate([(name, "sum") for name in counts])
    sums = sums.select([*keys, *(f"{name}_sum" for name in counts)]).rename_columns([*keys, *counts])
    return sums.sort_by([(name, "ascending") for name in keys])


def _without(table: pa.Table, late: pa.Table, key: str) -> pa.Table:
    """`table` less what `late` counts under the same `key`."""
    if not late.num_rows:
        return table
    counts = table.column_names[1:]
    taken = _grouped(late, [key], counts)
    place = pc.index_in(table[key], value_set=taken[key].combine_chunks())
    columns = [pc.subtract(table[name], pc.fill_null(taken[name].take(place), 0)) for name in counts]
    left = pa.table([table[key], *columns], schema=table.schema)
    return left.filter(pc.greater(left["request_count"], 0))


def _where(wanted: npt.NDArray[np.bool_], rows: pa.Table, scope: Codes) -> tuple[pa.Table, Codes]:
    if wanted.all():
        return rows, scope
    return rows.filter(pa.array(wanted)), scope[wanted]


def _sum(column: pa.ChunkedArray) -> int:
    total: int = pc.sum(column, min_count=0).as_py()
    return total
