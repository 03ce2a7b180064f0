"""From the extraction program's rows to the tables of a date: parse, number, exclude, seal, sort, merge.

Values in, values out. The program itself and the files are the adapters' business, what makes a record valid is
`core.log_lines` and the program's. Rows of a date come in chunks; a chunk is a table of ROWS in the files' order. A date
of any size is sorted part by part: parts that are in order are merged in order.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from s3logx_assets.core import addresses
from s3logx_assets.core.addresses import AddressBlock, from_column, to_column
from s3logx_assets.core.errors import ConservationError
from s3logx_assets.core.schemas import EXTRACTED_LOGS

# The program's columns; those that are kept have a type.
_COLUMNS = {
    "requested_at": pa.timestamp("s"),
    "zone": None,
    "address": pa.dictionary(pa.int32(), pa.string()),
    "requester": None,
    "request_id": pa.string(),
    "operation": None,
    "object_key": pa.dictionary(pa.int32(), pa.string()),
    "gap": None,
    "status": pa.int16(),
    "error": None,
    "bytes_sent": pa.int64(),
    "object_size": pa.int64(),
    "total_ms": None,
    "turn_around_ms": None,
    "end": None,
}
_KEPT = {name: kind for name, kind in _COLUMNS.items() if kind is not None}
_PARSE = pa.csv.ParseOptions(delimiter=" ", quote_char=False, escape_char=False, newlines_in_values=False)
# `-` is null in numbers only: an object may be called "-".
_CONVERT = pa.csv.ConvertOptions(
    column_types=_KEPT,
    include_columns=list(_KEPT),
    null_values=["-"],
    strings_can_be_null=False,
    check_utf8=False,  # the program emits no key that is not UTF-8
    timestamp_parsers=[pa.csv.ISO8601],
)
ROWS = pa.schema([(name, pa.uint64() if name == "request_id" else kind) for name, kind in _KEPT.items()])

# Rows of a date's table come in groups of so many; their number and order depend on nothing else.
GROUP = 1 << 18
# Rows in order, as they are kept outside of memory.
BATCH = pa.schema(
    [
        pa.field("key", pa.dictionary(pa.int32(), pa.string())),
        pa.field("address", pa.dictionary(pa.int32(), pa.binary(16))),
        pa.field("file", pa.int32()),
        pa.field("second", pa.int64()),
        pa.field("bytes_sent", pa.int64()),
        pa.field("object_size", pa.int64()),
        pa.field("status", pa.int16()),
        pa.field("request_id", pa.uint64()),
    ]
)

Place = tuple[bytes, int, int, bool, int, int, bool, bytes, int]

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: spreads neighbouring values
_EPOCH_BITS = 38  # seconds up to the year 9999
_KEY_BITS = 63 - _EPOCH_BITS


def parse_rows(rows: memoryview | bytes) -> pa.Table:
    """A chunk of the program's rows as a table of ROWS. `request_id` becomes a 64-bit hash: it only narrows the
    search for duplicates."""
    if not len(rows):
        return ROWS.empty_table()
    try:
        table = _read_csv(rows)
    except pa.ArrowInvalid:
        raise ConservationError("the extraction program wrote rows that cannot be read") from None
    identifier = table.schema.get_field_index("request_id")
    hashed = pa.array(_hash_strings(table["request_id"].chunk(0)))
    return table.set_column(identifier, ROWS.field("request_id"), hashed)


def _read_csv(rows: memoryview | bytes) -> pa.Table:
    return pa.csv.read_csv(
        pa.BufferReader(pa.py_buffer(rows)),
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=len(rows) + 1, column_names=list(_COLUMNS)),
        parse_options=_PARSE,
        convert_options=_CONVERT,
    ).combine_chunks()


def _hash_strings(strings: pa.StringArray) -> NDArray[np.uint64]:
    """A 64-bit hash of each string. A request ID has 16 characters, so two words hold it; others take the detour."""
    offsets = np.frombuffer(strings.buffers()[1], np.int32)[strings.offset : strings.offset + len(strings) + 1]
    data = np.frombuffer(strings.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    hashed = np.empty(len(strings), np.uint64)
    usual = np.diff(offsets) == 16
    if usual.all():
        words = data.view(np.uint64).reshape(-1, 2)
    else:
        starts = (offsets[:-1] - offsets[0])[usual]
        words = data[starts[:, None] + np.arange(16)].view(np.uint64)
        others = [strings[row].as_py().encode() for row in np.flatnonzero(~usual).tolist()]
        digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in others)
        hashed[~usual] = np.frombuffer(digests, np.uint64)
    with np.errstate(over="ignore"):
        hashed[usual] = words[:, 0] * _MIX ^ words[:, 1]
    return hashed


_PLAIN = ("file", "second", "bytes_sent", "object_size", "status", "request_id")


@dataclass(slots=True)
class DateRows:
    """Rows of one date, with codes instead of texts; row i comes from file number `file[i]`.

    `key` and `address` are codes into `keys` and `addresses`, which are sealed; the address code -1 stands for none.
    Sizes below 0 are null.
    """

    keys: pa.StringArray
    addresses: AddressBlock
    file: NDArray[np.int32]
    key: NDArray[np.int32]
    address: NDArray[np.int32]
    second: NDArray[np.int64]
    bytes_sent: NDArray[np.int64]
    object_size: NDArray[np.int64]
    status: NDArray[np.int16]
    request_id: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.file)

    def chosen(self, rows: Any) -> "DateRows":
        """Some of the rows: a slice, a mask, or row numbers."""
        columns = {name: getattr(self, name)[rows] for name in ("key", "address", *_PLAIN)}
        return DateRows(self.keys, self.addresses, **columns)

    def place(self, row: int) -> Place:
        """Where a row stands in the order of a date: key bytes, time, then every other column, nulls last; rows that are
        equal in all of them by their request."""
        address, size = int(self.address[row]), int(self.object_size[row])
        return (
            self.keys[int(self.key[row])].as_py().encode(),
            int(self.second[row]),
            int(self.bytes_sent[row]),
            size < 0,
            size,
            int(self.status[row]),
            address < 0,
            self.addresses[address].tobytes() if address >= 0 else b"",
            int(self.request_id[row]),
        )


def gather(
    chunks: Sequence[pa.Table],
    files: Sequence[NDArray[np.int32]],
    is_excluded: Callable[[str], bool] | None,
    seal: Callable[[AddressBlock], AddressBlock],
) -> tuple[DateRows, NDArray[np.int32]]:
    """The rows of a date from its chunks and, for each chunk, the file number of each row, their addresses sealed; and
    apart from them the file number of each row that was left out because `is_excluded` said so of its address as
    logged."""
    table = pa.concat_tables(chunks).unify_dictionaries().combine_chunks() if chunks else ROWS.empty_table()
    columns = {item.name: table[item.name].chunk(0) if chunks else pa.array([], item.type) for item in ROWS}
    # The chunks of many dates share one report's dictionary; only this date's own addresses are worth unpacking.
    codes = _numpy(columns["address"].indices)
    used, place = _used(codes, len(columns["address"].dictionary))
    codes = place[codes]
    texts: list[str] = columns["address"].dictionary.filter(pa.array(used)).to_pylist()
    recode = np.cumsum([text != "-" for text in texts], dtype=np.int32) - 1
    recode[[text == "-" for text in texts]] = -1
    rows = DateRows(
        keys=columns["object_key"].dictionary,
        addresses=seal(addresses.pack_all([text for text in texts if text != "-"])),
        file=np.concatenate(files) if files else np.empty(0, np.int32),
        key=_numpy(columns["object_key"].indices),
        address=recode[codes] if len(texts) else codes,
        second=_numpy(columns["requested_at"].cast(pa.int64())),
        bytes_sent=_numpy(columns["bytes_sent"].fill_null(0)),
        object_size=_numpy(columns["object_size"].fill_null(-1)),
        status=_numpy(columns["status"]),
        request_id=_numpy(columns["request_id"]),
    )
    left_out = np.empty(0, np.int32)
    if is_excluded is not None:
        excluded = np.array([is_excluded(text) for text in texts], dtype=bool)
        if excluded.any():
            mask = excluded[codes]
            left_out = rows.file[mask]
            rows = rows.chosen(~mask)
    return rows, left_out


def in_order(rows: DateRows) -> DateRows:
    """The same rows by `place`, and of the keys those that they have, ascending. A pure function of the multiset of rows:
    neither their order nor unused keys leave a trace."""
    used, recode = _used(rows.key, len(rows.keys))
    keys = rows.keys.filter(pa.array(used))
    order = _numpy(pc.array_sort_indices(keys)).astype(np.int64)
    rank = np.empty(len(keys), np.int32)
    rank[order] = np.arange(len(keys), dtype=np.int32)
    key = rank[recode[rows.key]] if len(rows) else np.empty(0, np.int32)
    permutation = _sorted(rows, key, len(keys))
    ordered = rows.chosen(permutation)
    ordered.keys, ordered.key = keys.take(pa.array(order)), key[permutation]
    return ordered


def joined(parts: Sequence[DateRows]) -> DateRows:
    """The rows of all parts, one after the other. The keys are in the order in which they first appear."""
    if len(parts) == 1:
        return parts[0]
    parts = [_compact(part) for part in parts]
    encoded = pa.concat_arrays([part.keys for part in parts]).dictionary_encode()
    recode = _numpy(encoded.indices)
    keys_before = np.cumsum([0, *(len(part.keys) for part in parts)])
    addresses_before = np.cumsum([0, *(len(part.addresses) for part in parts)], dtype=np.int32)
    key = [recode[part.key + before] for part, before in zip(parts, keys_before[:-1], strict=True)]
    address = [
        np.where(part.address < 0, part.address, part.address + before)
        for part, before in zip(parts, addresses_before[:-1], strict=True)
    ]
    return DateRows(
        encoded.dictionary,
        np.concatenate([part.addresses for part in parts]),
        key=np.concatenate(key),
        address=np.concatenate(address),
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _PLAIN},
    )


def _compact(rows: DateRows) -> DateRows:
    """The same rows with no key and no address that they do not have."""
    used, key = _used(rows.key, len(rows.keys))
    known = rows.address >= 0
    used_addresses, address = _used(rows.address[known], len(rows.addresses))
    codes = np.full(len(rows), -1, np.int32)
    codes[known] = address[rows.address[known]]
    return DateRows(
        rows.keys.filter(pa.array(used)),
        rows.addresses[used_addresses],
        key=key[rows.key],
        address=codes,
        **{name: getattr(rows, name) for name in _PLAIN},
    )


def up_to(rows: DateRows, last: Place) -> int:
    """How many of `rows`, which are in order, come before `last` or stand there too."""
    return bisect_right(range(len(rows)), last, key=rows.place)


def repeated(rows: DateRows) -> NDArray[np.int64]:
    """The row numbers, ascending, of all rows that look like another one: same request ID and same columns. `rows` are in
    order. Whether their records are identical in every byte is for the caller to see."""
    request_id = rows.request_id
    second = np.flatnonzero(request_id[1:] == request_id[:-1]) + 1
    for column in (rows.key, rows.second, rows.bytes_sent, rows.object_size, rows.status):
        second = second[column[second] == column[second - 1]]
    sealed = np.vstack([rows.addresses, np.zeros((1, 16), np.uint8)])
    nowhere = rows.address < 0
    alike = (sealed[rows.address[second]] == sealed[rows.address[second - 1]]).all(axis=1)
    second = second[alike & (nowhere[second] == nowhere[second - 1])]
    return np.union1d(second - 1, second)


def grouped(parts: Iterable[DateRows]) -> Iterator[DateRows]:
    """The rows of all parts, in their order, in groups of GROUP rows; the last may have fewer, and an only one none."""
    waiting: list[DateRows] = []
    count = 0
    first = True
    for part in parts:
        waiting.append(part)
        count += len(part)
        if count < GROUP:
            continue
        rows = joined(waiting)
        whole = count - count % GROUP
        for start in range(0, whole, GROUP):
            yield rows.chosen(slice(start, start + GROUP))
            first = False
        count -= whole
        waiting = [rows.chosen(slice(whole, None))] if count else []
    if waiting and (count or first):
        yield joined(waiting)


def to_table(rows: DateRows) -> pa.Table:
    """Rows in order, with their keys ascending, as a table of EXTRACTED_LOGS."""
    used, recode = _used(rows.key, len(rows.keys))
    columns = [
        pa.DictionaryArray.from_arrays(pa.array(recode[rows.key]), rows.keys.filter(pa.array(used))),
        pa.array(rows.second * 1000).cast(pa.timestamp("ms", tz="UTC")),
        pa.array(rows.bytes_sent),
        pa.array(rows.object_size, mask=rows.object_size < 0),
        pa.array(rows.status),
        to_column(rows.addresses, rows.address),
    ]
    return pa.table(columns, schema=EXTRACTED_LOGS)


def to_batch(rows: DateRows) -> pa.RecordBatch:
    """Rows as a batch of BATCH, with no key and no address that they do not have."""
    rows = _compact(rows)
    block = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(rows.addresses), [None, pa.py_buffer(np.ascontiguousarray(rows.addresses))]
    )
    columns = [
        pa.DictionaryArray.from_arrays(pa.array(rows.key), rows.keys),
        pa.DictionaryArray.from_arrays(pa.array(rows.address, mask=rows.address < 0), block),
        *(pa.array(getattr(rows, name)) for name in _PLAIN),
    ]
    return pa.record_batch(columns, schema=BATCH)


def from_batch(batch: pa.RecordBatch) -> DateRows:
    """What `to_batch` was given."""
    key, address = batch["key"], batch["address"]
    return DateRows(
        key.dictionary,
        from_column(address.dictionary),
        key=_numpy(key.indices),
        address=_numpy(address.indices.fill_null(-1)),
        **{name: _numpy(batch[name]) for name in _PLAIN},
    )


def _numpy(array: pa.Array) -> NDArray[Any]:
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _used(codes: NDArray[np.int32], count: int) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Which of `count` codes occur, and the code of each among those."""
    used = np.bincount(codes, minlength=count) > 0
    return used, (np.cumsum(used) - 1).astype(np.int32)


def _sorted(rows: DateRows, key: NDArray[np.int32], keys: int) -> NDArray[np.int64]:
    if keys >= 1 << _KEY_BITS:
        return np.lexsort((*_others(rows, np.arange(len(rows))), rows.second, key))
    # One integer holds key and time; only the few rows that share both are compared in full.
    composite = (key.astype(np.int64) << _EPOCH_BITS) | rows.second
    permutation = np.argsort(composite)
    composite = composite[permutation]
    tied = np.zeros(len(composite), bool)
    tied[1:] = composite[1:] == composite[:-1]
    tied[:-1] |= tied[1:]
    if tied.any():
        among = permutation[tied]
        within = np.lexsort((*_others(rows, among), composite[tied]))
        permutation[tied] = among[within]
    return permutation


def _others(rows: DateRows, among: NDArray[np.int64]) -> tuple[NDArray, ...]:  # type: ignore[type-arg]
    """The columns after key and time of the rows `among`, last one first, as lexsort wants them; nulls are greatest."""
    halves = np.vstack([rows.addresses, np.full((1, 16), 0xFF, np.uint8)]).view(">u8")
    address = rows.address[among]
    size = rows.object_size[among]
    return (
        rows.request_id[among],
        halves[address, 1],
        halves[address, 0],
        address < 0,
        rows.status[among],
        size,
        size < 0,
        rows.bytes_sent[among],
    )
