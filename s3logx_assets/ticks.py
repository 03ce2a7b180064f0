"""How long a tick of a sensor looks around. Dagster gives up one of over sixty seconds, with its cursor: where all that
is to be looked at takes longer, the next tick would begin anew, and never get on. So a tick ends well before, and the
next one goes on.
"""

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

SECONDS = 20.0
# A group that took less makes the next one twice as large.
_QUICK = 2.0


def in_time(items: Sequence[T], first: int, most: int) -> Iterator[Sequence[T]]:
    """`items` in groups, in their order, until the time is over; at least one. A group has `first` items, and up to
    `most` as long as they are quick: to begin costs something, and what one takes is not known before."""
    ends = time.monotonic() + SECONDS
    seen, size = 0, first
    while seen < len(items) and (not seen or time.monotonic() < ends):
        began = time.monotonic()
        yield items[seen : seen + size]
        seen += size
        if time.monotonic() - began < _QUICK:
            size = min(2 * size, most)
