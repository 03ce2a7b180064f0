"""The public report under policy `strict`, the default, in a browser: what it says of groups, periods and what is lost."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from frictionless import Package

from s3logx_assets.sample_logs import SampleSpec
from s3logx_tests.browser.served import first_dataset, served
from s3logx_tests.browser.visits import DESKTOP, PHONE, Screen, Visit, axe
from s3logx_tests.sampled import sampled_platform

Visits = Callable[..., Visit]
SPEC = SampleSpec(days=26, lines=60_000, files=96, datasets=8, layout="date")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of sample logs, made before the first visit."""
    with dg.DagsterInstance.ephemeral() as instance:
        platform = sampled_platform(tmp_path_factory.mktemp("strict"), instance, SPEC, S3LOGX_POLICY="strict")
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


@pytest.mark.parametrize("page", ["index.html", "datasets.html", "dataset"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_is_sound_everywhere(
    visit: Visits, site: str, dataset: str, page: str, scheme: str, screen: Screen
) -> None:
    found = visit(screen=screen, scheme=scheme)
    found.page.goto(f"{site}/{dataset if page == 'dataset' else page}")
    assert axe(found.page) == []
    assert found.page.evaluate("document.documentElement.scrollWidth") <= screen.width
    name = "phone" if screen is PHONE else "desktop"
    found.picture(f"strict-{page.removesuffix('.html')}-{name}-{scheme}", full_page=True)


@pytest.mark.parametrize("javascript", [True, False])
def test_what_is_told_for_longer_periods_only_is_said_beside_each_chart(
    visit: Visits, site: str, javascript: bool
) -> None:
    found = visit(javascript=javascript)
    found.page.goto(f"{site}/index.html")
    for label in ("Day", "Week", "Month", "Cumulative"):
        found.page.get_by_role("radio", name=label, exact=True).check()
        words = [note.inner_text() for note in found.page.query_selector_all(".longer") if note.is_visible()]
        assert len(words) <= 1
        if label == "Day":
            assert re.fullmatch(r"\d+ % of the requests are told for longer periods than a day only, .*", words[0])
        assert all(f"than a {label.lower()} only" in text for text in words)


def test_the_page_says_what_is_lost_and_what_was_promised(visit: Visits, site: str) -> None:
    found = visit()
    found.page.goto(f"{site}/index.html")
    text = found.page.inner_text("main")
    assert "at least 10 requesters" in text
    assert "<50" not in text
    rows = [row.inner_text().split("\t") for row in found.page.query_selector_all("#visible tbody tr")]
    assert [row[0] for row in rows] == ["day", "file", "country", "region"]
    assert all(re.fullmatch(r"\d{1,3} %", cell) for row in rows for cell in row[1:])


def test_programs_read_what_people_read(release: Path) -> None:
    policy = json.loads((release / "privacy.json").read_text())
    assert (policy["policy"], policy["people"]) == ("strict", 10)
    for descriptor in (release / "datapackage.json", *sorted(release.glob("summaries/*/datapackage.json"))):
        report = Package(str(descriptor)).validate()
        assert report.valid, report.flatten(["title", "note"])
    assert not list(release.glob("summaries/*/by_asset_type_per_week.*"))


@pytest.mark.parametrize(
    ("screen", "scheme", "part"), [(DESKTOP, "light", "h1"), (DESKTOP, "light", "#map"), (PHONE, "dark", "h1")]
)
def test_the_first_sight_is_a_picture_for_the_readme(
    visit: Visits, site: str, screen: Screen, scheme: str, part: str
) -> None:
    found = visit(screen=screen, scheme=scheme)
    found.page.goto(f"{site}/index.html" + (part if part.startswith("#") else ""))
    assert found.page.locator(part).is_visible()
    place = {"h1": "top", "#map": "map"}[part]
    picture = found.picture(f"readme-report-{place}-{'phone' if screen is PHONE else 'desktop'}")
    assert picture.stat().st_size < 400_000
