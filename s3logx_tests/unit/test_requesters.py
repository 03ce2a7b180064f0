"""Who is new, and how many come from where: known answers, the order of dates, what is read and how often."""

import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3logx_assets.core import requesters
from s3logx_assets.core.requesters import (
    BY_LABEL,
    History,
    Indexes,
    by_label,
    clouds,
    count_distinct,
    counted,
    countries,
)

FIRST = date(2025, 3, 1)


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


class Stored:
    """Dates with their requesters, and which of them were read."""

    def __init__(self, requesters: dict[int, set[int]]) -> None:
        self.requesters = {day(number): indexes for number, indexes in requesters.items()}
        self.reads: list[date] = []
        self.together: list[int] = []
        self.history = History(self.read)

    def read(self, days: Sequence[date]) -> Iterator[Indexes]:
        self.reads += days
        self.together.append(len(days))
        return (sorted_of(self.requesters[when]) for when in days)

    def asked(self, number: int, indexes: set[int]) -> list[int]:
        found: list[int] = self.history.newcomers(day(number), sorted_of(indexes), list(self.requesters)).tolist()
        return found

    def new(self, number: int) -> list[int]:
        """Those of a stored date that are new."""
        return self.asked(number, self.requesters[day(number)])

    def write(self, number: int, indexes: set[int]) -> list[int]:
        """As a step does: who is new is asked before the date is stored."""
        new = self.asked(number, indexes)
        self.requesters[day(number)] = indexes
        self.history.put(day(number), sorted_of(indexes))
        return new


def sorted_of(indexes: set[int]) -> Indexes:
    return np.array(sorted(indexes), np.int64)


def test_new_is_who_no_earlier_date_has() -> None:
    stored = Stored({0: {-5, 1}, 1: {1, 2}, 2: {-5, 2, 3, 1 << 62}, 4: {3, 9}})
    assert stored.new(2) == [3, 1 << 62]
    assert stored.new(0) == [-5, 1]
    assert stored.new(4) == [9]
    assert Stored({0: set()}).new(0) == []


def test_the_newest_dates_are_read_first_and_no_more_than_needed() -> None:
    stored = Stored({0: {1}, 1: {2, 3}, 2: {3, 4}, 3: {3, 4}})
    assert stored.new(3) == []
    assert stored.reads == [day(2)]
    assert stored.asked(3, {2}) == []
    assert stored.reads == [day(2), day(1)]


def test_a_run_over_many_dates_reads_each_stored_date_once() -> None:
    stored = Stored({number: {number, 1000} for number in range(60)})
    for number in range(60, 120):
        assert stored.write(number, {number, number - 1, 1000}) == [number]
    assert len(stored.reads) == len(set(stored.reads)) == 60


def test_many_dates_are_read_together() -> None:
    """Each run read the dates one after the other: with ten years of them in a bucket, 3,650 waits for each new day."""
    stored = Stored({number: {number} for number in range(3650)})
    assert stored.write(3650, {0, 3650}) == [3650]
    assert len(stored.reads) == len(set(stored.reads)) == 3650
    assert len(stored.together) < 80
    few = Stored({number: {number} for number in range(3650)})
    assert few.write(3650, {3640}) == []
    assert few.reads == [day(number) for number in range(3649, 3639, -1)]


def test_the_rows_of_all_dates_are_never_in_memory_together() -> None:
    """Someone who asked for the first time let the run read all earlier dates, and it held every row of them: those who
    return each day once a day. An archive of ten years took the run's memory, at every new date again."""
    everyone = np.arange(100_000)

    def peak(dates: int) -> int:
        history = History(lambda days: (np.append(everyone, 1_000_000 + when.toordinal()) for when in days))
        tracemalloc.start()
        try:
            for number in (dates, dates + 1):
                asked = np.array([5, 2_000_000 + number])
                new = history.newcomers(day(number), asked, [day(each) for each in range(dates)])
                assert new.tolist() == [2_000_000 + number]
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(20), peak(160)
    assert many < 1.1 * few
    assert many < 160 * everyone.nbytes


@given(st.lists(st.sets(st.integers(0, 30), max_size=3), min_size=30, max_size=50), st.integers(0, 50))
def test_merging_while_dates_are_read_changes_nothing(held: list[set[int]], number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requesters, "_ROWS_UNMERGED", 5)
        stored = Stored(dict(enumerate(held)))
        for asked in (number, 40, number // 2):
            earlier: set[int] = set().union(*held[:asked])
            assert stored.asked(asked, set(range(33))) == sorted(set(range(33)) - earlier)


def test_dates_may_be_made_in_any_order() -> None:
    stored = Stored({})
    assert stored.write(5, {1, 2}) == [1, 2]
    assert stored.write(3, {2, 3}) == [2, 3]
    assert stored.write(4, {1, 2}) == [1]
    assert stored.write(6, {1, 3, 4}) == [4]
    assert stored.reads == []


def test_a_date_that_is_made_again_has_what_it_has_now() -> None:
    stored = Stored({number: {number} for number in range(40)})
    assert stored.write(40, {3, 40}) == [40]
    assert stored.write(41, {5, 41}) == [41]
    assert stored.write(5, {7}) == [7]
    assert stored.write(41, {41}) == [41]
    assert stored.write(42, {5, 40, 42}) == [5, 42]  # nobody has 5 any more


@given(st.lists(st.tuples(st.integers(0, 50), st.sets(st.integers(0, 30), max_size=8)), max_size=60))
def test_it_is_what_sets_say(writes: list[tuple[int, set[int]]]) -> None:
    stored = Stored({0: {1, 2}, 20: {3}, 40: {4}})
    for number, indexes in writes:
        earlier = set().union(*(held for when, held in stored.requesters.items() if when < day(number)))
        assert stored.write(number, indexes) == sorted(indexes - earlier)


def columns(
    *rows: tuple[str | None, int, int],
) -> tuple[pa.Array, np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    labels, networks, requests = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.array(labels, pa.string()), np.array(networks, np.int64), np.array(requests, np.int64)


def test_labels_are_counted_most_requests_first_then_by_name() -> None:
    labels, networks, requests = columns(
        ("B", -7, 2), ("A", 1 << 62, 1), (None, 3, 100), ("B", -7, 3), ("A", 4, 4), ("C", -7, 1 << 60), ("A", 4, 0)
    )
    counted = by_label({"one": labels, "none": pa.nulls(7, pa.string())}, networks, requests)
    assert counted["one"].schema.equals(BY_LABEL)
    assert counted["none"].schema.equals(BY_LABEL)
    assert [tuple(row.values()) for row in counted["one"].to_pylist()] == [
        *(("C", 1, 1, 1 << 60), ("A", 3, 2, 5), ("B", 2, 1, 5))
    ]
    assert counted["none"].num_rows == 0
    labels, networks, requests = columns()
    assert by_label({"empty": labels}, networks, requests)["empty"].num_rows == 0


def test_clouds_and_countries() -> None:
    rows = [
        ("AWS/us-east-2", "cloud"),
        ("GitHub", "cloud"),
        ("US/California", "geolocation"),
        ("FR", "geolocation"),
        ("VPN", "vpn"),
        ("bogon", "bogon"),
        ("unknown", "none"),
        ("US/Ohio", "geolocation"),
        ("AWS/eu-west-1", "cloud"),
    ]
    regions = pa.array([region for region, _ in rows]).dictionary_encode()
    methods = pa.chunked_array([[method for _, method in rows]])
    nobody = [None, None]
    assert clouds(regions, methods).to_pylist() == ["AWS", "GitHub", None, None, None, None, None, None, "AWS"]
    assert countries(regions, methods).to_pylist() == [*nobody, "US", "FR", *nobody, None, "US", None]
    networks, requests = np.arange(9), np.full(9, 2)
    counted = by_label({"countries": countries(regions, methods)}, networks, requests)["countries"]
    assert counted.to_pylist() == [
        {"label": "US", "requesters": 2, "networks": 2, "requests": 4},
        {"label": "FR", "requesters": 1, "networks": 1, "requests": 2},
    ]


def test_distinct_values_are_counted() -> None:
    assert count_distinct(np.array([3, -1, 3, 1 << 62, -1], np.int64)) == 3
    assert count_distinct(np.zeros(0, np.int64)) == 0


@given(st.lists(st.lists(st.none() | st.sampled_from([bytes(15) + bytes([last]) for last in range(4)])), min_size=1))
def test_values_are_counted_over_all_columns(columns: list[list[bytes | None]]) -> None:
    values, counts = counted(pa.chunked_array([column], pa.binary(16)) for column in columns)
    expected = Counter(value for column in columns for value in column if value is not None)
    assert dict(zip(values.to_pylist(), counts.to_pylist(), strict=True)) == expected
    assert values.type == pa.binary(16)
