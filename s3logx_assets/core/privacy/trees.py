"""How fine groups become coarser ones: days weeks, files folders, regions countries, and in the end everything.

A tree is made for the values that need it. Labels of merged groups cannot be taken for values: a merged period is an ISO 8601
interval `start/end`, open at its start (`../end`, ISO 8601-2) for everything up to a date; merged files have a blank in
their label, which no logged key has. Periods longer than a week are made of whole weeks (ISO 8601: a week belongs to the
month and the year of its Thursday), so that every group lies within one of the next level. Which groups are merged does
not belong here.
"""

from calendar import monthrange
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

# The group that is a tree's root, as `strict.divide` numbers groups.
ROOT = -1
OTHER_FILES = "(other files)"
OTHER_REGIONS = "other"
_THURSDAY = 3


@dataclass(frozen=True)
class Tree:
    """Nodes by number. `labels` (nodes,), `parent` (nodes,) with the root its own parent, `depth` (nodes,) with the root's
    0, `above` (values,): the first node above each value that the tree was made for. Values are not nodes."""

    labels: list[str]
    parent: NDArray[np.int64]
    depth: NDArray[np.int64]
    above: NDArray[np.int64]


def day_tree(days: Sequence[date], until: date) -> Tree:
    """Weeks, months and years of whole weeks, and all up to `until`."""
    return _tree(days, _periods_of, f"../{until}")


def week_label(monday: date) -> str:
    """The label of a week."""
    return f"{monday}/{monday + timedelta(6)}"


def _periods_of(day: date) -> list[tuple[Hashable, str]]:
    monday = day - timedelta(day.weekday())
    thursday = monday + timedelta(_THURSDAY)
    year, month = thursday.year, thursday.month
    last = date(year, month, monthrange(year, month)[1])
    return [
        (("year", year), _interval(_week_of(date(year, 1, 1)), _week_of(date(year, 12, 31)))),
        (("month", year, month), _interval(_week_of(date(year, month, 1)), _week_of(last))),
        (monday, week_label(monday)),
    ]


def file_tree(paths: Iterable[str]) -> Tree:
    """The folders that files lie in."""

    def path(name: str) -> list[tuple[Hashable, str]]:
        folders = name.split("/")[:-1]
        prefixes = ["/".join(folders[: depth + 1]) for depth in range(len(folders))]
        return [((depth, prefix), f"{prefix}/ {OTHER_FILES}") for depth, prefix in enumerate(prefixes)]

    return _tree(paths, path, OTHER_FILES)


def region_tree(regions: Iterable[str]) -> Tree:
    """The countries of regions, the clouds of cloud regions."""

    def path(region: str) -> list[tuple[Hashable, str]]:
        country = region.partition("/")[0]
        return [(country, country)]

    return _tree(regions, path, OTHER_REGIONS)


def _tree(values: Iterable[object], path: Callable[..., list[tuple[Hashable, str]]], root: str) -> Tree:
    """`path` gives the nodes above a value, each with what tells it from others and its label, the coarsest first."""
    labels, parent, depth, above = [root], [0], [0], []
    known: dict[Hashable, int] = {}
    for value in values:
        node = 0
        for level, (key, label) in enumerate(path(value), start=1):
            found = known.get(key)
            if found is None:
                found = known[key] = len(labels)
                labels.append(label)
                parent.append(node)
                depth.append(level)
            node = found
        above.append(node)
    return Tree(labels, *(np.array(each, np.int64) for each in (parent, depth, above)))


def _week_of(day: date) -> tuple[date, date]:
    """Of the days of a month or a year, the first or the last week whose Thursday lies in it: day is its first or last."""
    thursday = day - timedelta(day.weekday()) + timedelta(_THURSDAY)
    if day.day == 1 and thursday < day:
        thursday += timedelta(7)
    elif day.day != 1 and thursday > day:
        thursday -= timedelta(7)
    return thursday - timedelta(_THURSDAY), thursday + timedelta(3)


def _interval(first: tuple[date, date], last: tuple[date, date]) -> str:
    return f"{first[0]}/{last[1]}"
