"""Work on several threads at once, in order and in bounded memory. What the work is does not belong here."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")

_END = object()


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made on another thread while the one before it is used: never more than one ahead. What
    `items` raises comes in its place."""
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[T | object] = pool.submit(next, items, _END)
        while (item := waiting.result()) is not _END:
            waiting = pool.submit(next, items, _END)
            yield cast(T, item)


def mapped(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """`function` of each item, in the order of the items, `workers` of them at a time.

    At most one more result than there are workers waits to be taken, so memory does not follow the number of items. The
    first exception ends it, and work that had not begun is not begun.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
