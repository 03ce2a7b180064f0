"""`daily_usage`: the exact private counts of a date per dataset, asset, event date, region and requester."""

from datetime import date

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.adapters.scope_state import DAILY_USAGE, DIGESTS, serialized_groups
from s3logx_assets.adapters.table_store import partition
from s3logx_assets.assets.daily import DailyAsset, Made, Tools, inputs_of, store_table
from s3logx_assets.core import usage
from s3logx_assets.core.charts import bytes_text
from s3logx_assets.core.schemas import DAILY_USAGE as SCHEMA
from s3logx_assets.metadata import column_schema, markdown_table
from s3logx_assets.pictures import meter

KEY = DAILY_USAGE
_SUMS = {"requests": "request_count", "downloads": "download_count", "bytes_sent": "bytes_sent"}
_SHOWN = 10


def _daily_usage(tools: Tools, day: date) -> Made:
    store = tools.private_store
    inputs = inputs_of(store, day, "extracted_logs", "ip_indexes", "ip_regions")
    rows = store.groups("extracted_logs", partition(day), encoded=["object_key"])
    indexes, regions = (store.read(asset, partition(day)) for asset in ("ip_indexes", "ip_regions"))
    table = usage.daily_usage(rows, indexes, regions, tools.rules.dataset_rule)
    archive = table["in_archive"].to_numpy()  # the rows that count what was extracted, once
    sums = {name: int(table[column].to_numpy()[archive].sum()) for name, column in _SUMS.items()}
    datasets = _by_dataset(table)
    short = (
        f"{sums['requests']:,} requests, {sums['downloads']:,} downloads and {bytes_text(sums['bytes_sent'])} of "
        f"{datasets.num_rows:,} datasets"
    )
    most = datasets["request_count"][0].as_py() if datasets.num_rows else 0
    shown = [[*row.values(), meter(row["request_count"], most)] for row in datasets.slice(0, _SHOWN).to_pylist()]
    top = markdown_table(("dataset", "requests", ""), shown)
    return store_table(
        tools,
        KEY,
        day,
        table,
        {**inputs, "dataset_rule": tools.rules.dataset_rule.digest},
        {"in_short": short, **sums, "datasets": datasets.num_rows, "top_datasets": dg.MetadataValue.md(top)},
        {DIGESTS: serialized_groups(table)},
    )


def _by_dataset(table: pa.Table) -> pa.Table:
    """Requests of each dataset, most first."""
    sums = (
        table.select(["dataset", "request_count"])
        .group_by("dataset", use_threads=False)
        .aggregate([("request_count", "sum")])
    )
    sums = pa.table({"dataset": sums["dataset"].cast(pa.string()), "request_count": sums["request_count_sum"]})
    return sums.take(pc.sort_indices(sums, [("request_count", "descending"), ("dataset", "ascending")]))


DAILY_USAGE_ASSET = DailyAsset(
    spec=dg.AssetSpec(
        KEY,
        deps=["extracted_logs", "ip_indexes", "ip_regions"],
        group_name="usage",
        kinds={"python", "parquet"},
        metadata=column_schema(SCHEMA),
        description="Exact private counts of a log date per dataset, asset, event date, region and requester.",
    ),
    make=_daily_usage,
)
