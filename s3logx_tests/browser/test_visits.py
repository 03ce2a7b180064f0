"""The eyes of the browser tests: what goes wrong on a page is seen, and nothing leaves the machine."""

from collections.abc import Callable, Iterator

import pytest

from s3logx_tests.browser.visits import PHONE, Visit, axe, executable
from s3logx_tests.http_service import Answer, Service, running_service

Visits = Callable[..., Visit]
STYLE = (
    "<style>body{color:#000;background:#fff}@media(prefers-color-scheme:dark){body{color:#fff;background:#000}}</style>"
)


@pytest.fixture
def site() -> Iterator[Service]:
    with running_service() as service:
        yield service


def document(body: str, **headers: str) -> Answer:
    """An HTML page."""
    text = f"<!doctype html><html lang=en><title>Page</title>{STYLE}<main><h1>Page</h1>{body}</main></html>"
    return Answer(200, text.encode(), {"Content-Type": "text/html; charset=utf-8", **headers})


def visited(visit: Visits, site: Service, body: str, **how: object) -> Visit:
    """A visit of a page of `body`, when all it asks for has come or failed: what is fetched by a script too."""
    site.answers(document(body), Answer(404))
    found = visit(**how)
    found.page.goto(site.url, wait_until="networkidle" if "fetch" in body else "load")
    return found


def test_a_page_without_fault_has_no_troubles(visit: Visits, site: Service) -> None:
    found = visited(visit, site, "<p>Fine.</p><script>console.log('fine')</script>")
    assert found.page.inner_text("p") == "Fine."
    assert found.troubles() == []


FAULTS = {
    "<script>console.error('broken')</script>": "console: broken",
    "<script>throw new Error('thrown')</script>": "page error: thrown",
    "<img src=/missing.png alt=''>": "answered 404: ",
    "<img src=http://127.0.0.1:1/x.png alt=''>": "failed: http://127.0.0.1:1/x.png: net::ERR_",
    "<img src=https://cdn.example.org/x.png alt=''>": "asked of another machine: https://cdn.example.org/x.png",
    "<script src=//cdn.example.org/x.js></script>": "asked of another machine: http://cdn.example.org/x.js",
    "<iframe src=https://example.org/f title=x></iframe>": "asked of another machine: https://example.org/f",
    "<script>new WebSocket('wss://example.org/w')</script>": "asked of another machine: wss://example.org/w",
    "<script>fetch('//example.org/b').catch(() => 0)</script>": "asked of another machine: http://example.org/b",
}


def test_what_goes_wrong_is_seen(visit: Visits, site: Service) -> None:
    found = visited(visit, site, "".join(FAULTS))
    troubles = found.troubles()
    assert [each for each in FAULTS.values() if not any(one.startswith(each) for one in troubles)] == []
    assert len(troubles) == len(FAULTS)
    with pytest.raises(AssertionError, match="console: broken"):
        found.check()
    found.forget()
    assert found.troubles() == []


def test_what_is_allowed_is_tried_and_gets_no_answer(visit: Visits, site: Service) -> None:
    found = visited(visit, site, "<img src=https://cdn.example.org/x.png alt=''>", allowed=[r"^https://cdn\."])
    assert found.tried == ["https://cdn.example.org/x.png"]
    assert found.page.evaluate("document.images[0].naturalWidth") == 0


def test_a_screen_is_as_wide_and_as_dark_as_asked(visit: Visits, site: Service) -> None:
    found = visited(visit, site, "", screen=PHONE, scheme="dark")
    assert found.page.evaluate("[innerWidth, innerHeight, devicePixelRatio]") == [390, 844, 2]
    assert found.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(0, 0, 0)"


def test_without_javascript_no_script_runs(visit: Visits, site: Service) -> None:
    found = visited(visit, site, "<script>document.title = 'Run'</script>", javascript=False)
    assert found.page.title() == "Page"


def test_axe_finds_what_is_serious_even_under_a_strict_policy(visit: Visits, site: Service) -> None:
    policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    site.answers(document("<p>Readable.</p>", **policy), document("<p style=color:#eee>Pale.</p>", **policy))
    found = visit()
    found.page.goto(site.url)
    assert axe(found.page) == []
    found.page.goto(site.url + "/pale")
    assert [each.split(":")[0] for each in axe(found.page)] == ["color-contrast (serious)"]


def test_a_missing_browser_fails_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CHROMIUM", raising=False)
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        executable()
    monkeypatch.setenv("CHROMIUM", "/opt/chromium")
    assert executable() == "/opt/chromium"
