"""Daily usage of an archive that never was, for measuring summaries: written through the project's own store.

A visit is one requester reading some files of one dataset. Datasets, files and requesters are uneven, as in archives: a
few have most of the traffic, so a date touches some of the datasets only; how many is set by `slope`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3logx_assets.core.schemas import DAILY_USAGE

SLOPE = 2.0
_FILES_PER_VISIT = 5
_REGIONS = 900
_SEED = 20_250_301


@dataclass(frozen=True, slots=True)
class UsageSpec:
    """How much usage: `rows` over all `dates`. The dataset of rank r has a share of the visits that goes with
    r ** -slope: at 2 a date of 25,000 rows touches a fifth of 500 datasets, at 1.5 more than half, at 0.5 all of them."""

    rows: int
    dates: int
    slope: float = SLOPE
    datasets: int = 500
    requesters: int = 500_000
    first_date: date = date(2023, 1, 1)

    def tables(self) -> Iterator[tuple[date, pa.Table]]:
        """DAILY_USAGE of each log date, the same for the same spec."""
        for number in range(self.dates):
            day = self.first_date + timedelta(days=number)
            yield day, self._table(day, np.random.default_rng([_SEED, number]), self.rows // self.dates)

    def _table(self, day: date, random: np.random.Generator, rows: int) -> pa.Table:
        visits = rows // _FILES_PER_VISIT * 5 // 4
        shares = np.arange(1, self.datasets + 1) ** -self.slope
        dataset_of_visit = random.choice(self.datasets, visits, p=shares / shares.sum())
        requester_of_visit = _uneven(random, self.requesters, visits, 1.6)
        event_of_visit = day.toordinal() - (random.random(visits) < 0.1).astype(np.int64)
        visit = np.repeat(np.arange(visits), random.geometric(1 / _FILES_PER_VISIT, visits))
        dataset = dataset_of_visit[visit]
        file = _uneven(random, 1, visit.size, 1.3, most=20 + dataset * 37 % 1500)
        columns = np.stack([dataset, event_of_visit[visit], file, requester_of_visit[visit]])
        columns = np.unique(columns, axis=1)[:, : columns.shape[1]]
        columns = columns[:, random.permutation(columns.shape[1])[:rows]]
        dataset, event, file, requester = columns
        region = requester * 7919 % _REGIONS
        ip_index = _scrambled(requester)
        order = np.lexsort([ip_index, region, file, event, dataset])
        dataset, event, file, region, ip_index = (c[order] for c in (dataset, event, file, region, ip_index))
        requests = random.geometric(0.7, order.size).astype(np.int64)
        names = {
            "dataset": _texts("ds{:06d}", dataset),
            "asset_path": _texts("sub-{0:07d}/ses-01/sub-{0:07d}_task-rest_bold.nii.gz", dataset * 10_000 + file),
            "event_date": pa.array((event - date(1970, 1, 1).toordinal()).astype(np.int32)).cast(pa.date32()),
            "region": _texts("C{:03d}/Region {:03d}", region),
            "ip_index": pa.array(ip_index),
            "network_index": pa.array(ip_index),
            "request_count": pa.array(requests),
            "download_count": pa.array(requests - (random.random(order.size) < 0.1)),
            "bytes_sent": pa.array(random.integers(1, 1 << 30, order.size)),
            "in_archive": pa.array(np.ones(order.size, bool)),
        }
        return pa.table([names[name] for name in DAILY_USAGE.names], schema=DAILY_USAGE)


def _uneven(
    random: np.random.Generator, count: int, size: int, slope: float, most: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """`size` numbers below `count` (or below each of `most`), the low ones far more often."""
    drawn = random.random(size) ** (slope * 2) * (count if most is None else most)
    return np.asarray(drawn, np.int64)


def _scrambled(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """As indexes look: all 64 bits used, each number its own (the finalizer of SplitMix64 is a bijection)."""
    x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return (x ^ (x >> np.uint64(31))).view(np.int64)


def _texts(form: str, numbers: NDArray[np.int64]) -> pa.Array:
    distinct, code = np.unique(numbers, return_inverse=True)
    return pa.array([form.format(n, n) for n in distinct.tolist()], pa.string()).take(pa.array(code))
