"""What is released under policy `strict`: the sums of the cells of all closed periods, scope by scope.

Nothing but told figures is added up here, so nothing can come of it that was not told. How it looks does not belong here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.core.privacy.strict import CELLS, DAY, FILE, MEASURES, POOL, REGION, TOTAL
from s3logx_assets.core.privacy.trees import OTHER_FILES, OTHER_REGIONS
from s3logx_assets.core.regions import country_of
from s3logx_assets.core.scopes import ARCHIVE, scope_of

# A table of told figures: the label of a group, and its counts.
COUNTS = ("bytes_sent", "request_count", "download_count")
_SCHEMA = pa.schema([("label", pa.string()), *((name, pa.int64()) for name in COUNTS)])


@dataclass(frozen=True)
class ReleasedScope:
    """What is told of a scope: `label` and COUNTS of each group by day, asset and region (none by asset for the archive), sorted
    by label; the totals in the order of COUNTS; and how many people, in steps of the rule's."""

    by_day: pa.Table
    by_asset: pa.Table
    by_region: pa.Table
    total: tuple[int, int, int]
    people: int


def released_scopes(cells: Iterable[pa.Table], people: Mapping[str, int]) -> dict[str, ReleasedScope]:
    """The scopes by name. `cells`: strict.CELLS of each closed period; `people`: of each scope."""
    rows = pa.concat_tables([CELLS.empty_table(), *cells])
    of_datasets = rows.filter(pc.not_equal(rows["dataset"], POOL))
    of_archive = rows.filter(pc.and_(rows["in_archive"], pc.not_equal(rows["dimension"], FILE)))
    found = _tables(_summed(of_datasets, ["dataset", "dimension", "label"]))
    whole = _summed(of_archive, ["dimension", "label"])
    found |= _tables(whole.append_column("dataset", pa.repeat("", whole.num_rows)))
    scopes = {}
    for dataset, tables in sorted(found.items()):
        scope = scope_of(dataset) if dataset else ARCHIVE
        [row] = tables[TOTAL].select(list(COUNTS)).to_pylist()
        by_day, by_asset, by_region = (tables.get(name, _SCHEMA.empty_table()) for name in (DAY, FILE, REGION))
        total = row["bytes_sent"], row["request_count"], row["download_count"]
        scopes[scope] = ReleasedScope(by_day, by_asset, by_region, total, people[scope])
    return scopes


def requests_told(cells: pa.Table) -> dict[str, int]:
    """How many requests the strict.CELLS of a period tell of each dataset."""
    totals = cells.filter(pc.equal(cells["dimension"], TOTAL))
    return dict(zip(*(totals[name].to_pylist() for name in ("dataset", "request_count")), strict=True))


class Visible(NamedTuple):
    """What share of all that is told, of the requests and of the bytes, is told in full detail."""

    detail: str
    requests: float
    bytes_sent: float


def visible(scopes: Mapping[str, ReleasedScope]) -> list[Visible]:
    """How much is lost to coarser groups: by day, by file, by country, by region."""
    archive = scopes[ARCHIVE]
    files = pa.concat_tables([_SCHEMA.empty_table(), *(each.by_asset for each in scopes.values())])

    def share(detail: str, table: pa.Table, told: Callable[[str], bool]) -> Visible:
        rows = table.filter(pa.array(list(map(told, table["label"].to_pylist())), pa.bool_()))
        sums = [pc.sum(rows[name], min_count=0).as_py() for name in ("request_count", "bytes_sent")]
        return Visible(
            detail,
            *(part / max(1, whole) for part, whole in zip(sums, (archive.total[1], archive.total[0]), strict=True)),
        )

    return [
        share("day", archive.by_day, lambda label: "/" not in label),
        share("file", files, lambda label: not label.endswith(OTHER_FILES)),
        share("country", archive.by_region, lambda label: label != OTHER_REGIONS),
        share("region", archive.by_region, lambda label: label != OTHER_REGIONS and country_of(label) != label),
    ]


def ends(label: str) -> tuple[date | None, date]:
    """The first and the last day of a label by day; the first is None where it is open."""
    first, _, last = label.partition("/")
    return (None if first == ".." else date.fromisoformat(first)), date.fromisoformat(last or first)


def _summed(rows: pa.Table, keys: list[str]) -> pa.Table:
    sums = rows.group_by(keys, use_threads=False).aggregate([(name, "sum") for name in MEASURES])
    return sums.rename_columns([*keys, *MEASURES])


def _tables(sums: pa.Table) -> dict[str, dict[str, pa.Table]]:
    """By dataset and dimension, sorted by label."""
    ordered = sums.sort_by([("dataset", "ascending"), ("dimension", "ascending"), ("label", "ascending")])
    found: dict[str, dict[str, pa.Table]] = {}
    datasets, dimensions = (ordered[name].to_pylist() for name in ("dataset", "dimension"))
    start = 0
    for end in range(1, ordered.num_rows + 1):
        if end == ordered.num_rows or (datasets[end], dimensions[end]) != (datasets[start], dimensions[start]):
            rows = ordered.slice(start, end - start)
            found.setdefault(datasets[start], {})[dimensions[start]] = (
                rows.select(_SCHEMA.names).cast(_SCHEMA).combine_chunks()
            )
            start = end
    return found
