"""The report's figures: summed up exactly, masked one by one, in an order that tells nothing."""

from datetime import date, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3logx_assets.core.asset_types import DEFAULT
from s3logx_assets.core.schemas import BY_DAY
from s3logx_assets.core.scope_report import Listing, Policy, ScopeReport, Usage, periods, scope_report, usual_unit
from s3logx_assets.core.summaries import summarise
from s3logx_tests.usage_tables import usage

POLICY = Policy(50, 20)
MONDAY = date(2024, 12, 30)


def by_day(rows: dict[date, int]) -> pa.Table:
    counts = [rows[day] for day in sorted(rows)]
    return pa.table([sorted(rows), [7 * count for count in counts], counts, [0] * len(counts)], schema=BY_DAY)


def report(rows: list[dict[str, object]], listed: int = 10) -> ScopeReport:
    tables = summarise([usage(rows)], ["ds"], DEFAULT)["ds"]
    return scope_report("ds", tables, POLICY, 92, 105, listed)


def test_a_week_is_not_the_sum_of_its_masked_days() -> None:
    days = by_day({MONDAY + timedelta(number): 30 for number in range(8)})
    assert [period.requests for period in periods(days, "day", POLICY, 99).filled] == [None] * 8
    weeks = periods(days, "week", POLICY, 99)
    assert [(period.start, period.requests) for period in weeks.filled] == [
        (MONDAY, 220),
        (MONDAY + timedelta(7), None),
    ]
    months = periods(days, "month", POLICY, 99)
    assert [(period.start, period.requests) for period in months.filled] == [
        (date(2024, 12, 1), 60),
        (date(2025, 1, 1), 180),
    ]


def test_cumulative_figures_count_what_lies_before_the_first_period_shown() -> None:
    days = by_day({MONDAY + timedelta(number): 30 for number in range(5)})
    shown = periods(days, "day", POLICY, 2, cumulative=True)
    assert shown.starts == (MONDAY + timedelta(3), MONDAY + timedelta(4))
    assert [(period.bytes_sent, period.requests) for period in shown.filled] == [(840, 120), (1050, 160)]


def test_days_without_requests_have_a_place_and_no_figure() -> None:
    shown = periods(by_day({MONDAY: 60, MONDAY + timedelta(3): 60}), "day", POLICY, 99)
    assert len(shown.starts) == 4
    assert [period.place for period in shown.filled] == [0, 3]


@given(st.dictionaries(st.dates(date(1999, 1, 1), date(2030, 1, 1)), st.integers(1, 500), min_size=1, max_size=60))
def test_every_unit_has_every_byte(rows: dict[date, int]) -> None:
    days = by_day(rows)
    for unit in ("day", "week", "month"):
        shown = periods(days, unit, POLICY, 10**6)
        assert sum(period.bytes_sent for period in shown.filled) == 7 * sum(rows.values())
        assert all(shown.starts[period.place] == period.start for period in shown.filled)
        assert shown.starts[0] <= min(rows)
        assert shown.starts[-1] <= max(rows)
        assert list(shown.starts) == sorted(set(shown.starts))
        if unit == "week":
            assert {start.weekday() for start in shown.starts} == {0}


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60))
def test_no_count_below_the_threshold_is_told(counts: list[int]) -> None:
    days = by_day({MONDAY + timedelta(number): count for number, count in enumerate(counts)})
    shown = periods(days, "day", POLICY, 10**6).filled
    assert [period.requests is None for period in shown] == [count < 50 for count in counts]
    assert all(period.requests % 20 == 0 for period in shown if period.requests is not None)


def test_regions_are_people_data_centres_or_no_place() -> None:
    labels = [
        "US/Ohio",
        "DE",
        "AWS/us-east-2",
        "GitHub",
        "Hetzner",
        "VPN",
        "bogon",
        "unknown",
        "undetermined",
        "missing",
    ]
    rows: list[dict[str, object]] = [
        {"dataset": "ds", "region": label, "ip_index": number, "bytes_sent": number}
        for number, label in enumerate(labels, 1)
    ]
    rows.append({"dataset": "ds", "region": "internal", "ip_index": None, "network_index": None})
    found = report(rows)
    names = {kind: {usage.name for usage in getattr(found, kind).shown} for kind in ("places", "clouds", "elsewhere")}
    assert names["places"] == {"US/Ohio", "DE"}
    assert names["clouds"] == {"AWS/us-east-2", "GitHub", "Hetzner"}
    assert names["elsewhere"] == {"VPN", "bogon", "unknown", "undetermined", "missing", "internal"}


def test_lists_are_in_the_order_of_bytes_and_say_how_long_they_are() -> None:
    """By requests it would tell which of two masked counts is the larger."""
    rows: list[dict[str, object]] = [
        {"dataset": "ds", "asset_path": f"f{number}", "bytes_sent": number % 3, "request_count": 10 - number}
        for number in range(9)
    ]
    found = report(rows, listed=4).assets
    assert found == Listing(
        (
            Usage("f2", 2, None, None),
            Usage("f5", 2, None, None),
            Usage("f8", 2, None, None),
            Usage("f1", 1, None, None),
        ),
        9,
    )


@pytest.mark.parametrize(("days", "unit"), [(0, "day"), (92, "day"), (93, "week"), (800, "week"), (801, "month")])
def test_the_usual_unit(days: int, unit: str) -> None:
    assert usual_unit(MONDAY, MONDAY + timedelta(days)) == unit


def test_kinds_of_files_have_exact_bytes() -> None:
    rows: list[dict[str, object]] = [
        {"dataset": "ds", "asset_path": "a.nwb", "bytes_sent": 5},
        {"dataset": "ds", "asset_path": "b.nwb", "bytes_sent": 6},
        {"dataset": "ds", "asset_path": "c.txt", "bytes_sent": 1},
    ]
    assert report(rows).types == (("Neurophysiology", 11), ("Miscellaneous", 1))
