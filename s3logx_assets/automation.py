"""What runs by itself. Each sensor compares a wish with the present state, every time anew (level-triggered): nothing
is lost by a restart, a missed tick or an event from before the first one.

    new_log_files_sensor   listings of the last dates against the ledgers -> the dates that differ
    stale_scopes_sensor    daily usage against the scopes' files -> the job that updates them
    daily_update, daily_scopes   the same two once a day, for those who stop the sensors
    weekly_publication     a release every Monday
    ask_again              every night, where services are asked: lookups that failed, and those that have aged
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any

import dagster as dg

from s3logx_assets.adapters.log_store import LogStore
from s3logx_assets.adapters.table_store import LOG_DATE, TableStore, partition
from s3logx_assets.assets.addresses import IP_REGIONS_ASSET, REGION_COORDINATES_ASSET
from s3logx_assets.assets.extract import KEY as EXTRACTED_LOGS
from s3logx_assets.assets.publish import publication
from s3logx_assets.assets.summaries import plan, update_scopes
from s3logx_assets.assets.usage import DAILY_USAGE_ASSET
from s3logx_assets.core.errors import S3logxError
from s3logx_assets.core.ledger import listing_digest
from s3logx_assets.resources import Rules
from s3logx_assets.settings import Settings

# How far back the listings go; later files for older dates are found by a backfill.
TRAILING_DATES = 7
# How many dates a night have their failed lookups asked again, and how many their aged ones.
ASKED_AGAIN = 30
_EVERY = 60
IP_REGIONS = "ip_regions"
_LOOKED_UP = tuple(asset.spec.key for asset in (IP_REGIONS_ASSET, REGION_COORDINATES_ASSET, DAILY_USAGE_ASSET))


def days_to_extract(log_store: LogStore, store: TableStore, days: Sequence[date]) -> dict[date, str]:
    """Those of `days` whose listing differs from what was extracted, each with the listing's digest. A date without
    log files and without a partition is no news; one that cannot be listed is: its run says why."""
    wanted = {}
    records = dict(store.records(EXTRACTED_LOGS, map(partition, days)))
    for day, listing in log_store.listings(days):
        record = records[partition(day)]
        digest = listing_digest(listing.objects)
        if listing.error or ((record["listing"] != digest) if record is not None else listing.objects):
            wanted[day] = digest
    return wanted


def dates_to_ask_again(
    records: Mapping[date, Mapping[str, Any]], today: date, lookup_days: int, at_most: int
) -> list[date]:
    """The dates whose regions are to be asked for again, ascending, by their records of `ip_regions`: those with
    undetermined requesters, and those that were asked for more than `lookup_days` days ago; of each kind the `at_most` that
    were asked longest ago. A date that was made without a service, or was asked today, is left alone."""
    asked = {day: date.fromisoformat(record["asked_on"]) for day, record in records.items() if "asked_on" in record}
    oldest_first = sorted((on, day) for day, on in asked.items() if on < today)
    undetermined = [day for _, day in oldest_first if records[day]["undetermined"]]
    aged = [day for on, day in oldest_first if (today - on).days > lookup_days and not records[day]["undetermined"]]
    return sorted(undetermined[:at_most] + aged[:at_most])


def records_of_regions(store: TableStore, first: date, last: date) -> dict[date, dict[str, Any]]:
    """The records of `ip_regions` from `first` to `last`; a damaged partition has none."""
    days = [day for day in store.partitions(IP_REGIONS, LOG_DATE) if first.isoformat() <= day <= last.isoformat()]
    records = zip(days, store.records(IP_REGIONS, map(partition, days)), strict=True)
    return {date.fromisoformat(day): record for day, (_, record) in records if record is not None}


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
        return new_files(log_store, private_store)

    @dg.schedule(
        target=dg.AssetSelection.assets(*daily_keys),
        cron_schedule="0 2 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def daily_update(
        log_store: dg.ResourceParam[LogStore], private_store: dg.ResourceParam[TableStore]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        """What new_log_files_sensor does, once a night instead of every minute."""
        return new_files(log_store, private_store)

    def new_files(log_store: LogStore, private_store: TableStore) -> list[dg.RunRequest] | dg.SkipReason:
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
                run_key=run_key_of(wanted, first, last, today), asset_selection=daily_keys, tags=_range(first, last)
            )
            for first, last in contiguous(list(wanted))
        ]

    @dg.sensor(job=update_scopes, minimum_interval_seconds=_EVERY, default_status=dg.DefaultSensorStatus.RUNNING)
    def stale_scopes_sensor(
        private_store: dg.ResourceParam[TableStore], rules: dg.ResourceParam[Rules]
    ) -> dg.RunRequest | dg.SkipReason:
        """Requests the job that updates the scopes, when the daily usage has moved on from them."""
        return _stale_scopes(private_store, rules)

    @dg.schedule(
        job=update_scopes,
        cron_schedule="0 5 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def daily_scopes(
        private_store: dg.ResourceParam[TableStore], rules: dg.ResourceParam[Rules]
    ) -> dg.RunRequest | dg.SkipReason:
        """What stale_scopes_sensor does, once a night instead of every minute."""
        return _stale_scopes(private_store, rules)

    weekly_publication = dg.ScheduleDefinition(
        name="weekly_publication",
        target=dg.AssetSelection.assets(publication),
        cron_schedule="0 6 * * 1",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="A release every Monday morning.",
    )
    schedules = [
        weekly_publication,
        daily_update,
        daily_scopes,
        *([_ask_again(settings)] if settings.asks_services else []),
    ]
    return [new_log_files_sensor, stale_scopes_sensor], schedules


def run_key_of(wanted: Mapping[date, str], first: date, last: date, today: date) -> str:
    """The key of a run over some of the `wanted` dates: the same listings are asked for once a day, so a date that fails
    is tried again, but not for ever in a row."""
    return _run_key(f"{today}", *(f"{day} {digest}" for day, digest in wanted.items() if first <= day <= last))


def _range(first: date, last: date) -> dict[str, str]:
    return {
        "dagster/asset_partition_range_start": first.isoformat(),
        "dagster/asset_partition_range_end": last.isoformat(),
    }


def _stale_scopes(store: TableStore, rules: Rules) -> dg.RunRequest | dg.SkipReason:
    try:
        found = plan(store, rules)
    except S3logxError as error:
        return dg.SkipReason(str(error))
    if not found.stale and not found.vanished:
        return dg.SkipReason(f"all {len(found.versions)} scopes are up to date")
    news = [f"{scope} {found.versions[scope]}" for scope in found.stale]
    return dg.RunRequest(run_key=_run_key(*news, *found.vanished))


def _ask_again(settings: Settings) -> dg.ScheduleDefinition:
    @dg.schedule(
        target=dg.AssetSelection.assets(*_LOOKED_UP),
        cron_schedule="0 4 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def ask_again(private_store: dg.ResourceParam[TableStore]) -> list[dg.RunRequest] | dg.SkipReason:
        """Asks again for the dates with undetermined requesters, and for some of those whose lookups have aged."""
        today = datetime.now(UTC).date()
        records = records_of_regions(private_store, settings.first_date, today)
        days = dates_to_ask_again(records, today, settings.lookup_days, ASKED_AGAIN)
        if not days:
            return dg.SkipReason("no lookup has failed or aged")
        return [
            dg.RunRequest(
                run_key=_run_key("ask_again", today.isoformat(), first.isoformat(), last.isoformat()),
                tags=_range(first, last),
            )
            for first, last in contiguous(days)
        ]

    return ask_again
