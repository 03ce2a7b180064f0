"""What the attacker does not have: the truth, by which what was worked out is judged.

An inference is a finding where fewer than k people were behind it and its interval is narrow: narrower than k - 1, or than a tenth of
the true value. That no more than k - 1 requests of few people are hidden is what every suppression tells.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from s3logx_assets.core.grouping import coded
from s3logx_assets.core.privacy.attack import ATTACKED, PEOPLE, Inference, figures_of_cells, infer
from s3logx_assets.core.privacy.strict import MEASURES, POOL, POOLED, REGION, WAITING, Told, people_codes
from s3logx_assets.core.scopes import ARCHIVE, scope_of


@dataclass(frozen=True)
class Finding:
    """An inference about fewer than k people: how many there are, and the true value."""

    inference: Inference
    people: int
    value: int

    def __str__(self) -> str:
        """Without the labels of groups: it goes to logs."""
        cell = " and ".join(sorted(self.inference.where) + (["file"] if self.inference.files else []))
        return f"{self.inference.measure} of {self.inference.scope} by {cell or 'total'}, from {self.inference.how}"


@dataclass
class Truth:
    """What the attacker does not have: per row (n,) of what was told, `scope` and `file` (strings), `groups` by dimension
    (strings, as strict.Told has them), `person` (codes, below zero for nobody) and `measures` (4, n), in the order of ATTACKED."""

    scope: NDArray[np.object_]
    file: NDArray[np.object_]
    groups: Mapping[str, NDArray[np.object_]]
    person: NDArray[np.int64]
    measures: NDArray[np.int64]
    _rows: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    _cells: dict[tuple[str, str], dict[str, tuple[list[int], list[int]]]] = field(default_factory=dict)

    def of(self, inference: Inference) -> tuple[int, int]:
        """How many people are behind a cell, and the value of the inference's measure."""
        if inference.measure == PEOPLE:
            inside = set(self.person[self._rows_of(inference.scope)].tolist())
            elsewhere = {*self.person.tolist()} - inside - {-1}
            return len(elsewhere), len(elsewhere)
        measure = ATTACKED.index(inference.measure)
        if len(inference.where) == 1 and not inference.files:
            ((name, labels),) = inference.where.items()
            if len(labels) == 1:
                people, values = self._of_table(inference.scope, name).get(
                    next(iter(labels)), ([0] * len(ATTACKED),) * 2
                )
                return people[measure], values[measure]
        rows = self._rows_of(inference.scope)
        for name, labels in inference.where.items():
            column = self.groups[self._column(inference.scope, name)][rows]
            rows = rows[[label in labels for label in column]]
        if inference.files:
            rows = rows[[path in inference.files for path in self.file[rows]]]
        return self._people(rows, measure), int(self.measures[measure, rows].sum())

    def _rows_of(self, scope: str) -> NDArray[np.int64]:
        if not self._rows:
            order = np.argsort(self.scope, kind="stable")
            names, starts = np.unique(self.scope[order], return_index=True)
            self._rows = dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))
            self._rows[ARCHIVE] = np.arange(self.scope.size)
        return self._rows.get(scope, np.zeros(0, np.int64))

    @staticmethod
    def _column(scope: str, dimension: str) -> str:
        return f"archive_{REGION}" if dimension == REGION and scope == ARCHIVE else dimension

    def _people(self, rows: NDArray[np.int64], measure: int) -> int:
        counted = rows[(self.person[rows] >= 0) & (self.measures[measure, rows] > 0)]
        return np.unique(self.person[counted]).size

    def _of_table(self, scope: str, dimension: str) -> dict[str, tuple[list[int], list[int]]]:
        """By label the people and the value of each measure."""
        found = self._cells.get((scope, dimension))
        if found is None:
            rows = self._rows_of(scope)
            table = pa.table(
                {
                    "label": pa.array(self.groups[self._column(scope, dimension)][rows], pa.string()),
                    "person": self.person[rows],
                    **{name: self.measures[at, rows] for at, name in enumerate(ATTACKED)},
                }
            )
            each = table.group_by(["label", "person"]).aggregate([(name, "sum") for name in ATTACKED])
            for name in ATTACKED:
                somebody = pc.and_(pc.greater_equal(each["person"], 0), pc.greater(each[f"{name}_sum"], 0))
                each = each.append_column(f"{name}_people", somebody.cast(pa.int64()))
            kinds = ("people", "sum")
            sums = each.group_by("label").aggregate([(f"{name}_{kind}", "sum") for kind in kinds for name in ATTACKED])
            columns = [sums[f"{name}_{kind}_sum"].to_pylist() for kind in kinds for name in ATTACKED]
            found = {
                label: (list(row[: len(ATTACKED)]), list(row[len(ATTACKED) :]))
                for label, row in zip(sums["label"].to_pylist(), zip(*columns, strict=True), strict=True)
            }
            self._cells[scope, dimension] = found
        return found


def judge(
    inferences: Iterator[Inference], truth: Callable[[Inference], tuple[int, int]], people: int
) -> Iterator[Finding]:
    """The inferences that tell of fewer than `people` people."""
    for inference in inferences:
        behind, value = truth(inference)
        if 0 < behind < people and inference.is_narrow(people, value):
            yield Finding(inference, behind, value)


def findings_in(usage: pa.Table, told: Told, people: int, effort: int) -> Iterator[Finding]:
    """What an attacker works out who is given every figure of a period alone and the sizes of all files. `usage` and `told` as
    `strict.tell` takes and gives them; `effort` as for `attack.infer`."""
    inferences = infer(figures_of_cells(told.cells, people), _sizes(usage, told), people, effort)
    return judge(inferences, truth_of([(usage, told)]).of, people)


def truth_of(periods: Iterable[tuple[pa.Table, Told]]) -> Truth:
    """What is behind the figures that some periods told, of at least one."""
    columns = ("asset_path", "network_index", *MEASURES)
    parts = []
    for usage, told in periods:
        shown = usage.filter(pc.not_equal(told.fate, WAITING))
        groups = {f"of {name}": told.groups[name].cast(pa.string()) for name in told.groups.column_names}
        parts.append(pa.table({"scope": _scopes(usage, told), **groups, **{name: shown[name] for name in columns}}))
    rows = pa.concat_tables(parts)
    return Truth(
        _objects(rows["scope"]),
        _objects(rows["asset_path"]),
        {name.removeprefix("of "): _objects(rows[name]) for name in rows.column_names if name.startswith("of ")},
        people_codes(rows["network_index"]),
        _attacked(*(rows[name].to_numpy() for name in MEASURES)),
    )


def _attacked(requests: NDArray[np.int64], downloads: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack([requests, downloads, size, requests - downloads])


def _scopes(usage: pa.Table, told: Told) -> pa.Array:
    """The scope of each row that was told."""
    shown = pc.not_equal(told.fate, WAITING)
    dataset = usage["dataset"].filter(shown)
    if pa.types.is_dictionary(dataset.type):
        dataset = dataset.cast(pa.string())
    code, names = coded(pc.if_else(pc.equal(told.fate.filter(shown), POOLED), POOL, dataset))
    scopes = [scope_of(name) if name != POOL else POOL for name in names.to_pylist()]
    return pa.array(scopes, pa.string()).take(pa.array(code))


def _objects(column: pa.ChunkedArray) -> NDArray[np.object_]:
    return np.asarray(column.cast(pa.string()).to_numpy(zero_copy_only=False), object)


def _sizes(usage: pa.Table, told: Told) -> dict[str, dict[str, int]]:
    """The sizes of files by scope, as far as the requests tell them."""
    rows = usage.filter(pc.not_equal(told.fate, WAITING))
    each = pc.divide(pc.add(rows["bytes_sent"], pc.subtract(rows["request_count"], 1)), rows["request_count"])
    table = pa.table({"scope": _scopes(usage, told), "path": rows["asset_path"], "size": each})
    found: dict[str, dict[str, int]] = {}
    largest = table.group_by(["scope", "path"], use_threads=False).aggregate([("size", "max")])
    for name, path, size in zip(
        *(largest[column].to_pylist() for column in ("scope", "path", "size_max")), strict=True
    ):
        found.setdefault(name, {})[path] = size
    return found
