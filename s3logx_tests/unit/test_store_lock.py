"""Who may have a store at once: many who use it, or one who has it alone. A lock ends with its process, however it ends."""

import errno
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from s3logx_assets.adapters import s3_files
from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.core.errors import PermanentError, StoreBusyError, StoreError, TransientError
from s3logx_tests.processes import CONTEXT, hold_store


def test_many_use_a_store_and_one_has_it_alone(tmp_path: Path) -> None:
    store, other = TableStore(tmp_path / "s" / "private"), TableStore(tmp_path / "s" / "private")
    with store.in_use(), other.in_use(), pytest.raises(StoreBusyError, match="in use by a run"), other.alone():
        pass
    with store.alone():
        with pytest.raises(StoreBusyError, match="is being rotated"), other.in_use():
            pass
        with pytest.raises(StoreBusyError), other.alone():
            pass
    with other.alone():
        pass
    assert issubclass(StoreBusyError, TransientError)
    lock = tmp_path / "s" / "private.lock"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    assert not store.root.exists()


@pytest.mark.parametrize("alone", [True, False])
def test_a_killed_process_keeps_nobody_out(tmp_path: Path, alone: bool) -> None:
    root, ready = tmp_path / "private", CONTEXT.Event()
    process = CONTEXT.Process(target=hold_store, args=(root, alone, ready))
    process.start()
    assert ready.wait(60)
    with pytest.raises(StoreBusyError), TableStore(root).alone():
        pass
    process.kill()
    process.join()
    with TableStore(root).alone():
        pass


def test_an_error_of_the_body_stays_itself(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), TableStore(tmp_path / "private").in_use():
        raise FileNotFoundError
    with pytest.raises(BlockingIOError), TableStore(tmp_path / "private").in_use():
        raise BlockingIOError


def test_a_place_that_cannot_be_locked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    store = TableStore(tmp_path / "file" / "private")
    with pytest.raises(StoreError, match=r"private[.]lock cannot be opened: Not a directory"), store.in_use():
        pass
    assert issubclass(StoreError, PermanentError)

    def no_locks(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(StoreError, match="cannot be locked: No locks available"), TableStore(tmp_path / "p").in_use():
        pass


class OneObject:
    """Of a bucket, what a lock needs."""

    def __init__(self) -> None:
        self.content: bytes | None = None

    def get(self, key: str) -> tuple[bytes, str]:
        if self.content is None:
            raise FileNotFoundError(key)
        return self.content, self.content.hex()

    def put_if(self, key: str, content: bytes, tag: str | None) -> str | None:
        if tag != (None if self.content is None else self.content.hex()):
            return None
        self.content = content
        return content.hex()

    def remove(self, keys: list[str]) -> None:
        self.content = None


def test_a_lock_in_a_bucket_is_lost_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic clock stands still in sleep: who slept for an hour went on with a lock that another one had taken."""
    slept = 0.0
    genuine = time.clock_gettime
    bucket: Any = OneObject()
    monkeypatch.setattr(time, "clock_gettime", lambda clock: genuine(clock) + slept * (clock == time.CLOCK_BOOTTIME))
    lease = s3_files._Lease(bucket, "a.lock", "a")
    lease.take()
    try:
        lease.confirm()
        slept = 3600.0
        with pytest.raises(StoreBusyError, match="may have been taken over"):
            lease.confirm()
    finally:
        lease.give_back()
    assert bucket.content is not None, "it may be another one's by now"
