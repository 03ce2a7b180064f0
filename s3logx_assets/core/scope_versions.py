"""Versions of scopes: what a scope is made from, as numbers that news can be added to.

Each log date's daily usage falls into groups by dataset and event date, and each group has a digest of its rows. The
version of a set of groups is the sum of their hashes modulo 2^256 (an additive multiset hash: Bellare and Micciancio,
"A New Paradigm for Collision-Free Hashing: Incrementality at Reduced Cost", 1997). Groups hold indexes made under the
master key, so nobody outside can look for groups whose hashes add up. Equal versions mean equal rows; a group is added
or taken off without knowing the others.

A scope has two such versions, as its tables have two parts: the newest log month in which it has rows, and all earlier
months together. Where groups and versions are kept does not belong here.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from s3logx_assets.core.scopes import ARCHIVE, scope_of

# Dataset, event date (YYYY-MM-DD) and digest of the rows.
Group = tuple[str, str, str]

NOTHING = "0" * 64
_MODULUS = 1 << 256


class Version(NamedTuple):
    """What a scope is made from: its newest log month (YYYY-MM), the version of that month and that of the months
    before, each of 64 hexadecimal digits."""

    month: str
    newest: str
    earlier: str


def month_of(log_date: str) -> str:
    """YYYY-MM of YYYY-MM-DD."""
    return log_date[:7]


def exchanged(
    versions: Mapping[str, Version], gone: Iterable[tuple[str, Group]], new: Iterable[tuple[str, Group]]
) -> dict[str, Version] | None:
    """Versions by scope after groups went and others came, each with its log date, in the order of the names. A scope
    without groups is absent. None where that takes knowledge of all groups: a scope lost all of its newest month."""
    changes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for sign, groups in ((-1, gone), (1, new)):
        for scope, month, number in _numbers(groups):
            changes[scope][month] += sign * number
    result = dict(versions)
    for scope, by_month in changes.items():
        month, newest, earlier = result.pop(scope, Version("", NOTHING, NOTHING))
        last = max([month, *(changed for changed, number in by_month.items() if number)])
        numbers = {changed: number for changed, number in by_month.items() if changed < last}
        before = int(earlier, 16) + sum(numbers.values())
        there = int(newest, 16)
        if last > month:
            before, there = before + there, 0
        there = (there + by_month.get(last, 0)) % _MODULUS
        before %= _MODULUS
        if there:
            result[scope] = Version(last, f"{there:064x}", f"{before:064x}")
        elif before:
            return None
    return {scope: result[scope] for scope in sorted(result)}


def _numbers(groups: Iterable[tuple[str, Group]]) -> Iterator[tuple[str, str, int]]:
    scope_of_dataset: dict[str, str] = {}
    for day, (dataset, event_date, digest) in groups:
        scope = scope_of_dataset.get(dataset)
        if scope is None:
            scope = scope_of_dataset[dataset] = scope_of(dataset)
        text = f"{day} {len(dataset)} {dataset} {event_date} {digest}"
        number = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
        yield scope, month_of(day), number
        yield ARCHIVE, month_of(day), number
