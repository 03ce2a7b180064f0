"""What the web report says of a scope: exact tables come in, published figures go out.

Figures are summed up first, from exact tables, and masked last, each by itself (core/privacy/compatible.py): a week is not the sum of
its rounded days. Lists are in the order of the bytes sent, which are exact in the release too; the order of a list of
counts would tell what the counts hide. How a report looks does not belong here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from s3logx_assets.core.privacy.compatible import published_count
from s3logx_assets.core.privacy.released import COUNTS, ReleasedScope, ends
from s3logx_assets.core.privacy.trees import OTHER_REGIONS
from s3logx_assets.core.public_tables import Published, published_totals, released_totals
from s3logx_assets.core.regions import kind_of
from s3logx_assets.core.summaries import ScopeTables, totals

Unit = Literal["day", "week", "month"]
UNITS: tuple[Unit, ...] = ("day", "week", "month")
_EPOCH = date(1970, 1, 1)
_MONDAY = 3  # the first day of 1970 was a Thursday


class Policy(NamedTuple):
    """The threshold below which a count is not shown, and the multiple that others are rounded to."""

    threshold: int
    rounding: int

    def shown(self, count: int) -> int | None:
        """A count as it may be shown, None below the threshold."""
        shown = published_count(count, *self)
        return None if isinstance(shown, str) else shown


class Usage(NamedTuple):
    """Published figures of something with a name; None is a count below the threshold."""

    name: str
    bytes_sent: int
    requests: int | None
    downloads: int | None


class Period(NamedTuple):
    """Published figures of a day, a week or a month, by its place among all periods; those without requests are left out."""

    place: int
    start: date
    bytes_sent: int
    requests: int | None
    downloads: int | None


@dataclass(frozen=True)
class Periods:
    """Periods of one unit, from that of the first event to that of the last. `starts` has them all, `filled` those with
    requests."""

    unit: Unit
    starts: tuple[date, ...]
    filled: tuple[Period, ...]


@dataclass(frozen=True)
class Listing:
    """The first of a list, and how many there are in all."""

    shown: tuple[Usage, ...]
    total: int


@dataclass(frozen=True)
class ScopeReport:
    """All that the report says of a scope. `cumulative` has in each period what was sent up to its end. `places`, `clouds`
    and `elsewhere` are regions where people are, data centres, and labels that are no place. `strict`: under that policy, where `longer` has the share
    of the requests that are told for periods longer than each unit only, and so in none of its charts."""

    scope: str
    totals: Published
    first: date
    last: date
    over_time: Mapping[Unit, Periods]
    cumulative: Periods
    places: Listing
    clouds: Listing
    elsewhere: Listing
    assets: Listing
    types: tuple[tuple[str, int], ...]
    strict: bool = False
    longer: Mapping[Unit, float] = field(default_factory=dict)


def scope_report(scope: str, tables: ScopeTables, policy: Policy, days: int, weeks: int, listed: int) -> ScopeReport:
    """The report of a scope with at least one request. Of days and weeks the last so many are shown, of months all; of
    lists the first `listed`, of places three times as many, since most of them are dots on a map."""
    by_day = tables.by_day
    first, last = by_day["event_date"][0].as_py(), by_day["event_date"][-1].as_py()
    usual = usual_unit(first, last)
    limits: dict[Unit, int] = {"day": days, "week": weeks, "month": 10**6}
    kinds = pa.array(list(map(kind_of, tables.by_region["region"].to_pylist())), pa.string())

    def regions(kind: str, most: int) -> Listing:
        return _listing(tables.by_region.filter(pc.equal(kinds, kind)), "region", policy, most)

    return ScopeReport(
        scope=scope,
        totals=published_totals(totals(tables), *policy),
        first=first,
        last=last,
        over_time={unit: periods(by_day, unit, policy, limits[unit]) for unit in UNITS},
        cumulative=periods(by_day, usual, policy, limits[usual], cumulative=True),
        places=regions("place", 3 * listed),
        clouds=regions("cloud", listed),
        elsewhere=regions("elsewhere", listed),
        assets=_listing(tables.by_asset, "asset_path", policy, listed),
        types=_types(tables.by_day_and_type),
    )


def released_report(
    scope: str, released: ReleasedScope, until: date, days: int, weeks: int, listed: int
) -> ScopeReport:
    """The same of what policy `strict` released of periods up to `until`. A period shows what was told for it or for a part of it; cumulative figures have
    what was told for a period from its end on."""
    spans = list(map(ends, released.by_day["label"].to_pylist()))
    spans = [(start, min(end, until)) for start, end in spans]
    # Longer periods begin where the calendar's do, mostly long before the first request.
    starts = [start for start, end in spans if start is not None and end - start < timedelta(7)]
    first, last = min(starts or (end for _, end in spans)), max(end for _, end in spans)
    closed = np.array([start is not None for start, _ in spans], bool)
    starts_of = pa.array([start or end for start, end in spans], pa.date32())
    lasts_of = pa.array([end for _, end in spans], pa.date32())
    usual = usual_unit(first, last)
    limits: dict[Unit, int] = {"day": days, "week": weeks, "month": 10**6}
    nothing = Policy(0, 1)
    requests = released.by_day["request_count"].to_numpy()
    over_time: dict[Unit, Periods] = {}
    longer: dict[Unit, float] = {}
    for unit in UNITS:
        inside = closed & (period_numbers(starts_of, unit) == period_numbers(lasts_of, unit))
        over_time[unit] = periods(_by_end(released.by_day, lasts_of, inside, first, last), unit, nothing, limits[unit])
        longer[unit] = float(1 - requests[inside].sum() / max(1, requests.sum()))
    cumulative = _by_end(released.by_day, lasts_of, np.ones_like(closed), first, last)
    kinds = pa.array(list(map(_kind_of, released.by_region["label"].to_pylist())), pa.string())

    def regions(kind: str, most: int) -> Listing:
        return _listing(released.by_region.filter(pc.equal(kinds, kind)), "label", nothing, most)

    return ScopeReport(
        scope=scope,
        totals=released_totals(released),
        first=first,
        last=last,
        over_time=over_time,
        cumulative=periods(cumulative, usual, nothing, limits[usual], cumulative=True),
        places=regions("place", 3 * listed),
        clouds=regions("cloud", listed),
        elsewhere=regions("elsewhere", listed),
        assets=_listing(released.by_asset, "label", nothing, listed),
        types=(),
        strict=True,
        longer=longer,
    )


def _kind_of(label: str) -> str:
    return "elsewhere" if label == OTHER_REGIONS else kind_of(label)


def _by_end(rows: pa.Table, lasts: pa.Array, chosen: NDArray[np.bool_], first: date, last: date) -> pa.Table:
    """Some rows by label as a BY_DAY table from `first` to `last`, each by the last day of its label, `lasts`."""
    table = pa.table({"event_date": lasts, **{name: rows[name] for name in COUNTS}}).filter(pa.array(chosen))
    frame = {name: pa.array([0, 0], pa.int64()) for name in COUNTS}
    ends_of_time = pa.table({"event_date": pa.array([first, last], pa.date32()), **frame})
    return pa.concat_tables([table, ends_of_time]).sort_by("event_date")


def usual_unit(first: date, last: date) -> Unit:
    """The unit in which the time between two dates makes a chart of some 12 to 120 bars."""
    days = (last - first).days
    return "day" if days <= 92 else "week" if days <= 800 else "month"


def periods(by_day: pa.Table, unit: Unit, policy: Policy, most: int, cumulative: bool = False) -> Periods:
    """The last `most` periods of a BY_DAY table that is not empty; cumulative ones hold what was up to their ends."""
    number = period_numbers(by_day["event_date"], unit)
    last = int(number[-1])
    first = max(int(number[0]), last - most + 1)
    sums = {}
    for name in ("bytes_sent", "request_count", "download_count"):
        values = by_day[name].to_numpy()
        of_period = np.zeros(last - int(number[0]) + 1, np.int64)
        np.add.at(of_period, number - number[0], values)
        sums[name] = (np.cumsum(of_period) if cumulative else of_period)[first - int(number[0]) :].tolist()
    starts = tuple(start_of(unit, each) for each in range(first, last + 1))
    filled = tuple(
        Period(place, start, size, policy.shown(requests), policy.shown(downloads))
        for place, (start, size, requests, downloads) in enumerate(zip(starts, *sums.values(), strict=True))
        if requests
    )
    return Periods(unit, starts, filled)


def period_numbers(event_date: pa.Array | pa.ChunkedArray, unit: Unit) -> NDArray[np.int64]:
    """Consecutive numbers of the periods that dates are in."""
    days: NDArray[np.int64] = event_date.cast(pa.int32()).to_numpy(zero_copy_only=False).astype(np.int64)
    if unit == "day":
        return days
    if unit == "week":
        weeks: NDArray[np.int64] = (days + _MONDAY) // 7
        return weeks
    months: NDArray[np.int64] = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return months


def start_of(unit: Unit, number: int) -> date:
    """The first day of the period of a number, as `period_numbers` counts."""
    if unit == "month":
        return date(1970 + number // 12, number % 12 + 1, 1)
    return _EPOCH + timedelta(number if unit == "day" else 7 * number - _MONDAY)


def _listing(table: pa.Table, key: str, policy: Policy, most: int) -> Listing:
    best = pc.select_k_unstable(table, most, [("bytes_sent", "descending"), (key, "ascending")])
    rows = table.take(best).select([key, "bytes_sent", "request_count", "download_count"])
    shown = zip(*(column.to_pylist() for column in rows.columns), strict=True)
    return Listing(
        tuple(
            Usage(name, size, policy.shown(requests), policy.shown(downloads))
            for name, size, requests, downloads in shown
        ),
        table.num_rows,
    )


def _types(by_day_and_type: pa.Table) -> tuple[tuple[str, int], ...]:
    sums = by_day_and_type.group_by("asset_type", use_threads=False).aggregate([("bytes_sent", "sum")])
    pairs = zip(sums["asset_type"].to_pylist(), sums["bytes_sent_sum"].to_pylist(), strict=True)
    return tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))
