"""Files in a bucket: a store's, where one PUT of an object is what a rename is in a folder. What they hold does not belong
here.

An upload that was cut off leaves nothing that a reader sees; parts of a large one are the bucket's lifecycle rule's to
remove (AbortIncompleteMultipartUpload).
"""

import io
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, cast

import pyarrow as pa

from s3logx_assets.adapters.files import TABLE, Confirm
from s3logx_assets.adapters.s3 import Bucket, ObjectChanged
from s3logx_assets.core.errors import StoreBusyError, StoreError, StoreUnavailable, TransientError

_AT_ONCE = 16
# What comes with the first request: all of a small table, of a large one the footer.
_TAIL = 1 << 16
_IN_MEMORY = 1 << 25
_LOCK = ".lock"
# A lock is renewed so often, and taken over from who has not renewed it for so long: all in seconds.
RENEWED, PATIENCE, _LOOKED_AT = 10.0, 45.0, 1.0


class S3Files:
    """`Files` (adapters/files.py) below a prefix in a bucket, which ends in `/`."""

    readers = _AT_ONCE

    def __init__(self, bucket: Bucket, folder: str = "") -> None:
        self._bucket = bucket
        self._prefix = bucket.location.prefix + folder

    def __str__(self) -> str:
        return self.uri("").rstrip("/")

    def uri(self, name: str) -> str:
        """See Files."""
        return f"s3://{self._bucket.location.bucket}/{self._prefix}{name}"

    @contextmanager
    def opened(self, name: str) -> Iterator[pa.NativeFile]:
        """See Files. A table of less than 64 kB takes one request."""
        key = self._prefix + name
        tail, size, tag = self._bucket.end(key, _TAIL)
        with pa.PythonFile(_Remote(self._bucket, key, size, tag, tail), mode="r") as source:
            try:
                yield source
            except (ObjectChanged, FileNotFoundError):
                raise StoreUnavailable(f"{self.uri(name)} was replaced while it was read") from None

    def read(self, name: str) -> bytes:
        """See Files."""
        return self._bucket.get(self._prefix + name)[0]

    def chunks(self, name: str) -> Iterator[bytes]:
        """See Files."""
        return self._bucket.chunks_of(self._prefix + name)

    def is_empty(self) -> bool:
        """See Files."""
        return not any(item.key.endswith(TABLE) for item in self._bucket.scan(self._prefix, ""))

    def folders(self, name: str, with_empty: bool = False) -> list[str]:
        """See Files. Not every server forgets a folder with its last object."""
        base = f"{self._prefix}{name}/" if name else self._prefix
        if with_empty:
            found = (folder for _, folders in self._bucket.levels(base) for folder in folders)
            return sorted(folder.removeprefix(base).rstrip("/") for folder in found)
        below = (item.key.removeprefix(base).split("/") for item in self._bucket.scan(base, ""))
        return sorted({first for first, *rest in below if rest})

    def tags(self, folder: str, name: str) -> dict[str, str]:
        """See Files. A thousand with each request."""
        base, found = f"{self._prefix}{folder}/", {}
        for item in self._bucket.scan(base, ""):
            below, _, last = item.key.removeprefix(base).partition("/")
            if last == name:
                found[below] = item.version
        return found

    @contextmanager
    def replacing(self, name: str, settled: bool = True) -> Iterator[BinaryIO]:
        """See Files. A large file waits on the local disk until it is whole."""
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as stream:
            yield cast(BinaryIO, stream)
            if stream.tell() < _IN_MEMORY:
                stream.seek(0)
                self._bucket.put(self._prefix + name, stream.read())
            else:
                self._bucket.put(self._prefix + name, stream)

    def settle(self) -> None:
        """See Files. What was put stays."""

    def create(self, name: str, content: bytes) -> bool:
        """See Files."""
        try:
            return self._bucket.put_if(self._prefix + name, content, None) is not None
        except TransientError:
            # It may have been made all the same.
            try:
                return self.read(name) == content
            except FileNotFoundError:
                return self._bucket.put_if(self._prefix + name, content, None) is not None

    def hold(self, name: str, target: str, tag: str) -> None:
        """See Files. Raises StoreBusyError where the file has another tag by now."""
        try:
            self._bucket.copy(self._prefix + name, self._prefix + target, tag)
        except (ObjectChanged, FileNotFoundError):
            raise StoreBusyError(f"{self.uri(name)} was replaced meanwhile; run again") from None

    def move(self, name: str, target: str) -> None:
        """See Files. For a moment both are there."""
        self._bucket.copy(self._prefix + name, self._prefix + target)
        self._bucket.remove([self._prefix + name])

    def remove(self, name: str) -> None:
        """See Files."""
        self._bucket.remove([self._prefix + name])

    def remove_folder(self, name: str) -> None:
        """See Files."""
        self._bucket.remove([item.key for item in self._bucket.scan(f"{self._prefix}{name}/", "")])

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """See Files. Nobody exchanges all files of a bucket."""
        yield

    def alone(self) -> AbstractContextManager[None]:
        """See Files. That cannot be had in a bucket."""
        raise StoreError(f"{self} is in a bucket, where nobody can be kept out; this takes a copy in a local folder")

    @contextmanager
    def locked(self, folder: str) -> Iterator[Confirm]:
        """See Files. An object that its holder renews; of a holder that died it is taken over after a while. Clocks are
        not compared: who waits sees whether it is renewed."""
        lease = _Lease(self._bucket, f"{self._prefix}{folder}/{_LOCK}", f"{self.uri(folder)}/{_LOCK}")
        lease.take()
        try:
            yield lease.confirm
        finally:
            lease.give_back()


class _Remote(io.RawIOBase):
    """An object that is read in ranges; its end is here already."""

    def __init__(self, bucket: Bucket, key: str, size: int, tag: str, tail: bytes) -> None:
        self._bucket, self._key, self._tag = bucket, key, tag
        self._size, self._tail = size, tail
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        start, tail_at = self._at, self._size - len(self._tail)
        end = self._size if size is None or size < 0 else min(start + size, self._size)
        if start >= end:
            return b""
        self._at = end
        if start >= tail_at:
            return self._tail[start - tail_at : end - tail_at]
        head = self._bucket.range(self._key, start, min(end, tail_at), self._tag)
        return head + self._tail[: end - tail_at] if end > tail_at else head


def _now() -> float:
    """Seconds on a clock that only goes forward, and on Linux while the machine is suspended, too: others' clocks do not
    wait for it, and a lock that was lost meanwhile must not pass as held."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


@dataclass
class _Lease:
    """A lock that is an object, and the thread that renews it. Each renewal gives it another tag."""

    bucket: Bucket
    key: str
    place: str
    _tag: str | None = None
    _renewed: float = 0.0
    _done: threading.Event = field(default_factory=threading.Event)
    _renewing: threading.Thread | None = None

    def take(self) -> None:
        """Waits for the lock. Raises StoreError, StoreUnavailable."""
        seen, since = None, _now()
        while self._tag is None:
            began = _now()
            tag = self._present()
            if tag != seen:
                seen, since = tag, began
            if tag is None or _now() - since > PATIENCE:
                self._tag, self._renewed = self._put(tag), began
            if self._tag is None:
                self._done.wait(_LOOKED_AT)
        self._renewing = threading.Thread(target=self._renew, daemon=True)
        self._renewing.start()

    def confirm(self) -> None:
        """Raises StoreBusyError where the lock may be somebody else's."""
        if self._tag is None or _now() - self._renewed > PATIENCE:
            raise StoreBusyError(f"{self.place} could not be renewed in time and may have been taken over; run again")

    def give_back(self) -> None:
        """Ends the lock, if it is held still."""
        self._done.set()
        if self._renewing is not None:
            self._renewing.join()
        try:
            self.confirm()
            self.bucket.remove([self.key])
        except (StoreBusyError, StoreError, StoreUnavailable):
            return  # whoever comes next takes it over

    def _renew(self) -> None:
        while not self._done.wait(RENEWED):
            began = _now()
            try:
                self._tag = self._put(self._tag)
            except (StoreError, StoreUnavailable):
                continue  # until `confirm` finds it too old
            if self._tag is None:
                return
            self._renewed = began

    def _put(self, tag: str | None) -> str | None:
        """Writes the lock where it is as it was seen, and returns its new tag. What was cut off may have been written."""
        token = secrets.token_bytes(16)
        try:
            return self.bucket.put_if(self.key, token, tag)
        except StoreUnavailable:
            content, found = self._content()
            if content == token:
                return found
            raise

    def _present(self) -> str | None:
        return self._content()[1]

    def _content(self) -> tuple[bytes, str | None]:
        try:
            return self.bucket.get(self.key)
        except FileNotFoundError:
            return b"", None
