"""Charts: what is drawn is what is said, and what may not be said is drawn as such."""

import re
import xml.etree.ElementTree as ElementTree
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3logx_assets.core.charts import HEIGHT, WIDTH, BarChart, bar_chart, bytes_text, count_text, standalone

_BAR = re.compile(r"M([0-9.]+) 200v-([0-9.]+)h([0-9.]+)v([0-9.]+)z")


def days(count: int, step: int = 1) -> list[date]:
    return [date(2025, 1, 6) + timedelta(step * number) for number in range(count)]


def heights(path: str) -> list[float]:
    bars = _BAR.findall(path)
    assert "".join(f"M{x} 200v-{up}h{wide}v{down}z" for x, up, wide, down in bars) == path
    return [float(up) for _, up, _, _ in bars]


def test_bars_are_as_high_as_their_figures() -> None:
    chart = bar_chart(days(4), [100, 50, 0, 25])
    top = chart.upwards[-1]
    assert (top.share, top.label) == (1, "100")
    assert heights(chart.bars) == pytest.approx([HEIGHT, HEIGHT / 2, HEIGHT / 4], abs=0.06)


def test_a_figure_below_the_threshold_is_a_mark_of_its_own() -> None:
    chart = bar_chart(days(3), [None, 200, None], threshold=50)
    assert heights(chart.masked) == pytest.approx([50, 50])
    assert len(heights(chart.bars)) == 1


def test_low_bars_and_marks_can_be_seen() -> None:
    chart = bar_chart(days(3), [1_000_000, 60, None], threshold=50)
    assert min(heights(chart.bars)) == 2
    assert heights(chart.masked) == [5]


@given(st.lists(st.none() | st.integers(0, 10**18), max_size=400), st.booleans())
def test_everything_stays_inside_the_plot(values: list[int | None], size: bool) -> None:
    chart = bar_chart(days(len(values)), values, threshold=50, size=size)
    bars = [tuple(map(float, bar)) for bar in _BAR.findall(chart.bars + chart.masked)]
    assert len(bars) == sum(value != 0 for value in values)
    assert all(x >= 0 and x + wide <= WIDTH + 0.2 and 0 < up <= HEIGHT + 0.1 for x, up, wide, _ in bars)
    assert 1 <= len(chart.upwards) <= 5
    assert chart.upwards[-1].share == 1
    assert all(0 <= tick.share <= 0.9 for tick in chart.across)


@pytest.mark.parametrize(
    ("count", "step", "labels"),
    [
        (14, 1, ["6 Jan", "9 Jan", "12 Jan", "15 Jan", "18 Jan"]),
        (90, 1, ["2025", "Feb", "Mar"]),
        (365, 1, ["2025", "Apr", "Jul", "Oct"]),
        (104, 7, ["2025", "Jul", "2026", "Jul"]),
        (1, 1, ["6 Jan"]),
    ],
)
def test_labels_of_the_time_axis(count: int, step: int, labels: list[str]) -> None:
    chart = bar_chart(days(count, step), [1] * count)
    assert [tick.label for tick in chart.across] == labels


def test_months_over_ten_years() -> None:
    starts = [date(2015 + month // 12, month % 12 + 1, 1) for month in range(120)]
    assert [tick.label for tick in bar_chart(starts, [1] * 120).across] == ["2016", "2018", "2020", "2022", "2024"]


def test_an_empty_chart_has_no_bars() -> None:
    chart = bar_chart([], [])
    assert (chart.bars, chart.masked, chart.across) == ("", "", ())


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1200, "1.20 kB"),
        (9_999, "10.0 kB"),
        (99_990, "100 kB"),
        (999_999, "1.00 MB"),
        (45_600_000_000, "45.6 GB"),
        (12_345 * 10**18, "12,345 EB"),
    ],
)
def test_bytes_for_people(size: int, text: str) -> None:
    assert bytes_text(size) == text


def test_the_scale_ends_close_above_the_highest_bar() -> None:
    chart = bar_chart(days(1), [1_030_000_000_000], size=True)
    assert [tick.label for tick in chart.upwards] == ["250 GB", "500 GB", "750 GB", "1 TB", "1.25 TB"]


def test_numbers_for_axes() -> None:
    assert [count_text(count) for count in (0, 999, 1000, 2500, 3_500_000)] == ["0", "999", "1k", "2.5k", "3.5M"]


@given(st.integers(1, 10**15))
def test_labels_upwards_are_evenly_spaced(most: int) -> None:
    shares = [0.0, *(tick.share for tick in bar_chart(days(1), [most]).upwards)]
    steps = [after - before for before, after in pairwise(shares)]
    assert max(steps) - min(steps) < 1e-6


def test_the_picture_that_stands_alone_is_well_formed_and_escaped() -> None:
    chart: BarChart = bar_chart(days(30), [10] * 29 + [None], threshold=50)
    picture = ElementTree.fromstring(standalone(chart, "<b> & more"))  # noqa: S314 our own text
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert "<b> & more" in [element.text for element in picture.iter()]
