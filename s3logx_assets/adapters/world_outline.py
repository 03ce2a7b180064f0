"""The outline of the world that ships with the package, as paths for the map of core/world_map.py. How it was made from
Natural Earth's lines is in world_outline_builder.py."""

import json
from functools import cache
from importlib.resources import files

from s3logx_assets.core.world_map import path


@cache
def land() -> str:
    """The land, as the data of an SVG path."""
    return path(_lines("land"), closed=True)


@cache
def borders() -> str:
    """The borders between countries, likewise."""
    return path(_lines("borders"), closed=False)


@cache
def coarse_land() -> str:
    """The large land masses in some 3,000 characters, for pictures that must be small."""
    return path(_lines("coarse"), closed=True, digits=0)


def _lines(name: str) -> list[list[int]]:
    text = files("s3logx_assets").joinpath("data/world.json").read_text()
    lines: list[list[int]] = json.loads(text)[name]
    return lines
