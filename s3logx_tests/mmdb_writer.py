"""A minimal writer of the MaxMind DB format 2.0, for tests: prefixes and their records in, the file's bytes out."""

import ipaddress
import struct
from collections.abc import Mapping
from typing import Any

# 2026-09-01
BUILD_EPOCH = 1788220800


class _U16(int):
    """Readers insist on the width of the metadata's numbers; other integers are 32 bits wide."""


class _U64(int):
    """See _U16."""


_Tree = list[Any]  # left and right: None, a tree, or the record's offset


def city(country: str, region: str, latitude: float, longitude: float, code: str | None = None) -> dict[str, Any]:
    """A record as DB-IP and MaxMind write it."""
    subdivision = {"names": {"de": "anders", "en": region}} | ({"iso_code": code} if code else {})
    return {
        "city": {"names": {"en": "Somewhere"}},
        "country": {"iso_code": country, "names": {"en": country}},
        "location": {"latitude": latitude, "longitude": longitude},
        **({"subdivisions": [subdivision]} if region else {}),
    }


def mmdb(
    networks: Mapping[str, Any],
    *,
    ip_version: int = 6,
    record_size: int = 28,
    kind: str = "Test-City",
    aliases: tuple[str, ...] = (),
) -> bytes:
    """The file with these networks. In an IPv6 tree, IPv4 lies at ::/96; `aliases` are prefixes where it hangs again."""
    data, offsets = bytearray(), {}
    root: _Tree = [None, None]
    for prefix, record in networks.items():
        value = encoded(record)
        if value not in offsets:
            offsets[value] = len(data)
            data += value
        _insert(root, _bits(prefix, ip_version), offsets[value])
    v4_tree: Any = root
    for _ in range(96 if ip_version == 6 else 0):
        v4_tree = v4_tree[0] if isinstance(v4_tree, list) else None
    for alias in aliases:
        _insert(root, _bits(alias, ip_version), v4_tree)

    nodes: list[_Tree] = []
    number: dict[int, int] = {}
    waiting = [root]
    while waiting:
        node = waiting.pop(0)
        if id(node) not in number:
            number[id(node)] = len(nodes)
            nodes.append(node)
            waiting += [child for child in node if isinstance(child, list)]

    def record_of(child: Any) -> int:
        if child is None:
            return len(nodes)
        return number[id(child)] if isinstance(child, list) else len(nodes) + 16 + child

    tree = b"".join(_node(record_of(left), record_of(right), record_size) for left, right in nodes)
    return assembled(tree, len(nodes), bytes(data), ip_version=ip_version, record_size=record_size, kind=kind)


def assembled(
    tree: bytes, node_count: int, data: bytes, *, ip_version: int = 6, record_size: int = 32, kind: str = "Test-City"
) -> bytes:
    """The file of a search tree and its data section. In the tree, `node_count` stands for no answer, and what is
    encoded at an offset of the data for node_count + 16 + offset."""
    metadata = {
        "binary_format_major_version": _U16(2),
        "binary_format_minor_version": _U16(0),
        "build_epoch": _U64(BUILD_EPOCH),
        "database_type": kind,
        "description": {"en": "made by a test"},
        "ip_version": _U16(ip_version),
        "languages": ["en"],
        "node_count": node_count,
        "record_size": _U16(record_size),
    }
    return tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + encoded(metadata)


def _bits(prefix: str, ip_version: int) -> str:
    network = ipaddress.ip_network(prefix)
    text = f"{int(network.network_address):0{network.max_prefixlen}b}"[: network.prefixlen]
    return "0" * 96 + text if ip_version == 6 and network.version == 4 else text


def _insert(tree: _Tree, bits: str, value: Any) -> None:
    for bit in map(int, bits[:-1]):
        if tree[bit] is None:
            tree[bit] = [None, None]
        tree = tree[bit]
    tree[int(bits[-1])] = value


def _node(left: int, right: int, record_size: int) -> bytes:
    if record_size == 28:
        middle = (left >> 24) << 4 | right >> 24
        return (left & 0xFFFFFF).to_bytes(3, "big") + bytes([middle]) + (right & 0xFFFFFF).to_bytes(3, "big")
    return left.to_bytes(record_size // 8, "big") + right.to_bytes(record_size // 8, "big")


def encoded(value: Any) -> bytes:
    """A value as the data section holds it."""
    match value:
        case bool():
            return bytes([int(value), 7])  # extended type 14
        case str():
            return _control(2, len(value.encode())) + value.encode()
        case float():
            return _control(3, 8) + struct.pack(">d", value)
        case _U16():
            return _control(5, 2) + struct.pack(">H", value)
        case _U64():
            return bytes([8, 2]) + struct.pack(">Q", value)  # extended type 9
        case int():
            return _control(6, 4) + struct.pack(">I", value)
        case dict():
            return _control(7, len(value)) + b"".join(encoded(key) + encoded(item) for key, item in value.items())
        case list():
            return bytes([len(value), 4]) + b"".join(map(encoded, value))  # extended type 11
        case _:
            raise TypeError(type(value).__name__)


def _control(kind: int, size: int) -> bytes:
    return bytes([kind << 5 | size]) if size < 29 else bytes([kind << 5 | 29, size - 29])
