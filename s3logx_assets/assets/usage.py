"""`daily_usage`: the exact private counts of a date per dataset, asset, event date, region and requester."""

from datetime import date

import dagster as dg

from s3logx_assets.adapters.scope_state import DAILY_USAGE, DIGESTS, serialized_groups
from s3logx_assets.adapters.table_store import partition
from s3logx_assets.assets.daily import DailyAsset, Made, Tools, inputs_of, store_table
from s3logx_assets.core import usage

KEY = DAILY_USAGE
_SUMS = {"requests": "request_count", "downloads": "download_count", "bytes_sent": "bytes_sent"}


def _daily_usage(tools: Tools, day: date) -> Made:
    store = tools.private_store
    inputs = inputs_of(store, day, "extracted_logs", "ip_indexes", "ip_regions")
    rows, indexes, regions = (store.read(asset, partition(day)) for asset in inputs)
    table = usage.daily_usage(rows, indexes, regions, tools.rules.dataset_rule)
    archive = table["in_archive"].to_numpy()  # the rows that count what was extracted, once
    sums = {name: int(table[column].to_numpy()[archive].sum()) for name, column in _SUMS.items()}
    return store_table(
        tools,
        KEY,
        day,
        table,
        {**inputs, "dataset_rule": tools.rules.dataset_rule.digest},
        {**sums, "datasets": len(table["dataset"].unique())},
        {DIGESTS: serialized_groups(table)},
    )


DAILY_USAGE_ASSET = DailyAsset(
    spec=dg.AssetSpec(
        KEY,
        deps=["extracted_logs", "ip_indexes", "ip_regions"],
        group_name="usage",
        kinds={"python", "parquet"},
        description="Exact private counts of a log date per dataset, asset, event date, region and requester.",
    ),
    make=_daily_usage,
)
