"""Table digests: equal exactly where the contents are."""

from itertools import pairwise

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from s3logx_assets.core.digests import table_digest

quick = settings(max_examples=60, deadline=None)

rows = st.lists(
    st.tuples(
        st.none() | st.sampled_from(["", "a", "b", "ab", "é"]),
        st.none() | st.integers(-1, 1),
        st.none() | st.sampled_from([bytes(2), b"ab"]),
    ),
    max_size=9,
)


def table_of(values: list[tuple[str | None, int | None, bytes | None]]) -> pa.Table:
    texts, numbers, seals = zip(*values, strict=True) if values else ((), (), ())
    return pa.table(
        {
            "text": pa.array(texts, pa.string()),
            "number": pa.array(numbers, pa.int64()),
            "seal": pa.array(seals, pa.binary(2)),
        }
    )


@quick
@given(rows, rows)
def test_digests_are_equal_exactly_where_contents_are(
    one: list[tuple[str | None, int | None, bytes | None]],
    other: list[tuple[str | None, int | None, bytes | None]],
) -> None:
    assert (table_digest(table_of(one)) == table_digest(table_of(other))) == (one == other)


@quick
@given(rows, st.lists(st.integers(0, 9), max_size=3), st.booleans())
def test_chunks_and_encodings_leave_no_trace(
    values: list[tuple[str | None, int | None, bytes | None]], cuts: list[int], encode: bool
) -> None:
    table = table_of(values)
    bounds = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    pieces = [table.slice(a, b - a) for a, b in pairwise(bounds)]
    if encode:
        pieces = [p.set_column(0, "text", p["text"].dictionary_encode()) for p in pieces]
    assert table_digest(pa.concat_tables(pieces)) == table_digest(table)
