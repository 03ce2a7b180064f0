"""Content digests of tables: equal content gives an equal digest, however Arrow lays it out.

Chunks, dictionary encoding, offsets, spare validity bitmaps and what lies under a null leave no
trace in a digest. What a digest is used for (data versions, change detection) does not belong here.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

DIGEST_CHARS = 32  # of SHA-256 in hexadecimal: 128 bits


def table_digest(table: pa.Table) -> str:
    """The digest of a table's column names, types and values in order: 32 hexadecimal digits.

    Columns: integers, booleans, floats, dates, timestamps, strings or binary (plain, large or
    dictionary-encoded; these encodings are one type here) and fixed-size binary, each with or
    without nulls. Raises TypeError for any other type.
    """
    digest = hashlib.sha256(f"table/v1 {table.num_columns} {table.num_rows}".encode())
    for name, column in zip(table.column_names, table.columns, strict=True):
        value_type = _value_type(column.type)
        digest.update(f"\n{len(name)} {name} {value_type}\n".encode())
        if value_type in ("string", "binary"):
            _update_with_strings(digest, column)
        else:
            _update_with_fixed_width(digest, column)
    return digest.hexdigest()[:DIGEST_CHARS]


def combined(digests: Sequence[str]) -> str:
    """The digest of a table that comes in groups, from those of its groups; that of an only one is the table's."""
    return digests[0] if len(digests) == 1 else text_digest(*digests)


def text_digest(*parts: str) -> str:
    """The digest of a sequence of texts, not of their joined text: 32 hexadecimal digits."""
    framed = "".join(f"{len(part)} {part}\n" for part in parts)
    return hashlib.sha256(framed.encode()).hexdigest()[:DIGEST_CHARS]


def fixed_width_bytes(array: pa.Array) -> bytes | memoryview:
    """The values of an array of fixed width as contiguous little-endian bytes, zero where null."""
    if pa.types.is_fixed_size_binary(array.type):
        width = array.type.byte_width
        if array.null_count:
            array = pc.fill_null(array, pa.scalar(bytes(width), array.type))
        start = array.offset * width
        return memoryview(array.buffers()[1])[start : start + len(array) * width]
    if pa.types.is_date32(array.type):
        array = array.cast(pa.int32())
    elif pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    elif pa.types.is_timestamp(array.type) or pa.types.is_date64(array.type):
        array = array.cast(pa.int64())
    if array.null_count:
        array = pc.fill_null(array, pa.scalar(0, array.type))
    return np.ascontiguousarray(array.to_numpy(zero_copy_only=True)).data.cast("B")


def string_bytes(array: pa.Array) -> tuple[npt.NDArray[np.int64], memoryview]:
    """The lengths (int64) and the joined bytes of a string or binary array without nulls."""
    wide = array.cast(pa.large_binary())
    if len(wide) == 0:
        return np.zeros(0, np.int64), memoryview(b"")
    _, offset_buffer, data = wide.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64, len(wide) + 1, wide.offset * 8)
    joined = memoryview(data)[offsets[0] : offsets[-1]] if data else memoryview(b"")
    return np.diff(offsets), joined


def _value_type(arrow_type: Any) -> str:
    """The name under which a type enters the digest."""
    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
        if not _is_text(arrow_type) and not _is_bytes(arrow_type):
            raise TypeError(f"no content digest for a dictionary of {arrow_type}")
    if _is_text(arrow_type):
        return "string"
    if _is_bytes(arrow_type):
        return "binary"
    fixed = (
        pa.types.is_integer(arrow_type)
        or pa.types.is_boolean(arrow_type)
        or pa.types.is_floating(arrow_type)
        or pa.types.is_date(arrow_type)
        or pa.types.is_timestamp(arrow_type)
        or pa.types.is_fixed_size_binary(arrow_type)
    )
    if not fixed:
        raise TypeError(f"no content digest for columns of type {arrow_type}")
    return str(arrow_type)


def _is_text(arrow_type: Any) -> bool:
    return bool(pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type))


def _is_bytes(arrow_type: Any) -> bool:
    return bool(pa.types.is_binary(arrow_type) or pa.types.is_large_binary(arrow_type))


def _update_with_fixed_width(digest: Any, column: pa.ChunkedArray) -> None:
    digest.update(f"{column.null_count}\n".encode())
    if column.null_count:
        digest.update(np.packbits(column.is_null().to_numpy()).data)
    for chunk in column.chunks:
        digest.update(fixed_width_bytes(chunk))


def _update_with_strings(digest: Any, column: pa.ChunkedArray) -> None:
    """Distinct values in order of first appearance, then one int32 per row (-1 for null).

    Hashing codes instead of the repeated text makes keys of a million rows a few megabytes.
    """
    codes, distinct = _encoded(column)
    lengths, joined = string_bytes(distinct)
    digest.update(f"{len(distinct)}\n".encode())
    digest.update(lengths.data)
    digest.update(joined)
    digest.update(codes.data)


def _encoded(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], pa.Array]:
    """Codes by first appearance, and the values they stand for."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    unified = column.unify_dictionaries()
    if unified.num_chunks == 0:
        return np.zeros(0, np.int32), pa.array([], pa.string())
    dictionary = unified.chunk(0).dictionary
    # A dictionary may repeat a value, hold a null, and hold values that no row uses.
    merged = dictionary.dictionary_encode()
    merge = _with_minus_one(merged.indices)
    codes = np.concatenate([_with_minus_one(chunk.indices) for chunk in unified.chunks])
    codes[codes >= 0] = merge[codes[codes >= 0]]

    used = codes >= 0
    rows = np.flatnonzero(used)
    first_row = np.full(len(merged.dictionary), len(codes), np.int64)
    first_row[codes[rows[::-1]]] = rows[::-1]  # the last assignment stands: the first row
    appearance = np.argsort(first_row, kind="stable")[: np.count_nonzero(first_row < len(codes))]
    renumbered = np.full(len(merged.dictionary), -1, np.int32)
    renumbered[appearance] = np.arange(appearance.size, dtype=np.int32)
    codes[used] = renumbered[codes[used]]
    return codes, merged.dictionary.take(pa.array(appearance))


def _with_minus_one(indices: pa.Array) -> npt.NDArray[np.int32]:
    """Dictionary indices as int32, -1 where null."""
    return np.array(pc.fill_null(indices.cast(pa.int32()), -1), np.int32)
