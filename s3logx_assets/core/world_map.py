"""The map of the world that the report and the Dagster UI show: land, and a circle for each region.

The projection is Equal Earth, which keeps areas true: B. Šavrič, T. Patterson, B. Jenny, "The Equal Earth map
projection", International Journal of Geographical Information Science 33(3), 2019. Where a region lies, and what may be
said of it, does not belong here; colours belong to who shows the map.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import asin, cos, radians, sin, sqrt

# The latitudes, in degrees, that the map shows; nobody lives beyond.
SOUTHERN, NORTHERN = -58.0, 84.0

_A1, _A2, _A3, _A4 = 1.340264, -0.081106, 0.000893, 0.003796
_M = sqrt(3) / 2
# The map's unit: its width.
WIDTH = 1000


def equal_earth(longitude: float, latitude: float) -> tuple[float, float]:
    """x (to the right) and y (upwards) of a place in degrees, on a sphere of radius 1."""
    theta = asin(_M * sin(radians(latitude)))
    square = theta * theta
    sixth = square**3
    x = radians(longitude) * cos(theta) / (_M * (_A1 + 3 * _A2 * square + sixth * (7 * _A3 + 9 * _A4 * square)))
    return x, theta * (_A1 + _A2 * square + sixth * (_A3 + _A4 * square))


_HALF_WIDTH = equal_earth(180, 0)[0]
_TOP = equal_earth(0, NORTHERN)[1]
_SCALE = WIDTH / (2 * _HALF_WIDTH)
HEIGHT = round((_TOP - equal_earth(0, SOUTHERN)[1]) * _SCALE)


def place(longitude: float, latitude: float) -> tuple[float, float]:
    """x and y, from the upper left corner, of a place in degrees on a map of WIDTH by HEIGHT."""
    x, y = equal_earth(longitude, min(max(latitude, SOUTHERN), NORTHERN))
    return (x + _HALF_WIDTH) * _SCALE, (_TOP - y) * _SCALE


@dataclass(frozen=True)
class Circle:
    """A region on the map: the centre and the radius in the map's unit, and the index of its value."""

    x: float
    y: float
    radius: float
    index: int


def circles(
    places: Sequence[tuple[float, float] | None], values: Sequence[int], largest: float = 30, smallest: float = 2.5
) -> list[Circle]:
    """A circle for each value above zero whose place (longitude, latitude; degrees) is known. The areas are as the
    values, but for the smallest, which could not be seen. The largest come first, so that the small lie on top."""
    most = max((value for value, at in zip(values, places, strict=True) if at is not None), default=0)
    drawn = []
    for index, (at, value) in enumerate(zip(places, values, strict=True)):
        if at is not None and value > 0:
            x, y = place(*at)
            radius = max(largest * sqrt(value / most), smallest)
            drawn.append(Circle(round(x, 1), round(y, 1), round(radius, 1), index))
    return sorted(drawn, key=lambda circle: (-circle.radius, circle.index))


def path(lines: Iterable[Sequence[int]], closed: bool, digits: int = 1) -> str:
    """The data of an SVG path on a map of WIDTH by HEIGHT, rounded to `digits`. `lines`: flat lists of longitude and
    latitude in tenths of degrees; `closed` for rings."""
    return "".join(_path(line, digits) + ("z" if closed else "") for line in lines)


def _path(line: Sequence[int], digits: int) -> str:
    """Relative moves between rounded places, so that roundings do not add up. Each number has a blank or a sign before it."""
    points = [
        tuple(round(side, digits) for side in place(longitude / 10, latitude / 10))
        for longitude, latitude in zip(line[::2], line[1::2], strict=True)
    ]
    (x, y), *rest = points
    text = [f"M{x:g} {y:g}l"]
    for next_x, next_y in rest:
        text += [_signed(next_x - x, digits), _signed(next_y - y, digits)]
        x, y = next_x, next_y
    return "".join(text)


def _signed(number: float, digits: int) -> str:
    text = f"{round(number, digits):g}"
    return text if text.startswith("-") and text != "-0" else f" {text.lstrip('-')}"


def standalone(drawn: Iterable[Circle], land: str) -> str:
    """A small map that stands by itself as an SVG file, legible on a light and on a dark page."""
    dots = "".join(f'<circle cx="{c.x:g}" cy="{c.y:g}" r="{c.radius:g}"/>' for c in drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="640" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f'<path fill="#8a96a3" fill-opacity=".35" d="{land}"/>'
        f'<g fill="#2a7fd4" fill-opacity=".65" stroke="#2a7fd4">{dots}</g></svg>'
    )
