"""Policy `compatible`: known answers at the edges, for single counts and columns."""

import pyarrow as pa
import pytest

from s3logx_assets.core.privacy.compatible import published_count, published_counts


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "<50"),
        (49, "<50"),
        (50, 60),  # banker's rounding of 2.5 would make 40 of it, below the threshold
        (69, 60),
        (70, 80),
        (89, 80),
        (90, 100),
        (110, 120),
        (2**53 + 11, 2**53 + 8),
        (2**62, 2**62 - 4),
    ],
)
def test_known_answers(count: int, shown: int | str) -> None:
    assert published_count(count) == shown


def test_a_rounding_that_leads_below_the_threshold_is_lifted_to_the_next_multiple() -> None:
    assert published_count(45, threshold=45, rounding=20) == 60
    assert published_count(45, threshold=45, rounding=100) == 100
    assert published_count(50, threshold=50, rounding=10) == 50
    assert published_count(0, threshold=0, rounding=20) == 0


@pytest.mark.parametrize(("threshold", "rounding"), [(-1, 20), (50, 0)])
def test_impossible_policies_are_refused(threshold: int, rounding: int) -> None:
    with pytest.raises(ValueError, match="start at"):
        published_count(1, threshold, rounding)


def test_a_column_is_masked_value_by_value() -> None:
    counts = pa.chunked_array([[49, 50], [], [70, 50, 2**53 + 11]])
    shown = published_counts(counts)
    assert shown.to_pylist() == [None, 60, 80, 60, 2**53 + 8]
    assert published_counts(pa.array([10], pa.int64()), 10, 1).to_pylist() == [10]
    assert published_counts(pa.array([], pa.int64())).to_pylist() == []
