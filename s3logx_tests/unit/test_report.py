"""The index page: self-contained, escaped, with the published values and working links."""

from datetime import date
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from s3logx_assets.core.public_tables import Published
from s3logx_assets.core.report import Attribution, index_html

VOID = {"meta", "link", "br", "img", "input", "hr"}
EVIL = "<script>alert('1')</script>&\""


class Page(HTMLParser):
    """Collects links and table cells; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data + "|"

    @property
    def links(self) -> list[str]:
        return [value or "" for name, value in self.attributes if name == "href"]


def published(**changes: int | str) -> Published:
    usual: Published = {
        "total_bytes_sent": 6286489,
        "number_of_unique_regions": 12,
        "number_of_unique_countries": 3,
        "total_number_of_requests": 123460,
        "total_number_of_downloads": "<50",
        "number_of_requesters": 60,
    }
    return usual | changes


def page(
    datasets: dict[str, Published] | None = None,
    title: str = "Usage",
    attributions: tuple[Attribution, ...] = (),
) -> str:
    return index_html(
        title=title,
        archive=published(),
        datasets=datasets if datasets is not None else {"ds1": published()},
        cutoff=date(2024, 3, 1),
        threshold=50,
        rounding=20,
        attributions=attributions,
        data_licence="CC0",
    )


def test_the_page_shows_published_values_and_how_they_came_about() -> None:
    text = Page(page()).text
    for shown in ("123,460", "<50", "6.29 MB", "2024-03-01", "nearest 20", "CC0", "ds1"):
        assert shown in text


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (123456, "123 kB"),
        (99999, "100.0 kB"),
        (10**18 * 12345, "12,345 EB"),
    ],
)
def test_bytes_have_readable_units_and_the_exact_figure(count: int, shown: str) -> None:
    html = page({"ds1": published(total_bytes_sent=count)})
    assert f'<span title="{count:,} bytes">{shown}</span>' in html


def test_links_lead_to_the_folders_of_scopes() -> None:
    links = Page(page({"a%20b": published()})).links
    assert "summaries/a%2520b/by_asset.tsv" in links
    assert "summaries/a%20b/by_day.tsv" in map(unquote, links)
    assert "summaries/archive/by_day.tsv" in links
    assert "summaries/archive/by_asset.tsv" not in links
    assert {"totals.json", "archive_totals.json", "region_coordinates.tsv"} <= set(links)


def test_the_page_needs_no_script_and_no_network() -> None:
    html = page(attributions=(Attribution("IP Geolocation by DB-IP", "https://db-ip.com"),))
    parsed = Page(html)
    assert not parsed.tags & {"script", "link", "img", "iframe", "object"}
    assert not [name for name, _ in parsed.attributes if name in ("src", "style", "onclick")]
    assert [link for link in parsed.links if ":" in link] == ["https://db-ip.com"]
    assert "url(" not in html
    assert "@import" not in html


def test_every_text_is_escaped() -> None:
    html = index_html(
        title=EVIL,
        archive=published(number_of_requesters=EVIL),
        datasets={"%3Cscript%3E": published(), "%~" + "0" * 64: published()},
        cutoff=date(2024, 3, 1),
        threshold=50,
        rounding=20,
        attributions=(Attribution(EVIL), Attribution(EVIL, 'https://example.org/"><b>')),
        data_licence=EVIL,
    )
    parsed = Page(html)
    assert not parsed.tags & {"script", "b"}
    assert parsed.text.count("alert") == 0 or EVIL in parsed.text
    assert "<script>" in parsed.text
    assert "%~" + "0" * 64 in parsed.text


def test_a_link_that_is_not_https_is_refused() -> None:
    with pytest.raises(ValueError, match="https"):
        page(attributions=(Attribution("x", "javascript:alert(1)"),))


def test_datasets_come_in_order_and_may_be_none() -> None:
    html = page({"b": published(), "a": published()})
    assert html.index('scope="row">a<') < html.index('scope="row">b<')
    assert html == page({"a": published(), "b": published()})
    assert "0 datasets" in page({})
