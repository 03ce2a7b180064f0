"""What may be published of an exact count, policy `compatible`: a threshold, then rounding.

It hides small cells one by one, in the form that the archives' consumers know. It does not protect
against sums, differences between releases or exact byte figures. It is applied once, to the
finished aggregate: rounded numbers are never added up.
"""

import pyarrow as pa
import pyarrow.compute as pc

THRESHOLD = 50
ROUNDING = 20


def published_count(count: int, threshold: int = THRESHOLD, rounding: int = ROUNDING) -> int | str:
    """A count of requests, downloads or requesters as it may be shown.

    `"<50"` below the threshold of 50; else the nearest multiple of `rounding`, halves up, but
    never one below the threshold (50 gives 60). Raises ValueError for a negative count or
    threshold and for a rounding below 1.
    """
    if min(count, threshold) < 0 or rounding < 1:
        raise ValueError("counts and threshold start at 0, rounding at 1")
    if count < threshold:
        return f"<{threshold}"
    nearest = (2 * count + rounding) // (2 * rounding) * rounding
    smallest = -(-threshold // rounding) * rounding
    return max(nearest, smallest)


def published_counts(
    counts: pa.Array | pa.ChunkedArray, threshold: int = THRESHOLD, rounding: int = ROUNDING
) -> pa.Array | pa.ChunkedArray:
    """`published_count` of each int64 in a column, of the same shape; null where it is below the threshold."""
    distinct = pc.unique(counts)
    shown = [published_count(count, threshold, rounding) for count in distinct.to_pylist()]
    numbers = pa.array([None if isinstance(value, str) else value for value in shown], pa.int64())
    return numbers.take(pc.index_in(counts, value_set=distinct))
