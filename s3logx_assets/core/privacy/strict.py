"""Policy `strict`: what of a period may be told, and in which groups.

A period's requests are divided, dataset by dataset, three times: by day, by file and by region. Each division is a partition of
the same requests into groups that are safe to tell (`Rule`), and the sum of each group is told. Values that are no safe group of
their own are put together with their neighbours (trees.py), step by step; what is left in the end takes the smallest safe
groups with it. A dataset whose requests are not safe all together is not told in this period: they wait for the next. What
has waited too long, of all datasets together, counts in the archive alone.

Everything that is released is a sum of such groups, over periods and, for the archive, over datasets. So whatever is
added or subtracted, what comes out is a sum of safe groups, or two divisions of the same requests that say no more of
where they meet than their sums allow: at least one safe group lies between the least and the most. docs/privacy.md has
the argument, attack.py the attempt.

What a period is, what belongs to it, and where it is kept does not belong here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from s3logx_assets.core.grouping import Codes, Measure, coded, joint_key, run_starts, summed_runs
from s3logx_assets.core.privacy.byte_steps import most_of_a_request, reach, rounded, rounded_to, step_for
from s3logx_assets.core.privacy.trees import OTHER_REGIONS, ROOT, Tree, day_tree, file_tree, region_tree, week_label

MEASURES = ("request_count", "download_count", "bytes_sent")
# What may be told: each cell belongs to a dataset, and to one of its divisions or to its total. Those with `in_archive` are what
# the archive's are sums of. `byte_step` is how wide the step was that `bytes_sent` is a multiple of, `partial_step` that of the
# requests that were no downloads, 1 if they are told exactly.
CELLS = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("dimension", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("in_archive", pa.bool_(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in MEASURES),
        pa.field("byte_step", pa.int64(), nullable=False),
        pa.field("partial_step", pa.int64(), nullable=False),
    ]
)
TOTAL, DAY, FILE, REGION = "total", "day", "asset", "region"
DIVISIONS = {DAY: "event_date", FILE: "asset_path", REGION: "region"}
# The dataset of what has waited too long, and of regions that only datasets together can tell; no dataset has an empty name.
POOL = ""
# The share of its requests without a country beyond which a dataset leaves its regions to the archive.
_LOST = 0.6
RELEASED, WAITING, POOLED = "released", "waiting", "pooled"
NOBODY = -1
# So many requests stand behind every person of whom it is told that there is one.
REQUESTS_A_PERSON = 5

# A number from 0 to 1 for a name, the same for the same name, that nobody outside can know.
Coin = Callable[[str], float]
V = TypeVar("V")
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """When a group may be told. For each of requests, downloads and bytes: nobody adds to it, or at least `people` do, none of
    them more than `largest` of the sum, and the `people` - 1 largest of them together no more than `coalition`.

    Raises ValueError for fewer than two people, or shares that no group could keep to.
    """

    people: int = 10
    largest: float = 0.5
    coalition: float = 0.9

    def __post_init__(self) -> None:
        if self.people < 2:
            raise ValueError("one person is never a group")
        if not 1 / self.people <= self.largest <= 1 or not (self.people - 1) / self.people <= self.coalition <= 1:
            raise ValueError("no group could keep to these shares")


@dataclass(frozen=True)
class Told:
    """What may be told of a period, CELLS; what became of each row of the usage, `fate`; and `groups`, a row for each that is
    told: the labels of the groups it is in, by day, asset and region, and by region in the archive (null where it has none)."""

    cells: pa.Table
    fate: pa.Array
    groups: pa.Table


def tell(usage: pa.Table, rule: Rule, until: date, coin: Coin, pool_before: date) -> Told:
    """Divides the usage of a period that ends with the day `until`.

    `usage`: dataset, asset_path, event_date, region, network_index (int64, null for requests without a requester),
    MEASURES, and `since` (date32), the end of the period that a row has waited from. Rows from before `pool_before`
    need not wait for their dataset any longer.
    """
    dataset, names = coded(usage["dataset"])
    datasets = [*names.to_pylist(), POOL]
    person = people_codes(usage["network_index"])
    requests, downloads, size = (usage[name].to_numpy() for name in MEASURES)
    reached = reach(dataset, len(datasets), person, requests, size, rule.people)
    step = np.array([step_for(each, rule.people) for each in reached.tolist()], np.int64)
    peopled = np.bincount(dataset[person >= 0], minlength=len(datasets)) > 0
    size = np.where(peopled[dataset], np.minimum(size, most_of_a_request(step, rule.people)[dataset] * requests), size)
    measures = [requests, downloads, size]
    ready = _ready(dataset, person, measures, rule)
    pool = ~ready & pc.less(usage["since"], pa.scalar(pool_before, pa.date32())).to_numpy()
    pool &= _ready(np.zeros(pool.sum(), np.int64), person[pool], [each[pool] for each in measures], rule).all()
    step[-1] = step[dataset[pool]].max(initial=1)
    dataset = np.where(pool, len(datasets) - 1, dataset)
    fate = pa.array(np.select([pool, ready], [POOLED, RELEASED], WAITING), pa.string())

    told = np.flatnonzero(ready | pool)
    rows = usage.select(list(DIVISIONS.values())).take(pa.array(told))
    teller = _Teller(datasets, dataset[told], person[told], [each[told] for each in measures])
    terms = _Terms(rule, until, coin)
    divisions = _divisions(rows, teller, terms) if told.size else []
    cells = _cells([teller.counted(division, rule) for division in divisions], datasets, step, terms)
    groups = {name: _membership(told.size, of) for name, of in _by_member(divisions).items()}
    return Told(cells, fate, pa.table(groups))


def safe(group: Codes, groups: int, person: Codes, measures: Sequence[Measure], rule: Rule) -> Mask:
    """Which of (groups,) groups may be told. Per row (n,): the group's code, the person's code or NOBODY, the measures."""
    ok = np.ones(groups, bool)
    known = person >= 0
    group, person = group[known], person[known]
    order = np.lexsort((person, group))
    starts = run_starts(group[order], person[order])
    group = group[order][starts]
    for measure in measures:
        (sums,) = summed_runs([measure[known][order]], starts)
        ok &= _safe_in(group, groups, sums, rule)
    return ok


def _safe_in(group: Codes, groups: int, sums: Measure, rule: Rule) -> Mask:
    """Of one measure: `sums` of each person in each group (n,), `group` ascending."""
    adding = sums > 0
    group, sums = group[adding], sums[adding]
    sums = sums[np.lexsort((-sums, group))]
    people = np.bincount(group, minlength=groups)
    up_to = np.concatenate([[0], np.cumsum(sums)])
    first = np.cumsum(people) - people

    def of_the_first(count: Codes) -> Measure:
        return np.asarray(up_to[first + count] - up_to[first])

    total = of_the_first(people)
    return np.asarray(
        (people == 0)
        | (
            (people >= rule.people)
            & (of_the_first(np.minimum(people, 1)) <= rule.largest * total)
            & (of_the_first(np.minimum(people, rule.people - 1)) <= rule.coalition * total)
        )
    )


def people_told(people: int, requests: int, step: int) -> int:
    """A number of people as it may be told: at least so many. A multiple of `step`, and no more than a fifth of the requests, since
    the fewer requests a person has the more exactly their number tells that of the people."""
    return min(people, requests // REQUESTS_A_PERSON) // step * step


def divide(
    holder: Codes,
    value: Codes,
    tree_of: Callable[[Codes], Tree],
    person: Codes,
    measures: Sequence[Measure],
    rule: Rule,
) -> tuple[Codes, Tree | None]:
    """The group of each row (n,), and the tree of those that were put together: a code of `value` from 0 on where the value is a
    group of its own in its `holder`, else -1 - the node. `tree_of` makes the tree of some values, in their order.

    The rows of each holder must be safe all together.
    """
    values = int(value.max(initial=-1)) + 1
    key = joint_key([(holder, int(holder.max(initial=0)) + 1), (value, values)])
    _, first, cell = np.unique(key, return_index=True, return_inverse=True)
    alone = safe(cell, first.size, person, measures, rule)
    group = value[first].copy()
    if alone.all():
        return group[cell], None
    merged, place = np.unique(value[first][~alone], return_inverse=True)
    tree = tree_of(merged)
    group[~alone] = -1 - tree.above[place]
    rows = np.flatnonzero(~alone[cell])
    holder_of_cell = holder[first]
    for depth in range(int(tree.depth.max()), -1, -1):
        rows = _climb(rows, cell, group, holder_of_cell, tree, depth, person, measures, rule)
    for unsafe in np.unique(holder[rows]).tolist():
        _absorb(unsafe, cell, group, holder_of_cell, person, measures, rule)
    return group[cell], tree


def _climb(
    rows: Codes,
    cell: Codes,
    group: Codes,
    holder: Codes,
    tree: Tree,
    depth: int,
    person: Codes,
    measures: Sequence[Measure],
    rule: Rule,
) -> Codes:
    """Of the `rows` that have no group yet, those that are left after this depth; their cells have climbed one node."""
    node = -1 - group[cell[rows]]
    here = rows[tree.depth[node] == depth]
    if not here.size:
        return rows
    nodes = len(tree.labels)
    keys, key = np.unique(holder[cell[here]] * nodes + (-1 - group[cell[here]]), return_inverse=True)
    ok = safe(key, keys.size, person[here], [each[here] for each in measures], rule)
    if depth:
        climbing = np.unique(cell[here[~ok[key]]])
        group[climbing] = -1 - tree.parent[-1 - group[climbing]]
    return np.setdiff1d(rows, here[ok[key]], assume_unique=True)


def _absorb(
    holder: int,
    cell: Codes,
    group: Codes,
    holder_of_cell: Codes,
    person: Codes,
    measures: Sequence[Measure],
    rule: Rule,
) -> None:
    """What is left at the root of a holder takes the smallest other groups with it, until it is safe."""
    cells = np.flatnonzero(holder_of_cell == holder)
    rows = np.flatnonzero(holder_of_cell[cell] == holder)
    others, place = np.unique(group[cell[rows]], return_inverse=True)
    requests = np.bincount(place, measures[0][rows])
    requests[others == ROOT] = -1  # the root's own come first
    order = np.argsort(requests, kind="stable")
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    taken = 1
    while taken < order.size:
        inside = rows[rank[place] <= taken]
        if safe(np.zeros(inside.size, np.int64), 1, person[inside], [each[inside] for each in measures], rule)[0]:
            break
        taken += 1 + taken // 4
    group[cells[np.isin(group[cells], others[order[: taken + 1]])]] = ROOT


def _ready(dataset: Codes, person: Codes, measures: Sequence[Measure], rule: Rule) -> Mask:
    """For each row whether its dataset is safe all together."""
    return safe(dataset, int(dataset.max(initial=-1)) + 1, person, measures, rule)[dataset]


def people_codes(network: pa.ChunkedArray) -> Codes:
    """A code for each network, NOBODY for null."""
    codes = network.combine_chunks().dictionary_encode().indices
    return np.asarray(pc.fill_null(codes, NOBODY).to_numpy(zero_copy_only=False), np.int64)


@dataclass(frozen=True)
class _Terms:
    """What all cells of a period have in common."""

    rule: Rule
    until: date
    coin: Coin


@dataclass(frozen=True)
class _Division:
    """A partition of some `rows` (a mask) into labelled groups: `label`, a code per row, into `labels`. They are of their own
    datasets, or all of `dataset`."""

    dimension: str
    rows: Mask
    label: Codes
    labels: list[str]
    dataset: int | None = None
    in_archive: bool = True


class _Teller:
    """Rows that may be told: codes of their datasets and people, and their measures."""

    def __init__(self, datasets: list[str], dataset: Codes, person: Codes, measures: list[Measure]) -> None:
        self.datasets, self.dataset, self.person, self.measures = datasets, dataset, person, measures
        self.pool = datasets.index(POOL)

    def only(self, rows: Mask, dataset: int | None = None) -> "_Teller":
        """Some of the rows, as if they were all of one dataset where it is given."""
        own = self.dataset[rows]
        of = own if dataset is None else np.full_like(own, dataset)
        some = [measure[rows] for measure in self.measures]
        return _Teller(self.datasets, of, self.person[rows], some)

    def groups(self, value: Codes, tree_of: Callable[[Codes], Tree], rule: Rule) -> tuple[Codes, Tree | None]:
        """See `divide`."""
        return divide(self.dataset, value, tree_of, self.person, self.measures, rule)

    def counted(self, division: _Division, rule: Rule) -> "_Counted":
        """The figures of a division's groups."""
        some = self.only(division.rows, division.dataset)
        key = joint_key([(some.dataset, len(some.datasets)), (division.label, len(division.labels))])
        _, first, key = np.unique(key, return_index=True, return_inverse=True)
        requests, downloads, size = some.measures
        measures = [requests, downloads, size, requests - downloads]
        sums = [np.zeros(first.size, np.int64) for _ in measures]
        for total, measure in zip(sums, measures, strict=True):
            np.add.at(total, key, measure)
        labels = _chosen(division.labels, division.label[first])
        members = np.unique(self.dataset[division.rows])
        known = safe(key, first.size, some.person, measures[3:], rule)
        of_requests, of_downloads, of_bytes, of_partial = sums
        return _Counted(
            division, members, some.dataset[first], labels, of_requests, of_downloads, of_bytes, of_partial, known
        )


@dataclass(frozen=True)
class _Counted:
    """The exact figures of (groups,) groups: the dataset they are of, and whether the requests that are no downloads are safe to
    tell. `members`: the datasets whose requests they are."""

    division: _Division
    members: Codes
    dataset: Codes
    labels: list[str]
    requests: Measure
    downloads: Measure
    size: Measure
    partial: Measure
    partial_is_safe: Mask


def _cells(divisions: list[_Counted], datasets: list[str], byte_step: Measure, terms: _Terms) -> pa.Table:
    """CELLS of all divisions of the same requests, the totals first.

    Of a dataset of which somebody could be told by the difference of requests and downloads in a single group, that difference is told in
    steps everywhere: exact sums beside figures in steps would undo them. The same for all datasets whose regions are told together."""
    if not divisions:
        return CELLS.empty_table()
    partial_step = np.ones(len(datasets), np.int64)
    for each in divisions:
        partial_step[each.dataset[~each.partial_is_safe]] = 2 * terms.rule.people
    byte_step = byte_step.copy()
    for each in divisions:
        if each.division.dataset is not None:
            together = np.append(each.members, each.division.dataset)
            partial_step[together] = partial_step[together].max()
            byte_step[each.division.dataset] = byte_step[together].max()
    sizes = _in_steps(divisions, [each.size for each in divisions], byte_step, datasets, terms, "")
    partials = _in_steps(divisions, [each.partial for each in divisions], partial_step, datasets, terms, "\tpartial")
    tables = []
    for each, size, partial in zip(divisions, sizes, partials, strict=True):
        groups = len(each.labels)
        columns = [
            _chosen(datasets, each.dataset),
            [each.division.dimension] * groups,
            each.labels,
            [each.division.in_archive] * groups,
            each.requests,
            each.requests - np.minimum(partial, each.requests),
            size,
            byte_step[each.dataset],
            partial_step[each.dataset],
        ]
        tables.append(pa.table(columns, schema=CELLS))
    return pa.concat_tables(tables)


def _in_steps(
    divisions: list[_Counted], values: list[Measure], step: Measure, datasets: list[str], terms: _Terms, toss: str
) -> list[Measure]:
    """The (groups,) `values` of each division in the steps of their datasets (datasets,): the totals, which come first, and then the
    others so that they add up to them. `toss` tells one coin from another for the same group."""
    totals = np.zeros(len(datasets), np.int64)
    found = []
    for each, value in zip(divisions, values, strict=True):
        wide = step[each.dataset]
        coin = np.array(
            [
                terms.coin(f"{terms.until}\t{datasets[dataset]}\t{each.division.dimension}\t{label}{toss}")
                if of > 1
                else 0.0
                for dataset, label, of in zip(each.dataset.tolist(), each.labels, wide.tolist(), strict=True)
            ],
            np.float64,
        )
        if each.division.dimension == TOTAL:
            figures = rounded(value, wide, coin)
            totals[each.dataset] = figures
        else:
            total = totals
            if each.division.dataset is not None:
                total = np.zeros(len(datasets), np.int64)
                total[each.division.dataset] = totals[each.members].sum()
            figures = rounded_to(value, wide, each.dataset, total, coin)
        found.append(figures)
    return found


def _divisions(rows: pa.Table, teller: _Teller, terms: _Terms) -> list[_Division]:
    """The partitions that are told of some rows, their totals first."""
    everything = np.ones(rows.num_rows, bool)
    file, files = coded(rows[DIVISIONS[FILE]])
    paths = files.to_pylist()
    group, tree = teller.groups(file, lambda codes: file_tree(_chosen(paths, codes)), terms.rule)
    return [
        _Division(TOTAL, everything, np.zeros(rows.num_rows, np.int64), [""]),
        _by_day(rows, teller, terms),
        _Division(FILE, everything, *_labels(group, paths, tree)),
        *_by_region(rows, teller, terms),
    ]


def _by_day(rows: pa.Table, teller: _Teller, terms: _Terms) -> _Division:
    """What was put together in the end is told for its week where it is all of one, else for all time up to the period's end: a
    label between would tell when the first of its people came."""
    value, values = coded(rows[DIVISIONS[DAY]])
    days: list[date] = values.to_pylist()
    group, tree = teller.groups(value, lambda codes: day_tree(_chosen(days, codes), terms.until), terms.rule)
    label, labels = _labels(group, list(map(str, days)), tree)
    week = np.array([day.toordinal() - day.weekday() for day in days], np.int64)[value]
    for dataset in np.unique(teller.dataset[group == ROOT]).tolist():
        last = (teller.dataset == dataset) & (group == ROOT)
        if np.ptp(week[last]) == 0:
            label[last] = len(labels)
            labels.append(week_label(date.fromordinal(int(week[last][0]))))
    distinct, place = np.unique(np.array(labels, object), return_inverse=True)
    return _Division(DAY, np.ones(rows.num_rows, bool), place[label], distinct.tolist())


def _by_region(rows: pa.Table, teller: _Teller, terms: _Terms) -> list[_Division]:
    """Datasets of which nearly all requests would be told of no country are told without regions, and divided all together for the
    archive: alone they have too few people in each region, together they do not."""
    value, values = coded(rows[DIVISIONS[REGION]])
    texts = values.to_pylist()

    def tree_of(codes: Codes) -> Tree:
        return region_tree(_chosen(texts, codes))

    group, tree = teller.groups(value, tree_of, terms.rule)
    requests = teller.measures[0]
    nowhere = np.bincount(teller.dataset, np.where(group == ROOT, requests, 0), len(teller.datasets))
    together = nowhere > _LOST * np.bincount(teller.dataset, requests, len(teller.datasets))
    together[teller.pool] = True
    pooled = together[teller.dataset]
    alone, hidden = ~pooled, pooled & (teller.dataset != teller.pool)
    of_pool, tree_of_pool = teller.only(pooled, teller.pool).groups(value[pooled], tree_of, terms.rule)
    return [
        _Division(REGION, alone, *_labels(group[alone], texts, tree)),
        _Division(REGION, pooled, *_labels(of_pool, texts, tree_of_pool), dataset=teller.pool),
        _Division(REGION, hidden, np.zeros(hidden.sum(), np.int64), [OTHER_REGIONS], in_archive=False),
    ]


def _labels(group: Codes, texts: list[str], tree: Tree | None) -> tuple[Codes, list[str]]:
    """The label of each group as `divide` gives it: a code per row, and the labels, each once."""
    groups, place = np.unique(group, return_inverse=True)
    named = [texts[each] if each >= 0 else tree.labels[-1 - each] for each in groups.tolist()]  # type: ignore[union-attr]
    labels = sorted(set(named))
    number = {label: code for code, label in enumerate(labels)}
    return np.array([number[name] for name in named], np.int64)[place], labels


def _chosen(values: list[V], codes: Codes) -> list[V]:
    return [values[code] for code in codes.tolist()]


def _by_member(divisions: list[_Division]) -> dict[str, list[_Division]]:
    """The divisions that say in which group a row is, by day, asset and region, and by region in the archive."""
    regions = [division for division in divisions if division.dimension == REGION]
    return {
        DAY: [division for division in divisions if division.dimension == DAY],
        FILE: [division for division in divisions if division.dimension == FILE],
        REGION: [division for division in regions if division.dataset is None],
        f"archive_{REGION}": [division for division in regions if division.in_archive],
    }


def _membership(rows: int, divisions: list[_Division]) -> pa.Array:
    """The label of each row, null where it is in none of the divisions."""
    labels = sorted({label for division in divisions for label in division.labels})
    number = {label: code for code, label in enumerate(labels)}
    code = np.full(rows, -1, np.int64)
    for division in divisions:
        code[division.rows] = np.array([number[label] for label in division.labels], np.int64)[division.label]
    return pa.DictionaryArray.from_arrays(pa.array(code, mask=code < 0), pa.array(labels, pa.string()))
