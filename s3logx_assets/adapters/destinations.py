"""Where the latest release is served from: a place outside the store that holds its files at names that stay.

A place has a manifest of its own, `release.json`: the release, and what was put there with its checksum. Only what differs is
written, only what an earlier release put there is removed, whatever others keep beside it stays. Before anything is
changed, the manifest forgets what will change; so what is killed half-way is put right by the next time. Where somebody
else's file has the name of one of ours, nothing is done. `index.html` comes last of all files. What a release holds, and
whether it may leave, does not belong here.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from s3logx_assets.adapters.local_files import replacing
from s3logx_assets.core.concurrency import mapped
from s3logx_assets.core.errors import StoreError

T = TypeVar("T")

MANIFEST = "release.json"
_FIRST_PAGE = "index.html"
_AT_ONCE = 16
_SHOWN = 3


class Place(Protocol):
    """A destination. Methods raise StoreError, StoreUnavailable. Names are paths within the release."""

    def manifest(self) -> bytes | None:
        """The manifest, None where there is none."""

    def trial(self) -> str:
        """Whether it can be used, as far as that can be told without a change, in words."""

    def found(self, files: Mapping[str, bytes]) -> dict[str, bool]:
        """Which of these names are taken, and whether by this content as far as it costs little to know."""

    def put(self, name: str, content: bytes) -> None:
        """Writes a file, whole or not at all."""

    def remove(self, name: str) -> None:
        """Removes a file; one that is not there is no error."""

    def finish(self, release_id: str, names: Iterable[str]) -> None:
        """Makes what was done last. `names`: all files that were put or removed here, now or before."""


@dataclass(frozen=True)
class Sent:
    """What a release took to get to its place."""

    written: int
    unchanged: int
    removed: int
    bytes_written: int


def send(place: Place, release_id: str, files: Mapping[str, bytes]) -> Sent:
    """Makes the place hold these files of a release, an `index.html` among them. Raises StoreError where others have
    files of the same names."""
    first_page = files[_FIRST_PAGE]  # what has none is no release, and must not take the place of one
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    before = listed(place.manifest(), place)
    there = place.found(files)
    others = sorted(there.keys() - before.keys())
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        raise StoreError(
            f"S3LOGX_PUBLISH_TO: {place} has files of others where those of the release belong: "
            f"{', '.join(others[:_SHOWN])}{more}; move them away, or give the release a folder of its own"
        )
    same = {name for name, equal in there.items() if equal and before[name] == sums[name]}
    changed = sorted(files.keys() - same - {_FIRST_PAGE})
    gone = sorted(before.keys() - files.keys())
    if changed or gone or _FIRST_PAGE not in same:
        unsure = dict.fromkeys(changed + gone + [_FIRST_PAGE], "")
        place.put(MANIFEST, _manifest("", {**{name: sums[name] for name in same}, **unsure}))
        for _ in mapped(lambda name: place.put(name, files[name]), changed, _AT_ONCE):
            pass
        place.put(_FIRST_PAGE, first_page)
        for name in gone:
            place.remove(name)
        changed.append(_FIRST_PAGE)
    whole = _manifest(release_id, sums)
    if place.manifest() != whole:
        place.put(MANIFEST, whole)
    place.finish(release_id, sorted({*files, *before, MANIFEST}))
    return Sent(len(changed), len(files) - len(changed), len(gone), sum(len(files[name]) for name in changed))


def _manifest(release_id: str, sums: Mapping[str, str]) -> bytes:
    return json.dumps({"release": release_id, "files": dict(sorted(sums.items()))}, indent=1).encode()


def listed(content: bytes | None, place: Place) -> dict[str, str]:
    """The checksums in a manifest, by name. A name that could lead elsewhere is not ours. Raises StoreError."""
    if content is None:
        return {}
    try:
        files = json.loads(content)["files"]
        return {name: str(value) for name, value in files.items() if _is_inside(name)}
    except (ValueError, AttributeError, TypeError, KeyError):
        raise StoreError(
            f"S3LOGX_PUBLISH_TO: {place} has a {MANIFEST} that no release left there; move it away, or give the release "
            "a folder of its own"
        ) from None


def _is_inside(name: str) -> bool:
    return bool(name) and "\0" not in name and not any(part in ("", ".", "..") for part in name.split("/"))


def in_words(manifest: bytes | None) -> str:
    """What a place holds, by its manifest."""
    return "a release is there" if manifest else "no release is there yet"


class FolderPlace:
    """A folder that a web server serves. Its links are not followed out of it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def manifest(self) -> bytes | None:
        """See Place."""
        return self._told(lambda: self._read(MANIFEST))

    def trial(self) -> str:
        """See Place."""
        nearest = self.root
        while not nearest.exists():
            nearest = nearest.parent
        if not nearest.is_dir():
            raise StoreError(f"S3LOGX_PUBLISH_TO: {nearest} is not a folder")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise StoreError(f"S3LOGX_PUBLISH_TO: {nearest} cannot be written to")
        return in_words(self.manifest()) if self.root.exists() else f"will be made below {nearest}"

    def found(self, files: Mapping[str, bytes]) -> dict[str, bool]:
        """See Place. Reads the files."""
        contents = ((name, self._told(partial(self._read, name))) for name in files)
        return {name: content == files[name] for name, content in contents if content is not None}

    def put(self, name: str, content: bytes) -> None:
        """See Place."""
        self._told(lambda: self._write(name, content))

    def remove(self, name: str) -> None:
        """See Place. Folders that are empty then go too."""
        self._told(lambda: self._remove(name))

    def finish(self, release_id: str, names: Iterable[str]) -> None:
        """See Place: every file was whole, and on disk, when it was put."""

    def _read(self, name: str) -> bytes | None:
        """A file; nothing of a link, which is somebody's but not followed."""
        path = self._path(name)
        try:
            return b"" if path.is_symlink() else path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _write(self, name: str, content: bytes) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, mode=0o666) as stream:
            stream.write(content)

    def _remove(self, name: str) -> None:
        path = self._path(name)
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.root or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()

    def _path(self, name: str) -> Path:
        path = self.root / name
        if not path.parent.resolve().is_relative_to(self.root.resolve()):
            raise StoreError(f"S3LOGX_PUBLISH_TO: {self.root} has a link in the way of {name} that leads out of it")
        return path

    def _told(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            raise StoreError(
                f"S3LOGX_PUBLISH_TO: {self.root} cannot be written: {error.strerror or type(error).__name__}"
            ) from None
