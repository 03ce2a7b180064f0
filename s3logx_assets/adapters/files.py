"""Files by name, wherever they are: what a store needs of a local folder or of a bucket. What they hold does not belong
here, nor how it is done.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

import pyarrow as pa

Confirm = Callable[[], None]
# What the names of tables end with.
TABLE = ".parquet"


class Files(Protocol):
    """Files below one place. A name has `/` between its parts. A file is there whole, as one writer wrote it, or not at
    all. What a method raises: OSError in a local folder, StoreError and StoreUnavailable elsewhere; FileNotFoundError for
    a file that is not there to be read."""

    @property
    def readers(self) -> int:
        """How many files are best read at once: those on a disk one after the other, those far away together."""

    def uri(self, name: str) -> str:
        """Where a file lies, for people."""

    def opened(self, name: str) -> AbstractContextManager[pa.NativeFile]:
        """A file to be read at any place, one and the same to the end."""

    def read(self, name: str) -> bytes:
        """A small file, whole."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file of any size, piece by piece."""

    def folders(self, name: str, with_empty: bool = False) -> list[str]:
        """The names of the folders directly below `name` (empty for the place itself), ascending. Where those `with_empty`
        content will do, a bucket is asked less."""

    def is_empty(self) -> bool:
        """Whether there is no table. Neither an empty folder is one, nor a lock, nor a note of what was counted."""

    def tags(self, folder: str, name: str) -> dict[str, str]:
        """For each folder directly below `folder` that has a file `name`: what tells the file's present state from any
        other one, and never changes while it stays as it is. Opens no file."""

    def replacing(self, name: str, settled: bool = True) -> AbstractContextManager[BinaryIO]:
        """A new file in place of the one of that name, when the block ends well. Where it need not be `settled`, a loss of
        power before the next `settle` may bring the old one back or damage it."""

    def settle(self) -> None:
        """Makes sure that whatever was written stays."""

    def create(self, name: str, content: bytes) -> bool:
        """Makes a file; False if there is one already."""

    def hold(self, name: str, target: str, tag: str) -> None:
        """Keeps a file under another name too, so that replacing the one leaves the other as it was. `tag`: its state, as
        it was seen; where it is another one by now, this may be refused."""

    def move(self, name: str, target: str) -> None:
        """Puts a file in the place of another one."""

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""

    def remove_folder(self, name: str) -> None:
        """Removes all files in a folder, as far as that is possible."""

    def in_use(self) -> AbstractContextManager[None]:
        """Keeps all files from being exchanged meanwhile; for all who read or write more than one. Raises StoreBusyError
        while they are, StoreError where that cannot be told."""

    def alone(self) -> AbstractContextManager[None]:
        """Keeps everybody else out meanwhile. Raises StoreBusyError while somebody is in, StoreError where that cannot be
        told."""

    def locked(self, folder: str) -> AbstractContextManager[Confirm]:
        """Waits until no one else works on a folder, and keeps others from it meanwhile; ends with the process. What it
        gives raises StoreBusyError where somebody else has taken the folder over, since this process was out of reach."""
