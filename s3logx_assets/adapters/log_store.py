"""Where the raw logs lie: listing the log objects of a date and opening one to read.

A store knows the three layouts, mixed too:
    <name>      YYYY/MM/DD/<name>      account/region/bucket/YYYY/MM/DD/<name>
It gives bytes and what the source says of them; what the bytes mean does not belong here.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Protocol

from s3logx_assets.core.errors import LogFileError, SourceError
from s3logx_assets.core.ledger import LogObject
from s3logx_assets.core.log_names import log_date

_YEAR = re.compile(r"[0-9]{4}")
# account/region/bucket, below a prefix of the user's own.
_DEEPEST_ROOT = 6
# A name's date may differ from its folder's by the time a delivery takes.
_NEIGHBOURS = (timedelta(days=-1), timedelta(0), timedelta(days=1))


@dataclass(frozen=True, slots=True)
class Listing:
    """The log objects of one date, in byte order of name, and what lay beside them.

    `strays` counts objects whose date folder disagrees with their name, `ignored` those with another kind of name.
    """

    objects: tuple[LogObject, ...]
    strays: int = 0
    ignored: int = 0


class LogReader(Protocol):
    """One log object, open."""

    def read(self, size: int) -> bytes: ...

    def close(self) -> None:
        """Raises LogFileError if the object is no longer what was listed."""


class LogStore(Protocol):
    """A source of log objects."""

    def listings(self, days: Sequence[date]) -> Iterator[tuple[date, Listing]]:
        """The listing of each of `days`, in their order. Raises SourceError if the source is none."""

    def days(self) -> list[date]:
        """All dates that have log objects, ascending."""

    def open(self, item: LogObject) -> LogReader:
        """Raises LogFileError if it cannot be opened."""


class LocalLogStore:
    """A folder. Symbolic links are not followed: they could lead out of it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"LocalLogStore({str(self.root)!r})"

    def listings(self, days: Sequence[date]) -> Iterator[tuple[date, Listing]]:
        flat, roots, ignored = self._survey(set(days))
        for day in days:
            objects, strays = list(flat.get(day, ())), 0
            for root in roots:
                for shift in _NEIGHBOURS:
                    folder = day + shift
                    for item, item_day in self._folder(root / folder.strftime("%Y/%m/%d")):
                        if item_day == day:
                            objects.append(item)
                            strays += bool(shift)
            yield day, Listing(tuple(sorted(objects)), strays, ignored)

    def days(self) -> list[date]:
        found: set[date] = set()
        for folder, _, names in os.walk(self.root):
            del folder
            found.update(day for name in names if (day := log_date(name)) is not None)
        return sorted(found)

    def open(self, item: LogObject) -> "LocalLogReader":
        return LocalLogReader(self.root, item)

    def _survey(self, wanted: set[date]) -> tuple[dict[date, list[LogObject]], list[Path], int]:
        """One look at everything above the date folders: flat log objects of the wanted dates by date, the roots of
        date folders, and the number of files that are no logs."""
        if not self.root.is_dir():
            raise SourceError(f"S3LOGX_LOGS: {self.root} is not a folder")
        flat: dict[date, list[LogObject]] = defaultdict(list)
        roots: list[Path] = []
        ignored = logs = 0
        pending = [(self.root, 0)]
        while pending:
            folder, depth = pending.pop()
            dated = False
            for entry in self._scan(folder):
                if entry.is_dir(follow_symlinks=False):
                    if _YEAR.fullmatch(entry.name):
                        dated = True
                    elif depth < _DEEPEST_ROOT:
                        pending.append((Path(entry.path), depth + 1))
                elif (day := log_date(entry.name)) is None or entry.is_symlink():
                    ignored += 1
                else:
                    logs += 1
                    if day in wanted:
                        flat[day].append(self._describe(entry))
            if dated:
                roots.append(folder)
        if ignored and not logs and not roots:
            raise SourceError(
                f"S3LOGX_LOGS: {self.root} holds {ignored} files and none is named like an access log "
                "(YYYY-MM-DD-hh-mm-ss-<unique>)"
            )
        return flat, sorted(roots), ignored

    def _folder(self, folder: Path) -> Iterator[tuple[LogObject, date]]:
        if folder.is_dir() and not folder.is_symlink():
            for entry in self._scan(folder):
                day = log_date(entry.name)
                if day is not None and entry.is_file(follow_symlinks=False):
                    yield self._describe(entry), day

    def _scan(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                yield from entries
        except OSError as error:
            raise SourceError(f"S3LOGX_LOGS: cannot list {folder}: {error.strerror}") from None

    def _describe(self, entry: os.DirEntry[str]) -> LogObject:
        stat = entry.stat(follow_symlinks=False)
        return LogObject(entry.path[len(str(self.root)) + 1 :], stat.st_size, str(stat.st_mtime_ns))


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
        stat = os.fstat(self._descriptor)
        os.close(self._descriptor)
        if (stat.st_size, str(stat.st_mtime_ns)) != (self._item.size, self._item.version):
            raise LogFileError(f"log file {self._item.name!r} changed while it was read")
