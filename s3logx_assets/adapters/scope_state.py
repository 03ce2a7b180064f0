"""What the scopes were made from: the daily usage that they have counted, held as it was, and their versions by it.

    private/summarised_usage/log_date=YYYY-MM-DD/part-0.parquet   the daily usage that was counted: a hard link or a copy
    private/summarised_usage/state.json                           versions of these dates and of the scopes
    private/.usage_news/log_date=…                                the daily usage of a running update, held still

An update writes the state first, then puts what it held in the place of what was counted. One that fails or is killed
between the two leaves what it held, and the next one ends that. A counted file that all the same is not of the version
that the state says, or is damaged, is never read for it: it is removed, and everything is counted anew.

So one listing tells which dates are news, and a date that changes can be taken off the scopes that counted it. All of
it can be deleted: the next update then counts everything anew. What a version is and what becomes of the news does not
belong here.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from s3logx_assets.adapters.files import Confirm
from s3logx_assets.adapters.table_store import LOG_DATE, TableStore, partition
from s3logx_assets.core.digests import text_digest
from s3logx_assets.core.errors import StoreBusyError, StoreError
from s3logx_assets.core.scope_versions import Group, Version
from s3logx_assets.core.usage import content_digests

T = TypeVar("T")

DAILY_USAGE = "daily_usage"
# The section of a daily usage with its groups: [dataset, event date, digest of the rows] each.
DIGESTS = "digests"
COUNTED = "summarised_usage"
_NEWS = ".usage_news"
_STATE = "state.json"
UPDATE_COMMAND = "dagster job execute -m s3logx_assets.definitions -j update_scopes"


@dataclass(frozen=True)
class State:
    """The data version of each counted log date, the tag that its daily usage had, the version of each scope that they
    give, and the digest of the asset types that they were counted by."""

    days: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    scopes: Mapping[str, Version] = field(default_factory=dict)
    types: str = ""


def read_state(store: TableStore) -> State:
    """The state as it was last written; an empty one where there is none or it is damaged."""
    try:
        content = json.loads(store.read_state(COUNTED, _STATE) or b"{}")
        scopes = {scope: Version(*version) for scope, version in content["scopes"].items()}
        state = State(content["days"], content["tags"], scopes, content["types"])
        return state if content["digest"] == _digest(state) else State()
    except (StoreError, ValueError, KeyError, TypeError):
        return State()


def write_state(store: TableStore, state: State) -> None:
    """Replaces the state. Raises StoreError."""
    content = {**vars(state), "digest": _digest(state)}
    store.write_state(COUNTED, _STATE, json.dumps(content).encode())


def _digest(state: State) -> str:
    return text_digest(json.dumps(vars(state), sort_keys=True))


def changed_days(store: TableStore, state: State) -> list[str]:
    """The log dates whose daily usage is not the one that was counted, those that are gone among them; ascending."""
    return _changed(store, state, store.tags(DAILY_USAGE, LOG_DATE))


def _changed(store: TableStore, state: State, tags: Mapping[str, str]) -> list[str]:
    counted = {*store.partitions(COUNTED, LOG_DATE)}
    days = {*tags, *counted, *state.days}
    return sorted(day for day in days if day not in counted or tags.get(day, "") != state.tags.get(day))


def serialized_groups(usage: pa.Table) -> bytes:
    """The section DIGESTS of DAILY_USAGE rows, which `groups` reads."""
    found = [(dataset, event_date.isoformat(), digest) for dataset, event_date, digest in content_digests(usage)]
    return json.dumps(found).encode()


def groups(store: TableStore, asset: str, day: str) -> list[tuple[str, Group]]:
    """The groups of a date's usage, each with the date; none where there is no such file."""
    return _groups(store, asset, day)[0]


def _groups(store: TableStore, asset: str, day: str) -> tuple[list[tuple[str, Group]], str | None]:
    """The same, and the data version."""
    found = version(store, asset, day)
    if found is None:
        return [], None
    of_day: list[list[Any]] = json.loads(store.section(asset, partition(day), DIGESTS))
    return [(day, (dataset, event_date, digest)) for dataset, event_date, digest in of_day], found


def _rows(store: TableStore, asset: str, day: str) -> tuple[pa.Table | None, str | None]:
    """DAILY_USAGE of a date, texts dictionary-encoded, and the data version."""
    found = store.read_whole(asset, partition(day), encoded=("dataset", "asset_path", "region"))
    return (None, None) if found is None else (found[0], str(found[1]["data_version"]))


def version(store: TableStore, asset: str, day: str) -> str | None:
    """The data version of a date's usage, None where there is no such file."""
    record = store.record(asset, partition(day))
    return None if record is None else str(record["data_version"])


def is_known(store: TableStore, state: State, days: Iterable[str]) -> bool:
    """Whether what the scopes counted of `days` is there as they counted it, so that it can be taken off them again."""
    return all(store.each(lambda day: _readable_version(store, COUNTED, day) == state.days.get(day, ""), days))


def _readable_version(store: TableStore, asset: str, day: str) -> str | None:
    """The data version of a date's usage, empty where there is no such file, None where it is damaged."""
    try:
        return version(store, asset, day) or ""
    except StoreError:
        return None


@dataclass(frozen=True)
class HeldUsage:
    """The daily usage of all log dates, which does not change while it is held.

    `news`: the dates that differ from what was counted, with the data version of the present usage, None where there is
    none any more, and their `tags`. All other dates are as they were counted. `is_known`: whether what was counted of the
    news can be taken off the scopes; where it cannot, all dates are news. `confirm` raises StoreBusyError where it is held
    no longer, and so does whatever reads a file that is not the one that was held or counted.
    """

    store: TableStore
    state: State
    news: Mapping[str, str | None]
    tags: Mapping[str, str]
    is_known: bool
    confirm: Confirm

    @property
    def days(self) -> list[str]:
        """All log dates that have daily usage, ascending."""
        gone = {day for day, present in self.news.items() if present is None}
        return sorted({*self.state.days, *self.news} - gone)

    def present(self, day: str) -> pa.Table:
        """DAILY_USAGE of a date, texts dictionary-encoded. Raises StoreError."""
        return self._present(day, _rows)

    def counted(self, day: str) -> pa.Table:
        """The same as the scopes counted it."""
        return self._counted(day, _rows)

    def present_groups(self, day: str) -> list[tuple[str, Group]]:
        """The groups of a date; none where there is no usage any more."""
        return self._present(day, _groups)

    def counted_groups(self, day: str) -> list[tuple[str, Group]]:
        """The groups of a date as the scopes counted them."""
        return self._counted(day, _groups)

    def settle(self, scopes: Mapping[str, Version], types: str) -> None:
        """What is held has now been counted, by these asset types, which gave the scopes these versions. Raises
        StoreError."""
        days = {day: version for day, version in {**self.state.days, **self.news}.items() if version is not None}
        self.store.settle()
        self.confirm()
        tags = {day: tag for day, tag in {**self.state.tags, **self.tags}.items() if day in days}
        write_state(self.store, State(days, tags, scopes, types))
        _take_over(self.store, self.news, self.confirm)

    def _present(self, day: str, read: Callable[[TableStore, str, str], tuple[T, str | None]]) -> T:
        if day not in self.news:
            return self._counted(day, read)
        found, version = _of_daily_usage(self.store, day, read)
        if version != self.news[day]:
            raise StoreBusyError(f"the usage of {day} that was held was replaced meanwhile; run again")
        return found

    def _counted(self, day: str, read: Callable[[TableStore, str, str], tuple[T, str | None]]) -> T:
        try:
            found, version = read(self.store, COUNTED, day)
            if version == self.state.days.get(day):
                return found
        except StoreError:
            pass
        self.confirm()
        self.store.remove(COUNTED, partition(day))
        raise StoreBusyError(
            f"{self.store.uri(COUNTED, partition(day))} was not what the scopes counted; it is removed; run again"
        )


@contextmanager
def held_usage(store: TableStore) -> Iterator[HeldUsage]:
    """Holds the daily usage still; one at a time, others wait. Raises StoreError, StoreBusyError."""
    with store.in_use(), store.locked(COUNTED) as confirm:
        state = read_state(store)
        _end_broken_update(store, state, confirm)
        tags = store.tags(DAILY_USAGE, LOG_DATE)
        days = _changed(store, state, tags)
        known = is_known(store, state, days)
        if not known:
            days = sorted({*tags, *store.partitions(COUNTED, LOG_DATE), *state.days})
        present = [day for day in days if day in tags]
        _done(store.each(lambda day: store.hold(DAILY_USAGE, _NEWS, partition(day), tags[day]), present))
        versions = store.each(lambda day: _of_daily_usage(store, day, version), present)
        news = {**dict.fromkeys(days), **dict(zip(present, versions, strict=True))}
        yield HeldUsage(store, state, news, {day: tags[day] for day in present}, known, confirm)
        # Where the block failed it may have failed between the state and what was counted: the next update ends that.
        with suppress(StoreBusyError):  # then they are somebody else's news by now
            confirm()
            store.remove(_NEWS)


def _end_broken_update(store: TableStore, state: State, confirm: Confirm) -> None:
    """Of an update that failed or was killed: what the state calls counted takes its place, the rest goes."""
    held = store.partitions(_NEWS, LOG_DATE)
    if held:
        versions = zip(held, store.each(lambda day: _readable_version(store, _NEWS, day), held), strict=True)
        counted = {day: found for day, found in versions if found and found == state.days.get(day)}
        _take_over(store, counted, confirm)
        confirm()
        store.remove(_NEWS)


def _of_daily_usage(store: TableStore, day: str, read: Callable[[TableStore, str, str], T]) -> T:
    """What is read of a date's usage that is held. Raises StoreError, which names where it comes from."""
    try:
        return read(store, _NEWS, day)
    except StoreError:
        place = store.uri(DAILY_USAGE, partition(day))
        raise StoreError(f"{place} cannot be read; materialise {DAILY_USAGE} for {day} again") from None


def _take_over(store: TableStore, news: Mapping[str, str | None], confirm: Confirm) -> None:
    """What was held is what was counted; of dates with None nothing is."""

    def take(day: str) -> None:
        confirm()
        if news[day] is None:
            store.remove(COUNTED, partition(day))
        else:
            store.move(_NEWS, COUNTED, partition(day))

    _done(store.each(take, news))


def _done(steps: Iterable[None]) -> None:
    for _ in steps:
        pass
