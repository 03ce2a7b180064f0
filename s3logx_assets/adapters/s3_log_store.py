"""The raw logs in a bucket: the log objects of any dates, listed by their keys' beginnings, never by a scan of the bucket.

Date folders sort as dates do, and so do the names of logs that lie beside one another: one listing from the first date on,
broken off after the last, serves a range of them. Small objects are fetched some ahead of their reader, many at a time,
and stay in memory; large ones are read in pieces.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from itertools import chain, count
from operator import attrgetter

from s3logx_assets.adapters.log_store import FILES_AT_ONCE, NEIGHBOURS, Listing, LogReader, kind_below
from s3logx_assets.adapters.s3 import Bucket, ObjectChanged, StoredObject, behind
from s3logx_assets.adapters.s3_ahead import ahead
from s3logx_assets.core.concurrency import mapped
from s3logx_assets.core.errors import LogFileError, SourceError, SourceUnavailable
from s3logx_assets.core.ledger import LogObject
from s3logx_assets.core.log_names import DEEPEST_ROOT, log_date

_LISTINGS_AT_ONCE = 16
# The largest object that is fetched ahead.
_SMALL = 1 << 20
# Dates that one listing serves: more of them at once make better use of the connection, fewer waste less on gaps.
_DATES_A_LISTING = 32
# So many dates are listed together at first, then as many as should have FILES_AT_ONCE: of many small dates a lot.
_DATES_AT_FIRST, _DATES_AT_ONCE = 4, _DATES_A_LISTING * _LISTINGS_AT_ONCE
# Where they turn out to have over twice as many, only this part of the dates is listed together.
_FEWER = 8
# A prefix with more folders than this, or more objects of another kind, is not where logs are.
_MOST_FOLDERS = 2_000
_MOST_IGNORED = 20_000
_DAY = timedelta(days=1)
_LAST_CHARACTER = "~"  # behind all characters of log names and dates


# An object with the date of its date folder, None beside these, and the date of its name, None if it is no log's.
_Placed = tuple[date | None, date | None, StoredObject]


@dataclass
class _Found:
    """What a listing found of one date."""

    objects: list[LogObject] = field(default_factory=list)
    strays: int = 0
    ignored: int = 0


@dataclass
class _Survey:
    """What lies at the top: the roots of date folders (ends of keys' beginnings), the years of log objects beside them,
    and how many objects are no logs."""

    roots: list[str] = field(default_factory=list)
    years: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    ignored: int = 0


class _TooMany(Exception):
    """Some dates have more objects than are to be in memory at once."""


class _Room:
    """Counts the objects that the threads of a listing hold. Raises _TooMany beyond `most`."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._numbers = count(1)  # one step is taken as a whole, by whatever thread

    def take(self) -> None:
        if self._most is not None and next(self._numbers) > self._most:
            raise _TooMany


class S3LogStore:
    """The log objects below a location in a bucket. Names in listings are what follows its prefix."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._prefix = bucket.location.prefix

    def __repr__(self) -> str:
        return f"S3LogStore({str(self._bucket.location)!r})"

    def listings(self, days: Sequence[date]) -> Iterator[tuple[date, Listing]]:
        """As LogStore has it. Raises SourceUnavailable too."""
        survey = self._survey()
        start, together = 0, _DATES_AT_FIRST
        while start < len(days):
            some = days[start : start + together]
            files = 0
            try:
                for day, listing in self._listed(survey, some):
                    files += len(listing.objects)
                    yield day, listing
            except _TooMany:  # before the first of them was given
                together = max(len(some) // _FEWER, 1)
                continue
            start += together
            together = min(max(FILES_AT_ONCE * together // max(files, 1), 1), _DATES_AT_ONCE)

    def _listed(self, survey: _Survey, days: Sequence[date]) -> Iterator[tuple[date, Listing]]:
        """The same of some dates, all held in memory. Raises _TooMany; a date alone is listed however many it has."""
        room = _Room(2 * FILES_AT_ONCE if len(days) > 1 else None)
        wanted = set(days)
        found: dict[date, _Found] = defaultdict(_Found)
        ranges = list(_ranges(sorted(wanted)))
        scans: list[Callable[[], list[_Placed]]] = [
            *(
                partial(self._flat, room, base, first, last)
                for base, years in survey.years.items()
                for first, last in ranges
                if first.year in years
            ),
            *(
                partial(self._dated, room, root, first - _DAY, last + _DAY)
                for root in survey.roots
                for first, last in ranges
            ),
        ]
        placed = chain.from_iterable(mapped(lambda scan: scan(), scans, _LISTINGS_AT_ONCE))
        # Two ranges may meet in the folders between them.
        for folder_day, day, item in {each[-1].key: each for each in placed}.values():
            if folder_day is not None and (day is None or day - folder_day not in NEIGHBOURS):
                # Too far from its date to be listed there, so it is reported here.
                found[folder_day].ignored += day is None
                found[folder_day].strays += day is not None
            elif day in wanted:
                name = item.key.removeprefix(self._prefix)
                found[day].objects.append(LogObject(name, item.size, item.version))
                found[day].strays += folder_day not in (None, day)
        for day in days:
            of_day = found[day]
            objects = sorted(of_day.objects, key=attrgetter("name"))
            yield day, Listing(tuple(objects), of_day.strays, survey.ignored + of_day.ignored)

    def days(self) -> list[date]:
        """As LogStore has it, going by the names of the date folders."""
        survey = self._survey()
        years = [(base, year) for base, found in survey.years.items() for year in found]
        flat = mapped(lambda of: self._flat_days(*of), years, _LISTINGS_AT_ONCE)
        dated = mapped(self._folder_days, survey.roots, _LISTINGS_AT_ONCE)
        return sorted({*chain.from_iterable(flat), *chain.from_iterable(dated)})

    def open(self, item: LogObject) -> LogReader:
        return _Reader(item, lambda: self._bucket.chunks(self._stored(item)))

    def exists(self, item: LogObject) -> bool:
        return self._bucket.size_of(self._prefix + item.name) == item.size

    def opening(self, items: Iterable[LogObject]) -> Iterator[Callable[[], LogReader]]:
        asked: deque[LogObject] = deque()

        def wanted() -> Iterator[StoredObject]:
            for item in items:
                asked.append(item)
                yield self._stored(item)

        for content in ahead(self._bucket, wanted(), _SMALL):
            yield self._opening_of(asked.popleft(), content)

    def _opening_of(self, item: LogObject, content: bytes | Exception | None) -> Callable[[], LogReader]:
        """What opens an object: its content, if it is small, is here already, or the reason why it cannot be had."""
        if content is None:
            return lambda: self.open(item)
        if isinstance(content, Exception):
            return partial(_raising, item, content)
        return lambda: _Reader(item, lambda: iter([content]))

    def _stored(self, item: LogObject) -> StoredObject:
        return StoredObject(self._prefix + item.name, item.size, item.version)

    def _survey(self) -> _Survey:
        """Looks at all folders that are not of dates. Raises SourceError where nothing looks like logs."""
        survey = _Survey()
        pending = [(self._prefix, 0)]
        folders_seen = 0
        while pending:
            base, depth = pending.pop()
            folders, years, ignored = self._level(base)
            survey.ignored += ignored
            if years:
                survey.years[base] = years
            kinds = {folder: kind_below("", folder) for folder in folders}
            if "year" in kinds.values():
                survey.roots.append(base)
            folders_seen += len(folders)
            if folders_seen > _MOST_FOLDERS and not survey.roots and not survey.years:
                raise SourceError(
                    f"{self._place} holds over {_MOST_FOLDERS} folders and no logs; name the folder of logs"
                )
            if depth < DEEPEST_ROOT:
                pending += [(f"{base}{folder}/", depth + 1) for folder, kind in kinds.items() if not kind]
        if survey.ignored and not survey.roots and not survey.years:
            raise SourceError(
                f"{self._place} holds objects and none is named like an access log (YYYY-MM-DD-hh-mm-ss-<unique>)"
            )
        return survey

    def _level(self, base: str) -> tuple[list[str], list[int], int]:
        """The folders directly below, the years of the log objects there, and the number of other objects. From the first
        log of a year it jumps behind its last: a flat folder can hold millions."""
        folders: set[str] = set()
        years: list[int] = []
        ignored = 0
        more, after = True, ""
        while more:
            objects, found, more = self._bucket.level(base, after)
            folders.update(folder.removeprefix(base).rstrip("/") for folder in found)
            after = behind(objects, found)
            for item in objects:
                day = log_date(item.key.removeprefix(base))
                if day is None:
                    ignored += 1
                else:
                    years.append(day.year)
                    more, after = True, f"{base}{day.year:04}-{_LAST_CHARACTER}"
                    break
            if more and ignored > _MOST_IGNORED:
                # What lies behind them may be logs.
                raise SourceError(
                    f"{self._place} holds over {_MOST_IGNORED} objects that are no logs in {base!r}; "
                    "name the folder of logs"
                )
        return sorted(folders), years, ignored

    def _flat(self, room: _Room, base: str, first: date, last: date) -> list[_Placed]:
        """The log objects of a range of dates that lie beside those of others."""
        between = self._bucket.scan(base, f"{base}{first}-", f"{base}{last}-{_LAST_CHARACTER}")
        found: list[_Placed] = []
        for item in between:
            room.take()
            found.append((None, log_date(item.key.removeprefix(base)), item))
        return found

    def _dated(self, room: _Room, root: str, first: date, last: date) -> list[_Placed]:
        """All objects in the folders of a range of dates."""
        # Behind all of the date before, since not every server takes a folder's own key for one before its content.
        start, end = (f"{root}{day.year:04}/{day.month:02}/{day.day:02}/" for day in (first - _DAY, last + _DAY))
        found: list[_Placed] = []
        for item in self._bucket.scan(root, start + _LAST_CHARACTER, end):
            match item.key.removeprefix(root).split("/"):
                case [year, month, day, name] if (folder_day := _date_of(year, month, day)) is not None:
                    room.take()
                    found.append((folder_day, log_date(name), item))
        return found

    def _flat_days(self, base: str, year: int) -> list[date]:
        """The dates of a year's log objects, a look or two for each."""
        days: list[date] = []
        after = ""
        while True:
            objects, _, more = self._bucket.level(f"{base}{year:04}-", after)
            found = [day for item in objects if (day := log_date(item.key.removeprefix(base))) is not None]
            days += sorted(set(found))
            if not more:
                return days
            after = f"{base}{days[-1]}-{_LAST_CHARACTER}" if found else objects[-1].key

    def _folder_days(self, root: str) -> list[date]:
        """The dates of all date folders below a root."""
        levels = [root]
        for _ in range(3):
            below = mapped(self._level, levels, _LISTINGS_AT_ONCE)
            levels = [
                f"{base}{folder}/" for base, (folders, _, _) in zip(levels, below, strict=True) for folder in folders
            ]
        parts = [level.removeprefix(root).split("/")[:3] for level in levels]
        return [day for each in parts if (day := _date_of(*each)) is not None]

    @property
    def _place(self) -> str:
        return f"{self._bucket.role.setting}: {self._bucket.location}"


def _ranges(days: Sequence[date]) -> Iterator[tuple[date, date]]:
    """(first, last) of stretches of ascending `days`, of a bounded length, without wide gaps. Each is of one year: in the
    order of keys, the date folders of a year come between its logs beside them and those of the next."""
    first = last = None
    for day in days:
        if first is not None and last is not None:
            wide, long = day - last > 2 * _DAY, day - first >= _DATES_A_LISTING * _DAY
            if wide or long or day.year != first.year:
                yield first, last
                first = None
        first, last = first or day, day
    if first is not None and last is not None:
        yield first, last


def _date_of(year: str, month: str, day: str) -> date | None:
    if (len(year), len(month), len(day)) != (4, 2, 2):
        return None
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None


def _raising(item: LogObject, error: Exception) -> LogReader:
    raise _explained(item, error) from None


def _explained(item: LogObject, error: Exception) -> Exception:
    match error:
        case FileNotFoundError():
            return LogFileError(f"log object {item.name!r} vanished after it was listed")
        case ObjectChanged():
            return LogFileError(f"log object {item.name!r} changed after it was listed")
        case SourceUnavailable():
            return SourceUnavailable(f"log object {item.name!r} cannot be read: {error}")
        case SourceError():
            return LogFileError(f"log object {item.name!r} cannot be read: {error}")
    return error


class _Reader:
    """An object that is read piece by piece, as few bytes at a time as are asked for."""

    def __init__(self, item: LogObject, chunks: Callable[[], Iterator[bytes]]) -> None:
        self._item = item
        self._chunks = chunks
        self._open: Iterator[bytes] | None = None
        self._left = b""

    def read(self, size: int) -> bytes:
        try:
            if self._open is None:
                self._open = self._chunks()
            while not self._left:
                chunk = next(self._open, None)
                if chunk is None:
                    return b""
                self._left = chunk
        except Exception as error:
            raise _explained(self._item, error) from None
        piece, self._left = self._left[:size], self._left[size:]
        return piece

    def close(self) -> None:
        self._left = b""
