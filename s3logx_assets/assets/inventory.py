"""`log_inventory`: from a snapshot of the S3 Inventory to its log objects, clustered by log date.

    private/log_inventory/snapshot=2025-03-01T01-00Z/part-0.parquet    the log objects, schema LOG_ROWS, by date and name
    private/log_inventory/snapshot=2025-03-01T01-00Z/dates.parquet     files, bytes and digest of each date, and its rows

Of earlier snapshots than the newest two only the dates stay. What is news in a snapshot is `core.inventory`'s to say, and
what becomes of it the sensors'.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from s3logx_assets.adapters.inventory_reader import Inventory
from s3logx_assets.adapters.table_store import TableStore, partition, row_groups
from s3logx_assets.assets.extract import KEY as EXTRACTED_LOGS
from s3logx_assets.assets.extract import ledger_of
from s3logx_assets.core.charts import bytes_text
from s3logx_assets.core.digests import text_digest
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.inventory import DATES, LOG_ROWS, News, news_of, summary_of
from s3logx_assets.metadata import column_schema, table_metadata
from s3logx_assets.partitions import SNAPSHOT, SNAPSHOTS
from s3logx_assets.pictures import chart, text_plot
from s3logx_assets.resources import Keyring
from s3logx_assets.retries import POLICY, told

KEY = "log_inventory"
_DATES = "dates"
# So many snapshots keep their rows; a sensor may be at one while the next is made.
_KEPT = 2


def snapshot_partition(snapshot: str) -> str:
    """The folder name of a snapshot."""
    return f"{SNAPSHOT}={snapshot}"


def stored_snapshots(store: TableStore) -> list[str]:
    """The snapshots that are stored, the oldest first."""
    return store.partitions(KEY, SNAPSHOT)


def newest_stored(store: TableStore) -> str | None:
    """The newest snapshot that is stored whole, None where there is none."""
    return next((snapshot for snapshot in reversed(stored_snapshots(store)) if is_stored(store, snapshot)), None)


def is_stored(store: TableStore, snapshot: str) -> bool:
    """Whether a snapshot is stored, whole."""
    return store.record(KEY, snapshot_partition(snapshot), _DATES) is not None


def dates_of(store: TableStore, snapshot: str) -> tuple[pa.Table, dict[str, Any]]:
    """What a stored snapshot has of each date (schema DATES), and its record: `created` (ISO 8601), `with_versions`.
    Raises StoreError."""
    found = store.read_whole(KEY, snapshot_partition(snapshot), _DATES)
    return found if found is not None else (DATES.empty_table(), {})


def rows_of(store: TableStore, snapshot: str, date_row: Mapping[str, Any]) -> pa.Table:
    """The log objects of one date of a stored snapshot, schema LOG_ROWS; `date_row`: a row of `dates_of`. Raises
    StoreError."""
    return store.read_groups(KEY, snapshot_partition(snapshot), date_row["first_group"], date_row["groups"])


def compared(
    store: TableStore,
    snapshot: str,
    of_snapshot: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    with_etags: bool,
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any] | None, News]]:
    """Each of a stored snapshot's dates (`rows` and `of_snapshot` as `dates_of` gives them), the record of what was extracted
    of it, and what it has that was not. File by file only where the digests differ; where the ledger is damaged then, none of
    the date's files counts as extracted. `with_etags`: the ledgers have them. Raises StoreError."""
    records = [record for _, record in store.records(EXTRACTED_LOGS, (partition(row["log_date"]) for row in rows))]
    with_versions = with_etags and bool(of_snapshot["with_versions"])
    created = datetime.fromisoformat(of_snapshot["created"])

    def news(pair: tuple[Mapping[str, Any], Mapping[str, Any] | None]) -> News:
        row, record = pair
        if record is None:
            return News(row["files"], 0, 0)
        if record["listing"] == row["digest"]:
            return News(0, 0, 0)
        listed = rows_of(store, snapshot, row)
        try:
            ledger = ledger_of(store, row["log_date"])
        except StoreError:
            # No reason to keep the other dates waiting: a run makes this one anew, or says why it does not.
            return News(row["files"], 0, 0)
        return news_of(listed, ledger, with_versions, created)

    found = store.each(news, zip(rows, records, strict=True))
    return zip(rows, records, found, strict=True)


def make_snapshot(store: TableStore, inventory: Inventory, snapshot: str) -> tuple[pa.Table, dict[str, Any]]:
    """Stores a snapshot: what it has of each date (schema DATES), and its record, with its data version. Raises InventoryError,
    StoreError."""
    manifest = inventory.manifest(snapshot)
    dates: list[dict[str, Any]] = []

    def grouped(days: Iterable[tuple[date, pa.Table]]) -> Iterator[pa.Table]:
        groups = 0
        for day, rows in days:
            files, size, digest = summary_of(rows)
            count = row_groups(rows.num_rows)
            dates.append(
                dict(zip(DATES.names, (day, files, size, digest, groups, count), strict=True)),
            )
            groups += count
            yield rows

    def record() -> dict[str, Any]:
        versions = text_digest(*(f"{row['log_date']} {row['digest']}" for row in dates))
        return {
            "data_version": versions,
            "created": manifest.created.isoformat(),
            "with_versions": "e_tag" in manifest.columns,
        }

    inventory.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = snapshot_partition(snapshot)
    with tempfile.TemporaryDirectory(dir=inventory.scratch) as scratch:
        rows = inventory.rows(manifest, Path(scratch))
        store.write_groups(KEY, place, LOG_ROWS, grouped(rows), record)
    table = pa.Table.from_pylist(dates, schema=DATES)
    # Last: a snapshot without it is none.
    said = record()
    store.write(KEY, place, table, said, part=_DATES)
    for earlier in stored_snapshots(store)[:-_KEPT]:
        store.remove_part(KEY, snapshot_partition(earlier), "part-0")
    return table, said


def build_inventory_asset() -> dg.AssetsDefinition:
    """The asset `log_inventory`, for where an inventory is configured."""

    @dg.asset(
        name=KEY,
        partitions_def=SNAPSHOTS,
        group_name="sources",
        kinds={"s3", "parquet"},
        metadata=column_schema(DATES),
        backfill_policy=dg.BackfillPolicy.multi_run(1),
        retry_policy=POLICY,
        description="The log objects that a snapshot of the S3 Inventory lists, clustered by log date.",
    )
    def log_inventory(
        context: dg.AssetExecutionContext,
        private_store: dg.ResourceParam[TableStore],
        inventory: dg.ResourceParam[Inventory],
        keyring: dg.ResourceParam[Keyring],
    ) -> dg.MaterializeResult[None]:
        snapshot = context.partition_key
        with told(), private_store.in_use():
            keyring.sealer(context.log.info)  # the store begins with its key's id, whichever table is the first
            dates, record = make_snapshot(private_store, inventory, snapshot)
        uri = private_store.uri(KEY, snapshot_partition(snapshot))
        files, size = (sum(dates[name].to_pylist()) for name in ("files", "bytes"))
        metadata: dict[str, Any] = {
            "in_short": f"{files:,} log files of {dates.num_rows:,} dates, {bytes_text(size)}",
            **table_metadata(dates.num_rows, uri),
            "created": record["created"],
            "dates": dates.num_rows,
            "files": files,
            "bytes": size,
        }
        if dates.num_rows:
            days, of_day = dates["log_date"], dates["files"].to_numpy()
            metadata |= {"first_date": str(days[0]), "last_date": str(days[-1])}
            metadata |= {"files_by_date": text_plot(days, of_day), **chart("files_chart", days, of_day, "Log files")}
        return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(record["data_version"]))

    return log_inventory
