"""The public store: releases, whole or not at all, and which one is the latest; here in a local folder.

    public/releases/<release id>/…
    public/latest -> releases/<release id>

A release is written beside its place, synced, and renamed; then `latest` is switched by one rename. One writer at a
time: a lock on the folder of releases sees to that. What a release holds, and whether it may be published, does not
belong here. Public files and folders have the permissions that the user's umask gives them.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from s3logx_assets.adapters.local_files import locked, make_folder, sync_folder
from s3logx_assets.core.concurrency import mapped
from s3logx_assets.core.errors import StoreError

_TEMPORARY = ".writing-"
_AT_ONCE = 8  # thousands of files, each waiting for the disk


class ReleaseStore(Protocol):
    """The releases, and which one is the latest. Methods raise StoreError, and StoreUnavailable where the place cannot be
    reached."""

    def publish(self, release_id: str, files: Mapping[str, bytes]) -> None:
        """Makes a release of `files` (path within the release -> content) and the latest one. A release that is there
        already is left as it is: an id stands for its content."""

    def uri(self, release_id: str, name: str = "") -> str:
        """Where a file of a release, or the release, lies, for people."""

    def latest(self) -> str | None:
        """The id of the latest release, None where there is none yet."""

    def names(self, release_id: str) -> list[str]:
        """The files of a release, ascending."""

    def read(self, release_id: str, name: str) -> bytes:
        """A file of a release."""


class LocalReleaseStore:
    """The releases below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"LocalReleaseStore({str(self.root)!r})"

    def uri(self, release_id: str, name: str = "") -> str:
        """See ReleaseStore."""
        return str(self.root / "releases" / release_id / name)

    def latest(self) -> str | None:
        """See ReleaseStore."""
        try:
            return os.readlink(self.link).rpartition("/")[2]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.link} cannot be read: {error.strerror}") from None

    def names(self, release_id: str) -> list[str]:
        """See ReleaseStore."""
        root = Path(self.uri(release_id))
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())

    def read(self, release_id: str, name: str) -> bytes:
        """See ReleaseStore."""
        try:
            return Path(self.uri(release_id, name)).read_bytes()
        except OSError as error:
            raise StoreError(f"{self.uri(release_id, name)} cannot be read: {error.strerror}") from None

    def publish(self, release_id: str, files: Mapping[str, bytes]) -> None:
        """See ReleaseStore."""
        release = self.root / "releases" / release_id
        try:
            make_folder(self.root.parent)
            for folder in (self.root, release.parent):
                folder.mkdir(exist_ok=True)
                sync_folder(folder.parent)
            with locked(release.parent):
                self._sweep()
                if not release.is_dir():
                    self._write(release, files)
                self._switch(release_id)
        except OSError as error:
            raise StoreError(f"{release} cannot be written: {error.strerror or type(error).__name__}") from None

    @property
    def link(self) -> Path:
        """The link to the latest release."""
        return self.root / "latest"

    def _sweep(self) -> None:
        """Removes what dead writers left; the lock says that no living one is at it."""
        for left in (self.root / "releases").glob(f"{_TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in self.root.glob(f"{_TEMPORARY}*"):
            left.unlink()

    def _write(self, release: Path, files: Mapping[str, bytes]) -> None:
        temporary = release.parent / f"{_TEMPORARY}{release.name}.{os.urandom(8).hex()}"
        try:
            for _ in mapped(lambda name: self._write_file(temporary / name, files[name]), files, _AT_ONCE):
                pass
            for folder, _, _ in os.walk(temporary):
                sync_folder(Path(folder))
            temporary.rename(release)
            sync_folder(release.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    @staticmethod
    def _write_file(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())

    def _switch(self, release_id: str) -> None:
        link = self.root / f"{_TEMPORARY}latest.{os.urandom(8).hex()}"
        link.symlink_to(Path("releases") / release_id)
        link.rename(self.link)
        sync_folder(self.root)
