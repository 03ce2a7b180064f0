"""What several unit tests share."""

import logging

import pytest


@pytest.fixture
def whole_log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that is logged. urllib3's own level goes before the root's, and other libraries set it for the whole process."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "urllib3")
    return caplog
