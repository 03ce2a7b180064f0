"""Addresses and secrets that are known, and the search for them in every byte that the platform leaves anywhere.

Looked for are addresses as text and in network order, also inside the compressed columns of Parquet files and in
gzip; secrets as bytes, base64 and hexadecimal. What may hold them is the caller's to say.
"""

import base64
import gzip
import ipaddress
import random
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_TOKEN = re.compile(rb"[0-9a-fA-F:.]{6,45}")
# Addresses of documentation (RFC 5737, RFC 3849), so that a leak of a test is nobody's.
_NETWORKS = ("192.0.2.", "198.51.100.", "203.0.113.")

# How many bytes of an address are the same in all of a kind: of IPv6 of documentation, and of IPv4 in IPv6.
_SHARED = (8, 12)


class Canaries:
    """The addresses that were made, and the secrets that there are."""

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        self._texts: set[bytes] = set()
        self._packed: set[bytes] = set()
        self._secrets: set[bytes] = set()
        for secret in secrets:
            self.add_secret(secret)

    def add_secret(self, secret: bytes) -> None:
        """A secret to look for: a key's bytes, or the text of a service's key."""
        self._secrets |= {secret, base64.b64encode(secret).rstrip(b"="), base64.urlsafe_b64encode(secret).rstrip(b"=")}
        self._secrets |= {secret.hex().encode(), secret.hex().upper().encode()}

    def make(self, rng: random.Random) -> str:
        """One more address, as text."""
        if rng.random() < 0.2:
            address = str(ipaddress.IPv6Address(0x20010DB8 << 96 | rng.getrandbits(64)))
        else:
            address = f"{rng.choice(_NETWORKS)}{rng.randrange(1, 255)}"
        self.add_address(address)
        return address

    def add_address(self, address: str) -> None:
        """An address to look for."""
        self._texts.add(address.encode())
        parsed = ipaddress.ip_address(address)
        mapped = parsed if parsed.version == 6 else ipaddress.IPv6Address(f"::ffff:{address}")
        self._packed.add(mapped.packed)

    def in_bytes(self, content: bytes) -> bool:
        """Whether an address or a secret is in `content`."""
        if any(secret in content for secret in self._secrets) or self._packed_in(content):
            return True
        return bool(self._texts.intersection(token.strip(b".:") for token in _TOKEN.findall(content)))

    def _packed_in(self, content: bytes) -> bool:
        """Whether an address in network order is there: looked for by what many of them begin with."""
        for start in {one[: _SHARED[one[0] == 0]] for one in self._packed}:
            place = content.find(start)
            while place >= 0:
                if content[place : place + 16] in self._packed:
                    return True
                place = content.find(start, place + 1)
        return False

    def in_content(self, content: bytes) -> bool:
        """The same of all of a file or object: its bytes as they are, unpacked where it is gzip or Parquet."""
        if self.in_bytes(content):
            return True
        if content[:2] == b"\x1f\x8b":
            try:
                return self.in_bytes(gzip.decompress(content))
            except (OSError, EOFError, zlib.error):
                return False
        return content[:4] == b"PAR1" and self._in_columns(content)

    def found_in(self, folder: Path, exempt: Sequence[Path] = ()) -> list[Path]:
        """The files below `folder` that hold one; not what is one of `exempt`, or below it. A file that goes meanwhile
        holds nothing."""
        found = []
        for path in sorted(folder.rglob("*")):
            if any(path.is_relative_to(one) for one in exempt):
                continue
            if self._in_name(path.name):
                found.append(path)
            elif path.is_file() and not path.is_symlink():
                try:
                    if self.in_content(path.read_bytes()):
                        found.append(path)
                except FileNotFoundError:
                    continue
        return found

    def found_among(self, objects: Mapping[str, bytes]) -> list[str]:
        """The objects of a bucket, by key, that hold one."""
        return [key for key, content in objects.items() if self._in_name(key) or self.in_content(content)]

    def _in_name(self, name: str) -> bool:
        return self.in_bytes(name.encode("utf-8", "surrogateescape"))

    def _in_columns(self, content: bytes) -> bool:
        try:
            table = pq.ParquetFile(pa.BufferReader(content)).read()
        except (pa.ArrowException, OSError):
            return False
        for column in table.columns:
            values = column.unique().to_pylist()
            if values and any(
                self.in_bytes(value if isinstance(value, bytes) else value.encode())
                for value in values
                if isinstance(value, bytes | str)
            ):
                return True
        return False
