"""Dates that the store has whole and Dagster knows nothing of: their run ended between its last table and its events,
or the history was lost. They are told from the store's records, so that nothing is made again; what is to be made is
not asked here.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import dagster as dg

from s3logx_assets.adapters.table_store import TableStore, partition
from s3logx_assets.core.schemas import DAILY_TABLES

# The most dates that are told at once: the daemon takes 40 ms for each, and looks at no other sensor meanwhile.
_AT_ONCE = 100
_SHORT = "Found in the store: the run that made it ended before it could say so, or its history is lost"


def untold(instance: dg.DagsterInstance, store: TableStore, days: Sequence[date]) -> Iterator[dg.AssetMaterialization]:
    """What `days`, of which each is whole or not there at all, have in the store and not in the history; of many the
    first. A run that is under way for one of them would tell it itself."""
    told = {asset: instance.get_materialized_partitions(dg.AssetKey(asset)) for asset in DAILY_TABLES}
    missing = [day for day in days if any(day.isoformat() not in known for known in told.values())]
    extracted = store.records(DAILY_TABLES[0], map(partition, missing))
    there = [day for day, (_, record) in zip(missing, extracted, strict=True) if record is not None][:_AT_ONCE]
    for asset, known in told.items():
        left = [day for day in there if day.isoformat() not in known]
        for day, (place, record) in zip(left, store.records(asset, map(partition, left)), strict=True):
            if record is not None:
                yield dg.AssetMaterialization(
                    asset,
                    partition=day.isoformat(),
                    metadata={"in_short": _SHORT, "dagster/uri": store.uri(asset, place)},
                    tags={"dagster/data_version": record["data_version"]},
                )
