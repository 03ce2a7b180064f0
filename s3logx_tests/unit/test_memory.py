"""Keeping freed memory: large blocks come back without new pages, and go to the system at the end."""

import resource
import types

import numpy as np
import pytest

from s3logx_assets.adapters.memory import freed_memory_kept

_BLOCK = 64 << 20


def faults_of_a_second_block() -> int:
    np.ones(_BLOCK, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(_BLOCK, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_block_that_was_freed_is_used_again() -> None:
    with freed_memory_kept():
        kept = faults_of_a_second_block()
    assert kept < _BLOCK / resource.getpagesize() / 10


def test_where_the_allocator_is_another_one_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: types.SimpleNamespace())
    with freed_memory_kept():
        pass
