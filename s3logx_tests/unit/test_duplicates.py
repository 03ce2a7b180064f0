"""Which files are worth reading again because others look the same."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from s3logx_assets.adapters.duplicates import alike


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 2)), max_size=30))
def test_alike_are_all_rows_that_equal_another_one(rows: list[tuple[int, int, int]]) -> None:
    counts = Counter(rows)
    expected = [place for place, row in enumerate(rows) if counts[row] > 1]
    assert alike(np.array(rows, np.int64).reshape(-1, 3)).tolist() == expected
