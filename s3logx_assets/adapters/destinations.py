"""Where the latest release is served from: a place outside the store that holds its files at names that stay.

A place has a manifest of its own, `release.json`: the release, and what was put there with its checksum. Only what differs is
written, only what an earlier release put there is removed, whatever others keep beside it stays. Before anything is
changed, the manifest forgets what will change; so what is killed half-way is put right by the next time. `index.html`
comes last of all files. What a release holds, and whether it may leave, does not belong here.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from s3logx_assets.adapters.local_files import sync_folder
from s3logx_assets.core.concurrency import mapped
from s3logx_assets.core.errors import StoreError

T = TypeVar("T")

MANIFEST = "release.json"
_FIRST_PAGE = "index.html"
_AT_ONCE = 16


class Place(Protocol):
    """A destination. Methods raise StoreError, StoreUnavailable. Names are paths within the release."""

    def manifest(self) -> bytes | None:
        """The manifest, None where there is none."""

    def holds(self, name: str, size: int, sha256: str) -> bool:
        """Whether a file of this name has this size and, as far as it costs little to know, this content."""

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
    """Makes the place hold these files of a release."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    before = _listed(place.manifest())
    same = {
        name for name in files if before.get(name) == sums[name] and place.holds(name, len(files[name]), sums[name])
    }
    changed = sorted(files.keys() - same - {_FIRST_PAGE})
    gone = sorted(before.keys() - files.keys())
    if changed or gone or _FIRST_PAGE not in same:
        unsure = dict.fromkeys(changed + gone + [_FIRST_PAGE], "")
        place.put(MANIFEST, _manifest("", {**{name: sums[name] for name in same}, **unsure}))
        for _ in mapped(lambda name: place.put(name, files[name]), changed, _AT_ONCE):
            pass
        if _FIRST_PAGE in files:
            place.put(_FIRST_PAGE, files[_FIRST_PAGE])
        for name in gone:
            place.remove(name)
        changed.append(_FIRST_PAGE)
    whole = _manifest(release_id, sums)
    if place.manifest() != whole:
        place.put(MANIFEST, whole)
    place.finish(release_id, sorted({*files, *before, MANIFEST}))
    return Sent(len(changed), len(files) - len(changed), len(gone), sum(len(files.get(name, b"")) for name in changed))


def _manifest(release_id: str, sums: Mapping[str, str]) -> bytes:
    return json.dumps({"release": release_id, "files": dict(sorted(sums.items()))}, indent=1).encode()


def _listed(content: bytes | None) -> dict[str, str]:
    """The checksums in a manifest; of one that is none, nothing. A name that could lead elsewhere is not ours."""
    try:
        files = json.loads(content or b"{}").get("files", {})
        return {name: str(value) for name, value in files.items() if _is_inside(name)}
    except (ValueError, AttributeError):
        return {}


def _is_inside(name: str) -> bool:
    return bool(name) and "\0" not in name and not any(part in ("", ".", "..") for part in name.split("/"))


class FolderPlace:
    """A folder that a web server serves. Its links are not followed out of it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def manifest(self) -> bytes | None:
        """See Place."""
        return self._told(lambda: self._read(MANIFEST))

    def holds(self, name: str, size: int, sha256: str) -> bool:
        """See Place. Reads the file."""
        content = self._told(lambda: self._read(name))
        return content is not None and hashlib.sha256(content).hexdigest() == sha256

    def put(self, name: str, content: bytes) -> None:
        """See Place."""
        self._told(lambda: self._write(name, content))

    def remove(self, name: str) -> None:
        """See Place. Folders that are empty then go too."""
        self._told(lambda: self._remove(name))

    def finish(self, release_id: str, names: Iterable[str]) -> None:
        """See Place."""
        folders = {self._path(name).parent for name in names}
        for folder in filter(Path.is_dir, folders):
            self._told(partial(sync_folder, folder))

    def _read(self, name: str) -> bytes | None:
        path = self._path(name)
        try:
            return None if path.is_symlink() else path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _write(self, name: str, content: bytes) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".writing-{os.urandom(8).hex()}")
        try:
            with open(temporary, "xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

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
