"""Fixtures of the tests with a browser. What they make is in `visits`."""

from collections.abc import Callable, Iterator

import pytest

from s3logx_tests.browser.visits import Browsers, Visit


@pytest.fixture(scope="module")
def browsers() -> Iterator[Browsers]:
    """One Chromium for a module; it starts with the first visit, so that what a module builds before is built without."""
    browsers = Browsers()
    yield browsers
    browsers.close()


@pytest.fixture
def visit(browsers: Browsers) -> Iterator[Callable[..., Visit]]:
    """`visit(screen, scheme, javascript, allowed)`: an empty page. In the end nothing may have gone wrong on any, and none
    may have asked anything of another machine."""
    visits: list[Visit] = []

    def make(*arguments: object, **named: object) -> Visit:
        visits.append(browsers.visit(*arguments, **named))  # type: ignore[arg-type]
        return visits[-1]

    yield make
    for found in visits:
        found.page.context.close()
    for found in visits:
        found.check()
