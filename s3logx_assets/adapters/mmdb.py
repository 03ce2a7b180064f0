"""Reads a geolocation database in the MaxMind DB format: its networks, and the places that they lie in.

The search tree is walked a level at a time with numpy, a hundred times faster than record by record; each distinct
record is then decoded once, by `maxminddb`. Format: MaxMind DB File Format Specification 2.0. What becomes of the
networks does not belong here.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from s3logx_assets.core.errors import SettingsError
from s3logx_assets.core.region_names import Subdivision
from s3logx_assets.core.region_table import Networks, PlaceName, Places, Provenance, RegionTable, build

# Keys of flat records, as IPinfo, IP2Location and the ip-location-db project write them, most telling first.
_FLAT_COUNTRY = ("country_code", "country_iso_code", "country")
_FLAT_REGION = ("region", "state1", "region_name", "state")
_FLAT_LATITUDE = ("latitude", "lat")
_FLAT_LONGITUDE = ("longitude", "lng", "lon")

# IPv6 networks that are not looked up, because their addresses carry an IPv4 address or are not routable: ::/64 with
# the IPv4 tree itself, 64:ff9b::/64, Teredo and 6to4. First 64 bits, and how many of them count.
_NOT_ASKED = ((0, 64), (0x0064FF9B << 32, 64), (0x20010000 << 32, 32), (0x2002 << 48, 16))


def read_region_table(
    path: Path, subdivisions: Mapping[str, list[Subdivision]], provenance: Provenance | None = None
) -> RegionTable:
    """The region table of the database at `path`; its provenance is what the file says of itself unless given.

    `subdivisions`: as `core.region_table.build` takes them. Raises SettingsError for a file that cannot be read, is no
    MaxMind DB, or names no countries.
    """
    with _opened(path) as reader:
        metadata = reader.metadata()
        found = Provenance(
            metadata.database_type, f"{datetime.fromtimestamp(metadata.build_epoch, UTC):%Y-%m-%d}", "", "", ""
        )
        v4, v6, samples = _networks(_Tree(path, metadata))
        return build(v4, v6, _places(reader, samples), subdivisions, provenance or found)


class _Leaves(NamedTuple):
    """The leaves of a search tree, (n,) each: the first 64 bits of a network's first address, the last 64 bits, its
    prefix length of 128, and the pointer to its record."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    bits: NDArray[np.uint8]
    pointers: NDArray[np.uint32]

    def take(self, rows: NDArray[Any]) -> "_Leaves":
        return _Leaves(*(column[rows] for column in self))


class _Tree:
    """The search tree of a database: nodes of two records, each the next node, nothing, or a pointer to data."""

    def __init__(self, path: Path, metadata: Any) -> None:
        self._node_count = int(metadata.node_count)
        self._record_bits = int(metadata.record_size)
        width = 2 * self._record_bits // 8
        self._nodes = np.memmap(path, np.uint8, "r", shape=(self._node_count, width))
        self._ip_version = int(metadata.ip_version)
        self._v4_root = 0
        if self._ip_version == 6:
            for _ in range(96):
                if self._v4_root < self._node_count:
                    self._v4_root = int(self._children(np.array([self._v4_root], np.uint32))[0])

    def leaves_v4(self) -> _Leaves:
        """The networks of IPv4, ascending."""
        leaves = self._walk(self._v4_root, 96)
        return leaves.take(np.argsort(leaves.low))

    def leaves_v6(self) -> _Leaves:
        """The networks of IPv6, ascending, but one at most for each /64: that of the shortest prefix."""
        if self._ip_version == 4:
            return self._walk(self._node_count, 0)
        leaves = self._walk(0, 0)
        leaves = leaves.take(np.argsort(leaves.high, kind="stable"))  # the walk itself goes from short to long
        asked = np.append(True, leaves.high[1:] != leaves.high[:-1])[: len(leaves.high)]
        for first, bits in _NOT_ASKED:
            shift = np.uint64(64 - bits)
            asked &= (leaves.high >> shift != np.uint64(first) >> shift) | (leaves.bits < bits)
        return leaves.take(asked)

    def _children(self, nodes: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """The left records of the nodes, then the right ones."""
        raw = self._nodes[nodes].astype(np.uint32)
        if self._record_bits == 28:
            left = (raw[:, 3] & 0xF0) << 20 | raw[:, 0] << 16 | raw[:, 1] << 8 | raw[:, 2]
            right = (raw[:, 3] & 0x0F) << 24 | raw[:, 4] << 16 | raw[:, 5] << 8 | raw[:, 6]
            return np.concatenate([left, right])
        size = self._record_bits // 8
        halves = np.concatenate([raw[:, :size], raw[:, size:]])
        shifts = np.arange(size - 1, -1, -1, dtype=np.uint32) * np.uint32(8)
        return np.asarray(np.bitwise_or.reduce(halves << shifts, axis=1))

    def _walk(self, root: int, depth: int) -> _Leaves:
        """The leaves below a node that lies `depth` bits down the path of zeros, short prefixes before long ones."""
        nodes = np.array([root] if root < self._node_count else [], np.uint32)
        high, low = np.zeros(len(nodes), np.uint64), np.zeros(len(nodes), np.uint64)
        columns: list[list[NDArray[Any]]] = [
            [np.zeros(0, kind)] for kind in (np.uint64, np.uint64, np.uint8, np.uint32)
        ]
        visited = 0
        while len(nodes):
            visited += len(nodes)
            if visited > 2 * self._node_count:
                raise ValueError("the search tree leads back into itself")
            bit = np.uint64(1 << (63 - depth % 64))
            right_high, right_low = (high | bit, low) if depth < 64 else (high, low | bit)
            high, low = np.concatenate([high, right_high]), np.concatenate([low, right_low])
            children = self._children(nodes)
            depth += 1
            leaf = children > self._node_count
            bits = np.full(np.count_nonzero(leaf), depth, np.uint8)
            level: list[NDArray[Any]] = [high[leaf], low[leaf], bits, children[leaf]]
            for column, found in zip(columns, level, strict=True):
                column.append(found)
            # The IPv4 tree hangs in the IPv6 tree, in some databases at several places.
            inner = (children < self._node_count) & (children != self._v4_root) & np.bool_(depth < 128)
            nodes, high, low = children[inner], high[inner], low[inner]
        return _Leaves(*(np.concatenate(columns.pop(0)) for _ in range(4)))  # the levels are freed as they are joined


def _networks(tree: _Tree) -> tuple[Networks, Networks, NDArray[np.uint64]]:
    """The networks of IPv4 and IPv6, their records numbered; and for each record an address that has it: its first and
    its last 64 bits, (2, p)."""
    v4, v6 = tree.leaves_v4(), tree.leaves_v6()
    pointers = np.unique(np.concatenate([v4.pointers, v6.pointers]))
    rows_v4, rows_v6 = (np.searchsorted(pointers, leaves.pointers).astype(np.int32) for leaves in (v4, v6))
    samples = np.empty((2, len(pointers)), np.uint64)
    samples[:, rows_v6] = v6.high, v6.low
    samples[:, rows_v4] = v4.high, v4.low
    return (
        Networks(v4.low, v4.bits - np.uint8(96), rows_v4),
        Networks(v6.high, np.minimum(v6.bits, np.uint8(64)), rows_v6),
        samples,
    )


def _places(reader: Any, samples: NDArray[np.uint64]) -> Places:
    """The place of each record, by its sample address."""
    row_of_name: dict[PlaceName, int] = {}
    name_of = np.empty(samples.shape[1], np.int32)
    coordinates = np.full(samples.shape, np.nan)
    for row, (high, low) in enumerate(samples.T.tolist()):
        address = ipaddress.IPv6Address(high << 64 | low) if high else ipaddress.IPv4Address(low)
        record = reader.get(address)
        if isinstance(record, dict):
            name, latitude, longitude = _place(record)
            coordinates[:, row] = latitude, longitude
        else:
            name = PlaceName("", "", "")
        name_of[row] = row_of_name.setdefault(name, len(row_of_name))
    return Places(list(row_of_name), name_of, *coordinates)


def _place(record: dict[str, Any]) -> tuple[PlaceName, float, float]:
    """Name and coordinates of a record, nested as MaxMind's and DB-IP's or flat; NaN without coordinates."""
    country = record.get("country")
    if isinstance(country, dict):
        subdivision: dict[str, Any] = next(iter(record.get("subdivisions") or ()), {})
        location = record.get("location") or {}
        code = str(country.get("iso_code") or "").upper()
        region = (subdivision.get("names") or {}).get("en") or ""
        iso = subdivision.get("iso_code")
        name = PlaceName(code, region, f"{code}-{iso}" if iso and region else "")
        found: tuple[Any, Any] = (location.get("latitude"), location.get("longitude"))
    else:
        code, region = (str(_first(record, keys) or "") for keys in (_FLAT_COUNTRY, _FLAT_REGION))
        name = PlaceName(code.upper(), region, "")
        found = _first(record, _FLAT_LATITUDE), _first(record, _FLAT_LONGITUDE)
    if name.country == "ZZ":  # ISO 3166's user-assigned code for "unknown"
        name = PlaceName("", "", "")
    try:
        return name, float(found[0]), float(found[1])
    except (TypeError, ValueError):
        return name, np.nan, np.nan


def _first(record: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((record[key] for key in keys if record.get(key) not in (None, "", "-")), None)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The database's reader; whatever goes wrong with the file while it is open becomes a SettingsError."""
    try:
        import maxminddb
    except ImportError:
        raise SettingsError(
            "S3LOGX_MMDB: reading an MMDB needs the package maxminddb: pip install 's3logx-assets[regions]'"
        ) from None
    try:
        with maxminddb.open_database(path) as reader:
            yield reader
    except (OSError, ValueError, AttributeError, SystemError, maxminddb.InvalidDatabaseError) as error:
        raise SettingsError(
            f"S3LOGX_MMDB: {path} cannot be read as a city or country database ({type(error).__name__}); legal: the path "
            "of an MMDB file whose records name countries, such as DB-IP City Lite"
        ) from None
