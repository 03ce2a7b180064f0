"""What runs by itself. Each sensor compares a wish with the present state, every time anew (level-triggered): nothing
is lost by a restart, a missed tick or an event from before the first one.

    new_log_files_sensor   listings of the last dates against the ledgers -> the dates that differ
    stale_scopes_sensor    daily usage against the scopes' files -> the job that updates them
    weekly_publication     a release every Monday
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

import dagster as dg

from s3logx_assets.adapters.log_store import LogStore
from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.assets.daily import partition
from s3logx_assets.assets.extract import KEY as EXTRACTED_LOGS
from s3logx_assets.assets.publish import publication
from s3logx_assets.assets.summaries import plan, update_scopes
from s3logx_assets.core.errors import S3logxError
from s3logx_assets.core.ledger import listing_digest
from s3logx_assets.resources import Rules
from s3logx_assets.settings import Settings

# How far back the listings go; later files for older dates are found by a backfill.
TRAILING_DATES = 7
_EVERY = 60


def days_to_extract(log_store: LogStore, store: TableStore, days: Sequence[date]) -> dict[date, str]:
    """Those of `days` whose listing differs from what was extracted, each with the listing's digest. A date without
    log files and without a partition is no news."""
    wanted = {}
    for day, listing in log_store.listings(days):
        record = store.record(EXTRACTED_LOGS, partition(day))
        digest = listing_digest(listing.objects)
        if (record["listing"] != digest) if record is not None else listing.objects:
            wanted[day] = digest
    return wanted


def contiguous(days: Sequence[date]) -> list[tuple[date, date]]:
    """(first, last) of each run of consecutive dates in ascending `days`."""
    runs = []
    for _, run in groupby(enumerate(days), key=lambda item: item[1].toordinal() - item[0]):
        together = [day for _, day in run]
        runs.append((together[0], together[-1]))
    return runs


def _run_key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def build_automation(
    settings: Settings, daily: dg.AssetsDefinition
) -> tuple[list[dg.SensorDefinition], list[dg.ScheduleDefinition]]:
    """The sensors and schedules of the graph."""
    daily_keys = sorted(daily.keys)

    @dg.sensor(
        asset_selection=dg.AssetSelection.assets(*daily_keys),
        minimum_interval_seconds=_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def new_log_files_sensor(
        log_store: dg.ResourceParam[LogStore], private_store: dg.ResourceParam[TableStore]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        """Requests the recent dates whose log files are not the ones that were extracted."""
        today = datetime.now(UTC).date()
        days = [today - timedelta(days=back) for back in reversed(range(TRAILING_DATES))]
        try:
            wanted = days_to_extract(log_store, private_store, [day for day in days if day >= settings.first_date])
        except S3logxError as error:
            return dg.SkipReason(str(error))
        if not wanted:
            return dg.SkipReason(f"the last {TRAILING_DATES} dates are up to date")
        return [
            dg.RunRequest(
                # The same listing is not asked for twice, so a date that fails is not tried for ever.
                run_key=_run_key(*(f"{day} {digest}" for day, digest in wanted.items() if first <= day <= last)),
                asset_selection=daily_keys,
                tags={
                    "dagster/asset_partition_range_start": first.isoformat(),
                    "dagster/asset_partition_range_end": last.isoformat(),
                },
            )
            for first, last in contiguous(list(wanted))
        ]

    @dg.sensor(job=update_scopes, minimum_interval_seconds=_EVERY, default_status=dg.DefaultSensorStatus.RUNNING)
    def stale_scopes_sensor(
        private_store: dg.ResourceParam[TableStore], rules: dg.ResourceParam[Rules]
    ) -> dg.RunRequest | dg.SkipReason:
        """Requests the job that updates the scopes, when the daily usage has moved on from them."""
        try:
            found = plan(private_store, rules)
        except S3logxError as error:
            return dg.SkipReason(str(error))
        if not found.stale and not found.vanished:
            return dg.SkipReason(f"all {len(found.versions)} scopes are up to date")
        news = [f"{scope} {found.versions[scope]}" for scope in found.stale]
        return dg.RunRequest(run_key=_run_key(*news, *found.vanished))

    weekly_publication = dg.ScheduleDefinition(
        name="weekly_publication",
        target=dg.AssetSelection.assets(publication),
        cron_schedule="0 6 * * 1",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="A release every Monday morning.",
    )
    return [new_log_files_sensor, stale_scopes_sensor], [weekly_publication]
