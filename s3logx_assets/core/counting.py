"""Counts under keys: rows of usage reduced to one row per holder and key, in pieces that are merged as they come.

A holder is whoever a row counts for, as a number from 0: a scope, and what else sets its rows apart. A key is a code into
a vocabulary of a piece's own (assets, regions), a number (days and types), or the index of a requester. Memory follows the
size of the result, not the number of rows that went in. What the scopes are, which tables they have and what is done to
these does not belong here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from s3logx_assets.core.grouping import Codes, Measure, coded, ranks, reduced, run_starts, summed_runs

ROWS_AT_ONCE = 1 << 19
# Odd, so that no two holders shift the indexes by the same; far apart, so that neighbours do not (2^64 / golden ratio).
_SHIFT = np.int64(-7_046_029_254_386_353_131)

Choice = slice | npt.NDArray[np.bool_]


def chosen(mask: npt.NDArray[np.bool_]) -> Choice:
    """The mask as an index that copies nothing where all is chosen."""
    return slice(None) if mask.all() else mask


@dataclass(frozen=True)
class Counts:
    """Counts of keys, (n,) rows, each holder and key once, ascending by holder.

    `code` (n,) is a row of `values` (large_string, distinct), or the key itself where that is None, below `size`.
    """

    holder: Codes
    code: Codes
    size: int
    values: pa.Array | None
    measures: list[Measure]

    @staticmethod
    def of(holder: Codes, code: Codes, size: int, values: pa.Array | None, measures: Sequence[Measure]) -> "Counts":
        """From rows whose holder and key may come again."""
        size = max(size, 1)
        # All holders together may have more text than the offsets of a plain string array reach.
        if values is not None and pa.types.is_string(values.type):
            values = values.cast(pa.large_string())
        key, sums = reduced(holder * size + code, (int(holder.max(initial=0)) + 1) * size, measures)
        return Counts(key // size, key % size, size, values, sums)

    @staticmethod
    def merged(parts: Sequence["Counts"]) -> "Counts":
        """The sum of at least one part, all of keys of one kind."""
        holder = np.concatenate([part.holder for part in parts])
        measures = [np.concatenate(same) for same in zip(*(part.measures for part in parts), strict=True)]
        vocabularies = [part.values for part in parts if part.values is not None]
        if not vocabularies:
            return Counts.of(holder, np.concatenate([part.code for part in parts]), parts[0].size, None, measures)
        renamed, values = coded(pa.chunked_array(vocabularies))
        offsets = np.cumsum([0, *map(len, vocabularies)]).tolist()
        code = [renamed[start:end][part.code] for part, (start, end) in zip(parts, pairwise(offsets), strict=True)]
        return Counts.of(holder, np.concatenate(code), len(values), values, measures)

    def taken(self, rows: Choice, holder: Codes) -> "Counts":
        """Some rows, and another holder for each of them; keys in order."""
        code, values = self.code[rows], self.values
        if values is not None:
            rank, order = ranks(values)
            code, values = rank[code], values.take(pa.array(order))
        return Counts.of(holder, code, self.size, values, [measure[rows] for measure in self.measures])

    def texts(self) -> pa.ChunkedArray:
        """The key of each row, where keys are texts: in chunks that are plain string arrays, as all may be too many for
        one."""
        assert self.values is not None, "days and types are numbers"
        step = 1 << 20
        codes = [pa.array(self.code[at : at + step]) for at in range(0, self.code.size, step)]
        return pa.chunked_array([self.values.take(each).cast(pa.string()) for each in codes], pa.string())


@dataclass(frozen=True)
class Requesters:
    """Counts of requesters, (n,) rows with their index and network index. A holder and an index may come more than once,
    in `exact` they do not."""

    holder: Codes
    index: Codes
    network: Codes
    measures: list[Measure]

    @staticmethod
    def merged(parts: Sequence["Requesters"]) -> "Requesters":
        """The sum of at least one part."""
        rows = Requesters._joined(parts)
        return rows._summed(gathering(rows.holder, rows.index))

    @staticmethod
    def by_index(parts: Sequence["Requesters"]) -> "Requesters":
        """The rows of at least one part, ascending by index."""
        rows = Requesters._joined(parts)
        order = np.argsort(rows.index)
        return Requesters(
            rows.holder[order], rows.index[order], rows.network[order], [measure[order] for measure in rows.measures]
        )

    @staticmethod
    def _joined(parts: Sequence["Requesters"]) -> "Requesters":
        columns = zip(*((part.holder, part.index, part.network, *part.measures) for part in parts), strict=True)
        holder, index, network, *measures = map(np.concatenate, columns)
        return Requesters(holder, index, network, measures)

    def exact(self, rows: Choice, holder: Codes) -> "Requesters":
        """Some rows, and another holder for each of them: each holder and index once, ascending, from what `by_index`
        gave."""
        few = holder.size and int(holder.max()) < 1 << 16
        order = np.argsort(holder.astype(np.uint16) if few else holder, kind="stable")  # by radix where they are few
        measures = [measure[rows] for measure in self.measures]
        return Requesters(holder, self.index[rows], self.network[rows], measures)._summed(order)

    def _summed(self, order: Codes) -> "Requesters":
        """The rows in this order, neighbours of one holder and index as one row."""
        holder, index = self.holder[order], self.index[order]
        starts = run_starts(holder, index)
        return Requesters(
            holder[starts],
            index[starts],
            self.network[order[starts]],
            summed_runs([measure[order] for measure in self.measures], starts),
        )


def gathering(holder: npt.NDArray[np.integer], index: Codes) -> Codes:
    """An order in which rows (n,) of one holder and one index are neighbours, nearly always: indexes are random numbers
    of 64 bits, so they are shifted by holder and sorted once. Rows that a collision puts between others stay apart."""
    return np.argsort(index + holder * _SHIFT)


P = TypeVar("P", bound=Counts | Requesters)


class Growing(Generic[P]):
    """A sum of parts of one kind, merged now and then."""

    def __init__(self, merge: Callable[[Sequence[P]], P]) -> None:
        self._merge = merge
        self._sum: P | None = None
        self._news: list[P] = []

    def add(self, part: P) -> None:
        """Adds a part. Waiting until the news are as many as what is there keeps the cost of merging linear."""
        self._news.append(part)
        there = self._sum.holder.size if self._sum else 0
        if sum(news.holder.size for news in self._news) >= max(ROWS_AT_ONCE, there):
            self.merged()

    def merged(self) -> P | None:
        """Everything added so far, None for nothing."""
        parts = self.parts()
        self._news = []
        if parts:
            self._sum = self._merge(parts) if len(parts) > 1 else parts[0]
        return self._sum

    def parts(self) -> list[P]:
        """What everything added so far is the sum of."""
        return [*([self._sum] if self._sum else []), *self._news]


def nonzero(part: P) -> P:
    """The rows that count something."""
    rows = chosen(np.logical_or.reduce(part.measures))
    of_rows = {
        name: value[rows] for name, value in vars(part).items() if name in ("holder", "code", "index", "network")
    }
    return replace(part, **of_rows, measures=[measure[rows] for measure in part.measures])
