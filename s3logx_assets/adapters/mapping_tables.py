"""Mapping tables in files: read in pieces, and, where they are large, compiled once into a form that is looked up on disk.

A table is Parquet, CSV with a header, or JSON, the last two also compressed with gzip, told by content. JSON is a line per
row, {"key": …, "dataset": …, "path": …}, or one object from key to [dataset, path] or to {dataset: path, …}.

A table of more than one run is compiled: runs of rows are sorted and written to temporary files, and these are merged
range by range of keys into an Arrow file in the cache folder, one record batch per block. The next process maps the blocks
that it needs and parses nothing. No step holds more than a few runs or blocks in memory, unless the cache folder cannot be
written to.

    cache/mapping-v1-<mode>-<digest of the table's file>.arrow   the entries
    cache/mapping-v1-<mode>-<digest of the table's file>.json    what holds for them, and the checksum of the other file

All of it can be deleted; what is damaged, or of another format, is made anew. What an entry means does not belong here.
"""

import contextlib
import hashlib
import io
import json
import logging
import mmap
import os
import re
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from s3logx_assets.adapters.local_files import locked, make_folder, replacing
from s3logx_assets.core.errors import SettingsError
from s3logx_assets.core.mapping_entries import (
    ENTRIES,
    MAPPING_HELP,
    Entries,
    Facts,
    GatheredFacts,
    HeldEntries,
    checked_entries,
    file_kind,
    sorted_entries,
)

_LOG = logging.getLogger(__name__)

_COLUMNS = ("key", "dataset", "path")
_BYTES_PER_RUN = 1 << 26
_ROWS_PER_BLOCK = 1 << 17
_ROWS_PER_BATCH = 1 << 16
# Every so-manieth key of each run is known when the ranges of keys are chosen.
_SAMPLED = 1 << 10
_BYTES_AT_ONCE = 1 << 20
_JSON_ROW_BYTES = 1 << 22
# So many compiled tables stay: a table that changes daily must not fill the disk.
_KEPT = 2
_GZIP = b"\x1f\x8b"
_RUNS = ".mapping-runs-"
_OBJECT_OF_KEYS = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*[\[{]')
_BLANKS = re.compile(r"\s*")
_COLON = re.compile(r"\s*:\s*")
_NEXT = re.compile(r"\s*([,}])")
# What of Arrow's words can be repeated: they may quote the file, which may be the wrong one.
_HARMLESS = re.compile(
    r"(?:Row #\d+: )?Expected \d+ columns, got \d+|Column\([/\w]*\) changed from \w+ to \w+|Empty \w+ (?:file|stream)"
    r"|Truncated compressed stream|[Ii]nvalid UTF8"
)


class _IncompleteError(Exception):
    """The text ends within a member of a JSON object, or the JSON is not valid."""


class _NotAMappingError(ValueError):
    """The file is not what it should be; the text says why, and quotes nothing."""


def read_mapping(path: Path, cache: Path, each: bool) -> Entries:
    """The entries of a mapping table, compiled in the folder `cache` where they are many. With `each`, all datasets of a
    key are entries, else the first alone. Raises SettingsError."""
    compiled = cache / f"mapping-v1-{'each' if each else 'first'}-{_digest(path)}.arrow"
    found = _opened(compiled)
    if found is not None:
        return found
    runs = _runs(_checked_rows(path), each)
    first = next(runs)
    second = next(runs, None)
    if second is None:
        return HeldEntries(first)
    try:
        with _alone(cache):
            found = _opened(compiled)  # another process may have been faster
            if found is None:
                _compile(chain([first, second], runs), compiled, each)
                found = _opened(compiled)
    except OSError as error:
        _LOG.warning("%s: cannot be written to (%s); the mapping table is held in memory", cache, error.strerror)
    if found is not None:
        return found
    return HeldEntries(sorted_entries(pa.concat_tables(_runs(_checked_rows(path), each)), each))


def count_rows(path: Path) -> int:
    """The rows of a mapping table, all of them checked and none kept. Raises SettingsError."""
    return sum(rows.num_rows for rows in _checked_rows(path))


class CompiledEntries:
    """The entries in a compiled file, which may be unlinked meanwhile. A block is mapped into memory while it is used."""

    def __init__(self, descriptor: int, facts: Facts) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        self.facts = facts
        reader = self._reader()
        # Copied, or they would keep the whole file mapped.
        first_keys = [reader.get_batch(number)["key"][0].as_py() for number in range(reader.num_record_batches)]
        self.first_keys = pa.array(first_keys, pa.large_binary())

    def block(self, number: int) -> pa.RecordBatch:
        """One block; its pages come into memory as they are touched, and leave it with it."""
        return self._reader().get_batch(number)

    def _reader(self) -> pa.RecordBatchFileReader:
        return pa.ipc.open_file(pa.py_buffer(mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)))


def _opened(compiled: Path) -> CompiledEntries | None:
    """The entries of a compiled file if it is there and whole."""
    try:
        told = json.loads(compiled.with_suffix(".json").read_bytes())
        facts = told["facts"]
        with compiled.open("rb") as file:
            if told["checksum"] != _checksum(file, facts):
                return None
            with contextlib.suppress(OSError):
                os.utime(compiled)  # in use: others go first
            content = Facts(facts["digest"], tuple(facts["prefix_depths"]), facts["several"])
            return CompiledEntries(os.dup(file.fileno()), content)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checksum(file: BinaryIO, facts: object) -> int:
    """Of a compiled file and what is told of it."""
    checksum = zlib.crc32(json.dumps(facts).encode())
    file.seek(0)
    while piece := file.read(_BYTES_AT_ONCE):
        checksum = zlib.crc32(piece, checksum)
    return checksum


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Waits until no other process compiles in the folder, and clears away what dead ones left."""
    make_folder(cache)
    with locked(cache / ".mapping.lock"):
        for left in cache.glob(f"{_RUNS}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _compile(runs: Iterable[pa.Table], compiled: Path, each: bool) -> None:
    """Merges sorted runs into one compiled file. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix=_RUNS, dir=compiled.parent) as folder:
        files = [_written(run, Path(folder) / f"{number}.arrow") for number, run in enumerate(runs)]
        gathered = GatheredFacts()
        # Not synced: what a loss of power leaves is found to be damaged, and made anew.
        with replacing(compiled, settled=False) as stream:
            with pa.ipc.new_file(stream, ENTRIES) as writer:
                for block in _merged(files, each):
                    gathered.add(block)
                    writer.write_batch(block)
            facts = asdict(gathered.facts())
    with compiled.open("rb") as file:
        told = {"facts": facts, "checksum": _checksum(file, facts)}
    with replacing(compiled.with_suffix(".json"), settled=False) as stream:
        stream.write(json.dumps(told).encode())
    newest_first = sorted(compiled.parent.glob("mapping-*.arrow"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in newest_first[_KEPT:]:
        old.unlink(missing_ok=True)
        old.with_suffix(".json").unlink(missing_ok=True)


def _runs(rows: Iterable[pa.Table], each: bool) -> Iterator[pa.Table]:
    """The rows in sorted runs, at least one."""
    gathered, size = [], 0
    for table in rows:
        gathered.append(table)
        size += table.nbytes
        if size >= _BYTES_PER_RUN:
            yield sorted_entries(pa.concat_tables(gathered), each)
            gathered, size = [], 0
    if gathered:
        yield sorted_entries(pa.concat_tables(gathered), each)


def _written(run: pa.Table, path: Path) -> Path:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, ENTRIES) as writer:
        writer.write_batch(_as_batch(run))
    return path


def _merged(files: Sequence[Path], each: bool) -> Iterator[pa.RecordBatch]:
    """The blocks that the runs give together: each of one range of keys, which all runs are cut into."""
    samples = pa.concat_arrays([_mapped(file)["key"].take(_sampled(file)) for file in files])
    starts = samples.take(pc.sort_indices(samples))[:: _ROWS_PER_BLOCK // _SAMPLED].unique()
    cuts = [_cuts(_mapped(file)["key"], starts) for file in files]
    for number in range(len(starts)):
        parts = [_mapped(file)[cut[number] : cut[number + 1]] for file, cut in zip(files, cuts, strict=True)]
        yield _as_batch(sorted_entries(pa.Table.from_batches(parts), each))


def _mapped(file: Path) -> pa.RecordBatch:
    """A run, mapped into memory as long as it is used, and no longer: what was touched of it counts as ours."""
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).get_batch(0)


def _sampled(file: Path) -> pa.Array:
    return pa.array(np.arange(0, _mapped(file).num_rows, _SAMPLED))


def _cuts(keys: pa.Array, starts: pa.Array) -> list[int]:
    """Where in sorted `keys` each range begins, and where the last one ends."""
    return [*pc.search_sorted(keys, starts).to_pylist(), len(keys)]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> SettingsError:
    harmless = _HARMLESS.search(str(error))
    reason = str(error) if isinstance(error, _NotAMappingError) else harmless[0] if harmless else type(error).__name__
    return SettingsError(f"S3LOGX_DATASET_MAPPING: {path} cannot be read ({reason}); it must be {MAPPING_HELP}")


def _checked_rows(path: Path) -> Iterator[pa.Table]:
    """The rows of a file as ENTRIES, some at a time, at least one table, which may be empty."""
    readers = {"parquet": _parquet_rows, "csv": _csv_rows, "json": _json_rows}
    rows_before = 0
    try:
        for rows in readers[file_kind(path.name)](path):
            rows.validate(full=True)  # not every reader looks whether text is UTF-8
            yield checked_entries(rows, rows_before)
            rows_before += rows.num_rows
    except (OSError, ValueError, zlib.error, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def _parquet_rows(path: Path) -> Iterator[pa.Table]:
    # Through a buffer: a row group may be all there is, and would be read at once.
    with pq.ParquetFile(path, buffer_size=_BYTES_AT_ONCE, pre_buffer=False) as file:
        columns = [name for name in file.schema_arrow.names if name in _COLUMNS]
        yield file.schema_arrow.empty_table().select(columns)
        for batch in file.iter_batches(_ROWS_PER_BATCH, columns=columns):
            yield _as_table(batch)


def _csv_rows(path: Path) -> Iterator[pa.Table]:
    def options(columns: Sequence[str] = ()) -> pa.csv.ConvertOptions:
        text = dict.fromkeys(_COLUMNS, pa.string())
        return pa.csv.ConvertOptions(column_types=text, include_columns=columns, strings_can_be_null=False)

    with _stream(path) as stream, pa.csv.open_csv(stream, convert_options=options()) as reader:
        columns = [name for name in reader.schema.names if name in _COLUMNS]
    yield pa.schema([(name, pa.string()) for name in columns]).empty_table()
    # The types of other columns are guessed by the first rows and may not fit later ones: they are not read.
    with _stream(path) as stream, pa.csv.open_csv(stream, convert_options=options(columns)) as reader:
        yield from (_as_table(batch) for batch in reader if batch.num_rows)


def _json_rows(path: Path) -> Iterator[pa.Table]:
    with _stream(path) as stream:
        if _OBJECT_OF_KEYS.match(stream.read(_BYTES_AT_ONCE).decode("utf-8-sig", "replace")):
            yield from _rows_of_object(path)
            return
    parse = pa.json.ParseOptions(
        explicit_schema=pa.schema([(name, pa.string()) for name in _COLUMNS]), unexpected_field_behavior="ignore"
    )
    read = pa.json.ReadOptions(block_size=_JSON_ROW_BYTES)
    with _stream(path) as stream, pa.json.open_json(stream, read_options=read, parse_options=parse) as reader:
        yield from map(_as_table, reader)


def _rows_of_object(path: Path) -> Iterator[pa.Table]:
    """Of one JSON object from key to [dataset, path] or {dataset: path, …}; of a list of paths the first counts."""
    rows: list[tuple[str, object, object]] = []
    with _stream(path) as stream, io.TextIOWrapper(stream, "utf-8-sig") as text:
        for key, value in _members(text):
            if isinstance(value, dict):
                rows += [(key, name, own[0] if isinstance(own, list) and own else own) for name, own in value.items()]
            elif isinstance(value, list) and len(value) == len(_COLUMNS) - 1:
                rows.append((key, *value))
            else:
                raise _NotAMappingError("a key has neither [dataset, path] nor {dataset: path}")
            if len(rows) >= _ROWS_PER_BATCH:
                yield _text_table(rows)
                rows = []
    yield _text_table(rows)


def _text_table(rows: Sequence[tuple[str, object, object]]) -> pa.Table:
    if not all(isinstance(each, str | None) for row in rows for each in row):
        raise _NotAMappingError("a dataset or path is not text")
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.table([pa.array(column, pa.string()) for column in columns], _COLUMNS)


def _members(text: TextIO) -> Iterator[tuple[str, Any]]:
    """Name and value of each member of the JSON object that a text is, which is read as it goes."""
    decode = json.JSONDecoder().raw_decode
    pending, closer = "", "{"
    while closer != "}":
        piece = text.read(_BYTES_AT_ONCE)
        if not piece or len(pending) > _JSON_ROW_BYTES:
            raise _NotAMappingError("the JSON is not valid")
        pending += piece
        at = 0
        if closer == "{":
            at, closer = pending.index("{") + 1, ","
        with contextlib.suppress(_IncompleteError, json.JSONDecodeError):
            while closer == ",":
                name, end = decode(pending, _after(_BLANKS, pending, at))
                value, end = decode(pending, _after(_COLON, pending, end))
                at = _after(_NEXT, pending, end)
                closer = pending[at - 1]
                yield name, value
        pending = pending[at:]
    while pending:
        if pending.strip():
            raise _NotAMappingError("more follows the JSON object")
        pending = text.read(_BYTES_AT_ONCE)


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    if found is None:
        raise _IncompleteError
    return found.end()


def _as_batch(table: pa.Table) -> pa.RecordBatch:
    [batch] = table.combine_chunks().to_batches()
    return batch


def _as_table(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch])


@contextlib.contextmanager
def _stream(path: Path) -> Iterator[pa.NativeFile]:
    """The bytes of a file, without gzip if it has that."""
    with path.open("rb") as file:
        kind = "gzip" if file.read(len(_GZIP)) == _GZIP else None
    with pa.input_stream(str(path), compression=kind) as stream:
        yield stream
