"""The rows of one date as they come in, in bounded memory: what is too much is sorted, part by part, and waits on disk.

The file has no name, so that nobody else can open it and it goes with the process; addresses in it are sealed. What
decides the order of rows is `core.extraction`; which rows are dropped does not belong here.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3logx_assets.adapters.local_files import make_folder
from s3logx_assets.core import extraction
from s3logx_assets.core.addresses import AddressBlock
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.extraction import DateRows

# Rows of a date: in memory at most; in a piece on disk; and of all pieces in memory while they are merged. A row takes
# some 60 bytes, and several times that while it is sorted.
_KEPT = 3 << 18
_PIECE = 1 << 14
_MERGED = 1 << 18
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


class RowCollector:
    """The rows of a date. `seal` and `is_excluded` are the extractor's; `scratch` is the folder of the nameless file."""

    def __init__(
        self,
        seal: Callable[[AddressBlock], AddressBlock],
        is_excluded: Callable[[str], bool] | None,
        scratch: Path,
    ) -> None:
        self._seal = seal
        self._is_excluded = is_excluded
        self._scratch = scratch
        self._chunks: list[pa.Table] = []
        self._files: list[NDArray[np.int32]] = []
        self._waiting = 0
        self._whole: DateRows | None = None
        self._runs: list[list[_Piece]] = []
        self._disk: BinaryIO | None = None
        # How many rows of each file, by its number, were left out for their address.
        self.excluded: Counter[int] = Counter()

    def take(self, chunk: pa.Table, files: NDArray[np.int32]) -> None:
        """Rows as the program gave them (extraction.ROWS), and the file number of each. Raises StoreError where the disk
        does not take what memory need not."""
        self._chunks.append(chunk)
        self._files.append(files)
        self._waiting += len(files)
        if self._waiting >= _KEPT:
            self._put_down()

    def parts(self) -> Iterator[DateRows]:
        """All rows in order, part by part, at least one part. To be called when all rows are taken in, as often as they are
        needed. Raises StoreError."""
        if self._runs:
            if self._waiting:
                self._put_down()
            with self._disk_errors():
                yield from self._merged()
            return
        if self._whole is None:
            self._whole = extraction.in_order(self._gathered())
        yield self._whole

    def close(self) -> None:
        """Lets go of everything."""
        self._chunks, self._files, self._whole, self._runs = [], [], None, []
        if self._disk is not None:
            with suppress(OSError):  # what a full disk did not take is tried once more, and no longer wanted
                self._disk.close()

    def _gathered(self) -> DateRows:
        rows, left_out = extraction.gather(self._chunks, self._files, self._is_excluded, self._seal)
        self._chunks, self._files, self._waiting = [], [], 0
        self.excluded.update(left_out.tolist())
        return rows

    def _put_down(self) -> None:
        rows = extraction.in_order(self._gathered())
        with self._disk_errors():
            if self._disk is None:
                make_folder(self._scratch)
                self._disk = cast(BinaryIO, tempfile.TemporaryFile(dir=self._scratch))  # noqa: SIM115 see close
            self._disk.seek(0, 2)
            pieces = (rows.chosen(slice(start, start + _PIECE)) for start in range(0, len(rows), _PIECE))
            self._runs.append([_put(self._disk, piece) for piece in pieces])
        pa.default_memory_pool().release_unused()  # what was sorted took several times its size

    def _merged(self) -> Iterator[DateRows]:
        assert self._disk is not None
        ahead = max(1, _MERGED // _PIECE // len(self._runs))
        runs = [run for pieces in self._runs if (run := _Run(self._disk, pieces, ahead)).rows is not None]
        while runs:
            # Up to the first row that may be followed by one which is still on disk.
            unread = [run.last for run in runs if run.has_more]
            until = min(unread) if unread else None
            yield extraction.in_order(extraction.joined([run.take(until) for run in runs]))
            runs = [run for run in runs if run.rows is not None]

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StoreError(f"{self._scratch} cannot hold the rows of a large date: {reason}") from None


@dataclass(frozen=True, slots=True)
class _Piece:
    """Where rows lie on disk, in bytes."""

    start: int
    length: int


def _put(disk: BinaryIO, rows: DateRows) -> _Piece:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, extraction.BATCH, options=_COMPRESSED) as writer:
        writer.write_batch(extraction.to_batch(rows))
    content = sink.getvalue()
    start = disk.tell()
    disk.write(content)
    return _Piece(start, content.size)


class _Run:
    """Rows in order on disk, read `ahead` pieces at a time. `rows`: those in memory, None at the end."""

    def __init__(self, disk: BinaryIO, pieces: list[_Piece], ahead: int) -> None:
        self._disk = disk
        self._pieces = iter(pieces)
        self._left = len(pieces)
        self._ahead = ahead
        self.rows: DateRows | None = None
        self._read()

    @property
    def has_more(self) -> bool:
        """Whether there are rows that are not in memory yet."""
        return self._left > 0

    @property
    def last(self) -> extraction.Place:
        """Where the last row in memory stands."""
        assert self.rows is not None
        return self.rows.place(len(self.rows) - 1)

    def take(self, until: extraction.Place | None) -> DateRows:
        """The next rows, up to that place; all that are in memory if there is none."""
        rows = self.rows
        assert rows is not None
        count = len(rows) if until is None else extraction.up_to(rows, until)
        if count == len(rows):
            self._read()
        else:
            self.rows = rows.chosen(slice(count, None))
        return rows.chosen(slice(count))

    def _read(self) -> None:
        pieces = [piece for _, piece in zip(range(self._ahead), self._pieces, strict=False)]
        self._left -= len(pieces)
        self.rows = extraction.joined([_got(self._disk, piece) for piece in pieces]) if pieces else None


def _got(disk: BinaryIO, piece: _Piece) -> DateRows:
    disk.seek(piece.start)
    with pa.ipc.open_stream(disk.read(piece.length)) as reader:
        return extraction.from_batch(reader.read_next_batch())
