"""`publication`: the release of one consistent state of the store, or nothing.

Every scope must have been made from the daily usage as it is, and every date's tables from one another. One run at a time is at
it, or an older release could take the place of a newer one. What a release holds is told in `release`.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.adapters.closed_periods import RELEASED_USAGE, Period, rows_of
from s3logx_assets.adapters.geolocation import Geolocator
from s3logx_assets.adapters.release_store import ReleaseStore
from s3logx_assets.adapters.scope_state import DAILY_USAGE, UPDATE_COMMAND, HeldUsage, held_usage
from s3logx_assets.adapters.table_store import LOG_DATE, TableStore, partition
from s3logx_assets.assets.daily import inputs_of
from s3logx_assets.assets.periods import Terms, close_periods
from s3logx_assets.assets.release import Before, Release, compatible_release, strict_release
from s3logx_assets.assets.share import refuse_leaks
from s3logx_assets.assets.summaries import SUMMARIES, TOTALS, Plan, plan_of, present_cutoff, read_scope, true_versions
from s3logx_assets.core import public_tables
from s3logx_assets.core.errors import (
    DisclosureError,
    MixedDateError,
    ReleaseError,
    S3logxError,
    StoreBusyError,
    StoreError,
    StoreUnavailable,
)
from s3logx_assets.core.privacy import attack
from s3logx_assets.core.privacy.released import ReleasedScope, released_scopes, visible
from s3logx_assets.core.privacy.strict import WAITING
from s3logx_assets.core.regions import country_of
from s3logx_assets.core.schemas import DAILY_TABLES
from s3logx_assets.core.scopes import ARCHIVE
from s3logx_assets.core.summaries import ScopeTables, SplitTables, added_up, summarise
from s3logx_assets.metadata import markdown_table
from s3logx_assets.partitions import SCOPE
from s3logx_assets.resources import Keyring, Rules
from s3logx_assets.retries import POLICY, told
from s3logx_assets.run_requests import days_under_way

_LOG = logging.getLogger(__name__)
WITHSTANDS = "withstands_attack"
# Of the private store.
_LOCK = "publication"
_SHOWN = 3
_SCOPE_COMMAND = f"dagster asset materialize -m s3logx_assets.definitions --select {SUMMARIES},{TOTALS}"


@dataclass(frozen=True)
class ExactScopes:
    """The exact tables of every scope, which belong together, the last event date that counts, and the log dates that were
    divided by another dataset rule than the present one."""

    tables: Mapping[str, SplitTables]
    cutoff: date
    dates_of_another_rule: list[str]


def consistent_scopes(usage: HeldUsage, rules: Rules) -> ExactScopes:
    """The scopes, if they and the dates belong together. Raises ReleaseError with the command that mends it."""
    cutoff, others = consistent_dates(usage.store, rules)
    store, versions = usage.store, true_versions(usage)
    if not versions:
        raise _nothing()
    read = store.each(lambda scope: read_scope(store, rules, scope, versions[scope]), versions)
    tables = dict(zip(versions, read, strict=True))
    found = {scope: each for scope, each in tables.items() if each is not None}
    vanished = set(store.partitions(SUMMARIES, SCOPE)) - set(versions)
    if len(found) < len(tables) or vanished:
        raise _refusal(sorted({*tables, *vanished} - set(found)), plan_of(usage, rules))
    return ExactScopes(found, cutoff, others)


def consistent_dates(store: TableStore, rules: Rules) -> tuple[date, list[str]]:
    """The last event date that counts, and the log dates that were divided by another dataset rule, if each date's tables belong
    together. Raises ReleaseError with the command that mends it."""
    cutoff = present_cutoff(store, rules)
    days = list(store.tags("extracted_logs", LOG_DATE))
    if not days or cutoff is None:
        raise _nothing()
    for _ in store.each(partial(_refuse_mixed, store), days):
        pass
    others = dates_of_another_rule(store, rules)
    if others and rules.settings.dataset_mapping is None:  # a mapping grows; not every entry concerns every date
        raise ReleaseError(
            f"daily_usage of {len(others)} dates was made by another dataset rule than the settings': dagster asset "
            f"materialize -m s3logx_assets.definitions --select daily_usage --partition-range {others[0]}...{others[-1]}"
        )
    return cutoff, others


def _nothing() -> ReleaseError:
    return ReleaseError("there is nothing to publish yet; materialise the daily assets first")


def _refuse_mixed(store: TableStore, day: str) -> None:
    """Raises MixedDateError where a date's tables were not made from one another."""
    try:
        inputs_of(store, date.fromisoformat(day), *DAILY_TABLES)
    except StoreError as error:
        raise MixedDateError(
            f"{error}: dagster asset materialize -m s3logx_assets.definitions "
            f"--select {','.join(DAILY_TABLES)} --partition-range {day}...{day}",
            date.fromisoformat(day),
        ) from None


def _refusal(scopes: list[str], known: Plan) -> ReleaseError:
    """Of scopes that cannot be released as they are. An update finds those that the usage has moved on from; a file that
    was damaged since it was written does not show until it is read."""
    shown = ", ".join(scopes[:_SHOWN]) + (", …" if len(scopes) > _SHOWN else "")
    damaged = [scope for scope in scopes if scope not in {*known.stale, *known.vanished}]
    if damaged:
        commands = "; ".join(f"{_SCOPE_COMMAND} --partition {scope}" for scope in damaged[:_SHOWN])
        return ReleaseError(f"the tables of {len(scopes)} scopes are damaged ({shown}); make them anew: {commands}")
    return ReleaseError(f"{len(scopes)} scopes are out of date ({shown}); update them first: {UPDATE_COMMAND}")


def dates_of_another_rule(store: TableStore, rules: Rules) -> list[str]:
    """The log dates whose daily usage was made by another rule from key to dataset than the present one, ascending."""
    present = rules.dataset_rule.digest
    days = store.partitions(DAILY_USAGE, LOG_DATE)
    records = store.each(lambda day: store.record(DAILY_USAGE, partition(day)), days)
    found = zip(days, records, strict=True)
    return [day for day, record in found if record and record["inputs"].get("dataset_rule") != present]


def _settled(usage: HeldUsage, rules: Rules, exact: ExactScopes) -> dict[str, ScopeTables]:
    """The tables of each scope without the rows of event dates after the cutoff. What had no other rows disappears."""
    until = exact.cutoff.isoformat()
    groups_by_day = zip(usage.days, usage.store.each(usage.present_groups, usage.days), strict=True)
    late_days = [day for day, groups in groups_by_day if any(group[1] > until for _, group in groups)]
    last = pa.scalar(exact.cutoff, pa.date32())

    def late_rows(day: str) -> pa.Table:
        rows = usage.present(day)
        return rows.filter(pc.greater(rows["event_date"], last))

    types = rules.asset_types
    late = summarise(map(late_rows, late_days), exact.tables, types)
    terms = [
        (1, {scope: tables.newest for scope, tables in exact.tables.items()}),
        (1, {scope: tables.earlier for scope, tables in exact.tables.items()}),
        (-1, late),
    ]
    return {scope: tables for scope, tables in added_up(terms, types).items() if tables.by_day_and_type.num_rows}


def build_release(
    store: TableStore, releases: ReleaseStore, rules: Rules, geolocator: Geolocator, keyring: Keyring
) -> tuple[Release, dict[str, Any]]:
    """The release of the store's present state, and what else is to be told of it, for operators. Raises ReleaseError,
    StoreError, MasterKeyError."""
    strict = rules.settings.policy == "strict"
    before = _before(releases)
    with held_usage(store) as usage:
        if strict:  # goes by the usage alone
            cutoff, others = consistent_dates(store, rules)
            periods = _closed(usage, rules, keyring, cutoff, before)
        else:
            exact = consistent_scopes(usage, rules)
            cutoff, others, scopes = exact.cutoff, exact.dates_of_another_rule, _settled(usage, rules, exact)
        coordinates = _coordinates(store)
    told: dict[str, Any] = {"dates_of_another_dataset_rule": len(others)}
    if not strict:
        if ARCHIVE not in scopes:
            raise ReleaseError(f"nothing is settled yet: all events are later than {cutoff} (S3LOGX_LAG_DAYS)")
        coordinates = _told(coordinates, scopes[ARCHIVE].by_region["region"])
        return compatible_release(scopes, coordinates, cutoff, geolocator.attribution, rules, before), told
    released = released_scopes([period.cells for period in periods], periods[-1].people)
    if ARCHIVE not in released:
        raise ReleaseError(
            f"nothing can be told up to {periods[-1].until}: no dataset has had requests of {rules.settings.min_people} people "
            "(S3LOGX_MIN_PEOPLE). They wait for the next period"
        )
    labels = released[ARCHIVE].by_region["label"]
    coordinates = _told(_with_countries(coordinates, labels.to_pylist(), geolocator), labels)
    release = strict_release(released, periods, coordinates, geolocator.attribution, rules, before)
    _refuse_other_bytes(release, released)
    return release, told | _of_periods(store, periods, released)


def _closed(usage: HeldUsage, rules: Rules, keyring: Keyring, cutoff: date, before: Before) -> list[Period]:
    """The closed periods, at least one. None is closed that an earlier release told otherwise."""
    unit, sealer = rules.settings.release_period, keyring.sealer(_LOG.warning)
    stated = _stated(before)
    terms = Terms(rules.privacy, unit, sealer.key_id, sealer.coin, partial(_refuse_reopened, stated))
    periods = close_periods(usage, terms, cutoff)
    if len(stated) > len(periods):
        raise ReleaseError(
            f"the latest release tells of {len(stated)} closed periods, and there are {len(periods)}: bring private/{RELEASED_USAGE} "
            "back from the backup"
        )
    if not periods:
        raise ReleaseError(
            f"no {unit} is over yet: {cutoff} is the last date that counts as complete (S3LOGX_LAG_DAYS, S3LOGX_RELEASE_PERIOD)"
        )
    return periods


def _stated(before: Before) -> list[str]:
    """The digests of the closed periods that the latest release tells of."""
    try:
        return [each["digest"] for each in json.loads(before.policy or b"{}").get("periods", [])]
    except ValueError:
        return []


def _refuse_reopened(stated: Sequence[str], periods: Sequence[Period]) -> None:
    """Raises ReleaseError where an earlier release told otherwise of the periods, their digests `stated`: what it told is not known any
    more, so whatever is told now could be compared with it."""
    known = [period.digest for period in periods]
    if stated[: len(known)] != known[: len(stated)]:
        raise ReleaseError(
            f"the latest release tells of {len(stated)} closed periods that are not those of private/{RELEASED_USAGE}: bring "
            f"private/{RELEASED_USAGE} back from the backup. Who means to begin anew removes public/, and knows that copies of "
            "the old releases can be compared with the new ones"
        )


def _refuse_other_bytes(release: Release, released: Mapping[str, ReleasedScope]) -> None:
    """Raises ReleaseError where the files do not say what was told: they are read as their readers do."""
    written = attack.read_release(release.files)
    for scope, each in released.items():
        tables = {"day": each.by_day, "asset": each.by_asset, "region": each.by_region}
        size, requests, downloads = each.total
        if written.totals[scope] != (requests, downloads, size) or any(
            sum(row[0] or 0 for row in written.tables[scope].get(name, {}).values())
            != (pc.sum(table["request_count"]).as_py() or 0)
            for name, table in tables.items()
        ):
            raise ReleaseError(
                f"the tables of {scope} were not written as they are told; this is a fault of this program"
            )


def _of_periods(store: TableStore, periods: Sequence[Period], released: Mapping[str, ReleasedScope]) -> dict[str, Any]:
    """What operators are told of the policy's work."""
    waiting = rows_of(store, periods[-1].until, ["request_count", "fate"])
    waiting = waiting.filter(pc.equal(waiting["fate"], WAITING))
    rows = [(line.detail, f"{line.requests:.1%}", f"{line.bytes_sent:.1%}") for line in visible(released)]
    return {
        "periods": len(periods),
        "period_until": str(periods[-1].until),
        "told_in_full_detail": dg.MetadataValue.md(markdown_table(("by", "requests", "bytes"), rows)),
        "requests_waiting": int(pc.sum(waiting["request_count"]).as_py() or 0),
        "late_requests_left_out": sum(period.left_out for period in periods),
    }


def _before(releases: ReleaseStore) -> Before:
    """The latest release, as far as it can be read: what is not there is not compared with."""
    latest = releases.latest()

    def read(name: str) -> bytes | None:
        try:
            return None if latest is None else releases.read(latest, name)
        except StoreUnavailable:
            raise
        except StoreError:
            return None

    return Before(read("totals.json"), read("changes.json"), read(attack.POLICY_FILE))


def _coordinates(store: TableStore) -> pa.Table:
    days = sorted(store.tags("region_coordinates", LOG_DATE))
    oldest_first = store.each(lambda day: store.read("region_coordinates", partition(day)), days)
    return public_tables.latest_coordinates(oldest_first)


def _with_countries(coordinates: pa.Table, labels: Sequence[str], geolocator: Geolocator) -> pa.Table:
    """Also where countries lie into which regions were put together: no address need have had such a label. Only countries
    are asked for, which the packaged table has: it takes no network."""
    known = set(coordinates["region"].to_pylist())
    countries = [label for label in labels if label not in known and country_of(label) == label]
    return public_tables.latest_coordinates([geolocator.coordinates(countries), coordinates])


def _told(coordinates: pa.Table, labels: pa.ChunkedArray) -> pa.Table:
    """Those of the labels that are told: where else somebody was is not told either."""
    return coordinates.filter(pc.is_in(coordinates["region"], labels.combine_chunks()))


@dg.asset(
    deps=[
        dg.AssetDep("totals", partition_mapping=dg.AllPartitionMapping()),
        dg.AssetDep("summaries", partition_mapping=dg.AllPartitionMapping()),
        dg.AssetDep("region_coordinates", partition_mapping=dg.AllPartitionMapping()),
    ],
    group_name="publish",
    kinds={"html", "tsv"},
    retry_policy=POLICY,
    check_specs=[
        dg.AssetCheckSpec(
            WITHSTANDS,
            asset="publication",
            blocking=True,
            description="What each period tells withstands an attacker who has all releases and knows the sizes of all files. "
            "Nothing is released that does not.",
        )
    ],
)
def publication(
    context: dg.AssetExecutionContext,
    private_store: dg.ResourceParam[TableStore],
    public_store: dg.ResourceParam[ReleaseStore],
    geolocator: dg.ResourceParam[Geolocator],
    keyring: dg.ResourceParam[Keyring],
    rules: dg.ResourceParam[Rules],
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster takes no other for an asset with a check
    """The release to share: public tables under the privacy policy, coordinates, and the report."""
    with told(), private_store.locked(_LOCK) as confirm:
        try:
            release, told_of_it = build_release(private_store, public_store, rules, geolocator, keyring)
        except DisclosureError as error:
            context.log_event(dg.AssetCheckEvaluation(context.asset_key, WITHSTANDS, False, {"found": str(error)}))
            raise
        except MixedDateError as error:
            raise _half_way(context.instance, error) from None
        own_names = refuse_leaks(release.files, [*keyring.secrets(), *rules.secrets])
        confirm()  # or this run was thought dead, and a newer release may be out
        public_store.publish(release.release_id, release.files)
    figures = markdown_table(("figure", "value"), release.archive.items())
    return dg.MaterializeResult(
        metadata={
            "in_short": f"{len(release.datasets):,} datasets, {release.in_short}",
            "release": release.release_id,
            "report": dg.MetadataValue.path(public_store.uri(release.release_id, "index.html")),
            "datasets": len(release.datasets),
            "policy": rules.settings.policy,
            **told_of_it,
            "names_like_addresses": own_names,
            "files": len(release.files),
            "bytes": sum(map(len, release.files.values())),
            "archive": dg.MetadataValue.md(figures),
        },
        data_version=dg.DataVersion(release.digest[:32]),
        check_results=[_outcome(rules)],
    )


def _half_way(instance: dg.DagsterInstance, error: MixedDateError) -> S3logxError:
    """What a mixed date is: where a run makes it just now it will soon be whole, and the release is tried again, for
    some minutes; a date takes seconds between its tables."""
    if error.day in days_under_way(instance, dg.AssetKey(DAILY_USAGE)):
        return StoreBusyError(f"a run is under way for {error.day}, and {error}")
    return error


def _outcome(rules: Rules) -> dg.AssetCheckResult:
    """Of a release that went out."""
    if rules.settings.policy == "strict":
        words = "Nothing was found about fewer than {} people, in any period."
        return dg.AssetCheckResult(passed=True, description=words.format(rules.settings.min_people))
    words = "Policy `compatible` does not withstand an attacker: see docs/privacy.md, and S3LOGX_POLICY."
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description=words)
