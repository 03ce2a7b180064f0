"""Reading S3 Inventories: every format, broken snapshots, and rows brought in order in bounded memory."""

import errno
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3logx_assets.adapters import inventory_reader
from s3logx_assets.adapters.inventory_reader import cluster, object_name, read_manifest, read_snapshot
from s3logx_assets.adapters.local_files import LocalFiles
from s3logx_assets.core.errors import InventoryError, StoreError
from s3logx_assets.core.inventory import LOG_ROWS, FileFormat, Manifest
from s3logx_tests.inventories import (
    BUCKET,
    FORMATS,
    MODIFIED,
    PREFIX,
    SNAPSHOT,
    Row,
    columns_of,
    data_file,
    manifest_of,
    measured_reading,
    write_inventory,
    write_large_inventory,
    write_manifest,
    write_snapshot,
)
from s3logx_tests.processes import CONTEXT

DAY = date(2025, 3, 1)
NAME = "2025-03-01-00-15-22-0123456789ABCDEF"

each_format = pytest.mark.parametrize("file_format", FORMATS)


def read(folder: Path, prefix: str = "logs/", scratch: Path | None = None) -> list[dict[str, Any]]:
    objects = LocalFiles(folder)
    tables = list(read_snapshot(objects, read_manifest(objects, SNAPSHOT), BUCKET, prefix, scratch=scratch))
    assert all(table.schema == LOG_ROWS and table.num_rows for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def row_of(name: str = NAME, size: int = 100, version: str = "0123456789abcdef" * 2) -> dict[str, Any]:
    return {"log_date": DAY, "name": name, "size": size, "version": version, "modified": MODIFIED}


def data_files(folder: Path) -> list[Path]:
    return sorted((folder / "data").iterdir())


@each_format
def test_every_format_gives_the_same_rows(tmp_path: Path, file_format: FileFormat) -> None:
    logs = [Row(f"logs/{NAME}"), Row(f"logs/2025/03/01/{NAME}.gz", size=7, e_tag="f" * 32 + "-2")]
    others = [Row("logs/readme.txt"), Row(f"older/{NAME}"), Row(f"logs/{NAME}X", bucket="another")]
    write_inventory(tmp_path, [[logs[0], *others], [], [logs[1]]], file_format)
    assert read(tmp_path) == [row_of(), row_of(f"2025/03/01/{NAME}.gz", 7, "f" * 32 + "-2")]


@each_format
def test_of_versions_only_the_current_ones_are_read(tmp_path: Path, file_format: FileFormat) -> None:
    rows = [
        Row(f"logs/{NAME}", size=1, version_id="v2"),
        Row(f"logs/{NAME}", size=2, version_id="v1", is_latest=False),
        Row(f"logs/{NAME}B", None, None, version_id="v4", is_delete_marker=True),
        Row(f"logs/{NAME}B", size=3, version_id="v3", is_latest=False),
        Row(f"logs/{NAME}C", None, None, version_id="v5", is_latest=False, is_delete_marker=True),
        Row(f"logs/{NAME}C", size=4, version_id="v6"),
    ]
    write_inventory(tmp_path, [rows], file_format, versioned=True)
    assert read(tmp_path) == [row_of(size=1), row_of(f"{NAME}C", 4)]


@each_format
def test_keys_come_in_clear_whatever_they_hold(tmp_path: Path, file_format: FileFormat) -> None:
    folders = ["a b", "a+b", "a%20b", "a%2Bb", "100%", "été", "木 木", 'a"b,c', "a&b=c", "a\nb", "🦊"]
    write_inventory(tmp_path, [[Row(f"logs/{folder}/{NAME}") for folder in folders]], file_format)
    assert [row["name"] for row in read(tmp_path)] == [f"{folder}/{NAME}" for folder in folders]


@each_format
def test_columns_that_are_not_needed_may_be_missing(tmp_path: Path, file_format: FileFormat) -> None:
    write_inventory(tmp_path, [[Row(f"logs/{NAME}")]], file_format, left_out=["e_tag", "modified"])
    assert read(tmp_path) == [row_of(version="") | {"modified": None}]


@each_format
def test_an_inventory_may_list_nothing(tmp_path: Path, file_format: FileFormat) -> None:
    write_inventory(tmp_path / "none", [], file_format)
    write_inventory(tmp_path / "empty", [[]], file_format)
    assert read(tmp_path / "none") == read(tmp_path / "empty") == []


def test_quoting_is_that_of_rfc_4180(tmp_path: Path) -> None:
    plain = f"{BUCKET},logs/{NAME},1,2025-03-02T04:05:06.789Z,tag,STANDARD\r\n"
    quoted = f'"{BUCKET}","logs/{NAME}B","2","2025-03-02T04:05:06Z","""tag""","a ""b"",\r\nc"\r\n'
    write_snapshot(tmp_path, [gzip.compress((plain + quoted).encode())], "CSV", columns_of())
    first, second = read(tmp_path)
    assert first == row_of(size=1, version="tag")
    assert second == row_of(f"{NAME}B", 2, "tag") | {"modified": MODIFIED.replace(microsecond=0)}


def test_a_text_is_not_taken_for_nothing(tmp_path: Path) -> None:
    """`NULL` and the like are what CSV readers take for missing."""
    write_inventory(tmp_path, [[Row(f"NULL/{NAME}"), Row(f"nan/{NAME}", e_tag="NA")]])
    assert [(row["name"], row["version"][:2]) for row in read(tmp_path, "")] == [
        (f"NULL/{NAME}", "01"),
        (f"nan/{NAME}", "NA"),
    ]


def test_members_of_a_compressed_file_are_all_read(tmp_path: Path) -> None:
    parts = [data_file([Row(f"logs/{NAME}{number}")], "CSV", columns_of()) for number in range(3)]
    write_snapshot(tmp_path, [b"".join(parts)], "CSV", columns_of())
    assert len(read(tmp_path)) == 3


@each_format
def test_rows_come_in_pieces(tmp_path: Path, file_format: FileFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory_reader, "_ROWS_PER_BATCH", 50)
    monkeypatch.setattr(inventory_reader, "_CSV_BYTES_PER_BATCH", 10_000)
    write_inventory(tmp_path, [[Row(f"logs/{NAME}{number}") for number in range(1000)]], file_format)
    objects = LocalFiles(tmp_path)
    sizes = [table.num_rows for table in read_snapshot(objects, read_manifest(objects, SNAPSHOT), BUCKET, "logs/")]
    assert sum(sizes) == 1000
    assert max(sizes) <= 100


@pytest.mark.parametrize("missing", ["manifest.json", "manifest.checksum"])
def test_a_half_uploaded_snapshot_is_refused(tmp_path: Path, missing: str) -> None:
    write_inventory(tmp_path, [[Row(f"logs/{NAME}")]])
    (tmp_path / SNAPSHOT / missing).unlink()
    with pytest.raises(InventoryError, match=f"snapshot {SNAPSHOT} of the inventory has no manifest and checksum"):
        read(tmp_path)


def test_a_manifest_that_changed_is_refused(tmp_path: Path) -> None:
    write_inventory(tmp_path, [[Row(f"logs/{NAME}")]])
    with (tmp_path / SNAPSHOT / "manifest.json").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(InventoryError, match=f"snapshot {SNAPSHOT} .* checksum"):
        read(tmp_path)


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    write_inventory(tmp_path, [])
    write_manifest(tmp_path, manifest_of(version="2031-01-01"))
    with pytest.raises(InventoryError, match=f"snapshot {SNAPSHOT} of the inventory: .* version"):
        read(tmp_path)


def test_an_inventory_of_another_bucket_is_refused(tmp_path: Path) -> None:
    write_inventory(tmp_path, [[Row(f"logs/{NAME}")]])
    objects = LocalFiles(tmp_path)
    with pytest.raises(InventoryError, match="the inventory is of bucket 'logs-bucket', and the logs are in 'other'"):
        list(read_snapshot(objects, read_manifest(objects, SNAPSHOT), "other", ""))


@each_format
@pytest.mark.parametrize("damage", ["cut", "longer", "other", "gone"])
def test_no_row_of_a_damaged_file_is_used(tmp_path: Path, file_format: FileFormat, damage: str) -> None:
    write_inventory(tmp_path, [[Row(f"logs/{NAME}")], [Row(f"logs/{NAME}B")]], file_format)
    objects = LocalFiles(tmp_path)
    manifest = read_manifest(objects, SNAPSHOT)
    path = data_files(tmp_path)[1]
    content = path.read_bytes()
    changed = {"cut": content[:-1], "longer": content + b"\0", "other": content[:-1] + bytes([content[-1] ^ 1])}
    path.unlink()
    if damage in changed:
        path.write_bytes(changed[damage])
    reason = {"other": "has not the MD5", "gone": "is not there"}.get(damage, "has not the size")
    tables = read_snapshot(objects, manifest, BUCKET, "logs/")
    assert next(tables).num_rows == 1
    with pytest.raises(InventoryError, match=f"inventory file '{PREFIX}data/{path.name}' {reason}"):
        next(tables)


@each_format
@pytest.mark.parametrize("damage", ["cut", "another", "nothing"])
def test_a_file_that_was_damaged_from_the_start_is_refused(
    tmp_path: Path, file_format: FileFormat, damage: str
) -> None:
    """It has the size and MD5 that the manifest says."""
    content = data_file([Row(f"logs/{NAME}{number}") for number in range(100)], file_format, columns_of())
    damaged = {"cut": content[: len(content) // 2], "another": b"\x1f\x8b or not", "nothing": b"x"}[damage]
    write_snapshot(tmp_path, [damaged], file_format, columns_of())
    with pytest.raises(InventoryError, match=f"inventory file .* is not {file_format} as its manifest says"):
        read(tmp_path)


@pytest.mark.parametrize("line", [f"{BUCKET},logs/{NAME}\n", f"{BUCKET},logs/{NAME},1,,,,,\n", "\xff,b,c,d,e,f\n"])
def test_a_malformed_line_is_refused_unquoted(tmp_path: Path, line: str) -> None:
    write_snapshot(tmp_path, [gzip.compress(line.encode("latin-1"))], "CSV", columns_of())
    with pytest.raises(InventoryError, match="is not CSV as its manifest says") as raised:
        read(tmp_path)
    assert NAME not in str(raised.value)


def test_a_value_of_another_type_is_refused_by_its_file(tmp_path: Path) -> None:
    line = f"{BUCKET},logs/{NAME},many,2025-03-02T04:05:06Z,tag,STANDARD\n"
    write_snapshot(tmp_path, [gzip.compress(line.encode())], "CSV", columns_of())
    with pytest.raises(InventoryError, match=rf"inventory file '{PREFIX}data/.*\.csv\.gz': a value"):
        read(tmp_path)


@pytest.mark.parametrize("file_format", ["ORC", "Parquet"])
def test_a_file_without_a_column_of_its_manifest_is_refused(tmp_path: Path, file_format: FileFormat) -> None:
    content = data_file([Row(f"logs/{NAME}")], file_format, columns_of(left_out=["e_tag"]))
    write_snapshot(tmp_path, [content], file_format, columns_of())
    with pytest.raises(InventoryError, match=r"inventory file .*: no column e_tag"):
        read(tmp_path)


def manifest_with(folder: Path, *keys: str) -> Manifest:
    write_inventory(folder, [[Row(f"logs/{NAME}")]])
    manifest = read_manifest(LocalFiles(folder), SNAPSHOT)
    return replace(manifest, files=tuple(replace(manifest.files[0], key=key) for key in keys))


@pytest.mark.parametrize(
    ("key", "location_prefix", "name"),
    [
        (f"{PREFIX}data/a.csv.gz", "", "data/a.csv.gz"),
        (f"{PREFIX}data/a.csv.gz", PREFIX, "data/a.csv.gz"),
        (f"{PREFIX}data/a.csv.gz", f"copies/{PREFIX}", "data/a.csv.gz"),
        (f"{BUCKET}/everything/data/a.csv.gz", "", "data/a.csv.gz"),
        (f"{PREFIX}elsewhere/b/a.csv.gz", PREFIX, "elsewhere/b/a.csv.gz"),
        (f"{PREFIX}elsewhere/a.csv.gz", "", None),
        ("inventories/another/everything/data/a.csv.gz", PREFIX, None),
        (f"{PREFIX}data/", "", None),
        (f"{PREFIX}/etc/passwd", PREFIX, None),
        (PREFIX, PREFIX, None),
        ("data/a.csv.gz", "", None),
    ],
)
def test_a_key_is_found_below_the_location(tmp_path: Path, key: str, location_prefix: str, name: str | None) -> None:
    manifest = manifest_with(tmp_path)
    if name is None:
        with pytest.raises(InventoryError, match=f"inventory file '{key}' does not lie below"):
            object_name(manifest, key, location_prefix)
    else:
        assert object_name(manifest, key, location_prefix) == name


def test_a_key_outside_the_location_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    manifest = manifest_with(tmp_path, f"{PREFIX}data/2025-03-09-00000000.csv.gz", "data/b.csv.gz")
    with pytest.raises(InventoryError, match=r"'data/b\.csv\.gz' does not lie below"):
        next(read_snapshot(LocalFiles(tmp_path), manifest, BUCKET, "logs/"))


def table_of(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), LOG_ROWS)


def clustered(tables: Iterator[pa.Table] | list[pa.Table], **limits: Any) -> list[dict[str, Any]]:
    """All rows, after a check that each date comes once, ascending, in one table of its own rows."""
    rows: list[dict[str, Any]] = []
    days = []
    for day, table in cluster(tables, **limits):
        assert table.schema == LOG_ROWS
        assert set(table["log_date"].to_pylist()) == {day}
        days.append(day)
        rows += table.to_pylist()
    assert days == sorted(set(days))
    return rows


def plainly_clustered(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What clustering must give, in the plainest way."""
    never = datetime(1, 1, 1, tzinfo=UTC)
    last: dict[tuple[date, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["modified"] or never, row["version"].encode(), row["size"])):
        last[row["log_date"], row["name"]] = row
    return sorted(last.values(), key=lambda row: (row["log_date"], row["name"].encode()))


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "log_date": st.integers(0, 4).map(lambda days: DAY + timedelta(days=days * days)),
            "name": st.text("aé🦊\uffff/", max_size=3),
            "size": st.integers(0, 2),
            "version": st.sampled_from(["", "a", "b"]),
            "modified": st.none() | st.integers(0, 2).map(lambda hours: MODIFIED + timedelta(hours=hours)),
        }
    ),
    max_size=60,
)


@given(ROWS, st.integers(1, 9), st.integers(1, 2000), st.integers(1, 9), st.integers(1, 2000), st.randoms())
def test_clustering_is_a_plain_sort(
    rows: list[dict[str, Any]], per_table: int, per_run: int, per_block: int, at_once: int, random: Any
) -> None:
    """Whatever the limits, and in whatever order the rows come."""
    random.shuffle(rows)
    tables = [table_of(rows[at : at + per_table]) for at in range(0, len(rows), per_table)]
    limits = {"bytes_per_run": per_run, "rows_per_block": per_block, "bytes_at_once": at_once}
    assert clustered(tables, **limits) == plainly_clustered(rows)
    assert clustered(tables) == plainly_clustered(rows)


def test_a_date_of_many_rows_comes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """One date is more than may be read at once, and comes in several chunks; its neighbours are small."""
    monkeypatch.setattr(inventory_reader, "_ROWS_PER_CHUNK", 100)
    rows = [row_of(f"{number * 7919 % 5000:05}") for number in range(5000)]
    neighbours = [row_of() | {"log_date": DAY + timedelta(days=days)} for days in (-1, 1)]
    tables = [table_of(rows[at : at + 600]) for at in range(0, 5000, 600)] + [table_of(neighbours)]
    found = dict(cluster(tables, bytes_per_run=50_000, rows_per_block=64, bytes_at_once=10_000))
    assert found[DAY]["name"].to_pylist() == [f"{number:05}" for number in range(5000)]
    assert found[DAY]["name"].num_chunks == 50
    assert [table.num_rows for table in found.values()] == [1, 5000, 1]


def test_nothing_is_left_in_the_scratch_folder(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    write_inventory(tmp_path / "inventory", [[Row(f"logs/{NAME}")]])
    objects = LocalFiles(tmp_path / "inventory")
    tables = read_snapshot(objects, read_manifest(objects, SNAPSHOT), BUCKET, "logs/", scratch=scratch)
    for _, table in cluster(tables, scratch=scratch):
        assert table.num_rows == 1
        assert not list(scratch.iterdir())


class FullFile:
    """A file on a full disk."""

    def __init__(self) -> None:
        self.closed = False

    def __enter__(self) -> "FullFile":
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = True

    def write(self, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_inventory(tmp_path, [[Row(f"logs/{NAME}")]])
    tables = [table_of([row_of()])]
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: FullFile())
    with pytest.raises(StoreError, match="a temporary file cannot be written: No space left on device"):
        read(tmp_path)
    with pytest.raises(StoreError, match="a temporary file cannot be written: No space left on device"):
        list(cluster(tables))


def test_a_scratch_folder_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="a temporary file cannot be written: No such file or directory"):
        list(cluster([], scratch=tmp_path / "none"))


def test_what_goes_wrong_while_reading_ends_clustering() -> None:
    def tables() -> Iterator[pa.Table]:
        yield table_of([row_of()])
        raise InventoryError("broken")

    with pytest.raises(InventoryError, match="broken"):
        list(cluster(tables(), bytes_per_run=1))


def test_millions_of_keys_need_little_memory(tmp_path: Path) -> None:
    """Two million keys are some 300 MB as rows; what is needed beside them hardly grows with their number."""
    write_large_inventory(tmp_path, files=8, keys_per_file=250_000, dates=700, file_format="Parquet")
    with CONTEXT.Pool(1) as pool:
        reading = pool.apply(measured_reading, (tmp_path,))
    assert (reading.dates, reading.keys) == (700, 2_000_000)
    assert reading.more_than_before < 320e6
