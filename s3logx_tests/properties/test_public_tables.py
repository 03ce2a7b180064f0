"""Public tables: written as pandas writes them, and read back as they were."""

import csv
from io import StringIO

import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from s3logx_assets.core.privacy.compatible import published_count
from s3logx_assets.core.public_tables import by_asset
from s3logx_assets.core.schemas import BY_ASSET

quick = settings(max_examples=60, deadline=None)


nasty = st.text(st.sampled_from("\"'\\=+-@ ,;#éa0<>\u2028\u0085\U0001f600%"), min_size=1)
paths = nasty | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
counts = st.integers(0, 2**62)
tables = st.lists(st.tuples(paths, counts, counts, counts), unique_by=lambda row: row[0])


@quick
@given(tables)
def test_quoting_and_numbers_are_those_of_pandas(rows: list[tuple[str, int, int, int]]) -> None:
    table = pa.Table.from_pylist([dict(zip(BY_ASSET.names, row, strict=True)) for row in rows], schema=BY_ASSET)
    cells = [("'" + row[0] if row[0][0] in "=+-@" else row[0], *row[1:]) for row in rows]
    cells.sort(key=lambda row: row[0].encode())
    frame = pd.DataFrame(
        {
            "asset_path": [row[0] for row in cells],
            "bytes_sent": [row[1] for row in cells],
            "number_of_requests": [published_count(row[2]) for row in cells],
            "number_of_downloads": [published_count(row[3]) for row in cells],
        }
    )
    expected = frame.to_csv(sep="\t", index=False, lineterminator="\n")
    written = by_asset(table, 50, 20).tsv().decode()
    assert written == expected

    read = list(csv.reader(StringIO(written, newline=""), delimiter="\t"))[1:]
    assert [line[0] for line in read] == [row[0] for row in cells]
