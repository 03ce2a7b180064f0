"""What all tests share."""

import dagster as dg
import pytest


@pytest.fixture(autouse=True)
def no_waits_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is tried again is tried at once: half a minute's wait is a test of nothing."""
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda policy, attempt: 0.01)
