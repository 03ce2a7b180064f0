"""Folders of log files that tests make, and what must come of them, worked out the slow and plain way."""

import gzip
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from s3logx_assets.adapters.extractor import ExtractedDate, Extractor, FailedDate
from s3logx_assets.adapters.log_store import LocalLogStore, LogStore
from s3logx_assets.core.addresses import from_bytes
from s3logx_assets.core.ledger import COUNTS, sum_of, unaccounted
from s3logx_assets.core.log_lines import Record, Rejected, Skipped, parse_record, split_records
from s3logx_assets.core.schemas import EXTRACTED_LOGS
from s3logx_assets.core.sealing import Sealer
from s3logx_tests.hard_lines import honest_line

SEALER = Sealer(b"\x01" * 32)
DAY = date(2025, 3, 1)
SCRATCH = Path(tempfile.gettempdir())

Row = tuple[Any, ...]  # key, second, bytes, size or None, status, 16 address bytes or None
Counts = dict[str, int]  # without zeros


def log_name(number: int, day: date = DAY) -> str:
    """The name of a log file; the numbers' order is the names'."""
    return f"{day.isoformat()}-00-00-{number % 60:02}-{number:08X}"


def honest_lines(seed: int | str, count: int, **changes: Any) -> list[bytes]:
    """Lines of ordinary downloads, all different."""
    rng = random.Random(seed)
    return [honest_line(rng, **changes) for _ in range(count)]


def joined(records: Iterable[bytes], end: bytes = b"\n") -> bytes:
    """The content of a log file."""
    return b"".join(record + end for record in records)


def write(root: Path, files: Mapping[str, bytes]) -> Path:
    """Writes files by their paths below `root`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def extract(
    source: Path | LogStore,
    days: Sequence[date] = (DAY,),
    workers: int = 1,
    is_excluded: Callable[[str], bool] | None = None,
) -> dict[date, ExtractedDate | FailedDate]:
    """What the engine makes of each date."""
    store = LocalLogStore(source) if isinstance(source, Path) else source
    engine = Extractor(store, SEALER.seal, workers, SCRATCH, is_excluded)
    outcomes = [kept(outcome) for outcome in engine.extract(days)]
    assert len(outcomes) == len(days)
    found = {outcome.day: outcome for outcome in outcomes}
    assert set(found) == set(days)
    return found


def kept(outcome: ExtractedDate | FailedDate) -> ExtractedDate | FailedDate:
    """An outcome that stays when the next date is asked for."""
    return replace(outcome, tables=list(outcome.tables)) if isinstance(outcome, ExtractedDate) else outcome


def table_of(outcome: ExtractedDate | FailedDate) -> pa.Table:
    """All rows of a date that is done."""
    assert isinstance(outcome, ExtractedDate), outcome
    table = pa.concat_tables(outcome.tables).unify_dictionaries().combine_chunks()
    assert table.num_rows == outcome.row_count
    return table


def extract_day(source: Path | LogStore, **options: Any) -> ExtractedDate:
    """What the engine makes of DAY, which must be good."""
    (outcome,) = extract(source, **options).values()
    assert isinstance(outcome, ExtractedDate), outcome
    return outcome


def failure_of_day(source: Path | LogStore, **options: Any) -> Exception:
    """Why the engine makes nothing of DAY."""
    (outcome,) = extract(source, **options).values()
    assert isinstance(outcome, FailedDate)
    return outcome.error


def worked_out(
    files: Mapping[str, bytes], is_excluded: Callable[[str], bool] = lambda address: False
) -> tuple[list[Row], dict[str, Counts]]:
    """The rows of a date in no order, and the counts of each file, by the reference parser and a dictionary."""
    rows: list[Row] = []
    ledger: dict[str, Counts] = {}
    files_seen: set[bytes] = set()
    records_seen: set[bytes] = set()
    for name in sorted(files, key=str.encode):
        stored = files[name]
        content = gzip.decompress(stored) if stored.startswith(b"\x1f\x8b") else stored
        counts: Counter[str] = Counter()
        for record in split_records(content):
            counts["records"] += 1
            counts["duplicate" if stored in files_seen else _judge(record, records_seen, rows, is_excluded)] += 1
        files_seen.add(stored)
        ledger[name] = dict(counts)
    return rows, ledger


def _judge(record: bytes, seen: set[bytes], rows: list[Row], is_excluded: Callable[[str], bool]) -> str:
    match parse_record(record, lambda address: is_excluded(address.decode())):
        case Skipped(rule):
            return f"skipped_{rule}"
        case Rejected(reason):
            return f"rejected_{reason}"
        case Record(key, when, sent, size, status, address):
            if (body := record.removesuffix(b"\r")) in seen:
                return "duplicate"
            seen.add(body)
            rows.append((key, int(when.timestamp()), sent, size, status, address))
            return "extracted"


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order that the table promises: key bytes, time, then the other columns, nulls last."""

    def place(row: Row) -> tuple[Any, ...]:
        key, second, sent, size, status, address = row
        sealed = b"" if address is None else SEALER.seal(from_bytes([address])).tobytes()
        return key.encode(), second, sent, size is None, size or 0, status, address is None, sealed

    return sorted(rows, key=place)


def rows_of(table: pa.Table) -> list[Row]:
    """The rows of an extracted table, their addresses opened."""
    assert table.schema == EXTRACTED_LOGS
    table.validate(full=True)
    sealed = table["sealed_ip"].to_pylist()
    opened = iter(SEALER.unseal(from_bytes([value for value in sealed if value is not None])))
    return [
        (key, int(when.timestamp()), sent, size, status, None if value is None else next(opened).tobytes())
        for key, when, sent, size, status, value in zip(*table.to_pydict().values(), strict=True)
    ]


def ledger_of(ledger: pa.Table) -> dict[str, Counts]:
    """The counts of each file, without zeros."""
    return {row["name"]: {name: row[name] for name in ("records", *COUNTS) if row[name]} for row in ledger.to_pylist()}


def assert_as_worked_out(
    outcome: ExtractedDate | FailedDate,
    files: Mapping[str, bytes],
    is_excluded: Callable[[str], bool] = lambda address: False,
) -> None:
    """Rows, order, ledger and the conservation law, all of one date; `files` by their path in the source."""
    assert isinstance(outcome, ExtractedDate), outcome
    rows, counts = worked_out(files, is_excluded)
    assert rows_of(table_of(outcome)) == in_order(rows)
    assert ledger_of(outcome.ledger) == counts
    assert outcome.ledger["name"].to_pylist() == sorted(files, key=str.encode)
    assert outcome.ledger["size"].to_pylist() == [len(files[name]) for name in sorted(files, key=str.encode)]
    assert unaccounted(outcome.ledger) == 0
    sums = sum_of(outcome.ledger)
    assert sums["records"] == sum(sums[name] for name in COUNTS)
    assert sums["extracted"] == outcome.row_count


def utc(*parts: int) -> int:
    """Seconds since 1970."""
    return int(datetime(*parts, tzinfo=UTC).timestamp())  # type: ignore[arg-type,misc]
