"""Pictures in the Dagster UI, as Markdown: bars in a line of text, a chart of bars over time, a small map of the world.

Dagster shows Markdown of less than a thousand characters where it stands and more of it behind a click: so bars of text
come first, and a chart or a map is an entry of its own. These are SVG in a data URI, so that a page fetches nothing for
them. Each picture is some kilobytes at most, however long the time and however many the regions. What is counted, and
where it is kept, does not belong here.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from functools import cache
from typing import TypeAlias
from urllib.parse import quote

import dagster as dg
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3logx_assets.adapters.geolocation import EmbeddedGeolocator
from s3logx_assets.adapters.world_outline import coarse_land
from s3logx_assets.core import charts, world_map
from s3logx_assets.core.regions import kind_of
from s3logx_assets.core.scope_report import period_numbers, start_of, usual_unit

Days: TypeAlias = "pa.Array | pa.ChunkedArray"
Counts = NDArray[np.int64]
# What goes into metadata: an entry, or none.
Entry = dict[str, dg.MarkdownMetadataValue]

_UPWARDS = "▁▂▃▄▅▆▇█"
_ACROSS = " ▏▎▍▌▋▊▉█"
_WIDTH = 60
_METER = 12
_PERIODS = 120
_FEW = 7  # of fewer periods the bars of text say it all, and so small a picture would stand where it is too wide
_CIRCLES = 60
_LARGEST = 20  # radius, of a map 1000 wide


def text_bars(values: Sequence[int], most: int | None = None) -> str:
    """A character for each value, as high as its share of `most`, or of the highest; all but zero can be seen."""
    top = max(max(values, default=0) if most is None else most, 1)
    return "".join(_UPWARDS[-(-value * (len(_UPWARDS) - 1) // top)] for value in values)


def meter(value: int, most: int) -> str:
    """A bar from left to right for a cell of a table; all but zero can be seen."""
    eighths = -(-value * _METER * 8 // max(most, 1))
    return _ACROSS[8] * (eighths // 8) + _ACROSS[eighths % 8].strip()


def text_plot(days: Days, values: Counts) -> dg.MarkdownMetadataValue:
    """Bars of text from the first of `days` (date32, ascending, not empty) to the last: each of a day, or of as many days
    together as keep it narrow."""
    day = days.cast(pa.int32()).to_numpy(zero_copy_only=False).astype(np.int64)
    days_per_bar = -(-int(day[-1] - day[0] + 1) // _WIDTH)
    sums = np.zeros((day[-1] - day[0]) // days_per_bar + 1, np.int64)
    np.add.at(sums, (day - day[0]) // days_per_bar, values)
    unit = "day" if days_per_bar == 1 else f"{days_per_bar} days"
    return dg.MetadataValue.md(
        f"`{text_bars(sums.tolist())}`\n\n{days[0]} to {days[-1]}, one bar per {unit}, the highest {sums.max():,}"
    )


def chart(name: str, days: Days, values: Counts, what: str, size: bool = False) -> Entry:
    """The entry `name`: a chart of the sums of `values` by day, week or month, as the length of time has it; of a very long
    time the end, of a few days nothing. `days`: date32, ascending, not empty. `what` is counted; `size`: in bytes."""
    unit, starts, (sums,) = _by_period(days, values)
    return _bars(name, starts, sums, f"{what} per {unit}", size)


def share_chart(name: str, days: Days, parts: Counts, wholes: Counts, what: str) -> Entry:
    """The same of shares in whole percent, rounded down so that only all of it is 100. Of nothing nothing is missing."""
    unit, starts, sums = _by_period(days, parts, wholes)
    percent = [100 * part // whole if whole else 100 for part, whole in zip(*sums, strict=True)]
    return _bars(name, starts, percent, f"{what}, % per {unit}")


def region_map(name: str, labels: Sequence[str], values: Sequence[int], what: str) -> Entry:
    """The entry `name`: a map of the regions where people are, without the clouds' data centres, circles as large as their
    `values`; nothing where no label has a place. The places are those of the packaged table: no service is asked for a
    picture."""
    order = sorted((-value, label) for label, value in zip(labels, values, strict=True) if kind_of(label) == "place")
    largest = [(label, -value) for value, label in order[:_CIRCLES]]
    at = _places(label for label, _ in largest)
    drawn = world_map.circles([at.get(label) for label, _ in largest], [value for _, value in largest], _LARGEST)
    if not drawn:
        return {}
    shown, total = sum(largest[circle.index][1] for circle in drawn), sum(values)
    caption = (
        f"{shown:,} of {total:,} {what.lower()}: the {len(drawn)} largest of {len(labels)} regions, without clouds"
    )
    return {name: _picture(world_map.standalone(drawn, coarse_land()), f"{what} by region", caption)}


def _by_period(days: Days, *values: Counts) -> tuple[str, list[date], list[list[int]]]:
    """The unit, the first days of the last periods, and the sums of each of `values` over them."""
    unit = usual_unit(days[0].as_py(), days[-1].as_py())
    number = period_numbers(days, unit)
    starts = [start_of(unit, each) for each in range(max(number[0], number[-1] - _PERIODS + 1), number[-1] + 1)]
    sums = np.zeros((len(values), number[-1] - number[0] + 1), np.int64)
    for row, each in zip(sums, values, strict=True):
        np.add.at(row, number - number[0], each)
    return unit, starts, sums[:, -_PERIODS:].tolist()


def _bars(name: str, starts: Sequence[date], values: Sequence[int], title: str, size: bool = False) -> Entry:
    if len(values) < _FEW:
        return {}
    drawn = charts.bar_chart(starts, list(values), size=size)
    return {name: _picture(charts.standalone(drawn, title), title)}


@cache
def _packaged() -> EmbeddedGeolocator:
    return EmbeddedGeolocator()


def _places(labels: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Longitude and latitude of the labels that have one."""
    rows = _packaged().coordinates(list(labels)).to_pylist()
    return {row["region"]: (row["longitude"], row["latitude"]) for row in rows}


def _picture(svg: str, title: str, caption: str = "") -> dg.MarkdownMetadataValue:
    """`title` is what those hear who do not see."""
    # Single quotes need no escape in a URL, which makes this shorter than base64.
    url = "data:image/svg+xml," + quote(svg.replace('"', "'"), safe="/:=',;-.")
    return dg.MetadataValue.md(f"![{title}]({url})" + (f"\n\n{caption}" if caption else ""))
