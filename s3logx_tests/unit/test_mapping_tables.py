"""Mapping tables in files: every form, bad files, and the compiled form of large ones."""

import gzip
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from s3logx_assets.adapters import mapping_tables
from s3logx_assets.adapters.mapping_tables import CompiledEntries, count_rows, read_mapping
from s3logx_assets.core.datasets import MappingRule
from s3logx_assets.core.errors import SettingsError
from s3logx_assets.core.mapping_entries import Entries, HeldEntries
from s3logx_tests.mappings import mapping_rule, text_table

Row = tuple[str, str, str | None]

ROWS: list[Row] = [
    ("blobs/é", "000123", 'sub-1/"a", b.nwb'),
    ("zarr/7/", "000200", "image.zarr"),
    ("blobs/0", "000001", None),
    ("blobs/é", "000124", "again"),
    ("blobs/é", "000123", "never"),
]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "home" / "cache"


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of some rows is as large as one of millions."""
    monkeypatch.setattr(mapping_tables, "_BYTES_PER_RUN", 1 << 12)
    monkeypatch.setattr(mapping_tables, "_ROWS_PER_BATCH", 20)
    monkeypatch.setattr(mapping_tables, "_ROWS_PER_BLOCK", 32)
    monkeypatch.setattr(mapping_tables, "_SAMPLED", 8)


def entries_of(entries: Entries) -> list[tuple[bytes, str, str | None]]:
    blocks = [entries.block(number).to_pylist() for number in range(len(entries.first_keys))]
    assert [block[0]["key"] for block in blocks] == entries.first_keys.to_pylist()
    return [(row["key"], row["dataset"], row["path"]) for block in blocks for row in block]


def write_parquet(path: Path, rows: list[Row]) -> Path:
    pq.write_table(text_table(rows).append_column("size", pa.array([1] * len(rows), pa.int64())), path)
    return path


def write_csv(path: Path, rows: list[Row]) -> Path:
    # The last column changes from what looks like a number to text.
    size = pa.array([*map(str, range(len(rows) - 1)), "x"])
    pa.csv.write_csv(text_table(rows).append_column("size", size), path)
    return path


def json_lines(rows: list[Row]) -> str:
    names = ("size", "path", "key", "dataset")
    return "".join(json.dumps(dict(zip(names, (1, row[2], *row[:2]), strict=True))) + "\n" for row in rows)


def write_json(path: Path, rows: list[Row]) -> Path:
    path.write_text(json_lines(rows))
    return path


def write_pairs(path: Path, rows: list[Row]) -> Path:
    """One object, in which a name may come twice, as JSON allows."""
    members = ",\n".join(f"{json.dumps(key)} : {json.dumps([dataset, path])}" for key, dataset, path in rows)
    path.write_text(f" {{{members}}}\n")
    return path


def write_object(path: Path, rows: list[Row]) -> Path:
    found: dict[str, dict[str, list[str] | str | None]] = {}
    for key, dataset, own in rows:
        found.setdefault(key, {}).setdefault(dataset, [own, "other"] if own else own)
    path.write_text(json.dumps(found), "utf-8-sig")
    return path


WRITERS = {
    "t.parquet": write_parquet,
    "t.csv": write_csv,
    "lines.json": write_json,
    "pairs.json": write_pairs,
    "object.json": write_object,
}


def zipped(path: Path, renamed: bool = True) -> Path:
    target = path.with_name(path.name + ".gz") if renamed else path
    half = len(content := path.read_bytes()) // 2
    target.write_bytes(gzip.compress(content[:half]) + gzip.compress(content[half:]))
    return target


@pytest.mark.parametrize("name", WRITERS)
def test_every_form_gives_the_same_entries(tmp_path: Path, cache: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / name, ROWS)
    paths = [path] if name == "t.parquet" else [zipped(path), path, zipped(path, renamed=False)]
    for each in (True, False):
        expected = mapping_rule(text_table(ROWS), each=each).entries
        for each_path in paths:
            found = read_mapping(each_path, cache, each)
            assert isinstance(found, HeldEntries)
            assert entries_of(found) == entries_of(expected)
            assert found.facts == expected.facts
    assert count_rows(path) == len(ROWS) - (name == "object.json")
    assert not cache.exists()


def test_paths_may_be_absent(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "t.csv").write_text("dataset,key\n000123,a\n")
    (tmp_path / "t.json").write_text('{"key": "a", "dataset": "000123"}\n')
    for name in ("t.csv", "t.json"):
        assert entries_of(read_mapping(tmp_path / name, cache, each=False)) == [(b"a", "000123", None)]


def test_a_table_may_have_no_rows(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "t.csv").write_text("key,dataset\n")
    write_parquet(tmp_path / "t.parquet", [])
    for name in ("t.csv", "t.parquet"):
        assert entries_of(read_mapping(tmp_path / name, cache, each=True)) == []


def as_int64(path: Path) -> None:
    pq.write_table(pa.table({"key": ["a"], "dataset": [123]}), path)


BAD: dict[str, tuple[str, bytes | Callable[[Path], None], str]] = {
    "not there": ("t.csv", lambda _: None, "FileNotFoundError"),
    "not Parquet": ("t.parquet", b"key,dataset\na,b\n", "ArrowInvalid"),
    "numbers in Parquet": ("t.parquet", as_int64, "`dataset` is of type int64"),
    "no key in Parquet": ("t.parquet", lambda p: pq.write_table(pa.table({"dataset": ["a"]}), p), "no column `key`"),
    "no rows, no key": ("t.csv", b"dataset\n", "no column `key`"),
    "empty CSV": ("t.csv", b"", "Empty CSV file"),
    "long row": ("t.csv", b"key,dataset\na,1\n192.0.2.1,2,3\n", "Expected 2 columns, got 3"),
    "Latin-1": ("t.csv", b"key,dataset\n\xe9,1\n", "invalid UTF8|Invalid UTF8"),
    "Latin-1 in JSON": ("t.json", b'{"key": "\xe9", "dataset": "1"}\n', "Invalid UTF8"),
    "empty JSON": ("t.json", b"", "Empty JSON stream"),
    "an array": ("t.json", b'[{"key": "a", "dataset": "1"}]', "changed from object to array"),
    "numbers in JSON": ("t.json", b'{"key": "192.0.2.1", "dataset": 123}\n', r"Column\(/dataset\) changed from string"),
    "cut JSON": ("t.json", b'{"key": "192.0.2.1", "dataset": "1', "ArrowInvalid"),
    "cut gzip": ("t.json.gz", gzip.compress(b'{"key": "a", "dataset": "1"}\n' * 9)[:-9], "Truncated compressed stream"),
    "an empty key": ("t.json", b'{"key": "a", "dataset": "1"}\n{"dataset": "1"}\n', "in row 2 the key is empty"),
    "cut object": ("t.json", b'{"a": ["1", "b"], "192.0.2.1": ["1", "c"', "the JSON is not valid"),
    "broken object": ("t.json", b'{"a": ["1", "b"] "192.0.2.1": ["1", "c"]}', "the JSON is not valid"),
    "number for name": ("t.json", b'{"a": ["1", "b"], 192: ["1", "c"]}', "is not text"),
    "two objects": ("t.json", b'{"a": ["1", "b"]} {}', "more follows the JSON object"),
    "three texts": ("t.json", b'{"a": ["1", "b", "192.0.2.1"]}', r"neither \[dataset, path\] nor \{dataset: path\}"),
    "a text": ("t.json", b'{"a": ["1", "b"], "192.0.2.1": "c"}', r"neither \[dataset, path\] nor \{dataset: path\}"),
    "numbers in an object": ("t.json", b'{"a": {"192.0.2.1": 5}}', "a dataset or path is not text"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_with_the_reason_and_not_quoted(tmp_path: Path, cache: Path, case: str) -> None:
    """The path may be that of any file, even of logs."""
    name, content, problem = BAD[case]
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    for read in (lambda: read_mapping(path, cache, each=True), lambda: count_rows(path)):
        with pytest.raises(SettingsError, match=f"S3LOGX_DATASET_MAPPING.*(?:{problem}).*such as blobs/") as refusal:
            read()
        assert "192" not in str(refusal.value)
        assert refusal.value.__cause__ is None


def test_an_object_is_read_across_its_pieces(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> None:
    rows: list[Row] = [(f'ke"y\\{number}/é', str(number), "a, } b") for number in range(50)]
    path = write_pairs(tmp_path / "t.json", rows)
    for size in (1, 2, 7, 1000):
        monkeypatch.setattr(mapping_tables, "_BYTES_AT_ONCE", max(size, 100) if size == 1 else size * 20)
        monkeypatch.setattr(mapping_tables, "_JSON_ROW_BYTES", 2000)
        assert len(entries_of(read_mapping(path, cache, each=True))) == 50
    path.write_text('{"a": ["1", "' + "x" * 5000)
    with pytest.raises(SettingsError, match="the JSON is not valid"):
        read_mapping(path, cache, each=True)


def many_rows() -> list[Row]:
    """Keys that come again far apart, prefixes among them."""
    rows: list[Row] = []
    for number in range(900):
        key = f"blobs/{number * 7919 % 700:04d}" + "/" * (number % 5 == 0)
        rows.append((key, f"{number % 11:06d}", f"path-{number}" if number % 3 else None))
    return rows


KEYS = pa.array([f"blobs/{number:04d}{rest}" for number in range(-1, 720) for rest in ("", "/", "/x%2520y")])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_parquet(tmp_path / "t.parquet", many_rows())


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were compiled, in order."""
    made: list[Path] = []
    compile_it = mapping_tables._compile

    def noted(runs: Iterator[pa.Table], compiled: Path, each: bool) -> None:
        made.append(compiled)
        compile_it(runs, compiled, each)

    monkeypatch.setattr(mapping_tables, "_compile", noted)
    return made


def assert_same(found: Entries, expected: MappingRule) -> None:
    assert found.facts == expected.entries.facts
    assert entries_of(found) == entries_of(expected.entries)
    mine, its = MappingRule(found).assign(KEYS), expected.assign(KEYS)
    assert mine.key.tolist() == its.key.tolist()
    assert (mine.dataset, mine.path) == (its.dataset, its.path)


@pytest.mark.parametrize("each", [True, False])
def test_a_large_table_is_compiled_once_and_gives_what_it_gives_in_memory(
    table: Path, cache: Path, each: bool, small_pieces: None, compilations: list[Path]
) -> None:
    expected = mapping_rule(text_table(many_rows()), each=each)
    for _ in range(2):
        found = read_mapping(table, cache, each)
        assert isinstance(found, CompiledEntries)
        assert len(found.first_keys) > 10
        assert_same(found, expected)
    assert len(compilations) == 1
    names = sorted(path.name for path in cache.iterdir())
    assert [name for name in names if not name.startswith("mapping-v1-")] == [".mapping.lock"]
    assert len(names) == 3
    assert all(path.stat().st_mode & 0o077 == 0 for path in cache.iterdir())


def test_the_mode_and_the_content_tell_compiled_tables_apart(
    table: Path, tmp_path: Path, cache: Path, small_pieces: None, compilations: list[Path]
) -> None:
    first, every = read_mapping(table, cache, each=False), read_mapping(table, cache, each=True)
    assert first.facts.digest != every.facts.digest
    moved = table.rename(tmp_path / "moved.parquet")
    assert read_mapping(moved, cache, each=True).facts == every.facts
    assert len(compilations) == 2
    write_parquet(moved, [*many_rows(), ("new", "1", None)])
    assert read_mapping(moved, cache, each=True).facts.digest != every.facts.digest
    assert len(compilations) == 3


def test_a_damaged_file_is_made_anew(table: Path, cache: Path, small_pieces: None, compilations: list[Path]) -> None:
    expected = mapping_rule(text_table(many_rows()), each=True)
    read_mapping(table, cache, each=True)
    [compiled] = compilations
    told = compiled.with_suffix(".json")
    content, facts = compiled.read_bytes(), told.read_text()

    def flipped(place: int) -> None:
        compiled.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])

    damages: list[Callable[[], object]] = [
        lambda: flipped(len(content) // 2),
        lambda: flipped(3),
        lambda: compiled.write_bytes(content[:-100]),
        lambda: compiled.write_bytes(b""),
        compiled.unlink,
        lambda: told.write_text(facts[:-5]),
        lambda: told.write_text(facts.replace('"prefix_depths": [2]', '"prefix_depths": [3]')),
        lambda: told.write_text("[]"),
        told.unlink,
    ]
    for number, damage in enumerate(damages, start=2):
        damage()
        assert_same(read_mapping(table, cache, each=True), expected)
        assert len(compilations) == number
        assert (compiled.read_bytes(), told.read_text()) == (content, facts)


def test_what_dead_compilations_left_is_cleared_away(table: Path, cache: Path, small_pieces: None) -> None:
    left = cache / ".mapping-runs-dead"
    left.mkdir(parents=True)
    (left / "0.arrow").write_bytes(b"x")
    read_mapping(table, cache, each=True)
    assert not left.exists()


def test_tables_that_were_not_used_for_longest_go_and_those_in_use_work_on(
    tmp_path: Path, cache: Path, small_pieces: None, compilations: list[Path]
) -> None:
    paths = [write_parquet(tmp_path / f"{name}.parquet", [*many_rows(), (name, "1", None)]) for name in "abc"]
    oldest = read_mapping(paths[0], cache, each=True)
    second = read_mapping(paths[1], cache, each=True)
    for compiled, age in zip(compilations, (10, 20), strict=True):
        os.utime(compiled, (time.time() - age,) * 2)
    assert read_mapping(paths[1], cache, each=True).facts == second.facts  # used again
    read_mapping(paths[2], cache, each=True)
    assert sorted(cache.glob("*.arrow")) == sorted(compilations[1:])
    assert sorted(cache.glob("*.json")) == sorted(path.with_suffix(".json") for path in compilations[1:])
    assert_same(oldest, mapping_rule(text_table([*many_rows(), ("a", "1", None)]), each=True))


@pytest.mark.parametrize("each", [True, False])
def test_without_a_cache_the_table_is_held_in_memory(
    table: Path, cache: Path, each: bool, small_pieces: None, caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.mkdir()
    cache.write_text("in the way")
    found = read_mapping(table, cache, each)
    assert isinstance(found, HeldEntries)
    assert_same(found, mapping_rule(text_table(many_rows()), each=each))
    assert f"{cache}: cannot be written to" in caplog.text
    assert "held in memory" in caplog.text


def test_a_bad_row_late_in_a_large_table_leaves_nothing(table: Path, cache: Path, small_pieces: None) -> None:
    write_parquet(table, [*many_rows(), ("key", "tab\t", None)])
    with pytest.raises(SettingsError, match="in row 901 the dataset holds a control character"):
        read_mapping(table, cache, each=True)
    assert [path.name for path in cache.iterdir()] == [".mapping.lock"]
