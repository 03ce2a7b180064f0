"""The periods of policy `strict`: which are over, what each takes of the usage, and that what it tells withstands the attacker.

A period closes when all of its days count as complete. It takes the requests of its days, late ones of days before, and what the
period before it left waiting, and tells what may be told, once: later records go into later periods. What may be told is decided
in `core.privacy.strict`; what is worked out from it, in `core.privacy.attack`, and judged in `core.privacy.truth`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.adapters.closed_periods import (
    Period,
    digest_of,
    read_periods,
    refuse_other_key,
    rows_of,
    write_period,
)
from s3logx_assets.adapters.scope_state import HeldUsage
from s3logx_assets.core.errors import DisclosureError
from s3logx_assets.core.privacy import late
from s3logx_assets.core.privacy.released import requests_told
from s3logx_assets.core.privacy.strict import (
    POOL,
    POOLED,
    WAITING,
    Coin,
    Rule,
    Told,
    people_told,
    tell,
)
from s3logx_assets.core.privacy.truth import findings_in
from s3logx_assets.core.schemas import RELEASED_USAGE
from s3logx_assets.core.scopes import ARCHIVE, scope_of

# How many weeks a dataset waits for enough people before its requests count in the archive alone.
_PATIENCE = 52
_EFFORT = 500
_SHOWN = 3
# Numbers of 53 bits in the salt of a digest: nobody can guess as many.
_SALTS = 3
# A row before anything became of it.
_TAKEN = RELEASED_USAGE.remove(RELEASED_USAGE.get_field_index("fate"))
_LIMITS = ["dataset", "network_index", "fate"]


@dataclass(frozen=True)
class Terms:
    """How periods are closed: `unit` is day, week or month. `accept` gets the closed periods with one more before that is kept, and
    raises an error where it cannot be."""

    rule: Rule
    unit: str
    key_id: str
    coin: Coin
    accept: Callable[[Sequence[Period]], None]


def close_periods(usage: HeldUsage, terms: Terms, cutoff: date) -> list[Period]:
    """All periods that are over at the end of `cutoff`, the oldest first; those that were not closed yet are closed for good. Raises
    StoreError, DisclosureError, and what `terms.accept` does."""
    periods = read_periods(usage.store)
    refuse_other_key(periods, terms.key_id)
    terms.accept(periods)
    if not usage.days:
        return periods
    seen = _Seen(usage, periods)
    for until in _ends(periods[-1].until if periods else None, date.fromisoformat(usage.days[0]), cutoff, terms.unit):
        periods.append(_close(usage, seen, periods, terms, until))
    return periods


def period_end(day: date, unit: str) -> date:
    """The last day of the period that a day is in."""
    if unit == "week":
        return day + timedelta(6 - day.weekday())
    if unit == "month":
        return (day.replace(day=28) + timedelta(4)).replace(day=1) - timedelta(1)
    return day


def _ends(last: date | None, first: date, cutoff: date, unit: str) -> Iterator[date]:
    until = period_end(first if last is None else last + timedelta(1), unit)
    while until <= cutoff:
        yield until
        until = period_end(until + timedelta(1), unit)


class _Seen:
    """What the closed periods took, and which event dates each log date has."""

    def __init__(self, usage: HeldUsage, periods: Sequence[Period]) -> None:
        self.versions: dict[str, str] = {}
        for period in periods:
            self.versions |= period.days
        groups = usage.store.each(usage.present_groups, usage.days)
        self.events = {
            day: sorted({group[1] for _, group in found}) for day, found in zip(usage.days, groups, strict=True)
        }
        self.people = _People()
        for period in periods:
            self.people.take(rows_of(usage.store, period.until, _LIMITS), period.cells)
        self.carried = _waiting(rows_of(usage.store, periods[-1].until)) if periods else _TAKEN.empty_table()


def _close(usage: HeldUsage, seen: _Seen, periods: Sequence[Period], terms: Terms, until: date) -> Period:
    rule, coin = terms.rule, terms.coin
    after = periods[-1].until if periods else None
    taken, versions, left_out = _take(usage, seen, periods, after, until)
    rows = pa.concat_tables([taken, seen.carried])
    told = tell(rows, rule, until, coin, until - timedelta(weeks=_PATIENCE))
    _withstand(rows, told, rule, until)
    rows = rows.append_column("fate", told.fate).select(RELEASED_USAGE.names).cast(RELEASED_USAGE)
    seen.people.take(rows, told.cells)
    people = seen.people.told(rule.people, periods[-1].people if periods else {})
    of_rule = asdict(rule)
    cells = told.cells.sort_by([(name, "ascending") for name in ("dataset", "dimension", "label", "in_archive")])
    salt = "".join(coin(f"digest\t{until}\t{number}").hex() for number in range(_SALTS))
    digest = digest_of(periods[-1].digest if periods else "", until, cells, people, of_rule, salt)
    period = Period(until, cells, versions, people, of_rule, left_out, terms.key_id, salt, digest)
    terms.accept([*periods, period])
    usage.confirm()  # whoever has lost the lock must not write over what another one has closed
    write_period(usage.store, period, rows)
    seen.versions |= versions
    seen.carried = _waiting(rows)
    return period


def _take(
    usage: HeldUsage, seen: _Seen, periods: Sequence[Period], after: date | None, until: date
) -> tuple[pa.Table, dict[str, str], int]:
    """The rows of a period, the data versions of the log dates they are from, and the late requests left out."""
    first, last = (after + timedelta(1)).isoformat() if after else "", until.isoformat()
    parts, versions, left_out = [], {}, 0
    for day in usage.days:
        version = usage.news.get(day) or usage.state.days[day]
        has_news = any(first <= event <= last for event in seen.events[day])
        is_late = any(event < first for event in seen.events[day]) and seen.versions.get(day) != version
        if not has_news and not is_late:
            continue
        present = late.networks(usage.present(day))
        events = present["event_date"]
        in_time = pc.less_equal(events, pa.scalar(until))
        if after is not None:
            before = pc.less_equal(events, pa.scalar(after))
            in_time = pc.and_(in_time, pc.invert(before))
            if is_late:
                came, unclear = late.late_rows(present.filter(before), _taken(usage, periods, day, after))
                parts.append(_dated(came, day, until))
                left_out += unclear
        parts.append(_dated(present.filter(in_time), day, until))
        versions[day] = version
    return pa.concat_tables([_TAKEN.empty_table(), *parts]), versions, left_out


def _taken(usage: HeldUsage, periods: Sequence[Period], day: str, after: date) -> pa.Table:
    """What the periods took of a log date, each row once, as `late.networks` gives it."""
    parts = []
    for period in periods:
        if day in period.days:
            rows = rows_of(usage.store, period.until)
            own = pc.and_(
                pc.equal(rows["log_date"], pa.scalar(date.fromisoformat(day))),
                pc.equal(rows["since"], pa.scalar(period.until)),
            )
            parts.append(rows.filter(own))
    rows = pa.concat_tables([RELEASED_USAGE.empty_table(), *parts]).append_column(
        "in_archive", pa.repeat(True, sum(part.num_rows for part in parts))
    )
    return late.networks(rows.filter(pc.less_equal(rows["event_date"], pa.scalar(after))))


def _dated(rows: pa.Table, day: str, until: date) -> pa.Table:
    """Rows of a log date that a period takes, in the schema _TAKEN."""
    dates = {"log_date": date.fromisoformat(day), "since": until}
    for name, value in dates.items():
        rows = rows.append_column(name, pa.repeat(pa.scalar(value, pa.date32()), rows.num_rows))
    return rows.select(_TAKEN.names).cast(_TAKEN)


def _waiting(rows: pa.Table) -> pa.Table:
    """The rows that the next period takes over."""
    return rows.filter(pc.equal(rows["fate"], WAITING)).select(_TAKEN.names)


class _People:
    """Who was told of in each dataset, as pairs of dataset and network, each once; and how many requests."""

    def __init__(self) -> None:
        self._pairs = _told_pairs(RELEASED_USAGE.empty_table())
        self._requests: Counter[str] = Counter()

    def take(self, rows: pa.Table, cells: pa.Table) -> None:
        """The usage that a period took, and what it told."""
        self._pairs = _distinct(pa.concat_tables([self._pairs, _told_pairs(rows)]))
        self._requests.update(requests_told(cells))

    def told(self, step: int, before: Mapping[str, int]) -> dict[str, int]:
        """How many people each scope may be told to have, never fewer than before."""
        counts = self._pairs["dataset"].combine_chunks().value_counts()
        exact = dict(zip(*(counts.field(name).to_pylist() for name in ("values", "counts")), strict=True))
        people = {scope_of(name): (exact.get(name, 0), self._requests[name]) for name in self._requests if name != POOL}
        people[ARCHIVE] = len(self._pairs["network_index"].unique()), self._requests.total()
        told = {scope: people_told(*each, step) for scope, each in people.items()}
        return {scope: max(before.get(scope, 0), told.get(scope, 0)) for scope in sorted({*before, *told})}


def _told_pairs(rows: pa.Table) -> pa.Table:
    known = rows.filter(pc.and_(pc.not_equal(rows["fate"], WAITING), pc.is_valid(rows["network_index"])))
    dataset = pc.if_else(pc.equal(known["fate"], POOLED), POOL, known["dataset"])
    return _distinct(pa.table({"dataset": dataset, "network_index": known["network_index"]}))


def _distinct(pairs: pa.Table) -> pa.Table:
    return pairs.group_by(["dataset", "network_index"], use_threads=False).aggregate([])


def _withstand(rows: pa.Table, told: Told, rule: Rule, until: date) -> None:
    """Raises DisclosureError where the attacker tells something of fewer people than the rule's."""
    found = list(map(str, islice(findings_in(rows, told, rule.people, _EFFORT), _SHOWN)))
    if found:
        raise DisclosureError(
            f"the period up to {until} is not closed, since an attacker could tell {'; '.join(found)}. This is a fault of this "
            "program; please report it"
        )
