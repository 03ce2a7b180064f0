"""`summaries` and `totals`: the exact tables of each scope, and the job that updates every scope out of date.

A scope's file records the version of what it was made from (core/scope_versions.py), so a date that changes makes
exactly those scopes stale whose rows changed. An update reads the dates that are news and the scopes they touch: what
the scopes counted of a date before is taken off them, what it holds now is added. A scope is counted anew, over all
dates, when there is nothing to add to, or when what it holds cannot be proven to be what was counted. Thresholds and
rounding do not belong here.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import chain, groupby
from typing import Any, NamedTuple, TypeVar

import dagster as dg
import pyarrow as pa

from s3logx_assets.adapters.memory import freed_memory_kept, system_allocator
from s3logx_assets.adapters.scope_state import (
    COUNTED,
    DAILY_USAGE,
    HeldUsage,
    State,
    changed_days,
    groups,
    held_usage,
    is_known,
    read_state,
)
from s3logx_assets.adapters.table_store import LOG_DATE, PART, Columns, TableStore, partition
from s3logx_assets.assets.scope_metadata import summary_metadata, totals_metadata
from s3logx_assets.core.asset_types import AssetTypes
from s3logx_assets.core.concurrency import mapped
from s3logx_assets.core.digests import text_digest
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.schemas import SUMMARIES as SCHEMA
from s3logx_assets.core.schemas import TOTALS as TOTALS_SCHEMA
from s3logx_assets.core.scope_versions import NOTHING, Group, Version, exchanged, month_of
from s3logx_assets.core.scopes import ARCHIVE
from s3logx_assets.core.summaries import (
    EMPTY,
    Outline,
    ScopeTables,
    SplitTables,
    added_up,
    flattened,
    summarise,
    summarise_split,
    totals,
    unflattened,
)
from s3logx_assets.metadata import column_schema
from s3logx_assets.partitions import SCOPE, SCOPES
from s3logx_assets.resources import Rules
from s3logx_assets.retries import POLICY, told

T = TypeVar("T")

SUMMARIES, TOTALS = "summaries", "totals"
# The two files of a scope's summary, which add up to it: a new date rewrites the smaller one alone.
NEWEST, EARLIER = "newest_month", "earlier_months"
# All that a part holds: which dimension a row is of is told by the numbers of rows in the record.
ROWS = [name for name in SCHEMA.names if name != "dimension"]


def scope_partition(scope: str) -> str:
    """The folder name of a scope."""
    return f"{SCOPE}={scope}"


@dataclass(frozen=True)
class Plan:
    """The version that each scope should have, which scopes are out of date, and which have no rows any more."""

    versions: Mapping[str, Version]
    stale: list[str]
    vanished: list[str]


def plan(store: TableStore, rules: Rules) -> Plan:
    """What has to be updated, going by what was counted last and what is news since. Opens the news alone, as a rule."""
    state = read_state(store)
    days = changed_days(store, state)
    versions = None
    if is_known(store, state, days):
        counted = [day for day in days if day in state.days]
        gone = chain.from_iterable(store.each(partial(groups, store, COUNTED), counted))
        new = chain.from_iterable(store.each(partial(groups, store, DAILY_USAGE), days))
        versions = exchanged(state.scopes, gone, new)
    if versions is None:
        every_day = store.partitions(DAILY_USAGE, LOG_DATE)
        versions = _from_nothing(store.each(partial(groups, store, DAILY_USAGE), every_day))
    return _plan(store, rules, state, versions)


def plan_of(usage: HeldUsage, rules: Rules) -> Plan:
    """The same for usage that is held."""
    versions = None
    if usage.is_known:
        gone = chain.from_iterable(usage.store.each(usage.counted_groups, usage.news))
        new = chain.from_iterable(usage.store.each(usage.present_groups, usage.news))
        versions = exchanged(usage.state.scopes, gone, new)
    return _plan(usage.store, rules, usage.state, true_versions(usage) if versions is None else versions)


def true_versions(usage: HeldUsage) -> dict[str, Version]:
    """The version of each scope, from the groups of all dates and whatever was counted before."""
    return _from_nothing(usage.store.each(usage.present_groups, usage.days))


def _from_nothing(every_group: Iterable[list[tuple[str, Group]]]) -> dict[str, Version]:
    versions = exchanged({}, (), chain.from_iterable(every_group))
    assert versions is not None, "where nothing goes, every newest month has rows"
    return versions


def _plan(store: TableStore, rules: Rules, state: State, versions: Mapping[str, Version]) -> Plan:
    kept = [set(store.partitions(asset, SCOPE)) for asset in (SUMMARIES, TOTALS)]
    counted = state.scopes if state.types == rules.asset_types.digest else {}
    stale = [
        scope
        for scope, version in versions.items()
        if counted.get(scope) != version or not all(scope in scopes for scopes in kept)
    ]
    return Plan(versions, stale, sorted(set().union(*kept) - set(versions)))


def present_cutoff(store: TableStore, rules: Rules) -> date | None:
    """The last event date that counts, by the newest log date that was extracted from at least one log file; None
    without one."""
    for day in reversed(store.partitions("extracted_logs", LOG_DATE)):
        record = store.record("extracted_logs", partition(day))
        if record is not None and record["counts"]["files"]:
            return rules.cutoff(date.fromisoformat(day))
    return None


@dataclass(frozen=True)
class Stored:
    """What was stored of a scope: its totals, and the data version of each asset that was made."""

    store: TableStore
    scope: str
    totals: pa.Table
    versions: Mapping[str, str]

    def events(self) -> Iterator[dg.AssetMaterialization]:
        """The materialisations, with what people read of them."""
        name = scope_partition(self.scope)
        tables: list[ScopeTables] = []
        if SUMMARIES in self.versions:
            parts = [self.store.read_whole(SUMMARIES, name, part, ROWS) for part in (NEWEST, EARLIER)]
            tables = [unflattened(rows, record["figures"]["rows"]) for rows, record in filter(None, parts)]
        for asset, version in self.versions.items():
            if asset == SUMMARIES:
                metadata = summary_metadata(tables, self.store.uri(asset, name, None))
            else:
                metadata = totals_metadata(self.totals, tables, self.store.uri(asset, name))
            yield dg.AssetMaterialization(
                asset, partition=self.scope, metadata=metadata, tags={"dagster/data_version": version}
            )


def make_scopes(
    usage: HeldUsage, rules: Rules, versions: Mapping[str, Version], scopes: Collection[str], wanted: Collection[str]
) -> Iterator[Stored]:
    """Makes the tables of `scopes` anew, those of the assets in `wanted`, in one pass over the daily usage."""
    if not scopes:
        return
    wanted_versions = {scope: versions.get(scope, Version("", NOTHING, NOTHING)) for scope in scopes}
    months = {scope: version.month for scope, version in wanted_versions.items()}
    workers = rules.settings.workers
    days = mapped(lambda day: (usage.present(day), month_of(day)), usage.days, workers)
    with freed_memory_kept():
        made = summarise_split(days, months, rules.asset_types, workers)

    def stored(scope: str) -> Stored:
        tables = made.pop(scope)
        usage.confirm()
        writer = _Writer(usage.store, rules, scope, wanted_versions[scope])
        if SUMMARIES not in wanted:
            return writer.finished(totals(tables.newest, tables.earlier), wanted)
        earlier = writer.write_earlier(tables.earlier)
        return writer.finished(totals(writer.write_newest(tables.newest), earlier), wanted)

    yield from mapped(stored, sorted(made), workers)


def bring_up_to_date(usage: HeldUsage, rules: Rules, found: Plan) -> Iterator[Stored]:
    """Adds the news to the scopes that they touch, and makes those anew to which they cannot be added."""
    left = []
    with system_allocator():
        for scope, stored in _added(usage, rules, found):
            if stored is None:
                left.append(scope)
            else:
                yield stored
    yield from make_scopes(usage, rules, found.versions, left, (SUMMARIES, TOTALS))
    usage.settle(found.versions, rules.asset_types.digest)


def _added(usage: HeldUsage, rules: Rules, found: Plan) -> Iterator[tuple[str, Stored | None]]:
    """Each stale scope as it is with the news, or None where the news cannot be added to it."""
    state, types, workers = usage.state, rules.asset_types, rules.settings.workers
    possible = state.types == types.digest and usage.is_known
    if not state.scopes or not possible:
        yield from ((scope, None) for scope in found.stale)
        return
    news = _news(usage, rules, found.stale)
    changes = {scope: _Change.of(state.scopes.get(scope), found.versions[scope]) for scope in found.stale}
    read = mapped(lambda scope: changes[scope].read(usage.store, rules, scope), found.stale, workers)
    before = dict(zip(found.stale, read, strict=True))
    kept = {scope: (changes[scope], tables) for scope, tables in before.items() if tables is not None}
    try:
        newest, earlier = _sums(kept, news, found.versions, types)
    except StoreError:
        # Some file holds other numbers than were written and reads well all the same, and so it would for ever.
        yield from ((scope, None) for scope in found.stale)
        return

    def stored(scope: str) -> Stored | None:
        if scope not in kept:
            return None
        usage.confirm()
        writer = _Writer(usage.store, rules, scope, found.versions[scope])
        earlier_months = kept[scope][1].earlier
        if not isinstance(earlier_months, Outline):
            earlier_months = writer.write_earlier(earlier[scope])
        return writer.finished(totals(writer.write_newest(newest[scope]), earlier_months), (SUMMARIES, TOTALS))

    # The archive is by far the largest: begun first, it does not keep the others waiting at the end.
    scopes = sorted(found.stale, key=lambda scope: (scope != ARCHIVE, scope))
    yield from zip(scopes, mapped(stored, scopes, workers), strict=True)


class _Before(NamedTuple):
    """A scope as it was counted: its newest month, and the months before, of which the outline is enough where they do
    not change."""

    newest: ScopeTables
    earlier: ScopeTables | Outline


class _Change(NamedTuple):
    """What the news do to a scope: the version that it was counted by, whether its newest month is another one now,
    whether the part of the earlier months changes, and whether any of this can be added at all."""

    counted: Version
    rolled: bool
    earlier: bool
    possible: bool

    @staticmethod
    def of(counted: Version | None, version: Version) -> "_Change":
        """From what was counted to `version`."""
        before = counted or Version("", NOTHING, NOTHING)
        rolled = version.month > before.month
        return _Change(before, rolled, before.earlier != version.earlier, version.month >= before.month)

    def read(self, store: TableStore, rules: Rules, scope: str) -> _Before | None:
        """The scope as it was counted, or None where its files are not so, or the change cannot be added."""
        if not self.possible:
            return None
        newest = _part(store, rules, scope, NEWEST, self.counted.newest)
        earlier = (_part if self.earlier else _outline)(store, rules, scope, EARLIER, self.counted.earlier)
        return _Before(newest, earlier) if newest is not None and earlier is not None else None


def _sums(
    kept: Mapping[str, tuple[_Change, _Before]],
    news: Mapping[str, Mapping[str, ScopeTables]],
    versions: Mapping[str, Version],
    types: AssetTypes,
) -> tuple[dict[str, ScopeTables], dict[str, ScopeTables]]:
    """The newest month of each of the `kept` scopes with the news, and the months before of those where they change. Raises
    StoreError where more is taken off than was ever counted."""
    newest = added_up(
        [
            (1, {scope: tables.newest for scope, (change, tables) in kept.items() if not change.rolled}),
            *((1, {scope: news[month][scope] for scope in kept if versions[scope].month == month}) for month in news),
        ],
        types,
    )
    months_before = {
        scope: tables.earlier for scope, (_, tables) in kept.items() if isinstance(tables.earlier, ScopeTables)
    }
    earlier = added_up(
        [
            (1, months_before),
            (1, {scope: tables.newest for scope, (change, tables) in kept.items() if change.rolled}),
            *((1, {scope: news[month][scope] for scope in kept if versions[scope].month > month}) for month in news),
        ],
        types,
    )
    return newest, earlier


def _news(usage: HeldUsage, rules: Rules, scopes: Collection[str]) -> dict[str, dict[str, ScopeTables]]:
    """By log month: what each scope has more there, or less, than it counted."""
    types, workers = rules.asset_types, rules.settings.workers
    news = {}
    for month, days in groupby(usage.news, month_of):
        changed = list(days)
        new = map(usage.present, (day for day in changed if usage.news[day] is not None))
        news[month] = summarise(new, scopes, types, workers)
        old = [day for day in changed if day in usage.state.days]
        if old:
            before = summarise(map(usage.counted, old), scopes, types, workers)
            news[month] = added_up([(1, news[month]), (-1, before)], types, whole=False)
    return news


def _part(store: TableStore, rules: Rules, scope: str, part: str, version: str) -> ScopeTables | None:
    """A part of a scope's summary, if it is whole and of that version and these asset types; else None."""
    return _stored_part(
        store, rules, scope, part, version, ROWS, lambda rows, figures: unflattened(rows, figures["rows"]), EMPTY
    )


def _outline(store: TableStore, rules: Rules, scope: str, part: str, version: str) -> Outline | None:
    """The outline of the same, on the same terms."""
    return _stored_part(store, rules, scope, part, version, _outlined, Outline.stored, Outline.of(EMPTY))


def _outlined(record: Mapping[str, Any]) -> list[str]:
    return Outline.columns(record["figures"])


def _stored_part(
    store: TableStore,
    rules: Rules,
    scope: str,
    part: str,
    version: str,
    columns: Columns,
    read: Callable[[pa.Table, Mapping[str, Any]], T],
    nothing: T,
) -> T | None:
    try:
        found = store.read_whole(SUMMARIES, scope_partition(scope), part, columns)
        if found is None:
            return nothing if version == NOTHING else None
        rows, record = found
        return read(rows, record["figures"]) if record["inputs"] == _inputs(rules, version) else None
    except (StoreError, KeyError, TypeError, ValueError):
        return None


def _inputs(rules: Rules, version: str) -> dict[str, str]:
    """What the record of a part says that it was made from."""
    return {DAILY_USAGE: version, "asset_types": rules.asset_types.digest}


class _Writer:
    """Stores the tables of one scope. A data version is a digest of what a table is made from, whose versions are
    digests of rows in turn: the table need not be read again for it."""

    def __init__(self, store: TableStore, rules: Rules, scope: str, version: Version) -> None:
        self._store, self._rules, self._scope, self._version = store, rules, scope, version

    def write_newest(self, tables: ScopeTables) -> Outline:
        return self._write_part(NEWEST, tables, self._version.newest)

    def write_earlier(self, tables: ScopeTables) -> Outline:
        if self._version.earlier == NOTHING:
            self._store.remove_part(SUMMARIES, scope_partition(self._scope), EARLIER)
            return Outline.of(EMPTY)
        return self._write_part(EARLIER, tables, self._version.earlier)

    def finished(self, row: pa.Table, wanted: Collection[str]) -> Stored:
        """Stores the totals too, if they are wanted, and says what was made."""
        if TOTALS in wanted:
            self._write(TOTALS, PART, row, *self._version[1:])
        versions = {
            asset: self._data_version(asset, *self._version) for asset in (SUMMARIES, TOTALS) if asset in wanted
        }
        return Stored(self._store, self._scope, row, versions)

    def _write_part(self, part: str, tables: ScopeTables, version: str) -> Outline:
        outline = Outline.of(tables)
        self._write(SUMMARIES, part, flattened(tables), version, figures=outline.figures)
        return outline

    def _write(self, asset: str, part: str, table: pa.Table, *versions: str, **said: Any) -> None:
        inputs = _inputs(self._rules, " ".join(versions))
        record = {"data_version": self._data_version(asset, part, *versions), "inputs": inputs, **said}
        # The state of all scopes is settled after them: a file that is not as it says is noticed, and made anew.
        self._store.write(asset, scope_partition(self._scope), table, record, part=part, settled=False)

    def _data_version(self, *parts: str) -> str:
        return text_digest(self._rules.asset_types.digest, *parts)


def read_scope(store: TableStore, rules: Rules, scope: str, version: Version) -> SplitTables | None:
    """The exact tables of a scope, if its files and its totals' are whole and of that version; else None."""
    newest = _part(store, rules, scope, NEWEST, version.newest)
    earlier = _part(store, rules, scope, EARLIER, version.earlier)
    try:
        record = store.record(TOTALS, scope_partition(scope)) or {}
    except StoreError:
        return None
    fits = record.get("inputs") == _inputs(rules, f"{version.newest} {version.earlier}")
    return SplitTables(newest, earlier) if fits and newest is not None and earlier is not None else None


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
                metadata=column_schema(SCHEMA),
                description="Exact tables of a scope: by day and asset type, by asset, by region, requesters.",
            ),
            dg.AssetSpec(
                TOTALS,
                deps=[SUMMARIES],
                group_name="summaries",
                kinds={"python", "parquet"},
                partitions_def=SCOPES,
                skippable=True,
                metadata=column_schema(TOTALS_SCHEMA),
                description="Exact totals of a scope.",
            ),
        ],
        can_subset=True,
        backfill_policy=backfill_policy,
        retry_policy=POLICY,
    )
    def scopes(
        context: dg.AssetExecutionContext, private_store: dg.ResourceParam[TableStore], rules: dg.ResourceParam[Rules]
    ) -> Iterator[dg.AssetMaterialization]:
        wanted = {key.to_user_string() for key in context.selected_asset_keys}
        with told(), held_usage(private_store) as usage:
            versions = plan_of(usage, rules).versions
            for stored in make_scopes(usage, rules, versions, context.partition_keys, wanted):
                yield from stored.events()

    return scopes


@dg.op(retry_policy=POLICY)
def update_stale_scopes(
    context: dg.OpExecutionContext, private_store: dg.ResourceParam[TableStore], rules: dg.ResourceParam[Rules]
) -> None:
    """Finds every scope whose rows changed, makes its tables, and forgets the scopes that no row maps to any more."""
    with told(), held_usage(private_store) as usage:
        found = plan_of(usage, rules)
        context.instance.add_dynamic_partitions(str(SCOPES.name), sorted(found.versions))
        for scope in found.vanished:
            context.log.warning(f"scope {scope} has no rows any more; it leaves the store and the next release")
            context.instance.delete_dynamic_partition(str(SCOPES.name), scope)
            for asset in (SUMMARIES, TOTALS):
                private_store.remove(asset, scope_partition(scope))
        context.log.info(f"{len(found.stale)} of {len(found.versions)} scopes are out of date")
        for stored in bring_up_to_date(usage, rules, found):
            for event in stored.events():
                context.log_event(event)


@dg.job
def update_scopes() -> None:
    """Updates every scope that is out of date; no scope needs to be named."""
    update_stale_scopes()
