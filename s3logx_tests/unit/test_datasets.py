"""Dataset rules: known keys, and settings that are refused with a hint."""

import pyarrow as pa
import pytest

from s3logx_assets.core import datasets
from s3logx_assets.core.datasets import DatasetRule, LevelRule, RegexRule
from s3logx_assets.core.errors import SettingsError
from s3logx_tests.mappings import mapping_rule

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
    [only] = all_assigned(rule, key)
    return only


def all_assigned(rule: DatasetRule, key: str) -> list[tuple[str, str]]:
    """The datasets of one key, in order."""
    found = rule.assign(pa.array([key]))
    assert found.dataset.type == found.path.type == pa.string()
    assert found.key.tolist() == [0] * len(found.path)
    return list(zip(found.dataset.to_pylist(), found.path.to_pylist(), strict=True))


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
    assert assigned(mapping_rule(MAPPING), key) == (dataset, path)


def test_a_mapping_takes_any_number_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = pa.array(["plain/a", "x%", "", "zarr/78/%2520", "plain/%252Fb", "my%20file.txt", "2"])
    for keys_at_once in (100, 2):
        monkeypatch.setattr(datasets, "_KEYS_AT_ONCE", keys_at_once)
        found = mapping_rule(MAPPING).assign(keys)
        assert found.path.to_pylist() == ["a", "x%", "", "78/%2520", "%252Fb", "my%20file.txt", "2"]
        assert found.key.tolist() == list(range(7))


def test_a_mapping_keeps_zarr_members_apart_if_told_so() -> None:
    rule = mapping_rule(MAPPING, collapse_zarr=False)
    assert assigned(rule, "zarr/77/0%2520/1") == ("000200", "sub-1/image.zarr/0%2520/1")


def test_a_mapping_may_be_empty_and_without_paths() -> None:
    empty = pa.table({"key": pa.array([], pa.string()), "dataset": pa.array([], pa.string())})
    assert assigned(mapping_rule(empty), "a/b") == ("unassociated", "a/b")


@pytest.mark.parametrize("rule", [LevelRule(), RegexRule("(?P<dataset>a)(?P<asset>b)"), mapping_rule(MAPPING)])
def test_no_keys_give_no_assignments(rule: DatasetRule) -> None:
    found = rule.assign(pa.array([], pa.string()))
    assert len(found.key) == len(found.dataset) == len(found.path) == 0


def test_every_rule_has_a_digest_of_its_own() -> None:
    table = pa.table(MAPPING)
    other_path = table.set_column(2, "path", pa.array([None] * 8, pa.string()))
    rules: list[DatasetRule] = [
        LevelRule(1),
        LevelRule(2),
        LevelRule(1, collapse_zarr=False),
        RegexRule("(?P<dataset>a)(?P<asset>b)"),
        RegexRule("(?P<dataset>a)(?P<asset>c)"),
        mapping_rule(table),
        mapping_rule(table, each=True),
        mapping_rule(table, collapse_zarr=False),
        mapping_rule(other_path),
        mapping_rule(table.slice(1)),
    ]
    assert len({rule.digest for rule in rules}) == len(rules)


SHARED = {
    "key": ["b", "z/", "b", "a", "b", "b", "z/", "c", "b", "z/x"],
    "dataset": ["2", "5", "1", "1", "2", "1", "4", "3", "3", "6"],
    "path": ["first", "zarr/", None, "p", "second", "late", None, "q", "first", "own"],
}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("b", [("2", "first"), ("1", "b"), ("3", "first")]),
        ("z/0%2520", [("5", "zarr/0%2520"), ("4", "0%2520")]),
        ("z/", [("5", "zarr"), ("4", "z/")]),
        ("z/x", [("6", "own")]),
        ("a", [("1", "p")]),
        ("d", [("unassociated", "d")]),
    ],
)
def test_a_key_belongs_to_each_of_its_datasets_once_if_told_so(key: str, expected: list[tuple[str, str]]) -> None:
    assert all_assigned(mapping_rule(SHARED, each=True), key) == expected
    assert all_assigned(mapping_rule(SHARED), key) == expected[:1]


def test_keys_with_several_datasets_and_with_none_stay_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = pa.array(["b", "a", "?", "z/1", "c", "b%"])
    for keys_at_once in (100, 2):
        monkeypatch.setattr(datasets, "_KEYS_AT_ONCE", keys_at_once)
        found = mapping_rule(SHARED, each=True).assign(keys)
        assert found.key.tolist() == [0, 0, 0, 1, 2, 3, 3, 4, 5]
        assert found.starts.tolist() == [0, 3, 4, 5, 7, 8]
        assert found.is_first.tolist() == [True, False, False, True, True, True, False, True, True]
        assert found.dataset.to_pylist() == ["2", "1", "3", "1", "unassociated", "5", "4", "3", "unassociated"]


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
