"""Who asks for what and when: the stream of requests of each day, in the order of their delivery.

The stream depends on seed, dates and number of lines alone. How it is shared out over files does
not belong here, nor how a line looks, nor the deliberately odd lines.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from s3logx_assets.sample_logs.catalogue import Catalogue, build_catalogue
from s3logx_assets.sample_logs.clients import Clients, Kind, build_clients, kind_steps
from s3logx_assets.sample_logs.lines import LineWriter, Requests
from s3logx_assets.sample_logs.randomness import Floats, Ints, Pieces, draw, make_rng

CHUNK_LINES: Final = 8_192
# A date's requests come before this second, so that a file can be named after all of them and
# still bear that date.
LAST_SECOND: Final = 84_600

# Amazon's and the archive's own requests: PUT, EXPIRE, BATCH_DELETE, INTERNAL_GET.
_OWN_STEPS: Final = np.array([0.012, 0.026, 0.030, 0.034])
_FAVOURITE_STEPS: Final = (0.42, 0.66, 0.78)
_LATE_SHARE: Final = 0.003
# Nobody reads ranges of small files.
_SMALLEST_RANGED: Final = 100_000


@dataclass(frozen=True)
class Chunk:
    """Consecutive lines of a day's stream: `parts[i]` joined is line i with its newline."""

    start: int
    parts: Pieces
    requests: Requests


class Traffic:
    """All lines of a sample archive, a pure function of the arguments.

    `lines_of_day` says how many lines are delivered on each of the dates from `first_date` on. With
    `late` events lag behind their delivery: minutes mostly, for a few lines days.
    """

    def __init__(self, seed: int, first_date: date, lines_of_day: list[int], datasets: int, late: bool) -> None:
        self._seed = seed
        self._first_date = first_date
        self._lines_of_day = lines_of_day
        self._late = late
        self.catalogue: Catalogue = build_catalogue(seed, datasets)
        population = min(40_000, max(200, sum(lines_of_day) // 25))
        self._clients: Clients = build_clients(seed, population, self.catalogue)
        self._writer = LineWriter(self.catalogue, self._clients)
        hours = np.arange(1_440) / 60.0
        density = 1.0 + 0.55 * np.sin((hours - 8.5) / 24.0 * 2 * np.pi)
        self._day_curve: Floats = np.concatenate(([0.0], np.cumsum(density) / density.sum()))

    def seconds_at(self, share: Floats) -> Ints:
        """The second of the day by which that share (0 to 1) of its lines has been delivered."""
        passed = np.interp(share, self._day_curve, np.linspace(0.0, 1.0, len(self._day_curve)))
        return np.asarray(passed * LAST_SECOND).astype(np.int64)

    def chunks(self, day: int) -> Iterator[Chunk]:
        """The lines of one day, in order; memory is that of one chunk."""
        total = self._lines_of_day[day]
        for start in range(0, total, CHUNK_LINES):
            count = min(CHUNK_LINES, total - start)
            rng = make_rng(self._seed, 3, day, start)
            requests = self._choose(day, start, rng.random((8, count)))
            delivered = self._first_date + timedelta(days=day)
            yield Chunk(start, self._writer.write(requests, delivered, rng), requests)

    def _choose(self, day: int, start: int, uniform: Floats) -> Requests:
        clients, catalogue = self._clients, self.catalogue
        days = len(self._lines_of_day)
        # The circle of requesters widens with time; the busy ones come back every day.
        known = max(1, int(len(clients.steps) * (0.55 + 0.45 * (day + 1) / days)))
        client = draw(clients.steps, uniform[0] * clients.steps[known - 1])

        dataset = draw(catalogue.dataset_steps, uniform[2])
        low = 0.0
        for favourite, high in enumerate(_FAVOURITE_STEPS):
            chosen = (uniform[1] >= low) & (uniform[1] < high)
            dataset[chosen] = clients.favourites[client[chosen], favourite]
            low = high
        if day == burst_day(days):
            # A paper is out, and everybody fetches the dataset behind it.
            dataset[uniform[2] < 0.55] = len(catalogue.names) // 3
        key = draw(catalogue.key_steps, dataset + uniform[3])

        kind = self._choose_kinds(client, uniform[4])
        kind[(kind == Kind.RANGE) & (catalogue.sizes[key] < _SMALLEST_RANGED)] = Kind.OK
        share = (start + np.arange(len(client)) + uniform[5]) / self._lines_of_day[day]
        seconds = self.seconds_at(share)
        if self._late:
            seconds -= _lag(uniform[6], uniform[7])
        return Requests(kind, client, key, seconds)

    def _choose_kinds(self, client: Ints, uniform: Floats) -> Ints:
        """By the habits of each client's program, but for the archive's own share."""
        own_share = _OWN_STEPS[-1]
        steps = kind_steps()[self._clients.program[client]]
        habit = (uniform - own_share) / (1.0 - own_share)
        kind = np.minimum((steps <= habit[:, None]).sum(axis=1), Kind.OTHER)
        is_own = uniform < own_share
        kind[is_own] = Kind.PUT + draw(_OWN_STEPS, uniform[is_own])
        return np.asarray(kind)


def _lag(usual: Floats, rare: Floats) -> Ints:
    """Seconds from event to delivery: up to 41 minutes, for a few one to four days more."""
    minutes = 60.0 + 2_400.0 * usual**3
    days = np.where(rare < _LATE_SHARE, 1.0 + np.floor(4.0 * rare / _LATE_SHARE), 0.0)
    return np.asarray(minutes + 86_400.0 * days).astype(np.int64)


def burst_day(days: int) -> int:
    """The number of the one day with far more traffic; -1 where there are too few days."""
    return days * 2 // 3 if days >= 7 else -1


def day_weights(first_date: date, days: int, seed: int) -> npt.NDArray[np.float64]:
    """Relative traffic of each day: doubling over the period, quiet weekends, noise, one burst."""
    weights = 1.0 + np.arange(days) / max(1, days - 1)
    weekday = (first_date.weekday() + np.arange(days)) % 7
    weights *= np.where(weekday < 5, 1.0, 0.55)
    weights *= 0.9 + 0.2 * make_rng(seed, 4).random(days)
    if burst_day(days) >= 0:
        weights[burst_day(days)] *= 3.0
    return np.asarray(weights)
