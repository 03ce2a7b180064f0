"""From object key to dataset and asset path: the first path parts, a regular expression or a table.

A rule sees distinct object keys and nothing else: neither how often they were asked for nor which
datasets exist. Reading a mapping table from a file does not belong here.

Three things hold for every rule. What is taken from a key is taken as logged (it stays
percent-encoded). A key that a rule leaves without a dataset or without a path, such as the folder
marker `ds1/`, goes to the dataset `unassociated` with the whole key as its path. And keys under
`x.zarr/` end at `x.zarr` unless that is switched off: a Zarr store is one asset of many objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.core.digests import table_digest, text_digest
from s3logx_assets.core.errors import SettingsError
from s3logx_assets.core.scopes import UNASSOCIATED

MAX_LEVEL = 100

_LEVEL_HELP = "a whole number from 1 up, such as 1 for ds000001/sub-01/image.nii.gz"
_REGEX_HELP = (
    "an RE2 regular expression with the named groups `dataset` and `asset` and no unnamed ones, "
    "such as (?P<dataset>ds[0-9]+)/(?P<asset>.+)"
)
_MAPPING_HELP = (
    "a table with the text columns key, dataset and, if wanted, path, such as "
    "blobs/0a1/0a1b2c3d,000123,sub-01/session.nwb or, for all keys under a prefix, "
    "zarr/0a1b2c3d/,000123,sub-01/image.zarr"
)

# Decoding keeps eight bytes of bookkeeping per byte of key, so it runs over slices of the keys.
_KEYS_AT_ONCE = 1 << 16
_SLASH, _PERCENT = ord("/"), ord("%")
_NOT_HEX = 255
_HEX_VALUE = np.full(256, _NOT_HEX, np.uint8)
for _digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
    _HEX_VALUE[list(_digits)] = range(16)

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]


class DatasetRule(Protocol):
    """How object keys become datasets and asset paths."""

    @property
    def digest(self) -> str:
        """Changes whenever the rule may give another outcome for some key."""

    def assign(self, keys: pa.Array) -> tuple[pa.Array, pa.Array]:
        """Dataset and asset path of each key: (n,) string -> two of (n,) string, no nulls.

        `keys` are the distinct object keys as logged.
        """


@dataclass(frozen=True)
class LevelRule:
    """The first `level` parts of the key, joined by `/`, are the dataset; the rest is the path.

    Every part, and the rest, holds at least one byte: `a//b` has no dataset at level 2.
    Raises SettingsError for a level that is not from 1 to 100.
    """

    level: int = 1
    collapse_zarr: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.level <= MAX_LEVEL:
            raise SettingsError(f"S3LOGX_DATASET_LEVEL is {self.level}; it must be {_LEVEL_HELP}")

    @property
    def digest(self) -> str:
        return text_digest("level/v1", str(self.level), str(self.collapse_zarr))

    def assign(self, keys: pa.Array) -> tuple[pa.Array, pa.Array]:
        further_parts = f"(?:/[^/]+){{{self.level - 1}}}"
        pattern = f"(?P<dataset>[^/]+{further_parts})/(?P<asset>.+)"
        return _assigned_by_pattern(keys, pattern, self.collapse_zarr)


@dataclass(frozen=True)
class RegexRule:
    """The groups `dataset` and `asset` of a regular expression in RE2 syntax.

    It must match at the start of the key, as `re.match` does, and may end before the key does;
    keys that it does not match are unassociated. RE2 runs in linear time, so no key can stall it;
    look-around and back-references do not exist. Raises SettingsError for a pattern that RE2
    refuses, for a missing group and for unnamed groups.
    """

    pattern: str
    collapse_zarr: bool = True

    def __post_init__(self) -> None:
        try:
            groups = pc.extract_regex(pa.array(["a/b"]), _anchored(self.pattern)).type
            problem = "has no group `{}`"
            missing = [name for name in ("dataset", "asset") if groups.get_field_index(name) < 0]
        except pa.ArrowInvalid as error:
            problem, missing = "is not valid ({})", [str(error)]
        if missing:
            raise SettingsError(
                f"S3LOGX_DATASET_REGEX {self.pattern!r} {problem.format(missing[0])}; it must be {_REGEX_HELP}"
            )

    @property
    def digest(self) -> str:
        return text_digest("regex/v1", self.pattern, str(self.collapse_zarr))

    def assign(self, keys: pa.Array) -> tuple[pa.Array, pa.Array]:
        return _assigned_by_pattern(keys, self.pattern, self.collapse_zarr)


@dataclass(frozen=True, eq=False)
class MappingRule:
    """A table from key or key prefix to dataset and path; `parse_mapping` makes it.

    Entries are matched against the key percent-decoded twice, because S3 logs most keys so: the
    whole key first, then its longest prefix that ends with `/`. The asset path is the entry's
    path; under a prefix, the rest of the key as logged is appended to it. Without a path in the
    entry it is that rest, and the whole key as logged where no rest is left.

    `entries`: key large_binary (sorted by bytes, distinct), dataset string (dictionary-encoded),
    path large_string (nullable, no `/` at the end).
    """

    entries: pa.Table
    prefix_depths: tuple[int, ...]  # numbers of slashes that prefixes have, descending
    collapse_zarr: bool = True

    @cached_property
    def digest(self) -> str:
        return text_digest("mapping/v1", table_digest(self.entries), str(self.collapse_zarr))

    def assign(self, keys: pa.Array) -> tuple[pa.Array, pa.Array]:
        parts = range(0, len(keys), _KEYS_AT_ONCE)
        assigned = [self._assign(keys.slice(start, _KEYS_AT_ONCE)) for start in parts]
        if not assigned:
            return pa.array([], pa.string()), pa.array([], pa.string())
        datasets, paths = zip(*assigned, strict=True)
        return pa.concat_arrays(datasets), pa.concat_arrays(paths)

    def _assign(self, keys: pa.Array) -> tuple[pa.Array, pa.Array]:
        logged, logged_offsets = _bytes_and_offsets(keys)
        decoded, offsets, origin = _decoded_twice(logged, logged_offsets)
        entry, matched_until = self._matches(decoded, offsets)

        found = pa.array(entry, mask=entry < 0)
        dataset = self.entries["dataset"].take(found).cast(pa.string()).combine_chunks()
        path = self.entries["path"].take(found).cast(pa.string()).combine_chunks()
        rest_start = origin[matched_until]
        rest = _slices(logged, rest_start, logged_offsets[1:] - rest_start).cast(pa.string())
        joined = pc.binary_join_element_wise(path, rest, "/")  # null where the entry has no path
        path = pc.if_else(pc.equal(rest, ""), path, pc.coalesce(joined, rest))
        return _completed(keys, dataset, pc.coalesce(path, keys), self.collapse_zarr)

    def _matches(self, decoded: Bytes, offsets: Positions) -> tuple[Positions, Positions]:
        """Per decoded key: its entry's row or -1, and the position where the match ends."""
        entry = self._rows_of(_slices(decoded, offsets[:-1], np.diff(offsets)))
        until = offsets[1:].copy()
        slashes = np.flatnonzero(decoded == _SLASH)
        owner = np.searchsorted(offsets, slashes, side="right") - 1
        depth = np.arange(slashes.size) - np.searchsorted(slashes, offsets[:-1])[owner] + 1
        for prefix_depth in self.prefix_depths:
            candidates = (depth == prefix_depth) & (entry[owner] < 0)
            key, end = owner[candidates], slashes[candidates] + 1
            row = self._rows_of(_slices(decoded, offsets[key], end - offsets[key]))
            entry[key] = row
            until[key[row >= 0]] = end[row >= 0]
        return entry, until

    def _rows_of(self, wanted: pa.Array) -> Positions:
        """Row of the entry whose key equals each wanted one, -1 where there is none."""
        keys = self.entries["key"]
        if len(keys) == 0:
            return np.full(len(wanted), -1, np.int64)
        row = pc.search_sorted(keys, wanted).to_numpy().astype(np.int64)
        row = np.minimum(row, len(keys) - 1)
        same = pc.equal(keys.take(pa.array(row)), wanted).to_numpy()
        return np.where(same, row, -1)


def parse_mapping(table: pa.Table, collapse_zarr: bool = True) -> MappingRule:
    """The rule of a mapping table with the text columns `key`, `dataset` and, optionally, `path`.

    A key that ends with `/` is a prefix. Where a key comes twice, the first row stands. Other
    columns are ignored. A table that is sorted by key is taken over without another sort.

    Raises SettingsError for a missing column, for one that is not text (identifiers with leading
    zeros must be read as text), for empty keys or datasets, and for control characters in a
    dataset or path, which would break the tables that are published.
    """
    key = _text_column(table, "key")
    dataset = _text_column(table, "dataset")
    path = _text_column(table, "path", required=False)
    for name, column in (("key", key), ("dataset", dataset)):
        _refuse_rows(name, "is empty", pc.fill_null(pc.equal(column, ""), True))
    for name, column in (("dataset", dataset), ("path", path)):
        controls = pc.match_substring_regex(column, r"[\x00-\x1f\x7f]")
        _refuse_rows(name, "holds a control character", pc.fill_null(controls, False))

    path = pc.utf8_rtrim(path, "/")
    entries = pa.table(
        {
            "key": key.cast(pa.large_binary()),
            "dataset": dataset.cast(pa.string()).dictionary_encode(),
            "path": pc.if_else(pc.equal(path, ""), pa.scalar(None, path.type), path),
        }
    )
    entries = _sorted_and_distinct(entries).combine_chunks()
    is_prefix = pc.ends_with(entries["key"], "/")
    depths = pc.count_substring(entries["key"].filter(is_prefix), "/").unique().to_pylist()
    return MappingRule(entries, tuple(sorted(depths, reverse=True)), collapse_zarr)


def _anchored(pattern: str) -> str:
    return rf"(?s)\A(?:{pattern})"


def _assigned_by_pattern(keys: pa.Array, pattern: str, collapse_zarr: bool) -> tuple[pa.Array, pa.Array]:
    groups = pc.extract_regex(keys, _anchored(pattern))
    dataset, path = pc.struct_field(groups, "dataset"), pc.struct_field(groups, "asset")
    return _completed(keys, dataset, path, collapse_zarr)


def _completed(keys: pa.Array, dataset: pa.Array, path: pa.Array, collapse_zarr: bool) -> tuple[pa.Array, pa.Array]:
    """Fills in what the rule left open (null or empty) and collapses Zarr stores."""
    complete = pc.and_(pc.not_equal(dataset, ""), pc.not_equal(path, ""))
    complete = pc.fill_null(complete, False)
    dataset = pc.if_else(complete, dataset, UNASSOCIATED)
    path = pc.if_else(complete, path, keys)
    return dataset, _without_zarr_members(path) if collapse_zarr else path


def _without_zarr_members(path: pa.Array) -> pa.Array:
    inside = pc.match_substring(path, ".zarr/")
    if not pc.any(inside).as_py():
        return path
    split = pc.split_pattern(path.filter(inside), ".zarr/", max_splits=1)
    stores = pc.binary_join_element_wise(pc.list_element(split, 0), ".zarr", "")
    return pc.replace_with_mask(path, inside, stores)


def _bytes_and_offsets(keys: pa.Array) -> tuple[Bytes, Positions]:
    wide = keys.cast(pa.large_binary())
    _, offset_buffer, data = wide.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64, len(wide) + 1, wide.offset * 8)
    joined = np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8)
    return joined[offsets[0] : offsets[-1]], offsets - offsets[0]


def _slices(data: Bytes, starts: Positions, lengths: Positions) -> pa.Array:
    """data[start : start + length] for each pair, as a large_binary array."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    source = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data[source])]
    return pa.Array.from_buffers(pa.large_binary(), len(lengths), buffers)


def _decoded_twice(data: Bytes, offsets: Positions) -> tuple[Bytes, Positions, Positions]:
    """Joined keys percent-decoded twice: bytes, offsets, and each byte's position before.

    The positions have one more element than the bytes: where the last key ends.
    """
    once, once_offsets, once_origin = _decoded(data, offsets)
    twice, twice_offsets, twice_origin = _decoded(once, once_offsets)
    return twice, twice_offsets, once_origin[twice_origin]


def _decoded(data: Bytes, offsets: Positions) -> tuple[Bytes, Positions, Positions]:
    high = _HEX_VALUE[data[1:-1]]
    low = _HEX_VALUE[data[2:]]
    escapes = np.zeros(data.size, bool)
    escapes[:-2] = (data[:-2] == _PERCENT) & (high != _NOT_HEX) & (low != _NOT_HEX)
    for before_end in (1, 2):  # an escape does not reach into the next key
        ends = offsets[1:] - before_end
        escapes[ends[ends >= 0]] = False
    starts = np.flatnonzero(escapes)
    keep = np.ones(data.size, bool)
    keep[starts + 1] = keep[starts + 2] = False
    decoded = data.copy()
    decoded[starts] = high[starts] * 16 + low[starts]
    origin = np.append(np.flatnonzero(keep), data.size)
    return decoded[keep], np.searchsorted(origin, offsets), origin


def _text_column(table: pa.Table, name: str, required: bool = True) -> pa.ChunkedArray:
    if name not in table.column_names:
        if required:
            raise SettingsError(f"S3LOGX_DATASET_MAPPING: the table has no column `{name}`; it must be {_MAPPING_HELP}")
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
            f"S3LOGX_DATASET_MAPPING: the column `{name}` is of type {column.type}, not text; "
            f"it must be {_MAPPING_HELP}"
        )
    return column.cast(pa.large_string())


def _refuse_rows(name: str, what: str, wrong: pa.ChunkedArray) -> None:
    row = pc.index(wrong, True).as_py()
    if row >= 0:
        raise SettingsError(f"S3LOGX_DATASET_MAPPING: in row {row + 1} the {name} {what}; it must be {_MAPPING_HELP}")


def _sorted_and_distinct(entries: pa.Table) -> pa.Table:
    if entries.num_rows < 2:
        return entries
    key = entries["key"]
    if not pc.all(pc.less(key[:-1], key[1:])).as_py():
        entries = entries.take(pc.sort_indices(key))  # stable: the first of equal keys stays first
        key = entries["key"]
        distinct = pc.not_equal(key[1:], key[:-1]).combine_chunks()
        entries = entries.filter(pa.concat_arrays([pa.array([True]), distinct]))
    return entries
