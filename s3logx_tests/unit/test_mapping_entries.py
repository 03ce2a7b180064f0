"""The entries of a mapping table: rows that are refused, order, duplicates, and what is known of all of them."""

import pyarrow as pa
import pytest

from s3logx_assets.core.errors import SettingsError
from s3logx_assets.core.mapping_entries import ENTRIES, HeldEntries, checked_entries, file_kind, sorted_entries
from s3logx_tests.mappings import text_table

ROWS = [
    ("b", "1", "x"),
    ("a/", "2", "y/"),
    ("b", "1", "later"),
    ("b", "3", None),
    ("a/", "2", "y"),
    ("B", "1", ""),
    ("a/b/c/", "4", "//"),
]


def held(table: pa.Table, each: bool = True) -> HeldEntries:
    return HeldEntries(sorted_entries(checked_entries(table), each))


def rows_of(entries: pa.Table) -> list[tuple[bytes, str, str | None]]:
    assert entries.schema == ENTRIES
    return [(row["key"], row["dataset"], row["path"]) for row in entries.to_pylist()]


def test_entries_are_sorted_by_the_bytes_of_the_key_and_the_first_of_a_key_stands() -> None:
    checked = checked_entries(text_table(ROWS))
    assert rows_of(sorted_entries(checked, each=False)) == [
        (b"B", "1", None),
        (b"a/", "2", "y"),
        (b"a/b/c/", "4", None),
        (b"b", "1", "x"),
    ]


def test_of_each_dataset_of_a_key_the_first_entry_stands_in_the_order_of_the_table() -> None:
    checked = checked_entries(text_table(ROWS))
    expected = [(b"B", "1", None), (b"a/", "2", "y"), (b"a/b/c/", "4", None), (b"b", "1", "x"), (b"b", "3", None)]
    assert rows_of(sorted_entries(checked, each=True)) == expected
    backwards = checked.take(pa.array(range(len(ROWS) - 1, -1, -1)))
    assert rows_of(sorted_entries(backwards, each=True))[3:] == [(b"b", "3", None), (b"b", "1", "later")]


def test_what_holds_for_all_entries() -> None:
    facts = held(text_table(ROWS)).facts
    assert facts.prefix_depths == (3, 1)
    assert facts.several
    first = held(text_table(ROWS), each=False).facts
    assert first.prefix_depths == (3, 1)
    assert not first.several
    assert first.digest != facts.digest


@pytest.mark.parametrize("each", [True, False])
def test_an_empty_table_has_no_entries(each: bool) -> None:
    empty = held(text_table([], ("key", "dataset")), each)
    assert len(empty.first_keys) == 0
    assert empty.facts.prefix_depths == ()
    assert not empty.facts.several


def test_the_digest_knows_the_content_and_not_how_it_is_written() -> None:
    table = text_table(ROWS)
    chunked = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    encoded = table.set_column(1, "dataset", table["dataset"].dictionary_encode())
    wide = table.set_column(0, "key", table["key"].cast(pa.large_string()))
    more = table.append_column("size", pa.array([1] * len(ROWS)))
    alike = {held(each).facts.digest for each in (table, chunked, encoded, wide, more)}
    assert len(alike) == 1
    others = {
        held(text_table([*ROWS[:1], *rest])).facts.digest
        for rest in ([], [("c", "1", "x")], [("bc", "1", "x")], [("b", "c1", "x")], ROWS[1:2])
    }
    assert len(others | alike) == 6


def test_where_a_text_ends_is_part_of_the_digest() -> None:
    digests = {
        held(text_table(rows)).facts.digest
        for rows in (
            [("a", "b", "c")],
            [("a", "b", None)],
            [("ab", "c", None)],
            [("a", "bc", None)],
            [("a", "b", "cc")],
        )
    }
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"dataset": ["a"]}, "no column `key`"),
        ({"key": ["a"]}, "no column `dataset`"),
        ({"key": ["a"], "dataset": [123]}, "`dataset` is of type int64, not text"),
        ({"key": ["a", None], "dataset": ["b", "c"]}, "row 2 the key is empty"),
        ({"key": ["a", "b"], "dataset": ["b", ""]}, "row 2 the dataset is empty"),
        ({"key": ["a"], "dataset": ["b\tc"]}, "row 1 the dataset holds a control character"),
        ({"key": ["a"], "dataset": ["b"], "path": ["x\n"]}, "row 1 the path holds a control character"),
    ],
)
def test_a_bad_table_names_the_setting_and_an_example(columns: dict[str, list[object]], problem: str) -> None:
    with pytest.raises(SettingsError, match=rf"S3LOGX_DATASET_MAPPING.*{problem}.*such as blobs/"):
        checked_entries(pa.table(columns))


def test_rows_are_numbered_from_the_start_of_the_table() -> None:
    with pytest.raises(SettingsError, match="in row 1002 the key is empty"):
        checked_entries(text_table([("a", "b", None), ("", "b", None)]), rows_before=1000)


def test_the_kind_of_a_file_is_that_of_its_ending() -> None:
    names = ["a.parquet", "b.CSV", "c.csv.gz", "d.Json.GZ", "e.parquet.json"]
    assert [file_kind(name) for name in names] == ["parquet", "csv", "csv", "json", "json"]
    with pytest.raises(SettingsError, match=r"'a.parquet.gz' must end in .parquet, .csv, .csv.gz, .json, .json.gz"):
        file_kind("a.parquet.gz")
