"""Asking for runs of dates: in as few runs as possible, each once, and not while one is under way. What asks, and why, is the
sensors' and schedules' business.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any

import dagster as dg
from dagster._core.storage.tags import RUN_KEY_TAG, SCHEDULE_NAME_TAG

FIRST, LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_ONE = "dagster/partition"
# What the key of a run that ended without a word is replaced by, so that the same may be asked for again.
GIVEN_BACK = "ended"
# A run of more dates than this is asked for as several.
MOST_DATES_A_RUN = 366
_UNDER_WAY = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def requests_for(
    wanted: Mapping[date, str], keys: Sequence[dg.AssetKey], today: date, at_most: int = MOST_DATES_A_RUN
) -> list[dg.RunRequest]:
    """The runs of the assets `keys` over the `wanted` dates (ascending), each with a digest of why it is wanted: dates in a
    row go together, `at_most` in one run."""
    return [
        dg.RunRequest(
            run_key=run_key_of(wanted, first, last, today), asset_selection=keys, tags=range_tags(first, last)
        )
        for first, last in contiguous(list(wanted), at_most)
    ]


def asked_for(instance: dg.DagsterInstance, wanted: Mapping[date, str], keys: Sequence[dg.AssetKey]) -> dict[str, Any]:
    """Of a sensor's result: the runs over the `wanted` dates that no run is under way for, or the reason why there are
    none."""
    under_way = days_under_way(instance, keys[0])
    left = {day: digest for day, digest in wanted.items() if day not in under_way}
    if not left:
        return {"skip_reason": f"runs over the {len(wanted)} dates that are out of date are under way"}
    return {"run_requests": requests_for(left, keys, datetime.now(UTC).date())}


def contiguous(days: Sequence[date], at_most: int = MOST_DATES_A_RUN) -> list[tuple[date, date]]:
    """(first, last) of each run of consecutive dates in ascending `days`, of `at_most` dates each."""
    runs = []
    for _, run in groupby(enumerate(days), key=lambda item: item[1].toordinal() - item[0]):
        together = [day for _, day in run]
        pieces = [together[start : start + at_most] for start in range(0, len(together), at_most)]
        runs += [(piece[0], piece[-1]) for piece in pieces]
    return runs


def run_key_of(wanted: Mapping[date, str], first: date, last: date, today: date) -> str:
    """The key of a run over some of the `wanted` dates: the same is asked for once a day, so a date that fails is tried
    again, but not for ever in a row."""
    return run_key(f"{today}", *(f"{day} {digest}" for day, digest in wanted.items() if first <= day <= last))


def run_key(*parts: str) -> str:
    """A key of 32 hexadecimal digits."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def range_tags(first: date, last: date) -> dict[str, str]:
    """The tags of a run over a range of dates."""
    return {FIRST: first.isoformat(), LAST: last.isoformat()}


def days_under_way(instance: dg.DagsterInstance, key: dg.AssetKey) -> set[date]:
    """The dates that a run which has not ended makes the asset `key` for."""
    return _days_of(instance.get_runs(dg.RunsFilter(statuses=list(_UNDER_WAY))), key)


def days_run_since(instance: dg.DagsterInstance, key: dg.AssetKey, moment: datetime) -> set[date]:
    """The dates for which a run that was asked for after `moment` has made the asset `key`, or failed to. One that was
    killed and has given its key back is none."""
    ended = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE], created_after=moment)
    return _days_of((run for run in instance.get_runs(ended) if not _has_given_back(run)), key)


def _has_given_back(run: dg.DagsterRun) -> bool:
    return run.tags.get(RUN_KEY_TAG, "").startswith(GIVEN_BACK)


def _days_of(runs: Iterable[dg.DagsterRun], key: dg.AssetKey) -> set[date]:
    days: set[date] = set()
    for run in runs:
        if run.asset_selection is not None and key not in run.asset_selection:
            continue
        ends = (run.tags.get(FIRST, run.tags.get(_ONE)), run.tags.get(LAST, run.tags.get(_ONE)))
        try:
            first, last = (date.fromisoformat(end or "") for end in ends)
        except ValueError:
            continue  # a run of scopes, or of all there is
        days |= set(days_between(first, last))
    return days


def is_under_way(instance: dg.DagsterInstance, job: str, keys: Collection[dg.AssetKey]) -> bool:
    """Whether a run of the job, or one that was asked for any of the assets `keys`, has not ended."""
    runs = instance.get_runs(dg.RunsFilter(statuses=list(_UNDER_WAY)))
    return any(run.job_name == job or not (run.asset_selection or set()).isdisjoint(keys) for run in runs)


def has_run_since(instance: dg.DagsterInstance, schedule: str, moment: datetime) -> bool:
    """Whether a run that a schedule asked for after `moment` has succeeded, or has not ended."""
    statuses = [dg.DagsterRunStatus.SUCCESS, *_UNDER_WAY]
    asked = dg.RunsFilter(tags={SCHEDULE_NAME_TAG: schedule}, statuses=statuses, created_after=moment)
    return bool(instance.get_runs(asked, limit=1))


def days_between(first: date, last: date) -> Iterator[date]:
    """All dates from `first` to `last`."""
    return (first + timedelta(days=number) for number in range((last - first).days + 1))


def days_made_since(
    instance: dg.DagsterInstance, key: dg.AssetKey, days: Collection[date], moment: datetime
) -> set[date]:
    """Those of `days` for which the asset `key` was made last by a run that started after `moment`."""
    return {day for day in days if (started := _run_start(instance, key, day)) and started > moment.timestamp()}


def _run_start(instance: dg.DagsterInstance, key: dg.AssetKey, day: date) -> float | None:
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[day.isoformat()])
    for made in instance.fetch_materializations(wanted, limit=1).records:
        run = instance.get_run_record_by_id(made.run_id)
        return run.start_time if run is not None else None
    return None
