"""Addresses in memory: text to 16 bytes and back to the parts that regions and indexes need.

An address block is a numpy array of shape (n, 16), dtype uint8, in network byte order; an IPv4 address
a.b.c.d stands as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2). Blocks live in memory only. What is kept at rest is
`core.sealing`'s business, where an address lies is `core.regions`'s.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3logx_assets.core.errors import SettingsError

AddressBlock = NDArray[np.uint8]

_V4_IN_V6 = b"\0" * 10 + b"\xff\xff"


def pack(text: str) -> bytes:
    """The 16 bytes of one valid address; an IPv4 address as ::ffff:a.b.c.d. Raises OSError otherwise."""
    if ":" in text:
        return socket.inet_pton(socket.AF_INET6, text)
    return _V4_IN_V6 + socket.inet_pton(socket.AF_INET, text)


def unpack(packed: bytes) -> str:
    """The text of the address in 16 bytes: `pack` backwards."""
    if packed.startswith(_V4_IN_V6):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def pack_all(texts: Sequence[str]) -> AddressBlock:
    """The address block of `texts`, in their order."""
    return from_bytes([pack(text) for text in texts])


def from_bytes(addresses: Sequence[bytes]) -> AddressBlock:
    """The address block of 16-byte strings."""
    return np.frombuffer(b"".join(addresses), dtype=np.uint8).reshape(-1, 16)


def from_column(column: pa.Array | pa.ChunkedArray) -> AddressBlock:
    """The block (n, 16) that a fixed_size_binary[16] column without nulls holds."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not len(array):
        return np.zeros((0, 16), np.uint8)
    return np.frombuffer(array.buffers()[1], np.uint8).reshape(-1, 16)[array.offset : array.offset + len(array)]


def to_column(values: AddressBlock, codes: NDArray[np.integer[Any]]) -> pa.FixedSizeBinaryArray:
    """values[codes] as fixed_size_binary[16]; null where the code is -1."""
    present = codes >= 0
    padded = np.vstack([values, np.zeros((1, 16), np.uint8)])  # -1 takes the zeros
    validity = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little").tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(codes), [validity, pa.py_buffer(padded[codes].tobytes())]
    )


def is_v4(addresses: AddressBlock) -> NDArray[np.bool_]:
    """Which rows are IPv4 addresses (::ffff:0:0/96)."""
    words = np.ascontiguousarray(addresses).view(np.uint32)
    first, second, third = np.frombuffer(_V4_IN_V6, np.uint32)
    return np.asarray((words[:, 2] == third) & (words[:, 0] == first) & (words[:, 1] == second))


_EXCLUSION_HELP = (
    "legal: CIDR ranges without host bits, divided by commas (198.51.100.0/24,2001:db8::/32), or re: and a regular "
    "expression (re:^198[.]51[.])"
)


def exclusion(setting: str | None) -> Callable[[str], bool]:
    """The predicate of `S3LOGX_EXCLUDED_IPS` on an address as logged: CIDR ranges divided by commas, or `re:` and
    a regular expression that is searched in the text. `-` is never excluded. Raises SettingsError, whose message
    does not quote the setting: it holds addresses."""
    if not setting:
        return lambda text: False
    if setting.startswith("re:"):
        try:
            pattern = re.compile(setting[3:])
        except (re.error, OverflowError, RecursionError):
            raise SettingsError(f"S3LOGX_EXCLUDED_IPS: not a regular expression; {_EXCLUSION_HELP}") from None
        if pattern.search("") is not None:
            raise SettingsError(
                f"S3LOGX_EXCLUDED_IPS: a regular expression that would exclude everything; {_EXCLUSION_HELP}"
            )
        return lambda text: text != "-" and pattern.search(text) is not None
    try:
        networks = [ipaddress.ip_network(part.strip()) for part in setting.split(",")]
    except ValueError:
        raise SettingsError(f"S3LOGX_EXCLUDED_IPS: not a list of CIDR ranges; {_EXCLUSION_HELP}") from None

    def is_excluded(text: str) -> bool:
        if text == "-":
            return False
        address = ipaddress.ip_address(text)
        # ::ffff:a.b.c.d is the address a.b.c.d, however it is written.
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any(address in network or (mapped is not None and mapped in network) for network in networks)

    return is_excluded
