"""The grouping steps: codes, joint keys and reductions, at their edges."""

import numpy as np
import pyarrow as pa
import pytest

from s3logx_assets.core.grouping import coded, joint_key, ranked, reduced, run_starts


@pytest.mark.parametrize(
    "values",
    [
        pa.chunked_array([["b", "a"], [], ["b"]]),
        pa.chunked_array([["b", "a"], [], ["b"]]).dictionary_encode(),
        pa.array(["b", "a", "b"]),
        pa.DictionaryArray.from_arrays([3, 1, 0], ["b", "a", "unused", "b"]),
        pa.chunked_array([pa.array(["b"]).dictionary_encode(), pa.array(["a", "b"]).dictionary_encode()]),
    ],
)
def test_codes_find_their_values_in_every_layout(values: pa.Array) -> None:
    for code in (coded, ranked):
        codes, distinct = code(values)
        assert distinct.type == pa.string()
        assert distinct.take(pa.array(codes)).to_pylist() == ["b", "a", "b"]


def test_ranks_order_texts_by_bytes_and_integers_by_value() -> None:
    codes, distinct = ranked(pa.array(["é", "z", "Z", "\U0001f600", "\uffff"]))
    assert distinct.to_pylist() == ["Z", "z", "é", "\uffff", "\U0001f600"]
    assert codes.tolist() == [2, 1, 0, 4, 3]
    codes, distinct = ranked(pa.array([2**62, -(2**63), 2**62 + 1], pa.int64()))
    assert distinct.to_pylist() == [-(2**63), 2**62, 2**62 + 1]
    assert codes.tolist() == [1, 0, 2]


def test_no_values_have_no_codes() -> None:
    for empty in (pa.array([], pa.int64()), pa.chunked_array([], pa.dictionary(pa.int32(), "str"))):
        codes, distinct = ranked(empty)
        assert codes.size == len(distinct) == 0


def test_joint_keys_order_like_their_columns_even_past_64_bits() -> None:
    rows = np.array([[1, 0, 0], [0, 0, 1], [0, 2**40 - 1, 0], [2**40 - 1, 5, 7], [0, 0, 1]])
    key = joint_key([(column, 2**40) for column in rows.T])
    assert np.argsort(key, kind="stable").tolist() == [1, 4, 2, 0, 3]
    assert key[1] == key[4]


@pytest.mark.parametrize("size", [3, 1000])
def test_reductions_agree_with_and_without_a_sort(size: int) -> None:
    key = np.array([2, 2, 0, 2, 0])
    values = np.array([2**62, 1, -(2**63), 3, 7])
    keys, [total] = reduced(key, size, [values])
    assert keys.tolist() == [0, 2]
    assert total.tolist() == [7 - 2**63, 2**62 + 4]
    keys, [least, again] = reduced(key, size, [values, values], np.minimum)
    assert keys.tolist() == [0, 2]
    assert least.tolist() == again.tolist() == [-(2**63), 1]


def test_nothing_reduces_to_nothing() -> None:
    nothing = np.zeros(0, np.int64)
    for size in (0, 1):
        keys, [total] = reduced(nothing, size, [nothing])
        assert keys.size == total.size == 0
    assert run_starts(nothing).size == 0
    assert run_starts(np.array([5, 5, 4, 5])).tolist() == [0, 2, 3]
