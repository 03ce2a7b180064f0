"""Reading an Amazon S3 Inventory: a snapshot's manifest, its data files, and the log objects in them, date by date.

A data file is fetched whole into a temporary file and compared with its MD5 before a row of it is used. The rows come
unsorted: runs of them, sorted by date, are written to another temporary file, and read back by ranges of dates. Both
files have no name and vanish with the process. No step holds more than some tens of megabytes, but for a date that has more.
What the rows mean does not belong here.
"""

import gzip
import hashlib
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq

from s3logx_assets.adapters.files import Files
from s3logx_assets.core.errors import InventoryError, StoreError
from s3logx_assets.core.inventory import (
    LOG_ROWS,
    NEEDED_COLUMNS,
    USED_COLUMNS,
    Manifest,
    ManifestFile,
    column_name,
    log_rows,
    parse_manifest,
    verify_checksum,
)

_ROWS_PER_BATCH = 1 << 15
_CSV_BYTES_PER_BATCH = 1 << 21
_PARQUET_BYTES_AT_ONCE = 1 << 20

# Of clustering: what is sorted at once, what is written and read back as one piece, what is read back at once.
BYTES_PER_RUN = 1 << 25
ROWS_PER_BLOCK = 1 << 11
BYTES_AT_ONCE = 1 << 25
# The rows of one piece of a date's table: no column of it may reach 2 GiB.
_ROWS_PER_CHUNK = 1 << 18

_EPOCH = date(1970, 1, 1)
# As LOG_ROWS, for any number of bytes in a column.
_LARGE_ROWS = pa.schema(
    [field.with_type(pa.large_string()) if field.type == pa.string() else field for field in LOG_ROWS]
)
# Of rows with one name the last in this order counts.
_ORDER = [(name, "ascending", "at_start") for name in ("log_date", "name", "modified", "version", "size")]


@dataclass(frozen=True)
class Inventory:
    """Where an inventory's snapshots are, and what their rows must be of. `prefix`: what the keys of logs begin with;
    `bucket`: theirs, None where the logs are a local copy; `location_prefix`: what the keys of the inventory's own files
    begin with, where it is in a bucket; `scratch`: a folder for temporary files."""

    files: Files
    bucket: str | None
    prefix: str
    location_prefix: str
    scratch: Path

    def snapshots(self) -> list[str]:
        """The names of the folders that may be snapshots."""
        return self.files.folders("", with_empty=True)

    def manifest(self, snapshot: str) -> Manifest:
        """A snapshot's manifest. Raises InventoryError for one that is not whole or damaged."""
        return read_manifest(self.files, snapshot)

    def rows(self, manifest: Manifest, scratch: Path) -> Iterator[tuple[date, pa.Table]]:
        """The log objects of each log date, ascending: schema LOG_ROWS, in byte order of name. Raises InventoryError."""
        bucket = self.bucket or manifest.source_bucket
        tables = read_snapshot(
            self.files, manifest, bucket, self.prefix, location_prefix=self.location_prefix, scratch=scratch
        )
        return cluster(tables, scratch=scratch)


def read_manifest(files: Files, snapshot: str) -> Manifest:
    """The manifest of a snapshot; `files` are those below `destination/source/configuration/`. Raises InventoryError for
    one that is not whole (its checksum comes last), damaged, or none, and SourceError."""
    try:
        contents = {name: files.read(f"{snapshot}/{name}") for name in ("manifest.json", "manifest.checksum")}
    except FileNotFoundError:
        raise InventoryError(f"snapshot {snapshot} of the inventory has no manifest and checksum (yet)") from None
    try:
        verify_checksum(contents["manifest.json"], contents["manifest.checksum"])
        return parse_manifest(contents["manifest.json"])
    except InventoryError as error:
        raise InventoryError(f"snapshot {snapshot} of the inventory: {error}") from None


def read_snapshot(
    files: Files,
    manifest: Manifest,
    bucket: str,
    prefix: str,
    *,
    location_prefix: str = "",
    scratch: Path | None = None,
) -> Iterator[pa.Table]:
    """The rows of log objects in `bucket` below `prefix`, as LOG_ROWS, some at a time, of every data file in turn.
    `location_prefix` is what the keys of `files` begin with, where they are in a bucket; temporary files go to the
    folder `scratch`. Raises InventoryError, SourceError, and StoreError where there is no room."""
    if manifest.source_bucket != bucket:
        raise InventoryError(f"the inventory is of bucket {manifest.source_bucket!r}, and the logs are in {bucket!r}")
    names = [object_name(manifest, item.key, location_prefix) for item in manifest.files]
    for item, name in zip(manifest.files, names, strict=True):
        with _temporary(scratch) as content:
            _fetch(files, item, name, content)
            try:
                for rows in _rows(content, manifest):
                    found = log_rows(rows, bucket, prefix, encoded=manifest.file_format == "CSV")
                    if found.num_rows:
                        yield found
            except InventoryError as error:
                raise InventoryError(f"inventory file {item.key!r}: {error}") from None
            except (OSError, EOFError, ValueError, zlib.error, pa.ArrowException) as error:
                # Arrow's own words may quote rows.
                raise InventoryError(
                    f"inventory file {item.key!r} is not {manifest.file_format} as its manifest says"
                    f" ({type(error).__name__})"
                ) from None


def object_name(manifest: Manifest, key: str, location_prefix: str = "") -> str:
    """The name, among the files of an inventory, of a data file that its manifest gives a key of the destination bucket.

    It is what follows the location's prefix. In a copy, local or not, which has another place, or none that is known, it
    is `data/<file>` of a key that ends in `<source>/<configuration>/data/<file>`. The file's MD5 tells whether it is it.
    Raises InventoryError.
    """
    name = key.removeprefix(location_prefix) if location_prefix and key.startswith(location_prefix) else ""
    if not name:
        match key.split("/"):
            case [*_, manifest.source_bucket, _, "data", file]:
                name = f"data/{file}"
    if not all(name.split("/")):
        raise InventoryError(f"inventory file {key!r} does not lie below the inventory's location")
    return name


def cluster(
    tables: Iterable[pa.Table],
    *,
    bytes_per_run: int = BYTES_PER_RUN,
    rows_per_block: int = ROWS_PER_BLOCK,
    bytes_at_once: int = BYTES_AT_ONCE,
    scratch: Path | None = None,
) -> Iterator[tuple[date, pa.Table]]:
    """The rows of `tables` by log date, ascending: each date once, its rows in byte order of name. Of rows with one name
    the last modified stays. All are read before the first date comes; the order they come in makes no difference. Raises
    StoreError where there is no room for the temporary file, in the folder `scratch`."""
    with _temporary(scratch) as file:
        try:
            spilled = _spilled(_runs(tables, bytes_per_run), file, rows_per_block)
        except OSError as error:
            raise _no_room(error) from None
        reader = pa.ipc.open_file(file)
        for last in spilled.range_ends(bytes_at_once):
            yield from _by_date([pa.table(part) for run in spilled.runs for part in run.until(last, reader)])


@dataclass
class _Run:
    """A run in the temporary file, read back in order of date: blocks still to come (number, first day), and what is left
    of the last one that came."""

    blocks: list[tuple[int, int]]
    left: pa.RecordBatch | None = None
    _next: int = field(default=0, repr=False)

    def until(self, last: int, reader: pa.RecordBatchFileReader) -> Iterator[pa.RecordBatch]:
        """The rows up to the day `last`, without those that came before."""
        while True:
            if self.left is None:
                if self._next == len(self.blocks) or self.blocks[self._next][1] > last:
                    return
                self.left = reader.get_batch(self.blocks[self._next][0])
                self._next += 1
            days = self.left["log_date"].cast(pa.int32()).to_numpy()
            end = int(np.searchsorted(days, last, side="right"))
            if end:
                yield self.left[:end]
            if end < len(days):
                self.left = self.left[end:]
                return
            self.left = None


@dataclass
class _Spilled:
    """What is in the temporary file."""

    runs: list[_Run] = field(default_factory=list)
    rows_on_date: Counter[int] = field(default_factory=Counter)
    size: int = 0

    def range_ends(self, bytes_at_once: int) -> Iterator[int]:
        """The last days of ranges of dates, each of one date or of about so many bytes at most."""
        at_once = bytes_at_once * self.rows_on_date.total() // max(self.size, 1)
        rows, last = 0, None
        for day in sorted(self.rows_on_date):
            if last is not None and rows + self.rows_on_date[day] > at_once:
                yield last
                rows = 0
            rows, last = rows + self.rows_on_date[day], day
        if last is not None:
            yield last


def _spilled(runs: Iterable[pa.RecordBatch], file: IO[bytes], rows_per_block: int) -> _Spilled:
    """Writes sorted runs to a file, in blocks. Raises OSError."""
    spilled = _Spilled()
    written = 0
    with pa.ipc.new_file(file, _LARGE_ROWS, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        for run in runs:
            days = run["log_date"].cast(pa.int32()).to_numpy()
            distinct, counts = np.unique(days, return_counts=True)
            spilled.rows_on_date.update(dict(zip(distinct.tolist(), counts.tolist(), strict=True)))
            spilled.size += run.nbytes
            starts = range(0, len(days), rows_per_block)
            spilled.runs.append(_Run([(number, int(days[at])) for number, at in enumerate(starts, written)]))
            written += len(starts)
            for at in starts:
                writer.write_batch(run.slice(at, rows_per_block))
            del run  # not in memory beside the next
    return spilled


def _runs(tables: Iterable[pa.Table], bytes_per_run: int) -> Iterator[pa.RecordBatch]:
    """The rows in runs sorted by date."""
    gathered: list[pa.Table] = []
    size = 0
    for table in tables:
        if table.num_rows:
            gathered.append(table.cast(_LARGE_ROWS))
            size += table.nbytes
        if size >= bytes_per_run:
            yield _sorted(gathered, _ORDER[:1])
            gathered, size = [], 0
    if gathered:
        yield _sorted(gathered, _ORDER[:1])


def _sorted(tables: list[pa.Table], order: list[tuple[str, str, str]]) -> pa.RecordBatch:
    batch = _as_batch(tables)
    return batch.take(pc.sort_indices(batch, order))


def _by_date(parts: list[pa.Table]) -> Iterator[tuple[date, pa.Table]]:
    """The rows of a range of dates, each date's for itself."""
    batch = _as_batch(parts)
    order = pc.sort_indices(batch, _ORDER)
    names = batch["name"].take(order)
    days = batch["log_date"].take(order).cast(pa.int32()).to_numpy()
    stays = np.ones(len(days), bool)
    stays[:-1] = pc.not_equal(names[:-1], names[1:]).to_numpy(zero_copy_only=False) | (days[:-1] != days[1:])
    order, days = order.filter(pa.array(stays)), days[stays]
    del names
    distinct, starts = np.unique(days, return_index=True)
    for day, start, end in zip(distinct.tolist(), starts.tolist(), [*starts.tolist()[1:], len(days)], strict=True):
        chunks = [
            batch.take(order[at : min(at + _ROWS_PER_CHUNK, end)]).cast(LOG_ROWS)
            for at in range(start, end, _ROWS_PER_CHUNK)
        ]
        yield _EPOCH + timedelta(days=day), pa.Table.from_batches(chunks)


def _as_batch(tables: list[pa.Table]) -> pa.RecordBatch:
    """Tables as one batch. The list is emptied: they would stay in memory beside it."""
    table = pa.concat_tables(tables)
    tables.clear()
    [batch] = table.combine_chunks().to_batches()
    return batch


def _temporary(folder: Path | None) -> IO[bytes]:
    """A file without a name. Raises StoreError."""
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise _no_room(error) from None


def _no_room(error: OSError) -> StoreError:
    return StoreError(f"a temporary file cannot be written: {error.strerror or type(error).__name__}")


def _fetch(files: Files, item: ManifestFile, name: str, content: IO[bytes]) -> None:
    """Puts a data file into `content`. Raises InventoryError if it is not what the manifest says."""
    digest = hashlib.md5(usedforsecurity=False)
    size = 0
    try:
        for chunk in files.chunks(name):
            digest.update(chunk)
            size += len(chunk)
            if size > item.size:
                break
            content.write(chunk)
        content.flush()
    except FileNotFoundError:
        raise InventoryError(f"inventory file {item.key!r} is not there") from None
    except OSError as error:
        raise _no_room(error) from None
    if size != item.size:
        raise InventoryError(f"inventory file {item.key!r} has not the size that the manifest says")
    if digest.hexdigest() != item.md5:
        raise InventoryError(f"inventory file {item.key!r} has not the MD5 that the manifest says")
    content.seek(0)


def _rows(content: IO[bytes], manifest: Manifest) -> Iterator[pa.RecordBatch]:
    """The rows of a data file, in the columns that are used."""
    readers = {"CSV": _csv_rows, "ORC": _orc_rows, "Parquet": _parquet_rows}
    return readers[manifest.file_format](content, manifest)


def _csv_rows(content: IO[bytes], manifest: Manifest) -> Iterator[pa.RecordBatch]:
    if _is_empty(content):
        return
    used = [name for name in manifest.columns if name in USED_COLUMNS]
    read = pa.csv.ReadOptions(column_names=manifest.columns, block_size=_CSV_BYTES_PER_BATCH)
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(manifest.columns, pa.string()), include_columns=used, strings_can_be_null=False
    )
    with (
        pa.CompressedInputStream(pa.PythonFile(content, "r"), "gzip") as stream,
        pa.csv.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert) as reader,
    ):
        yield from reader


def _is_empty(content: IO[bytes]) -> bool:
    """Whether a compressed file has no content; Arrow takes it for damaged."""
    with gzip.GzipFile(fileobj=content) as stream:
        empty = not stream.read(1)
    content.seek(0)
    return empty


def _parquet_rows(content: IO[bytes], manifest: Manifest) -> Iterator[pa.RecordBatch]:
    # Through a buffer: a row group may be all there is, and would be read at once.
    with pq.ParquetFile(content, buffer_size=_PARQUET_BYTES_AT_ONCE, pre_buffer=False) as file:
        columns = _columns(file.schema_arrow, manifest)
        for batch in file.iter_batches(_ROWS_PER_BATCH, columns=list(columns), use_threads=False):
            yield batch.rename_columns([columns[name] for name in batch.schema.names])


def _orc_rows(content: IO[bytes], manifest: Manifest) -> Iterator[pa.RecordBatch]:
    # Not with ORCFile, which reads a stripe at once, and one may be all there is.
    file = pa.dataset.OrcFileFormat().make_fragment(content)
    columns = _columns(file.physical_schema, manifest)
    for batch in file.scanner(
        columns=list(columns), batch_size=_ROWS_PER_BATCH, batch_readahead=0, use_threads=False
    ).to_batches():
        yield batch.rename_columns([columns[name] for name in batch.schema.names])


def _columns(schema: pa.Schema, manifest: Manifest) -> dict[str, str]:
    """The columns of a file that are used, and what they are called here. Raises InventoryError if one is missing."""
    columns = {name: column_name(name) for name in schema.names if column_name(name) in USED_COLUMNS}
    for needed in (*NEEDED_COLUMNS, *(name for name in manifest.columns if name in USED_COLUMNS)):
        if needed not in columns.values():
            raise InventoryError(f"no column {needed}, which the manifest has")
    return columns
