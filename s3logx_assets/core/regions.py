"""Where an address lies: the region label of each address, from ranges that others provide.

The labels, in the order in which they are decided; the first that applies stands:
1. `bogon`: not routable on the Internet (IANA's registries, below).
2. Clouds: `GitHub`, `AWS/us-east-2`, `GCP/us-central1`, `Azure/eastus`, then others, each with or without a region.
3. `VPN`: exits of VPNs, private relays and Tor.
4. `CC/Region name` (`US/California`), or `CC` alone: country (ISO 3166-1 alpha-2) and first-level region.
5. `unknown`: none of these knows the address; or `undetermined`: a service would have to be asked, and was not to be had.

An address that carries an IPv4 address of its client is judged by that one: IPv4-mapped (an IPv4 address already),
6to4 (2002::/16, RFC 3056), NAT64 (64:ff9b::/96, RFC 6052) and Teredo (2001::/32, RFC 4380). Without it, every one of
them would lie where its relay lies, or nowhere.

Ranges are disjoint and fill their address family, so that one binary search answers. Where the ranges come from, and
where a region lies on the map, does not belong here.
"""

import heapq
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3logx_assets.core.addresses import AddressBlock, is_v4, pack

BOGON = "bogon"
VPN = "VPN"
UNKNOWN = "unknown"
UNDETERMINED = "undetermined"  # no layer knows the address, and the service that might was not to be had

# The labels that stand for no place; `missing` where no lookup has run, `internal` for requests without an address.
_NO_PLACES = frozenset({BOGON, VPN, UNKNOWN, UNDETERMINED, "missing", "internal"})

# How a label was found: the values of the column `method`.
METHODS = ("bogon", "cloud", "vpn", "geolocation", "ipinfo", "none")

# What is said of an address, one row per code. Row 0 stands for "nothing is known".
ANSWERS = pa.schema(
    [
        pa.field("region", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("subdivision", pa.string()),
    ]
)

_COUNTRY = re.compile("[A-Z]{2}")
V4_FIRST = 0xFFFF << 32
V4_LAST = V4_FIRST + (1 << 32) - 1
_END = 1 << 128


@dataclass(frozen=True, eq=False)
class RangeTable:
    """Disjoint ranges that fill one address family: from `starts[i]` up to the next start holds `codes[i]`, 0 = nothing.

    `starts` (n,) ascending, the first is zero. Its dtype says what is compared: uint32 an IPv4 address, uint64 the
    first 64 bits of an IPv6 address, S16 all of it. `codes` (n,) unsigned.
    """

    starts: NDArray[Any]
    codes: NDArray[Any]

    def find(self, addresses: AddressBlock) -> NDArray[Any]:
        """The code of each address, (n,) of the dtype of `codes`."""
        keys = _keys(addresses, self.starts.dtype)
        if keys.dtype.kind == "S":  # slow to sort, and only ever searched in small tables
            return np.asarray(self.codes[np.searchsorted(self.starts, keys, side="right") - 1])
        order = np.argsort(keys)  # asked in order, a large table is read once from front to back: several times faster
        found = np.empty(len(keys), self.codes.dtype)
        found[order] = self.codes[np.searchsorted(self.starts, keys[order], side="right") - 1]
        return found


@dataclass(frozen=True, eq=False)
class Layer:
    """One source of answers: its ranges of both families, and what their codes mean (schema ANSWERS)."""

    v4: RangeTable
    v6: RangeTable
    answers: pa.Table


class Claim(NamedTuple):
    """One range that a source names, both ends included, as 128-bit integers (IPv4 as ::ffff:a.b.c.d).

    Where claims overlap the lowest rank stands, then the smallest range, then the lowest code.
    """

    first: int
    last: int
    rank: int
    code: int


def ends(prefix: str) -> tuple[int, int]:
    """First and last address of a prefix such as 192.0.2.0/24, as 128-bit integers. Raises ValueError or OSError for what
    is none."""
    text, _, length = prefix.partition("/")
    first = int.from_bytes(pack(text), "big")
    rest = (1 << (32 if first >> 32 == 0xFFFF else 128) - int(length)) - 1
    if first & rest:
        raise ValueError("a prefix with host bits")
    return first, first + rest


def flatten(claims: Iterable[Claim]) -> tuple[list[int], list[int]]:
    """Overlapping claims as disjoint ranges: the starts, ascending from 0, and the code from each start on (0 where
    nobody claims). Both ends of the IPv4 space are always starts, so that the families can be split there."""
    ordered = sorted(claims)
    breaks = {0, V4_FIRST, V4_LAST + 1}
    edges = sorted(breaks.union((c.first for c in ordered), (c.last + 1 for c in ordered)) - {_END})
    starts: list[int] = []
    codes: list[int] = []
    running: list[tuple[int, int, int, int]] = []  # (rank, size, code, last) of the claims begun, best first
    upcoming = 0
    for edge in edges:
        while upcoming < len(ordered) and ordered[upcoming].first == edge:
            begun = ordered[upcoming]
            heapq.heappush(running, (begun.rank, begun.last - begun.first, begun.code, begun.last))
            upcoming += 1
        while running and running[0][3] < edge:
            heapq.heappop(running)
        code = running[0][2] if running else 0
        if edge in breaks or code != codes[-1]:
            starts.append(edge)
            codes.append(code)
    return starts, codes


def split_families(starts: AddressBlock, codes: NDArray[Any]) -> tuple[RangeTable, RangeTable]:
    """Flattened ranges as the tables of IPv4 and of IPv6; the starts as 16 bytes each."""
    four = is_v4(starts)
    return (
        RangeTable(_keys(starts[four], np.dtype(np.uint32)), codes[four]),
        RangeTable(_keys(starts[~four], np.dtype("S16")), codes[~four]),
    )


def layer_of(claims: Iterable[Claim], answers: pa.Table) -> Layer:
    """The layer of overlapping claims, whose codes are rows of `answers`."""
    starts, codes = flatten(claims)
    packed = b"".join(start.to_bytes(16, "big") for start in starts)
    v4, v6 = split_families(
        np.frombuffer(packed, np.uint8).reshape(-1, 16), np.array(codes, np.min_scalar_type(answers.num_rows))
    )
    return Layer(v4, v6, answers)


def classify(addresses: AddressBlock, layers: Sequence[Layer]) -> pa.Table:
    """What is known of each address, in the schema ANSWERS and the order of `addresses` (n, 16): a bogon, else what the
    first of the layers that knows the address says, else `unknown`."""
    addresses = client_addresses(addresses)
    layers = [_bogons(), *layers]
    code = np.zeros(len(addresses), np.uint32)
    four = is_v4(addresses)
    for in_family, family in ((four, "v4"), (~four, "v6")):
        rows = np.flatnonzero(in_family)
        offset = 0
        for layer in layers:
            found = getattr(layer, family).find(addresses[rows])
            code[rows] = np.where(found, found + np.uint32(offset), np.uint32(0))
            rows = rows[found == 0]
            offset += layer.answers.num_rows
    return pa.concat_tables([layer.answers for layer in layers]).combine_chunks().take(pa.array(code))


def client_addresses(addresses: AddressBlock) -> AddressBlock:
    """The addresses (n, 16), each 6to4, NAT64 and Teredo address replaced by the IPv4 address of its client."""
    words = np.ascontiguousarray(addresses).view(">u4")
    first = words[:, 0]
    six_to_four = first >> 16 == 0x2002
    nat64 = (first == 0x0064FF9B) & (words[:, 1] == 0) & (words[:, 2] == 0)
    teredo = first == 0x20010000
    if not (six_to_four | nat64 | teredo).any():
        return addresses
    found = addresses.copy()
    found[six_to_four, 12:] = addresses[six_to_four, 2:6]
    found[teredo, 12:] = ~addresses[teredo, 12:]
    carrying = six_to_four | nat64 | teredo
    found[carrying, :10] = 0
    found[carrying, 10:12] = 0xFF
    return found


@lru_cache(1 << 16)
def country_of(label: str) -> str | None:
    """The country that a label counts for: `US` for `US/California` and `US`. For an AWS region the part before its
    first hyphen, in capitals: `US` for `AWS/us-east-2`, and so `EU` for `AWS/eu-west-1`, as the published totals of
    archives have always counted them. None for every other label, `AWS/GLOBAL` among them."""
    head, _, rest = label.partition("/")
    if head == "AWS":
        area, hyphen, _ = rest.partition("-")
        return area.upper() if area and hyphen else None
    return head if _COUNTRY.fullmatch(head) else None


def kind_of(label: str) -> str:
    """What a label stands for: `place`, where people are; `cloud`, a data centre; `elsewhere`, what is no place."""
    if _COUNTRY.fullmatch(label.partition("/")[0]):
        return "place"
    return "elsewhere" if label in _NO_PLACES else "cloud"


def answers(labels: Sequence[str], methods: Sequence[str], subdivisions: Sequence[str | None]) -> pa.Table:
    """The table of answers (schema ANSWERS) whose row i + 1 holds the i-th of each; row 0 is `unknown`."""
    columns = [[UNKNOWN, *labels], ["none", *methods], [None, *subdivisions]]
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=ANSWERS)


def _keys(addresses: AddressBlock, kind: np.dtype[Any]) -> NDArray[Any]:
    """What a range table with starts of this dtype compares of each address, (n,)."""
    block = np.ascontiguousarray(addresses)
    if kind == np.uint32:
        return np.asarray(block.view(">u4")[:, 3].astype(np.uint32))
    if kind == np.uint64:
        return np.asarray(block.view(">u8")[:, 0].astype(np.uint64))
    # numpy compares S16 byte by byte and takes a missing tail for zero bytes: the order of addresses.
    return np.asarray(block.view("S16")[:, 0])


# Source: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890), multicast (RFC 5771) and, for IPv6, all that
# lies outside 2000::/3, the only global unicast space in use (IANA IPv6 Address Space registry).
_NOT_ROUTABLE = (
    "0.0.0.0/8",  # this network
    "10.0.0.0/8",  # private use
    "100.64.0.0/10",  # behind carrier-grade NAT
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link local
    "172.16.0.0/12",  # private use
    "192.0.0.0/24",  # IETF protocol assignments
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # 6to4 relay anycast, withdrawn
    "192.168.0.0/16",  # private use
    "198.18.0.0/15",  # benchmarking
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and the limited broadcast
    "::/3",  # unspecified, loopback, IPv4-compatible, discard, local NAT64
    "4000::/2",  # unassigned, and SRv6 segment identifiers
    "8000::/1",  # unassigned, unique local, link local, site local, multicast
    "2001::/23",  # IETF protocol assignments: benchmarking, ORCHID
    "2001:db8::/32",  # documentation
    "3fff::/20",  # documentation
)
# Parts of the above that the registries mark as globally reachable.
_ROUTABLE = (
    "192.0.0.9/32",  # PCP anycast
    "192.0.0.10/32",  # TURN anycast
    "2001:1::1/128",  # PCP anycast
    "2001:1::2/128",  # TURN anycast
    "2001:1::3/128",  # DNS-SD anycast
    "2001:3::/32",  # AMT
    "2001:4:112::/48",  # AS112
    "2001:20::/28",  # ORCHIDv2
    "2001:30::/28",  # drone remote identification
)


@cache
def _bogons() -> Layer:
    return layer_of(
        [
            *(Claim(*ends(prefix), rank=2 if ":" in prefix else 1, code=1) for prefix in _NOT_ROUTABLE),
            *(Claim(*ends(prefix), rank=0, code=0) for prefix in _ROUTABLE),
            # IPv4-mapped addresses lie within ::/3, yet are routable where IPv4 is.
            Claim(V4_FIRST, V4_LAST, rank=1, code=0),
        ],
        answers([BOGON], ["bogon"], [None]),
    )
