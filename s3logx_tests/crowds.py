"""Random archives for tests of the release policies: who read which file of which dataset, period after period, and the sizes
of the files. Small, and unequal in every way: a few people, files and regions make most of it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from s3logx_assets.core.privacy.attack import Truth
from s3logx_assets.core.privacy.strict import MEASURES, POOL, POOLED, WAITING, Told

MONDAY = date(2025, 3, 3)
_REGIONS = ["US/California", "US/Texas", "US", "DE/Berlin", "DE/Bavaria", "JP/Tokyo", "AWS/us-east-1", "AWS/us-west-2"]
_REGIONS += ["unknown", "VPN", "bogon"]


@dataclass(frozen=True)
class Crowd:
    """An archive: its files by dataset with their sizes, people with their regions and how much each reads."""

    rng: random.Random
    sizes: dict[str, dict[str, int]]
    people: list[tuple[int, str, float]]

    @staticmethod
    def of(seed: int) -> "Crowd":
        """One of many archives."""
        rng = random.Random(seed)
        sizes = {}
        for number in range(rng.randint(1, 4)):
            folders = [f"sub-{each}/" for each in range(rng.randint(1, 4))] + [""]
            files = {f"{rng.choice(folders)}file{each}.nwb" for each in range(rng.choice([1, 3, 8, 20]))}
            sizes[f"ds{number}"] = {path: int(10 ** rng.uniform(2, 10)) for path in sorted(files)}
        few = rng.sample(_REGIONS, rng.randint(1, len(_REGIONS)))
        count = rng.choice([1, 5, 11, 15, 30, 80, 150])
        people = [
            (rng.getrandbits(63) - 2**62, rng.choice(few), rng.choice([1.0, 1.0, 1.0, rng.paretovariate(0.8)]))
            for _ in range(count)
        ]
        return Crowd(rng, sizes, people)

    def period(self, number: int) -> pa.Table:
        """What was read in a week, and some late records, as `strict.tell` takes it."""
        rng, start = self.rng, MONDAY + timedelta(7 * number)
        until = start + timedelta(6)
        rows: list[tuple[object, ...]] = []
        whole = rng.random() < 0.5  # in some archives nobody asks for parts of files
        for person, region, eagerness in self.people:
            if rng.random() < 0.3:
                continue
            for _ in range(min(40, 1 + int(rng.expovariate(1 / eagerness)))):
                dataset = rng.choice(list(self.sizes))
                files = self.sizes[dataset]
                path = rng.choice(list(files)[: max(1, int(len(files) * rng.random() ** 2) + 1)])
                day = start + timedelta(rng.choice([0, 1, 1, 2, 3, 4, 5, 6, -rng.randint(0, 400)]))
                requests = rng.choice([1, 1, 1, 2, 3])
                downloads = requests if whole else rng.randint(0, requests)
                size = files[path] * downloads + rng.randint(0, files[path]) * (requests - downloads)
                rows.append((dataset, path, day, region, person, requests, downloads, size, until))
        for dataset, files in self.sizes.items():
            if rng.random() < 0.1:
                path = rng.choice(list(files))
                rows.append((dataset, path, start, "internal", None, 1, 1, files[path], until))
        names = ["dataset", "asset_path", "event_date", "region", "network_index", *MEASURES, "since"]
        kinds = [pa.string(), pa.string(), pa.date32(), pa.string(), *[pa.int64()] * 4, pa.date32()]
        return pa.table(
            [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
            if rows
            else [pa.array([], kind) for kind in kinds],
            names=names,
        )


def truth_of(usage: pa.Table, told: Told) -> Truth:
    """What is known of the rows that were told."""
    fate = told.fate.to_numpy(zero_copy_only=False)
    rows = usage.filter(pa.array(fate != WAITING))
    scope = rows["dataset"].to_numpy(zero_copy_only=False)
    scope[fate[fate != WAITING] == POOLED] = POOL
    codes = rows["network_index"].combine_chunks().dictionary_encode().indices
    return Truth(
        scope,
        rows["asset_path"].to_numpy(zero_copy_only=False),
        {name: told.groups[name].to_numpy(zero_copy_only=False) for name in told.groups.column_names},
        codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64),
        np.stack([rows[name].to_numpy() for name in MEASURES]) if rows.num_rows else np.zeros((3, 0), np.int64),
    )


def keyed_coin(name: str) -> float:
    """The same number for the same name."""
    return random.Random(name).random()


def waiting(usage: pa.Table, told: Told) -> pa.Table:
    """The rows that wait for the next period."""
    return usage.filter(pa.compute.equal(told.fate, WAITING))


def periods() -> Iterator[tuple[int, date, date]]:
    """The number of each week, its last day, and the day before which what waits is put together."""
    number = 0
    while True:
        until = MONDAY + timedelta(7 * number + 6)
        yield number, until, until - timedelta(7 * 8)
        number += 1
