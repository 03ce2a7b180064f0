"""What runs by itself. Each sensor compares a wish with the present state, every time anew (level-triggered): nothing
is lost by a restart, a missed tick or an event from before the first one.

    new_log_files_sensor   listings of the last dates, and after an outage of those that nobody saw meanwhile, against
                           the ledgers -> the dates that differ, young ones once an hour; the store against Dagster's
                           history -> what that lacks is told
    inventory_…            where there is an S3 Inventory, see inventory_sensors
    steps_follow           a step that was made alone -> the steps after it, by automation conditions
    stale_scopes_sensor    daily usage against the scopes' files -> the job that updates them
    dead_runs_sensor       runs of commands against the processes that there are -> the dead ones are ended
    daily_update, daily_scopes   the same two once a day, for those who stop the sensors
    weekly_publication     a release every Wednesday: a week counts as complete two days after its Sunday; each morning until
                           there is one
    daily_statistics       how far the archive has come, every night
    ask_again              every night, where services are asked: lookups that failed, and those that have aged
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from s3logx_assets.adapters.log_store import LogStore
from s3logx_assets.adapters.scope_state import DAILY_USAGE
from s3logx_assets.adapters.table_store import LOG_DATE, TableStore, partition
from s3logx_assets.assets.addresses import IP_REGIONS_ASSET, REGION_COORDINATES_ASSET
from s3logx_assets.assets.daily import days_cut_short
from s3logx_assets.assets.extract import KEY as EXTRACTED_LOGS
from s3logx_assets.assets.publish import publication
from s3logx_assets.assets.statistics import KEY as STATISTICS
from s3logx_assets.assets.summaries import SUMMARIES, TOTALS, plan, update_scopes
from s3logx_assets.assets.usage import DAILY_USAGE_ASSET
from s3logx_assets.core.errors import S3logxError
from s3logx_assets.core.ledger import listing_digest
from s3logx_assets.dead_runs import end_dead_commands
from s3logx_assets.inventory_sensors import build_inventory_sensors
from s3logx_assets.look_back import LookBack, known
from s3logx_assets.resources import Rules
from s3logx_assets.run_requests import (
    asked_for,
    contiguous,
    days_between,
    days_run_since,
    days_under_way,
    has_run_since,
    is_under_way,
    range_tags,
    run_key,
)
from s3logx_assets.settings import Settings
from s3logx_assets.ticks import in_time
from s3logx_assets.untold import untold

# The most dates that a tick lists, and goes on from there with the next one.
_SLICE = 400
# How long after a run the log files that have come since to a date of today or yesterday are left to gather.
_GATHERED = timedelta(hours=1)
# How many dates a night have their failed lookups asked again, and how many their aged ones.
ASKED_AGAIN = 30
_EVERY = 30
_WEDNESDAY, _MORNING = 2, timedelta(hours=6)
_SCOPED = (dg.AssetKey(SUMMARIES), dg.AssetKey(TOTALS))
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


@dataclass(frozen=True)
class Behind:
    """What was found of some `days`: which are wanted, each with what tells why, and how many only gather new files.
    `reason`: why nothing could be found."""

    days: tuple[date, ...] = ()
    wanted: Mapping[date, str] = field(default_factory=dict)
    gathering: int = 0
    reason: str = ""

    def with_more(
        self, log_store: LogStore, store: TableStore, days: Sequence[date], gathering: Collection[date] = ()
    ) -> "Behind":
        """With what is found of later `days`, of which those in `gathering` are not asked for because of new files."""
        cut_short, news = days_cut_short(store, days), days_to_extract(log_store, store, days)
        # One that got no further is asked for by the reason, so that new files do not bring it again at each tick.
        ripe = {day: digest for day, digest in news.items() if day not in gathering}
        wanted = {**self.wanted, **dict(sorted({**cut_short, **ripe}.items()))}
        return Behind((*self.days, *days), wanted, self.gathering + len(news) - len(ripe))

    @property
    def whole(self) -> list[date]:
        """The days that are as they should be, or have nothing at all."""
        return [day for day in self.days if day not in self.wanted] if not self.reason else []

    @property
    def why_nothing(self) -> str:
        """Why nothing is wanted."""
        if self.reason:
            return self.reason
        if self.gathering:
            return f"new log files of {self.gathering} dates gather: these were extracted within the hour"
        return f"{len(self.days)} dates are up to date" + (f", {self.days[0]} to {self.days[-1]}" if self.days else "")


def days_behind(log_store: LogStore, store: TableStore, days: Sequence[date]) -> dict[date, str]:
    """Those of `days`, ascending, that are to be made again or further, each with what tells why."""
    return dict(Behind().with_more(log_store, store, days).wanted)


def days_gathering(instance: dg.DagsterInstance, now: datetime) -> set[date]:
    """Today and yesterday, so far as they were extracted within the hour, or failed to be. Their log files come all the
    time, and a date is extracted whole: to ask at each new file would be quadratic, hundreds of runs a day."""
    young = {now.date(), now.date() - timedelta(days=1)}
    return young & days_run_since(instance, dg.AssetKey(EXTRACTED_LOGS), now - _GATHERED)


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


def last_wednesday(now: datetime) -> datetime:
    """The last Wednesday, 6:00 UTC, that is not after `now`."""
    day = (now - _MORNING).date()
    return (
        datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=(day.weekday() - _WEDNESDAY) % 7) + _MORNING
    )


def _may_have_usage(store: TableStore) -> bool:
    try:
        return bool(store.partitions(DAILY_USAGE, LOG_DATE))
    except S3logxError:
        return True  # a run says why not, and somebody is told


def build_automation(
    settings: Settings, daily: dg.AssetsDefinition
) -> tuple[list[dg.SensorDefinition], list[dg.ScheduleDefinition]]:
    """The sensors and schedules of the graph."""
    daily_keys = sorted(daily.keys)

    @dg.sensor(
        asset_selection=dg.AssetSelection.assets(*daily_keys),
        minimum_interval_seconds=_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Requests the recent dates whose log files are not the ones that were extracted.",
    )
    def new_log_files_sensor(
        context: dg.SensorEvaluationContext,
        log_store: dg.ResourceParam[LogStore],
        private_store: dg.ResourceParam[TableStore],
    ) -> dg.SensorResult | dg.SkipReason:
        now = datetime.now(UTC)
        usual = trailing(now.date())
        try:
            state = known(LookBack.read(context.cursor), private_store, now.date())
        except S3logxError as error:
            return dg.SkipReason(str(error))
        days = state.days(usual, settings.first_date)
        left = [day for day in days if day.isoformat() > state.after][:_SLICE]
        gathering = days_gathering(context.instance, now)
        found, clean = Behind(), True
        for some in in_time(left, 1, _SLICE):
            try:
                found = found.with_more(log_store, private_store, some, gathering)
            except S3logxError as error:
                clean = False
                if not found.days:  # the next tick begins behind what cannot be listed
                    found = replace(found, days=tuple(some), reason=str(error))
                break
        if left:
            state = state.looked(found.days[-1].isoformat(), found.wanted, usual, clean)
        if not left or found.days[-1] == days[-1]:
            state = state.ended(now.date())
        # In this order: a run that ends meanwhile has told its dates.
        under_way = days_under_way(context.instance, daily_keys[0])
        whole = [day for day in found.whole if day not in under_way]
        events = list(untold(context.instance, private_store, whole))
        return dg.SensorResult(**asked_of(context.instance, found), cursor=state.cursor, asset_events=events)

    @dg.schedule(
        target=dg.AssetSelection.assets(*daily_keys),
        cron_schedule="0 2 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="What new_log_files_sensor does, once a night instead of twice a minute.",
    )
    def daily_update(
        context: dg.ScheduleEvaluationContext,
        log_store: dg.ResourceParam[LogStore],
        private_store: dg.ResourceParam[TableStore],
    ) -> list[dg.RunRequest] | dg.SkipReason:
        today = datetime.now(UTC).date()
        usual = trailing(today)
        try:
            days = known(LookBack(), private_store, today).days(usual, settings.first_date)
            found = Behind().with_more(log_store, private_store, days)
        except S3logxError as error:
            return dg.SkipReason(str(error))
        asked = asked_of(context.instance, found)
        requests: list[dg.RunRequest] = asked.get("run_requests", [])
        return requests or dg.SkipReason(asked["skip_reason"])

    def trailing(today: date) -> list[date]:
        oldest = today - timedelta(days=settings.trailing_dates - 1) if settings.trailing_dates else settings.first_date
        return list(days_between(max(oldest, settings.first_date), today))

    def asked_of(instance: dg.DagsterInstance, found: Behind) -> dict[str, Any]:
        return asked_for(instance, found.wanted, daily_keys) if found.wanted else {"skip_reason": found.why_nothing}

    @dg.sensor(
        job=update_scopes,
        minimum_interval_seconds=_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Requests the job that updates the scopes, when the daily usage has moved on from them.",
    )
    def stale_scopes_sensor(
        context: dg.SensorEvaluationContext,
        private_store: dg.ResourceParam[TableStore],
        rules: dg.ResourceParam[Rules],
    ) -> dg.RunRequest | dg.SkipReason:
        return _stale_scopes(context.instance, private_store, rules)

    @dg.schedule(
        job=update_scopes,
        cron_schedule="0 5 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="What stale_scopes_sensor does, once a night instead of twice a minute.",
    )
    def daily_scopes(
        context: dg.ScheduleEvaluationContext,
        private_store: dg.ResourceParam[TableStore],
        rules: dg.ResourceParam[Rules],
    ) -> dg.RunRequest | dg.SkipReason:
        return _stale_scopes(context.instance, private_store, rules)

    @dg.schedule(
        target=dg.AssetSelection.assets(publication).downstream(),
        cron_schedule="0 6 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="A release every Wednesday, when the week before counts as complete; one that failed is tried each morning.",
    )
    def weekly_publication(
        context: dg.ScheduleEvaluationContext, private_store: dg.ResourceParam[TableStore]
    ) -> dg.RunRequest | dg.SkipReason:
        wednesday = last_wednesday(datetime.now(UTC))
        if has_run_since(context.instance, weekly_publication.name, wednesday):
            return dg.SkipReason(f"the release of {wednesday.date()} is out, or on its way")
        return dg.RunRequest() if _may_have_usage(private_store) else dg.SkipReason("there is nothing to publish yet")

    daily_statistics = dg.ScheduleDefinition(
        name="daily_statistics",
        target=dg.AssetSelection.assets(STATISTICS),
        cron_schedule="0 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="How far the archive has come, every night.",
    )
    schedules = [
        weekly_publication,
        daily_statistics,
        daily_update,
        daily_scopes,
        *([_ask_again(settings)] if settings.asks_services else []),
    ]
    steps_follow = dg.AutomationConditionSensorDefinition(
        "steps_follow",
        target=dg.AssetSelection.assets(*daily_keys),
        minimum_interval_seconds=_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs the steps of a date after one that was made alone, where its content changed.",
    )

    @dg.sensor(
        target=dg.AssetSelection.assets(*daily_keys),
        minimum_interval_seconds=_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends the runs of commands that were killed: they would hold the queue for good. Asks for nothing.",
    )
    def dead_runs_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        ended = end_dead_commands(context.instance)
        return dg.SkipReason(f"{len(ended)} runs were ended: {', '.join(ended)}" if ended else "every run is alive")

    sensors = [new_log_files_sensor, stale_scopes_sensor, dead_runs_sensor, steps_follow]
    if settings.inventory is not None:
        sensors += build_inventory_sensors(settings, daily_keys)
    return sensors, schedules


def _stale_scopes(instance: dg.DagsterInstance, store: TableStore, rules: Rules) -> dg.RunRequest | dg.SkipReason:
    try:
        found = plan(store, rules)
    except S3logxError as error:
        return dg.SkipReason(str(error))
    if not found.stale and not found.vanished:
        return dg.SkipReason(f"all {len(found.versions)} scopes are up to date")
    if is_under_way(instance, update_scopes.name, _SCOPED):
        # It finds by itself what is stale when it begins; what is stale after it is asked for then.
        return dg.SkipReason(f"{len(found.stale)} scopes are out of date, and a run that updates scopes is under way")
    news = [f"{scope} {found.versions[scope]}" for scope in found.stale]
    # An update that fails is asked for again the next day.
    today = datetime.now(UTC).date()
    return dg.RunRequest(run_key=run_key(f"{today}", *news, *found.vanished))


def _ask_again(settings: Settings) -> dg.ScheduleDefinition:
    @dg.schedule(
        target=dg.AssetSelection.assets(*_LOOKED_UP),
        cron_schedule="0 4 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Asks again for the dates with undetermined requesters, and for some of those whose lookups have aged.",
    )
    def ask_again(private_store: dg.ResourceParam[TableStore]) -> list[dg.RunRequest] | dg.SkipReason:
        today = datetime.now(UTC).date()
        records = records_of_regions(private_store, settings.first_date, today)
        days = dates_to_ask_again(records, today, settings.lookup_days, ASKED_AGAIN)
        if not days:
            return dg.SkipReason("no lookup has failed or aged")
        return [
            dg.RunRequest(
                run_key=run_key("ask_again", today.isoformat(), first.isoformat(), last.isoformat()),
                tags=range_tags(first, last),
            )
            for first, last in contiguous(days)
        ]

    return ask_again
