"""The map: a projection that keeps areas true, circles whose areas are as their values, an outline that stays on it."""

import re
from math import cos, isclose, radians

import pytest

from s3logx_assets.adapters import world_outline
from s3logx_assets.adapters.world_outline_builder import outline
from s3logx_assets.core.world_map import HEIGHT, WIDTH, circles, equal_earth, path, place


def test_equal_earth_has_the_extent_of_its_paper() -> None:
    assert isclose(equal_earth(180, 0)[0], 2.7066299836960748)
    assert isclose(equal_earth(0, 90)[1], 1.3173627591574133)


@pytest.mark.parametrize("latitude", [-80, -45, -10, 0, 30, 60, 85])
@pytest.mark.parametrize("longitude", [-170, 0, 95])
def test_a_small_square_keeps_its_area(longitude: float, latitude: float) -> None:
    step = 0.001
    x0, y0 = equal_earth(longitude, latitude)
    x1, y1 = equal_earth(longitude + step, latitude)
    x2, y2 = equal_earth(longitude, latitude + step)
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    assert isclose(area, radians(step) ** 2 * cos(radians(latitude + step / 2)), rel_tol=1e-4)


def test_places_beyond_the_map_lie_on_its_edge() -> None:
    assert place(0, 90)[1] == place(0, 84)[1] == 0
    assert round(place(0, -90)[1]) == HEIGHT
    assert [round(place(side, 0)[0]) for side in (-180, 0, 180)] == [0, WIDTH // 2, WIDTH]


def test_areas_are_as_the_values_and_the_largest_lie_below() -> None:
    drawn = circles([(0, 0), (10, 10), None, (20, 20), (30, 30)], [25, 100, 999, 0, 1], largest=30, smallest=4)
    assert [(circle.index, circle.radius) for circle in drawn] == [(1, 30), (0, 15), (4, 4)]


def test_nothing_known_draws_nothing() -> None:
    assert circles([], []) == circles([None], [5]) == circles([(1, 1)], [0]) == []


@pytest.mark.parametrize("drawn", [world_outline.land, world_outline.borders, world_outline.coarse_land])
def test_the_outline_stays_on_the_map(drawn: object) -> None:
    assert callable(drawn)
    text = drawn()
    lines = [re.findall(r"-?[0-9.]+", line) for line in text.replace("z", "").split("M")[1:]]
    assert lines
    for line in lines:
        x, y = float(line[0]), float(line[1])
        for step_x, step_y in zip(line[2::2], line[3::2], strict=True):
            x, y = x + float(step_x), y + float(step_y)
            assert abs(float(step_x)) < WIDTH / 4, "a line that jumps over the map"
            assert -1 <= x <= WIDTH + 1
            assert -1 <= y <= HEIGHT + 1


def test_the_outline_for_small_pictures_is_small() -> None:
    assert len(world_outline.coarse_land()) < 6_000


def test_numbers_need_no_blank_before_a_sign() -> None:
    (x, y), (x2, _) = place(0, 0), place(10, 0)
    assert path([[0, 0, 100, 0, 0, 0]], closed=True) == f"M{x:g} {y:.1f}l {x2 - x:.1f} 0-{x2 - x:.1f} 0z"


def test_a_ring_over_the_antimeridian_becomes_two() -> None:
    """The islands of Fiji were a line across the whole map."""
    ring = [[0, 0], [20, 0], [0, 10], [-20, 0], [0, -10]]  # steps of the transform below, beginning at 170 degrees east
    topology = {
        "transform": {"scale": [1, 1], "translate": [170, 0]},
        "arcs": [[*ring[:1], [10, 0], [-350, 0], [0, 10], [350, 0], [-10, 0], [0, -10]]],
        "objects": {
            "countries": {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "arcs": [[0]]}]},
            "land": {"type": "Polygon", "arcs": [[0]]},
        },
    }
    parts = outline(topology)["land"]
    spans = sorted((min(part[::2]), max(part[::2])) for part in parts)
    assert spans == [(-1800, -1700), (1700, 1800)]
