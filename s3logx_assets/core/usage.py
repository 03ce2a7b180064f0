"""Daily usage: the rows of one log date, counted by dataset, asset, event date and requester.

This is the last table that knows single requesters; all summaries are sums over it. Which file a
table comes from and what is published of it does not belong here.
"""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import date
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.core.datasets import Assignment, DatasetRule
from s3logx_assets.core.digests import DIGEST_CHARS, string_bytes
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.grouping import Codes, coded, joint_key, ranked, run_starts
from s3logx_assets.core.schemas import DAILY_USAGE, encoded

# Regions without a lookup: of requests that have no address, and of a date before its first lookup.
INTERNAL = "internal"
MISSING = "missing"

DOWNLOAD_STATUS = 200

_MILLISECONDS_PER_DAY = 86_400_000
_ROWS_AT_ONCE = 1 << 18


def daily_usage(groups: Iterable[pa.Table], indexes: pa.Table, regions: pa.Table | None, rule: DatasetRule) -> pa.Table:
    """Exact counts of one log date, in the schema DAILY_USAGE, but with its texts dictionary-encoded.

    Sorted by dataset, event_date, asset_path, region, ip_index, in_archive; strings by their UTF-8
    bytes, nulls last. `groups`, at least one, hold the date's EXTRACTED_LOGS, a part of the rows each,
    and are counted one after the other; `indexes` and `regions` are its IP_INDEXES and IP_REGIONS; with
    None for regions, every address counts as `missing`.

    Raises StoreError if an address of the rows has no index, or an index has no region: the
    tables then come from different states of the date.
    """
    requesters = _requesters(indexes, regions)
    counted = [_counted(rows, requesters, rule) for rows in groups]
    usage = counted[0] if len(counted) == 1 else _summed(pa.concat_tables(counted))
    of_requester = requesters.take(usage["requester"])
    columns = {name: (of_requester if name in of_requester.column_names else usage)[name] for name in DAILY_USAGE.names}
    return pa.table(columns, schema=encoded(DAILY_USAGE))


def _counted(rows: pa.Table, requesters: pa.Table, rule: DatasetRule) -> pa.Table:
    """The counts of some rows: a table as `_summed` gives it."""
    key, keys = coded(rows["object_key"])
    assigned = rule.assign(keys)
    rows, entry = _once_per_dataset(rows, key, assigned)
    since_epoch = rows["requested_at"].cast(pa.int64()).to_numpy() // _MILLISECONDS_PER_DAY
    columns = {
        "dataset": _encoded(assigned.dataset, entry),
        "event_date": pa.array(since_epoch, pa.int32(), safe=False).cast(pa.date32()),
        "asset_path": _encoded(assigned.path, entry),
        "requester": pa.array(_requester_of_row(rows["sealed_ip"], requesters), pa.int32()),
        "in_archive": pa.array(assigned.is_first[entry]),
        "request_count": pa.array(np.ones(rows.num_rows, np.int64)),
        "download_count": pa.array((rows["status"].to_numpy() == DOWNLOAD_STATUS).astype(np.int64)),
        "bytes_sent": rows["bytes_sent"],
    }
    return _summed(pa.table(columns))


def _encoded(values: pa.Array, rows: Codes) -> pa.DictionaryArray:
    """values[rows], which repeat."""
    encoded = values.dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.take(pa.array(rows)), encoded.dictionary)


def _summed(counts: pa.Table) -> pa.Table:
    """The measures summed over equal keys: dataset and asset_path (dictionary-encoded), event_date, requester (the row of
    the requester) and in_archive. Sorted by dataset, event_date, asset_path, requester, in_archive."""
    codes = {}
    distinct = {}
    for name in ("dataset", "event_date", "asset_path"):
        codes[name], distinct[name] = ranked(counts[name])
    requester = counts["requester"].to_numpy().astype(np.int64)
    in_archive = counts["in_archive"].to_numpy()
    joint = joint_key(
        [
            *((codes[name], len(distinct[name])) for name in codes),
            (requester, int(requester.max(initial=0)) + 1),
            *([] if in_archive.all() else [(in_archive.astype(np.int64), 2)]),
        ]
    )
    order = np.argsort(joint)
    starts = run_starts(joint[order])
    first = order[starts]  # one row of each group stands for what its rows have in common

    def total(name: str) -> pa.Array:
        measure = counts[name].to_numpy()
        return pa.array(np.add.reduceat(measure[order], starts) if starts.size else starts)

    def text(name: str) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(codes[name][first], pa.int32()), distinct[name])

    return pa.table(
        {
            "dataset": text("dataset"),
            "event_date": distinct["event_date"].take(pa.array(codes["event_date"][first])),
            "asset_path": text("asset_path"),
            "requester": pa.array(requester[first], pa.int32()),
            "in_archive": pa.array(in_archive[first]),
            **{name: total(name) for name in ("request_count", "download_count", "bytes_sent")},
        }
    )


def content_digests(usage: pa.Table) -> list[tuple[str, date, str]]:
    """(dataset, event_date, digest) of each group of DAILY_USAGE rows, in table order.

    The digest (32 hexadecimal digits) covers every other column of the group and nothing outside
    it. `usage` is sorted as `daily_usage` leaves it, so that each group is one run of rows.
    """
    dataset, datasets = coded(usage["dataset"])
    day, days = coded(usage["event_date"])
    starts = run_starts(joint_key([(dataset, len(datasets)), (day, len(days))]))
    if starts.size == 0:
        return []

    names = datasets.take(pa.array(dataset[starts])).to_pylist()
    dates = usage["event_date"].take(pa.array(starts)).to_pylist()
    digests = _digests(usage, np.append(starts, usage.num_rows))
    return list(zip(names, dates, digests, strict=True))


def _digests(usage: pa.Table, borders: Codes) -> Iterator[str]:
    """The digest of each group of rows between two `borders`. Some groups at a time, since numbers take their full width
    here."""
    first = 0
    while first < borders.size - 1:
        last = max(first + 1, int(np.searchsorted(borders, borders[first] + _ROWS_AT_ONCE, side="right")) - 1)
        start, end = int(borders[first]), int(borders[last])
        yield from _digests_of_some(usage.slice(start, end - start), (borders[first : last + 1] - start).tolist())
        first = last


def _digests_of_some(usage: pa.Table, borders: list[int]) -> Iterator[str]:
    # Numbers as one row-major matrix and texts as joined bytes: each group is three slices.
    texts = [_joined_text(usage[name]) for name in ("asset_path", "region")]
    columns = [lengths for lengths, _, _ in texts]
    for name in ("ip_index", "network_index"):
        columns.append(usage[name].is_valid().to_numpy())
        columns.append(pc.fill_null(usage[name], 0).to_numpy())
    for name in ("request_count", "download_count", "bytes_sent", "in_archive"):
        columns.append(usage[name].to_numpy())
    numbers = np.stack(columns, axis=1, dtype=np.int64)
    for start, end in pairwise(borders):
        digest = hashlib.sha256(f"usage/v2 {end - start}\n".encode())
        digest.update(numbers[start:end].data)
        for _, offsets, joined in texts:
            digest.update(joined[offsets[start] : offsets[end]])
        yield digest.hexdigest()[:DIGEST_CHARS]


def _once_per_dataset(rows: pa.Table, key: Codes, assigned: Assignment) -> tuple[pa.Table, Codes]:
    """The rows, each as many times as its key has datasets, and the row of `assigned` for each of them. `key` (n,) is
    the place of each row's key."""
    starts = assigned.starts
    if starts.size == assigned.key.size:
        return rows, key
    count = np.diff(starts, append=assigned.key.size)[key]
    row = np.repeat(np.arange(key.size), count)
    within = np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)
    needed = rows.select(["requested_at", "bytes_sent", "status", "sealed_ip"])
    return needed.take(pa.array(row)), starts[key[row]] + within


def _requesters(indexes: pa.Table, regions: pa.Table | None) -> pa.Table:
    """sealed_ip, ip_index, network_index, region of every requester of the date, and of none.

    Sorted by region and ip_index, so that a row's number ranks its requester. "None", the
    requester of rows without an address, has nulls and the region `internal`.
    """
    if regions is None:
        region = pa.chunked_array([pa.repeat(MISSING, indexes.num_rows)])
    else:
        row = pc.index_in(indexes["ip_index"], value_set=regions["ip_index"])
        if row.null_count:
            raise StoreError(
                f"ip_regions lacks {row.null_count} of the {len(row)} indexes in ip_indexes: "
                "the two tables are of different states of this date"
            )
        region = regions["region"].take(row)
    columns = {name: indexes[name] for name in ("sealed_ip", "ip_index", "network_index")}
    known = pa.table(columns | {"region": region})
    nobody = {name: [None] for name in columns} | {"region": [INTERNAL]}
    requesters = pa.concat_tables([known, pa.table(nobody, known.schema)])
    requesters = requesters.sort_by([("region", "ascending"), ("ip_index", "ascending")])
    place = requesters.column_names.index("region")
    return requesters.set_column(place, "region", requesters["region"].dictionary_encode())


def _requester_of_row(sealed_ip: pa.ChunkedArray, requesters: pa.Table) -> Codes:
    """The row of `requesters` for each row of the log; a null address finds the null one."""
    row = pc.index_in(sealed_ip, value_set=requesters["sealed_ip"])
    if row.null_count:
        raise StoreError(
            f"ip_indexes lacks the addresses of {row.null_count} of the {len(row)} rows in "
            "extracted_logs: the two tables are of different states of this date"
        )
    requester: Codes = row.to_numpy().astype(np.int64)
    return requester


def _joined_text(column: pa.ChunkedArray) -> tuple[Codes, Codes, memoryview]:
    """Lengths (n,), offsets (n + 1,) and joined bytes of a text column without nulls."""
    plain = column.cast(pa.string()).cast(pa.large_string()).combine_chunks()
    lengths, joined = string_bytes(plain)
    return lengths, np.concatenate([[0], np.cumsum(lengths)]), joined
