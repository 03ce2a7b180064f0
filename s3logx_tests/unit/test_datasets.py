"""Dataset rules: known keys, and settings that are refused with a hint."""

import pyarrow as pa
import pytest

from s3logx_assets.core import datasets
from s3logx_assets.core.datasets import (
    DatasetRule,
    LevelRule,
    MappingRule,
    RegexRule,
    parse_mapping,
)
from s3logx_assets.core.errors import SettingsError

MAPPING = {
    "key": [
        "blobs/0a1/0a1b2c",
        "zarr/77/",
        "zarr/",
        "plain/",
        "zarr/77/special.json",
        "my file.txt",
        "a/b/",
        "blobs/0a1/0a1b2c",
    ],
    "dataset": ["000123", "000200", "zarrs", "ds/x", "000201", "000300", "deep", "second"],
    "path": [
        "sub-1/session.nwb",
        "sub-1/image.zarr/",
        None,
        "",
        "special.json",
        None,
        None,
        "never",
    ],
}


def assigned(rule: DatasetRule, key: str) -> tuple[str, str]:
    dataset, path = rule.assign(pa.array([key]))
    assert dataset.type == path.type == pa.string()
    [dataset], [path] = dataset.to_pylist(), path.to_pylist()
    return dataset, path


@pytest.mark.parametrize(
    ("level", "key", "dataset", "path"),
    [
        (1, "ds1/sub-01/a.nii.gz", "ds1", "sub-01/a.nii.gz"),
        (1, "ds1//a", "ds1", "/a"),
        (1, "ds%2520x/a%2520b", "ds%2520x", "a%2520b"),
        (1, "robots.txt", "unassociated", "robots.txt"),
        (1, "ds1/", "unassociated", "ds1/"),
        (1, "/ds1/a", "unassociated", "/ds1/a"),
        (1, "-", "unassociated", "-"),
        (1, "archive/a", "archive", "a"),
        (2, "a/b/c/d", "a/b", "c/d"),
        (2, "a/b", "unassociated", "a/b"),
        (2, "a//b/c", "unassociated", "a//b/c"),
        (3, "ü/é/ñ/ø", "ü/é/ñ", "ø"),
    ],
)
def test_the_first_path_parts_are_the_dataset(level: int, key: str, dataset: str, path: str) -> None:
    assert assigned(LevelRule(level), key) == (dataset, path)


@pytest.mark.parametrize(
    ("key", "path", "whole"),
    [
        ("ds1/x.zarr/0/0/1", "x.zarr", "x.zarr/0/0/1"),
        ("ds1/s/x.ome.zarr/.zattrs", "s/x.ome.zarr", "s/x.ome.zarr/.zattrs"),
        ("ds1/x.zarr/y.zarr/0", "x.zarr", "x.zarr/y.zarr/0"),
        ("ds1/x.zarr", "x.zarr", "x.zarr"),
        ("ds1/x.zarr.zip/0", "x.zarr.zip/0", "x.zarr.zip/0"),
        ("ds1/x.zarr/", "x.zarr", "x.zarr/"),
    ],
)
def test_members_of_a_zarr_store_collapse_to_it(key: str, path: str, whole: str) -> None:
    assert assigned(LevelRule(), key) == ("ds1", path)
    assert assigned(LevelRule(collapse_zarr=False), key) == ("ds1", whole)


def test_unassociated_zarr_members_collapse_too() -> None:
    assert assigned(LevelRule(3), "a/x.zarr/0") == ("unassociated", "a/x.zarr")


@pytest.mark.parametrize(
    ("key", "dataset", "path"),
    [
        ("ds000117/sub-1/a", "ds000117", "sub-1/a"),
        ("ds000117/", "unassociated", "ds000117/"),
        ("x/ds000117/a", "unassociated", "x/ds000117/a"),
        ("DS000117/a", "unassociated", "DS000117/a"),
    ],
)
def test_a_regular_expression_matches_from_the_start(key: str, dataset: str, path: str) -> None:
    rule = RegexRule("(?P<dataset>ds[0-9]+)/(?P<asset>.*)")
    assert assigned(rule, key) == (dataset, path)


def test_a_regular_expression_may_hold_alternatives_and_end_early() -> None:
    rule = RegexRule("(?P<asset>robots.txt)|(?P<dataset>[a-z]+)-(?P<rest>[0-9]+)")
    assert assigned(rule, "robots.txt") == ("unassociated", "robots.txt")
    assert assigned(RegexRule("(?P<dataset>.)/(?P<asset>.)"), "a/bcd") == ("a", "b")


@pytest.mark.parametrize(
    ("key", "dataset", "path"),
    [
        ("blobs/0a1/0a1b2c", "000123", "sub-1/session.nwb"),
        ("blobs/0a1/0a1b2c/x", "unassociated", "blobs/0a1/0a1b2c/x"),
        ("zarr/77/0/0/1", "000200", "sub-1/image.zarr"),
        ("zarr/77/", "000200", "sub-1/image.zarr"),
        ("zarr/77/special.json", "000201", "special.json"),
        ("zarr/78/0/0", "zarrs", "78/0/0"),
        ("zarr/", "zarrs", "zarr/"),
        ("zarr", "unassociated", "zarr"),
        ("plain/a/b", "ds/x", "a/b"),
        ("my%2520file.txt", "000300", "my%2520file.txt"),
        ("my%20file.txt", "000300", "my%20file.txt"),
        ("my%252520file.txt", "unassociated", "my%252520file.txt"),
        ("plain%252Fa%2520b/c", "ds/x", "a%2520b/c"),
        ("zarr/7%37/%2e%2fx%zz%4", "000200", "sub-1/image.zarr"),
        ("a/b/c", "deep", "c"),
        ("a//b/c", "unassociated", "a//b/c"),
    ],
)
def test_a_mapping_is_matched_against_the_key_decoded_twice(key: str, dataset: str, path: str) -> None:
    assert assigned(parse_mapping(pa.table(MAPPING)), key) == (dataset, path)


def test_a_mapping_takes_any_number_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = pa.array(["plain/a", "x%", "", "zarr/78/%2520", "plain/%252Fb", "my%20file.txt", "2"])
    at_once = parse_mapping(pa.table(MAPPING)).assign(keys)
    monkeypatch.setattr(datasets, "_KEYS_AT_ONCE", 2)
    assert parse_mapping(pa.table(MAPPING)).assign(keys) == at_once
    paths = ["a", "x%", "", "78/%2520", "%252Fb", "my%20file.txt", "2"]
    assert at_once[1].to_pylist() == paths


def test_a_mapping_keeps_zarr_members_apart_if_told_so() -> None:
    rule = parse_mapping(pa.table(MAPPING), collapse_zarr=False)
    assert assigned(rule, "zarr/77/0%2520/1") == ("000200", "sub-1/image.zarr/0%2520/1")


def test_a_mapping_may_be_empty_and_without_paths() -> None:
    empty = pa.table({"key": pa.array([], pa.string()), "dataset": pa.array([], pa.string())})
    assert assigned(parse_mapping(empty), "a/b") == ("unassociated", "a/b")


@pytest.mark.parametrize(
    "rule", [LevelRule(), RegexRule("(?P<dataset>a)(?P<asset>b)"), parse_mapping(pa.table(MAPPING))]
)
def test_no_keys_give_no_assignments(rule: DatasetRule) -> None:
    dataset, path = rule.assign(pa.array([], pa.string()))
    assert len(dataset) == len(path) == 0


def test_every_rule_has_a_digest_of_its_own() -> None:
    table = pa.table(MAPPING)
    other_path = table.set_column(2, "path", pa.array([None] * 8, pa.string()))
    rules: list[DatasetRule] = [
        LevelRule(1),
        LevelRule(2),
        LevelRule(1, collapse_zarr=False),
        RegexRule("(?P<dataset>a)(?P<asset>b)"),
        RegexRule("(?P<dataset>a)(?P<asset>c)"),
        parse_mapping(table),
        parse_mapping(table, collapse_zarr=False),
        parse_mapping(other_path),
        parse_mapping(table.slice(1)),
    ]
    assert len({rule.digest for rule in rules}) == len(rules)


def test_a_mapping_digest_does_not_depend_on_the_order_of_its_rows_or_their_encoding() -> None:
    table = pa.table(MAPPING).slice(0, 7)
    backwards = table.take(pa.array(range(6, -1, -1)))
    encoded = table.set_column(1, "dataset", table["dataset"].dictionary_encode())
    digests = {parse_mapping(each).digest for each in (table, backwards, encoded)}
    assert len(digests) == 1


@pytest.mark.parametrize("level", [0, -1, 101])
def test_a_bad_level_names_the_setting_and_an_example(level: int) -> None:
    with pytest.raises(SettingsError, match=rf"S3LOGX_DATASET_LEVEL is {level};.*such as 1"):
        LevelRule(level)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(?P<dataset>a", "not valid"),
        ("(?P<dataset>a)/b", "no group `asset`"),
        ("(?P<asset>a)/b", "no group `dataset`"),
        ("(a)(?P<dataset>a)(?P<asset>b)", "unnamed"),
        ("(?P<dataset>a)(?=b)(?P<asset>b)", "not valid"),
    ],
)
def test_a_bad_regex_names_the_setting_and_an_example(pattern: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=rf"S3LOGX_DATASET_REGEX.*{problem}.*such as \(\?P<"):
        RegexRule(pattern)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"dataset": ["a"]}, "no column `key`"),
        ({"key": ["a"]}, "no column `dataset`"),
        ({"key": ["a"], "dataset": [123]}, "`dataset` is of type int64, not text"),
        ({"key": ["a", None], "dataset": ["b", "c"]}, "row 2 the key is empty"),
        ({"key": ["a", "b"], "dataset": ["b", ""]}, "row 2 the dataset is empty"),
        ({"key": ["a"], "dataset": ["b\tc"]}, "row 1 the dataset holds a control character"),
        (
            {"key": ["a"], "dataset": ["b"], "path": ["x\n"]},
            "row 1 the path holds a control character",
        ),
    ],
)
def test_a_bad_mapping_names_the_setting_and_an_example(columns: dict[str, list[object]], problem: str) -> None:
    with pytest.raises(SettingsError, match=rf"S3LOGX_DATASET_MAPPING.*{problem}.*such as blobs/"):
        parse_mapping(pa.table(columns))


def test_a_mapping_sorted_by_key_is_taken_over_as_it_is() -> None:
    table = pa.table({"key": ["a", "b/", "c"], "dataset": ["x", "y", "z"]})
    rule = parse_mapping(table)
    assert isinstance(rule, MappingRule)
    assert rule.entries["key"].to_pylist() == [b"a", b"b/", b"c"]
    assert rule.prefix_depths == (1,)
