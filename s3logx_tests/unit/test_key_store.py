"""The master key: made once, kept apart, compared before anything is written, and never shown."""

import base64
import errno
import io
import os
import stat
from pathlib import Path
from types import ModuleType

import pytest

from s3logx_assets.adapters import key_store, local_files
from s3logx_assets.adapters.files import Files
from s3logx_assets.adapters.key_store import KEY_FILE, NEXT_KEY_FILE, destroy_key_files, open_sealer, verify
from s3logx_assets.adapters.local_files import LocalFiles
from s3logx_assets.core.errors import MasterKeyError, PermanentError
from s3logx_assets.core.sealing import Sealer
from s3logx_tests import processes
from s3logx_tests.processes import CONTEXT

KEY = bytes(range(100, 132))
OTHER = bytes(range(101, 133))


class Place:
    """A home and a store, and what was told."""

    def __init__(self, root: Path) -> None:
        self.home, self.private = root / "home", root / "home" / "s3logx" / "private"
        self.key_file, self.key_id = self.home / KEY_FILE, self.private / "key_id"
        self.told: list[str] = []

    def open(self, key: bytes | None = None) -> Sealer:
        return open_sealer(LocalFiles(self.private), self.home, key, self.told.append)

    def refusal(self, key: bytes | None = None) -> str:
        """Why the store does not open; neither that nor a check may change anything."""
        before = self.state()
        with pytest.raises(MasterKeyError) as caught:
            self.open(key)
        with pytest.raises(MasterKeyError):
            verify(LocalFiles(self.private), self.home, key)
        assert self.state() == before
        assert isinstance(caught.value, PermanentError)
        return str(caught.value)

    def state(self) -> dict[str, bytes | None]:
        return {str(path): path.read_bytes() if path.is_file() else None for path in self.home.rglob("*")}

    def add_table(self) -> None:
        folder = self.private / "extracted_logs" / "log_date=2025-03-01"
        folder.mkdir(parents=True)
        (folder / "part-0.parquet").write_bytes(b"PAR1")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def assert_shows_no_key(text: str, key: bytes) -> None:
    for form in (key.hex(), base64.b64encode(key).decode(), repr(key)[2:-1], str(list(key))[1:-1]):
        assert form not in text
        assert form[:12] not in text


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_first_run_makes_a_key_for_its_owner_alone(place: Place, umask: int) -> None:
    before = os.umask(umask)
    try:
        sealer = place.open()
    finally:
        os.umask(before)
    key = place.key_file.read_bytes()
    assert len(key) == 32
    assert mode(place.key_file) == 0o600
    assert mode(place.key_id) == 0o600
    assert mode(place.home) == mode(place.private) == 0o700
    assert sealer.key_id == Sealer(key).key_id
    assert place.key_id.read_text() == sealer.key_id
    assert sorted(os.listdir(place.home)) == ["s3logx", KEY_FILE]
    assert os.listdir(place.private) == ["key_id"]


def test_a_word_on_the_backup_is_said_once_and_shows_no_key(place: Place) -> None:
    place.open()
    assert len(place.told) == 1
    assert str(place.key_file) in place.told[0]
    assert "Back it up apart from the data" in place.told[0]
    assert_shows_no_key(place.told[0], place.key_file.read_bytes())
    place.open()
    assert len(place.told) == 1


def test_later_runs_use_the_same_key(place: Place) -> None:
    first = place.open()
    place.add_table()
    before = place.state()
    assert place.open().key_id == first.key_id
    assert verify(LocalFiles(place.private), place.home, None) == "fits the store"
    assert place.state() == before


def test_every_store_of_its_own_has_a_key_of_its_own(tmp_path: Path) -> None:
    assert Place(tmp_path / "a").open().key_id != Place(tmp_path / "b").open().key_id


def test_processes_that_start_at_once_end_with_one_key(place: Place) -> None:
    start, results = CONTEXT.Event(), CONTEXT.Queue()
    runs = [
        CONTEXT.Process(target=processes.open_sealer, args=(place.private, place.home, start, results))
        for _ in range(8)
    ]
    for run in runs:
        run.start()
    start.set()
    outcomes = [results.get(timeout=60) for _ in runs]
    for run in runs:
        run.join()
        run.close()
    results.close()
    results.join_thread()
    assert {key_id for key_id, _ in outcomes} == {Sealer(place.key_file.read_bytes()).key_id}
    assert sum(len(told) for _, told in outcomes) == 1
    assert sorted(os.listdir(place.home)) == ["s3logx", KEY_FILE]
    assert os.listdir(place.private) == ["key_id"]


def test_a_run_that_writes_its_first_table_does_not_alarm_another(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run looked for the key id before this one made it, and for tables after: it called the id gone."""
    read = key_store._read
    first: list[None] = []

    def read_and_then_another_run_starts(files: Files, name: str) -> bytes | None:
        content = read(files, name)
        if name == place.key_id.name and not first:
            first.append(None)
            monkeypatch.setattr(key_store, "_read", read)
            Place.open(place)
            place.add_table()
        return content

    monkeypatch.setattr(key_store, "_read", read_and_then_another_run_starts)
    assert place.open().key_id == place.key_id.read_text()


def test_a_key_of_the_settings_needs_no_file(place: Place) -> None:
    assert verify(LocalFiles(place.private), place.home, KEY) == "ready for a new store"
    sealer = place.open(KEY)
    assert sealer.key_id == Sealer(KEY).key_id == place.key_id.read_text()
    assert not place.key_file.exists()
    assert place.told == []
    assert verify(LocalFiles(place.private), place.home, KEY) == "fits the store"


def test_a_key_of_the_settings_comes_before_the_file(place: Place) -> None:
    place.home.mkdir()
    place.key_file.write_bytes(OTHER)
    assert place.open(KEY).key_id == Sealer(KEY).key_id
    assert place.key_file.read_bytes() == OTHER


def test_a_wrong_key_is_refused_before_any_write(place: Place) -> None:
    place.open(KEY)
    message = place.refusal(OTHER)
    assert "not the one that" in message
    assert str(place.private) in message
    assert "S3LOGX_KEY" in message
    for key in (KEY, OTHER):
        assert_shows_no_key(message, key)


def test_a_wrong_key_file_is_refused(place: Place) -> None:
    place.open()
    place.add_table()
    place.key_file.write_bytes(OTHER)
    message = place.refusal()
    assert "not the one that" in message
    assert_shows_no_key(message, OTHER)


def test_a_store_whose_key_file_is_gone_does_not_get_a_new_key(place: Place) -> None:
    place.open()
    place.add_table()
    place.key_file.unlink()
    message = place.refusal()
    assert str(place.key_file) in message
    assert "restore it" in message
    assert "S3LOGX_KEY" in message
    assert not place.key_file.exists()


@pytest.mark.parametrize("key", [None, KEY])
def test_a_store_whose_key_id_is_gone_is_refused(place: Place, key: bytes | None) -> None:
    place.open(key)
    place.add_table()
    place.key_id.unlink()
    message = place.refusal(key)
    assert "key_id is gone" in message
    assert "backup" in message


def test_a_store_whose_key_and_key_id_are_gone_does_not_get_a_new_key(place: Place) -> None:
    """A new key was made before the tables were seen; it then stood in the way of the one to be restored."""
    place.open()
    place.add_table()
    place.key_id.unlink()
    place.key_file.unlink()
    assert "key_id is gone" in place.refusal()
    assert not place.key_file.exists()


@pytest.mark.parametrize("content", [b"", KEY[:31], KEY + b"\n", KEY.hex().encode(), base64.b64encode(KEY)])
def test_a_malformed_key_file_is_refused(place: Place, content: bytes) -> None:
    place.home.mkdir()
    place.key_file.write_bytes(content)
    place.key_file.chmod(0o600)
    message = place.refusal()
    assert str(place.key_file) in message
    assert "32 bytes" in message
    assert_shows_no_key(message, KEY)
    assert not place.key_id.exists()


@pytest.mark.parametrize("permissions", [0o640, 0o604, 0o660, 0o601, 0o620, 0o644, 0o777])
def test_a_key_file_that_others_can_reach_is_refused(place: Place, permissions: int) -> None:
    place.open()
    place.key_file.chmod(permissions)
    message = place.refusal()
    assert "can be read by others; run chmod 600" in message
    assert str(place.key_file) in message
    place.key_file.chmod(0o600)
    place.open()


def test_a_key_file_without_permission_is_named() -> None:
    with processes.open_folder() as folder:
        home, private = folder / "home", folder / "private"
        home.mkdir(mode=0o755)
        (home / KEY_FILE).write_bytes(KEY)
        (home / KEY_FILE).chmod(0)
        assert processes.as_nobody(processes.try_key, private, home) == (
            f"MasterKeyError: {home / KEY_FILE} cannot be read: Permission denied"
        )
        assert not private.exists()


def test_a_home_that_cannot_be_written_is_named() -> None:
    with processes.open_folder() as folder:
        message = processes.as_nobody(processes.try_key, folder / "store" / "private", folder)
        assert message == f"MasterKeyError: {folder / KEY_FILE} cannot be written: Permission denied"
        assert os.listdir(folder) == []


@pytest.mark.parametrize(("module", "function"), [(io, "FileIO"), (os, "fsync"), (local_files, "took_free_name")])
def test_a_full_disk_leaves_no_half_a_key(
    place: Place, module: ModuleType, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place.home.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(module, function, fail)
        with pytest.raises(MasterKeyError, match="cannot be written: No space left on device"):
            place.open()
    assert os.listdir(place.home) == []
    place.open()


@pytest.mark.parametrize("system_knows", [True, False], ids=["in one step", "by a link"])
def test_who_dies_while_the_key_is_made_leaves_no_copy_of_it(tmp_path: Path, system_knows: bool) -> None:
    """A second name of the key stayed in DAGSTER_HOME for good: a backup took it along, and a rotation left the old key there."""
    steps = 0
    while True:
        place = Place(tmp_path / f"{steps}")
        process = CONTEXT.Process(target=processes.make_key, args=(place.private, place.home, steps, system_knows))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        place.open()
        key = place.key_file.read_bytes()
        left = [path for path, content in place.state().items() if content == key and path != str(place.key_file)]
        assert left == [] or not system_knows
        assert len(left) <= 1
        if left:  # where it takes two steps, what is left goes with what is written there next
            LocalFiles(place.home).create("other", b"")
            assert not Path(left[0]).exists()
        steps += 1
    assert steps > 8


def test_a_check_of_a_new_place_makes_nothing(place: Place) -> None:
    assert verify(LocalFiles(place.private), place.home, None) == f"will be made on the first run: {place.key_file}"
    assert not place.home.exists()


def switched(place: Place) -> bytes:
    """The next key, after a rotation that ended between the switch of the store and that of the key file."""
    place.open()
    following = key_store.next_key(place.home)
    place.key_id.write_bytes(Sealer(following).key_id.encode())
    return following


def test_the_next_key_is_made_once_and_kept_like_the_key(place: Place) -> None:
    place.open()
    following = key_store.next_key(place.home)
    assert key_store.next_key(place.home) == following
    assert following != place.key_file.read_bytes()
    assert mode(place.home / NEXT_KEY_FILE) == 0o600
    assert verify(LocalFiles(place.private), place.home, None) == "fits the store"
    place.open()
    assert (place.home / NEXT_KEY_FILE).read_bytes() == following


def test_whoever_opens_a_store_that_was_switched_ends_the_rotation(place: Place) -> None:
    following = switched(place)
    before = place.state()
    assert verify(LocalFiles(place.private), place.home, None).startswith("fits the store; the next run puts ")
    assert place.state() == before
    assert place.open().key_id == Sealer(following).key_id
    assert place.key_file.read_bytes() == following
    assert not (place.home / NEXT_KEY_FILE).exists()


def test_of_two_that_end_a_rotation_one_is_late(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    following = switched(place)
    rename = os.rename

    def twice(first: Path, second: Path) -> None:
        rename(first, second)
        rename(first, second)

    monkeypatch.setattr(os, "rename", twice)
    assert place.open().key_id == Sealer(following).key_id


def test_a_key_file_that_cannot_be_replaced_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    switched(place)

    def fail(*paths: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(MasterKeyError, match=r"s3logx[.]key cannot be replaced: Read-only file system"):
        place.open()


def test_an_epoch_is_not_begun_over_another_key_s(place: Place) -> None:
    key_store.begin_epoch(LocalFiles(place.private), Sealer(KEY))
    key_store.begin_epoch(LocalFiles(place.private), Sealer(KEY))
    with pytest.raises(MasterKeyError, match="begun with another key"):
        key_store.begin_epoch(LocalFiles(place.private), Sealer(OTHER))
    assert key_store.key_id(LocalFiles(place.private)) == Sealer(KEY).key_id


def test_only_the_key_files_of_a_store_are_destroyed(place: Place) -> None:
    place.open()
    following = place.home / NEXT_KEY_FILE
    following.write_bytes(OTHER)
    own_id = key_store.key_file_id(place.home)
    assert destroy_key_files(place.home, {None, "0" * 32}) == ([], [place.key_file, following])
    os.link(place.key_file, place.home / "same")
    key = place.key_file.read_bytes()
    assert destroy_key_files(place.home, {own_id, None}) == ([place.key_file], [following])
    assert (place.home / "same").read_bytes() != key  # overwritten before it was removed
    assert following.read_bytes() == OTHER
    assert key_store.key_file_id(place.home) is None
    assert destroy_key_files(place.home, {Sealer(OTHER).key_id}) == ([following], [])
    assert destroy_key_files(place.home, {own_id}) == ([], [])
    assert "restore it from its backup" in place.refusal()


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_what_is_no_key_is_not_destroyed(place: Place, content: bytes) -> None:
    place.home.mkdir()
    place.key_file.write_bytes(content)
    assert key_store.key_file_id(place.home) is None
    assert destroy_key_files(place.home, {None, ""}) == ([], [place.key_file])
    assert place.key_file.read_bytes() == content


def test_a_key_file_that_cannot_be_destroyed_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.open()
    own_id = key_store.key_file_id(place.home)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MasterKeyError, match=r"s3logx[.]key cannot be destroyed: Input/output error"):
        destroy_key_files(place.home, {own_id})
