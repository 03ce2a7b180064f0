"""Policy `compatible`, for every count, threshold and rounding."""

from fractions import Fraction

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from s3logx_assets.core.privacy.compatible import published_count, published_counts

quick = settings(max_examples=100, deadline=None)

counts = st.integers(0, 300) | st.integers(0, 2**62)


@quick
@given(counts, st.integers(0, 200), st.integers(1, 100))
def test_a_shown_number_is_a_near_multiple_and_not_below_the_threshold(
    count: int, threshold: int, rounding: int
) -> None:
    shown = published_count(count, threshold, rounding)
    if count < threshold:
        assert shown == f"<{threshold}"
    else:
        assert isinstance(shown, int)
        assert shown % rounding == 0
        assert shown >= threshold
        assert abs(shown - count) <= Fraction(rounding, 2) or shown - threshold < rounding


@quick
@given(st.lists(counts), st.integers(0, 200), st.integers(1, 100))
def test_columns_agree_with_single_counts(values: list[int], threshold: int, rounding: int) -> None:
    shown = published_counts(pa.array(values, pa.int64()), threshold, rounding).to_pylist()
    single = [published_count(value, threshold, rounding) for value in values]
    assert shown == [None if isinstance(value, str) else value for value in single]
