"""The extraction engine: the log objects of any number of dates through a few gawk processes, date by date out.

    listing -> batches of files -> [thread: feed] -> gawk -> [thread: parse] -> rows by date -> table and ledger

Each process serves files of many dates, in the order of the dates; a date comes out as soon as its last file is
through. One date's bad file ends that date alone. Nothing is written, and addresses stay in this process's memory.
What becomes of a date belongs to the caller.
"""

import hashlib
import queue
import threading
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from itertools import groupby

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3logx_assets.adapters.gawk import FileReport, Gawk, RecordFeeder, Report
from s3logx_assets.adapters.log_store import Listing, LogReader, LogStore
from s3logx_assets.core import extraction
from s3logx_assets.core.addresses import AddressBlock
from s3logx_assets.core.errors import LogFileError, S3logxError, SourceUnavailable
from s3logx_assets.core.ledger import COUNTS, LEDGER, LogObject
from s3logx_assets.core.log_lines import REJECT_REASONS, SKIP_RULES, Record, parse_record, split_records

_CHUNK = 1 << 20
_BATCH_BYTES = 8 << 20
_BATCH_FILES = 400
_HEAD = 4096
_GZIP = b"\x1f\x8b"
_REPORTED = 20
# The program's counts, in its order.
_PROGRAM_COUNTS = (
    *(f"skipped_{rule}" for rule in SKIP_RULES if rule != "excluded"),
    *(f"rejected_{reason}" for reason in REJECT_REASONS),
)


@dataclass(frozen=True, slots=True)
class ExtractedDate:
    """A date that is done: rows of EXTRACTED_LOGS, the ledger, and the first rejected records as (file name, record
    number from 1, reason)."""

    day: date
    rows: pa.Table
    ledger: pa.Table
    listing: Listing
    rejected: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True, slots=True)
class FailedDate:
    """A date that cannot be extracted, and why."""

    day: date
    error: S3logxError


@dataclass(slots=True)
class _File:
    """One log file on its way."""

    item: LogObject
    date: "_Date"
    checksum: int = 0  # of the first bytes: only narrows the search for equal files
    delivered: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def take_head(self, head: bytes) -> None:
        """Keeps the checksum of the first bytes."""
        self.checksum = zlib.crc32(head)


@dataclass(slots=True)
class _Date:
    """One date on its way. `open` counts its files that are not through yet."""

    day: date
    listing: Listing
    numbers: range
    open: int
    error: S3logxError | None = None
    chunks: list[pa.Table] = field(default_factory=list)
    files: list[NDArray[np.int32]] = field(default_factory=list)
    rejected: list[tuple[int, int, str]] = field(default_factory=list)


class Extractor:
    """Extracts dates from a log store.

    `seal` turns an address block into a sealed one; `is_excluded` tells the archive's own addresses, as logged;
    `workers` is the number of gawk processes.
    """

    def __init__(
        self,
        log_store: LogStore,
        seal: Callable[[AddressBlock], AddressBlock],
        workers: int,
        is_excluded: Callable[[str], bool] | None = None,
    ) -> None:
        self._store = log_store
        self._seal = seal
        self._workers = workers
        self._is_excluded = is_excluded

    def extract(
        self, days: Sequence[date], refuse: Callable[[date, Listing], S3logxError | None] = lambda day, listing: None
    ) -> Iterator[ExtractedDate | FailedDate]:
        """Each of `days` once, about in their order. `refuse` sees a date's listing first and may fail the date before
        a byte is read. Raises SourceError if the source is none, TransientError if gawk dies."""
        dates: list[_Date] = []
        files: list[_File] = []
        for day, listing in self._store.listings(days):
            numbers = range(len(files), len(files) + len(listing.objects))
            entry = _Date(day, listing, numbers, len(numbers), listing.error or refuse(day, listing))
            dates.append(entry)
            files.extend(_File(item, entry) for item in listing.objects)
        waiting = deque(dates)
        run = _Run(self._store, files, self._workers)
        try:
            for _ in run.steps():
                while waiting and (waiting[0].error is not None or not waiting[0].open):
                    yield self._finish(waiting.popleft(), files)
            while waiting:
                yield self._finish(waiting.popleft(), files)
        finally:
            run.stop()

    def _finish(self, entry: _Date, files: list[_File]) -> ExtractedDate | FailedDate:
        try:
            if entry.error is not None:
                return FailedDate(entry.day, entry.error)
            return self._assemble(entry, files)
        except (LogFileError, SourceUnavailable) as error:
            return FailedDate(entry.day, error)
        finally:
            entry.chunks.clear()
            entry.files.clear()

    def _assemble(self, entry: _Date, files: list[_File]) -> ExtractedDate:
        numbered = [(number, files[number]) for number in entry.numbers]
        rows, excluded = extraction.gather(entry.chunks, entry.files, self._is_excluded)
        for number, count in Counter(excluded.tolist()).items():
            _move(files[number].counts, "extracted", "skipped_excluded", count)
        copies = self._equal_files(numbered)
        if copies:
            rows.keep(~np.isin(rows.file, np.array(sorted(copies), np.int32)))
            for number in copies:
                records = files[number].counts["records"]
                files[number].counts = {"records": records, "duplicate": records}
        self._drop_equal_records(rows, files)
        ledger = pa.table(
            {
                "name": [file.item.name for _, file in numbered],
                "size": [file.item.size for _, file in numbered],
                "version": [file.item.version for _, file in numbered],
                **{name: [file.counts.get(name, 0) for _, file in numbered] for name in ("records", *COUNTS)},
            },
            schema=LEDGER,
        )
        rejected = sorted(item for item in entry.rejected if item[0] not in copies)[:_REPORTED]
        return ExtractedDate(
            entry.day,
            extraction.to_table(rows, self._seal),
            ledger,
            entry.listing,
            tuple((files[number].item.name, record, reason) for number, record, reason in rejected),
        )

    def _equal_files(self, numbered: Sequence[tuple[int, _File]]) -> set[int]:
        """The numbers of the files whose content equals that of an earlier one in byte order of name."""
        alike: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        by_number = dict(numbered)
        for number, file in numbered:
            if file.item.size:
                alike[file.item.size, file.checksum, file.counts["records"]].append(number)
        copies = set()
        for numbers in alike.values():
            if len(numbers) > 1:
                seen: set[bytes] = set()
                for number in numbers:
                    digest = self._digest(by_number[number].item)
                    if digest in seen:
                        copies.add(number)
                    seen.add(digest)
        return copies

    def _digest(self, item: LogObject) -> bytes:
        digest = hashlib.sha256()
        with closing(self._store.open(item)) as reader:
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
        return digest.digest()

    def _drop_equal_records(self, rows: extraction.DateRows, files: list[_File]) -> None:
        """Drops every row whose record is identical in all bytes to an earlier one's. The rows only tell which are
        worth looking at; the records themselves are read again to decide."""
        suspects = extraction.suspected_duplicates(rows)
        if not len(suspects):
            return
        of_content: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for row in suspects.tolist():
            of_content[_content_of_row(rows, row)].append(row)
        seen: set[bytes] = set()
        dropped: list[int] = []
        for number in np.unique(rows.file[suspects]).tolist():
            for record in self._records(files[number].item):
                parsed = parse_record(record)
                if not isinstance(parsed, Record) or (content := _content_of_record(parsed)) not in of_content:
                    continue
                digest = hashlib.sha256(record.removesuffix(b"\r")).digest()
                if digest in seen:
                    # Rows of equal content are interchangeable: any of them may go.
                    dropped.append(of_content[content].pop())
                    _move(files[number].counts, "extracted", "duplicate", 1)
                seen.add(digest)
        if dropped:
            kept = np.ones(len(rows), bool)
            kept[dropped] = False
            rows.keep(kept)

    def _records(self, item: LogObject) -> Iterator[bytes]:
        content = b"".join(contents(item, partial(self._store.open, item)))
        return split_records(content)


def _content_of_row(rows: extraction.DateRows, row: int) -> tuple[object, ...]:
    address, size = int(rows.address[row]), int(rows.object_size[row])
    return (
        rows.keys[int(rows.key[row])].as_py(),
        int(rows.second[row]),
        int(rows.bytes_sent[row]),
        size if size >= 0 else None,
        int(rows.status[row]),
        rows.packed[address].tobytes() if address >= 0 else None,
    )


def _content_of_record(record: Record) -> tuple[object, ...]:
    return (
        record.object_key,
        int(record.requested_at.timestamp()),
        record.bytes_sent,
        record.object_size,
        record.status,
        record.address,
    )


def _move(counts: dict[str, int], source: str, target: str, count: int) -> None:
    counts[source] = counts.get(source, 0) - count
    counts[target] = counts.get(target, 0) + count


def contents(
    item: LogObject, opened: Callable[[], LogReader], on_head: Callable[[bytes], None] = lambda head: None
) -> Iterator[bytes]:
    """The content of a log object in chunks, unpacked if it is gzip, which its first bytes tell. `on_head` gets the
    first bytes as stored. Raises LogFileError if the object cannot be read whole or is not what was listed, and what
    `opened` raises."""
    reader = opened()
    try:
        received = 0
        unpack = None
        while received <= item.size:
            # One byte more than is left: a file that fits is read, and seen to end, in a single call.
            chunk = reader.read(min(_CHUNK, item.size - received + 1))
            if not received:
                on_head(chunk[:_HEAD])
                if chunk[:2] == _GZIP:
                    unpack = _Gunzip(item.name)
            received += len(chunk)
            if not chunk or received > item.size:
                break
            if unpack is None:
                yield chunk
            else:
                yield from unpack.feed(chunk)
            if received == item.size and len(chunk) < _CHUNK:
                break
        if unpack is not None:
            unpack.end()
        if received != item.size:
            raise LogFileError(f"log file {item.name!r} changed while it was read")
    finally:
        reader.close()


class _Gunzip:
    """A gzip file of one or more members (RFC 1952), in bounded memory."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inflate = zlib.decompressobj(wbits=31)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            if self._inflate.eof:
                self._inflate = zlib.decompressobj(wbits=31)
            try:
                content = self._inflate.decompress(chunk, _CHUNK)
            except zlib.error:
                raise LogFileError(f"log file {self._name!r} is a damaged gzip file") from None
            if content:
                yield content
            chunk = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail

    def end(self) -> None:
        if not self._inflate.eof:
            raise LogFileError(f"log file {self._name!r} is a gzip file cut short")


class _Run:
    """The processes and threads of one extraction. `steps` hands the main thread one report after the other."""

    def __init__(self, store: LogStore, files: list[_File], workers: int) -> None:
        self._store = store
        self._files = files
        self._batches = deque(_batches(files))
        self._answers: queue.Queue[tuple[deque[int], Report, pa.Table] | BaseException | None] = queue.Queue(maxsize=8)
        self._stopped = threading.Event()
        self._processes: list[Gawk] = []
        self._threads: list[threading.Thread] = []
        for _ in range(min(workers, len(self._batches))):
            process = Gawk()
            fed: deque[int] = deque()
            self._processes.append(process)
            self._threads += [
                threading.Thread(target=self._guard, args=(self._feed, process, fed), daemon=True),
                threading.Thread(target=self._guard, args=(self._parse, process, fed), daemon=True),
            ]
        for thread in self._threads:
            thread.start()

    def steps(self) -> Iterator[None]:
        """Takes in one report at a time, until all are in."""
        yield
        running = len(self._processes)
        while running:
            answer = self._answers.get()
            if answer is None:
                running -= 1
                continue
            if isinstance(answer, BaseException):
                raise answer
            self._take(*answer)
            yield

    def stop(self) -> None:
        """Ends processes and threads, whatever state they are in."""
        self._stopped.set()
        for process in self._processes:
            process.kill()
        while any(thread.is_alive() for thread in self._threads):
            try:
                self._answers.get(timeout=0.05)  # a thread may wait for room
            except queue.Empty:
                continue
        for process in self._processes:
            process.close()

    def _guard(self, work: Callable[[Gawk, deque[int]], None], process: Gawk, fed: deque[int]) -> None:
        try:
            work(process, fed)
        except BaseException as error:
            if not self._stopped.is_set():
                self._answers.put(error)

    def _feed(self, process: Gawk, fed: deque[int]) -> None:
        feeder = RecordFeeder(process)
        asked: deque[tuple[int, bool]] = deque()
        unreported = 0
        for opened in self._store.opening(self._items(asked)):
            number, is_last = asked.popleft()
            file = self._files[number]
            if file.date.error is None:
                fed.append(number)
                process.open_file(number)
                try:
                    for chunk in contents(file.item, opened, file.take_head):
                        unreported += len(chunk)
                        if unreported > _BATCH_BYTES and (end := chunk.rfind(b"\n") + 1):
                            feeder.feed(chunk[:end])
                            process.report()
                            unreported = 0
                            chunk = chunk[end:]
                        if chunk:
                            feeder.feed(chunk)
                except (LogFileError, SourceUnavailable) as error:  # and not gawk's own end, which ends the run
                    file.date.error = error
                feeder.end_file()
            if is_last:
                process.open_file(-1)
                process.report()
                unreported = 0
        process.end()

    def _items(self, asked: deque[tuple[int, bool]]) -> Iterator[LogObject]:
        """The log objects of one batch after the other, as long as there are any. `asked` gets the number of each, and
        whether it is the last of its batch: the store may be some objects ahead of gawk."""
        while not self._stopped.is_set():
            try:
                batch = self._batches.popleft()
            except IndexError:
                return
            wanted = [number for number in batch if self._files[number].date.error is None]
            for number in wanted:
                asked.append((number, number == wanted[-1]))
                yield self._files[number].item

    def _parse(self, process: Gawk, fed: deque[int]) -> None:
        for report in process.reports():
            self._answers.put((fed, report, extraction.parse_rows(report.rows)))
        self._answers.put(None)

    def _take(self, fed: deque[int], report: Report, rows: pa.Table) -> None:
        """Gives the rows of a report to their dates. Rows come in the files' order; those behind the last closed file
        belong to the one that is still open."""
        numbers, counts = [], []
        for closed in report.files:
            assert fed.popleft() == closed.number
            numbers.append(closed.number)
            counts.append(closed.extracted - self._files[closed.number].delivered)
            self._close(closed)
        if (left := rows.num_rows - sum(counts)) > 0:
            numbers.append(fed[0])
            counts.append(left)
            self._files[fed[0]].delivered += left
        # One slice for each date, not for each file: every slice brings a dictionary that has to be unified.
        start = 0
        by_date = groupby(zip(numbers, counts, strict=True), lambda file: self._files[file[0]].date.numbers.start)
        for first, files in by_date:
            of_date, rows_of = zip(*files, strict=True)
            entry = self._files[first].date
            if (count := sum(rows_of)) and entry.error is None:
                entry.chunks.append(rows.slice(start, count))
                entry.files.append(np.repeat(np.array(of_date, np.int32), rows_of))
            start += count
        for item in report.rejected:
            self._files[item[0]].date.rejected.append(item)

    def _close(self, closed: FileReport) -> None:
        file = self._files[closed.number]
        file.counts = {
            "records": closed.records,
            "extracted": closed.extracted,
            **dict(zip(_PROGRAM_COUNTS, closed.counts, strict=True)),
        }
        file.date.open -= 1


def _batches(files: Sequence[_File]) -> Iterator[list[int]]:
    """File numbers in order, so many at a time that a batch is worth its two messages and a few fill the machine."""
    batch: list[int] = []
    size = 0
    for number, file in enumerate(files):
        batch.append(number)
        size += file.item.size
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
