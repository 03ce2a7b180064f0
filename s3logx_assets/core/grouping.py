"""Grouping by integer codes: the few vectorised steps that every aggregation here is made of.

Sums are int64 from end to end. What is grouped by what, and why, does not belong here.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Codes = npt.NDArray[np.int64]
Measure = npt.NDArray[np.int64]

_MAX_KEY = 2**62


def ranked(values: pa.Array | pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """Codes into the sorted distinct values, so that codes order as values do.

    `values` holds no nulls: integers, dates, strings (by UTF-8 bytes) or binary, plain or
    dictionary-encoded. Returns codes (n,) and the distinct values in their plain type, which may
    hold values that no code refers to where a dictionary did.
    """
    codes, distinct = coded(values)
    rank, order = ranks(distinct)
    return rank[codes], distinct.take(pa.array(order))


def ranks(distinct: pa.Array) -> tuple[Codes, Codes]:
    """The place of each of (n,) distinct values among them all, sorted, and which value stands at each place."""
    order = pc.array_sort_indices(distinct).to_numpy().astype(np.int64)
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    return rank, order


def among(wanted: Codes, known: Codes) -> npt.NDArray[np.bool_]:
    """Which of `wanted` (n,) are in `known`, which ascends."""
    if not known.size:
        return np.zeros(wanted.size, bool)
    place = np.searchsorted(known, wanted)
    place[place == known.size] = 0
    return np.asarray(known[place] == wanted)


def coded(values: pa.Array | pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """As `ranked`, but the distinct values come in no particular order: cheaper."""
    column = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    if not pa.types.is_dictionary(column.type):
        return _indices_and_dictionary(column.dictionary_encode())
    codes, dictionary = _indices_and_dictionary(column.unify_dictionaries())
    merged = dictionary.dictionary_encode()  # a dictionary may repeat a value
    if len(merged.dictionary) == len(dictionary):
        return codes, dictionary
    return merged.indices.to_numpy().astype(np.int64)[codes], merged.dictionary


def joint_key(columns: Sequence[tuple[Codes, int]]) -> Codes:
    """One int64 key per row that orders as the columns do, the first column first.

    `columns`: pairs of codes (n,) and the number of codes, all codes in [0, number).
    """
    key, size = columns[0]
    for codes, count in columns[1:]:
        if size * count > _MAX_KEY:
            present, key = np.unique(key, return_inverse=True)
            size = present.size
        key, size = key * count + codes, size * count
    return key


def run_starts(*keys: npt.NDArray[np.integer]) -> Codes:
    """Where runs of rows begin that are equal to their neighbours in all `keys`, at least one, of (n,) each: (number of
    runs,), empty for no rows."""
    if not keys[0].size:
        return np.zeros(0, np.int64)
    changed = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return np.concatenate([[0], np.flatnonzero(changed) + 1])


def summed_runs(measures: Sequence[Measure], starts: Codes) -> list[Measure]:
    """Each measure (n,) summed over the runs that begin at `starts`, as `run_starts` gives them."""
    return [np.add.reduceat(measure, starts) if starts.size else measure for measure in measures]


def reduced(
    key: Codes, size: int, measures: Sequence[Measure], reduction: np.ufunc = np.add
) -> tuple[Codes, list[Measure]]:
    """The distinct keys, ascending, and each measure reduced over the rows of a key.

    `key` (n,) is in [0, size), `measures` are of shape (n,), `reduction` is `numpy.add` or
    `numpy.minimum`. Returns keys (groups,) and measures (groups,).
    """
    if size <= key.size:
        return _reduced_in_place(key, size, measures, reduction)
    # Input is mostly sorted by something close to the key: one linear pass leaves little to sort.
    key, measures = _reduced_runs(key, measures, reduction)
    order = np.argsort(key)
    return _reduced_runs(key[order], [measure[order] for measure in measures], reduction)


def _reduced_in_place(
    key: Codes, size: int, measures: Sequence[Measure], reduction: np.ufunc
) -> tuple[Codes, list[Measure]]:
    """Without a sort: one slot per possible key."""
    used = np.zeros(size, bool)
    used[key] = True
    result = []
    for measure in measures:
        slots = np.full(size, 0 if reduction is np.add else np.iinfo(np.int64).max)
        reduction.at(slots, key, measure)
        result.append(slots[used])
    return np.flatnonzero(used), result


def _reduced_runs(key: Codes, measures: Sequence[Measure], reduction: np.ufunc) -> tuple[Codes, list[Measure]]:
    starts = run_starts(key)
    if starts.size == key.size:
        return key, list(measures)
    return key[starts], [reduction.reduceat(measure, starts) for measure in measures]


def _indices_and_dictionary(column: pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """Of a dictionary-encoded column whose chunks share one dictionary."""
    if column.num_chunks == 0:
        return np.zeros(0, np.int64), pa.array([], column.type.value_type)
    codes = [chunk.indices.to_numpy().astype(np.int64) for chunk in column.chunks]
    return np.concatenate(codes), column.chunk(0).dictionary
