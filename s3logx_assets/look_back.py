"""Which dates are looked at for new log files: the last few, and after an outage all that were not seen meanwhile.

A date that is older than the last few is not looked at any more, so none may become that unseen: neither while the source
is away, nor while the daemon is, nor while its runs fail. How far the looking has come is kept in the sensor's cursor. What
is asked for is `automation`'s business.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta

from s3logx_assets.adapters.table_store import LOG_DATE, TableStore
from s3logx_assets.assets.extract import KEY as EXTRACTED_LOGS
from s3logx_assets.run_requests import days_between

# The cursor that stands before all dates; an empty one would leave the last one standing.
_FROM_THE_FIRST = "0000-00-00"
# Without a cursor, what is missing since the newest date in the store is an outage if that is not longer ago; or else the
# store has a history that somebody brought there, and has never been kept up to date.
_LONGEST_UNKNOWN = timedelta(days=90)


@dataclass(frozen=True)
class LookBack:
    """How far a pass over the dates has come, and what the passes before it saw. Days are ISO 8601.

    `after`: the last date that this pass has looked at. `since`: the day of the last pass that saw all its dates; None
    where that is not known. `behind`: older dates that were not as they should be then. `missed`: those of this pass.
    `clean`: this pass has seen all its dates so far."""

    after: str = ""
    since: str | None = None
    behind: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    clean: bool = True

    @staticmethod
    def read(cursor: str | None) -> "LookBack":
        """What `cursor` was written, or one of an earlier version of this program, or of nobody's."""
        try:
            found = json.loads(cursor or "{}")
            return LookBack(**{**found, **{name: tuple(found.get(name, ())) for name in ("behind", "missed")}})
        except (ValueError, TypeError, AttributeError):
            return LookBack()

    @property
    def cursor(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    def days(self, usual: Collection[date], first: date) -> list[date]:
        """All dates of a pass, ascending, none before `first`: the `usual` ones, as many before them as days have gone by
        since the last pass that saw all of its dates, and those that it left behind. Without `usual` ones there are none."""
        if not usual:
            return []
        oldest, today = min(usual), max(usual)
        since = min(date.fromisoformat(self.since), today) if self.since else today
        wide = days_between(max(oldest - (today - since), first), today)
        return sorted({*wide, *map(date.fromisoformat, self.behind)})

    def looked(self, after: str, wanted: Iterable[date], usual: Collection[date], clean: bool) -> "LookBack":
        """Having looked at the dates up to `after`, of which these are wanted."""
        old = {day.isoformat() for day in wanted if day not in usual}
        return replace(self, after=after, missed=tuple(sorted({*self.missed, *old})), clean=self.clean and clean)

    def ended(self, today: date) -> "LookBack":
        """Where the next pass begins. One that did not see all of its dates leaves it to the next one."""
        if self.clean:
            return LookBack(_FROM_THE_FIRST, today.isoformat(), self.missed)
        return LookBack(_FROM_THE_FIRST, self.since, tuple(sorted({*self.behind, *self.missed})))


def known(state: LookBack, store: TableStore, today: date) -> LookBack:
    """The same; where it is not known when all dates were seen, they were when the newest one in the store was extracted."""
    if state.since is not None:
        return state
    newest = max(map(date.fromisoformat, store.partitions(EXTRACTED_LOGS, LOG_DATE)), default=today)
    is_outage = today - newest <= _LONGEST_UNKNOWN
    return replace(state, since=(newest if is_outage else today).isoformat())
