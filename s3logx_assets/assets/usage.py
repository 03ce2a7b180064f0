"""`daily_usage`: the exact private counts of a date per dataset, asset, event date, region and requester."""

import json
from datetime import date

import dagster as dg

from s3logx_assets.assets.daily import DailyAsset, Made, Tools, inputs_of, partition
from s3logx_assets.core import usage
from s3logx_assets.core.digests import table_digest
from s3logx_assets.metadata import column_schema

KEY = "daily_usage"
# The digest of each (dataset, event date) group: what a scope needs in order to know whether it is up to date.
DIGESTS = "digests"


def _daily_usage(tools: Tools, day: date) -> Made:
    store = tools.private_store
    inputs = inputs_of(store, day, "extracted_logs", "ip_indexes", "ip_regions")
    rows, indexes, regions = (store.read(asset, partition(day)) for asset in inputs)
    table = usage.daily_usage(rows, indexes, regions, tools.rules.dataset_rule)
    version = table_digest(table)
    groups = [(dataset, event_date.isoformat(), digest) for dataset, event_date, digest in usage.content_digests(table)]
    record = {"data_version": version, "inputs": {**inputs, "dataset_rule": tools.rules.dataset_rule.digest}}
    path = store.write(KEY, partition(day), table, record, {DIGESTS: json.dumps(groups).encode()})
    return Made(
        version,
        {
            "dagster/partition_row_count": table.num_rows,
            "dagster/column_schema": column_schema(table.schema),
            "dagster/uri": str(path),
            "requests": int(table["request_count"].to_numpy().sum()),
            "downloads": int(table["download_count"].to_numpy().sum()),
            "bytes_sent": int(table["bytes_sent"].to_numpy().sum()),
            "datasets": len(table["dataset"].unique()),
        },
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
