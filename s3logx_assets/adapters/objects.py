"""Objects by name, below a folder or a prefix in a bucket: listed, and read. What they hold does not belong here.

Names are the paths below that place, with `/` between the parts.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from s3logx_assets.core.errors import SourceError

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a place says of an object. `version` is its ETag, or the time of modification in ns, as text."""

    name: str
    size: int
    version: str
    modified: datetime


class Objects(Protocol):
    """Objects that can be listed and read. All methods raise SourceError where the place cannot be reached; reading
    raises FileNotFoundError for an object that is not there."""

    def folders(self, prefix: str = "") -> list[str]:
        """The names of the folders directly below `prefix` (empty, or ending in `/`), ascending, without slashes."""

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """The objects at any depth below `prefix` (empty, or ending in `/`), in byte order of name."""

    def read(self, name: str) -> bytes:
        """A small object, whole."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """An object of any size, piece by piece."""


class LocalObjects:
    """A folder. Symbolic links are not followed: they could lead out of it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"LocalObjects({str(self.root)!r})"

    def folders(self, prefix: str = "") -> list[str]:
        return sorted(entry.name for entry in self._entries(prefix) if entry.is_dir(follow_symlinks=False))

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        # A folder sorts as if its slash were part of the name, as keys do.
        for entry in sorted(self._entries(prefix), key=_sort_key):
            if entry.is_dir(follow_symlinks=False):
                yield from self.objects(f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                yield StoredObject(prefix + entry.name, status.st_size, str(status.st_mtime_ns), modified)

    def read(self, name: str) -> bytes:
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        try:
            with open(os.open(self.root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", 0) as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except FileNotFoundError:
            raise
        except OSError as error:
            raise SourceError(f"{self.root / name} cannot be read: {error.strerror}") from None

    def _entries(self, prefix: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / prefix) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise SourceError(f"{self.root / prefix} cannot be listed: {error.strerror}") from None


def _sort_key(entry: os.DirEntry[str]) -> bytes:
    return os.fsencode(entry.name + "/" * entry.is_dir(follow_symlinks=False))
