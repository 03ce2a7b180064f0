"""`summaries` and `totals`: the exact tables of each scope, and the job that updates every scope out of date.

A scope's file records a version of what it was made from: the digests of its own rows on each date. So a date that
changes makes exactly those scopes stale whose rows changed. Thresholds and rounding do not belong here.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg
import pyarrow as pa

from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.assets.daily import partition
from s3logx_assets.assets.usage import DIGESTS
from s3logx_assets.assets.usage import KEY as DAILY_USAGE
from s3logx_assets.core.digests import table_digest, text_digest
from s3logx_assets.core.schemas import DAILY_USAGE as USAGE_SCHEMA
from s3logx_assets.core.scopes import ARCHIVE, scope_of
from s3logx_assets.core.summaries import ScopeTables, summarise, totals
from s3logx_assets.metadata import table_metadata
from s3logx_assets.partitions import LOG_DATE, SCOPE, SCOPES
from s3logx_assets.resources import Rules

SUMMARIES, TOTALS = "summaries", "totals"
_TEXTS = pa.dictionary(pa.int32(), pa.string())
_DICTIONARY_COLUMNS = ("dataset", "asset_path", "region")


def scope_partition(scope: str) -> str:
    """The folder name of a scope."""
    return f"{SCOPE}={scope}"


@dataclass(frozen=True)
class Plan:
    """What each scope should be made from (`versions`), the last event date that counts (`cutoff`; None without data),
    which scopes are out of date, and which are in the store but in no daily usage any more."""

    versions: dict[str, str]
    cutoff: date | None
    stale: list[str]
    vanished: list[str]


def plan(store: TableStore, rules: Rules) -> Plan:
    """Compares every scope's file with the daily usage. Reads footers and digests, no rows."""
    versions, cutoff = scope_versions(store), present_cutoff(store, rules)
    stale = [scope for scope, version in versions.items() if not _fresh(store, scope, version, cutoff)]
    vanished = sorted(set(store.partitions(SUMMARIES, SCOPE)) - set(versions))
    return Plan(versions, cutoff, sorted(stale), vanished)


def present_cutoff(store: TableStore, rules: Rules) -> date | None:
    """The last event date that counts, by the newest log date that was extracted from at least one log file; None
    without one."""
    for day in reversed(store.partitions("extracted_logs", LOG_DATE)):
        record = store.record("extracted_logs", partition(day))
        if record is not None and record["counts"]["files"]:
            return rules.cutoff(date.fromisoformat(day))
    return None


def scope_versions(store: TableStore) -> dict[str, str]:
    """Each scope that has rows, with the version of all that belongs to it."""
    groups: dict[str, Any] = defaultdict(hashlib.sha256)
    for day in store.partitions(DAILY_USAGE, LOG_DATE):
        for dataset, event_date, digest in json.loads(store.section(DAILY_USAGE, partition(day), DIGESTS)):
            for scope in (scope_of(dataset), ARCHIVE):
                groups[scope].update(f"{day} {len(dataset)} {dataset} {event_date} {digest}\n".encode())
    return {scope: group.hexdigest()[:32] for scope, group in sorted(groups.items())}


def _fresh(store: TableStore, scope: str, version: str, cutoff: date | None) -> bool:
    for asset, part in ((SUMMARIES, part) for part in ScopeTables.parts()):
        record = store.record(asset, scope_partition(scope), part)
        if record is None or record["inputs"] != {DAILY_USAGE: version}:
            return False
        # What is settled stays settled while the cutoff moves on; only a cutoff that went back needs older rows.
        if cutoff is not None and date.fromisoformat(record["settled_until"]) > cutoff:
            return False
    record = store.record(TOTALS, scope_partition(scope))
    return record is not None and record["inputs"] == {DAILY_USAGE: version}


def read_scope(store: TableStore, scope: str) -> ScopeTables:
    """The exact tables of a scope. Raises StoreError."""
    return ScopeTables(**{part: store.read(SUMMARIES, scope_partition(scope), part) for part in ScopeTables.parts()})


def make_scopes(
    store: TableStore,
    versions: Mapping[str, str],
    cutoff: date | None,
    scopes: Collection[str],
    wanted: Collection[str],
) -> Iterator[dg.AssetMaterialization]:
    """Makes the tables of `scopes`, those of the assets in `wanted`, in one pass over the daily usage. `versions` and
    `cutoff` were read before it: daily usage that changes meanwhile leaves a scope out of date, never wrongly fresh."""
    if not scopes:
        return
    settled_until = cutoff or date.min
    for scope, tables in summarise(_usage(store), scopes, settled_until).items():
        inputs = {DAILY_USAGE: versions.get(scope, "")}
        if SUMMARIES in wanted:
            yield _store_summaries(store, scope, tables, inputs, settled_until)
        if TOTALS in wanted:
            yield _store_totals(store, scope, totals(tables), inputs)


def _usage(store: TableStore) -> Iterator[pa.Table]:
    schema = pa.schema(
        [pa.field(item.name, _TEXTS) if item.name in _DICTIONARY_COLUMNS else item for item in USAGE_SCHEMA]
    )
    for day in store.partitions(DAILY_USAGE, LOG_DATE):
        yield store.read(DAILY_USAGE, partition(day)).cast(schema)


def _store_summaries(
    store: TableStore, scope: str, tables: ScopeTables, inputs: dict[str, str], settled_until: date
) -> dg.AssetMaterialization:
    parts = {name: getattr(tables, name) for name in ScopeTables.parts()}
    version = text_digest(*(table_digest(table) for table in parts.values()))
    record = {"data_version": version, "inputs": inputs, "settled_until": settled_until.isoformat()}
    for name, table in parts.items():
        path = store.write(SUMMARIES, scope_partition(scope), table, record, part=name)
    return _event(
        SUMMARIES,
        scope,
        version,
        {
            "dagster/partition_row_count": sum(table.num_rows for table in parts.values()),
            "dagster/uri": str(path.parent),
            **{f"{name}_rows": table.num_rows for name, table in parts.items()},
        },
    )


def _store_totals(store: TableStore, scope: str, table: pa.Table, inputs: dict[str, str]) -> dg.AssetMaterialization:
    version = table_digest(table)
    path = store.write(TOTALS, scope_partition(scope), table, {"data_version": version, "inputs": inputs})
    (row,) = table.to_pylist()
    figures = {
        name: str(value) if isinstance(value, date) else value for name, value in row.items() if value is not None
    }
    return _event(TOTALS, scope, version, {**table_metadata(table, path), **figures})


def _event(asset: str, scope: str, version: str, metadata: dict[str, Any]) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(asset, partition=scope, metadata=metadata, tags={"dagster/data_version": version})


def build_scope_assets(backfill_policy: dg.BackfillPolicy) -> dg.AssetsDefinition:
    """The assets `summaries` and `totals`. One step, so that one pass over the daily usage serves all their scopes."""

    @dg.multi_asset(
        name="scopes",
        specs=[
            dg.AssetSpec(
                SUMMARIES,
                deps=[dg.AssetDep(DAILY_USAGE, partition_mapping=dg.AllPartitionMapping())],
                group_name="summaries",
                kinds={"python", "parquet"},
                partitions_def=SCOPES,
                skippable=True,
                description="Exact tables of a scope: by day, by asset, by region, requesters.",
            ),
            dg.AssetSpec(
                TOTALS,
                deps=[SUMMARIES],
                group_name="summaries",
                kinds={"python", "parquet"},
                partitions_def=SCOPES,
                skippable=True,
                description="Exact totals of a scope.",
            ),
        ],
        can_subset=True,
        backfill_policy=backfill_policy,
    )
    def scopes(
        context: dg.AssetExecutionContext, private_store: dg.ResourceParam[TableStore], rules: dg.ResourceParam[Rules]
    ) -> Iterator[dg.AssetMaterialization]:
        wanted = {key.to_user_string() for key in context.selected_asset_keys}
        versions, cutoff = scope_versions(private_store), present_cutoff(private_store, rules)
        yield from make_scopes(private_store, versions, cutoff, context.partition_keys, wanted)

    return scopes


@dg.op
def update_stale_scopes(
    context: dg.OpExecutionContext, private_store: dg.ResourceParam[TableStore], rules: dg.ResourceParam[Rules]
) -> None:
    """Finds every scope whose rows changed, makes its tables, and forgets the scopes that no row maps to any more."""
    found = plan(private_store, rules)
    context.instance.add_dynamic_partitions(str(SCOPES.name), sorted(found.versions))
    for scope in found.vanished:
        context.log.warning(f"scope {scope} has no rows any more; it leaves the store and the next release")
        context.instance.delete_dynamic_partition(str(SCOPES.name), scope)
        for asset in (SUMMARIES, TOTALS):
            private_store.remove(asset, scope_partition(scope))
    context.log.info(f"{len(found.stale)} of {len(found.versions)} scopes are out of date")
    for event in make_scopes(private_store, found.versions, found.cutoff, found.stale, (SUMMARIES, TOTALS)):
        context.log_event(event)


@dg.job
def update_scopes() -> None:
    """Updates every scope that is out of date; no scope needs to be named."""
    update_stale_scopes()
