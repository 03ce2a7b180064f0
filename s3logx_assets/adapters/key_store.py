"""The master key: where it comes from, and the proof that it is the store's.

From `S3LOGX_KEY`; else from the key file, which is made once, before the first data. `private/key_id` is a digest of
the key that the store's tables were written with; it is compared before anything is written. What is done with the
key does not belong here.
"""

import os
import secrets
from collections.abc import Callable, Collection
from pathlib import Path

from s3logx_assets.adapters.files import Files
from s3logx_assets.adapters.local_files import LocalFiles, sync_folder
from s3logx_assets.core.errors import MasterKeyError
from s3logx_assets.core.sealing import MASTER_KEY_BYTES, Sealer

KEY_FILE = "s3logx.key"
# The key of an epoch that is being made; it takes the key file's place when the store has been switched to it.
NEXT_KEY_FILE = "s3logx.key.next"
KEY_ID = "key_id"


def open_sealer(private: Files, home: Path, key: bytes | None, tell: Callable[[str], None]) -> Sealer:
    """The sealer of the store at `private`. On the first run of all it makes the key file and `private/key_id`;
    `tell` gets a word on what was made. Raises MasterKeyError for a missing, malformed or wrong key."""
    known = _key_id(private)
    if key is None:
        _finish_rotation(home, known)
        key = _key_file(home / KEY_FILE, may_create=known is None, tell=tell)
    sealer = Sealer(key)
    if known is None:
        _create(private, KEY_ID, sealer.key_id.encode())
        known = _read(private, KEY_ID)
    if known is None or not secrets.compare_digest(known, sealer.key_id.encode()):
        raise MasterKeyError(
            f"the master key is not the one that {private} was written with; nothing was written. Set S3LOGX_KEY, or "
            f"restore {home / KEY_FILE}, to the key that was in use when the store was made"
        )
    return sealer


def verify(private: Files, home: Path, key: bytes | None) -> str:
    """What `open_sealer` would do, in words, changing nothing. Raises MasterKeyError where it would."""
    known = _key_id(private)
    if key is None and _next_fits(home, known):
        return f"fits the store; the next run puts {home / NEXT_KEY_FILE} in the key file's place"
    if key is None and known is None and not (home / KEY_FILE).exists():
        return f"will be made on the first run: {home / KEY_FILE}"
    if key is None:
        key = _key_file(home / KEY_FILE, may_create=False, tell=lambda text: None)
    if known is not None and not secrets.compare_digest(known, Sealer(key).key_id.encode()):
        raise MasterKeyError(f"the master key is not the one that {private} was written with")
    return "fits the store" if known is not None else "ready for a new store"


def next_key(home: Path) -> bytes:
    """The key of the epoch that is being made, made itself on the first call. Raises MasterKeyError."""
    _create(LocalFiles(home), NEXT_KEY_FILE, secrets.token_bytes(MASTER_KEY_BYTES))
    return _key_file(home / NEXT_KEY_FILE, may_create=False, tell=lambda text: None)


def key_id(private: Files) -> str | None:
    """The id of the key that the tables at `private` are of, None where there is none. Raises MasterKeyError."""
    found = _read(private, KEY_ID)
    return None if found is None else found.decode("ascii", "replace")


def kept_secrets(home: Path) -> list[bytes]:
    """The keys in the key files, for who makes sure that they are nowhere else. Raises MasterKeyError."""
    found = (_read(LocalFiles(home), name) for name in (KEY_FILE, NEXT_KEY_FILE))
    return [key for key in found if key]


def key_file_id(home: Path) -> str | None:
    """The id of the key in the key file, None where there is no whole one. Raises MasterKeyError."""
    return _id_of(_read(LocalFiles(home), KEY_FILE))


def begin_epoch(private: Files, sealer: Sealer) -> None:
    """Writes the key's id at a new `private`, or at one that this key began. Raises MasterKeyError."""
    _create(private, KEY_ID, sealer.key_id.encode())
    if key_id(private) != sealer.key_id:
        raise MasterKeyError(f"{private} was begun with another key; remove that folder")


def _finish_rotation(home: Path, known: bytes | None) -> None:
    """A rotation that ended between the switch of the store and that of the key file ends here."""
    if not _next_fits(home, known):
        return
    try:
        os.rename(home / NEXT_KEY_FILE, home / KEY_FILE)
        sync_folder(home)
    except FileNotFoundError:
        return  # another process was first
    except OSError as error:
        raise MasterKeyError(f"{home / KEY_FILE} cannot be replaced: {error.strerror}") from None


def _next_fits(home: Path, known: bytes | None) -> bool:
    """Whether the next key is the store's already, though not in the key file's place."""
    following = _id_of(_read(LocalFiles(home), NEXT_KEY_FILE))
    return known is not None and following is not None and secrets.compare_digest(known, following.encode())


def _id_of(key: bytes | None) -> str | None:
    return Sealer(key).key_id if key is not None and len(key) == MASTER_KEY_BYTES else None


def destroy_key_files(home: Path, key_ids: Collection[str | None]) -> tuple[list[Path], list[Path]]:
    """Overwrites and removes those key files whose key has one of these ids; and which were left alone, since their key
    is another one. Raises MasterKeyError."""
    destroyed: list[Path] = []
    spared: list[Path] = []
    for path in (home / KEY_FILE, home / NEXT_KEY_FILE):
        key = _read(LocalFiles(home), path.name)
        if key is None:
            continue
        if _id_of(key) is None or _id_of(key) not in key_ids:
            spared.append(path)
            continue
        try:
            with path.open("r+b") as stream:
                stream.write(secrets.token_bytes(MASTER_KEY_BYTES))
                stream.flush()
                os.fsync(stream.fileno())
            path.unlink()
            sync_folder(home)
            destroyed.append(path)
        except OSError as error:
            raise MasterKeyError(f"{path} cannot be destroyed: {error.strerror}") from None
    return destroyed, spared


def _key_id(private: Files) -> bytes | None:
    """The id of the key that the store was written with, None for a new store. Raises MasterKeyError where it is gone."""
    tables = not private.is_empty()
    # Looked for after the tables: another run may make both meanwhile, the id first.
    known = _read(private, KEY_ID)
    if known is None and tables:
        raise MasterKeyError(f"{private.uri(KEY_ID)} is gone but there are tables beside it; restore it from a backup")
    return known


def _key_file(path: Path, may_create: bool, tell: Callable[[str], None]) -> bytes:
    key = _read(LocalFiles(path.parent), path.name)
    if key is None:
        if not may_create:
            raise MasterKeyError(
                f"the store has tables but {path} is not there; restore it from its backup, or set S3LOGX_KEY. "
                "Without the key the tables cannot be continued"
            )
        if _create(LocalFiles(path.parent), path.name, secrets.token_bytes(MASTER_KEY_BYTES)):
            tell(
                f"made the master key {path}. Back it up apart from the data: whoever has both can turn indexes back "
                "into addresses, and without it the store cannot be continued"
            )
        key = _read(LocalFiles(path.parent), path.name)
    if key is None or len(key) != MASTER_KEY_BYTES:
        raise MasterKeyError(f"{path} does not hold {MASTER_KEY_BYTES} bytes; restore it from its backup")
    if path.stat().st_mode & 0o077:
        raise MasterKeyError(f"{path} can be read by others; run chmod 600 on it")
    return key


def _read(files: Files, name: str) -> bytes | None:
    try:
        return files.read(name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MasterKeyError(f"{files.uri(name)} cannot be read: {error.strerror}") from None


def _create(files: Files, name: str, content: bytes) -> bool:
    """Makes a file whole or not at all; False if another process was first. Raises MasterKeyError."""
    try:
        return files.create(name, content)
    except OSError as error:
        raise MasterKeyError(f"{files.uri(name)} cannot be written: {error.strerror}") from None
