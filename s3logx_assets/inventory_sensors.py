"""What the S3 Inventory sets going. Both sensors compare a wish with the present state, every time anew; their cursors only
spare them work, and say what was asked for already.

    inventory_manifest_sensor   the newest whole snapshot against the stored ones -> log_inventory
    inventory_files_sensor      the newest stored snapshot against the ledgers -> the dates with new or changed files, and
                                those that were extracted and did not come through all steps
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime

import dagster as dg

from s3logx_assets.adapters.inventory_reader import Inventory
from s3logx_assets.adapters.table_store import LOG_DATE, TableStore
from s3logx_assets.assets.daily import days_cut_short
from s3logx_assets.assets.extract import KEY as EXTRACTED_LOGS
from s3logx_assets.assets.inventory import KEY, compared, dates_of, is_stored, newest_stored
from s3logx_assets.core.errors import InventoryError, S3logxError
from s3logx_assets.core.inventory import snapshot_names
from s3logx_assets.core.locations import S3Location
from s3logx_assets.partitions import SNAPSHOTS
from s3logx_assets.run_requests import asked_for, days_made_since, run_key
from s3logx_assets.settings import Settings
from s3logx_assets.ticks import in_time

_EVERY = 30
_SLICE = 200


def build_inventory_sensors(settings: Settings, daily_keys: Sequence[dg.AssetKey]) -> list[dg.SensorDefinition]:
    """The two sensors, for where an inventory is configured."""

    @dg.sensor(
        asset_selection=dg.AssetSelection.assets(KEY),
        minimum_interval_seconds=_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Requests the newest snapshot of the inventory that is whole, if it is not stored yet.",
    )
    def inventory_manifest_sensor(
        context: dg.SensorEvaluationContext,
        private_store: dg.ResourceParam[TableStore],
        inventory: dg.ResourceParam[Inventory],
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            return _newest_snapshot(context, private_store, inventory)
        except (S3logxError, OSError) as error:
            return dg.SkipReason(
                str(error) if isinstance(error, S3logxError) else f"{inventory.files}: {error.strerror}"
            )

    @dg.sensor(
        asset_selection=dg.AssetSelection.assets(*daily_keys),
        minimum_interval_seconds=_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Requests the dates for which the newest snapshot has files that were not extracted, or not as they are.",
    )
    def inventory_files_sensor(
        context: dg.SensorEvaluationContext, private_store: dg.ResourceParam[TableStore]
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            return _dates_with_news(context, private_store, settings, daily_keys)
        except S3logxError as error:
            return dg.SkipReason(str(error))

    return [inventory_manifest_sensor, inventory_files_sensor]


def _newest_snapshot(
    context: dg.SensorEvaluationContext, store: TableStore, inventory: Inventory
) -> dg.SensorResult | dg.SkipReason:
    asked = dict(json.loads(context.cursor or "{}"))
    today = datetime.now(UTC).date().isoformat()
    reasons = []
    for snapshot in reversed(snapshot_names(inventory.snapshots())):
        if is_stored(store, snapshot):
            reasons.append(f"snapshot {snapshot} is stored")
            break
        if asked.get(snapshot) == today:
            reasons.append(f"snapshot {snapshot} was asked for today")
            break
        try:
            manifest = inventory.manifest(snapshot)
        except InventoryError as error:
            reasons.append(str(error))  # the one before it is better than none
            continue
        # One that fails is asked for again the next day.
        request = dg.RunRequest(
            run_key=run_key(snapshot, manifest.created.isoformat(), today),
            asset_selection=[dg.AssetKey(KEY)],
            partition_key=snapshot,
        )
        return dg.SensorResult(
            run_requests=[request],
            dynamic_partitions_requests=[SNAPSHOTS.build_add_request([snapshot])],
            cursor=json.dumps({snapshot: today}),
        )
    return dg.SkipReason("; ".join(reasons) or f"{inventory.files} has no snapshot yet")


def _dates_with_news(
    context: dg.SensorEvaluationContext, store: TableStore, settings: Settings, keys: Sequence[dg.AssetKey]
) -> dg.SensorResult | dg.SkipReason:
    snapshot = newest_stored(store)
    if snapshot is None:
        return dg.SkipReason("no snapshot of the inventory is stored yet")
    cursor = _Cursor(**json.loads(context.cursor or "{}"))
    state = run_key(snapshot, f"{datetime.now(UTC).date()}", json.dumps(store.tags(EXTRACTED_LOGS, LOG_DATE)))
    if cursor.done == state:
        return dg.SkipReason(f"nothing has changed since all dates were compared with snapshot {snapshot}")
    if cursor.snapshot != snapshot:
        cursor = _Cursor(snapshot)
    dates, record = dates_of(store, snapshot)
    rows = [row for row in dates.to_pylist() if settings.first_date <= row["log_date"] <= datetime.now(UTC).date()]
    left = [row for row in rows if row["log_date"].isoformat() > cursor.after]
    wanted: dict[date, str] = {}
    cut_short: dict[date, str] = {}
    seen = 0
    for some in in_time(left, _SLICE, _SLICE):
        for row, extracted, news in compared(store, snapshot, record, some, isinstance(settings.logs, S3Location)):
            if news.new or news.changed:
                wanted[row["log_date"]] = extracted["listing"] if extracted else ""
        cut_short |= days_cut_short(store, [row["log_date"] for row in some])
        seen += len(some)
    known = {day for day, digest in wanted.items() if digest}
    created = datetime.fromisoformat(record["created"])
    # What was listed after the snapshot was made knows better.
    for day in days_made_since(context.instance, dg.AssetKey(EXTRACTED_LOGS), known, created):
        del wanted[day]
    wanted = dict(sorted({**cut_short, **wanted}.items()))
    began = cursor.began if cursor.after else state
    if seen == len(left):
        # What was asked for may never come to be: it is looked at again until it is there.
        following, so_far = _Cursor(snapshot, done="" if wanted else began), ""
    else:
        last = left[seen - 1]["log_date"].isoformat()
        following, so_far = _Cursor(snapshot, after=last, began=began), f", as far as {last}"
    found = (
        asked_for(context.instance, wanted, keys)
        if wanted
        else {"skip_reason": f"{seen} dates of snapshot {snapshot} are up to date{so_far}"}
    )
    return dg.SensorResult(**found, cursor=json.dumps(asdict(following)))


@dataclass(frozen=True)
class _Cursor:
    """How far the comparison with a snapshot has come: up to the date `after`, having begun in the state `began`; or it
    ended, having begun in the state `done`. A state is of everything that is compared, and the day: what failed is asked
    for again the next one."""

    snapshot: str = ""
    after: str = ""
    began: str = ""
    done: str = ""
