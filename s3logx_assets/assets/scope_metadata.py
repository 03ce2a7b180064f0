"""What the Dagster UI shows of a scope: its days as a small plot, its top regions and assets, its totals. Kept small;
what is stored, and how it is made, does not belong here."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from s3logx_assets.core.schemas import SUMMARIES
from s3logx_assets.core.summaries import ScopeTables
from s3logx_assets.metadata import column_schema, markdown_table, table_metadata

_SHOWN = 5
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60


def summary_metadata(parts: Sequence[ScopeTables], folder: str) -> dict[str, Any]:
    """Of a scope's summary, which is the sum of `parts` and lies in `folder`."""
    metadata: dict[str, Any] = {
        "dagster/column_schema": column_schema(SUMMARIES),
        "dagster/uri": folder,
        "files": len([part for part in parts if part.by_day.num_rows]),
    }
    days = _added([part.by_day for part in parts])
    if days.num_rows:
        first, last = days["event_date"][0].as_py(), days["event_date"][-1].as_py()
        metadata |= {"days": days.num_rows, "first_event_date": str(first), "last_event_date": str(last)}
        metadata["requests_by_day"] = dg.MetadataValue.md(plot(days, "request_count"))
    for name, key in (("by_region", "region"), ("by_asset", "asset_path")):
        table = _added([getattr(part, name) for part in parts])
        metadata[f"distinct_{key}s"] = table.num_rows
        if table.num_rows:
            metadata[f"top_{key}s"] = dg.MetadataValue.md(markdown_table((key, "requests", "bytes"), _top(table, key)))
    return metadata


def totals_metadata(table: pa.Table, uri: str) -> dict[str, Any]:
    """Of a scope's totals: every figure by its name."""
    (row,) = table.to_pylist()
    figures = {name: str(value) if isinstance(value, date) else value for name, value in row.items()}
    return {**table_metadata(table, uri), **{name: value for name, value in figures.items() if value is not None}}


def plot(by_day: pa.Table, column: str) -> str:
    """Markdown: a bar for each day from the first to the last, or for as many days together as keep it narrow.
    `by_day`: schema BY_DAY, not empty."""
    day = by_day["event_date"].cast(pa.int32()).to_numpy().astype(np.int64)
    days_per_bar = -(-int(day[-1] - day[0] + 1) // _WIDTH)
    sums = np.zeros((day[-1] - day[0]) // days_per_bar + 1, np.int64)
    np.add.at(sums, (day - day[0]) // days_per_bar, by_day[column].to_numpy())
    first, last = by_day["event_date"][0].as_py(), by_day["event_date"][-1].as_py()
    unit = "day" if days_per_bar == 1 else f"{days_per_bar} days"
    return f"`{_bars(sums)}`\n\n{first} to {last}, one bar per {unit}, the highest {sums.max()}"


def _bars(sums: NDArray[np.int64]) -> str:
    highest = max(int(sums.max()), 1)
    heights: list[int] = (-(-sums * (len(_BARS) - 1) // highest)).tolist()
    return "".join(_BARS[height] for height in heights)


def _added(tables: Sequence[pa.Table]) -> pa.Table:
    """The sum of tables of a key and counts, ascending by the key."""
    filled = [table for table in tables if table.num_rows]
    if len(filled) < 2:
        return (filled or list(tables))[0]
    key, *counts = filled[0].column_names
    sums = pa.concat_tables(filled).group_by(key, use_threads=False).aggregate([(name, "sum") for name in counts])
    return sums.rename_columns({f"{name}_sum": name for name in counts}).sort_by(key)


def _top(table: pa.Table, key: str) -> list[tuple[str, int, int]]:
    best = pc.select_k_unstable(table, _SHOWN, [("request_count", "descending"), (key, "ascending")])
    rows = table.take(best)
    return list(zip(*(rows[name].to_pylist() for name in (key, "request_count", "bytes_sent")), strict=True))
