"""Amazon S3 Inventories made for tests: CSV, ORC and Parquet, of current versions only or of all.

The layout is that of the folder of one configuration, as a local copy of `inventories/<source bucket>/<configuration>/`.
"""

import csv
import gzip
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.orc
import pyarrow.parquet as pq

from s3logx_assets.adapters.inventory_reader import cluster, read_manifest, read_snapshot
from s3logx_assets.adapters.local_files import LocalFiles
from s3logx_assets.core.inventory import FileFormat, summary_of

BUCKET = "logs-bucket"
PREFIX = f"inventories/{BUCKET}/everything/"
SNAPSHOT = "2025-03-09T01-00Z"
FORMATS: tuple[FileFormat, ...] = ("CSV", "ORC", "Parquet")
MODIFIED = datetime(2025, 3, 2, 4, 5, 6, 789000, tzinfo=UTC)

_ENDINGS = {"CSV": ".csv.gz", "ORC": ".orc", "Parquet": ".parquet"}
# What each column is called in CSV, in ORC and Parquet, and its type in ORC and in Parquet.
_COLUMNS = {
    "bucket": ("Bucket", "bucket", "string", "required binary {} (STRING)"),
    "key": ("Key", "key", "string", "required binary {} (STRING)"),
    "version_id": ("VersionId", "version_id", "string", "optional binary {} (STRING)"),
    "is_latest": ("IsLatest", "is_latest", "boolean", "optional boolean {}"),
    "is_delete_marker": ("IsDeleteMarker", "is_delete_marker", "boolean", "optional boolean {}"),
    "size": ("Size", "size", "bigint", "optional int64 {}"),
    "modified": ("LastModifiedDate", "last_modified_date", "timestamp", "optional int64 {} (TIMESTAMP(MILLIS,true))"),
    "e_tag": ("ETag", "e_tag", "string", "optional binary {} (STRING)"),
    "storage_class": ("StorageClass", "storage_class", "string", "optional binary {} (STRING)"),
}
_OF_VERSIONS = ("version_id", "is_latest", "is_delete_marker")
_TYPES = {"is_latest": pa.bool_(), "is_delete_marker": pa.bool_(), "size": pa.int64()}


@dataclass(frozen=True)
class Row:
    """An object, or a version of one, as an inventory lists it."""

    key: str
    size: int | None = 100
    e_tag: str | None = "0123456789abcdef0123456789abcdef"
    modified: datetime | None = MODIFIED
    bucket: str = BUCKET
    version_id: str | None = None
    is_latest: bool = True
    is_delete_marker: bool = False
    storage_class: str = "STANDARD"


def columns_of(versioned: bool = False, left_out: Sequence[str] = ()) -> list[str]:
    """The columns of an inventory, by the names of Row's fields."""
    return [name for name in _COLUMNS if name not in left_out and (versioned or name not in _OF_VERSIONS)]


def schema_text(file_format: FileFormat, columns: Sequence[str]) -> str:
    """The fileSchema of a manifest."""
    told = [_COLUMNS[name] for name in columns]
    match file_format:
        case "CSV":
            return ", ".join(name for name, _, _, _ in told)
        case "ORC":
            return f"struct<{','.join(f'{name}:{kind}' for _, name, kind, _ in told)}>"
        case "Parquet":
            return f"message s3.inventory {{  {';  '.join(text.format(name) for _, name, _, text in told)};}}"


def manifest_of(file_format: FileFormat = "CSV", columns: Sequence[str] = (), **changed: Any) -> dict[str, Any]:
    """What a manifest.json says, some of it changed."""
    return {
        "sourceBucket": BUCKET,
        "destinationBucket": "arn:aws:s3:::inventory-bucket",
        "version": "2016-11-30",
        "creationTimestamp": "1741482000000",
        "fileFormat": file_format,
        "fileSchema": schema_text(file_format, columns or columns_of()),
        "files": [],
        **changed,
    }


def write_inventory(
    folder: Path,
    files: Iterable[Sequence[Row]],
    file_format: FileFormat = "CSV",
    versioned: bool = False,
    left_out: Sequence[str] = (),
    snapshot: str = SNAPSHOT,
) -> str:
    """Writes a snapshot with these rows in its data files; its name."""
    columns = columns_of(versioned, left_out)
    contents = [data_file(rows, file_format, columns) for rows in files]
    return write_snapshot(folder, contents, file_format, columns, snapshot)


def write_inventory_of(logs: Path, folder: Path, snapshot: str = SNAPSHOT, more: Sequence[Row] = ()) -> str:
    """Writes a snapshot of what is in a folder of logs now, as of a bucket's `logs/`, and `more`; its name."""
    rows = [
        Row(
            f"logs/{path.relative_to(logs)}",
            path.stat().st_size,
            hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(),
        )
        for path in sorted(logs.rglob("*"))
        if path.is_file()
    ]
    return write_inventory(folder, [rows[::2], [*rows[1::2], *more]], snapshot=snapshot)


def write_snapshot(
    folder: Path,
    contents: Iterable[bytes],
    file_format: FileFormat,
    columns: Sequence[str],
    snapshot: str = SNAPSHOT,
) -> str:
    """Writes a snapshot with these data files; its name."""
    files, paths = [], []
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(contents):
        name = f"data/{snapshot[:10]}-{number:08x}{_ENDINGS[file_format]}"
        (folder / name).write_bytes(content)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        files.append({"key": PREFIX + name, "size": len(content), "MD5checksum": md5})
        paths.append(f"s3://inventory-bucket/{PREFIX}{name}\n")
    link = folder / "hive" / f"dt={snapshot.replace('T', '-').rstrip('Z')}" / "symlink.txt"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.write_text("".join(paths))
    write_manifest(folder, manifest_of(file_format, columns, files=files), snapshot)
    return snapshot


def write_manifest(folder: Path, told: object, snapshot: str = SNAPSHOT) -> None:
    """Writes a manifest with its checksum."""
    content = json.dumps(told, indent=2).encode()
    (folder / snapshot).mkdir(exist_ok=True)
    (folder / snapshot / "manifest.json").write_bytes(content)
    checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()
    (folder / snapshot / "manifest.checksum").write_text(f"{checksum}\n")


def data_file(rows: Sequence[Row], file_format: FileFormat, columns: Sequence[str]) -> bytes:
    """A data file's content."""
    match file_format:
        case "CSV":
            text = io.StringIO(newline="")
            csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
                [_csv_value(name, getattr(row, name)) for name in columns] for row in rows
            )
            return gzip.compress(text.getvalue().encode())
        case "ORC":
            return _written(pa.orc.write_table, _table(rows, columns, pa.timestamp("ns")))
        case "Parquet":
            return _written(pq.write_table, _table(rows, columns, pa.timestamp("ms", "UTC")))


def _csv_value(name: str, value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime():
            return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03}Z"
    return quote_plus(str(value), safe="/") if name == "key" else str(value)


def _table(rows: Sequence[Row], columns: Sequence[str], time_type: pa.DataType) -> pa.Table:
    types = _TYPES | {"modified": time_type}
    arrays = []
    for name in columns:
        values = [getattr(row, name) for row in rows]
        if time_type.tz is None:
            values = [value.replace(tzinfo=None) if isinstance(value, datetime) else value for value in values]
        arrays.append(pa.array(values, types.get(name, pa.string())))
    return pa.table(arrays, [_COLUMNS[name][1] for name in columns])


def _written(write: Callable[..., None], table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    write(table, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def write_large_inventory(folder: Path, files: int, keys_per_file: int, dates: int, file_format: FileFormat) -> None:
    """Writes a snapshot of logs in date folders, every file with all of `dates` dates, in no order."""
    columns = columns_of(versioned=True, left_out=["version_id"])
    random = np.random.default_rng(1)
    tables = (_large_table(random, keys_per_file, dates) for _ in range(files))
    write_snapshot(folder, (_large_file(table, file_format) for table in tables), file_format, columns)


def _large_table(random: np.random.Generator, keys: int, dates: int) -> pa.Table:
    def hexadecimal(digits: int) -> pa.Array:
        text = random.bytes(keys * digits // 2).hex().encode()
        return pa.Array.from_buffers(pa.binary(digits), keys, [None, pa.py_buffer(text)]).cast(pa.string())

    days = pa.array((np.datetime64("2020-01-01") + random.integers(0, dates, keys)).astype("datetime64[D]"))
    days = days.cast(pa.string())
    folders = pc.replace_substring(days, "-", "/")
    names = pc.binary_join_element_wise(days, "11-22-33", pc.utf8_upper(hexadecimal(16)), "-")
    values = {
        "bucket": pa.repeat(BUCKET, keys),
        "key": pc.binary_join_element_wise("logs/123456789012/us-east-1/data", folders, names, "/"),
        "is_latest": pa.repeat(True, keys),
        "is_delete_marker": pa.repeat(False, keys),
        "size": pa.array(random.integers(300, 100_000, keys)),
        "last_modified_date": pa.repeat(pa.scalar(MODIFIED, pa.timestamp("ms", "UTC")), keys),
        "e_tag": hexadecimal(32),
        "storage_class": pa.repeat("STANDARD", keys),
    }
    return pa.table(values)


def _large_file(table: pa.Table, file_format: FileFormat) -> bytes:
    match file_format:
        case "CSV":
            iso = pc.strftime(table["last_modified_date"], "%Y-%m-%dT%H:%M:%SZ")
            texts = table.set_column(table.schema.get_field_index("last_modified_date"), "last_modified_date", iso)
            sink = pa.BufferOutputStream()
            options = pa.csv.WriteOptions(include_header=False, quoting_style="all_valid")
            pa.csv.write_csv(texts, sink, options)
            return gzip.compress(sink.getvalue(), 1)
        case "ORC":
            naive = table["last_modified_date"].cast(pa.timestamp("ns"))
            texts = table.set_column(table.schema.get_field_index("last_modified_date"), "last_modified_date", naive)
            return _written(pa.orc.write_table, texts)
        case "Parquet":
            return _written(pq.write_table, table)


@dataclass(frozen=True)
class Reading:
    """What it took to read a snapshot and to bring its rows in order."""

    dates: int
    keys: int
    seconds: float
    peak_bytes: int
    more_than_before: int


def measured_reading(folder: Path) -> Reading:
    """Reads a snapshot and sums up every date. To be run in a process of its own, which has the peak to itself."""
    before = _memory("VmRSS")
    started = time.perf_counter()
    objects = LocalFiles(folder)
    manifest = read_manifest(objects, SNAPSHOT)
    tables = read_snapshot(objects, manifest, BUCKET, "logs/", scratch=folder)
    summaries = [summary_of(rows) for _, rows in cluster(tables, scratch=folder)]
    seconds = time.perf_counter() - started
    peak = _memory("VmHWM")
    return Reading(len(summaries), sum(files for files, _, _ in summaries), seconds, peak, peak - before)


def _memory(name: str) -> int:
    """Of this process, in bytes: VmRSS is what it holds, VmHWM the most that it ever did."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024
