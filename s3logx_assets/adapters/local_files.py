"""Files below a local folder, replaced whole or not at all: the store's, and what else must never be seen half-written.

A file is written beside its place under a name that a reader ignores, synced, and renamed. What a crash leaves behind
goes with the next writing. What the files hold does not belong here. Files are 0600, folders 0700.
"""

import errno
import fcntl
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from s3logx_assets.adapters.epochs import finish_exchange
from s3logx_assets.adapters.files import TABLE, Confirm
from s3logx_assets.adapters.renames import took_free_name
from s3logx_assets.core.errors import StoreBusyError, StoreError

_TEMPORARY = ".writing-"
_CHUNK = 1 << 20
# What a link fails with where the file system has none, the file has too many, or belongs to somebody else, or the target
# lies on another file system.
_NO_LINK = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


class LocalFiles:
    """`Files` (adapters/files.py) below a folder."""

    readers = 1

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = str(root)

    def __str__(self) -> str:
        return self._root

    def uri(self, name: str) -> str:
        """See Files."""
        return f"{self._root}/{name}"

    def path(self, name: str) -> Path:
        """Where a file lies, whether or not it is there."""
        return Path(f"{self._root}/{name}")

    @contextmanager
    def opened(self, name: str) -> Iterator[pa.NativeFile]:
        """See Files."""
        with pa.OSFile(f"{self._root}/{name}") as source:
            yield source

    def read(self, name: str) -> bytes:
        """See Files."""
        return self.path(name).read_bytes()

    def chunks(self, name: str) -> Iterator[bytes]:
        """See Files."""
        with open(self.path(name), "rb", 0) as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def is_empty(self) -> bool:
        """See Files."""
        return not any(self.root.rglob(f"*{TABLE}"))

    def folders(self, name: str, with_empty: bool = False) -> list[str]:
        """See Files."""
        try:
            with os.scandir(self.path(name)) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def tags(self, folder: str, name: str) -> dict[str, str]:
        """See Files. An inode stays the file's own as long as it has a name somewhere."""
        found = {}
        for below in self.folders(folder):
            try:
                status = os.stat(f"{self._root}/{folder}/{below}/{name}")
            except FileNotFoundError:
                continue
            found[below] = f"{status.st_ino:x}.{status.st_mtime_ns:x}"
        return found

    @contextmanager
    def replacing(self, name: str, settled: bool = True) -> Iterator[BinaryIO]:
        """See Files."""
        with replacing(self.path(name), settled) as stream:
            yield stream

    def create(self, name: str, content: bytes) -> bool:
        """See Files."""
        return create(self.path(name), content)

    def hold(self, name: str, target: str, tag: str) -> None:
        """See Files. A hard link, so it costs no space while they are the same, or a copy where there can be none; which
        state it is of does not matter."""
        path = self.path(target)
        make_folder(path.parent)
        path.unlink(missing_ok=True)
        try:
            os.link(self.path(name), path)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            # As little on disk before the next `settle` as a link would be.
            with open(self.path(name), "rb", 0) as source, replacing(path, settled=False) as stream:
                shutil.copyfileobj(source, stream, _CHUNK)

    def move(self, name: str, target: str) -> None:
        """See Files."""
        path = self.path(target)
        make_folder(path.parent)
        os.rename(self.path(name), path)

    def remove(self, name: str) -> None:
        """See Files."""
        self.path(name).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        """See Files."""
        shutil.rmtree(self.path(name), ignore_errors=True)

    @staticmethod
    def settle() -> None:
        """See Files. One wait for many files."""
        os.sync()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """See Files."""
        with self._store_lock(fcntl.LOCK_SH, f"the key of {self.root} is being rotated; run again when that is done"):
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """See Files."""
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
    def locked(self, folder: str) -> Iterator[Confirm]:
        """See Files."""
        path = self.path(folder)
        make_folder(path)
        with locked(path):
            yield lambda: None  # the system gives no lock to two


@contextmanager
def replacing(path: Path, settled: bool = True, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A new file in place of `path`, when the block ends well: written beside it, synced, renamed, the folder synced;
    neither is synced where it need not be `settled`. After a crash the old file stands; what the crash left behind goes
    with the next writing. `mode` is under the user's umask. Raises OSError."""
    make_folder(path.parent)
    _sweep(path.parent)
    temporary, descriptor = _locked_file(path, mode)
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


def _locked_file(path: Path, mode: int) -> tuple[Path, int]:
    """A new file beside `path`, and its descriptor. Its lock tells a sweep that this writer lives."""
    while True:
        temporary = path.parent / f"{_TEMPORARY}{path.name}.{os.urandom(8).hex()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
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


def create(path: Path, content: bytes) -> bool:
    """Makes a file whole or not at all, on disk; False if there is one already. After a crash nothing is left of one that was
    made, and what is left of one that was not goes with the next writing. Raises OSError."""
    make_folder(path.parent)
    _sweep(path.parent)
    temporary, descriptor = _locked_file(path, 0o600)
    try:
        with io.FileIO(descriptor, "wb", closefd=False) as raw, io.BufferedWriter(raw) as stream:
            stream.write(content)  # a disk that gets full may take a part of it first, without a word
        os.fsync(descriptor)
        if not took_free_name(temporary, path):
            os.link(temporary, path)  # fails where a name is taken, unlike a rename
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)
    sync_folder(path.parent)
    return True


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
