"""How the daily assets run: date by date, each date through all selected steps before its events are logged.

The daily assets are one Dagster step, because a step that fails keeps those after it from starting: here a bad date
stops itself alone, the others go all the way, each recorded the moment it is done, and the run ends as failed with
the reasons. What a step makes of a date is in the modules beside this one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, partial
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa

from s3logx_assets.adapters.geolocation import Geolocator
from s3logx_assets.adapters.log_store import LogStore
from s3logx_assets.adapters.table_store import TableStore, partition
from s3logx_assets.core.digests import table_digest
from s3logx_assets.core.errors import S3logxError, StoreError, TransientError
from s3logx_assets.core.progress import Progress
from s3logx_assets.core.requesters import History, Indexes
from s3logx_assets.core.schemas import DAILY_TABLES, decoded
from s3logx_assets.core.sealing import Sealer
from s3logx_assets.metadata import table_metadata
from s3logx_assets.resources import Keyring, Rules
from s3logx_assets.retries import POLICY, reason, told

_SHOWN = 20
_ROWS_AT_ONCE = 1 << 18

# A step follows the ones before it, date by date, when their content has changed since it was made; once. A run that makes
# both leaves nothing to follow, but for the dates on which it got no further.
FOLLOWS = (
    dg.AutomationCondition.any_deps_match(
        dg.AutomationCondition.data_version_changed() | dg.AutomationCondition.will_be_requested()
    ).since_last_handled()
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
).with_label("follows what changed")


@dataclass(frozen=True)
class Tools:
    """What the steps of one run work with."""

    log_store: LogStore
    private_store: TableStore
    geolocator: Geolocator
    keyring: Keyring
    rules: Rules
    log: Callable[[str], None]

    @cached_property
    def sealer(self) -> Sealer:
        """The store's sealer, its key checked once a run, before anything is written. Raises MasterKeyError."""
        return self.keyring.sealer(self.log)

    @cached_property
    def history(self) -> History:
        """Which requesters the stored dates had: each date is read once a run, if at all."""
        return History(lambda days: self.private_store.each(partial(requesters_of, self.private_store), days))


@dataclass(frozen=True)
class CheckOutcome:
    """What an asset check found on one date."""

    name: str
    passed: bool
    metadata: Mapping[str, Any] = field(default_factory=dict)
    warning: bool = True


@dataclass(frozen=True)
class Made:
    """What a step made of one date."""

    data_version: str
    metadata: Mapping[str, Any]
    checks: tuple[CheckOutcome, ...] = ()


Step = Callable[[Tools, date], Made]


@dataclass(frozen=True)
class DailyAsset:
    """A daily asset: its spec, its checks, and how it is made. Either `make` makes one date, or, for the first of the
    chain, `stream` makes many at once and brings each with what was made or why not. `check` checks a date as it is
    stored."""

    spec: dg.AssetSpec
    make: Step | None = None
    checks: tuple[dg.AssetCheckSpec, ...] = ()
    stream: Callable[[Tools, Sequence[date]], Iterator[tuple[date, Made | S3logxError]]] | None = None
    check: Callable[[Tools, date], tuple[CheckOutcome, ...]] | None = None

    @property
    def code(self) -> Callable[..., object]:
        """The function that makes it."""
        code = self.make or self.stream
        assert code is not None, "an asset is made in one of the two ways"
        return code


def requesters_of(store: TableStore, day: date) -> Indexes:
    """The indexes of a date's requesters, ascending; nobody where the table is absent or damaged."""
    try:
        return np.asarray(store.read("ip_indexes", partition(day), columns=["ip_index"])["ip_index"].to_numpy())
    except StoreError:
        return np.zeros(0, np.int64)


def record_of(store: TableStore, asset: str, day: date) -> dict[str, Any]:
    """The record of an asset's partition. Raises StoreError where it was never made."""
    record = store.record(asset, partition(day))
    if record is None:
        raise StoreError(f"{asset} has no partition {day}; materialise it first")
    return record


def inputs_of(store: TableStore, day: date, *assets: str) -> dict[str, str]:
    """The data versions of `assets` on `day`. Raises StoreError where one of them was made from another state of the
    others than the present one."""
    records = {asset: record_of(store, asset, day) for asset in assets}
    versions = {asset: str(record["data_version"]) for asset, record in records.items()}
    for asset, record in records.items():
        for source, version in record.get("inputs", {}).items():
            if versions.get(source, version) != version:
                raise StoreError(
                    f"{asset} of {day} was made from other {source} than the present; materialise it again"
                )
    return versions


def days_cut_short(store: TableStore, days: Sequence[date]) -> dict[date, str]:
    """Those of `days` that were extracted and did not come through all steps since, each with the reason."""

    def why_not(day: date) -> str:
        try:
            inputs_of(store, day, *DAILY_TABLES)
        except StoreError as error:
            return str(error)
        return ""

    extracted = [
        day
        for day, (_, record) in zip(days, store.records(DAILY_TABLES[0], map(partition, days)), strict=True)
        if record
    ]
    reasons = zip(extracted, store.each(why_not, extracted), strict=True)
    return {day: why for day, why in reasons if why}


def store_table(
    tools: Tools,
    asset: str,
    day: date,
    table: pa.Table,
    inputs: Mapping[str, str],
    metadata: Mapping[str, Any],
    sections: Mapping[str, bytes] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Made:
    """Stores a date's table of an asset, its texts in full however they are encoded, with the versions of its `inputs`, and
    says what was made. `facts`: more for its
    record (JSON values), which the data version knows nothing of."""
    version = table_digest(table)
    record = {**(facts or {}), "data_version": version, "inputs": dict(inputs)}
    schema = decoded(table.schema)
    # Texts in full take several times the table's memory, so not all at once.
    groups = (table.slice(row, _ROWS_AT_ONCE).cast(schema) for row in range(0, table.num_rows or 1, _ROWS_AT_ONCE))
    tools.private_store.write_groups(asset, partition(day), schema, groups, lambda: record, sections)
    return Made(version, {**metadata, **table_metadata(table.num_rows, tools.private_store.uri(asset, partition(day)))})


def build_daily_assets(
    assets: Sequence[DailyAsset],
    partitions_def: dg.PartitionsDefinition[str],
    backfill_policy: dg.BackfillPolicy,
    pool: str | None = None,
) -> dg.AssetsDefinition:
    """The Dagster asset graph of the daily chain. `pool`: the concurrency pool that its runs share."""

    @dg.multi_asset(
        name="daily",
        specs=[
            asset.spec.replace_attributes(
                partitions_def=partitions_def, skippable=True, automation_condition=FOLLOWS if asset.spec.deps else None
            )
            for asset in assets
        ],
        check_specs=[check._replace(partitions_def=partitions_def) for asset in assets for check in asset.checks],
        can_subset=True,
        backfill_policy=backfill_policy,
        pool=pool,
        retry_policy=POLICY,
    )
    def daily(
        context: dg.AssetExecutionContext,
        log_store: dg.ResourceParam[LogStore],
        private_store: dg.ResourceParam[TableStore],
        geolocator: dg.ResourceParam[Geolocator],
        keyring: dg.ResourceParam[Keyring],
        rules: dg.ResourceParam[Rules],
    ) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
        tools = Tools(log_store, private_store, geolocator, keyring, rules, context.log.info)
        wanted = [asset for asset in assets if asset.spec.key in context.selected_asset_keys]
        made_already = _made_already(context, wanted) if context.retry_number else set()
        days = [date.fromisoformat(key) for key in context.partition_keys if key not in made_already]
        failures: dict[date, _Told] = {}
        wanted_checks = set(context.selected_asset_check_keys)
        with told(), private_store.in_use():
            for asset in assets:
                if asset not in wanted and any(key.asset_key == asset.spec.key for key in wanted_checks):
                    yield from _rechecked(asset, tools, days, wanted_checks)
            progress = Progress(len(days))
            for day, outcome in _run(wanted, tools, days):
                for key, made in outcome.made:
                    yield _materialization(key, day, made)
                    yield from _evaluations(key, day, made.checks, wanted_checks)
                if outcome.error is not None:
                    failures[day] = _Told(reason(outcome.error), isinstance(outcome.error, TransientError))
                    context.log.error(f"{day}: {failures[day].reason}")
                    progress.failed()
                else:
                    context.log.info(progress.done(day, *outcome.read))
        if failures:
            raise _failure(failures, len(days))

    return daily


def _made_already(context: dg.AssetExecutionContext, wanted: Sequence[DailyAsset]) -> set[str]:
    """The dates that this run brought through all wanted steps before it failed for others."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    events = [
        record.event_log_entry.dagster_event
        for record in context.instance.get_records_for_run(context.run.run_id, of_type=kind).records
    ]
    made = {(event.asset_key, event.partition) for event in events if event is not None}
    days = {day for _, day in made if day is not None}
    return {day for day in days if all((asset.spec.key, day) in made for asset in wanted)}


@dataclass(frozen=True)
class _Told:
    """What is kept of a date's failure. An error itself keeps the frames that it came through, with all their tables."""

    reason: str
    may_pass: bool


@dataclass
class _Outcome:
    """What became of one date: what its steps made, and why it went no further."""

    made: list[tuple[dg.AssetKey, Made]] = field(default_factory=list)
    error: Exception | None = None

    @property
    def read(self) -> tuple[int, int, int]:
        """Files, records and bytes that the first step read."""
        first = self.made[0][1].metadata if self.made else {}
        files, records, size = (int(first.get(name, 0)) for name in ("files", "records", "bytes"))
        return files, records, size


def _run(wanted: Sequence[DailyAsset], tools: Tools, days: Sequence[date]) -> Iterator[tuple[date, _Outcome]]:
    """Each date through all wanted steps: those of a stream as they come, the others in the order of `days`."""
    steps = [(asset.spec.key, asset.make) for asset in wanted if asset.make is not None]
    for day, streamed in _streamed(wanted, tools, days):
        outcome = _Outcome()
        if isinstance(streamed, Exception):
            outcome.error = streamed
        else:
            outcome.made += streamed
            outcome.error = _through(steps, tools, day, outcome.made)
        yield day, outcome


def _streamed(
    wanted: Sequence[DailyAsset], tools: Tools, days: Sequence[date]
) -> Iterator[tuple[date, list[tuple[dg.AssetKey, Made]] | S3logxError]]:
    for asset in wanted:
        if asset.stream is not None:
            for day, made in asset.stream(tools, days):
                yield day, [(asset.spec.key, made)] if isinstance(made, Made) else made
            return
    yield from ((day, []) for day in days)


def _through(
    steps: Sequence[tuple[dg.AssetKey, Step]], tools: Tools, day: date, made: list[tuple[dg.AssetKey, Made]]
) -> Exception | None:
    """Adds what the steps make of a date to `made`, and returns why one did not."""
    try:
        for key, make in steps:
            made.append((key, make(tools, day)))
    except Exception as error:  # one date's trouble, of whatever kind, is that date's alone
        return error
    return None


def _materialization(key: dg.AssetKey, day: date, made: Made) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        key,
        partition=day.isoformat(),
        metadata=dict(made.metadata),
        tags={"dagster/data_version": made.data_version},
    )


def _evaluations(
    key: dg.AssetKey, day: date, outcomes: Sequence[CheckOutcome], wanted: set[dg.AssetCheckKey]
) -> Iterator[dg.AssetCheckEvaluation]:
    for outcome in outcomes:
        if dg.AssetCheckKey(key, outcome.name) in wanted:
            yield dg.AssetCheckEvaluation(
                asset_key=key,
                check_name=outcome.name,
                passed=outcome.passed,
                metadata=dict(outcome.metadata),
                severity=dg.AssetCheckSeverity.WARN if outcome.warning else dg.AssetCheckSeverity.ERROR,
                partition=day.isoformat(),
            )


def _rechecked(
    asset: DailyAsset, tools: Tools, days: Sequence[date], wanted: set[dg.AssetCheckKey]
) -> Iterator[dg.AssetCheckEvaluation]:
    """The checks of dates that are stored already."""
    for day in days:
        if asset.check is not None and tools.private_store.record(asset.spec.key.to_user_string(), partition(day)):
            yield from _evaluations(asset.spec.key, day, asset.check(tools, day), wanted)


def _failure(failures: Mapping[date, _Told], total: int) -> dg.Failure:
    lines = [f"{day}: {failures[day].reason}" for day in sorted(failures)]
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return dg.Failure(
        description=f"{len(lines)} of {total} dates failed: " + "; ".join(lines[:_SHOWN]) + more,
        metadata={"failed_dates": len(lines)},
        allow_retries=all(failure.may_pass for failure in failures.values()),
    )
