"""Fixtures of the graph's tests."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from s3logx_tests.platform import Platform


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """A platform with an event log in memory."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Platform.make(tmp_path, instance)
