"""The private store: one Parquet file per table and partition, replaced atomically, in a hive layout.

    private/<asset>/log_date=2025-03-01/part-0.parquet
    private/<asset>/scope=ds000001/by_day.parquet

A file carries what it was made from: a small JSON record in its footer, for questions that must be quick, and
sections, larger pieces such as the ledger, that lie between the rows and the footer and commit with them in the same
step. Parquet finds everything by offsets from the footer, so any engine reads the file and none sees the sections
(Apache Parquet format, "File format").

Which tables exist and what they mean does not belong here, nor how files are kept (adapters/files.py).
"""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from s3logx_assets.adapters.files import TABLE, Confirm, Files
from s3logx_assets.adapters.local_files import LocalFiles
from s3logx_assets.core.concurrency import mapped
from s3logx_assets.core.errors import StoreError

T = TypeVar("T")
R = TypeVar("R")

PART = "part-0"
LOG_DATE = "log_date"
_RECORD = b"s3logx"
_SECTIONS = b"s3logx.sections"
_ROWS_PER_GROUP = 1 << 20
# A table of so many rows is made in memory first: every page that goes to a Python stream costs more than its rows.
_ROWS_IN_MEMORY = 1 << 18
# Wide enough that the sorted keys of a row group stay in one dictionary.
_DICTIONARY_BYTES = 1 << 26

# The columns to read of a table, or what tells them from its record.
Columns = Sequence[str] | Callable[[Mapping[str, Any]], Sequence[str]]


def partition(day: date | str) -> str:
    """The folder name of a log date, given as a date or as YYYY-MM-DD."""
    return f"{LOG_DATE}={day}"


def row_groups(rows: int) -> int:
    """How many row groups a table or a group of so many rows becomes: at least one."""
    return max(1, -(-rows // _ROWS_PER_GROUP))


class TableStore:
    """The tables below one place: a local folder, or files elsewhere. Partitions are named `<dimension>=<value>`, as
    `log_date=2025-03-01`. All methods raise StoreUnavailable where the place cannot be reached."""

    def __init__(self, place: Path | Files) -> None:
        self.files: Files = LocalFiles(place) if isinstance(place, Path) else place

    def __repr__(self) -> str:
        return f"TableStore({str(self.files)!r})"

    @property
    def root(self) -> Path:
        """The folder of a local store. Raises StoreError for another one."""
        if not isinstance(self.files, LocalFiles):
            raise StoreError(f"{self.files} is not a local folder")
        return self.files.root

    def path(self, asset: str, partition: str, part: str = PART) -> Path:
        """Where a table of a local store lies, whether or not it is there."""
        return self.root / _name(asset, partition, part)

    def uri(self, asset: str, partition: str, part: str | None = PART) -> str:
        """Where a table lies, or the folder of all of a partition's, for people."""
        return self.files.uri(_name(asset, partition, part) if part is not None else f"{asset}/{partition}")

    def partitions(self, asset: str, dimension: str) -> list[str]:
        """The values of `dimension` for which `asset` has a folder, ascending."""
        prefix = f"{dimension}="
        names = self.files.folders(asset)
        return sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))

    def tags(self, asset: str, dimension: str) -> dict[str, str]:
        """For each value of `dimension` for which `asset` has a table: what tells its present file from any other one.
        Opens no file."""
        prefix = f"{dimension}="
        found = self.files.tags(asset, f"{PART}{TABLE}")
        return {name.removeprefix(prefix): tag for name, tag in found.items() if name.startswith(prefix)}

    def write(
        self,
        asset: str,
        partition: str,
        table: pa.Table,
        record: Mapping[str, Any],
        sections: Mapping[str, bytes] | None = None,
        part: str = PART,
        settled: bool = True,
    ) -> None:
        """Replaces one table: whole or not at all, to stay when this returns. Where it is not `settled`, a loss of power
        before the next `settle` may bring the old table back or leave a damaged one: for what notices that and can be
        made again. Raises StoreError."""
        with self._written(_name(asset, partition, part), settled) as stream:
            _write_parquet(stream, table.schema, iter([table]), lambda: record, sections or {})

    def add(
        self, asset: str, partition: str, table: pa.Table, record: Mapping[str, Any], sections: Mapping[str, bytes]
    ) -> bool:
        """As `write`, but only where there is no table yet; False where there is another one, which stays. Raises StoreError."""
        content = io.BytesIO()
        _write_parquet(content, table.schema, iter([table]), lambda: record, sections)
        name = _name(asset, partition)
        try:
            # What looks like another one may be this, whose writing was heard of twice.
            return self.files.create(name, content.getvalue()) or self.files.read(name) == content.getvalue()
        except OSError as error:
            raise StoreError(f"{self.files.uri(name)} cannot be written: {_reason(error)}") from None

    def write_groups(
        self,
        asset: str,
        partition: str,
        schema: pa.Schema,
        groups: Iterable[pa.Table],
        record: Callable[[], Mapping[str, Any]],
        sections: Mapping[str, bytes] | None = None,
        part: str = PART,
    ) -> None:
        """As `write`, of a table of any size: each of `groups`, in memory one after the other, becomes `row_groups` of its
        rows. `record` is asked for when the last one is written; what it raises keeps the old table in
        its place. Raises StoreError."""
        with self._written(_name(asset, partition, part), True) as stream:
            _write_parquet(stream, schema, iter(groups), record, sections or {})

    def groups(
        self,
        asset: str,
        partition: str,
        columns: Sequence[str] | None = None,
        encoded: Sequence[str] = (),
        part: str = PART,
    ) -> Iterator[pa.Table]:
        """As `read`, of a table of any size, row group by row group; at least one, if only of columns. Raises StoreError if
        it is absent or damaged."""
        try:
            with self._opened(asset, partition, part, encoded) as (_, file):
                for number in range(file.num_row_groups):
                    yield file.read_row_group(number, columns=columns, use_threads=False)
                if not file.num_row_groups:
                    yield file.read(columns=columns, use_threads=False)
        except FileNotFoundError:
            raise self._absent(asset, partition, part) from None

    def read_groups(self, asset: str, partition: str, first: int, count: int, part: str = PART) -> pa.Table:
        """The rows of `count` row groups from the `first` on. Raises StoreError if the table is absent or damaged."""
        try:
            with self._opened(asset, partition, part) as (_, file):
                return file.read_row_groups(range(first, first + count), use_threads=False)
        except FileNotFoundError:
            raise self._absent(asset, partition, part) from None

    def write_state(self, asset: str, name: str, content: bytes) -> None:
        """Replaces a file beside an asset's partitions, of what is said of them all. Raises StoreError."""
        with self._written(f"{asset}/{name}", True) as stream:
            stream.write(content)

    def read_state(self, asset: str, name: str) -> bytes | None:
        """What such a file holds, None where there is none. Raises StoreError."""
        try:
            return self.files.read(f"{asset}/{name}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.files.uri(asset)}/{name} cannot be read: {_reason(error)}") from None

    @contextmanager
    def _written(self, name: str, settled: bool) -> Iterator[BinaryIO]:
        try:
            with self.files.replacing(name, settled) as stream:
                yield stream
        except OSError as error:
            raise StoreError(f"{self.files.uri(name)} cannot be written: {_reason(error)}") from None

    def settle(self) -> None:
        """Makes sure that whatever was written stays: one wait for many tables."""
        self.files.settle()

    def read(
        self,
        asset: str,
        partition: str,
        part: str = PART,
        columns: Sequence[str] | None = None,
        encoded: Sequence[str] = (),
    ) -> pa.Table:
        """The rows of one table; the text columns in `encoded` come dictionary-encoded, which is several times faster
        where texts repeat. Raises StoreError if it is absent or damaged."""
        try:
            with self._opened(asset, partition, part, encoded) as (_, file):
                return file.read(columns=columns, use_threads=False)
        except FileNotFoundError:
            raise self._absent(asset, partition, part) from None

    def record(self, asset: str, partition: str, part: str = PART) -> dict[str, Any] | None:
        """The record a table was written with, or None where there is no table. Reads the footer alone."""
        try:
            with self._opened(asset, partition, part) as (_, file):
                record: dict[str, Any] = json.loads(file.metadata.metadata[_RECORD])
                return record
        except FileNotFoundError:
            return None

    def records(self, asset: str, partitions: Iterable[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """The record of each partition's table, as `record` has it; None for a damaged one too."""

        def found(partition: str) -> tuple[str, dict[str, Any] | None]:
            try:
                return partition, self.record(asset, partition)
            except StoreError:
                return partition, None

        return self.each(found, partitions)

    def each(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """`work` of each item, in their order, as many at a time as tables are best read or written."""
        return mapped(work, items, self.files.readers) if self.files.readers > 1 else map(work, items)

    def read_whole(
        self,
        asset: str,
        partition: str,
        part: str = PART,
        columns: Columns | None = None,
        encoded: Sequence[str] = (),
    ) -> tuple[pa.Table, dict[str, Any]] | None:
        """As `read`, and the record too, or None where there is no table. The record may tell which columns. Raises
        StoreError if it is damaged."""
        try:
            with self._opened(asset, partition, part, encoded) as (_, file):
                record = json.loads(file.metadata.metadata[_RECORD])
                wanted = columns(record) if callable(columns) else columns
                return file.read(columns=wanted, use_threads=False), record
        except FileNotFoundError:
            return None

    def section(self, asset: str, partition: str, name: str, part: str = PART) -> bytes:
        """One section of a table. Raises StoreError if it is absent or damaged."""
        try:
            with self._opened(asset, partition, part) as (source, file):
                offset, length = json.loads(file.metadata.metadata[_SECTIONS])[name]
                source.seek(offset)
                content: bytes = source.read(length)
                return content
        except FileNotFoundError:
            raise self._absent(asset, partition, part) from None

    def remove_part(self, asset: str, partition: str, part: str) -> None:
        """Removes one table, if it is there. Raises StoreError."""
        name = _name(asset, partition, part)
        try:
            self.files.remove(name)
        except OSError as error:
            raise StoreError(f"{self.files.uri(name)} cannot be removed: {_reason(error)}") from None

    def remove(self, asset: str, partition: str = "") -> None:
        """Removes all tables of a partition, or of an asset."""
        self.files.remove_folder(f"{asset}/{partition}" if partition else asset)

    def hold(self, asset: str, holder: str, partition: str, tag: str) -> None:
        """Keeps a partition's file, as it is now, under another asset's name too: replacing the one leaves the other as
        it was. `tag`: its state, as it was seen. Raises StoreError, StoreBusyError where it is another one already."""
        source, target = _name(asset, partition), _name(holder, partition)
        try:
            self.files.hold(source, target, tag)
        except OSError as error:
            raise StoreError(f"{self.files.uri(source)} cannot be held as {target}: {_reason(error)}") from None

    def move(self, asset: str, target: str, partition: str) -> None:
        """Puts a partition's file in the place of another asset's. Raises StoreError."""
        name = _name(target, partition)
        try:
            self.files.move(_name(asset, partition), name)
        except OSError as error:
            raise StoreError(f"{self.files.uri(name)} cannot be replaced: {_reason(error)}") from None

    def in_use(self) -> AbstractContextManager[None]:
        """Keeps the store from being exchanged meanwhile; for all who read or write more than one table. Raises
        StoreBusyError while it is, StoreError where it cannot be locked."""
        return self.files.in_use()

    def alone(self) -> AbstractContextManager[None]:
        """Keeps everybody else out meanwhile. Raises StoreBusyError while the store is in use, StoreError where it cannot
        be locked."""
        return self.files.alone()

    def locked(self, asset: str) -> AbstractContextManager[Confirm]:
        """Waits until no one else works on an asset, and keeps others from it meanwhile; ends with the process. What it
        gives raises StoreBusyError where the asset has been taken over all the same."""
        return self.files.locked(asset)

    @contextmanager
    def _opened(
        self, asset: str, partition: str, part: str, encoded: Sequence[str] = ()
    ) -> Iterator[tuple[pa.NativeFile, pq.ParquetFile]]:
        try:
            with self.files.opened(_name(asset, partition, part)) as source:
                # A page without a checksum, as older files have them, is taken as it is.
                yield (
                    source,
                    pq.ParquetFile(
                        source,
                        read_dictionary=list(encoded),
                        pre_buffer=self.files.readers > 1,
                        page_checksum_verification=True,
                    ),
                )
        except FileNotFoundError:
            raise
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            place = self.uri(asset, partition, part)
            raise StoreError(f"{place} cannot be read ({type(error).__name__}); materialise {asset} again") from None

    def _absent(self, asset: str, partition: str, part: str) -> StoreError:
        return StoreError(f"{self.uri(asset, partition, part)} is not there; materialise {asset} for {partition} first")


def _name(asset: str, partition: str, part: str = PART) -> str:
    return f"{asset}/{partition}/{part}{TABLE}"


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


@lru_cache(maxsize=64)
def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """How the columns are encoded: texts and sealed addresses repeat, times and dates ascend, numbers do neither, nor
    does a sealed address that is never null: it names the row. A third smaller and twice as fast as a dictionary for
    every column. All are encodings that any engine reads."""
    types = dict(zip(schema.names, schema.types, strict=True))
    ascending = [name for name, kind in types.items() if pa.types.is_temporal(kind)]
    naming = [field.name for field in schema if pa.types.is_fixed_size_binary(field.type) and not field.nullable]
    plain = [name for name, kind in types.items() if pa.types.is_int64(kind) or pa.types.is_floating(kind)] + naming
    return {
        "use_dictionary": [name for name in types if name not in (*ascending, *plain)],
        "column_encoding": {**dict.fromkeys(ascending, "DELTA_BINARY_PACKED"), **dict.fromkeys(plain, "PLAIN")},
    }


def _write_parquet(
    stream: BinaryIO,
    schema: pa.Schema,
    groups: Iterator[pa.Table],
    record: Callable[[], Mapping[str, Any]],
    sections: Mapping[str, bytes],
) -> None:
    first, second = next(groups, schema.empty_table()), next(groups, None)
    if second is None and first.num_rows <= _ROWS_IN_MEMORY:
        buffer = pa.BufferOutputStream()
        _write_pages(buffer, schema, [first], record, sections)
        stream.write(buffer.getvalue())
    else:
        _write_pages(stream, schema, chain([first], [] if second is None else [second], groups), record, sections)


def _writer(sink: BinaryIO | pa.NativeFile, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
        # Without it nearly every bit that flips within a page of numbers is read as another number.
        write_page_checksum=True,
        **_encodings(schema),
    )


def _write_pages(
    sink: BinaryIO | pa.NativeFile,
    schema: pa.Schema,
    groups: Iterable[pa.Table],
    record: Callable[[], Mapping[str, Any]],
    sections: Mapping[str, bytes],
) -> None:
    with _writer(sink, schema) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=_ROWS_PER_GROUP)
        places = {}
        for name, content in sections.items():
            places[name] = (sink.tell(), len(content))
            sink.write(content)
        writer.add_key_value_metadata(
            {
                _RECORD: json.dumps(record(), sort_keys=True).encode(),
                _SECTIONS: json.dumps(places, sort_keys=True).encode(),
            }
        )
