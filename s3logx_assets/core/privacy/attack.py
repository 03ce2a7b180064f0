"""The attacker: what someone works out who has all releases and knows the sizes of the objects.

    between releases   what came to a figure since the release before
    sums               what totals, and the archive, leave for figures that are not told exactly
    tables             what two tables of the same requests say of where they meet: between max(0, a + b - n) and min(a, b)
    sizes              which files give so many bytes in so many downloads
    requesters         what numbers of people say of those who are in one scope and not in another

What is worked out is an `Inference`: between `low` and `high` of something came from the requests of a cell. Whether it tells of
anybody only the truth says, which the attacker does not have (truth.py). Of sums over a set of unknown figures only intervals are used (interval
propagation), which for single tables are the exact bounds of the linear program.

The attacker knows how the policies work, and the parameters that a release states. What the store holds, and whether a
release may go out, does not belong here.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3logx_assets.core.privacy.byte_steps import most_of_a_request
from s3logx_assets.core.privacy.strict import DAY, FILE, MEASURES, POOL, REGION, TOTAL, people_told
from s3logx_assets.core.privacy.trees import OTHER_FILES
from s3logx_assets.core.scopes import ARCHIVE, scope_of

POLICY_FILE = "privacy.json"
PEOPLE = "people"
# What is attacked; the last is what the first two leave.
ATTACKED = (*MEASURES, "partial_count")
_KINDS = len(ATTACKED)
_REQUESTS, _DOWNLOADS, _BYTES, _PARTIAL = range(_KINDS)
_DIMENSIONS = (DAY, FILE, REGION)
_SHOWN = ("number_of_requests", "number_of_downloads", "bytes_sent")
_TOTALS = ("total_number_of_requests", "total_number_of_downloads", "total_bytes_sent")
# More bytes than any single figure tells; sums of many such still fit.
_UNKNOWN = 2**48
_ANYBODY = 0, _UNKNOWN
# How wide an interval must be for a cell with few people, as a share of the true value.
NARROW = 0.1

Sizes = Mapping[str, Mapping[str, int]]  # of the files of each scope, in bytes


@dataclass(frozen=True)
class Table:
    """Figures by label: `low` and `high` are (labels, 4), in the order of ATTACKED."""

    labels: list[str]
    low: NDArray[np.int64]
    high: NDArray[np.int64]


@dataclass(frozen=True)
class Figures:
    """What is known of a scope, or of what came to it: its `total` (a single label) and its tables by dimension, how many
    people there are, and with how many bytes a request counts at the most."""

    total: Table
    tables: Mapping[str, Table]
    people: tuple[int, int]
    most_of_a_request: int = _UNKNOWN


@dataclass(frozen=True)
class Inference:
    """Between `low` and `high` of a measure came from the requests of a scope that `where` describes by sets of labels, `files`
    by the path of one file. `how` tells what it was worked out from."""

    scope: str
    where: Mapping[str, frozenset[str]]
    measure: str
    low: int
    high: int
    how: str
    files: frozenset[str] = frozenset()

    def is_narrow(self, people: int, value: int) -> bool:
        """Whether the interval tells the true value."""
        return self.high - self.low < max(people - 1, NARROW * value)


@dataclass(frozen=True)
class Release:
    """A release as it was published: the policy it states, and the raw figures of each scope, None where one is masked."""

    policy: Mapping[str, Any]
    tables: Mapping[str, Mapping[str, Mapping[str, tuple[int | None, ...]]]]
    totals: Mapping[str, tuple[int | None, ...]]
    people: Mapping[str, int | None]


def read_release(files: Mapping[str, bytes]) -> Release:
    """From the files of a release, by their paths in it; those that the attacker has no use for need not be there. Raises
    ValueError for what is no release."""
    policy = json.loads(files.get(POLICY_FILE, b'{"policy": "compatible", "threshold": 50, "rounding": 20}'))
    totals = {**json.loads(files["totals.json"]), ARCHIVE: json.loads(files["archive_totals.json"])}
    tables: dict[str, dict[str, dict[str, tuple[int | None, ...]]]] = {scope: {} for scope in totals}
    for scope, found in tables.items():
        for dimension in _DIMENSIONS:
            content = files.get(f"summaries/{scope}/by_{dimension}.tsv")
            if content is not None:
                found[dimension] = _read_tsv(content)
    return Release(
        policy,
        tables,
        {scope: tuple(_number(each[name]) for name in _TOTALS) for scope, each in totals.items()},
        {scope: _number(each["number_of_requesters"]) for scope, each in totals.items()},
    )


def attack(
    releases: Sequence[Release], sizes: Sizes, people: int, effort: int = 20_000
) -> Iterator[tuple[int, Inference]]:
    """All inferences from releases, the oldest first, each with the place of the release that completed it. `people`: the k that
    intervals are measured by; `effort`: how many steps a search through sizes may take."""
    known: dict[str, Figures] = {}
    for place, release in enumerate(releases):
        if not place or release.policy["policy"] == "compatible":
            known = figures_of(release)
        if place:
            came = came_between(releases[place - 1], release)
            for inference in infer(came, sizes, people, effort):
                yield place, replace(inference, how=f"two releases, {inference.how}")
            if release.policy["policy"] == "strict":
                people_now = figures_of(release)
                known = {
                    scope: replace(_added(known.get(scope), came.get(scope)), people=people_now[scope].people)
                    for scope in people_now
                }
        for inference in infer(known, sizes, people, effort):
            yield place, inference


def figures_of(release: Release) -> dict[str, Figures]:
    """The figures of each scope, as far as a release tells them."""
    return {
        scope: Figures(
            _table(release.policy, {"": release.totals[scope]}),
            {dimension: _table(release.policy, rows) for dimension, rows in tables.items()},
            _people(release.policy, release.people[scope], release.totals[scope][_REQUESTS]),
        )
        for scope, tables in release.tables.items()
    }


def _added(one: Figures | None, other: Figures | None) -> Figures:
    """What is known of two parts of a scope together: of a sum of figures in steps no more than that each is within its own."""
    if one is None or other is None:
        known = one or other
        assert known is not None, "what is in a release came once"
        return known
    names = {*one.tables, *other.tables}
    empty = Table([], *_nothing(0))
    tables = {name: _sum_of(one.tables.get(name, empty), other.tables.get(name, empty)) for name in names}
    return Figures(_sum_of(one.total, other.total), tables, _ANYBODY)


def _sum_of(one: Table, other: Table) -> Table:
    labels = list(dict.fromkeys([*one.labels, *other.labels]))
    place = {label: number for number, label in enumerate(labels)}
    low, high = _nothing(len(labels))
    for table in (one, other):
        rows = np.array([place[label] for label in table.labels], np.int64)
        low[rows] += table.low
        high[rows] += table.high
    return Table(labels, low, high)


def came_between(before: Release, after: Release) -> dict[str, Figures]:
    """What came to each scope from one release to the next; scopes to which nothing came are left out. Who came to a scope may have
    been in the archive before, so numbers of people say nothing of where they came from."""
    came = {}
    for scope, tables in after.tables.items():
        old = before.tables.get(scope, {})
        total = _difference(
            after.policy, {"": before.totals[scope]} if scope in before.totals else {}, {"": after.totals[scope]}
        )
        news = {name: _difference(after.policy, old.get(name, {}), rows) for name, rows in tables.items()}
        if total.labels or any(table.labels for table in news.values()):
            came[scope] = Figures(total, news, _ANYBODY)
    return came


def changed(before: Release, after: Release) -> list[str]:
    """The scopes of which a release tells less than the one before: what is closed was opened again."""

    def less(old: Mapping[str, tuple[int | None, ...]], new: Mapping[str, tuple[int | None, ...]]) -> bool:
        return any(
            (one or 0) > (other or 0)
            for label, row in old.items()
            for one, other in zip(row, new.get(label, (0, 0, 0)), strict=True)
        )

    return sorted(
        scope
        for scope, tables in before.tables.items()
        if any(less(rows, after.tables.get(scope, {}).get(name, {})) for name, rows in tables.items())
    )


def figures_of_cells(cells: pa.Table, people: int) -> dict[str, Figures]:
    """What the cells of a period (strict.CELLS) would tell if they were released alone, with all steps known: more
    than any release tells of it. Of the archive, all its cells added up."""
    found: dict[str, dict[str, dict[str, list[int]]]] = {}
    most: dict[str, int] = {}
    columns = ("dataset", "dimension", "label", "in_archive", *MEASURES, "byte_step", "partial_step")
    for dataset, dimension, label, in_archive, *row in zip(*(cells[name].to_pylist() for name in columns), strict=True):
        requests, downloads, size, step, partial_step = row
        least, greatest = _partial(requests, requests - downloads, partial_step)
        bounds = [
            *(requests, requests - greatest, max(0, size - step + 1), least),
            *(requests, requests - least, size + step - 1, greatest),
        ]
        scopes = [scope_of(dataset)] if dataset != POOL else []
        if dimension == TOTAL and scopes:
            most[scopes[0]] = int(most_of_a_request(np.array(step), people)) or _UNKNOWN
        if in_archive and dimension != FILE:
            scopes.append(ARCHIVE)
        for scope in scopes:
            rows = found.setdefault(scope, {}).setdefault(dimension, {})
            rows[label] = [one + other for one, other in zip(rows.get(label, [0] * 2 * _KINDS), bounds, strict=True)]

    def table(rows: Mapping[str, list[int]]) -> Table:
        values = np.array(list(rows.values()), np.int64).reshape(-1, 2 * _KINDS)
        return Table(list(rows), values[:, :_KINDS], values[:, _KINDS:])

    return {
        scope: Figures(
            table(tables[TOTAL]),
            {name: table(rows) for name, rows in tables.items() if name != TOTAL},
            _ANYBODY,
            most.get(scope, _UNKNOWN),
        )
        for scope, tables in found.items()
    }


def _partial(requests: int, shown: int, step: int) -> tuple[int, int]:
    """How many requests that are no downloads there can be where so many are told: none more than requests are."""
    if step == 1:
        return shown, shown
    return max(0, shown - step + 1), min(requests, shown + step - 1)


def _nothing(labels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.zeros((labels, _KINDS), np.int64), np.zeros((labels, _KINDS), np.int64)


def infer(figures: Mapping[str, Figures], sizes: Sizes, people: int, effort: int = 20_000) -> Iterator[Inference]:
    """What follows from figures that belong together."""
    whole = figures.get(ARCHIVE)
    for scope, own in figures.items():
        tight = _tightened(own)
        yield from _rows(scope, tight, people)
        yield from _masked_together(scope, tight, people)
        yield from _crossings(scope, tight, people)
        if scope in sizes:
            counted = {path: min(size, own.most_of_a_request) for path, size in sizes[scope].items()}
            yield from _by_sizes(scope, tight, counted, effort)
        if whole is not None and scope != ARCHIVE:
            yield from _people_elsewhere(scope, own, whole, people)
    if whole is not None:
        yield from _hidden_datasets(figures, whole, people)


def _tightened(figures: Figures) -> Figures:
    """Bounds after all sums were used: each table adds up to the total."""
    total, tables = figures.total, dict(figures.tables)
    if not total.labels:
        return figures
    low, high = total.low[0], total.high[0]
    for _ in range(3):
        for name, table in tables.items():
            if not table.labels:
                continue
            least, most = table.low.sum(axis=0), table.high.sum(axis=0)
            if (least > high).any() or (most < low).any():  # they do not add up: files and the archive, say
                continue
            low, high = np.maximum(low, least), np.minimum(high, most)
            tables[name] = Table(
                table.labels,
                np.maximum(table.low, low - (most - table.high)),
                np.minimum(table.high, high - (least - table.low)),
            )
    return replace(figures, total=Table(total.labels, low[None], high[None]), tables=tables)


def _narrow(low: NDArray[np.int64], high: NDArray[np.int64], people: int) -> NDArray[np.bool_]:
    """Where an interval might be narrow for some value in it."""
    return np.asarray((high > 0) & (high - low < np.maximum(people - 1, NARROW * high)))


def _rows(scope: str, figures: Figures, people: int) -> Iterator[Inference]:
    """Single figures."""
    for name, table in {TOTAL: figures.total, **figures.tables}.items():
        for row, measure in zip(*np.nonzero(_narrow(table.low, table.high, people)), strict=True):
            where = {} if name == TOTAL else {name: frozenset([table.labels[row]])}
            low, high = int(table.low[row, measure]), int(table.high[row, measure])
            yield Inference(scope, where, ATTACKED[measure], low, high, "a figure")


def _masked_together(scope: str, figures: Figures, people: int) -> Iterator[Inference]:
    """What the total leaves for the figures that are not exact."""
    if not figures.total.labels:
        return
    for name, table in figures.tables.items():
        for measure in range(_KINDS):
            hidden = table.low[:, measure] != table.high[:, measure]
            if not hidden.any() or hidden.all():
                continue
            shown = int(table.low[~hidden, measure].sum())
            low = int(figures.total.low[0, measure]) - shown
            high = int(figures.total.high[0, measure]) - shown
            if _narrow(np.array(low), np.array(high), people):
                labels = frozenset(np.array(table.labels, object)[hidden].tolist())
                yield Inference(scope, {name: labels}, ATTACKED[measure], max(0, low), high, "a total and the rest")


def _crossings(scope: str, figures: Figures, people: int) -> Iterator[Inference]:
    """Where two tables of the same requests meet."""
    if not figures.total.labels:
        return
    for (name, one), (other_name, other) in combinations(figures.tables.items(), 2):
        if not one.labels or not other.labels:
            continue
        for measure in range(_KINDS):
            most = int(figures.total.high[0, measure])
            a_low, b_low = one.low[:, None, measure], other.low[None, :, measure]
            a_high, b_high = one.high[:, None, measure], other.high[None, :, measure]
            low, high = np.maximum(0, a_low + b_low - most), np.minimum(a_high, b_high)
            # What is all of one table says nothing new of the other.
            parts = (a_high < most) & (b_high < most)
            for row, column in zip(*np.nonzero(parts & _narrow(low, high, people)), strict=True):
                where = {name: frozenset([one.labels[row]]), other_name: frozenset([other.labels[column]])}
                bounds = int(low[row, column]), int(high[row, column])
                yield Inference(scope, where, ATTACKED[measure], *bounds, "two tables")


def _hidden_datasets(figures: Mapping[str, Figures], whole: Figures, people: int) -> Iterator[Inference]:
    """What the archive has that no dataset tells."""
    shown = [figures[scope] for scope in figures if scope != ARCHIVE]
    for name in (TOTAL, DAY):
        table = whole.total if name == TOTAL else whole.tables.get(name)
        if table is None:
            continue
        sums: dict[str, NDArray[np.int64]] = {}
        for own in shown:
            part = own.total if name == TOTAL else own.tables.get(name)
            for label, low, high in zip(part.labels, part.low, part.high, strict=True) if part else ():
                sums[label] = sums.get(label, np.zeros(2 * _KINDS, np.int64)) + np.concatenate([low, high])
        for label, low, high in zip(table.labels, table.low, table.high, strict=True):
            known = sums.get(label, np.zeros(2 * _KINDS, np.int64))
            least, most = np.maximum(0, low - known[_KINDS:]), high - known[:_KINDS]
            for measure in np.flatnonzero(_narrow(least, most, people)).tolist():
                where = {} if name == TOTAL else {name: frozenset([label])}
                bounds = int(least[measure]), int(most[measure])
                yield Inference(POOL, where, ATTACKED[measure], *bounds, "the archive and its datasets")


def _people_elsewhere(scope: str, own: Figures, whole: Figures, people: int) -> Iterator[Inference]:
    """People who are in the archive, but not in a dataset."""
    low, high = max(0, whole.people[0] - own.people[1]), whole.people[1] - own.people[0]
    if high > 0 and high - low < people - 1:
        yield Inference(scope, {}, PEOPLE, low, high, "numbers of requesters")


def _by_sizes(scope: str, figures: Figures, sizes: Mapping[str, int], effort: int) -> Iterator[Inference]:
    """Which files a group's bytes came from."""
    total = {TOTAL: figures.total} if figures.total.labels else {}
    for name, table in {**total, **figures.tables}.items():
        for label, low, high in zip(table.labels, table.low.tolist(), table.high.tolist(), strict=True):
            if name == FILE and not label.endswith(OTHER_FILES):
                continue
            folder = label.removesuffix(OTHER_FILES).rstrip(" ") if name == FILE else ""
            files = {path: size for path, size in sizes.items() if path.startswith(folder) and size > 0}
            where = {} if name == TOTAL else {name: frozenset([label])}
            for path, (least, most, measure) in _whole_or_parts(files, low, high, effort).items():
                if least:
                    yield Inference(scope, where, ATTACKED[measure], least, most, "sizes", frozenset([path]))


def _whole_or_parts(
    sizes: Mapping[str, int], low: Sequence[int], high: Sequence[int], effort: int
) -> dict[str, tuple[int, int, int]]:
    """The least and the most that is certain of each file, and of what: downloads, if all requests can have been for whole files;
    else requests, by what the largest file alone can have brought."""
    if not sizes:
        return {}
    count = max(low[_REQUESTS], low[_DOWNLOADS]), min(high[_REQUESTS], high[_DOWNLOADS])
    if count[0] <= count[1]:
        found = compositions(sizes, count, (low[_BYTES], high[_BYTES]), effort)
        return {path: (*bounds, _DOWNLOADS) for path, bounds in (found or {}).items()}
    largest = max(sizes, key=lambda path: sizes[path])
    second = max((size for path, size in sizes.items() if path != largest), default=0)
    over = low[_BYTES] - high[_REQUESTS] * second
    if over <= 0 or sizes[largest] == second:
        return {}
    return {largest: (-(-over // (sizes[largest] - second)), high[_REQUESTS], _REQUESTS)}


def compositions(
    sizes: Mapping[str, int], count: tuple[int, int], size: tuple[int, int], effort: int
) -> dict[str, tuple[int, int]] | None:
    """How often each file can have been downloaded, at least and at most, so that between `count` whole downloads have between
    `size` bytes together; None where there is no way, or more than `effort` steps did not find them all."""
    names = sorted(sizes, key=lambda name: -sizes[name])
    found: dict[str, tuple[int, int]] = {}
    steps = 0
    taken: list[int] = []

    def note(last: range) -> None:
        for name, least, most in zip(names, [*taken, last[0]], [*taken, last[-1]], strict=True):
            old = found.get(name, (least, most))
            found[name] = min(old[0], least), max(old[1], most)

    def search(place: int, counts: tuple[int, int], bytes_left: tuple[int, int]) -> bool:
        nonlocal steps
        steps += 1
        if steps > effort:
            return False
        each = sizes[names[place]]
        if counts[1] * each < bytes_left[0]:
            return True  # this and all smaller ones are too few
        most = min(counts[1], bytes_left[1] // each)
        if place == len(names) - 1:
            least = max(0, counts[0], -(-bytes_left[0] // each))
            if least <= most:
                note(range(least, most + 1))
            return True
        for number in range(most, -1, -1):
            taken.append(number)
            rest = bytes_left[0] - number * each, bytes_left[1] - number * each
            done = search(place + 1, (counts[0] - number, counts[1] - number), rest)
            taken.pop()
            if not done:
                return False
        return True

    # With many more ways to choose than steps, and no bytes that forbid most of them, it is not worth beginning.
    if size[1] >= count[0] * sizes[names[0]] and comb(count[0] + len(names) - 1, count[0]) > effort:
        return None
    return found if search(0, count, size) and found else None


def _read_tsv(content: bytes) -> dict[str, tuple[int | None, ...]]:
    rows = csv.DictReader(StringIO(content.decode(), newline=""), delimiter="\t")
    first = (rows.fieldnames or [""])[0]
    found: dict[str, tuple[int | None, ...]] = {}
    for row in rows:
        label, figures = row[first], tuple(_number(row[name]) for name in _SHOWN)
        # The quote before a formula makes `-x` the same as `'-x`.
        found[label] = tuple(map(_together, found[label], figures)) if label in found else figures
    return found


def _together(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _number(shown: int | str) -> int | None:
    return None if isinstance(shown, str) and shown.startswith("<") else int(shown)


def _table(policy: Mapping[str, Any], rows: Mapping[str, tuple[int | None, ...]]) -> Table:
    low, high = _nothing(len(rows))
    for place, (requests, downloads, size) in enumerate(rows.values()):
        for measure, bounds in (
            (_REQUESTS, _count(policy, requests)),
            (_DOWNLOADS, _count(policy, downloads)),
            (_BYTES, (size or 0, size or 0)),
        ):
            low[place, measure], high[place, measure] = bounds
    if policy["policy"] == "compatible":
        low[:, _REQUESTS] = np.maximum(low[:, _REQUESTS], 1)  # else there would be no row
    else:  # both are told in steps of one period after the other, and which these were is not said
        low[:, [_DOWNLOADS, _BYTES]] = 0
        high[:, _DOWNLOADS], high[:, _BYTES] = high[:, _REQUESTS], _UNKNOWN
    low[:, _PARTIAL] = np.maximum(0, low[:, _REQUESTS] - high[:, _DOWNLOADS])
    high[:, _PARTIAL] = np.maximum(0, high[:, _REQUESTS] - low[:, _DOWNLOADS])
    return Table(list(rows), low, high)


def _difference(
    policy: Mapping[str, Any],
    before: Mapping[str, tuple[int | None, ...]],
    after: Mapping[str, tuple[int | None, ...]],
) -> Table:
    """What came to the rows that are not the same any more."""
    news = {label: row for label, row in after.items() if before.get(label) != row}
    if policy["policy"] == "strict":
        # Figures only ever grow by what one more period tells.
        came = {
            label: tuple(
                (one or 0) - (other or 0) for one, other in zip(row, before.get(label, (0, 0, 0)), strict=True)
            )
            for label, row in news.items()
        }
        return _table(policy, came)
    now = _table(policy, news)
    old = _table(policy, {label: before[label] for label in news if label in before})
    place = {label: number for number, label in enumerate(old.labels)}
    low, high = now.low.copy(), now.high.copy()
    for number, label in enumerate(now.labels):
        if label in place:
            low[number] -= old.high[place[label]]
            high[number] -= old.low[place[label]]
    return Table(now.labels, np.maximum(low, 0), np.maximum(high, 0))


def _count(policy: Mapping[str, Any], value: int | None) -> tuple[int, int]:
    """Between which a count is that is shown so."""
    if policy["policy"] == "strict":
        return value or 0, value or 0
    threshold, rounding = policy["threshold"], policy["rounding"]
    if value is None:
        return 0, threshold - 1
    return max(threshold, -(-(2 * value - rounding) // 2)), -(-(2 * value + rounding) // 2) - 1


def _people(policy: Mapping[str, Any], value: int | None, requests: int | None) -> tuple[int, int]:
    if policy["policy"] == "strict":
        # Where the requests allowed of no more to be told, there may be as many people as requests.
        allowed = people_told(_UNKNOWN, requests or 0, policy["people"])
        return value or 0, (value or 0) + policy["people"] - 1 if (value or 0) < allowed else requests or 0
    return _count(policy, value)
