"""Content digests: one per content, whatever the layout in memory."""

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

from s3logx_assets.core.digests import table_digest, text_digest

TABLE = pa.table(
    {
        "text": ["b", "a", None, "b", ""],
        "number": pa.array([1, None, 2**62, -1, 0], pa.int64()),
        "small": pa.array([1, 2, 3, 4, None], pa.int16()),
        "real": [0.5, -1.25, None, 0.0, 1e300],
        "day": pa.array([date(2024, 1, 1), None, date(1970, 1, 1), date(9999, 12, 31), None]),
        "time": pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 4 + [None], pa.timestamp("ms", "UTC")),
        "sealed": pa.array([b"a" * 16, None, b"b" * 16, b"c" * 16, b"d" * 16], pa.binary(16)),
    }
)


def layouts() -> dict[str, pa.Table]:
    encoded = TABLE.set_column(0, "text", TABLE["text"].dictionary_encode())
    odd = pa.DictionaryArray.from_arrays(pa.array([4, 0, None, 1, 3], pa.int8()), ["a", "b", "unused", "", "b"])
    null_value = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 0, 3]), ["b", "a", None, ""])
    padded = pa.concat_tables([TABLE.slice(3), TABLE, TABLE.slice(1)]).combine_chunks()
    under_nulls = pa.Array.from_buffers(
        pa.int64(),
        5,
        [pa.py_buffer(b"\x1d"), pa.py_buffer(np.array([1, 99, 2**62, -1, 0], np.int64))],
    )
    return {
        "chunks": pa.concat_tables([TABLE.slice(0, 2), TABLE.slice(2, 0), TABLE.slice(2)]),
        "offsets": padded.slice(2, 5),
        "dictionary": encoded,
        "dictionaries": pa.concat_tables(
            [
                TABLE.slice(at, 1).set_column(0, "text", TABLE["text"].slice(at, 1).dictionary_encode())
                for at in range(5)
            ]
        ),
        "unused and repeated dictionary values": TABLE.set_column(0, "text", odd),
        "null in the dictionary": TABLE.set_column(0, "text", null_value),
        "large": TABLE.set_column(0, "text", TABLE["text"].cast(pa.large_string())),
        "under nulls": TABLE.set_column(1, "number", under_nulls),
        "metadata": TABLE.replace_schema_metadata({"written": "today"}),
    }


@pytest.mark.parametrize("layout", layouts())
def test_the_layout_leaves_no_trace(layout: str) -> None:
    assert table_digest(layouts()[layout]) == table_digest(TABLE)


def test_a_spare_validity_bitmap_leaves_no_trace() -> None:
    values = pa.py_buffer(np.arange(3))
    with_bitmap = pa.Array.from_buffers(pa.int64(), 3, [pa.py_buffer(b"\xff"), values])
    without = pa.Array.from_buffers(pa.int64(), 3, [None, values])
    digests = {table_digest(pa.table({"x": array})) for array in (with_bitmap, without)}
    assert len(digests) == 1


def test_every_difference_in_content_shows() -> None:
    tables = [
        TABLE,
        TABLE.slice(1),
        TABLE.slice(0, 4),
        TABLE.take(pa.array([1, 0, 2, 3, 4])),
        TABLE.select(["number", "text"]),
        TABLE.select(["text", "number"]),
        TABLE.rename_columns(["Text", *TABLE.column_names[1:]]),
        TABLE.set_column(0, "text", pa.array(["b", "a", "", "b", ""])),
        TABLE.set_column(0, "text", pa.array(["ba", "", None, "ba", ""])),
        TABLE.set_column(0, "text", pa.array(["a", "b", None, "a", ""])),
        TABLE.set_column(1, "number", pa.array([1, 0, 2**62, -1, 0], pa.int64())),
        TABLE.set_column(1, "number", pa.array([1, 0, 2**62, -1, None], pa.int64())),
        TABLE.set_column(2, "small", TABLE["small"].cast(pa.int32())),
        TABLE.set_column(6, "sealed", pa.array([bytes(16)] * 5, pa.binary(16))),
        TABLE.set_column(6, "sealed", pa.array([None] * 5, pa.binary(16))),
        pa.table({}),
    ]
    assert len({table_digest(table) for table in tables}) == len(tables)


def test_empty_tables_differ_by_schema_only() -> None:
    empty = TABLE.slice(0, 0)
    assert table_digest(empty) == table_digest(TABLE.schema.empty_table())
    assert table_digest(empty) != table_digest(empty.select(["text"]))


def test_a_type_without_canonical_bytes_is_refused() -> None:
    with pytest.raises(TypeError, match="list"):
        table_digest(pa.table({"x": [[1]]}))
    with pytest.raises(TypeError, match="dictionary of int64"):
        table_digest(pa.table({"x": pa.array([1]).dictionary_encode()}))


def test_the_digest_is_pinned() -> None:
    """A change here changes every data version: all partitions would look changed at once."""
    assert table_digest(TABLE) == "6cdda771d173044f533d0bd28b523f0e"
    assert text_digest("level", "1") == "49f15c3d9aef73a6021ae996cfcdad14"


def test_texts_are_framed() -> None:
    assert text_digest("ab", "c") != text_digest("a", "bc") != text_digest("abc")
