"""How far a tick goes."""

import time
from collections.abc import Callable

import pytest

from s3logx_assets import ticks


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets seconds pass."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def passing(seconds: float) -> None:
        now[0] += seconds

    return passing


def groups(pass_time: Callable[[float], None], count: int, each: float, first: int = 1, most: int = 400) -> list[int]:
    """How many items each group has, of which one takes `each` seconds."""
    found: list[int] = []
    items = list(range(count))
    for some in ticks.in_time(items, first, most):
        assert list(some) == items[sum(found) : sum(found) + len(some)]
        found.append(len(some))
        pass_time(each * len(some))
    return found


def test_groups_grow_while_they_are_quick(pass_time: Callable[[float], None]) -> None:
    assert groups(pass_time, 400, 0.001) == [1, 2, 4, 8, 16, 32, 64, 128, 145]
    assert groups(pass_time, 40, 0.001, most=8) == [1, 2, 4, 8, 8, 8, 8, 1]
    assert groups(pass_time, 7, 0.9) == [1, 2, 4]
    assert groups(pass_time, 0, 1) == []


def test_slow_ones_come_one_by_one_until_the_time_is_over(pass_time: Callable[[float], None]) -> None:
    assert groups(pass_time, 7, 8) == [1, 1, 1]
    assert groups(pass_time, 7, 80) == [1], "at least one"
    assert groups(pass_time, 1000, 0.05, first=200, most=200) == [200, 200]
