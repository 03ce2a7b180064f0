"""The public store: a release is there whole or not at all, and `latest` always leads to a whole one."""

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from s3logx_assets.adapters import release_store
from s3logx_assets.adapters.release_store import LocalReleaseStore
from s3logx_assets.core.errors import PermanentError, StoreError
from s3logx_tests import processes
from s3logx_tests.processes import CONTEXT, release_files

FILES = {"index.html": b"<html>", "summaries/ds1/by_day.tsv": b"date\tbytes_sent\n", "summaries/ds1/empty": b""}


@pytest.fixture
def store(tmp_path: Path) -> LocalReleaseStore:
    return LocalReleaseStore(tmp_path / "store" / "public")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_release_is_written_and_becomes_the_latest(store: LocalReleaseStore) -> None:
    assert store.latest() is None
    store.publish("r1", FILES)
    release = store.root / "releases" / "r1"
    assert content(release) == {name: store.read("r1", name) for name in FILES} == FILES
    assert (store.latest(), store.uri("r1")) == ("r1", str(release))
    assert content(store.link) == FILES
    assert os.readlink(store.link) == "releases/r1"
    assert names(store.root) == ["latest", "releases"]
    assert names(store.root / "releases") == ["r1"]


def test_the_next_release_takes_over_and_the_old_one_stays(store: LocalReleaseStore) -> None:
    store.publish("r1", FILES)
    store.publish("r2", {"index.html": b"2"})
    assert content(store.link) == {"index.html": b"2"}
    assert content(store.root / "releases" / "r1") == FILES


def test_an_id_stands_for_its_content(store: LocalReleaseStore) -> None:
    store.publish("r1", FILES)
    release = store.root / "releases" / "r1"
    before = {path: path.stat().st_mtime_ns for path in release.rglob("*")}
    store.publish("r2", {"index.html": b"2"})
    store.publish("r1", {"index.html": b"other"})
    assert {path: path.stat().st_mtime_ns for path in release.rglob("*")} == before
    assert content(store.link) == FILES


def test_the_store_can_be_moved(store: LocalReleaseStore, tmp_path: Path) -> None:
    store.publish("r1", FILES)
    store.root.rename(tmp_path / "moved")
    assert content(tmp_path / "moved" / "latest") == FILES


def test_other_users_can_read_a_release() -> None:
    """`public` and `releases` were closed to all but their owner."""
    before = os.umask(0o022)
    try:
        with processes.open_folder() as folder:
            store = LocalReleaseStore(folder / "public")
            store.publish("r1", FILES)
            release = store.root / "releases" / "r1"
            for path in (store.root, release.parent, release, *release.rglob("*")):
                assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)
            assert processes.as_nobody(Path.read_bytes, store.link / "index.html") == b"<html>"
    finally:
        os.umask(before)


class Crash(BaseException):
    """What cannot be caught: the process is gone."""


@pytest.mark.parametrize("step", ["open", "fsync", "rename", "symlink"])
def test_a_crash_at_any_step_leaves_the_old_release(
    store: LocalReleaseStore, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish("r1", FILES)
    counts = {"calls": 0}
    original = {"open": open, "fsync": os.fsync, "rename": os.rename, "symlink": os.symlink}[step]
    crash_at = 0

    def crash(*arguments: object, **named: object) -> object:
        counts["calls"] += 1
        if counts["calls"] > crash_at:
            raise Crash
        return original(*arguments, **named)  # type: ignore[operator]

    while True:
        with monkeypatch.context() as patch:
            # Nothing is tidied up by a process that is gone.
            patch.setattr(shutil, "rmtree", lambda *arguments, **named: None)
            patch.setattr(release_store if step == "open" else os, step, crash, raising=False)
            counts["calls"] = 0
            try:
                store.publish("r2", {"a": b"2", "b/c": b"3"})
                break
            except Crash:
                crash_at += 1
        assert content(store.link) in (FILES, {"a": b"2", "b/c": b"3"})
        released = store.root / "releases" / "r2"
        assert not released.exists() or content(released) == {"a": b"2", "b/c": b"3"}
    assert crash_at > 0, "the step is not part of publishing any more"
    store.publish("r2", {"a": b"2", "b/c": b"3"})
    assert content(store.link) == {"a": b"2", "b/c": b"3"}
    assert names(store.root) == ["latest", "releases"]
    assert names(store.root / "releases") == ["r1", "r2"]


def test_what_a_crash_left_goes_with_the_next_release(store: LocalReleaseStore) -> None:
    store.publish("r1", FILES)
    (store.root / "releases" / ".writing-r2.0123456789abcdef" / "summaries").mkdir(parents=True)
    (store.root / ".writing-latest.0123456789abcdef").symlink_to("releases/r2")
    store.publish("r3", FILES)
    assert names(store.root) == ["latest", "releases"]
    assert names(store.root / "releases") == ["r1", "r3"]


def test_a_release_that_was_made_before_a_crash_is_taken_as_it_is(
    store: LocalReleaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish("r1", FILES)
    with monkeypatch.context() as patch:
        patch.setattr(LocalReleaseStore, "_switch", lambda store, release_id: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            store.publish("r2", {"index.html": b"2"})
    assert content(store.link) == FILES
    store.publish("r2", {"index.html": b"2"})
    assert content(store.link) == {"index.html": b"2"}


@pytest.mark.parametrize("function", ["fsync", "rename", "symlink", "mkdir"])
def test_a_failing_disk_leaves_the_old_release_and_is_named(
    store: LocalReleaseStore, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish("r1", FILES)

    def fail(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(StoreError, match=r"releases/r2 cannot be written: No space left on device") as caught:
            store.publish("r2", FILES)
    assert isinstance(caught.value, PermanentError)
    assert content(store.link) == FILES
    assert not [name for name in names(store.root / "releases") if name.startswith(".")]
    store.publish("r2", FILES)
    assert os.readlink(store.link) == "releases/r2"


def test_a_folder_without_write_permission_is_named() -> None:
    with processes.open_folder() as folder:
        with pytest.raises(StoreError, match="cannot be written: Permission denied"):
            processes.as_nobody(processes.publish_release, folder / "public")
        assert names(folder) == []


def test_processes_that_publish_at_once_make_whole_releases(store: LocalReleaseStore) -> None:
    """Each swept away what the others were writing: a release could lose files and still be renamed into place."""
    start = CONTEXT.Event()
    rounds, publishers = 8, ["a", "b", "c"]
    runs = [
        CONTEXT.Process(target=processes.publish_releases, args=(store.root, name, rounds, start))
        for name in publishers
    ]
    for run in runs:
        run.start()
    start.set()
    while any(run.is_alive() for run in runs):
        if store.link.is_symlink():
            release = store.link.resolve()
            assert content(release) == release_files(release.name)
    for run in runs:
        run.join()
        assert run.exitcode == 0
        run.close()
    expected = {f"{name}-{number}" for name in [*publishers, "shared"] for number in range(rounds)}
    assert set(names(store.root / "releases")) == expected
    for release_id in expected:
        assert content(store.root / "releases" / release_id) == release_files(release_id)
    assert names(store.root) == ["latest", "releases"]


def test_a_store_shows_where_it_is(store: LocalReleaseStore) -> None:
    assert repr(store) == f"LocalReleaseStore({str(store.root)!r})"
