"""The private store: one Parquet file per table and partition, replaced atomically, in a hive layout.

    private/<asset>/log_date=2025-03-01/part-0.parquet
    private/<asset>/scope=ds000001/by_day.parquet

A file carries what it was made from: a small JSON record in its footer, for questions that must be quick, and
sections, larger pieces such as the ledger, that lie between the rows and the footer and commit with them in the same
rename. Parquet finds everything by offsets from the footer, so any engine reads the file and none sees the sections
(Apache Parquet format, "File format").

Which tables exist and what they mean does not belong here. Files are 0600, folders 0700.
"""

import fcntl
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from s3logx_assets.adapters.epochs import finish_exchange
from s3logx_assets.core.errors import StoreBusyError, StoreError

PART = "part-0"
LOG_DATE = "log_date"
_RECORD = b"s3logx"
_SECTIONS = b"s3logx.sections"
_TEMPORARY = ".writing-"
_ROWS_PER_GROUP = 1 << 20
_ROWS_IN_MEMORY = 1 << 18
# Wide enough that the sorted keys of a row group stay in one dictionary.
_DICTIONARY_BYTES = 1 << 26

# The columns to read of a table, or what tells them from its record.
Columns = Sequence[str] | Callable[[Mapping[str, Any]], Sequence[str]]


def partition(day: date | str) -> str:
    """The folder name of a log date, given as a date or as YYYY-MM-DD."""
    return f"{LOG_DATE}={day}"


class TableStore:
    """The tables below one folder. Partitions are named `<dimension>=<value>`, as `log_date=2025-03-01`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"TableStore({str(self.root)!r})"

    def path(self, asset: str, partition: str, part: str = PART) -> Path:
        """Where a table lies, whether or not it is there."""
        return Path(self._place(asset, partition, part))

    def _place(self, asset: str, partition: str, part: str = PART) -> str:
        """The same as a text: updates of scopes ask for thousands."""
        return f"{self.root}/{asset}/{partition}/{part}.parquet"

    def partitions(self, asset: str, dimension: str) -> list[str]:
        """The values of `dimension` for which `asset` has a folder, ascending."""
        prefix = f"{dimension}="
        try:
            names = os.listdir(self.root / asset)
        except FileNotFoundError:
            return []
        return sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))

    def write(
        self,
        asset: str,
        partition: str,
        table: pa.Table,
        record: Mapping[str, Any],
        sections: Mapping[str, bytes] | None = None,
        part: str = PART,
        settled: bool = True,
    ) -> Path:
        """Replaces one table: whole or not at all, on disk when this returns. Where it is not `settled`, a loss of power
        before the next `settle` may bring the old table back or leave a damaged one: for what notices that and can be
        made again. Raises StoreError."""
        path = self.path(asset, partition, part)
        try:
            with replacing(path, settled) as stream:
                _write_parquet(stream, table, record, sections or {})
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror or type(error).__name__}") from None
        return path

    @staticmethod
    def settle() -> None:
        """Puts on disk whatever was written: one wait for many tables."""
        os.sync()

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
        with self._opened(asset, partition, part, encoded) as (_, file):
            return file.read(columns=columns, use_threads=False)

    def record(self, asset: str, partition: str, part: str = PART) -> dict[str, Any] | None:
        """The record a table was written with, or None where there is no table. Reads the footer alone."""
        if not self.path(asset, partition, part).is_file():
            return None
        with self._opened(asset, partition, part) as (_, file):
            record: dict[str, Any] = json.loads(file.metadata.metadata[_RECORD])
            return record

    def read_whole(
        self,
        asset: str,
        partition: str,
        part: str = PART,
        columns: Columns | None = None,
    ) -> tuple[pa.Table, dict[str, Any]] | None:
        """As `read`, and the record too, or None where there is no table. The record may tell which columns. Raises
        StoreError if it is damaged."""
        if not os.path.isfile(self._place(asset, partition, part)):
            return None
        with self._opened(asset, partition, part) as (_, file):
            record = json.loads(file.metadata.metadata[_RECORD])
            wanted = columns(record) if callable(columns) else columns
            return file.read(columns=wanted, use_threads=False), record

    def section(self, asset: str, partition: str, name: str, part: str = PART) -> bytes:
        """One section of a table. Raises StoreError if it is absent or damaged."""
        with self._opened(asset, partition, part) as (source, file):
            offset, length = json.loads(file.metadata.metadata[_SECTIONS])[name]
            source.seek(offset)
            content: bytes = source.read(length)
            return content

    def remove_part(self, asset: str, partition: str, part: str) -> None:
        """Removes one table, if it is there. Raises StoreError."""
        path = self.path(asset, partition, part)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be removed: {error.strerror}") from None

    def remove(self, asset: str, partition: str) -> None:
        """Removes all tables of a partition."""
        shutil.rmtree(self.root / asset / partition, ignore_errors=True)

    def is_same(self, asset: str, other: str, partition: str) -> bool:
        """Whether two assets hold the very same file of a partition, as `hold` makes it, or none. Opens no file."""
        one, two = (_identity(self._place(name, partition)) for name in (asset, other))
        return one == two

    def hold(self, asset: str, holder: str, partition: str) -> None:
        """Keeps a partition's file, as it is now, under another asset's name too: replacing the one leaves the other as
        it was. A hard link, so it costs no space while they are the same. Raises StoreError."""
        source, target = self.path(asset, partition), self.path(holder, partition)
        try:
            make_folder(target.parent)
            target.unlink(missing_ok=True)
            os.link(source, target)
        except OSError as error:
            raise StoreError(f"{source} cannot be linked to {target}: {error.strerror}") from None

    def move(self, asset: str, target: str, partition: str) -> None:
        """Puts a partition's file in the place of another asset's. Raises StoreError."""
        path = self.path(target, partition)
        try:
            make_folder(path.parent)
            os.rename(self.path(asset, partition), path)
        except OSError as error:
            raise StoreError(f"{path} cannot be replaced: {error.strerror}") from None

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps the store from being exchanged meanwhile; for all who read or write more than one table. Raises
        StoreBusyError while it is, StoreError where it cannot be locked."""
        with self._store_lock(fcntl.LOCK_SH, f"the key of {self.root} is being rotated; run again when that is done"):
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps everybody else out meanwhile. Raises StoreBusyError while the store is in use, StoreError where it cannot
        be locked."""
        with self._store_lock(fcntl.LOCK_EX, f"{self.root} is in use by a run; try again when it has ended"):
            yield

    @contextmanager
    def _store_lock(self, kind: int, why_not: str) -> Iterator[None]:
        path = self.root.with_name(f"{self.root.name}.lock")
        try:
            make_folder(path.parent)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{path} cannot be opened: {error.strerror}") from None
        try:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                finish_exchange(self.root)
            except BlockingIOError:
                raise StoreBusyError(why_not) from None
            except OSError as error:
                raise StoreError(f"{self.root} cannot be locked: {error.strerror}") from None
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def locked(self, asset: str) -> Iterator[None]:
        """Waits until no one else works on an asset, and keeps others from it meanwhile; ends with the process."""
        folder = self.root / asset
        make_folder(folder)
        with locked(folder):
            yield

    @contextmanager
    def _opened(
        self, asset: str, partition: str, part: str, encoded: Sequence[str] = ()
    ) -> Iterator[tuple[pa.NativeFile, pq.ParquetFile]]:
        path = self._place(asset, partition, part)
        try:
            with pa.OSFile(path) as source:
                yield source, pq.ParquetFile(source, read_dictionary=list(encoded))
        except FileNotFoundError:
            raise StoreError(f"{path} is not there; materialise {asset} for {partition} first") from None
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise StoreError(f"{path} cannot be read ({type(error).__name__}); materialise {asset} again") from None


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


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


def _write_parquet(stream: BinaryIO, table: pa.Table, record: Mapping[str, Any], sections: Mapping[str, bytes]) -> None:
    # Every page that goes to a Python stream costs more than the rows of a small table.
    if table.num_rows <= _ROWS_IN_MEMORY:
        buffer = pa.BufferOutputStream()
        _write_pages(buffer, table, record, sections)
        stream.write(buffer.getvalue())
    else:
        _write_pages(stream, table, record, sections)


def _write_pages(
    sink: BinaryIO | pa.NativeFile, table: pa.Table, record: Mapping[str, Any], sections: Mapping[str, bytes]
) -> None:
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
        **_encodings(table.schema),
    ) as writer:
        writer.write_table(table, row_group_size=_ROWS_PER_GROUP)
        places = {}
        for name, content in sections.items():
            places[name] = (sink.tell(), len(content))
            sink.write(content)
        writer.add_key_value_metadata(
            {
                _RECORD: json.dumps(record, sort_keys=True).encode(),
                _SECTIONS: json.dumps(places, sort_keys=True).encode(),
            }
        )


@contextmanager
def replacing(path: Path, settled: bool = True) -> Iterator[BinaryIO]:
    """A new file in place of `path`, when the block ends well: written beside it, synced, renamed, the folder synced;
    neither is synced where it need not be `settled`. After a crash the old file stands; what the crash left behind goes
    with the next writing. Raises OSError."""
    make_folder(path.parent)
    _sweep(path.parent)
    temporary, descriptor = _locked_file(path)
    try:
        with io.FileIO(descriptor, "wb", closefd=False) as raw, io.BufferedWriter(raw, 1 << 20) as stream:
            yield stream
        if settled:
            os.fsync(descriptor)
        os.rename(temporary, path)
        if settled:
            sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _locked_file(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, and its descriptor. Its lock tells a sweep that this writer lives."""
    while True:
        temporary = path.parent / f"{_TEMPORARY}{path.name}.{os.urandom(8).hex()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)  # a sweep came between making and locking


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for the lock of a folder, or of a file that is made for it, and holds it. A process that dies gives it back.
    Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Makes a folder and its parents, all 0700 and on disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Puts a folder's entries on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Removes what dead writers left in a folder; a living one holds a lock."""
    for name in os.listdir(folder):
        if name.startswith(_TEMPORARY):
            path = folder / name
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            except OSError:
                continue
            finally:
                os.close(descriptor)
