"""What a date's requesters tell together: who among them never came before, and how many come from where.

Everything here is said of indexes, so that nobody needs an address to answer it. What a requester is, and where one
lies, does not belong here.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from s3logx_assets.core.grouping import Codes, among, coded, joint_key, reduced, run_starts
from s3logx_assets.core.regions import country_of

Indexes = NDArray[np.int64]  # (n,), distinct and ascending

# What `by_label` tells of each label.
BY_LABEL = pa.schema(
    [
        pa.field("label", pa.string(), nullable=False),
        pa.field("requesters", pa.int64(), nullable=False),
        pa.field("networks", pa.int64(), nullable=False),
        pa.field("requests", pa.int64(), nullable=False),
    ]
)

# So many dates are searched one by one before they are merged: merging copies the whole history.
_UNMERGED = 16
# So many rows of unmerged dates are merged at once, or as many as there are distinct requesters where that is more:
# merging costs as much as both, so what is merged once is not copied for every few rows.
_ROWS_UNMERGED = 1 << 20
# Where so many dates did not know all, it takes most of the others too: they are read together, which a store may do
# at once.
_ONE_BY_ONE = 16
_TOGETHER = 64


def counted(columns: Iterable[pa.ChunkedArray]) -> tuple[pa.Array, pa.Array]:
    """The distinct values of all columns (fixed_size_binary[16]; nulls are nobody), in no order, and how often each is
    there (int64). One column at a time is in memory."""
    found = []
    for column in columns:
        counts = pc.value_counts(column.drop_null())
        found.append(pa.table({"value": counts.field(0), "count": counts.field(1)}))
    table = found[0]
    if len(found) > 1:
        table = pa.concat_tables(found).group_by("value", use_threads=False).aggregate([("count", "sum")])
    return table["value"].combine_chunks(), table.column(1).combine_chunks()


class History:
    """Which requesters each date had, so far as it was asked: a date is read when it is first needed, and once.

    `read` gives the indexes of each of some dates, one after the other. Dates may be asked about in any order. Held are
    12 bytes per distinct requester and 8 per row that is not merged yet; the rows of all dates are never held together.
    """

    def __init__(self, read: Callable[[Sequence[date]], Iterable[Indexes]]) -> None:
        self._read = read
        self._forget()

    def _forget(self) -> None:
        self._indexes: Indexes = np.zeros(0, np.int64)
        self._first = np.zeros(0, np.int32)  # the first merged date of each of them, as an ordinal
        self._recent: dict[date, Indexes] = {}
        self._merged: dict[date, int] = {}  # the hash of what each merged date had

    def newcomers(self, day: date, indexes: Indexes, dates: Collection[date]) -> Indexes:
        """Those of `indexes` that none of the `dates` before `day` has. The newest dates are asked first, since most
        who return were there lately, and no more of them once all are known."""
        if len(self._recent) > _UNMERGED:
            self._merge()
        left = self._not_merged(indexes, day)
        earlier = sorted((other for other in dates if other < day and other not in self._merged), reverse=True)
        for number, other in enumerate(earlier):
            if not left.size:
                break
            if not self._has(other):
                unread = (each for each in earlier[number:] if not self._has(each))
                if self._take(list(islice(unread, _TOGETHER if number >= _ONE_BY_ONE else 1))):
                    left = self._not_merged(left, day)
            if other in self._recent:
                left = left[~among(left, self._recent[other])]
        return left

    def put(self, day: date, indexes: Indexes) -> None:
        """From now on `day` has these."""
        content = _hash(indexes)
        if self._merged.get(day, content) != content:
            self._forget()  # who is merged cannot be taken out again
        if day not in self._merged:
            self._recent[day] = indexes

    def _has(self, day: date) -> bool:
        return day in self._recent or day in self._merged

    def _take(self, days: Sequence[date]) -> bool:
        """Reads dates; whether some were merged meanwhile."""
        merged = False
        rows = sum(found.size for found in self._recent.values())
        for day, found in zip(days, self._read(days), strict=True):
            self._recent[day] = found
            rows += found.size
            if rows > max(_ROWS_UNMERGED, self._indexes.size):
                self._merge()
                merged, rows = True, 0
        return merged

    def _not_merged(self, indexes: Indexes, day: date) -> Indexes:
        """Those of `indexes` that no merged date before `day` has."""
        return indexes[self._first_of(indexes) >= day.toordinal()]

    def _first_of(self, indexes: Indexes) -> NDArray[np.int32]:
        """The first merged date of each, as an ordinal; the last of all days where there is none."""
        first = np.full(indexes.size, date.max.toordinal(), np.int32)
        known = among(indexes, self._indexes)
        first[known] = self._first[np.searchsorted(self._indexes, indexes[known])]
        return first

    def _merge(self) -> None:
        days = [np.full(found.size, day.toordinal(), np.int32) for day, found in self._recent.items()]
        indexes = np.concatenate([self._indexes, *self._recent.values()])
        order = np.argsort(indexes, kind="stable")  # made for runs that ascend already
        indexes, first = indexes[order], np.concatenate([self._first, *days])[order]
        starts = run_starts(indexes)
        self._indexes = indexes[starts]
        self._first = np.minimum.reduceat(first, starts) if starts.size else first
        self._merged |= {day: _hash(found) for day, found in self._recent.items()}
        self._recent = {}


def _hash(indexes: Indexes) -> int:
    return hash(indexes.tobytes())


def count_distinct(indexes: NDArray[np.int64]) -> int:
    """How many distinct values there are; ten times faster than by hashing, which numpy prefers."""
    return int(run_starts(np.sort(indexes)).size)


def by_label(
    labels: Mapping[str, pa.Array | pa.ChunkedArray], networks: NDArray[np.int64], requests: NDArray[np.int64]
) -> dict[str, pa.Table]:
    """For each way of labelling, of each label how many requesters, distinct networks and requests it has, most requests
    first (schema BY_LABEL). There is one label, network index and count of requests per requester; null labels are
    left out."""
    distinct_networks, network = np.unique(networks, return_inverse=True)
    return {name: _by_label(column, network, distinct_networks.size, requests) for name, column in labels.items()}


def _by_label(
    labels: pa.Array | pa.ChunkedArray, network: Codes, network_count: int, requests: NDArray[np.int64]
) -> pa.Table:
    valid = labels.is_valid().to_numpy(zero_copy_only=False)
    code, distinct = coded(labels.drop_null())
    pairs = np.sort(joint_key([(code, len(distinct)), (network[valid], network_count)]))
    code_of_pair = pairs[run_starts(pairs)] // max(network_count, 1)
    present, (summed,) = reduced(code, len(distinct), [requests[valid]])
    requesters, networks = (np.bincount(codes, minlength=len(distinct))[present] for codes in (code, code_of_pair))
    columns = [distinct.take(pa.array(present)), *map(pa.array, (requesters, networks, summed))]
    return pa.table(columns, schema=BY_LABEL).sort_by([("requests", "descending"), ("label", "ascending")])


def clouds(regions: pa.DictionaryArray, methods: pa.ChunkedArray) -> pa.DictionaryArray:
    """The cloud of each requester, `AWS` for `AWS/us-east-2`; null for those who are in none."""
    return _named(regions, pc.equal(methods, "cloud"), lambda label: label.partition("/")[0])


def countries(regions: pa.DictionaryArray, methods: pa.ChunkedArray) -> pa.DictionaryArray:
    """The country of each requester, `US` for `US/California`; null for those without one, and for those in a cloud,
    who lie wherever they please."""
    return _named(regions, pc.not_equal(methods, "cloud"), country_of)


def _named(
    regions: pa.DictionaryArray, chosen: pa.ChunkedArray, name: Callable[[str], str | None]
) -> pa.DictionaryArray:
    """The `name` of each region, null where it has none or is not `chosen`."""
    names = pa.array([name(label) for label in regions.dictionary.to_pylist()], pa.string())
    has_name = names.is_valid().take(regions.indices)
    nothing = pa.scalar(None, regions.indices.type)
    indices = pc.if_else(pc.and_(chosen.combine_chunks(), has_name), regions.indices, nothing)
    return pa.DictionaryArray.from_arrays(indices, names.fill_null(""))
