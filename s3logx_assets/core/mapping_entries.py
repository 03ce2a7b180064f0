"""The entries of a mapping table: checked, sorted by key, in blocks, so that tables larger than memory can be looked up.

An entry says that a key, or all keys below a prefix, belong to a dataset, under a path. Where a key comes twice, the first
row of the table stands, or, if asked for, each row that names another dataset. What a key of a log has to do to match an
entry is `datasets`' business; where blocks are kept and how a table is read from a file does not belong here either.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.core.digests import string_bytes, text_digest
from s3logx_assets.core.errors import SettingsError
from s3logx_assets.core.grouping import coded, joint_key, run_starts

MAPPING_HELP = (
    "a table with the text columns key, dataset and, if wanted, path, such as "
    "blobs/0a1/0a1b2c3d,000123,sub-01/session.nwb or, for all keys under a prefix, "
    "zarr/0a1b2c3d/,000123,sub-01/image.zarr"
)

# The names that the file of a table can have, and how it is written then.
_KINDS = {".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv", ".json": "json", ".json.gz": "json"}

# Sorted by the bytes of the key; a prefix ends with `/`, a path never does.
ENTRIES = pa.schema(
    [
        pa.field("key", pa.large_binary(), nullable=False),
        pa.field("dataset", pa.large_string(), nullable=False),
        pa.field("path", pa.large_string()),
    ]
)

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Facts:
    """What holds for all entries of a mapping. `digest` knows their content and nothing of how they lie in blocks;
    `prefix_depths` are the numbers of slashes that prefixes have, descending; `several` tells whether a key has several
    entries."""

    digest: str
    prefix_depths: tuple[int, ...]
    several: bool


class Entries(Protocol):
    """Entries in blocks of the schema ENTRIES, which are read one at a time. All entries of a key are in one block."""

    @property
    def facts(self) -> Facts:
        """What holds for all of them."""

    @property
    def first_keys(self) -> pa.Array:
        """The first key of each block: (blocks,) large_binary."""

    def block(self, number: int) -> pa.RecordBatch:
        """One block, never empty."""


class HeldEntries:
    """The entries of a table, which `sorted_entries` made, in memory."""

    def __init__(self, entries: pa.Table) -> None:
        self._blocks: Sequence[pa.RecordBatch] = entries.combine_chunks().to_batches()
        self.first_keys = entries["key"][:1].combine_chunks()
        gathered = GatheredFacts()
        for block in self._blocks:
            gathered.add(block)
        self.facts = gathered.facts()

    def block(self, number: int) -> pa.RecordBatch:
        """The only one."""
        return self._blocks[number]


class GatheredFacts:
    """Gathers the facts from one block after the other."""

    def __init__(self) -> None:
        # Lengths and bytes of each column apart, so that where a block ends leaves no trace.
        self._digests: dict[tuple[str, str], Any] = {
            (name, what): hashlib.sha256() for name in ENTRIES.names for what in ("lengths", "bytes")
        }
        self._prefix_depths: set[int] = set()
        self._several = False

    def add(self, block: pa.RecordBatch) -> None:
        """Takes the next block into account."""
        key = block["key"]
        prefixes = key.filter(pc.ends_with(key, "/"))
        self._prefix_depths.update(pc.count_substring(prefixes, "/").unique().to_pylist())
        self._several = self._several or bool(pc.any(pc.equal(key[1:], key[:-1])).as_py())
        for name in ENTRIES.names:
            column = block[name]
            lengths, joined = string_bytes(column.fill_null("") if column.null_count else column)
            lengths = np.where(column.is_valid().to_numpy(zero_copy_only=False), lengths, -1)
            self._digests[name, "lengths"].update(lengths.data)
            self._digests[name, "bytes"].update(joined)

    def facts(self) -> Facts:
        """The facts of all blocks so far."""
        digest = text_digest("entries/v1", *(each.hexdigest() for each in self._digests.values()))
        return Facts(digest, tuple(sorted(self._prefix_depths, reverse=True)), self._several)


def file_kind(name: str) -> str:
    """How the mapping table in a file of that name is written: `parquet`, `csv` or `json`. Raises SettingsError."""
    for ending, kind in _KINDS.items():
        if name.lower().endswith(ending):
            return kind
    raise SettingsError(f"S3LOGX_DATASET_MAPPING: the name {name!r} must end in {', '.join(_KINDS)}")


def checked_entries(rows: pa.Table, rows_before: int = 0) -> pa.Table:
    """Rows of a mapping table as ENTRIES, in their order. Columns other than `key`, `dataset` and `path` are ignored, and
    `path` may be absent. `rows_before`: how many rows of the same table came before, for the numbers in errors.

    Raises SettingsError for a missing column, for one that is not text (identifiers with leading zeros must be read as
    text), for empty keys or datasets, and for control characters in a dataset or path, which would break the tables that
    are published.
    """
    key = _text_column(rows, "key")
    dataset = _text_column(rows, "dataset")
    path = _text_column(rows, "path", required=False)
    for name, column in (("key", key), ("dataset", dataset)):
        _refuse_rows(name, "is empty", pc.fill_null(pc.equal(column, ""), True), rows_before)
    for name, column in (("dataset", dataset), ("path", path)):
        controls = pc.match_substring_regex(column, r"[\x00-\x1f\x7f]")
        _refuse_rows(name, "holds a control character", pc.fill_null(controls, False), rows_before)
    path = pc.utf8_rtrim(path, "/")
    path = pc.if_else(pc.equal(path, ""), pa.scalar(None, path.type), path)
    return pa.table([key.cast(pa.large_binary()), dataset, path], schema=ENTRIES)


def sorted_entries(entries: pa.Table, each: bool) -> pa.Table:
    """Entries sorted by key, those of one key in the order they had. Of a key the first entry stays, or, with `each`, the
    first for each dataset."""
    entries = entries.combine_chunks()
    key = entries["key"]
    if pc.all(pc.less(key[:-1], key[1:])).as_py():  # as it is for fewer than two
        return entries
    entries = entries.take(pc.sort_indices(key)).combine_chunks()  # stable
    key = entries["key"]
    is_first = np.ones(len(key), bool)
    is_first[1:] = pc.not_equal(key[1:], key[:-1]).to_numpy()
    if is_first.all():
        return entries
    if not each:
        return entries.filter(pa.array(is_first))
    dataset, datasets = coded(entries["dataset"])
    joint = joint_key([(np.cumsum(is_first) - 1, int(is_first.sum())), (dataset, len(datasets))])
    order = np.argsort(joint, kind="stable")
    return entries.take(pa.array(np.sort(order[run_starts(joint[order])])))


def _text_column(table: pa.Table, name: str, required: bool = True) -> pa.ChunkedArray:
    if name not in table.column_names:
        if required:
            raise SettingsError(f"S3LOGX_DATASET_MAPPING: the table has no column `{name}`; it must be {MAPPING_HELP}")
        return pa.chunked_array([pa.nulls(table.num_rows, pa.large_string())])
    column = table[name]
    value_type = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text: Sequence[bool] = [
        pa.types.is_string(value_type),
        pa.types.is_large_string(value_type),
        pa.types.is_string_view(value_type),
        pa.types.is_null(value_type) and not required,
    ]
    if not any(text):
        raise SettingsError(
            f"S3LOGX_DATASET_MAPPING: the column `{name}` is of type {column.type}, not text; it must be {MAPPING_HELP}"
        )
    return column.cast(pa.large_string())


def _refuse_rows(name: str, what: str, wrong: pa.ChunkedArray, rows_before: int) -> None:
    row = pc.index(wrong, True).as_py()
    if row >= 0:
        number = rows_before + row + 1
        raise SettingsError(f"S3LOGX_DATASET_MAPPING: in row {number} the {name} {what}; it must be {MAPPING_HELP}")
