"""Maintainers' tool: the outline of the world for the maps, from the TopoJSON of the npm package `world-atlas`.

    python -m s3logx_assets.adapters.world_outline_builder countries-110m.json s3logx_assets/data/world.json

How the outline is drawn does not belong here. TopoJSON: https://github.com/topojson/topojson-specification. Lines are
thinned by Douglas and Peucker's algorithm (Cartographica 10, 1973).
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import hypot
from pathlib import Path
from typing import Any

from s3logx_assets.core.world_map import NORTHERN, SOUTHERN

Point = tuple[float, float]

# Degrees that a line may be off, and the least extent of an island that is kept: in full, and for small pictures.
_FULL, _COARSE = (0.12, 0.0), (1.1, 5.0)
_SCALE = 10


def outline(topology: dict[str, Any]) -> dict[str, list[list[int]]]:
    """Lines as flat lists of longitude and latitude in tenths of degrees: `land` (rings), `borders` between countries
    (open lines) and `coarse` (rings of the large land masses). The Antarctic is left out."""
    arcs = list(_arcs(topology))
    uses = Counter(index if index >= 0 else ~index for index in _indexes(topology["objects"]["countries"]))
    land = [_ring(arcs, ring) for ring in _rings(topology["objects"]["land"])]
    land = [part for ring in land if any(latitude > SOUTHERN for _, latitude in ring) for part in _cut(ring)]
    borders = [arc for index, arc in enumerate(arcs) if uses[index] > 1]
    return {
        "land": [_flat(ring) for ring in _thinned(land, *_FULL)],
        "borders": [_flat(line) for line in _thinned(borders, *_FULL)],
        "coarse": [_flat(ring) for ring in _thinned(land, *_COARSE)],
    }


def _arcs(topology: dict[str, Any]) -> Iterator[list[Point]]:
    (scale_x, scale_y), (left, bottom) = topology["transform"]["scale"], topology["transform"]["translate"]
    for arc in topology["arcs"]:
        x = y = 0
        points = []
        for step_x, step_y in arc:
            x, y = x + step_x, y + step_y
            points.append((left + x * scale_x, bottom + y * scale_y))
        yield points


def _indexes(value: Any) -> Iterator[int]:
    """The indexes of all arcs below an object, each as often as it is used."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _indexes(item)
    else:
        for item in value.get("geometries", [value.get("arcs", [])]):
            yield from _indexes(item)


def _rings(geometry: dict[str, Any]) -> Iterator[list[int]]:
    """The rings of a geometry, as lists of arcs. Holes are lakes and seas; they stay."""
    if geometry["type"] == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _rings(part)
    elif geometry["type"] == "Polygon":
        yield from geometry["arcs"]
    else:
        for polygon in geometry["arcs"]:
            yield from polygon


def _ring(arcs: Sequence[list[Point]], ring: Sequence[int]) -> list[Point]:
    points: list[Point] = []
    for index in ring:
        arc = arcs[index] if index >= 0 else arcs[~index][::-1]
        points += arc[1:] if points else arc
    return points


def _cut(ring: list[Point]) -> Iterator[list[Point]]:
    """The ring in parts between 180 degrees west and 180 degrees east: where it goes over that line, it jumps there."""
    turns, unwrapped = 0, [ring[0]]
    for (before, _), (longitude, latitude) in pairwise(ring):
        turns += (longitude - before < -180) - (longitude - before > 180)
        unwrapped.append((longitude + 360 * turns, latitude))
    for shift in (-360, 0, 360):
        part = [(longitude + shift, latitude) for longitude, latitude in unwrapped]
        for limit, side in ((-180, 1), (180, -1)):
            part = _clipped(part, limit, side)
        if len(part) > 3:
            yield part


def _clipped(ring: list[Point], limit: float, side: int) -> list[Point]:
    """The ring without what lies beyond a meridian (the algorithm of Sutherland and Hodgman)."""
    kept: list[Point] = []
    for (x1, y1), (x2, y2) in pairwise(ring):
        inside, goes_on = ((x - limit) * side >= 0 for x in (x1, x2))
        if inside:
            kept.append((x1, y1))
        if inside != goes_on:
            kept.append((limit, y1 + (y2 - y1) * (limit - x1) / (x2 - x1)))
    return [*kept, kept[0]] if kept else []


def _thinned(lines: Sequence[list[Point]], tolerance: float, extent: float) -> Iterator[list[Point]]:
    for line in lines:
        spans = [max(side) - min(side) for side in zip(*line, strict=True)]
        if max(spans) < extent:
            continue
        if line[0] == line[-1]:  # a ring: two halves, so that its ends do not stay for ever on one point
            middle = len(line) // 2
            points = _simple(line[: middle + 1], tolerance)[:-1] + _simple(line[middle:], tolerance)
            if len(points) > 3:
                yield points
        else:
            yield _simple(line, tolerance)


def _simple(line: list[Point], tolerance: float) -> list[Point]:
    if len(line) < 3:
        return line
    (x1, y1), (x2, y2) = line[0], line[-1]
    length = hypot(x2 - x1, y2 - y1)

    def off(point: Point) -> float:
        if not length:
            return hypot(point[0] - x1, point[1] - y1)
        return abs((x2 - x1) * (y1 - point[1]) - (x1 - point[0]) * (y2 - y1)) / length

    farthest = max(range(1, len(line) - 1), key=lambda place: off(line[place]))
    if off(line[farthest]) <= tolerance:
        return [line[0], line[-1]]
    return _simple(line[: farthest + 1], tolerance)[:-1] + _simple(line[farthest:], tolerance)


def _flat(line: Sequence[Point]) -> list[int]:
    points = [(round(x * _SCALE), round(max(min(y, NORTHERN), SOUTHERN) * _SCALE)) for x, y in line]
    kept = [points[0], *(after for before, after in pairwise(points) if after != before)]
    return [number for point in kept for number in point]


def main(source: str, target: str) -> None:
    """Reads the TopoJSON, writes the outline."""
    made = outline(json.loads(Path(source).read_text()))
    Path(target).write_text(json.dumps(made, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
