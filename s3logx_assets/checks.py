"""The asset checks of `extracted_logs`: what is counted, what is compared, and when a person should look.

A check sees one date: its rows, its ledger and the source. It reports numbers, file names and record numbers; never a
record. Whether a date is stored at all is decided by the conservation law alone, in `assets.extract`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

import dagster as dg
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.adapters.log_contents import contents
from s3logx_assets.adapters.log_store import Listing, LogStore
from s3logx_assets.adapters.table_store import TableStore, partition
from s3logx_assets.assets.daily import CheckOutcome
from s3logx_assets.core import ledger as ledgers
from s3logx_assets.core.addresses import from_bytes
from s3logx_assets.core.errors import LogFileError, SourceUnavailable, StoreError
from s3logx_assets.core.ledger import LogObject
from s3logx_assets.core.log_lines import Record, parse_record, split_records
from s3logx_assets.core.sealing import Sealer

Hashes = npt.NDArray[np.uint64]

ASSET = "extracted_logs"
_SAMPLED_FILES = 3
_SAMPLED_RECORDS = 100
_SAMPLED_BYTES = 1 << 20
# Hashes of rows that are compared, of each of two dates; of more, a part that the hashes themselves choose.
_COMPARED = 1 << 22
_NONE = np.empty(0, np.uint64)

SPECS = tuple(
    dg.AssetCheckSpec(name, asset=ASSET, blocking=blocking, description=description)
    for name, blocking, description in (
        (
            "conservation",
            True,
            "Every record of every log file is extracted, skipped, rejected or a duplicate; else nothing is stored.",
        ),
        ("rejected_share", False, "At most the share S3LOGX_REJECTED_SHARE of the records is rejected."),
        (
            "downloads_logic",
            False,
            "Whole-object downloads (status 200) sent the whole object; others were broken off.",
        ),
        ("timestamps", False, "Events lie between S3LOGX_FIRST_DATE and the date of their log file."),
        ("duplicates_across_dates", False, "No row stands in the log files of the day before as well: an estimate."),
        ("reference_agreement", False, "A sample of the records gives the same rows through the reference parser."),
        ("completeness", False, "The source holds the log files that the ledger has, and no others."),
    )
)


@dataclass(frozen=True)
class Subject:
    """A date under check: its rows and their number, its ledger and what the source lists now. `tables` gives the rows from
    the first one on, as tables of EXTRACTED_LOGS."""

    day: date
    tables: Callable[[], Iterable[pa.Table]]
    row_count: int
    ledger: pa.Table
    listing: Listing


def evaluate(
    subject: Subject,
    private_store: TableStore,
    log_store: LogStore,
    sealer: Sealer,
    first_date: date,
    limit: float,
    is_excluded: Callable[[str], bool] | None = None,
) -> tuple[CheckOutcome, ...]:
    """All checks of one date, in the order of SPECS. `limit` is the share of rejected records that is accepted;
    `is_excluded` tells the archive's own addresses, as logged."""
    logic, times = _Downloads(), _Times(subject.day, first_date)
    sample = _Sample(subject.ledger, log_store, sealer, is_excluded)
    for rows in subject.tables():
        for each in (logic, times, sample):
            each.look_at(rows)
    return (
        conservation(subject),
        rejected_share(subject, limit),
        logic.outcome(),
        times.outcome(),
        duplicates_across_dates(subject, times, private_store),
        sample.outcome(),
        completeness(subject),
    )


def conservation(subject: Subject) -> CheckOutcome:
    """records = extracted + skipped + rejected + duplicate, in every file, and as many rows as were extracted."""
    counts = ledgers.sum_of(subject.ledger)
    broken = ledgers.unaccounted(subject.ledger)
    figures = {name: counts[name] for name in ("files", "records", "extracted", "duplicate")}
    passed = not broken and counts["extracted"] == subject.row_count
    return CheckOutcome("conservation", passed, {**figures, "broken_files": broken}, warning=False)


def rejected_share(subject: Subject, limit: float) -> CheckOutcome:
    """The share of rejected records, by reason."""
    counts = ledgers.sum_of(subject.ledger)
    reasons = {name: count for name, count in counts.items() if name.startswith("rejected_") and count}
    share = sum(reasons.values()) / counts["records"] if counts["records"] else 0.0
    return CheckOutcome("rejected_share", share <= limit, {"share": share, "limit": limit, **reasons})


class _Downloads:
    """Rows with status 200 that sent less than the object's size. The format counts them as downloads all the same."""

    def __init__(self) -> None:
        self._aborted = self._downloads = 0

    def look_at(self, rows: pa.Table) -> None:
        whole = pc.equal(rows["status"], 200)
        short = pc.fill_null(pc.less(rows["bytes_sent"], rows["object_size"]), False)
        self._aborted += _count(pc.and_(whole, short))
        self._downloads += _count(whole)

    def outcome(self) -> CheckOutcome:
        figures = {"aborted": self._aborted, "downloads": self._downloads}
        return CheckOutcome("downloads_logic", self._aborted == 0, figures)


class _Times:
    """Rows whose event lies before the first date of all, or after the date of the log file."""

    def __init__(self, day: date, first_date: date) -> None:
        self._first, self._end = _midnight(first_date), _midnight(day + timedelta(days=1))
        self._early = self._late = 0
        self.earliest: datetime | None = None

    def look_at(self, rows: pa.Table) -> None:
        requested = rows["requested_at"]
        self._early += _count(pc.less(requested, self._first))
        self._late += _count(pc.greater_equal(requested, self._end))
        if rows.num_rows:
            earliest = pc.min(requested).as_py()
            self.earliest = min(self.earliest or earliest, earliest)

    def outcome(self) -> CheckOutcome:
        figures = {"before_first_date": self._early, "after_log_date": self._late}
        return CheckOutcome("timestamps", not self._early and not self._late, figures)


def duplicates_across_dates(subject: Subject, times: _Times, store: TableStore) -> CheckOutcome:
    """Rows that equal a row of the day before in every stored column. An estimate: two requests can be alike, copies
    further apart are not looked for, and of very many rows a part stands for all. A day before that is damaged counts
    as none, and is told of: this date's own rows are good."""
    before = subject.day - timedelta(days=1)
    figures: dict[str, Any] = {}
    suspects = 0
    if times.earliest is not None:
        try:
            other, until = _rows_since(store, before, times.earliest)
        except StoreError:
            other, until = _Hashes(_COMPARED), None
            figures["not_compared"] = f"{ASSET} of {before} cannot be read; materialise it again"
        if until is not None:
            own = _Hashes(_COMPARED)
            for rows in subject.tables():
                own.add(rows.filter(pc.less_equal(rows["requested_at"], until)))
            suspects = own.found_in(other)
    return CheckOutcome("duplicates_across_dates", suspects == 0, {"suspects": suspects, **figures})


def _rows_since(store: TableStore, day: date, earliest: datetime) -> tuple["_Hashes", pa.Scalar | None]:
    """The rows of a stored date from a moment on, and the last moment that has one. Raises StoreError."""
    found, until = _Hashes(_COMPARED), None
    if store.record(ASSET, partition(day)) is not None:
        since = pa.scalar(earliest, pa.timestamp("ms", tz="UTC"))
        for rows in store.groups(ASSET, partition(day), encoded=["object_key"]):
            rows = rows.filter(pc.greater_equal(rows["requested_at"], since))
            if rows.num_rows:
                latest = pc.max(rows["requested_at"])
                until = latest if until is None or latest.value > until.value else until
                found.add(rows)
    return found, until


class _Hashes:
    """64-bit hashes of rows over every column, at most `limit` of them: of more rows, every second, fourth ... by the lowest
    bits of the hash, so that two choose the same ones."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bits = 0
        self._chunks: list[Hashes] = []
        self._count = 0

    def add(self, rows: pa.Table) -> None:
        if rows.num_rows:
            self._chunks.append(_thinned(_row_hashes(rows), self._bits))
            self._count += len(self._chunks[-1])
        while self._count > self._limit:
            self._bits += 1
            self._chunks = [_thinned(np.concatenate(self._chunks), self._bits)]
            self._count = len(self._chunks[0])

    def found_in(self, other: "_Hashes") -> int:
        """How many of these rows are among the others, as far as the hashes tell."""
        bits = max(self._bits, other._bits)
        own, others = (_thinned(np.concatenate(each._chunks or [_NONE]), bits) for each in (self, other))
        return int(np.isin(own, others).sum()) << bits


def _thinned(hashes: Hashes, bits: int) -> Hashes:
    return hashes[hashes & np.uint64((1 << bits) - 1) == 0] if bits else hashes


class _Sample:
    """Some records of some files through `core.log_lines`: every row it makes must be among the rows."""

    def __init__(
        self, ledger: pa.Table, log_store: LogStore, sealer: Sealer, is_excluded: Callable[[str], bool] | None
    ) -> None:
        self._records = 0
        self._missing: Counter[tuple[object, ...]] = Counter()
        excluded = is_excluded or (lambda text: False)
        found: list[Record] = []
        for item in _sample(ledger):
            try:
                records = list(_first_records(log_store, item))
            except (LogFileError, SourceUnavailable):
                continue  # gone or changed since: the completeness check tells
            judged = (parse_record(record, lambda text: excluded(text.decode())) for record in records)
            found += [record for record in judged if isinstance(record, Record)]
            self._records += len(records)
        self._missing.update(_stored(found, sealer))
        self._keys = pa.array(sorted({record.object_key for record in found}), pa.string())

    def look_at(self, rows: pa.Table) -> None:
        if not self._missing:
            return
        key = rows["object_key"].combine_chunks()
        near = rows.filter(pc.is_in(key.dictionary, value_set=self._keys).take(key.indices))
        columns = [near[name].to_pylist() for name in near.column_names if name != "object_key"]
        for row in set(zip(near["object_key"].cast(pa.string()).to_pylist(), *columns, strict=True)):
            self._missing.pop(row, None)

    def outcome(self) -> CheckOutcome:
        figures = {"sampled_records": self._records, "missing_rows": self._missing.total()}
        return CheckOutcome("reference_agreement", not self._missing, figures)


def completeness(subject: Subject) -> CheckOutcome:
    """The files that are listed now against those of the ledger."""
    listed = {(item.name, item.size, item.version) for item in subject.listing.objects}
    known = set(zip(*(subject.ledger[name].to_pylist() for name in ("name", "size", "version")), strict=True))
    new, gone = len(listed - known), len({name for name, _, _ in known} - {name for name, _, _ in listed})
    return CheckOutcome(
        "completeness", not new and not gone, {"new_or_changed": new, "gone": gone, "listed": len(listed)}
    )


def _midnight(day: date) -> pa.Scalar:
    return pa.scalar(datetime(day.year, day.month, day.day, tzinfo=UTC), pa.timestamp("ms", tz="UTC"))


def _count(mask: pa.ChunkedArray) -> int:
    total: int = pc.sum(mask, min_count=0).as_py()
    return total


def _row_hashes(rows: pa.Table) -> Hashes:
    """One 64-bit hash per row over every column."""
    import pandas as pd

    columns = {name: rows[name].cast(pa.string()) if name == "object_key" else rows[name] for name in rows.column_names}
    frame = pa.table({**columns, "object_size": pc.fill_null(rows["object_size"], -1)}).to_pandas()
    return np.asarray(pd.util.hash_pandas_object(frame, index=False), np.uint64)


def _sample(ledger: pa.Table) -> Iterator[LogObject]:
    """A few files with rows, evenly apart: the same ones for the same ledger."""
    fruitful = np.flatnonzero(ledger["extracted"].to_numpy())
    for place in np.unique(np.linspace(0, len(fruitful) - 1, _SAMPLED_FILES).astype(int)) if len(fruitful) else ():
        row = ledger.slice(int(fruitful[place]), 1).to_pylist()[0]
        yield LogObject(row["name"], row["size"], row["version"])


def _first_records(log_store: LogStore, item: LogObject) -> Iterator[bytes]:
    received = b""
    for chunk in contents(item, partial(log_store.open, item)):
        received += chunk
        if len(received) >= _SAMPLED_BYTES:
            received = received[: received.rfind(b"\n") + 1]
            break
    return islice(split_records(received), _SAMPLED_RECORDS)


def _stored(found: Sequence[Record], sealer: Sealer) -> Iterator[tuple[object, ...]]:
    """The records as rows."""
    sealed = iter(sealer.seal(from_bytes([record.address for record in found if record.address is not None])))
    for record in found:
        address = next(sealed).tobytes() if record.address is not None else None
        yield record.object_key, record.requested_at, record.bytes_sent, record.object_size, record.status, address
