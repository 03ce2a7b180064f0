"""Which log files and which records of a date there are twice: the content decides, byte for byte.

Size, checksum and columns only tell what is worth reading again. In bounded memory, however many there are. What is done
about a duplicate does not belong here.
"""

import hashlib
import os
import struct
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial

import numpy as np
from numpy.typing import NDArray

from s3logx_assets.adapters.log_contents import CHUNK, contents
from s3logx_assets.adapters.log_store import LogStore
from s3logx_assets.core.addresses import AddressBlock, from_bytes
from s3logx_assets.core.extraction import DateRows, Place, repeated
from s3logx_assets.core.ledger import LogObject
from s3logx_assets.core.log_lines import MAX_RECORD_BYTES, Record, parse_record

# Contents that are looked for in one reading of the files.
_AT_ONCE = 1 << 20


def equal_files(store: LogStore, files: Iterable[tuple[int, LogObject, tuple[int, ...]]]) -> set[int]:
    """The numbers of the files whose content equals that of an earlier one. `files`: number, object, and what equal files
    have in common."""
    alike: dict[tuple[int, ...], list[tuple[int, LogObject]]] = defaultdict(list)
    for number, item, traits in files:
        if item.size:
            alike[item.size, *traits].append((number, item))
    copies = set()
    for group in alike.values():
        if len(group) > 1:
            seen: set[bytes] = set()
            for number, item in group:
                digest = _digest(store, item)
                if digest in seen:
                    copies.add(number)
                seen.add(digest)
    return copies


def _digest(store: LogStore, item: LogObject) -> bytes:
    digest = hashlib.sha256()
    with closing(store.open(item)) as reader:
        while chunk := reader.read(CHUNK):
            digest.update(chunk)
    return digest.digest()


class EqualRecords:
    """The rows of a date whose records are identical in all bytes to an earlier one's.

    First `suspect` is told of all rows, then `settle` reads the files again, and then `kept` leaves the rows out. Rows of
    equal content are interchangeable: any of them may go. Rows come in order, part by part.
    """

    def __init__(self, seal: Callable[[AddressBlock], AddressBlock]) -> None:
        self._seal = seal
        # Nobody who writes into logs can make two contents that look the same here.
        self._salt = os.urandom(16)
        self._suspects = array("Q")
        self._files: set[int] = set()
        self._doomed = np.empty(0, np.uint64)
        self._times = np.empty(0, np.int64)

    def suspect(self, parts: Iterable[DateRows]) -> int:
        """All rows; the answer is their number."""
        count = 0
        for rows, places, file_before in _alike(parts):
            count += len(rows)
            if len(places):
                self._suspects.extend(self._contents(rows, places))
                self._files.update(np.unique(rows.file[places]).tolist(), file_before)
        return count

    def settle(self, store: LogStore, item_of: Callable[[int], LogObject]) -> Counter[int]:
        """How many records of each file, by its number, are there already, in the order of the files' numbers. Raises
        LogFileError and SourceUnavailable."""
        suspects = np.unique(np.frombuffer(self._suspects, np.uint64))
        self._suspects = array("Q")
        of_file: Counter[int] = Counter()
        found: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []
        for start in range(0, len(suspects), _AT_ONCE):
            again = self._among(set(suspects[start : start + _AT_ONCE].tolist()), store, item_of, of_file)
            contents_ = np.fromiter(again, np.uint64, len(again))
            order = np.argsort(contents_)
            found.append((contents_[order], np.fromiter(again.values(), np.int64, len(again))[order]))
        if found:
            self._doomed, self._times = (np.concatenate(each) for each in zip(*found, strict=True))
        return of_file

    def kept(self, parts: Iterable[DateRows]) -> Iterator[DateRows]:
        """All rows again, without those that go."""
        if not len(self._times):
            yield from parts
            return
        times = self._times.copy()
        for rows, places, _ in _alike(parts):
            yield self._without(rows, places, times)

    def _without(self, rows: DateRows, places: NDArray[np.int64], times: NDArray[np.int64]) -> DateRows:
        """`rows` without as many of those at `places` as are doomed; `times` counts down."""
        content = np.array(self._contents(rows, places), np.uint64)
        slots = np.searchsorted(self._doomed, content)
        slots[slots == len(self._doomed)] = 0
        stay = np.ones(len(rows), bool)
        for place, slot, known in zip(places, slots, self._doomed[slots] == content, strict=True):
            if known and times[slot]:
                times[slot] -= 1
                stay[place] = False
        return rows.chosen(stay)

    def _among(
        self, wanted: set[int], store: LogStore, item_of: Callable[[int], LogObject], of_file: Counter[int]
    ) -> dict[int, int]:
        """How often each of the `wanted` contents is there again."""
        again: dict[int, int] = defaultdict(int)
        seen: set[bytes] = set()
        for number in sorted(self._files):
            for record in _records(store, item_of(number)):
                parsed = parse_record(record)
                if not isinstance(parsed, Record) or (content := self._content_of(parsed)) not in wanted:
                    continue
                digest = hashlib.blake2b(record.removesuffix(b"\r"), digest_size=16, key=self._salt).digest()
                if digest in seen:
                    again[content] += 1
                    of_file[number] += 1
                seen.add(digest)
        return again

    def _contents(self, rows: DateRows, places: NDArray[np.int64]) -> list[int]:
        return [self._content(*_columns(rows, row)) for row in places.tolist()]

    def _content_of(self, record: Record) -> int:
        sealed = b"" if record.address is None else self._seal(from_bytes([record.address])).tobytes()
        size = -1 if record.object_size is None else record.object_size
        second = int(record.requested_at.timestamp())
        return self._content(record.object_key.encode(), second, record.bytes_sent, size, record.status, sealed)

    def _content(self, key: bytes, second: int, sent: int, size: int, status: int, sealed: bytes) -> int:
        fixed = struct.pack("<qqqhB", second, sent, size, status, len(sealed))
        digest = hashlib.blake2b(fixed + sealed + key, digest_size=8, key=self._salt)
        return int.from_bytes(digest.digest(), "little")


def _alike(parts: Iterable[DateRows]) -> Iterator[tuple[DateRows, NDArray[np.int64], tuple[int, ...]]]:
    """Each part with the rows in it that look like another one, be it the last of the part before; and where it is that
    one, its file's number."""
    last: tuple[Place, int] | None = None
    for rows in parts:
        places = repeated(rows)
        file_before: tuple[int, ...] = ()
        if len(rows):
            if last is not None and rows.place(0) == last[0]:
                places, file_before = np.union1d([0], places), (last[1],)
            last = rows.place(len(rows) - 1), int(rows.file[-1])
        yield rows, places, file_before


def _columns(rows: DateRows, row: int) -> tuple[bytes, int, int, int, int, bytes]:
    key, second, sent, _, size, status, _, sealed, _ = rows.place(row)
    return key, second, sent, size, status, sealed


def _records(store: LogStore, item: LogObject) -> Iterator[bytes]:
    """The records of a log object, without their newlines. Of one that is too long to be any comes no more than shows
    it."""
    rest = b""
    for chunk in contents(item, partial(store.open, item)):
        *records, rest = (rest + chunk).split(b"\n")
        rest = rest[: MAX_RECORD_BYTES + 1]
        yield from records
    if rest:
        yield rest
