"""Asset types: known paths, the longest suffix, and settings that are refused with an example."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from s3logx_assets.core.asset_types import DEFAULT, MAX_TYPES, OTHER, AssetTypes, asset_types, parse_asset_types
from s3logx_assets.core.errors import SettingsError
from s3logx_assets.resources import Rules
from s3logx_assets.settings import Settings

REQUIRED = {"DAGSTER_HOME": "/srv/dagster", "S3LOGX_LOGS": "/srv/logs", "S3LOGX_FIRST_DATE": "2020-01-01"}
EXAMPLE = "it must be names with their suffixes, such as"


def types_of(types: AssetTypes, *paths: str) -> list[str]:
    return [types.names[place] for place in types.classify(pa.array(paths, pa.string()))]


def rules(setting: str) -> Rules:
    return Rules(Settings.read(REQUIRED | {"S3LOGX_ASSET_TYPES": setting}))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("sub-01/sub-01_ecephys.nwb", "Neurophysiology"),
        ("sub-01/eeg/sub-01_task-rest_eeg.EDF", "Neurophysiology"),
        ("sub-01/x.nwb.zarr", "Neurophysiology"),
        ("sub-01/x.zarr", "Microscopy"),
        ("sub-01/x.ome.zarr", "Microscopy"),
        ("sub-01/anat/sub-01_T1w.nii.gz", "Microscopy"),
        ("a.OME.TIFF", "Microscopy"),
        ("camera 1.mp4", "Video"),
        (".mp4", "Video"),
        ("a.mp4.txt", OTHER),
        ("mp4", OTHER),
        ("a.gz", OTHER),
        ("dataset_description.json", OTHER),
        ("", OTHER),
    ],
)
def test_the_default_types(path: str, expected: str) -> None:
    assert types_of(DEFAULT, path) == [expected]


def test_the_names_are_in_the_order_of_the_setting_and_the_rest_comes_last() -> None:
    assert DEFAULT.names == ("Neurophysiology", "Microscopy", "Video", "Miscellaneous")
    assert parse_asset_types("b=.b;a=.a").names == ("b", "a", OTHER)


@pytest.mark.parametrize(
    "setting",
    [
        "Zipped=.gz;Volumes=.nii.gz;Tables=.tsv.gz,.tsv",
        "Tables=.tsv,.tsv.gz;Volumes=.nii.gz;Zipped=.gz",
        " Volumes = .NII.gz ; Zipped=.Gz;Tables=.tsv , .tsv.GZ;;",
    ],
)
def test_the_longest_suffix_wins_in_any_order_and_case(setting: str) -> None:
    paths = ["a.gz", "a.nii.gz", "A.NII.GZ", "x/a.tsv.gz", "a.tsv", "anii.gz", "a.nii"]
    expected = ["Zipped", "Volumes", "Volumes", "Tables", "Tables", "Zipped", OTHER]
    assert types_of(parse_asset_types(setting), *paths) == expected


def test_no_paths_have_no_types() -> None:
    assert DEFAULT.classify(pa.array([], pa.string())).tolist() == []


def test_text_json_and_mapping_say_the_same() -> None:
    own = {"Video": [".mp4", ".avi"], "Tables": [".tsv"]}
    types = asset_types(own)
    assert parse_asset_types("Video=.mp4,.avi;Tables=.tsv") == types == parse_asset_types(f" {json.dumps(own)}\n")
    assert types.suffixes == (("Video", (".avi", ".mp4")), ("Tables", (".tsv",)))


def test_the_digest_tells_types_apart_and_not_their_writing() -> None:
    texts = ["a=.x,.y", "a=.x", "a=.x;b=.y", "b=.y;a=.x", "b=.x", "a=.xx"]
    assert len({parse_asset_types(text).digest for text in texts}) == len(texts)
    assert parse_asset_types("a=.x,.y").digest == parse_asset_types(" a = .Y, .x,.x;").digest


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("=.mp4", "the name '' is not legal"),
        ("_x=.mp4", "the name '_x' is not legal"),
        ("Miscellaneous=.mp4", "the name 'Miscellaneous' is not legal"),
        ("week_start=.mp4", "the name 'week_start' is not legal"),
        ("a\tb=.mp4", r"the name 'a\\tb' is not legal"),
        (f"{'x' * 61}=.mp4", "is not legal"),
        ("Video=mp4", "a suffix of 'Video' is not legal"),
        ("Video=", "a suffix of 'Video' is not legal"),
        ("Video=.", "a suffix of 'Video' is not legal"),
        ("Video=.mp4,,.avi", "a suffix of 'Video' is not legal"),
        ("Video=.mp 4", "a suffix of 'Video' is not legal"),
        ("Video=.é", "a suffix of 'Video' is not legal"),
        ("Video=.mp4;Films=.avi,.MP4", "the suffix '.mp4' belongs to two types"),
        ("Video=.mp4;Video=.avi", "its name comes twice"),
        ("Video=.mp4;Films", "'Films' has no `=`"),
        (";".join(f"t{number}=.s{number}" for number in range(MAX_TYPES + 1)), "there are 51 types"),
        ("{}", "there are 0 types"),
        ('{"Video": [".mp4"]', "the JSON is not valid"),
        ('{"Video": ".mp4"}', "not an object of lists"),
        ('{"Video": [4]}', "a suffix of 'Video' is not legal"),
        ('{"Video": []}', "a suffix of 'Video' is not legal"),
    ],
)
def test_a_bad_setting_is_refused_at_once_with_an_example(setting: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=f"S3LOGX_ASSET_TYPES.*{problem}.*{EXAMPLE} `Video=.mp4,.avi"):
        rules(setting)


def test_without_the_setting_the_types_are_the_default() -> None:
    assert rules("").asset_types is DEFAULT


def test_the_setting_is_text_or_the_path_of_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "types.json"
    path.write_text('\ufeff{"Video": [".mp4"]}\n', "utf-8")
    expected = asset_types({"Video": [".mp4"]})
    for setting in ("Video=.mp4", '{"Video": [".mp4"]}', str(path)):
        assert rules(setting).asset_types == expected


@pytest.mark.parametrize("content", [None, b"", b"bm90IGEga2V5IGF0IGFsbA==\n", b"\xff\xfe", b'["Video"]'])
def test_a_file_of_something_else_is_refused_and_not_quoted(tmp_path: Path, content: bytes | None) -> None:
    """The path may be that of any file, such as the one with the key."""
    path = tmp_path / "types.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=f"S3LOGX_ASSET_TYPES='{path}' is not a JSON file; {EXAMPLE}") as refusal:
        rules(str(path))
    assert "bm90" not in str(refusal.value)
