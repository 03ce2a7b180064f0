"""What an Amazon S3 Inventory says: its manifest, and which of its rows are log objects, of which date. How its files are
fetched and opened does not belong here.

Facts: Amazon S3 User Guide, "Inventory manifest", "Amazon S3 Inventory list" and "Locating your inventory list". Columns
go by one spelling, that of ORC and Parquet (`last_modified_date`), also where the manifest has `LastModifiedDate`.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.core.errors import InventoryError
from s3logx_assets.core.log_names import DEEPEST_ROOT, PATTERN

FileFormat = Literal["CSV", "ORC", "Parquet"]

# The columns that rows of log objects are made from; others need not be read.
USED_COLUMNS = ("bucket", "key", "size", "is_latest", "is_delete_marker", "last_modified_date", "e_tag")
NEEDED_COLUMNS = USED_COLUMNS[:3]

# `name` is the path within the source, `version` the ETag, or empty where the inventory has none.
LOG_ROWS = pa.schema(
    [
        pa.field("log_date", pa.date32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("modified", pa.timestamp("ms", "UTC")),
    ]
)

# What a snapshot has of each log date: `digest` is that of `ledger.listing_digest`, and where its rows are in the file of
# log objects.
DATES = pa.schema(
    [
        pa.field("log_date", pa.date32(), nullable=False),
        pa.field("files", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("first_group", pa.int64(), nullable=False),
        pa.field("groups", pa.int64(), nullable=False),
    ]
)

_VERSION = "2016-11-30"
_MD5 = re.compile(r"[0-9a-f]{32}", re.IGNORECASE | re.ASCII)
_SNAPSHOT = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\dZ", re.ASCII)
_COLUMN = re.compile(r"\w+", re.ASCII)
_STRUCT = re.compile(r"struct<(.*)>", re.DOTALL)
_MESSAGE = re.compile(r"message\s+[\w.]+\s*\{(.*)\}", re.DOTALL)
_MESSAGE_FIELD = re.compile(r"(?:required|optional)\s+\w+\s+(\w+)(?:\s*\(.*\))?", re.DOTALL)
_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")

# In RE2's words, for Arrow. A folder is named, and not `.` or `..`: those could lead out of a local copy.
_FOLDER = r"(?:[^/.][^/]*|\.[^/.][^/]*|\.\.[^/]+)/"
_PLACE = rf"(?:{_FOLDER}){{0,{DEEPEST_ROOT}}}(?:\d{{4}}/\d\d/\d\d/)?"
# Where the digits of year, month and day are in a name, and in the date folder before it.
_DATE_DIGITS = np.array([0, 1, 2, 3, 5, 6, 8, 9])
_FOLDER_LENGTH = len("YYYY/MM/DD/")

_ANY_LENGTH = 1 << 30
# A snapshot can take so long to make; a file that came meanwhile may or may not be in it.
_DELIVERY = timedelta(days=2)

_HEX = np.full(256, 255, np.uint8)
for _digit in b"0123456789abcdefABCDEF":
    _HEX[_digit] = int(chr(_digit), 16)

_Bytes = npt.NDArray[np.uint8]
_Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A data file: its key in the destination bucket, and what it must be. `md5` is in lower-case hexadecimal."""

    key: str
    size: int
    md5: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot consists of."""

    source_bucket: str
    destination_bucket: str
    created: datetime
    file_format: FileFormat
    columns: tuple[str, ...]
    files: tuple[ManifestFile, ...]


def parse_manifest(content: bytes) -> Manifest:
    """A manifest.json. Raises InventoryError."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        raise InventoryError("the manifest is not valid JSON") from None
    if not isinstance(told, dict):
        raise InventoryError("the manifest is not a JSON object")
    if told.get("version") != _VERSION:
        raise InventoryError(f"the manifest's version is not {_VERSION}")
    file_format = _file_format(told.get("fileFormat"))
    files = told.get("files")
    if not isinstance(files, list):
        raise InventoryError("the manifest's files are not a list")
    return Manifest(
        _text(told, "sourceBucket"),
        _text(told, "destinationBucket").rpartition(":")[2],  # an ARN, whose last part it is
        _created(told.get("creationTimestamp")),
        file_format,
        _columns(file_format, _text(told, "fileSchema")),
        tuple(_file(number, each) for number, each in enumerate(files)),
    )


def verify_checksum(manifest: bytes, checksum: bytes) -> None:
    """Raises InventoryError if `checksum`, the content of manifest.checksum, is not that of the manifest."""
    actual = hashlib.md5(manifest, usedforsecurity=False).hexdigest()
    if checksum.strip().lower() != actual.encode():
        raise InventoryError("the manifest does not fit its checksum")


def snapshot_names(folders: Iterable[str]) -> list[str]:
    """Those of an inventory's folders that are snapshots (`2025-03-01T01-00Z`), ascending."""
    return sorted(name for name in folders if _SNAPSHOT.fullmatch(name))


def column_name(name: str) -> str:
    """The one spelling of a column."""
    return _WORD_START.sub("_", name).lower() if name[:1].isupper() else name


def log_rows(rows: pa.RecordBatch | pa.Table, bucket: str, prefix: str, encoded: bool = False) -> pa.Table:
    """The log objects among an inventory's rows, as LOG_ROWS: current versions in `bucket` whose keys are those of logs in
    any of the layouts below `prefix`. Columns may be texts, as in CSV, where keys are `encoded`. Raises InventoryError."""
    batches = [rows] if isinstance(rows, pa.RecordBatch) else rows.to_batches()
    try:
        tables = [_log_rows(batch, bucket, prefix, encoded) for batch in batches]
    except pa.ArrowException as error:
        raise InventoryError(f"a value that is not of its column's type ({type(error).__name__})") from None
    return pa.concat_tables(tables) if tables else LOG_ROWS.empty_table()


def decoded(keys: pa.Array) -> pa.Array:
    """URL-encoded keys in clear, a blank being `+` or `%20`; what is no escape stays as it is. Raises ArrowInvalid for
    what is not UTF-8 then."""
    data, offsets = _bytes_of(keys)
    percents = np.flatnonzero(data == ord("%"))
    pluses = np.flatnonzero(data == ord("+"))
    if not len(percents) and not len(pluses):
        return keys
    # Where the key ends that a percent sign is in: an escape must not reach into the next one.
    ends = offsets[np.searchsorted(offsets, percents, side="right")]
    percents = percents[percents + 2 < ends]
    high, low = _HEX[data[percents + 1]], _HEX[data[percents + 2]]
    escapes = (high < 16) & (low < 16)
    percents = percents[escapes]
    data = data.copy()
    data[pluses] = ord(" ")
    data[percents] = (high[escapes] << 4) | low[escapes]
    stays = np.ones(len(data), bool)
    stays[percents + 1] = stays[percents + 2] = False
    shorter = offsets - 2 * np.searchsorted(percents, offsets)
    buffers = [None, pa.py_buffer(shorter.astype(np.int32)), pa.py_buffer(data[stays])]
    clear = pa.Array.from_buffers(pa.string(), len(keys), buffers)
    clear.validate(full=True)
    return clear


def summary_of(day_rows: pa.Table) -> tuple[int, int, str]:
    """(files, bytes, digest) of a date's rows: the digest is that of `ledger.listing_digest`."""
    names = day_rows["name"]
    if day_rows.num_rows > 1 and not pc.all(pc.less(names[:-1], names[1:])).as_py():
        day_rows = day_rows.take(
            pc.sort_indices(day_rows, [(name, "ascending") for name in ("name", "size", "version")])
        )
    digest = hashlib.sha256()
    for batch in day_rows.to_batches():
        ends = pc.binary_join_element_wise(batch["version"], "", "\n")
        lines = pc.binary_join_element_wise(batch["name"], batch["size"].cast(pa.string()), ends, "\0")
        digest.update(_bytes_of(lines)[0].data)
    return day_rows.num_rows, pc.sum(day_rows["size"], min_count=0).as_py(), digest.hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class News:
    """How many log objects of a date a snapshot has that were not extracted, or not as they are, and how many that were it
    does not have."""

    new: int
    changed: int
    vanished: int


def news_of(rows: pa.Table, ledger: pa.Table, with_versions: bool, created: datetime) -> News:
    """What a snapshot, `created` then, says of a date (schema LOG_ROWS) that its ledger (schema LEDGER) does not. Versions
    are compared only where both sides have ETags. A file that was delivered since is not missed: its name has the time."""
    listed = {
        name: (size, version)
        for name, size, version in zip(*(rows[name].to_pylist() for name in ("name", "size", "version")), strict=True)
    }
    known = {
        name: (size, version)
        for name, size, version in zip(*(ledger[name].to_pylist() for name in ("name", "size", "version")), strict=True)
    }

    def differs(name: str) -> bool:
        (size, version), (known_size, known_version) = listed[name], known[name]
        return size != known_size or bool(with_versions and version and version != known_version)

    since = f"{created - _DELIVERY:%Y-%m-%d-%H-%M-%S}"
    return News(
        new=len(listed.keys() - known.keys()),
        changed=sum(map(differs, listed.keys() & known.keys())),
        vanished=sum(name.rpartition("/")[2] < since for name in known.keys() - listed.keys()),
    )


def _text(told: dict[str, Any], field: str) -> str:
    value = told.get(field)
    if not isinstance(value, str) or not value:
        raise InventoryError(f"the manifest's {field} is missing or not a text")
    return value


def _file_format(value: object) -> FileFormat:
    for known in get_args(FileFormat):
        if value == known:
            found: FileFormat = known
            return found
    raise InventoryError(f"the manifest's fileFormat is none of {', '.join(get_args(FileFormat))}")


def _created(value: object) -> datetime:
    """Of milliseconds since 1970, as text."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,15}", value, re.ASCII):
        try:
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(value))
        except OverflowError:
            pass
    raise InventoryError("the manifest's creationTimestamp is not a number of milliseconds, as text")


def _file(number: int, told: object) -> ManifestFile:
    if not isinstance(told, dict):
        raise InventoryError(f"files[{number}] of the manifest is not an object")
    key, size, md5 = told.get("key"), told.get("size"), told.get("MD5checksum")
    if not isinstance(key, str) or not key or any(part in (".", "..") for part in key.split("/")):
        raise InventoryError(f"files[{number}].key of the manifest is missing, or no key")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InventoryError(f"files[{number}].size of the manifest is missing, or no size")
    if not isinstance(md5, str) or not _MD5.fullmatch(md5):
        raise InventoryError(f"files[{number}].MD5checksum of the manifest is missing, or no MD5")
    return ManifestFile(key, size, md5.lower())


def _columns(file_format: FileFormat, schema: str) -> tuple[str, ...]:
    """The columns that a fileSchema names, in its order."""
    text = schema.strip()
    names: list[str] | None = None
    match file_format:
        case "CSV":
            names = [each.strip() for each in text.split(",")]
        case "ORC":
            if found := _STRUCT.fullmatch(text):
                names = [each.partition(":")[0].strip() for each in found[1].split(",")]
        case "Parquet":
            if found := _MESSAGE.fullmatch(text):
                fields = [each.strip() for each in found[1].split(";")]
                matches = [_MESSAGE_FIELD.fullmatch(each) for each in fields if each]
                names = [match[1] if match else "" for match in matches]
    if names is None or not all(map(_COLUMN.fullmatch, names)):
        raise InventoryError(f"the manifest's fileSchema is not one of {file_format}")
    columns = tuple(map(column_name, names))
    if len(set(columns)) < len(columns):
        raise InventoryError("the manifest's fileSchema names a column twice")
    for needed in NEEDED_COLUMNS:
        if needed not in columns:
            raise InventoryError(f"the manifest's fileSchema has no column {needed}")
    return columns


def _log_rows(batch: pa.RecordBatch, bucket: str, prefix: str, encoded: bool) -> pa.Table:
    keys = batch["key"].cast(pa.string()).fill_null("")
    if encoded:
        keys = decoded(keys)
    wanted = pc.match_substring_regex(keys, rf"\A{_quoted(prefix)}{_PLACE}{PATTERN}\z")
    wanted = pc.and_(wanted, pc.equal(batch["bucket"].cast(pa.string()), bucket))
    # Versions of objects are told apart only where the inventory has them all.
    if "is_latest" in batch.schema.names:
        wanted = pc.and_(wanted, _nullable(batch["is_latest"]).cast(pa.bool_()).fill_null(True))
    if "is_delete_marker" in batch.schema.names:
        marker = _nullable(batch["is_delete_marker"]).cast(pa.bool_()).fill_null(False)
        wanted = pc.and_(wanted, pc.invert(marker))
    days, real = _dates(keys.filter(wanted), len(prefix.encode()))
    places = np.flatnonzero(wanted.fill_null(False).to_numpy(zero_copy_only=False))[real]
    rows = batch.take(pa.array(places))
    sizes = _nullable(rows["size"]).cast(pa.int64())
    if sizes.null_count:
        raise InventoryError("a current object without a size")
    found = pa.Table.from_arrays(
        [
            pa.array(days[real].astype(np.int32)).cast(pa.date32()),
            _without(keys.take(pa.array(places)), prefix),
            sizes,
            _versions(rows),
            _modified(rows),
        ],
        schema=LOG_ROWS,
    )
    found.validate(full=True)  # not every reader looks whether text is UTF-8
    return found


def _quoted(text: str) -> str:
    """A text as a pattern that matches just that."""
    return "".join(each if each.isascii() and each.isalnum() else rf"\x{{{ord(each):x}}}" for each in text)


def _without(keys: pa.Array, prefix: str) -> pa.Array:
    if not prefix:
        return keys
    # With an end: without one Arrow 26 fails (https://github.com/apache/arrow/issues/51222).
    return pc.binary_slice(keys.cast(pa.binary()), len(prefix.encode()), _ANY_LENGTH).cast(pa.string())


def _nullable(values: pa.Array) -> pa.Array:
    """Values as they are, or texts, of which an empty one is none."""
    if not pa.types.is_string(values.type):
        return values
    return pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)


def _versions(rows: pa.RecordBatch) -> pa.Array:
    if "e_tag" not in rows.schema.names:
        return pa.array([""] * rows.num_rows, pa.string())
    return pc.utf8_trim(rows["e_tag"].cast(pa.string()).fill_null(""), '"')


def _modified(rows: pa.RecordBatch) -> pa.Array:
    if "last_modified_date" not in rows.schema.names:
        return pa.nulls(rows.num_rows, LOG_ROWS.field("modified").type)
    # Cut to milliseconds, of which a number is one of; a time without a zone is in UTC.
    return _nullable(rows["last_modified_date"]).cast(LOG_ROWS.field("modified").type, safe=False)


def _dates(keys: pa.Array, prefix_length: int) -> tuple[_Numbers, npt.NDArray[np.bool_]]:
    """The days since 1970 of keys that end like log names, and which of them are dates whose listing has them."""
    data, offsets = _bytes_of(keys)
    # A prefix may end within the last part.
    starts, ends = offsets[:-1] + prefix_length, offsets[1:]
    slashes = np.concatenate([[-1], np.flatnonzero(data == ord("/"))])
    starts = np.maximum(starts, slashes[np.searchsorted(slashes, ends) - 1] + 1)
    days, real = _days(data[starts[:, None] + _DATE_DIGITS])
    return days, real & ~_strays(data, offsets[:-1] + prefix_length, starts, days)


def _strays(data: _Bytes, beginnings: _Numbers, starts: _Numbers, days: _Numbers) -> npt.NDArray[np.bool_]:
    """Which names lie in the folder of a date that is neither theirs nor a neighbour's: no listing of their date has
    them. `beginnings`: where the keys begin behind the prefix, `starts`: where the names do."""
    folders = starts - _FOLDER_LENGTH
    found = np.flatnonzero(folders >= beginnings)
    text = data[folders[found][:, None] + np.arange(_FOLDER_LENGTH)]
    digits = text[:, _DATE_DIGITS]
    dated = np.all(text[:, [4, 7, 10]] == ord("/"), axis=1) & np.all(
        (digits >= ord("0")) & (digits <= ord("9")), axis=1
    )
    whole = (folders[found] == beginnings[found]) | (data[np.maximum(folders[found] - 1, 0)] == ord("/"))
    folder_days, real = _days(digits)
    strays = np.zeros(len(starts), bool)
    strays[found] = dated & whole & real & (np.abs(folder_days - days[found]) > 1)
    return strays


def _days(digits: _Bytes) -> tuple[_Numbers, npt.NDArray[np.bool_]]:
    """The days since 1970 of dates as eight digits each, and which of them there are."""
    numbers = (digits - ord("0")).astype(np.int64)
    year: _Numbers = numbers[:, :4] @ np.array([1000, 100, 10, 1])
    month: _Numbers = numbers[:, 4:6] @ np.array([10, 1])
    day: _Numbers = numbers[:, 6:] @ np.array([10, 1])
    months = (year - 1970) * 12 + month - 1
    first, behind = _first_days(months), _first_days(months + 1)
    real = (year > 0) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= behind - first)
    return first + day - 1, real


def _first_days(months: _Numbers) -> _Numbers:
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def _bytes_of(texts: pa.Array) -> tuple[_Bytes, _Numbers]:
    """The bytes of all texts in a row, and where each begins, and the last one ends."""
    _, places, content = texts.buffers()
    offsets = np.frombuffer(places, np.int32, len(texts) + 1, 4 * texts.offset) if places else np.zeros(1, np.int32)
    data = np.frombuffer(content, np.uint8) if content else np.empty(0, np.uint8)
    first = offsets[0]
    return data[first : offsets[-1]], offsets.astype(np.int64) - first
