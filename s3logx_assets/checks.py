"""The asset checks of `extracted_logs`: what is counted, what is compared, and when a person should look.

A check sees one date: its rows, its ledger and the source. It reports numbers, file names and record numbers; never a
record. Whether a date is stored at all is decided by the conservation law alone, in `assets.extract`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import islice

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.adapters.extractor import contents
from s3logx_assets.adapters.log_store import Listing, LogStore
from s3logx_assets.adapters.table_store import TableStore, partition
from s3logx_assets.assets.daily import CheckOutcome
from s3logx_assets.core import ledger as ledgers
from s3logx_assets.core.addresses import from_bytes
from s3logx_assets.core.errors import LogFileError, SourceUnavailable
from s3logx_assets.core.ledger import LogObject
from s3logx_assets.core.log_lines import Record, parse_record, split_records
from s3logx_assets.core.sealing import Sealer

ASSET = "extracted_logs"
_SAMPLED_FILES = 3
_SAMPLED_RECORDS = 100
_SAMPLED_BYTES = 1 << 20

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
    """A date under check: its rows (EXTRACTED_LOGS), its ledger and what the source lists now."""

    day: date
    rows: pa.Table
    ledger: pa.Table
    listing: Listing


def evaluate(
    subject: Subject, private_store: TableStore, log_store: LogStore, sealer: Sealer, first_date: date, limit: float
) -> tuple[CheckOutcome, ...]:
    """All checks of one date, in the order of SPECS. `limit` is the share of rejected records that is accepted."""
    return (
        conservation(subject),
        rejected_share(subject, limit),
        downloads_logic(subject),
        timestamps(subject, first_date),
        duplicates_across_dates(subject, private_store),
        reference_agreement(subject, log_store, sealer),
        completeness(subject),
    )


def conservation(subject: Subject) -> CheckOutcome:
    """records = extracted + skipped + rejected + duplicate, in every file, and as many rows as were extracted."""
    counts = ledgers.sum_of(subject.ledger)
    broken = ledgers.unaccounted(subject.ledger)
    figures = {name: counts[name] for name in ("files", "records", "extracted", "duplicate")}
    passed = not broken and counts["extracted"] == subject.rows.num_rows
    return CheckOutcome("conservation", passed, {**figures, "broken_files": broken}, warning=False)


def rejected_share(subject: Subject, limit: float) -> CheckOutcome:
    """The share of rejected records, by reason."""
    counts = ledgers.sum_of(subject.ledger)
    reasons = {name: count for name, count in counts.items() if name.startswith("rejected_") and count}
    share = sum(reasons.values()) / counts["records"] if counts["records"] else 0.0
    return CheckOutcome("rejected_share", share <= limit, {"share": share, "limit": limit, **reasons})


def downloads_logic(subject: Subject) -> CheckOutcome:
    """Rows with status 200 that sent less than the object's size. The format counts them as downloads all the same."""
    rows = subject.rows
    whole = pc.equal(rows["status"], 200)
    short = pc.less(rows["bytes_sent"], rows["object_size"])
    aborted = pc.sum(pc.and_(whole, pc.fill_null(short, False)), min_count=0).as_py()
    downloads = pc.sum(whole, min_count=0).as_py()
    return CheckOutcome("downloads_logic", aborted == 0, {"aborted": aborted, "downloads": downloads})


def timestamps(subject: Subject, first_date: date) -> CheckOutcome:
    """Rows whose event lies before the first date of all, or after the date of the log file."""
    requested = subject.rows["requested_at"]
    early = _count(pc.less(requested, _midnight(first_date)))
    late = _count(pc.greater_equal(requested, _midnight(subject.day + timedelta(days=1))))
    return CheckOutcome("timestamps", not early and not late, {"before_first_date": early, "after_log_date": late})


def duplicates_across_dates(subject: Subject, store: TableStore) -> CheckOutcome:
    """Rows that equal a row of the day before in every stored column. An estimate: two requests can be alike, and
    copies further apart are not looked for."""
    before = partition(subject.day - timedelta(days=1))
    suspects = 0
    if subject.rows.num_rows and store.record(ASSET, before) is not None:
        other = store.read(ASSET, before)
        since = pc.min(subject.rows["requested_at"])
        other = other.filter(pc.greater_equal(other["requested_at"], since))
        until = pc.max(other["requested_at"])
        rows = subject.rows
        if other.num_rows:
            rows = rows.filter(pc.less_equal(rows["requested_at"], until))
            suspects = int(np.isin(_row_hashes(rows), _row_hashes(other)).sum())
    return CheckOutcome("duplicates_across_dates", suspects == 0, {"suspects": suspects})


def reference_agreement(subject: Subject, log_store: LogStore, sealer: Sealer) -> CheckOutcome:
    """Some records of some files through `core.log_lines`: every row it makes must be among the rows."""
    sampled = missing = 0
    for item in _sample(subject.ledger):
        try:
            records = list(_first_records(log_store, item))
        except (LogFileError, SourceUnavailable):
            continue  # gone or changed since: the completeness check tells
        found = [record for record in map(parse_record, records) if isinstance(record, Record)]
        sampled += len(records)
        missing += _missing(found, subject.rows, sealer)
    return CheckOutcome("reference_agreement", missing == 0, {"sampled_records": sampled, "missing_rows": missing})


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


def _row_hashes(rows: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
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


def _missing(found: list[Record], rows: pa.Table, sealer: Sealer) -> int:
    """How many of `found` are not among the rows."""
    if not found:
        return 0
    keys = pa.array(sorted({record.object_key for record in found}), pa.string())
    near = rows.filter(pc.is_in(rows["object_key"].cast(pa.string()), value_set=keys))
    columns = [near[name].to_pylist() for name in near.column_names if name != "object_key"]
    present = set(zip(near["object_key"].cast(pa.string()).to_pylist(), *columns, strict=True))
    addresses = [record.address for record in found if record.address is not None]
    sealed = iter(sealer.seal(from_bytes(addresses)))
    missing = 0
    for record in found:
        address = next(sealed).tobytes() if record.address is not None else None
        row = (record.object_key, record.requested_at, record.bytes_sent, record.object_size, record.status, address)
        missing += row not in present
    return missing
