"""Where the raw logs lie: listing the log objects of a date and opening one to read.

A store knows the three layouts, mixed too:
    <name>      YYYY/MM/DD/<name>      account/region/bucket/YYYY/MM/DD/<name>
It gives bytes and what the source says of them; what the bytes mean does not belong here.
"""

import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Protocol

from s3logx_assets.core.errors import LogFileError, SourceError
from s3logx_assets.core.ledger import LogObject
from s3logx_assets.core.log_names import DEEPEST_ROOT, log_date

_YEAR, _MONTH_OR_DAY = re.compile(r"[0-9]{4}"), re.compile(r"[0-9]{2}")
# A name's date may differ from its folder's by the time a delivery takes.
NEIGHBOURS = (timedelta(days=-1), timedelta(0), timedelta(days=1))


@dataclass(frozen=True, slots=True)
class Listing:
    """The log objects of one date, in byte order of name, and what lay beside them.

    `strays` counts objects whose date folder disagrees with their name, `ignored` those with another kind of name. `error`:
    why the date cannot be listed, where it alone cannot; then there are no objects.
    """

    objects: tuple[LogObject, ...]
    strays: int = 0
    ignored: int = 0
    error: SourceError | None = None


class LogReader(Protocol):
    """One log object, open."""

    def read(self, size: int) -> bytes: ...

    def close(self) -> None:
        """Raises LogFileError if the object is no longer what was listed."""


# Dates are taken together until they have so many files, of which each takes about 600 bytes of memory until all are
# through: enough that to begin and end a listing, or the processes that read, does not count.
FILES_AT_ONCE = 200_000


class LogStore(Protocol):
    """A source of log objects."""

    def listings(self, days: Sequence[date]) -> Iterator[tuple[date, Listing]]:
        """The listing of each of `days`, in their order; some at a time, so that whoever takes them one by one has not
        all their objects in memory. Raises SourceError if the source is none, SourceUnavailable if it cannot be reached."""

    def days(self) -> list[date]:
        """All dates that have log objects, ascending."""

    def open(self, item: LogObject) -> LogReader:
        """Raises LogFileError if it cannot be opened."""

    def exists(self, item: LogObject) -> bool:
        """Whether there is a log object of that name and size still. Raises SourceError, SourceUnavailable."""

    def opening(self, items: Iterable[LogObject]) -> Iterator[Callable[[], LogReader]]:
        """For each of `items` what opens it; they will be opened in this order, so that a store may fetch ahead."""


class LocalLogStore:
    """A folder. Symbolic links are not followed: they could lead out of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root_length = len(os.path.join(root, ""))

    def __repr__(self) -> str:
        return f"LocalLogStore({str(self.root)!r})"

    def listings(self, days: Sequence[date]) -> Iterator[tuple[date, Listing]]:
        flat, roots, ignored = self._survey(set(days))
        for day in days:
            try:
                yield day, self._listing(day, flat.pop(day, []), roots, ignored)
            except SourceError as error:
                yield day, Listing((), error=error)

    def _listing(self, day: date, paths: list[str], roots: Iterable[Path], ignored: int) -> Listing:
        """The listing of one date, from the paths of the log objects beside the date folders, and those in them."""
        strays = 0
        for root in roots:
            for shift in NEIGHBOURS:
                for entry, item_day in self._in_date_folder(root, day + shift):
                    if item_day == day:
                        paths.append(entry.path)
                        strays += bool(shift)
                    elif not shift:
                        ignored += item_day is None
                        # Too far from its date to be listed there, so it is reported here.
                        strays += item_day is not None and item_day - day not in NEIGHBOURS
        objects = (item for item in map(self._describe, paths) if item is not None)
        return Listing(tuple(sorted(objects, key=attrgetter("name"))), strays, ignored)

    def days(self) -> list[date]:
        flat, roots, _ = self._survey(None)
        found = set(flat)
        for root in roots:
            for folder_day in self._date_folders(root):
                for _, day in self._in_date_folder(root, folder_day):
                    if day is not None and day - folder_day in NEIGHBOURS:
                        found.add(day)
        return sorted(found)

    def open(self, item: LogObject) -> "LocalLogReader":
        return LocalLogReader(self.root, item)

    def exists(self, item: LogObject) -> bool:
        try:
            return os.stat(f"{self.root}/{item.name}", follow_symlinks=False).st_size == item.size
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise _cannot("look for", repr(item.name), error) from None

    def opening(self, items: Iterable[LogObject]) -> "Iterator[Callable[[], LocalLogReader]]":
        return (partial(self.open, item) for item in items)

    def _survey(self, wanted: set[date] | None) -> tuple[dict[date, list[str]], list[Path], int]:
        """One look at everything but the date folders: paths of log objects by date, the roots of date folders, and the number
        of files that are no logs. Only the `wanted` dates' objects are kept; None keeps the dates alone."""
        try:
            is_folder = self.root.is_dir()
        except OSError as error:
            raise _cannot("look at", self.root, error) from None
        if not is_folder:
            raise SourceError(f"S3LOGX_LOGS: {self.root} is not a folder")
        flat: dict[date, list[str]] = defaultdict(list)
        roots: list[Path] = []
        ignored = logs = 0
        pending = [(self.root, 0, "")]
        while pending:
            folder, depth, kind = pending.pop()
            dated = False
            for entry in self._scan(folder):
                day = log_date(entry.name)
                if _is_folder(entry):
                    below = kind_below(kind, entry.name)
                    dated = dated or below == "year"
                    if below and below != "day":
                        pending.append((Path(entry.path), depth, below))
                    elif not below and depth < DEEPEST_ROOT:
                        pending.append((Path(entry.path), depth + 1, ""))
                elif day is None or not _is_file(entry):
                    ignored += 1
                else:
                    logs += 1
                    if wanted is None:
                        flat[day].clear()
                    elif day in wanted:
                        flat[day].append(entry.path)
            if dated:
                roots.append(folder)
        if ignored and not logs and not roots:
            raise SourceError(
                f"S3LOGX_LOGS: {self.root} holds {ignored} files and none is named like an access log "
                "(YYYY-MM-DD-hh-mm-ss-<unique>)"
            )
        return flat, sorted(roots), ignored

    def _in_date_folder(self, root: Path, day: date) -> Iterator[tuple[os.DirEntry[str], date | None]]:
        """The files of a date folder, each with its own date if it is a log. No part of the folder may be a link."""
        folder = root
        for part in (f"{day.year:04}", f"{day.month:02}", f"{day.day:02}"):
            folder /= part
            try:
                if not stat.S_ISDIR(os.lstat(folder).st_mode):
                    return
            except (FileNotFoundError, NotADirectoryError):
                return
            except OSError as error:
                raise _cannot("list", folder, error) from None
        for entry in self._scan(folder):
            yield entry, log_date(entry.name) if _is_file(entry) else None

    def _date_folders(self, root: Path) -> Iterator[date]:
        """The dates of all date folders below a root."""
        levels: list[list[Path]] = [[root]]
        for pattern in (_YEAR, _MONTH_OR_DAY, _MONTH_OR_DAY):
            levels.append(
                [
                    folder / entry.name
                    for folder in levels[-1]
                    for entry in self._scan(folder)
                    if pattern.fullmatch(entry.name) and _is_folder(entry)
                ]
            )
        for folder in levels[-1]:
            try:
                yield date(*map(int, folder.parts[-3:]))
            except ValueError:
                continue

    def _scan(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                yield from entries
        except OSError as error:
            raise _cannot("list", folder, error) from None

    def _describe(self, path: str) -> LogObject | None:
        """None for a file that has gone since it was listed."""
        name = path[self._root_length :]
        try:
            name.encode()
        except UnicodeEncodeError:
            raise SourceError(
                f"S3LOGX_LOGS: {os.fsencode(name)!r} is not UTF-8; rename the folder that it is in"
            ) from None
        try:
            status = os.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _cannot("look at", path, error) from None
        return LogObject(name, status.st_size, str(status.st_mtime_ns))


# Many file systems tell with an entry's name what it is; others have to be asked, and may refuse.


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError as error:
        raise _cannot("look at", entry.path, error) from None


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file(follow_symlinks=False)
    except OSError as error:
        raise _cannot("look at", entry.path, error) from None


def _cannot(do: str, what: str | Path, error: OSError) -> SourceError:
    return SourceError(f"S3LOGX_LOGS: cannot {do} {what}: {error.strerror}")


def kind_below(kind: str, name: str) -> str:
    """Whether a folder in a folder of `kind` is one of a year, month or day; empty for neither."""
    if _YEAR.fullmatch(name):
        return "year"
    below = {"year": "month", "month": "day"}.get(kind, "")
    return below if _MONTH_OR_DAY.fullmatch(name) else ""


class LocalLogReader:
    """An open file that must stay what was listed until it is closed."""

    def __init__(self, root: Path, item: LogObject) -> None:
        self._item = item
        try:
            self._descriptor = os.open(f"{root}/{item.name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise LogFileError(f"log file {item.name!r} cannot be opened: {error.strerror}") from None

    def read(self, size: int) -> bytes:
        try:
            return os.read(self._descriptor, size)
        except OSError as error:
            raise LogFileError(f"log file {self._item.name!r} cannot be read: {error.strerror}") from None

    def close(self) -> None:
        try:
            status = os.fstat(self._descriptor)
        except OSError as error:
            raise LogFileError(f"log file {self._item.name!r} cannot be looked at: {error.strerror}") from None
        finally:
            os.close(self._descriptor)
        if (status.st_size, str(status.st_mtime_ns)) != (self._item.size, self._item.version):
            raise LogFileError(f"log file {self._item.name!r} changed while it was read")
