"""Work on another thread, in order."""

import threading
from collections.abc import Iterator

import pytest

from s3logx_assets.core.concurrency import ahead


def test_ahead_gives_the_same_items_in_their_order() -> None:
    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead(iter(()))) == []
    assert list(ahead(iter([None, 0]))) == [None, 0]


def test_ahead_is_never_more_than_one_ahead() -> None:
    made: list[int] = []
    threads = set()

    def items() -> Iterator[int]:
        for number in range(10):
            threads.add(threading.get_ident())
            made.append(number)
            yield number

    for used in ahead(items()):
        assert len(made) <= used + 2
    assert threads.isdisjoint({threading.get_ident()})


def test_what_items_raise_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    got = ahead(items())
    assert next(got) == 1
    with pytest.raises(ValueError, match="broken"):
        next(got)


def test_items_are_left_alone_when_nobody_wants_more() -> None:
    ended = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            ended.set()

    source = items()
    got = ahead(source)
    assert next(got) == 0
    got.close()  # type: ignore[attr-defined]
    assert not ended.is_set()
    assert next(source) <= 2
