"""The pages of the report: escaped, whole without a network or a script, with working links and the published figures."""

import json
from datetime import date, timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

import pytest

from s3logx_assets.adapters.geolocation import Attribution
from s3logx_assets.core.asset_types import DEFAULT
from s3logx_assets.core.leaks import Scan
from s3logx_assets.core.scope_report import Policy, ScopeReport, scope_report
from s3logx_assets.core.scopes import ARCHIVE, scope_of
from s3logx_assets.core.summaries import summarise
from s3logx_assets.site.pages import DatasetLine, Facts, Site, display_name, period_text, sentence
from s3logx_tests.usage_tables import usage

VOID = {"meta", "link", "br", "img", "input", "hr", "path", "image"}
EVIL = "<script>alert('1')</script>&\"{{7*7}}{%x%}"
MONDAY = date(2024, 12, 30)


class Page(HTMLParser):
    """Collects links and texts; fails on tags that do not nest."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self.feed(html.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data.strip() + "|"

    def values(self, name: str) -> list[str]:
        return [value or "" for _, attribute, value in self.attributes if attribute == name]


def report(name: str = "ds", days: int = 3, **row: Any) -> ScopeReport:
    rows = [
        {
            "dataset": name,
            "asset_path": row.get("asset_path", "a.nwb"),
            "event_date": MONDAY + timedelta(number),
            "region": row.get("region", "US/Ohio"),
            "ip_index": number % 3,
            "request_count": row.get("request_count", 60),
            "bytes_sent": row.get("bytes_sent", 1234),
        }
        for number in range(days)
    ]
    scope = scope_of(name) if name != ARCHIVE else ARCHIVE
    return scope_report(scope, summarise([usage(rows)], [scope], DEFAULT)[scope], Policy(50, 20), 92, 105, 100)


def site(
    title: str = "Usage",
    attributions: tuple[Attribution, ...] = (),
    site_url: str = "",
    licence: str = "CC0",
    threshold: int = 50,
) -> Site:
    return Site(
        Facts(
            title=title,
            cutoff=date(2025, 3, 1),
            threshold=threshold,
            rounding=20,
            attributions=attributions,
            licence=licence,
            licence_url="",
            site_url=site_url,
            places={"US/Ohio": (-82.9, 40.0)},
        )
    )


def overview(
    made: Site, *datasets: ScopeReport, archive: ScopeReport | None = None, json_ld: str = ""
) -> dict[str, bytes]:
    lines = [DatasetLine(each.scope, each.totals) for each in datasets]
    return made.overview(archive or report(ARCHIVE), lines, json_ld)


def test_the_overview_shows_published_values_and_how_they_came_about() -> None:
    text = Page(overview(site(), report())["index.html"]).text
    for shown in ("180", "<50", "3.70 kB", "1 March 2025", "nearest 20", "CC0", "ds", "From 30 December 2024"):
        assert shown in text


def test_a_count_below_the_threshold_looks_like_one() -> None:
    html = site().dataset(report(request_count=1), "").decode()
    assert '<td data-v="49"><span class="masked" title="fewer than 50">&lt;50</span></td>' in html
    assert 'class="bars below"' in html
    assert "fewer than 50 requests" in html


def test_bytes_have_readable_units_and_the_exact_figure() -> None:
    html = site().dataset(report(bytes_sent=1_234_567), "").decode()
    assert '<span title="3,703,701 bytes">3.70 MB</span>' in html


def test_the_pages_need_no_network_and_no_inline_script() -> None:
    made = site(attributions=(Attribution("DB-IP", "https://db-ip.com", "CC BY 4.0", "2026-09-01"),))
    pages = [*overview(made, report()).values(), made.dataset(report(), "")]
    for html in pages:
        page = Page(html)
        assert not set(page.tags) & {"iframe", "object", "embed", "base"}
        assert page.tags.count("script") == 1
        assert [link for link in page.values("src") if ":" in link] == []
        outside = {link for link in page.values("href") if ":" in link} - {"data:,"}
        assert outside == {"https://db-ip.com", "https://www.naturalearthdata.com"}
        assert not [name for _, name, _ in page.attributes if name.startswith("on")]
        policy = next(value for value in page.values("content") if "default-src" in value)
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy


@pytest.mark.parametrize("name", [EVIL, "a b", "%41", "../../x", "émile", "=1+1"])
def test_every_text_is_escaped(name: str) -> None:
    made = site(title=EVIL, attributions=(Attribution(EVIL, 'https://example.org/"><b>', "", ""),), licence=EVIL)
    hostile = report(name, asset_path=EVIL, region=f"US/{EVIL}")
    pages = [*overview(made, hostile).values(), made.dataset(hostile, "")]
    for html in pages:
        page = Page(html)
        assert page.tags.count("script") == 1
        assert "b" not in page.tags
        assert EVIL in page.text
        assert "49" not in page.text, "a name was run as a template"
    assert name in Page(pages[-1]).text


def test_links_lead_to_the_folders_of_scopes() -> None:
    links = Page(overview(site(), report("a b"))["datasets.html"]).values("href")
    assert "summaries/a%2520b/index.html" in links
    assert "summaries/a%20b/index.html" in map(unquote, links)


def test_a_shortened_scope_stands_for_its_name() -> None:
    assert display_name("%~" + "0" * 64) == "%~" + "0" * 64
    assert display_name("%61rchive") == "archive"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "http://example.org"])
def test_a_link_that_is_not_https_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        site(attributions=(Attribution("x", url, "", ""),))


def test_the_overview_lists_the_largest_datasets_and_the_other_page_all() -> None:
    many = [report(f"d{number}", bytes_sent=number) for number in range(30)]
    pages = overview(site(), *many)
    assert pages["index.html"].count(b'<th scope="row"><a') == 20
    assert pages["datasets.html"].count(b'<th scope="row"><a') == 30
    first = pages["index.html"].decode()
    assert first.index(">d29</a>") < first.index(">d28</a>") < first.index(">d10</a>")
    assert ">d9</a>" not in first
    assert overview(site(), *reversed(many)) == pages


def test_an_archive_without_datasets_or_places_has_its_pages() -> None:
    pages = overview(site(), archive=report(ARCHIVE, region="unknown"))
    assert "Nobody whose region could be told" in Page(pages["index.html"]).text
    assert b"<circle" not in pages["index.html"]
    assert "0 datasets" in Page(pages["datasets.html"]).text


def test_every_chart_has_a_table_and_words() -> None:
    html = site().dataset(report(days=40), "").decode()
    page = Page(html.encode())
    assert page.tags.count("figure") == 12 + 1
    assert page.tags.count("details") == 4
    words = [value for value in page.values("aria-label") if "the highest bar" in value]
    assert len(words) == 12
    assert "Data sent per day, from 30 December 2024 to 7 February 2025; the highest bar is 1.23 kB." in words


def test_a_chart_without_a_bar_says_so() -> None:
    """Under policy `strict`, which hides no count, the words were "the highest bar is <0"."""
    told = report(request_count=0, bytes_sent=0)
    words = [value for value in Page(site(threshold=0).dataset(told, "")).values("aria-label") if " bar" in value]
    assert len(words) == 12
    assert all(each.endswith("; there is no bar.") for each in words)
    masked = site().dataset(report(request_count=1), "").decode()
    assert "Requests per day, from 30 December 2024 to 1 January 2025; the highest bar is &lt;50." in masked


def test_a_name_makes_no_address_with_what_stands_beside_it() -> None:
    """A dataset `2024:` became `2024::` in the description, an IPv6 address, and every release was held back."""
    page = site().dataset(report("2024:"), "")
    assert b"2024:" in page
    assert list(Scan([], ["2024:", scope_of("2024:")]).findings("index.html", page)) == []


def test_a_known_address_of_the_site_makes_permanent_links() -> None:
    made = site(site_url="https://usage.example.org/x")
    assert (
        '<link rel="canonical" href="https://usage.example.org/x/summaries/ds/index.html">'
        in made.dataset(report(), "").decode()
    )
    assert "canonical" not in site().dataset(report(), "").decode()


def test_data_for_search_engines_stays_data() -> None:
    data = json.dumps({"name": "x"})
    assert (
        f'<script type="application/ld+json">{data}</script>' in overview(site(), json_ld=data)["index.html"].decode()
    )


def test_what_the_pages_share() -> None:
    shared = site().static_files()
    assert set(shared) == {"assets/report.css", "assets/report.js", "assets/world.svg"}
    for name, content in shared.items():
        for mark in (b"@import", b"url(", b"http:", b"https:"):
            assert mark not in content.replace(b"http://www.w3.org/2000/svg", b""), name


def test_a_page_is_small() -> None:
    pages = overview(site(), *(report(f"d{number}") for number in range(20)), archive=report(ARCHIVE, days=3650))
    assert len(pages["index.html"]) < 300_000


@pytest.mark.parametrize(
    ("unit", "text"), [("day", "3 March 2025"), ("week", "week of 3 March 2025"), ("month", "March 2025")]
)
def test_names_of_periods(unit: str, text: str) -> None:
    assert period_text(date(2025, 3, 3), unit) == text


def test_the_sentence_says_what_is_masked() -> None:
    assert sentence(report(request_count=1)) == (
        "From 30 December 2024 to 1 January 2025, fewer than 50 requesters in 1 country were sent 3.70 kB in fewer than 50 "
        "requests, fewer than 50 of them downloads."
    )
