"""How far a run over many dates is, in a line that a person reads. What is done with the dates does not belong here."""

import time
from collections.abc import Callable
from datetime import date

_SECONDS_BEFORE_A_FORECAST = 5.0
_MEGABYTE = 1e6


class Progress:
    """Counts dates as they are done; the time left is that of the dates so far, for those to come."""

    def __init__(self, total: int, now: Callable[[], float] = time.monotonic) -> None:
        self._total, self._now = total, now
        self._start = now()
        self._dates = self._bytes = 0

    def done(self, day: date, files: int = 0, records: int = 0, size: int = 0) -> str:
        """One more date is done: the line about it. `files`, `records` and `size` (bytes) are what it was made from."""
        self._dates += 1
        self._bytes += size
        elapsed = self._now() - self._start
        parts = [f"{day} done, {self._dates} of {self._total}"]
        if files:
            parts.append(f"{files:,} files, {records:,} lines")
        if size and elapsed:
            parts.append(f"{self._bytes / elapsed / _MEGABYTE:,.1f} MB/s")
        left = self._total - self._dates
        if left and elapsed >= _SECONDS_BEFORE_A_FORECAST:
            parts.append(f"about {_span(elapsed / self._dates * left)} left")
        return "; ".join(parts)

    def failed(self) -> None:
        """One more date is through, but not done."""
        self._dates += 1


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
