"""Playwright's loop in the main thread lets every other `asyncio.run` fail, so it may not outlive the pages. This module has
no page of the shared fixtures, which would be open meanwhile."""

import asyncio

import dagster as dg

from s3logx_tests.browser.visits import Browsers


def test_others_have_their_loops_before_and_after_a_browser() -> None:
    async def nothing() -> int:
        return 1

    @dg.asset
    def thing() -> None: ...

    def succeeds() -> bool:
        with dg.DagsterInstance.ephemeral() as instance:
            return dg.materialize([thing], instance=instance).success

    browsers = Browsers()
    for _ in range(2):
        assert asyncio.run(nothing()) == 1
        assert succeeds()
        found = browsers.visit()
        found.page.set_content("<p>Here.</p>")
        assert found.page.inner_text("p") == "Here."
        assert found.picture("nothing").stat().st_size > 0
        browsers.close()
