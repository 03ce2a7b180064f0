"""The private store: what is written is read; one file per table, whole or not at all, whatever happens."""

import errno
import fcntl
import io
import json
import os
import random
import resource
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s3logx_assets.adapters.local_files import create, make_folder, replacing
from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.core.errors import PermanentError, StoreError
from s3logx_assets.core.schemas import EXTRACTED_LOGS, IP_INDEXES
from s3logx_tests import processes
from s3logx_tests.processes import CONTEXT, generation

DAY = "log_date=2025-03-01"

ROWS = pa.table(
    {
        "object_key": pa.array(["a", "-", "日本語/データ", "=1+1", "a"]).dictionary_encode(),
        "requested_at": pa.array([0, 1, 2, 253402300799000, 4], pa.timestamp("ms", "UTC")),
        "bytes_sent": pa.array([0, 1, 2, 10**18 - 1, 2**62], pa.int64()),
        "object_size": pa.array([None, 0, 1, None, 2**62 + 1], pa.int64()),
        "status": pa.array([200, 206, 299, 200, 204], pa.int16()),
        "sealed_ip": pa.array([b"\0" * 16, None, b"\xff" * 16, b'"\n\r\0' * 4, b"x" * 16], pa.binary(16)),
    },
    schema=EXTRACTED_LOGS,
)


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(tmp_path / "private")


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["umask 000", "umask 022", "umask 077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_table_comes_back_as_it_was(store: TableStore) -> None:
    store.write("extracted_logs", DAY, ROWS, {})
    path = store.path("extracted_logs", DAY)
    assert path == store.root / "extracted_logs" / DAY / "part-0.parquet" == store.path("extracted_logs", DAY)
    back = store.read("extracted_logs", DAY)
    assert back.schema.remove_metadata() == EXTRACTED_LOGS
    assert back.to_pylist() == ROWS.to_pylist()


def test_an_empty_table_comes_back_with_its_columns(store: TableStore) -> None:
    store.write("ip_indexes", DAY, IP_INDEXES.empty_table(), {"none": True}, {"ledger": b""})
    assert store.read("ip_indexes", DAY).schema.remove_metadata() == IP_INDEXES
    assert store.record("ip_indexes", DAY) == {"none": True}
    assert store.section("ip_indexes", DAY, "ledger") == b""


def test_columns_can_be_chosen(store: TableStore) -> None:
    store.write("extracted_logs", DAY, ROWS, {})
    assert store.read("extracted_logs", DAY, columns=["status"]).column_names == ["status"]


def test_record_and_sections_come_back(store: TableStore) -> None:
    record = {"data_version": "é\n", "counts": {"files": 3, "bytes": 2**60}, "list": [1, None, "x"]}
    sections = {"ledger": bytes(range(256)) * 1000, "other": b"PAR1" * 9, "none": b""}
    store.write("extracted_logs", DAY, ROWS, record, sections)
    assert store.record("extracted_logs", DAY) == record
    assert {name: store.section("extracted_logs", DAY, name) for name in sections} == sections
    assert store.read("extracted_logs", DAY).to_pylist() == ROWS.to_pylist()


def test_parts_of_a_partition_are_tables_of_their_own(store: TableStore) -> None:
    for number, part in enumerate(["by_day", "by_asset"]):
        store.write("summaries", "scope=ds1", generation(number, 3), {"part": part}, part=part)
    assert names(store.root / "summaries" / "scope=ds1") == ["by_asset.parquet", "by_day.parquet"]
    assert store.read("summaries", "scope=ds1", "by_asset")["number"].to_pylist() == [1, 1, 1]
    assert store.record("summaries", "scope=ds1", "by_day") == {"part": "by_day"}


def test_other_programs_read_the_folder(store: TableStore) -> None:
    """The sections lie between the rows and the footer, where no reader looks."""
    store.write("extracted_logs", DAY, ROWS, {"a": 1}, {"ledger": b"x" * 10_000})
    store.write("extracted_logs", "log_date=2025-03-02", ROWS.slice(0, 2), {"a": 1}, {"ledger": b""})
    frame = pd.read_parquet(store.path("extracted_logs", DAY))
    assert frame["object_key"].tolist() == ROWS["object_key"].to_pylist()
    whole = pq.read_table(store.root / "extracted_logs")
    assert whole.num_rows == 7
    assert sorted(set(whole["log_date"].to_pylist())) == ["2025-03-01", "2025-03-02"]


def test_files_are_compressed_with_zstd(store: TableStore) -> None:
    store.write("extracted_logs", DAY, ROWS, {})
    path = store.path("extracted_logs", DAY)
    group = pq.ParquetFile(path).metadata.row_group(0)
    assert {group.column(column).compression for column in range(group.num_columns)} == {"ZSTD"}


def test_the_same_content_gives_the_same_bytes(store: TableStore) -> None:
    store.write("extracted_logs", DAY, ROWS, {"b": 1, "a": 2}, {"ledger": b"x"})
    first = store.path("extracted_logs", DAY).read_bytes()
    store.write("extracted_logs", DAY, ROWS, {"a": 2, "b": 1}, {"ledger": b"x"})
    assert store.path("extracted_logs", DAY).read_bytes() == first


def test_files_are_the_owner_s_alone(tmp_path: Path, umask: int) -> None:
    root = tmp_path / "a" / "b" / "private"
    TableStore(root).write("extracted_logs", DAY, ROWS, {})
    path = TableStore(root).path("extracted_logs", DAY)
    TableStore(root).write("extracted_logs", DAY, ROWS, {})
    assert mode(path) == 0o600
    for folder in (path.parent, path.parent.parent, root, root.parent, root.parent.parent):
        assert mode(folder) == 0o700
    assert umask == os.umask(umask)


def test_folders_that_are_there_keep_their_mode(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o750)
    make_folder(root / "below")
    assert mode(root) == 0o750


def test_partitions_are_listed_by_value(store: TableStore) -> None:
    assert store.partitions("summaries", "scope") == []
    for value in ("b", "%61rchive", "a=b", "B"):
        store.write("summaries", f"scope={value}", generation(0, 1), {})
    (store.root / "summaries" / "other=x").mkdir()
    assert store.partitions("summaries", "scope") == ["%61rchive", "B", "a=b", "b"]
    store.remove("summaries", "scope=B")
    assert store.partitions("summaries", "scope") == ["%61rchive", "a=b", "b"]
    store.remove("summaries", "scope=never")


def test_what_is_absent_is_named_with_its_remedy(store: TableStore) -> None:
    assert store.record("ip_indexes", DAY) is None
    for act in (lambda: store.read("ip_indexes", DAY), lambda: store.section("ip_indexes", DAY, "ledger")):
        with pytest.raises(StoreError, match=f"is not there; materialise ip_indexes for {DAY}") as caught:
            act()
        assert isinstance(caught.value, PermanentError)
    store.write("ip_indexes", DAY, ROWS, {})
    with pytest.raises(StoreError, match="cannot be read"):
        store.section("ip_indexes", DAY, "ledger")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:-8] + b"\xff\xff\xff\x7fPAR1",
        lambda content: b"PAR1" + bytes(len(content) - 4),
        lambda content: content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :],
    ],
    ids=["empty", "half", "last byte gone", "footer length", "zeros", "zeros in front"],
)
def test_a_damaged_file_is_reported_not_misread(store: TableStore, damage: Any) -> None:
    store.write("extracted_logs", DAY, generation(1), {"a": 1})
    path = store.path("extracted_logs", DAY)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StoreError, match=r"cannot be read .*materialise extracted_logs again"):
        store.read("extracted_logs", DAY)


def test_a_byte_that_changed_within_any_page_is_reported_not_read_as_another_number(store: TableStore) -> None:
    """Of 120 bits that were flipped, one at a time, in columns of counts, all 120 were read as other numbers."""
    chance = random.Random(1)
    rows = pa.table(
        {
            "object_key": [f"file {chance.randrange(900)}" for _ in range(20_000)],
            "requested_at": pa.array(sorted(chance.randrange(10**9) for _ in range(20_000)), pa.timestamp("ms", "UTC")),
            "bytes_sent": [chance.randrange(1 << 30) for _ in range(20_000)],
            "object_size": [chance.randrange(1 << 30) for _ in range(20_000)],
            "status": pa.array([chance.choice([200, 206]) for _ in range(20_000)], pa.int16()),
            "sealed_ip": pa.array([chance.randbytes(16) for _ in range(20_000)], pa.binary(16)),
        },
        schema=EXTRACTED_LOGS,
    )
    store.write("extracted_logs", DAY, rows, {})
    path = store.path("extracted_logs", DAY)
    content = path.read_bytes()
    group = pq.ParquetFile(path).metadata.row_group(0)
    for number in range(group.num_columns):
        column = group.column(number)
        first = column.dictionary_page_offset or column.data_page_offset
        for spot in (first + column.total_compressed_size // 2, first + column.total_compressed_size - 1):
            path.write_bytes(content[:spot] + bytes([content[spot] ^ 1]) + content[spot + 1 :])
            with pytest.raises(StoreError, match="cannot be read"):
                store.read("extracted_logs", DAY, columns=[column.path_in_schema])
    path.write_bytes(content)
    assert store.read("extracted_logs", DAY).equals(rows)


def test_a_table_written_without_checksums_is_read(store: TableStore) -> None:
    path = store.path("extracted_logs", DAY)
    make_folder(path.parent)
    with pq.ParquetWriter(path, ROWS.schema, compression="zstd", write_page_checksum=False) as writer:
        writer.write_table(ROWS)
    assert store.read("extracted_logs", DAY).equals(ROWS)


@pytest.mark.parametrize("metadata", [None, {b"s3logx": b"{", b"s3logx.sections": b"["}, {b"s3logx.sections": b"[1]"}])
def test_a_parquet_file_of_another_program_has_no_record(
    store: TableStore, metadata: dict[bytes, bytes] | None
) -> None:
    path = store.path("extracted_logs", DAY)
    make_folder(path.parent)
    with pq.ParquetWriter(path, ROWS.schema, store_schema=False) as writer:
        writer.write_table(ROWS)
        writer.add_key_value_metadata(metadata or {})
    with pytest.raises(StoreError, match="cannot be read"):
        store.record("extracted_logs", DAY)
    with pytest.raises(StoreError, match="cannot be read"):
        store.section("extracted_logs", DAY, "ledger")


def test_a_section_is_of_the_file_that_was_opened(store: TableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader once opened the file a second time for the section, and got the offsets of one file and the bytes of
    the one that had replaced it in between."""
    store.write("extracted_logs", DAY, generation(1), {}, {"ledger": b"one" * 100})
    loads = json.loads

    def replaced_while_read(text: bytes) -> Any:
        monkeypatch.setattr(json, "loads", loads)
        store.write("extracted_logs", DAY, generation(2, 5), {}, {"ledger": b"two" * 100})
        return loads(text)

    monkeypatch.setattr(json, "loads", replaced_while_read)
    assert store.section("extracted_logs", DAY, "ledger") == b"one" * 100
    assert store.section("extracted_logs", DAY, "ledger") == b"two" * 100


def test_a_table_is_held_where_the_holder_lies_on_another_file_system(store: TableStore) -> None:
    """A link cannot lead there, and there was no other way: the table was called one that cannot be held."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        make_folder(store.root)
        if os.stat(other).st_dev == store.root.stat().st_dev:
            pytest.skip("there is no other file system")
        (store.root / "holder").symlink_to(other)
        for number in (1, 2):
            store.write("asset", DAY, generation(number), {"n": number})
            store.hold("asset", "holder", DAY, "")
            assert store.read("holder", DAY).equals(generation(number))
        store.write("asset", DAY, generation(3), {"n": 3})
        assert store.record("holder", DAY) == {"n": 2}
        path = store.path("holder", DAY)
        assert names(path.parent) == ["part-0.parquet"]
        assert mode(path) == 0o600
        with pytest.raises(StoreError, match=r"cannot be held as holder/.*: No such file"):
            store.hold("never", "holder", DAY, "")


def test_a_copy_that_fails_half_way_is_no_held_table(store: TableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: Path, target: Path) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def full(source: Any, target: Any, length: int) -> None:
        target.write(source.read(10))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store.write("asset", DAY, generation(1), {"n": 1})
    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(StoreError, match=r"cannot be held as holder/.*: No space left on device"):
        store.hold("asset", "holder", DAY, "")
    assert names(store.path("holder", DAY).parent) == []
    assert store.record("asset", DAY) == {"n": 1}


# --------------------------------------------------------------------------- failing half-way


def assert_old_file_stands(store: TableStore) -> None:
    assert names(store.path("asset", DAY).parent) == ["part-0.parquet"]
    assert store.read("asset", DAY).equals(generation(1))
    assert store.record("asset", DAY) == {"n": 1}


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), SystemExit(1)])
def test_an_exception_half_way_leaves_the_old_file(store: TableStore, error: BaseException) -> None:
    store.write("asset", DAY, generation(1), {"n": 1})
    path = store.path("asset", DAY)

    def write() -> None:
        with replacing(path) as stream:
            stream.write(b"x" * (3 << 20))
            raise error

    with pytest.raises(type(error)):
        write()
    assert_old_file_stands(store)


@pytest.mark.parametrize("function", ["fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_failing_disk_leaves_the_old_file_and_is_named(
    store: TableStore, function: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("asset", DAY, generation(1), {"n": 1})
    path = store.path("asset", DAY)

    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(StoreError) as caught:
            store.write("asset", DAY, generation(2), {"n": 2})
    assert os.strerror(number) in str(caught.value)
    assert str(path) in str(caught.value)
    assert_old_file_stands(store)


class FullDisk(io.FileIO):
    """A file on a disk that has room for so many bytes."""

    room = 0

    def write(self, data: Any, /) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


@pytest.mark.parametrize("room", [0, 100, 10_000, 2 << 20])
def test_a_full_disk_leaves_the_old_file_and_is_named(
    store: TableStore, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("asset", DAY, generation(1), {"n": 1})
    with monkeypatch.context() as patch:
        patch.setattr(FullDisk, "room", room)
        patch.setattr(io, "FileIO", FullDisk)
        with pytest.raises(StoreError, match="No space left on device"):
            store.write("asset", DAY, generation(2), {"n": 2}, {"ledger": os.urandom(3 << 20)})
    assert_old_file_stands(store)


def test_a_file_is_made_whole_or_not_at_all_on_a_disk_that_takes_a_part(tmp_path: Path) -> None:
    """A disk that got full while a period was closed took the first half of it: half a file had the name for good, and
    no release could be made any more."""
    path, content = tmp_path / "file", os.urandom(100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))  # the system takes so much, and says so only when asked
    try:
        with pytest.raises(OSError, match="File too large"):
            create(path, content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []
    assert create(path, content)
    assert path.read_bytes() == content


def test_what_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "private").write_bytes(b"a file in the way")
    with pytest.raises(StoreError, match=r"cannot be written: (Not a directory|File exists)"):
        TableStore(tmp_path / "private").write("asset", DAY, generation(1), {})


def test_a_folder_without_write_permission_is_named() -> None:
    with processes.open_folder() as folder:
        with pytest.raises(StoreError, match="cannot be written: Permission denied"):
            processes.as_nobody(processes.write_table, folder / "private")
        assert names(folder) == []


def test_a_table_without_read_permission_is_named() -> None:
    with processes.open_folder() as folder:
        TableStore(folder).write("asset", DAY, generation(1), {})
        path = TableStore(folder).path("asset", DAY)
        for below in (path.parent, path.parent.parent):
            below.chmod(0o755)
        path.chmod(0)
        with pytest.raises(StoreError, match="cannot be read"):
            processes.as_nobody(TableStore(folder).read, "asset", DAY)


# --------------------------------------------------------------------------- several writers, and dead ones


def test_what_a_dead_writer_left_goes_with_the_next_writing(store: TableStore) -> None:
    store.write("asset", DAY, generation(1), {"n": 1})
    path = store.path("asset", DAY)
    for left in (".writing-part-0.parquet.0123456789abcdef", ".writing-by_day.parquet.fedcba9876543210"):
        (path.parent / left).write_bytes(b"left")
    (path.parent / "notes.txt").touch()
    store.write("asset", DAY, generation(1), {"n": 1})
    assert names(path.parent) == ["notes.txt", "part-0.parquet"]


def test_what_a_living_writer_is_at_stays(store: TableStore) -> None:
    path = store.path("asset", DAY)
    ready, release = CONTEXT.Event(), CONTEXT.Event()
    writer = CONTEXT.Process(target=processes.hold_a_half_written_file, args=(path, ready, release))
    writer.start()
    try:
        assert ready.wait(60)
        store.write("asset", DAY, generation(1), {"n": 1})
        left = [name for name in names(path.parent) if name != "part-0.parquet"]
        assert len(left) == 1
        assert left[0].startswith(".writing-part-0.parquet.")
        release.set()
        writer.join(60)
        assert writer.exitcode == 0
        assert names(path.parent) == ["part-0.parquet"]
        assert path.read_bytes() == b"half and half"
    finally:
        writer.kill()
        writer.join()
        writer.close()


def test_a_writer_that_is_swept_before_it_has_its_lock_starts_anew(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making a file and locking it, another writer's sweep takes it for a dead one's; the rename then found
    nothing, and a run failed because another one wrote the same partition."""
    lock = fcntl.flock
    swept: list[str] = []

    def sweep_first(descriptor: int, operation: int) -> None:
        if not swept:
            path = store.path("asset", DAY).parent
            swept.extend(name for name in names(path) if name.startswith(".writing-"))
            (path / swept[0]).unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    store.write("asset", DAY, generation(1), {"n": 1})
    assert len(swept) == 1
    assert_old_file_stands(store)


def test_writers_at_once_leave_one_whole_file(store: TableStore) -> None:
    ready = [CONTEXT.Event() for _ in range(3)]
    writers = [
        CONTEXT.Process(target=processes.write_generations, args=(store.root, first * 10, 12, event))
        for first, event in enumerate(ready)
    ]
    for writer in writers:
        writer.start()
    for event in ready:
        assert event.wait(60)
    seen = set()
    while any(writer.is_alive() for writer in writers):
        if (record := store.record("asset", DAY)) is not None:
            seen.add(record["n"])
            number = store.read("asset", DAY)["number"]
            assert number.unique().to_pylist() == [number[0].as_py()]
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
        writer.close()
    assert seen
    assert names(store.path("asset", DAY).parent) == ["part-0.parquet"]
    record = store.record("asset", DAY)
    assert record is not None
    assert store.read("asset", DAY).equals(generation(record["n"]))


def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new_file(store: TableStore) -> None:
    store.write("asset", DAY, generation(0), {"n": 0}, {"s": b"0" * 1000})
    rng = random.Random(20250301)
    killed = leftovers = 0
    for attempt in range(20):
        ready = CONTEXT.Event()
        writer = CONTEXT.Process(target=processes.write_generations, args=(store.root, 10 * attempt, 100_000, ready))
        writer.start()
        assert ready.wait(60)
        time.sleep(rng.uniform(0, 0.08))
        writer.kill()
        writer.join()
        killed += writer.exitcode == -signal.SIGKILL
        writer.close()

        left = [name for name in names(store.path("asset", DAY).parent) if name != "part-0.parquet"]
        assert len(left) <= 1
        leftovers += len(left)
        record = store.record("asset", DAY)
        assert record is not None
        assert store.read("asset", DAY).equals(generation(record["n"]))
        assert store.section("asset", DAY, "s") == b"%d" % record["n"] * 1000
    assert killed == 20
    assert leftovers > 0, "no writer was hit while it wrote"
    store.write("asset", DAY, generation(1), {"n": 1})
    assert_old_file_stands(store)
