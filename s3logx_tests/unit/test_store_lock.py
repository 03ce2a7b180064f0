"""Who may have a store at once: many who use it, or one who has it alone. A lock ends with its process, however it ends."""

import errno
import os
import stat
from pathlib import Path

import pytest

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
