"""The public report under policy `compatible` in a browser: on a phone and a desktop, light and dark, with and without JavaScript, and on paper."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow.parquet as pq
import pytest
from frictionless import Package
from playwright.sync_api import Page

from s3logx_assets.sample_logs import SampleSpec
from s3logx_tests.browser.served import first_dataset, served
from s3logx_tests.browser.visits import DESKTOP, PHONE, PICTURES, Screen, Visit, axe
from s3logx_tests.sampled import sampled_platform

Visits = Callable[..., Visit]
SPEC = SampleSpec(days=24, lines=9_000, files=96, datasets=24, layout="date")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of sample logs, made before the first visit."""
    with dg.DagsterInstance.ephemeral() as instance:
        platform = sampled_platform(
            tmp_path_factory.mktemp("report"), instance, SPEC, S3LOGX_THRESHOLD="10", S3LOGX_ROUNDING="5"
        )
        return platform.latest.resolve()


@pytest.fixture(scope="module")
def site(release: Path) -> Iterator[str]:
    """The release on a web server."""
    with served(release) as address:
        yield address


@pytest.fixture(scope="module")
def dataset(release: Path) -> str:
    """The page of the dataset with the most data sent."""
    return first_dataset(release)


PAGES = ("overview", "datasets", "dataset")


def address(site: str, page: str, dataset: str) -> str:
    return f"{site}/" + {"overview": "index.html", "datasets": "datasets.html", "dataset": dataset}[page]


def shown(page: Page) -> list[str]:
    """The classes of the charts that can be seen."""
    return [view.get_attribute("class") or "" for view in page.query_selector_all("figure.view") if view.is_visible()]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_is_sound_everywhere(
    visit: Visits, site: str, dataset: str, page: str, scheme: str, screen: Screen
) -> None:
    found = visit(screen=screen, scheme=scheme)
    found.page.goto(address(site, page, dataset))
    assert axe(found.page) == []
    assert found.page.evaluate("document.documentElement.scrollWidth") <= screen.width
    name = "phone" if screen is PHONE else "desktop"
    found.picture(f"report-{page}-{name}-{scheme}", full_page=True)
    background = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    if page == "datasets":
        return
    (chart,) = [view for view in found.page.query_selector_all("figure.view") if view.is_visible()]
    bars = chart.query_selector("path.bars")
    assert bars
    box = bars.bounding_box()
    assert box
    assert box["width"] > screen.width / 2
    assert box["height"] > 100
    world = found.page.query_selector(".map svg image")
    assert world
    outline = world.bounding_box()
    assert outline
    assert outline["width"] > screen.width / 2
    assert len(found.page.query_selector_all(".map circle")) > 20


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opened_as_a_file_is_the_same(visit: Visits, release: Path, dataset: str, page: str) -> None:
    found = visit()
    found.page.goto(address(f"file://{release}", page, dataset))
    assert found.page.query_selector("th button"), "the script ran"
    assert found.page.evaluate("getComputedStyle(document.querySelector('.bar')).backgroundColor") == "rgb(18, 54, 90)"


@pytest.mark.parametrize("javascript", [True, False])
def test_the_switches_choose_a_chart_with_and_without_javascript(visit: Visits, site: str, javascript: bool) -> None:
    found = visit(javascript=javascript)
    found.page.goto(f"{site}/index.html")
    assert shown(found.page) == ["view bytes day"]
    for label, view in {
        "Downloads": "view downloads day",
        "Cumulative": "view downloads total",
        "Requests": "view requests total",
        "Month": "view requests month",
    }.items():
        found.page.get_by_role("radio", name=label).check()
        assert shown(found.page) == [view]
    found.page.locator("details.figures-month summary").click()
    assert found.page.locator("details.figures-month td").first.is_visible()
    assert not found.page.locator("details.figures-day summary").is_visible()


def test_everything_can_be_reached_by_keyboard(visit: Visits, site: str) -> None:
    found = visit()
    found.page.goto(f"{site}/index.html")
    found.page.keyboard.press("Tab")
    assert found.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    found.page.locator("input[name=unit][value=day]").focus()
    found.page.keyboard.press("ArrowRight")
    assert shown(found.page) == ["view bytes week"]
    button = found.page.locator("#list th button").first
    button.focus()
    found.page.keyboard.press("Enter")
    assert found.page.locator("#list th").first.get_attribute("aria-sort") == "ascending"


def column(page: Page, number: int) -> list[str]:
    return [
        cell.inner_text() for cell in page.query_selector_all(f"#list tbody tr:not([hidden]) > :nth-child({number})")
    ]


def test_tables_sort_by_what_their_cells_mean(visit: Visits, site: str) -> None:
    """`<10` is less than 10, and 1,000 is more than 999."""
    found = visit()
    found.page.goto(f"{site}/datasets.html")
    requests = found.page.locator("#list th", has_text="Requests")
    requests.get_by_role("button").click()
    falling = [int(text.replace(",", "").replace("<10", "9")) for text in column(found.page, 3)]
    assert falling == sorted(falling, reverse=True)
    assert requests.get_attribute("aria-sort") == "descending"
    requests.get_by_role("button").click()
    rising = [int(text.replace(",", "").replace("<10", "9")) for text in column(found.page, 3)]
    assert rising == sorted(rising) == falling[::-1]
    found.page.locator("#list th", has_text="Dataset").get_by_role("button").click()
    assert column(found.page, 1) == sorted(column(found.page, 1))


def test_a_search_finds_datasets_and_can_be_linked_to(visit: Visits, site: str) -> None:
    found = visit()
    found.page.goto(f"{site}/index.html")
    name = found.page.locator("#list tbody th").first.inner_text()
    found.page.get_by_label("Find a dataset").fill(name)
    found.page.get_by_role("button", name="Search").click()
    found.page.wait_for_url(f"**/datasets.html?q={name}")
    assert column(found.page, 1) == [name]
    assert found.page.locator("#found").inner_text() == "1 found"
    found.page.get_by_label("Find a dataset").fill("no such dataset")
    assert column(found.page, 1) == []
    assert found.page.url.endswith("?q=no%20such%20dataset")
    found.page.get_by_label("Find a dataset").fill("")
    assert len(column(found.page, 1)) > 20
    assert found.page.url.endswith("/datasets.html")


def test_figures_show_under_the_pointer(visit: Visits, site: str) -> None:
    found = visit()
    found.page.goto(f"{site}/index.html")
    plot = found.page.locator("figure.view.bytes.day .plot")
    box = plot.bounding_box()
    assert box
    plot.hover(position={"x": box["width"] / 2, "y": 20})
    hint = plot.locator(".hint")
    assert re.match(r"\d+ March 2025\nData sent: [0-9.]+ [kMGT]?B\nRequests: ", hint.inner_text())
    found.picture("report-pointer")
    found.page.mouse.move(1, 1)
    assert not hint.is_visible()
    circle = found.page.locator(".map circle").last
    circle.hover()
    assert re.match(r"[A-Z]{2}.*: .*B, .* requests", found.page.locator(".map .hint").inner_text())


def test_a_count_below_the_threshold_looks_like_one(visit: Visits, site: str, dataset: str) -> None:
    found = visit()
    found.page.goto(address(site, "dataset", dataset))
    masked = found.page.locator("section[aria-labelledby=assets] td .masked").first
    assert masked.inner_text() == "<10"
    assert masked.get_attribute("title") == "fewer than 10"
    assert "dashed" in masked.evaluate("element => getComputedStyle(element).borderBottom")


def test_the_report_on_paper(visit: Visits, site: str) -> None:
    found = visit(scheme="dark")
    found.page.goto(f"{site}/index.html")
    found.page.emulate_media(media="print")
    assert found.page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert shown(found.page) == ["view bytes day"]
    assert not found.page.locator("nav").is_visible()
    assert found.page.locator(".wide").first.evaluate("element => element.scrollHeight <= element.clientHeight + 1")
    PICTURES.mkdir(parents=True, exist_ok=True)
    paper = found.page.pdf(path=PICTURES / "report.pdf", format="A4", print_background=True)
    assert paper.startswith(b"%PDF")


def test_every_link_leads_somewhere(release: Path, visit: Visits, site: str) -> None:
    found = visit()
    broken = []
    asked: set[str] = set()
    for path in sorted(release.rglob("*.html")):
        found.page.goto(f"{site}/{path.relative_to(release).as_posix().replace('%', '%25')}")
        links = found.page.evaluate(
            "[...document.querySelectorAll('a[href],link[href],script[src]')].map(a => a.href || a.src)"
        )
        own = {link.partition("#")[0] for link in links if link.startswith(site)}
        for link in sorted(own - asked):
            if not found.page.request.get(link).ok:
                broken.append(link)
        asked |= own
        missing = found.page.evaluate(
            "[...document.querySelectorAll('a[href^=\"#\"]')].filter(a => !document.getElementById(a.hash.slice(1))).map(a => a.hash)"
        )
        assert missing == []
    assert broken == []
    assert len(asked) > 100


def test_programs_can_read_the_release(release: Path) -> None:
    """Every data package as frictionless validates it, the tables row by row; every file by its checksum; Parquet as TSV."""
    packages = sorted(release.rglob("datapackage.json"))
    assert len(packages) > 20
    for path in packages:
        report = Package(path).validate()
        assert report.valid, report.flatten(["type", "message"])
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=release, capture_output=True
    )
    assert checked.returncode == 0, checked.stdout
    listed = {line.split("  ", 1)[1] for line in (release / "SHA256SUMS").read_text().splitlines()}
    there = {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()}
    assert listed == there - {"SHA256SUMS"}
    for path in sorted(release.rglob("*.parquet")):
        table = pq.read_table(path)
        frame = pd.read_csv(
            path.with_suffix(".tsv"), sep="\t", na_values=["<10"], keep_default_na=False, dtype_backend="pyarrow"
        )
        assert table.column_names == list(frame.columns)
        for name in table.column_names:
            values = [str(value) if value is not None else None for value in table[name].to_pylist()]
            assert values == [None if pd.isna(value) else str(value).removeprefix("'") for value in frame[name]], path
