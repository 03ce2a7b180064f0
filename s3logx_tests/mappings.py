"""Rules of mapping tables made from plain Python values for tests."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from s3logx_assets.core.datasets import MappingRule
from s3logx_assets.core.mapping_entries import HeldEntries, checked_entries, sorted_entries


def text_table(rows: Sequence[tuple[str | None, ...]], names: Sequence[str] = ("key", "dataset", "path")) -> pa.Table:
    """Rows of text as a table, which may have none."""
    return pa.table([pa.array([row[place] for row in rows], pa.string()) for place in range(len(names))], names)


def mapping_rule(
    table: pa.Table | Mapping[str, Sequence[str | None]], collapse_zarr: bool = True, each: bool = False
) -> MappingRule:
    """The rule of a mapping table that lies in memory."""
    rows = table if isinstance(table, pa.Table) else pa.table(dict(table))
    return MappingRule(HeldEntries(sorted_entries(checked_entries(rows), each)), collapse_zarr)
