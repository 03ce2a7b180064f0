"""What all tests share."""

from pathlib import Path

import dagster as dg
import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folder decides the tier: who needs servers or a browser is slow."""
    for item in items:
        folder = item.path.relative_to(_HERE).parts[0]
        if folder in ("integration", "browser"):
            item.add_marker("servers")
        elif folder == "distributed":
            item.add_marker("distributed")


@pytest.fixture(autouse=True)
def no_waits_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is tried again is tried at once: half a minute's wait is a test of nothing."""
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda policy, attempt: 0.01)
