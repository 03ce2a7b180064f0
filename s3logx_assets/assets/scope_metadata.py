"""What the Dagster UI shows of a scope: its days as a plot, its regions on a map, its top regions and assets, its totals.
Exact figures, for operators. What is stored, and how it is made, does not belong here."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.core.charts import bytes_text
from s3logx_assets.core.summaries import ScopeTables
from s3logx_assets.metadata import markdown_table, table_metadata
from s3logx_assets.pictures import chart, region_map, text_plot

_SHOWN = 5


def summary_metadata(parts: Sequence[ScopeTables], folder: str) -> dict[str, Any]:
    """Of a scope's summary, which is the sum of `parts` and lies in `folder`."""
    metadata: dict[str, Any] = {"dagster/uri": folder, "files": len([part for part in parts if part.by_day.num_rows])}
    days = _added([part.by_day for part in parts])
    if days.num_rows:
        first, last = days["event_date"][0].as_py(), days["event_date"][-1].as_py()
        requests, sent = (days[name].to_numpy() for name in ("request_count", "bytes_sent"))
        short = f"{requests.sum():,} requests and {bytes_text(int(sent.sum()))} on {days.num_rows:,} days, {first} to {last}"
        metadata = {"in_short": short, **metadata, "days": days.num_rows}
        metadata |= {"first_event_date": str(first), "last_event_date": str(last)}
        metadata["requests_by_day"] = text_plot(days["event_date"], requests)
        metadata |= chart("requests_chart", days["event_date"], requests, "Requests")
        metadata |= chart("bytes_chart", days["event_date"], sent, "Bytes sent", size=True)
    for name, key in (("by_region", "region"), ("by_asset", "asset_path")):
        table = _added([getattr(part, name) for part in parts])
        metadata[f"distinct_{key}s"] = table.num_rows
        if table.num_rows:
            metadata[f"top_{key}s"] = dg.MetadataValue.md(markdown_table((key, "requests", "bytes"), _top(table, key)))
    return metadata


def totals_metadata(table: pa.Table, parts: Sequence[ScopeTables], uri: str) -> dict[str, Any]:
    """Of a scope's totals: every figure by its name, and on a map where the requests came from, if the `parts` of its summary
    are at hand."""
    (row,) = table.to_pylist()
    short = (
        f"{row['total_request_count']:,} requests and {bytes_text(row['total_bytes_sent'])} by {row['requester_count']:,} "
        f"requesters in {row['country_count']:,} countries"
    )
    figures = {name: str(value) if isinstance(value, date) else value for name, value in row.items()}
    known = {name: value for name, value in figures.items() if value is not None}
    metadata = {"in_short": short, **table_metadata(table.num_rows, uri), **known}
    regions = _added([part.by_region for part in parts]) if parts else None
    if regions is None:
        return metadata
    labels, requests = (regions[name].to_pylist() for name in ("region", "request_count"))
    return {**metadata, **region_map("requests_map", labels, requests, "Requests")}


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
