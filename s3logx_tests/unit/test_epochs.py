"""The exchange of two epochs: in one step, or in three that can end anywhere."""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from s3logx_assets.adapters import epochs
from s3logx_assets.adapters.epochs import exchange, finish_exchange, next_epoch


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store and its next epoch, each with a file that tells which it is."""
    root = tmp_path / "private"
    for folder, name in ((root, "old"), (next_epoch(root), "new")):
        folder.mkdir()
        (folder / "which").write_text(name)
    return root


def state(root: Path) -> dict[str, str]:
    return {path.name: (path / "which").read_text() for path in root.parent.iterdir()}


BEFORE = {"private": "old", "private.next": "new"}
AFTER = {"private": "new", "private.next": "old"}


def test_two_epochs_change_places(root: Path) -> None:
    exchange(root)
    assert state(root) == AFTER
    finish_exchange(root)
    assert state(root) == AFTER


def test_the_system_under_test_exchanges_in_one_step(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "rename", None)
    exchange(root)
    assert state(root) == AFTER


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_three_renames_that_ended_anywhere_are_ended_by_the_next(
    root: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    rename, left = os.rename, done

    def until_the_end(first: Path, second: Path) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        rename(first, second)

    with monkeypatch.context() as patch:
        patch.setattr(epochs, "exchanged", lambda first, second: False)
        patch.setattr(os, "rename", until_the_end)
        if done < 3:
            with pytest.raises(KeyboardInterrupt):
                exchange(root)
        else:
            exchange(root)
    finish_exchange(root)
    assert state(root) == (AFTER if done else BEFORE)


def test_of_several_that_end_an_exchange_each_may_be_late(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process does all of it between this one's look and its first step."""
    os.rename(root, root.with_name("private.aside"))
    rename = os.rename

    def late(first: Path, second: Path) -> None:
        monkeypatch.undo()
        finish_exchange(root)
        rename(first, second)

    monkeypatch.setattr(os, "rename", late)
    finish_exchange(root)
    assert state(root) == AFTER


class Library:
    """A C library whose call answers an error."""

    def __init__(self, number: int) -> None:
        self._number = number

    def renameat2(self, *arguments: object) -> int:
        ctypes.set_errno(self._number)
        return -1


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_without_the_call_takes_three_renames(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: Library(number))
    exchange(root)
    assert state(root) == AFTER


def test_a_system_without_the_call_takes_three_renames(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: object())
    exchange(root)
    assert state(root) == AFTER


def test_any_other_error_is_one(root: Path) -> None:
    (next_epoch(root) / "which").unlink()
    next_epoch(root).rmdir()
    with pytest.raises(FileNotFoundError):
        exchange(root)
    assert state(root) == {"private": "old"}
