"""Pages in a real Chromium, and all that went wrong on them or wished to leave the machine.

The browser is the system's (Debian's `chromium`), driven by Playwright, with a profile of its own and no way out: a name
other than this machine's resolves to nothing, and a request to another host is written down and ends. Playwright keeps
an asyncio loop going in the thread that started it, in which nobody else's loop runs, Dagster's neither. So `Browsers`
starts it with the first visit and ends it when it is told, and a module that runs assets does so before its first visit,
in a fixture of module scope. What a page should show is the business of the tests.
"""

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    Route,
    WebSocketRoute,
    sync_playwright,
)

# Screenshots, kept as build output.
PICTURES = Path(__file__).parents[2] / "build" / "pictures"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_HERE = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Screen:
    """Width and height in CSS pixels, and how many of the screen's pixels make one of these."""

    width: int
    height: int
    scale: float = 1


PHONE = Screen(390, 844, 2)
DESKTOP = Screen(1280, 900)


def executable() -> str:
    """The browser's program: the one that CHROMIUM names, else the first of the usual names. Fails the test without."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if not found:
        pytest.fail(
            "Chromium is missing, and these tests look at pages with it. `make test` installs it where it may; else install "
            "it as root with 'apt-get install chromium', or name the program: CHROMIUM=/path/to/chromium",
            pytrace=False,
        )
    return found


@dataclass
class Visit:
    """One page, what went wrong on it and what it asked of other machines. `allowed`: patterns of addresses outside
    that the page may try for (they get no answer either)."""

    page: Page
    allowed: Sequence[str] = ()
    outside: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        """Listens to all pages of `context`, and lets no request of theirs out."""
        context.route("**/*", _let_in)
        context.route_web_socket(lambda url: not _is_here(url), self._refuse)
        context.on("request", lambda request: self._note_address(request.url))
        context.on("requestfailed", self._note_failed)
        context.on("response", self._note_answer)
        context.on("console", self._note_console)
        context.on("weberror", lambda error: self.errors.append(f"page error: {error.error}"))

    def troubles(self) -> list[str]:
        """All that went wrong or wished to go out so far; of one page's life."""
        return [f"asked of another machine: {url}" for url in self.outside] + self.errors

    def check(self) -> None:
        """Nothing went wrong and nothing wished to go out."""
        assert not self.troubles(), "\n".join(self.troubles())

    def forget(self) -> None:
        """For what was looked at and is as it should be."""
        self.outside.clear()
        self.errors.clear()

    def picture(self, name: str, full_page: bool = False) -> Path:
        """A screenshot at `build/pictures/<name>.png`."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        path = PICTURES / f"{name}.png"
        self.page.screenshot(path=path, full_page=full_page, animations="disabled")
        return path

    def _refuse(self, socket: WebSocketRoute) -> None:
        self._note_address(socket.url)
        socket.close()

    def _note_address(self, url: str) -> None:
        if not _is_here(url):
            (self.tried if self._is_allowed(url) else self.outside).append(url)

    def _note_failed(self, request: Request) -> None:
        # ERR_ABORTED is the page's own doing: it went elsewhere, or the answer was a download.
        if _is_here(request.url) and request.failure != "net::ERR_ABORTED":
            self.errors.append(f"failed: {request.url}: {request.failure}")

    def _note_answer(self, response: Response) -> None:
        if response.status >= 400:
            self.errors.append(f"answered {response.status}: {response.url}")

    def _note_console(self, message: ConsoleMessage) -> None:
        # A failed request is an error of the console too, and is noted where it fails.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.errors.append(f"console: {message.text}")

    def _is_allowed(self, url: str) -> bool:
        return any(re.search(pattern, url) for pattern in self.allowed)


class Browsers:
    """Chromium, from the first visit on until it is closed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._browser: Browser | None = None

    def visit(
        self,
        screen: Screen = DESKTOP,
        scheme: Literal["light", "dark"] = "light",
        javascript: bool = True,
        allowed: Sequence[str] = (),
    ) -> Visit:
        """An empty page of a profile of its own."""
        if self._browser is None:
            self._browser = self._start()
        context = self._browser.new_context(
            viewport={"width": screen.width, "height": screen.height},
            device_scale_factor=screen.scale,
            color_scheme=scheme,
            java_script_enabled=javascript,
            reduced_motion="reduce",
            service_workers="block",
            locale="en-GB",
            timezone_id="UTC",
        )
        found = Visit(context.new_page(), allowed)
        found.watch(context)
        return found

    def close(self) -> None:
        """Ends the browser and Playwright's loop."""
        self._browser = None
        self._stack.close()

    def _start(self) -> Browser:
        program = executable()
        playwright = self._stack.enter_context(sync_playwright())
        # Chromium has no sandbox as root, and only there is it switched off.
        alone = ["--no-sandbox"] if os.geteuid() == 0 else []
        nowhere = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=[nowhere, *alone])
        self._stack.callback(browser.close)
        return browser


def axe(page: Page) -> list[str]:
    """What axe-core finds serious or critical on the page as it stands: rule, impact, words, and the elements."""
    # An expression of the debugger is no script of the page, so a content security policy does not forbid it.
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: {'; '.join(str(node['target']) for node in each['nodes'])}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def _is_here(url: str) -> bool:
    """Whether an address is this machine's, or no address of a machine at all (`file:`, `data:`, `blob:` …)."""
    parts = urlsplit(url)
    return parts.scheme not in ("http", "https", "ws", "wss") or parts.hostname in _HERE


def _let_in(route: Route) -> None:
    if _is_here(route.request.url):
        route.continue_()
    else:
        route.abort("blockedbyclient")
