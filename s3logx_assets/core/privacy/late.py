"""What came to the usage of a log date after it was released: late records, which go into a later period.

A log date that changed is compared with what was taken of it. More requests of somebody on some day are late records. What is
only called otherwise now (another region, another dataset rule) was released already, and what is gone stays released. Where a
requester's day has more and is called otherwise too, the two cannot be told apart, and nothing of it is taken.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.core.grouping import coded, joint_key
from s3logx_assets.core.privacy.strict import MEASURES

KEYS = ("dataset", "asset_path", "event_date", "region", "network_index")


def networks(usage: pa.Table) -> pa.Table:
    """The rows of DAILY_USAGE that the archive counts, by network: KEYS and MEASURES, each combination of keys once. A request
    counts in the first of its datasets alone."""
    rows = usage.filter(usage["in_archive"]).select([*KEYS, *MEASURES])
    return _summed(pa.table([_plain(column) for column in rows.columns], names=rows.column_names))


def late_rows(present: pa.Table, taken: pa.Table) -> tuple[pa.Table, int]:
    """What a log date's usage has more than was taken of it, both as `networks` gives them; and how many requests of those that
    came cannot be told from what is called otherwise now."""
    if not taken.num_rows:
        return present, 0
    negated = [pc.negate(taken[name]) for name in MEASURES]
    both = _summed(
        pa.concat_tables([present, pa.table([*(taken[name] for name in KEYS), *negated], present.column_names)])
    )
    measures = [both[name].to_numpy() for name in MEASURES]
    more = np.logical_or.reduce([each > 0 for each in measures])
    less = np.logical_or.reduce([each < 0 for each in measures])
    day, days = coded(both["event_date"])
    network = both["network_index"].combine_chunks()
    person, people = coded(pc.fill_null(network, 0))
    key = joint_key([(day, len(days)), (person, len(people)), (network.is_null().to_numpy(False).astype(np.int64), 2)])
    unclear = np.isin(key, key[less])
    came = int(np.clip(_by_key(key[unclear], measures[0][unclear]), 0, None).sum())
    return both.filter(pa.array(more & ~unclear)), came


def _by_key(key: np.typing.NDArray[np.int64], values: np.typing.NDArray[np.int64]) -> np.typing.NDArray[np.int64]:
    _, place = np.unique(key, return_inverse=True)
    sums = np.zeros(int(place.max(initial=-1)) + 1, np.int64)
    np.add.at(sums, place, values)
    return sums


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _summed(rows: pa.Table) -> pa.Table:
    """Each combination of keys once, in order, without those of which nothing is left."""
    sums = rows.group_by(list(KEYS), use_threads=False).aggregate([(name, "sum") for name in MEASURES])
    sums = sums.rename_columns([*KEYS, *MEASURES])
    filled = [pc.not_equal(sums[name], 0) for name in MEASURES]
    sums = sums.filter(pc.or_(filled[0], pc.or_(filled[1], filled[2])))
    return sums.sort_by([(name, "ascending") for name in KEYS])
