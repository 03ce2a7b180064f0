"""Random archives for tests of the release policies: who read which file of which dataset, period after period, and the sizes
of the files. Small, and unequal in every way: a few people, files and regions make most of it."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.core import public_tables
from s3logx_assets.core.privacy.attack import POLICY_FILE
from s3logx_assets.core.privacy.released import released_scopes, requests_told
from s3logx_assets.core.privacy.strict import MEASURES, POOLED, WAITING, Rule, Told, people_told, tell
from s3logx_assets.core.privacy.truth import Truth, truth_of
from s3logx_assets.core.scopes import ARCHIVE

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


@dataclass(frozen=True)
class Closed:
    """A period: all rows it looked at, and what it told."""

    usage: pa.Table
    told: Told


def history(crowd: Crowd, count: int, rule: Rule) -> list[Closed]:
    """The first weeks of an archive, one after the other; what waits is handed on."""
    found: list[Closed] = []
    for number in range(count):
        until = MONDAY + timedelta(7 * number + 6)
        usage = crowd.period(number)
        if found:
            last = found[-1]
            usage = pa.concat_tables([usage, last.usage.filter(pc.equal(last.told.fate, WAITING))])
        found.append(Closed(usage, tell(usage, rule, until, _coin, until - timedelta(weeks=8))))
    return found


def truth_of_periods(periods: Sequence[Closed]) -> Truth:
    """What is behind the figures that some periods told."""
    return truth_of((period.usage, period.told) for period in periods)


def published(periods: Sequence[Closed], rule: Rule) -> dict[str, bytes] | None:
    """The tables of the release after some periods, None where there is nothing to tell."""
    people: dict[str, set[int]] = {}
    for period in periods:
        columns = (period.usage["dataset"], period.usage["network_index"], period.told.fate)
        for dataset, person, fate in zip(*(column.to_pylist() for column in columns), strict=True):
            for scope in [] if fate == WAITING else [ARCHIVE] if fate == POOLED else [ARCHIVE, dataset]:
                people.setdefault(scope, set()).update([person] if person is not None else [])
    requests: Counter[str] = Counter()
    for period in periods:
        for dataset, count in requests_told(period.told.cells).items():
            requests.update({ARCHIVE: count} if not dataset else {ARCHIVE: count, dataset: count})
    counts = {scope: people_told(len(each), requests[scope], rule.people) for scope, each in people.items()}
    scopes = released_scopes([period.told.cells for period in periods], counts)
    if not scopes:
        return None
    totals = {scope: public_tables.released_totals(each) for scope, each in scopes.items()}
    files = {
        POLICY_FILE: json.dumps({"policy": "strict", "people": rule.people}).encode(),
        "archive_totals.json": public_tables.archive_totals_json(totals.pop(ARCHIVE)),
        "totals.json": public_tables.totals_json(totals),
    }
    for scope, each in scopes.items():
        files[f"summaries/{scope}/by_day.tsv"] = public_tables.by_day(each.by_day, 0, 1).tsv()
        files[f"summaries/{scope}/by_asset.tsv"] = public_tables.by_asset(each.by_asset, 0, 1).tsv()
        files[f"summaries/{scope}/by_region.tsv"] = public_tables.by_region(each.by_region, 0, 1).tsv()
    return files


def _coin(name: str) -> float:
    """The same number for the same name."""
    return random.Random(name).random()
