"""Bars over time as SVG: scales, ticks and paths. A figure below the privacy threshold is drawn as what it is, a mark that
says "fewer than that", never as a number.

A chart is made of geometry that a page places its own labels around (`BarChart`), so that text keeps its size on a phone;
`standalone` puts labels into the picture for those who show it alone. What is counted, and the words, do not belong here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape
from math import ceil

# The plot's own units: it is stretched to whatever place it gets.
WIDTH, HEIGHT = 1000, 200
_LEAST = 2.0  # the height of the lowest bar that is not zero
_MASKED = 5.0  # the least height of the mark of a figure below the threshold
_LAST = 0.9  # a label farther to the right would not fit
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Tick:
    """A label on an axis, and its place as a share of the plot, from the left or from the bottom."""

    share: float
    label: str


@dataclass(frozen=True)
class BarChart:
    """Paths for a plot of WIDTH by HEIGHT, y downwards: `bars` of the figures, `masked` of those below the threshold."""

    bars: str
    masked: str
    across: tuple[Tick, ...]
    upwards: tuple[Tick, ...]


def bar_chart(starts: Sequence[date], values: Sequence[int | None], threshold: int = 0, size: bool = False) -> BarChart:
    """A bar for each period, all periods of one length, in order, without gaps.

    `values`: figures, None where one is below `threshold` and may not be shown. `size`: the figures are bytes.
    Raises ValueError where the numbers of periods and values differ.
    """
    most = max((value for value in values if value is not None), default=0)
    top, steps = _steps(max(most, threshold if None in values else 0, 1))
    slot = WIDTH / max(len(values), 1)
    gap = min(slot * 0.2, 6)
    bars: list[str] = []
    masked: list[str] = []
    for index, (_, value) in enumerate(zip(starts, values, strict=True)):
        if value == 0:
            continue
        least, shown = (_MASKED, threshold) if value is None else (_LEAST, value)
        height = max(HEIGHT * shown / top, least)
        path = f"M{index * slot + gap / 2:.1f} {HEIGHT}v-{height:.1f}h{slot - gap:.1f}v{height:.1f}z"
        (masked if value is None else bars).append(path)
    upwards = tuple(Tick(step / top, _axis_text(step) if size else count_text(step)) for step in steps)
    return BarChart("".join(bars), "".join(masked), _calendar(starts), upwards)


def _steps(most: int) -> tuple[int, list[int]]:
    """The top of the scale, as low as two to five round steps reach it, and the steps."""
    power = 10 ** max(len(str(most)) - 2, 0)
    sizes = {int(factor * power * ten) for factor in (1, 2, 2.5, 5) for ten in (1, 10)} - {0}
    scales = [(ceil(most / step) * step, ceil(most / step), step) for step in sizes]
    top, count, step = min(scale for scale in scales if scale[1] <= 5 and (scale[1] >= 2 or most == 1))
    return top, [step * number for number in range(1, count + 1)]


def _calendar(starts: Sequence[date], wanted: int = 6) -> tuple[Tick, ...]:
    """Labels at the first of months or years, at days where all is within some weeks: some `wanted` of them."""
    if not starts:
        return ()
    days = (starts[-1] - starts[0]).days + 1
    if days <= 62:
        return _ticks_of_days(starts, wanted)
    months = max(days / 30.4, 1)
    step = next((step for step in (1, 2, 3, 6, 12, 24, 60, 120) if months / step <= wanted), 240)
    ticks: list[Tick] = []
    before = None
    for index, start in enumerate(starts):
        # A week belongs to the month that its Thursday is in.
        day = start + timedelta(3) if len(starts) > 1 and (starts[1] - start).days == 7 else start
        month = day.year * 12 + day.month - 1
        share = index / len(starts)
        first = month != before and month % step == 0 and (before is not None or start.day <= 7)
        if first and share <= _LAST:
            name = str(day.year) if day.month == 1 or step >= 12 else _MONTHS[day.month - 1]
            ticks.append(Tick(share, name))
        before = month
    return tuple(ticks) or (Tick(0.0, f"{_MONTHS[starts[0].month - 1]} {starts[0].year}"),)


def _ticks_of_days(starts: Sequence[date], wanted: int) -> tuple[Tick, ...]:
    step = ceil(len(starts) / wanted)
    return tuple(
        Tick(index / len(starts), f"{starts[index].day} {_MONTHS[starts[index].month - 1]}")
        for index in range(0, len(starts), step)
        if index / len(starts) <= _LAST
    )


def count_text(count: int) -> str:
    """A number for an axis: 0 to 999, 12k, 3.5M."""
    for power, unit in ((9, "G"), (6, "M"), (3, "k")):
        if count >= 10**power:
            return f"{count / 10**power:.3g}{unit}"
    return str(count)


def bytes_text(size: int) -> str:
    """A number of bytes for people, three digits and a decimal unit: 999 B, 1.20 kB, 45.6 GB."""
    shown, unit = float(size), 0
    while shown >= 999.5 and unit < len(_UNITS) - 1:
        shown, unit = shown / 1000, unit + 1
    digits = 0 if not unit or shown >= 99.95 else 1 if shown >= 9.995 else 2
    return f"{shown:,.{digits}f} {_UNITS[unit]}"


def _axis_text(size: int) -> str:
    """The same for a round number: 1.5 TB."""
    number, unit = bytes_text(size).split()
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def standalone(chart: BarChart, title: str) -> str:
    """The chart with its labels as an SVG file of 640 by 200, legible on a light and on a dark page."""
    left, top, width, height = 60, 24, 570, 150
    rows = "".join(
        f'<path d="M{left} {top + height * (1 - tick.share):.1f}h{width}" stroke="#8a96a3" stroke-opacity=".3"/>'
        f'<text x="{left - 6}" y="{top + height * (1 - tick.share) + 4:.1f}" text-anchor="end">{escape(tick.label)}</text>'
        for tick in chart.upwards
    )
    columns = "".join(
        f'<text x="{left + width * tick.share:.1f}" y="{top + height + 16}">{escape(tick.label)}</text>'
        for tick in chart.across
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="200" font-family="sans-serif" font-size="12" '
        f'fill="#77828d"><text x="{left}" y="14">{escape(title)}</text>{rows}{columns}'
        f'<svg x="{left}" y="{top}" width="{width}" height="{height}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'preserveAspectRatio="none"><path fill="#2a7fd4" d="{chart.bars}"/>'
        f'<path fill="#2a7fd4" fill-opacity=".35" d="{chart.masked}"/></svg></svg>'
    )
