"""From object key to dataset and asset path: the first path parts, a regular expression or a table.

A rule sees distinct object keys and nothing else: neither how often they were asked for nor which
datasets exist. How a mapping table is checked and sorted is `mapping_entries`' business.

Three things hold for every rule. What is taken from a key is taken as logged (it stays
percent-encoded). A key that a rule leaves without a dataset or without a path, such as the folder
marker `ds1/`, goes to the dataset `unassociated` with the whole key as its path. And keys under
`x.zarr/` end at `x.zarr` unless that is switched off: a Zarr store is one asset of many objects.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.core.digests import text_digest
from s3logx_assets.core.errors import SettingsError
from s3logx_assets.core.grouping import run_starts
from s3logx_assets.core.mapping_entries import Entries
from s3logx_assets.core.scopes import UNASSOCIATED

MAX_LEVEL = 100

LEVEL_HELP = f"a whole number from 1 to {MAX_LEVEL}, such as 1 for ds000001/sub-01/image.nii.gz"
_REGEX_HELP = (
    "an RE2 regular expression with the named groups `dataset` and `asset` and no unnamed ones, "
    "such as (?P<dataset>ds[0-9]+)/(?P<asset>.+)"
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


@dataclass(frozen=True, eq=False)
class Assignment:
    """The datasets of object keys: a row for each key and dataset of it, in the order of the keys.

    `key` (m,): the place of the row's key, ascending, every place at least once. The first row of a
    key is the one that the archive counts. `dataset`, `path`: (m,) string, no nulls.
    """

    key: Positions
    dataset: pa.Array
    path: pa.Array

    @property
    def starts(self) -> Positions:
        """The first row of each key: (n,)."""
        return run_starts(self.key)

    @property
    def is_first(self) -> npt.NDArray[np.bool_]:
        """Whether a row is the first of its key: (m,)."""
        first = np.zeros(self.key.size, bool)
        first[self.starts] = True
        return first


class DatasetRule(Protocol):
    """How object keys become datasets and asset paths."""

    @property
    def digest(self) -> str:
        """Changes whenever the rule may give another outcome for some key."""

    def assign(self, keys: pa.Array) -> Assignment:
        """The datasets and asset paths of `keys`: (n,) string, distinct, as logged."""


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
            raise SettingsError(f"S3LOGX_DATASET_LEVEL is {self.level}; it must be {LEVEL_HELP}")

    @property
    def digest(self) -> str:
        return text_digest("level/v1", str(self.level), str(self.collapse_zarr))

    def assign(self, keys: pa.Array) -> Assignment:
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

    def assign(self, keys: pa.Array) -> Assignment:
        return _assigned_by_pattern(keys, self.pattern, self.collapse_zarr)


class _Found(NamedTuple):
    """The entries that each key matches, which follow one another: their block, the first's row in it, and how many
    they are, 0 without a match; each (n,)."""

    block: Positions
    row: Positions
    size: Positions


@dataclass(frozen=True, eq=False)
class MappingRule:
    """A table from key or key prefix to dataset and path.

    Entries are matched against the key percent-decoded twice, because S3 logs most keys so: the
    whole key first, then its longest prefix that ends with `/`. The asset path is the entry's
    path; under a prefix, the rest of the key as logged is appended to it. Without a path in the
    entry it is that rest, and the whole key as logged where no rest is left. Where the key or
    prefix that matched has several entries, the key belongs to the datasets of all of them.
    """

    entries: Entries
    collapse_zarr: bool = True

    @property
    def digest(self) -> str:
        return text_digest("mapping/v2", self.entries.facts.digest, str(self.collapse_zarr))

    def assign(self, keys: pa.Array) -> Assignment:
        starts = range(0, len(keys), _KEYS_AT_ONCE)
        parts = [self._assign(keys.slice(start, _KEYS_AT_ONCE)) for start in starts]
        if not parts:
            return Assignment(np.zeros(0, np.int64), pa.array([], pa.string()), pa.array([], pa.string()))
        return Assignment(
            np.concatenate([start + part.key for start, part in zip(starts, parts, strict=True)]),
            pa.concat_arrays([part.dataset for part in parts]),
            pa.concat_arrays([part.path for part in parts]),
        )

    def _assign(self, keys: pa.Array) -> Assignment:
        logged, logged_offsets = _bytes_and_offsets(keys)
        decoded, offsets, origin = _decoded_twice(logged, logged_offsets)
        found, matched_until = self._matches(decoded, offsets)

        key = np.repeat(np.arange(len(keys)), np.maximum(found.size, 1))
        dataset, path = self._taken(found, key)
        rest_start = origin[matched_until]
        rest = _slices(logged, rest_start, logged_offsets[1:] - rest_start).cast(pa.string())
        if key.size > len(keys):
            rest, keys = rest.take(pa.array(key)), keys.take(pa.array(key))
        joined = pc.binary_join_element_wise(path, rest, "/")  # null where the entry has no path
        path = pc.if_else(pc.equal(rest, ""), path, pc.coalesce(joined, rest))
        return Assignment(key, *_completed(keys, dataset, pc.coalesce(path, keys), self.collapse_zarr))

    def _matches(self, decoded: Bytes, offsets: Positions) -> tuple[_Found, Positions]:
        """The entries of each decoded key, and the position where its match ends."""
        found = self._found(_slices(decoded, offsets[:-1], np.diff(offsets)))
        until = offsets[1:].copy()
        slashes = np.flatnonzero(decoded == _SLASH)
        owner = np.searchsorted(offsets, slashes, side="right") - 1
        depth = np.arange(slashes.size) - np.searchsorted(slashes, offsets[:-1])[owner] + 1
        for prefix_depth in self.entries.facts.prefix_depths:
            candidates = (depth == prefix_depth) & (found.size[owner] == 0)
            key, end = owner[candidates], slashes[candidates] + 1
            longest = self._found(_slices(decoded, offsets[key], end - offsets[key]))
            for mine, its in zip(found, longest, strict=True):
                mine[key] = its
            until[key[longest.size > 0]] = end[longest.size > 0]
        return found, until

    def _found(self, wanted: pa.Array) -> _Found:
        """The entries whose key equals each wanted one."""
        block = pc.search_sorted(self.entries.first_keys, wanted, side="right").to_numpy().astype(np.int64) - 1
        row, size = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.int64)
        for number, places in _by_number(block):
            if number < 0:  # before the first entry
                continue
            keys, sought = self.entries.block(number)["key"], wanted.take(pa.array(places))
            start = pc.search_sorted(keys, sought).to_numpy().astype(np.int64)
            at = pa.array(np.minimum(start, len(keys) - 1))
            size[places] = pc.equal(keys.take(at), sought).to_numpy(zero_copy_only=False)
            row[places] = start
            if self.entries.facts.several:
                size[places] = pc.search_sorted(keys, sought, side="right").to_numpy() - start
        return _Found(block, row, size)

    def _taken(self, found: _Found, key: Positions) -> tuple[pa.Array, pa.Array]:
        """Dataset and path of all entries found for each `key`, one after the other; null where there is none."""
        row = found.row[key] + np.arange(key.size) - run_starts(key)[key]
        block = np.where(found.size > 0, found.block, -1)[key]
        datasets, paths, order = [], [], []
        for number, places in _by_number(block):
            if number < 0:
                dataset = path = pa.nulls(places.size, pa.string())
            else:
                entries = self.entries.block(number)
                at = pa.array(row[places])
                dataset, path = (entries[name].take(at).cast(pa.string()) for name in ("dataset", "path"))
            datasets.append(dataset)
            paths.append(path)
            order.append(places)
        in_order = pa.array(np.argsort(np.concatenate(order)))
        return pa.concat_arrays(datasets).take(in_order), pa.concat_arrays(paths).take(in_order)


def _anchored(pattern: str) -> str:
    return rf"(?s)\A(?:{pattern})"


def _assigned_by_pattern(keys: pa.Array, pattern: str, collapse_zarr: bool) -> Assignment:
    groups = pc.extract_regex(keys, _anchored(pattern))
    dataset, path = pc.struct_field(groups, "dataset"), pc.struct_field(groups, "asset")
    return Assignment(np.arange(len(keys)), *_completed(keys, dataset, path, collapse_zarr))


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
    if not (data == _PERCENT).any():
        return data, offsets, np.arange(data.size + 1)
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


def _by_number(numbers: Positions) -> Iterator[tuple[int, Positions]]:
    """Each distinct number, ascending, with the places where it stands, ascending."""
    order = np.argsort(numbers, kind="stable")
    if order.size:
        for places in np.split(order, run_starts(numbers[order])[1:]):
            yield int(numbers[places[0]]), places
