"""The content of a log object, in chunks: read to its end, unpacked where it is gzip, and the one that was listed.

What is in it does not belong here, nor where it lies (adapters/log_store.py).
"""

import zlib
from collections.abc import Callable, Iterator

from s3logx_assets.adapters.log_store import LogReader
from s3logx_assets.core.errors import LogFileError
from s3logx_assets.core.ledger import LogObject

CHUNK = 1 << 20
_HEAD = 4096
_GZIP = b"\x1f\x8b"


def contents(
    item: LogObject, opened: Callable[[], LogReader], on_head: Callable[[bytes], None] = lambda head: None
) -> Iterator[bytes]:
    """The content of a log object in chunks, unpacked if it is gzip, which its first bytes tell. `on_head` gets the
    first bytes as stored. Raises LogFileError if the object cannot be read whole or is not what was listed, and what
    `opened` raises."""
    reader = opened()
    try:
        received = 0
        unpack = None
        while received <= item.size:
            # One byte more than is left: a file that fits is read, and seen to end, in a single call.
            chunk = reader.read(min(CHUNK, item.size - received + 1))
            if not received:
                on_head(chunk[:_HEAD])
                if chunk[:2] == _GZIP:
                    unpack = _Gunzip(item.name)
            received += len(chunk)
            if not chunk or received > item.size:
                break
            if unpack is None:
                yield chunk
            else:
                yield from unpack.feed(chunk)
            if received == item.size and len(chunk) < CHUNK:
                break
        if unpack is not None:
            unpack.end()
        if received != item.size:
            raise LogFileError(f"log file {item.name!r} changed while it was read")
    finally:
        reader.close()


class _Gunzip:
    """A gzip file of one or more members (RFC 1952), in bounded memory."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inflate = zlib.decompressobj(wbits=31)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            if self._inflate.eof:
                self._inflate = zlib.decompressobj(wbits=31)
            try:
                content = self._inflate.decompress(chunk, CHUNK)
            except zlib.error:
                raise LogFileError(f"log file {self._name!r} is a damaged gzip file") from None
            if content:
                yield content
            chunk = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail

    def end(self) -> None:
        if not self._inflate.eof:
            raise LogFileError(f"log file {self._name!r} is a gzip file cut short")
