"""What an S3 Inventory says: manifests in all three formats, broken ones, and which rows are log objects."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s3logx_assets.core.errors import InventoryError
from s3logx_assets.core.inventory import (
    LOG_ROWS,
    Manifest,
    ManifestFile,
    column_name,
    decoded,
    log_rows,
    parse_manifest,
    snapshot_names,
    summary_of,
    verify_checksum,
)
from s3logx_assets.core.ledger import LogObject, listing_digest
from s3logx_assets.core.log_names import log_date
from s3logx_tests.inventories import BUCKET, FORMATS, columns_of, manifest_of, schema_text

NAME = "2025-03-01-00-15-22-0123456789ABCDEF"
MD5 = "0123456789abcdef0123456789ABCDEF"
FILE = {"key": "inventories/logs-bucket/everything/data/a.csv.gz", "size": 12, "MD5checksum": MD5}

SCHEMAS = {
    "CSV": "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass,"
    "IsMultipartUploaded, ObjectLockRetainUntilDate",
    "ORC": "struct<bucket:string,key:string,version_id:string,is_latest:boolean,is_delete_marker:boolean,size:bigint,"
    "last_modified_date:timestamp,e_tag:string,storage_class:string,is_multipart_uploaded:boolean,"
    "object_lock_retain_until_date:timestamp>",
    # Amazon has written this one in two ways.
    "Parquet": "message s3.inventory {  required binary bucket (STRING);  required binary key (UTF8);  optional binary"
    " version_id (STRING);  optional boolean is_latest;  optional boolean is_delete_marker;  optional int64 size;  "
    "optional int64 last_modified_date (TIMESTAMP(MILLIS,true));  optional binary e_tag (STRING);  optional binary "
    "storage_class (STRING);\n  optional boolean is_multipart_uploaded; optional int64 object_lock_retain_until_date "
    "(TIMESTAMP_MILLIS);}",
}


def as_bytes(told: object) -> bytes:
    return json.dumps(told).encode()


def changed(**fields: Any) -> dict[str, Any]:
    return manifest_of(files=[FILE]) | fields


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in changed().items() if name != field}


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_manifest_of_every_format_names_the_same_columns(file_format: str) -> None:
    told = changed(fileFormat=file_format, fileSchema=SCHEMAS[file_format])
    assert parse_manifest(as_bytes(told)) == Manifest(
        "logs-bucket",
        "inventory-bucket",
        datetime(2025, 3, 9, 1, 0, tzinfo=UTC),
        file_format,  # type: ignore[arg-type]
        (
            "bucket",
            "key",
            "version_id",
            "is_latest",
            "is_delete_marker",
            "size",
            "last_modified_date",
            "e_tag",
            "storage_class",
            "is_multipart_uploaded",
            "object_lock_retain_until_date",
        ),
        (ManifestFile(str(FILE["key"]), 12, MD5.lower()),),
    )


@pytest.mark.parametrize("arn", ["arn:aws:s3:::there", "arn:aws-cn:s3:::there", "there"])
def test_the_destination_is_an_arn_s_last_part(arn: str) -> None:
    assert parse_manifest(as_bytes(changed(destinationBucket=arn))).destination_bucket == "there"


def test_a_snapshot_may_have_no_files() -> None:
    assert parse_manifest(as_bytes(changed(files=[]))).files == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe{", "not valid JSON"),
        (as_bytes(changed())[:-9], "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "not a JSON object"),
        (as_bytes(without("version")), "version is not 2016-11-30"),
        (as_bytes(changed(version="2031-01-01")), "version is not 2016-11-30"),
        (as_bytes(changed(fileFormat="Avro")), "fileFormat is none of CSV, ORC, Parquet"),
        (as_bytes(changed(fileFormat=["CSV"])), "fileFormat"),
        (as_bytes(without("sourceBucket")), "sourceBucket is missing"),
        (as_bytes(changed(destinationBucket="")), "destinationBucket is missing"),
        (as_bytes(without("creationTimestamp")), "creationTimestamp is not a number"),
        (as_bytes(changed(creationTimestamp=1741482000000)), "creationTimestamp is not a number"),
        (as_bytes(changed(creationTimestamp="yesterday")), "creationTimestamp is not a number"),
        (as_bytes(changed(creationTimestamp="999999999999999")), "creationTimestamp is not a number"),
        (as_bytes(changed(creationTimestamp="-5")), "creationTimestamp is not a number"),
        (as_bytes(changed(fileSchema=None)), "fileSchema is missing"),
        (as_bytes(changed(fileSchema="Bucket, , Key, Size")), "fileSchema is not one of CSV"),
        (as_bytes(changed(fileSchema=SCHEMAS["ORC"])), "fileSchema is not one of CSV"),
        (as_bytes(changed(fileFormat="ORC", fileSchema=SCHEMAS["CSV"])), "fileSchema is not one of ORC"),
        (as_bytes(changed(fileFormat="Parquet", fileSchema=SCHEMAS["ORC"])), "fileSchema is not one of Parquet"),
        (as_bytes(changed(fileFormat="Parquet", fileSchema="message s { key; }")), "fileSchema is not one of Parquet"),
        (as_bytes(changed(fileSchema="Key, Size")), "no column bucket"),
        (as_bytes(changed(fileSchema="Bucket, Size")), "no column key"),
        (as_bytes(changed(fileSchema="Bucket, Key, ETag")), "no column size"),
        (as_bytes(changed(fileSchema="Bucket, Key, Size, Key")), "names a column twice"),
        (as_bytes(without("files")), "files are not a list"),
        (as_bytes(changed(files=FILE)), "files are not a list"),
        (as_bytes(changed(files=[FILE, "a"])), r"files\[1\] of the manifest is not an object"),
        (as_bytes(changed(files=[FILE | {"key": None}])), r"files\[0\].key"),
        (as_bytes(changed(files=[FILE | {"key": ""}])), r"files\[0\].key"),
        (as_bytes(changed(files=[FILE | {"key": "inventories/../../secret"}])), r"files\[0\].key"),
        (as_bytes(changed(files=[FILE | {"size": "12"}])), r"files\[0\].size"),
        (as_bytes(changed(files=[FILE | {"size": -1}])), r"files\[0\].size"),
        (as_bytes(changed(files=[FILE | {"size": True}])), r"files\[0\].size"),
        (as_bytes(changed(files=[FILE, FILE | {"MD5checksum": MD5[1:]}])), r"files\[1\].MD5checksum"),
        (as_bytes(changed(files=[FILE | {"MD5checksum": "g" * 32}])), r"files\[0\].MD5checksum"),
    ],
)
def test_a_malformed_manifest_is_refused_by_the_field(content: bytes, reason: str) -> None:
    with pytest.raises(InventoryError, match=reason):
        parse_manifest(content)


@pytest.mark.parametrize("ending", ["", "\n", " \r\n"])
@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_a_checksum_that_fits_passes(ending: str, spelling: Callable[[str], str]) -> None:
    checksum = spelling(hashlib.md5(b"content", usedforsecurity=False).hexdigest())
    verify_checksum(b"content", (checksum + ending).encode())


@pytest.mark.parametrize("checksum", [b"", MD5.encode(), b"\xff"])
def test_a_checksum_that_does_not_fit_is_refused(checksum: bytes) -> None:
    with pytest.raises(InventoryError, match="checksum"):
        verify_checksum(b"content", checksum)


def test_snapshots_are_told_from_other_folders() -> None:
    folders = ["hive", "data", "2025-03-09T01-00Z", "2024-12-01T00-00Z", "2025-03-09", "2025-03-09T01-00Z.old"]
    assert snapshot_names(folders) == ["2024-12-01T00-00Z", "2025-03-09T01-00Z"]


def test_both_spellings_of_a_column_are_one() -> None:
    for versioned in (True, False):
        columns = columns_of(versioned)
        csv = [column_name(each) for each in schema_text("CSV", columns).split(", ")]
        assert csv == [each.partition(":")[0] for each in schema_text("ORC", columns)[7:-1].split(",")]


def batch_of(*keys: str | None, **columns: list[Any]) -> pa.RecordBatch:
    count = len(keys)
    typed = {"bucket": [BUCKET] * count, "size": list(range(count)), "e_tag": ["tag"] * count} | columns
    arrays = {name: pa.array(values) for name, values in typed.items()}
    return pa.record_batch({"key": pa.array(keys, pa.string()), **arrays})


def names_of(table: pa.Table) -> list[str]:
    names: list[str] = table["name"].to_pylist()
    return names


def test_a_row_is_a_log_with_its_date() -> None:
    modified = pa.array([datetime(2025, 3, 2, 1, 2, 3, 456789, tzinfo=UTC)], pa.timestamp("ns"))
    rows = batch_of(f"logs/{NAME}", e_tag=['"tag-2"'], last_modified_date=modified)
    assert log_rows(rows, BUCKET, "logs/").equals(
        pa.Table.from_pylist(
            [
                {
                    "log_date": date(2025, 3, 1),
                    "name": NAME,
                    "size": 0,
                    "version": "tag-2",
                    "modified": datetime(2025, 3, 2, 1, 2, 3, 456000, tzinfo=UTC),
                }
            ],
            LOG_ROWS,
        )
    )


def test_etag_and_time_may_be_missing() -> None:
    rows = batch_of(NAME, f"a/{NAME}").drop_columns("e_tag")
    [first, _] = log_rows(pa.table(rows), BUCKET, "").to_pylist()
    assert (first["version"], first["modified"]) == ("", None)


def test_a_table_of_no_rows_gives_none() -> None:
    assert log_rows(pa.table(batch_of()), BUCKET, "").equals(LOG_ROWS.empty_table())
    assert log_rows(batch_of(), BUCKET, "").equals(LOG_ROWS.empty_table())


def test_only_current_versions_count() -> None:
    rows = batch_of(
        *(f"{number}/{NAME}" for number in range(5)),
        size=[1, 2, None, None, 5],
        is_latest=[True, False, True, False, None],
        is_delete_marker=[False, False, True, True, None],
    )
    assert names_of(log_rows(rows, BUCKET, "")) == [f"0/{NAME}", f"4/{NAME}"]


def test_another_bucket_and_missing_keys_do_not_count() -> None:
    rows = batch_of(NAME, f"a/{NAME}", None, bucket=[BUCKET, "another", BUCKET])
    assert names_of(log_rows(rows, BUCKET, "")) == [NAME]


@pytest.mark.parametrize(
    ("prefix", "key", "name"),
    [
        ("logs/", f"logs/{NAME}", NAME),
        ("logs/", f"logs/2025/03/01/{NAME}", f"2025/03/01/{NAME}"),
        ("", f"123456789012/us-east-1/data/2025/03/01/{NAME}", f"123456789012/us-east-1/data/2025/03/01/{NAME}"),
        ("a/", f"a/b/c/d/e/f/g/2025/03/01/{NAME}", f"b/c/d/e/f/g/2025/03/01/{NAME}"),
        ("logs/access-", f"logs/access-{NAME}", NAME),
        ("été/a.b+(", f"été/a.b+({NAME}", NAME),
        ("", f"...a/.b/{NAME}", f"...a/.b/{NAME}"),
        ("logs/", NAME, None),
        ("logs/", f"older-logs/{NAME}", None),
        ("a.b/", f"axb/{NAME}", None),
        ("", f"a/b/c/d/e/f/g/{NAME}", None),
        ("", f"/{NAME}", None),
        ("", f"a//{NAME}", None),
        ("", f"a/../{NAME}", None),
        ("", f"./{NAME}", None),
        ("logs/access-", f"logs/access-x{NAME}", None),
    ],
)
def test_the_place_must_be_one_of_the_layouts(prefix: str, key: str, name: str | None) -> None:
    assert names_of(log_rows(batch_of(key), BUCKET, prefix)) == ([] if name is None else [name])


NAME_PARTS = st.tuples(
    st.sampled_from(["2025", "2024", "2100", "0000", "0001", "9999", "202", "20255", "٢٠٢٥"]),
    st.sampled_from(["-", "-", "-", "/", ""]),
    st.integers(0, 14).map("{:02}".format),
    st.just("-"),
    st.integers(0, 33).map("{:02}".format),
    st.sampled_from(["-00-00-00-", "-23-59-59-", "-24-00-00-", "-00-60-00-", "-1-00-00-", "-"]),
    st.sampled_from(["A", "0123456789ABCDEF", "", "é", "A B", "A-B"]),
    st.sampled_from(["", "", ".gz", ".gz.gz", ".GZ", "\n", " "]),
).map("".join)


@given(
    st.lists(NAME_PARTS | st.text(max_size=30) | st.dates().map(lambda day: f"{day}-12-00-00-ABC")),
    st.sampled_from(["", "logs/", "été/access-", "2025-"]),
)
@example(["2025-02-30-00-00-00-A", "2024-02-29-00-00-00-A", "2025-02-29-00-00-00-A"], "")
@example(["9999-12-31-23-59-59-A", "0001-01-01-00-00-00-A", "0000-12-31-23-59-59-A"], "")
def test_dates_are_those_of_the_names(names: list[str], prefix: str) -> None:
    """Also where folders, in any number up to six, come before the name."""
    places = [f"{'f/' * (number % 7)}{name}" for number, name in enumerate(names) if not set(name) & set("/\0")]
    found = log_rows(batch_of(*(prefix + place for place in places)), BUCKET, prefix).to_pylist()
    expected = [(place, log_date(place.rpartition("/")[2])) for place in places]
    assert [(row["name"], row["log_date"]) for row in found] == [pair for pair in expected if pair[1] is not None]


@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize("prefix", ["", "logs/", "été-"])
def test_many_rows_are_read_as_few(prefix: str, encoded: bool) -> None:
    """Arrow 26 cannot cut the beginnings off more than some texts, unless it is told an end."""
    names = [f"{NAME}{number}" for number in range(5000)]
    rows = batch_of(*(prefix + name for name in names))
    sliced = rows.slice(7, 4000)
    assert names_of(log_rows(rows, BUCKET, prefix, encoded)) == names
    assert log_rows(sliced, BUCKET, prefix, encoded)["size"].to_pylist() == list(range(7, 4007))


@given(st.lists(st.text(max_size=20) | st.text("%+25aé/", max_size=12)), st.integers(0, 3))
@example(["%", "41", "%4", "1", "%zz", "%2", "%%41", "%2541", "+", "%2B", "a%20b+c"], 0)
def test_keys_are_decoded_as_they_were_encoded(texts: list[str], skipped: int) -> None:
    """Whether a blank is `+` or `%20`; what is no escape stays."""
    for encode in (quote_plus, quote, str):
        keys = [encode(text) for text in texts][skipped:]
        array = pa.array([*texts[:skipped], *keys], pa.string())[skipped:]
        try:
            expected = [unquote_plus(key, errors="strict") for key in keys]
        except UnicodeDecodeError:
            with pytest.raises(pa.ArrowInvalid):
                decoded(array)
        else:
            assert decoded(array).to_pylist() == expected


def test_only_encoded_keys_are_decoded() -> None:
    rows = batch_of(f"a+b%20c/{NAME}")
    assert names_of(log_rows(rows, BUCKET, "")) == [f"a+b%20c/{NAME}"]
    assert names_of(log_rows(rows, BUCKET, "", encoded=True)) == [f"a b c/{NAME}"]


def test_a_prefix_is_compared_in_clear() -> None:
    rows = batch_of(f"lögs+%26/{NAME}".replace("ö", "%C3%B6"))
    assert names_of(log_rows(rows, BUCKET, "lögs &/", encoded=True)) == [NAME]


def test_texts_are_read_as_what_they_say() -> None:
    rows = batch_of(
        NAME,
        f"a/{NAME}",
        size=["12", ""],
        is_latest=["true", "true"],
        is_delete_marker=["false", "true"],
        last_modified_date=["2025-03-02T01:02:03.456Z", ""],
    )
    [row] = log_rows(rows, BUCKET, "", encoded=True).to_pylist()
    assert (row["size"], row["modified"]) == (12, datetime(2025, 3, 2, 1, 2, 3, 456000, tzinfo=UTC))


@pytest.mark.parametrize(
    "columns",
    [
        {"size": ["twelve"]},
        {"size": [""]},
        {"is_latest": ["perhaps"]},
        {"is_delete_marker": ["0.5"]},
        {"last_modified_date": ["yesterday"]},
    ],
)
def test_a_value_of_another_type_is_refused_unquoted(columns: dict[str, list[str]]) -> None:
    with pytest.raises(InventoryError) as raised:
        log_rows(batch_of(NAME, **columns), BUCKET, "", encoded=True)
    [[value]] = columns.values()
    assert not value or value not in str(raised.value)


def test_a_key_that_is_not_utf_8_is_refused_or_no_log() -> None:
    with pytest.raises(InventoryError):
        log_rows(batch_of(f"a%FFb/{NAME}"), BUCKET, "", encoded=True)
    key = pa.array([f"a\N{LATIN SMALL LETTER E WITH ACUTE}/{NAME}".encode("latin-1")])
    unchecked = pa.Array.from_buffers(pa.string(), 1, key.buffers())
    assert names_of(log_rows(batch_of(NAME).set_column(0, "key", unchecked), BUCKET, "")) == []


OBJECTS = st.builds(LogObject, st.text(max_size=8), st.integers(0, 2**62), st.text(max_size=4))


@given(st.lists(OBJECTS, max_size=12), st.integers(1, 5), st.booleans())
def test_the_digest_is_that_of_the_listing(objects: list[LogObject], per_chunk: int, in_order: bool) -> None:
    if in_order:
        objects.sort()
    rows = [
        {"log_date": date(2025, 3, 1), "name": each.name, "size": each.size, "version": each.version}
        for each in objects
    ]
    pieces = [rows[at : at + per_chunk] for at in range(0, len(rows), per_chunk)]
    table = pa.concat_tables([LOG_ROWS.empty_table(), *(pa.Table.from_pylist(each, LOG_ROWS) for each in pieces)])
    total = sum(each.size for each in objects)
    if total < 2**63:
        assert summary_of(table) == (len(objects), total, listing_digest(objects))
