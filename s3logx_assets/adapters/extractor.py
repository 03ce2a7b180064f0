"""The extraction engine: the log objects of any number of dates through a few gawk processes, date by date out.

    listing -> batches of files -> [thread: feed] -> gawk -> [thread: parse] -> rows by date -> table and ledger

Each process serves files of many dates, in the order of the dates; a date comes out as soon as its last file is
through. Dates are listed some at a time, so that a run's memory does not grow with its dates. One date's bad file ends
that date alone. Nothing is written, and addresses stay in this process's memory. What becomes of a date belongs to the
caller.
"""

import queue
import threading
import zlib
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3logx_assets.adapters.duplicates import EqualRecords, equal_files
from s3logx_assets.adapters.gawk import Gawk, RecordFeeder, Report
from s3logx_assets.adapters.log_contents import contents
from s3logx_assets.adapters.log_store import FILES_AT_ONCE, Listing, LogStore
from s3logx_assets.adapters.memory import freed_memory_kept, system_allocator
from s3logx_assets.adapters.row_runs import RowCollector
from s3logx_assets.core import extraction
from s3logx_assets.core.addresses import AddressBlock
from s3logx_assets.core.errors import LogFileError, S3logxError, SourceUnavailable, StoreError
from s3logx_assets.core.extraction import DateRows
from s3logx_assets.core.ledger import COUNTS, LEDGER, LogObject
from s3logx_assets.core.log_lines import REJECT_REASONS, SKIP_RULES

_BATCH_BYTES = 8 << 20
_BATCH_FILES = 400
_REPORTED = 20
# So many rejected records of a date are kept, or up to twice as many, until it is known which of its files are copies.
_REJECTS_KEPT = 50 * _REPORTED
# The program's counts, in its order.
_PROGRAM_COUNTS = (
    *(f"skipped_{rule}" for rule in SKIP_RULES if rule != "excluded"),
    *(f"rejected_{reason}" for reason in REJECT_REASONS),
)
# The columns of a run's counts, a row per file: what the program reports, and what is found out afterwards.
_COUNTED = {
    name: column
    for column, name in enumerate(("records", "extracted", *_PROGRAM_COUNTS, "skipped_excluded", "duplicate"))
}
_REPORTED_COUNTS = 2 + len(_PROGRAM_COUNTS)
# So much of a file's head goes into its checksum: at least a record's request ID.
_HEAD = 512


@dataclass(frozen=True, slots=True)
class ExtractedDate:
    """A date that is done: its rows and their number, the ledger, and the first rejected records as (file name, record
    number from 1, reason). The rows come as tables of EXTRACTED_LOGS, each of `extraction.GROUP` rows but the last; they
    can be had, more than once, until the next date is asked for."""

    day: date
    tables: Iterable[pa.Table]
    row_count: int
    ledger: pa.Table
    listing: Listing
    rejected: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True, slots=True)
class FailedDate:
    """A date that cannot be extracted, and why."""

    day: date
    error: S3logxError


def bare(error: S3logxError) -> S3logxError:
    """The error without the frames that it came through, so that what they hold, up to all rows of a date, can go: errors
    are kept as long as a run lasts, and tell themselves."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


@dataclass(slots=True)
class _File:
    """One log file on its way."""

    item: LogObject
    date: "_Date"
    checksum: int = 0  # of the first bytes: only narrows the search for equal files
    delivered: int = 0

    def take_head(self, head: bytes) -> None:
        """Keeps the checksum of the first bytes."""
        self.checksum = zlib.crc32(head[:_HEAD])


@dataclass(slots=True)
class _Date:
    """One date on its way. `open` counts its files that are not through yet."""

    day: date
    listing: Listing
    numbers: range
    open: int
    rows: RowCollector
    error: S3logxError | None = None
    rejected: list[tuple[int, int, str]] = field(default_factory=list)

    def reject(self, item: tuple[int, int, str]) -> None:
        """Keeps a rejected record, if it is among the first ones: where the format changes, all files have some."""
        self.rejected.append(item)
        if len(self.rejected) > 2 * _REJECTS_KEPT:
            self.rejected.sort()
            del self.rejected[_REJECTS_KEPT:]


class Extractor:
    """Extracts dates from a log store.

    `seal` turns an address block into a sealed one; `is_excluded` tells the archive's own addresses, as logged;
    `workers` is the number of gawk processes; `scratch` is the folder where rows of a large date wait on disk, sealed.
    """

    def __init__(
        self,
        log_store: LogStore,
        seal: Callable[[AddressBlock], AddressBlock],
        workers: int,
        scratch: Path,
        is_excluded: Callable[[str], bool] | None = None,
    ) -> None:
        self._store = log_store
        self._seal = seal
        self._workers = workers
        self._scratch = scratch
        self._is_excluded = is_excluded

    def extract(
        self, days: Sequence[date], refuse: Callable[[date, Listing], S3logxError | None] = lambda day, listing: None
    ) -> Iterator[ExtractedDate | FailedDate]:
        """Each of `days` once, about in their order. `refuse` sees a date's listing first and may fail the date before
        a byte of it is read. Raises SourceError if the source is none, TransientError if gawk dies."""
        # Chunks of files and rows come and go all the time; getting their memory from the system anew each time takes as
        # long as reading the files does.
        with freed_memory_kept(), system_allocator():
            listings = self._store.listings(days)
            while listed := list(_slice(listings)):
                yield from self._extracted(listed, refuse)

    def _extracted(
        self, listed: Sequence[tuple[date, Listing]], refuse: Callable[[date, Listing], S3logxError | None]
    ) -> Iterator[ExtractedDate | FailedDate]:
        """The dates of one slice."""
        dates: list[_Date] = []
        files: list[_File] = []
        for day, listing in listed:
            numbers = range(len(files), len(files) + len(listing.objects))
            rows = RowCollector(self._seal, self._is_excluded, self._scratch)
            entry = _Date(day, listing, numbers, len(numbers), rows, listing.error or refuse(day, listing))
            dates.append(entry)
            files.extend(_File(item, entry) for item in listing.objects)
        waiting = deque(dates)
        run = _Run(self._store, files, self._workers)
        try:
            for _ in run.steps():
                while waiting and (waiting[0].error is not None or not waiting[0].open):
                    yield from self._finished(waiting.popleft(), run)
            while waiting:
                yield from self._finished(waiting.popleft(), run)
        finally:
            run.stop()
            for entry in dates:
                entry.rows.close()

    def _finished(self, entry: _Date, run: "_Run") -> Iterator[ExtractedDate | FailedDate]:
        error = entry.error
        try:
            if error is None:
                yield self._assemble(entry, run)
        except (LogFileError, SourceUnavailable, StoreError) as trouble:
            error = bare(trouble)
        finally:
            entry.rows.close()
        if error is not None:
            yield FailedDate(entry.day, error)

    def _assemble(self, entry: _Date, run: "_Run") -> ExtractedDate:
        first, files = entry.numbers.start, run.files[entry.numbers.start : entry.numbers.stop]
        counts = run.counts[first : entry.numbers.stop]
        sizes = [file.item.size for file in files]
        copies = self._copies(first, files, counts[:, _COUNTED["records"]])
        rows = _DateTables(entry.rows, copies, EqualRecords(self._seal))
        row_count, again = rows.settle(self._store, run.files)
        for reason, moved in (("skipped_excluded", entry.rows.excluded), ("duplicate", again)):
            for number, count in moved.items():
                counts[number - first, _COUNTED["extracted"]] -= count
                counts[number - first, _COUNTED[reason]] += count
        for number in copies:
            of_copy = counts[number - first]
            of_copy[1:] = 0
            of_copy[_COUNTED["duplicate"]] = of_copy[_COUNTED["records"]]
        ledger = pa.table(
            {
                "name": [file.item.name for file in files],
                "size": sizes,
                "version": [file.item.version for file in files],
                **{name: pa.array(counts[:, _COUNTED[name]]) for name in ("records", *COUNTS)},
            },
            schema=LEDGER,
        )
        rejected = sorted(item for item in entry.rejected if item[0] not in copies)[:_REPORTED]
        return ExtractedDate(
            entry.day,
            rows,
            row_count,
            ledger,
            entry.listing,
            tuple((run.files[number].item.name, record, reason) for number, record, reason in rejected),
        )

    def _copies(self, first: int, files: Sequence[_File], records: NDArray[np.int64]) -> set[int]:
        """The numbers of those of a date's `files`, from number `first` on, that equal an earlier one."""
        traits = [(file.item.size, file.checksum, count) for file, count in zip(files, records.tolist(), strict=True)]
        if len(set(traits)) == len(files):
            return set()
        return equal_files(
            self._store,
            (
                (first + place, file.item, (file.checksum, count))
                for place, (file, (_, _, count)) in enumerate(zip(files, traits, strict=True))
            ),
        )


class _DateTables:
    """The rows of a date without those of `copies`, files by their number, and without equal records, as tables."""

    def __init__(self, collected: RowCollector, copies: set[int], equal: EqualRecords) -> None:
        self._collected = collected
        self._copies = np.array(sorted(copies), np.int32)
        self._equal = equal

    def settle(self, store: LogStore, files: Sequence[_File]) -> tuple[int, Counter[int]]:
        """Finds out which rows go: how many stay, and how many records of each file are there already."""
        count = self._equal.suspect(self._parts())
        again = self._equal.settle(store, lambda number: files[number].item)
        return count - again.total(), again

    def __iter__(self) -> Iterator[pa.Table]:
        return map(extraction.to_table, extraction.grouped(self._equal.kept(self._parts())))

    def _parts(self) -> Iterator[DateRows]:
        for rows in self._collected.parts():
            yield rows.chosen(~np.isin(rows.file, self._copies)) if len(self._copies) else rows


class _Run:
    """The processes and threads of one extraction. `steps` hands the main thread one report after the other.

    `counts`: (files, columns of _COUNTED) int64, filled in as files are closed."""

    def __init__(self, store: LogStore, files: list[_File], workers: int) -> None:
        self._store = store
        self.files = files
        self.counts = np.zeros((len(files), len(_COUNTED)), np.int64)
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
            file = self.files[number]
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
                    file.date.error = bare(error)
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
            wanted = [number for number in batch if self.files[number].date.error is None]
            for number in wanted:
                asked.append((number, number == wanted[-1]))
                yield self.files[number].item

    def _parse(self, process: Gawk, fed: deque[int]) -> None:
        for report in process.reports():
            self._answers.put((fed, report, extraction.parse_rows(report.rows)))
        self._answers.put(None)

    def _take(self, fed: deque[int], report: Report, rows: pa.Table) -> None:
        """Gives the rows of a report to their dates. Rows come in the files' order; those behind the last closed file
        belong to the one that is still open."""
        closed = report.closed
        numbers: list[int] = closed[:, 0].tolist()
        expected = [fed.popleft() for _ in numbers]
        assert numbers == expected
        counts = closed[:, 2].copy()
        self.counts[closed[:, 0], :_REPORTED_COUNTS] = closed[:, 1:]
        if numbers:
            counts[0] -= self.files[numbers[0]].delivered  # no other file of a report was open in the one before
        if (left := rows.num_rows - int(counts.sum())) > 0:
            numbers.append(fed[0])
            counts = np.append(counts, left)
            self.files[fed[0]].delivered += left
        # One slice for each date, not for each file: every slice brings a dictionary that has to be unified.
        start = place = 0
        while place < len(numbers):
            entry = self.files[numbers[place]].date
            after = bisect_left(numbers, entry.numbers.stop, place)
            rows_of = counts[place:after]
            entry.open -= min(after, len(closed)) - place
            if (count := int(rows_of.sum())) and entry.error is None:
                try:
                    entry.rows.take(
                        rows.slice(start, count), np.repeat(np.array(numbers[place:after], np.int32), rows_of)
                    )
                except StoreError as error:
                    entry.error = bare(error)
                    entry.rows.close()  # the disk that it filled is the other dates'
            start, place = start + count, after
        for item in report.rejected:
            self.files[item[0]].date.reject(item)


def _slice(listings: Iterator[tuple[date, Listing]]) -> Iterator[tuple[date, Listing]]:
    """The next dates that are extracted together."""
    files = 0
    for day, listing in listings:
        yield day, listing
        files += len(listing.objects)
        if files >= FILES_AT_ONCE:
            return


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
