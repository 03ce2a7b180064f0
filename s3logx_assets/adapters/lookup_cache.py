"""What services on the network answered, kept on disk, so that nothing is asked (and paid for) twice.

One SQLite file per service, 0600, used by one process or thread at a time. `LookupCache` keeps answers as they are,
`SealedLookupCache` those on addresses: by index, sealed, nothing in clear. A cache is worth money but never needed: what
is damaged or another key's is made anew, and one that cannot be used at all is told of and gone without. What is asked,
and what an answer means, does not belong here.
"""

import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from s3logx_assets.adapters.local_files import locked, make_folder
from s3logx_assets.core.sealing import Sealer

Key = TypeVar("Key", int, str)
T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_DAY = 86_400
# An answer that has expired may still be of use while its service is down. So long, in times to live, it is kept.
_KEPT = 2
_FORMAT = 1
_TABLES = """
    DROP TABLE IF EXISTS owner;
    DROP TABLE IF EXISTS lookups;
    CREATE TABLE owner (name TEXT NOT NULL);
    CREATE TABLE lookups (key PRIMARY KEY, looked_up INTEGER NOT NULL, answer BLOB NOT NULL) WITHOUT ROWID;
"""
# A file that is no database, a broken one, or one with other tables. A full disk, say, is no reason to throw it away.
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)
# Sealed answers are this long or a multiple of it: their length says nothing.
_PADDED = 64


class Lookup(NamedTuple):
    """A kept answer (any JSON value), and whether it is within its time to live."""

    answer: Any
    fresh: bool


class LookupCache(Generic[Key]):
    """The answers in the file `path`, by key, with a time to live of `days`. `owner`: whose they are; another owner's
    are thrown away. `clock`: seconds since 1970."""

    def __init__(self, path: Path, days: int, owner: str = "", clock: Callable[[], float] = time.time) -> None:
        self._path, self._days, self._owner, self._clock = path, days, owner, clock
        self._swept = self._told = False

    def get(self, keys: Iterable[Key]) -> dict[Key, Lookup]:
        """The answers there are, expired ones too."""
        query = "SELECT key, looked_up, answer FROM lookups WHERE key IN (SELECT value FROM json_each(?))"
        wanted = json.dumps(list(keys))
        nothing: list[tuple[Key, int, object]] = []
        rows = self._with_database(lambda database: database.execute(query, (wanted,)).fetchall(), nothing)
        now = self._clock()
        since, until = now - self._days * _DAY, now + _DAY  # a clock that was wrong once keeps nothing for ever
        found = {}
        for key, looked_up, stored in rows:
            answer = self._answer(key, stored)
            if answer is not None:
                found[key] = Lookup(answer, since < looked_up < until)
        return found

    def put(self, answers: Mapping[Key, Any]) -> None:
        """Keeps the answers, none of them None, as of now."""
        now = int(self._clock())
        rows = [(key, now, self._stored(key, json.dumps(answer).encode())) for key, answer in answers.items()]

        def write(database: sqlite3.Connection) -> None:
            if not self._swept:
                oldest = now - _KEPT * self._days * _DAY
                database.execute("DELETE FROM lookups WHERE looked_up < ?", (oldest,))
                self._swept = True
            database.executemany("INSERT OR REPLACE INTO lookups VALUES (?, ?, ?)", rows)

        self._with_database(write, None)

    def _answer(self, key: Key, stored: object) -> Any:
        text = self._text(key, stored) if isinstance(stored, bytes) else None
        try:
            return None if text is None else json.loads(text)
        except ValueError:
            return None

    def _stored(self, key: Key, text: bytes) -> bytes:
        return text

    def _text(self, key: Key, stored: bytes) -> bytes | None:
        return stored

    def _with_database(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What `work` gives, in one transaction; `otherwise` where the cache cannot be used."""
        try:
            with self._locked():
                try:
                    return self._transaction(work)
                except sqlite3.DatabaseError as error:
                    if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                        raise
                    for name in (self._path.name, f"{self._path.name}-journal"):
                        self._path.with_name(name).unlink(missing_ok=True)
                    return self._transaction(work)
        except (OSError, sqlite3.Error) as error:
            if not self._told:
                _LOG.warning("%s cannot be used (%s): nothing is remembered", self._path, type(error).__name__)
            self._told = True
            return otherwise

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.close(descriptor)  # SQLite would make it readable by others
        with closing(sqlite3.connect(self._path)) as database, database:
            if database.execute("PRAGMA user_version").fetchone() != (_FORMAT,):
                database.executescript(f"{_TABLES} PRAGMA user_version = {_FORMAT};")
            if database.execute("SELECT name FROM owner").fetchall() != [(self._owner,)]:
                database.execute("DELETE FROM owner")
                database.execute("DELETE FROM lookups")
                database.execute("INSERT INTO owner VALUES (?)", (self._owner,))
            return work(database)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps all others out, so that a damaged file can be replaced. Raises OSError."""
        make_folder(self._path.parent)
        with locked(self._path.with_suffix(".lock")):
            yield


class SealedLookupCache(LookupCache[int]):
    """Answers on addresses, by ip_index; sealed, so that the file tells nobody without the key where anyone lies."""

    def __init__(self, path: Path, days: int, sealer: Sealer, clock: Callable[[], float] = time.time) -> None:
        super().__init__(path, days, sealer.key_id, clock)
        self._sealer = sealer

    def _stored(self, key: int, text: bytes) -> bytes:
        return self._sealer.seal_lookup(key, text.ljust(-(-len(text) // _PADDED) * _PADDED))

    def _text(self, key: int, stored: bytes) -> bytes | None:
        return self._sealer.unseal_lookup(key, stored)
