"""Pictures as Markdown: bars that are as high as their figures, SVG that stands by itself, and never too large."""

import re
from collections.abc import Sequence
from datetime import date, timedelta
from urllib.parse import unquote
from xml.etree import ElementTree

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from s3logx_assets.adapters.geolocation import packaged_regions
from s3logx_assets.pictures import chart, meter, region_map, share_chart, text_bars, text_plot

FIRST = date(2024, 1, 1)
SVG = "{http://www.w3.org/2000/svg}"
# Dagster shows Markdown below this where it stands.
INLINE = 1000


def days(count: int, step: int = 1) -> pa.Array:
    return pa.array([FIRST + timedelta(step * number) for number in range(count)], pa.date32())


def words(markdown: dg.MarkdownMetadataValue) -> str:
    assert markdown.md_str is not None
    return markdown.md_str


def drawn(markdown: dg.MarkdownMetadataValue) -> tuple[str, ElementTree.Element]:
    """The words for those who do not see, and the picture."""
    text = words(markdown)
    found = re.match(r"!\[([^\]]+)\]\(data:image/svg\+xml,([^ ()]+)\)", text)
    assert found, "Markdown ends an address at a blank or a bracket"
    return found[1], ElementTree.fromstring(unquote(found[2]))  # noqa: S314 our own


def texts(picture: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in picture.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("values", "bars"), [([], ""), ([0, 0], "▁▁"), ([0, 1, 7], "▁▂█"), ([1, 1000], "▂█"), ([0, 50, 100], "▁▅█")]
)
def test_bars_of_text_show_all_but_zero(values: Sequence[int], bars: str) -> None:
    assert text_bars(values) == bars


@pytest.mark.parametrize(
    ("value", "most", "bar"),
    [(0, 5, ""), (5, 5, "█" * 12), (1, 10**9, "▏"), (1, 2, "█" * 6), (0, 0, ""), (15, 16, "█" * 11 + "▎")],
)
def test_a_meter_is_as_long_as_its_share(value: int, most: int, bar: str) -> None:
    assert meter(value, most) == bar


def test_a_plot_of_text_stands_where_it_is_however_long_the_time() -> None:
    text = words(text_plot(days(4, 2), np.array([1, 2, 3, 7])))
    assert text == "`▂▁▃▁▄▁█`\n\n2024-01-01 to 2024-01-07, one bar per day, the highest 7"
    text = words(text_plot(days(9000), np.ones(9000, np.int64)))
    assert text.endswith("one bar per 150 days, the highest 150")
    assert len(text) < INLINE


@pytest.mark.parametrize(
    ("count", "unit", "bars"), [(7, "day", 7), (93, "day", 93), (400, "week", 58), (9000, "month", 120)]
)
def test_a_chart_takes_the_unit_that_fits_and_stays_small(count: int, unit: str, bars: int) -> None:
    (markdown,) = chart("x", days(count), np.arange(1, count + 1), "Requests").values()
    alt, picture = drawn(markdown)
    assert alt == texts(picture)[0] == f"Requests per {unit}"
    paths = [each.get("d") or "" for each in picture.iter(f"{SVG}path") if each.get("fill")]
    assert sum(path.count("M") for path in paths) == bars
    assert INLINE < len(words(markdown)) < 7000


def test_a_few_days_need_no_chart() -> None:
    assert chart("x", days(6), np.arange(6), "Requests") == {}


def test_only_all_of_it_is_a_hundred_percent() -> None:
    parts, wholes = np.array([1000, 999, 0, 0, 5, 5, 5]), np.array([1000, 1000, 0, 7, 5, 5, 5])
    (markdown,) = share_chart("x", days(7), parts, wholes, "Extracted").values()
    _, picture = drawn(markdown)
    (bars,) = (each.get("d") or "" for each in picture.iter(f"{SVG}path") if each.get("fill") and each.get("d") != "")
    heights = [float(height) for height in re.findall(r"v-([0-9.]+)", bars)]
    assert heights == pytest.approx([200, 198, 200, 200, 200, 200])  # of the fourth day there is nothing to see
    assert texts(picture)[0] == "Extracted, % per day"


def test_a_map_shows_places_without_clouds_and_stays_small() -> None:
    labels = packaged_regions()["label"].to_pylist()
    (markdown,) = region_map(
        "x", [*labels, "AWS/us-east-1", "VPN"], [*range(len(labels)), 10**6, 5], "Requests"
    ).values()
    alt, picture = drawn(markdown)
    assert alt == "Requests by region"
    assert len(list(picture.iter(f"{SVG}circle"))) == 60
    assert "requests: the 60 largest of" in words(markdown)
    assert len(words(markdown)) < 10_000


def test_where_nothing_has_a_place_there_is_no_map() -> None:
    assert region_map("x", ["unknown", "AWS/us-east-1", "ZZ/Nowhere"], [1, 2, 3], "Requests") == {}
    assert region_map("x", [], [], "Requests") == {}
