"""Decisions of the automation, as pure functions."""

from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.automation import dates_to_ask_again, records_of_regions

TODAY = date(2026, 3, 1)
DAYS = [date(2025, 1, 1) + timedelta(days=number) for number in range(100)]


def asked(days_ago: int, undetermined: int = 0) -> dict[str, object]:
    """A record of a date whose lookups were made so many days ago."""
    return {
        "undetermined": undetermined,
        "asked_on": (TODAY - timedelta(days=days_ago)).isoformat(),
        "data_version": "v",
    }


def again(*records: dict[str, object], at_most: int = 10) -> list[int]:
    """The numbers of the records whose dates come again."""
    found = dates_to_ask_again(dict(zip(DAYS, records, strict=False)), TODAY, 90, at_most)
    return [DAYS.index(day) for day in found]


def test_undetermined_requesters_are_asked_for_again_the_next_day() -> None:
    assert again(asked(1, 5), asked(1), asked(30, 1), asked(0, 5)) == [0, 2]


@pytest.mark.parametrize(("days_ago", "comes"), [(0, False), (89, False), (90, False), (91, True), (4000, True)])
def test_lookups_age(days_ago: int, comes: bool) -> None:
    assert again(asked(days_ago)) == ([0] if comes else [])


def test_dates_that_no_service_was_asked_for_are_left_alone() -> None:
    assert again({"undetermined": 0, "data_version": "v"}, {"data_version": "made by an older version"}) == []
    assert again() == []


def test_of_each_kind_those_that_were_asked_longest_ago_come_first() -> None:
    records = [asked(100), asked(200), asked(150), asked(1, 1), asked(3, 1), asked(2, 1)]
    assert again(*records, at_most=2) == [1, 2, 4, 5]
    assert again(*records, at_most=1) == [1, 4]
    assert again(asked(300, 1), asked(200), asked(100, 1), at_most=1) == [0, 1]


def test_a_long_history_is_gone_through_in_pieces() -> None:
    """After a backfill all dates are of one age; each night takes the next piece until all are young again."""
    records = {day: asked(100) for day in DAYS}
    nights = 0
    while found := dates_to_ask_again(records, TODAY, 90, 30):
        assert len(found) <= 30
        assert found == sorted(found)
        records |= {day: asked(0) for day in found}
        nights += 1
    assert nights == 4


def test_one_date_that_never_succeeds_keeps_nobody_else_waiting() -> None:
    records = [asked(1, 1)] * 40 + [asked(100)]
    assert 40 in again(*records, at_most=30)


def test_any_number_of_days_is_a_time_to_live() -> None:
    assert dates_to_ask_again({DAYS[0]: asked(4000)}, TODAY, 10**18, 30) == []


def test_records_are_those_within_the_dates_and_a_damaged_partition_has_none(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    days = [date(2025, 3, number) for number in range(1, 6)]
    for day in days:
        store.write("ip_regions", f"log_date={day}", pa.table({"ip_index": [1]}), {"undetermined": day.day})
    store.path("ip_regions", "log_date=2025-03-03").write_bytes(b"damaged")
    store.path("ip_regions", "log_date=2025-03-04").unlink()
    records = records_of_regions(store, days[1], days[3])
    assert records == {days[1]: {"undetermined": 2}}
    assert records_of_regions(TableStore(tmp_path / "none"), days[0], days[4]) == {}
