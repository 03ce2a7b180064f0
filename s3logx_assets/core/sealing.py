"""Pseudonyms of addresses: the sealed address, the index and the network index, and the keys behind them.

    sealed_ip      AES-128 over the 16 address bytes: ipcrypt-deterministic (draft-denis-ipcrypt, section 5.1)
    ip_index       the first 8 bytes of HMAC-SHA256 over the 16 address bytes, as a big-endian signed integer
    network_index  the same, with the last 8 bytes zeroed for IPv6: a /64 is one household

Both keys come from one master secret by HKDF-SHA256 (RFC 5869) with an empty salt. Where the secret is kept does
not belong here. Without it nothing can be turned back; with it everything can, so the tables are pseudonymous,
not anonymous. What is said of an address, and must not lie about in clear, is sealed with AES-256-GCM under a third key.
"""

import hmac
import secrets

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from s3logx_assets.core.addresses import AddressBlock, is_v4
from s3logx_assets.core.errors import MasterKeyError

MASTER_KEY_BYTES = 32
_NONCE_BYTES = 12
# Indexes are worked out in batches, since a digest as an object takes ten times the memory of its index.
_BATCH = 1 << 15


def derive(master: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA256 of `master` with an empty salt."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info).derive(master)


class Sealer:
    """Seals and indexes address blocks under one master secret of 32 bytes; MasterKeyError for another length."""

    def __init__(self, master: bytes) -> None:
        if len(master) != MASTER_KEY_BYTES:
            raise MasterKeyError(f"the master key has {len(master)} bytes; it must have {MASTER_KEY_BYTES}")
        self._cipher = Cipher(algorithms.AES(derive(master, b"s3logx/seal/v1", 16)), modes.ECB())  # noqa: S305 one block each: deterministic on purpose
        self._hmac = HMAC(derive(master, b"s3logx/index/v1", 32), hashes.SHA256())
        self.key_id = derive(master, b"s3logx/key-id/v1", 16).hex()
        self._coins = derive(master, b"s3logx/round/v1", 32)
        self._lookups = AESGCM(derive(master, b"s3logx/lookups/v1", 32))

    def __repr__(self) -> str:
        return f"Sealer(key_id={self.key_id!r})"

    def seal(self, addresses: AddressBlock) -> AddressBlock:
        """(n, 16) addresses -> (n, 16) sealed addresses."""
        return _blocks(self._cipher.encryptor().update(np.ascontiguousarray(addresses).tobytes()))

    def unseal(self, sealed: AddressBlock) -> AddressBlock:
        """(n, 16) sealed addresses -> (n, 16) addresses."""
        return _blocks(self._cipher.decryptor().update(np.ascontiguousarray(sealed).tobytes()))

    def ip_index(self, addresses: AddressBlock) -> NDArray[np.int64]:
        """(n, 16) addresses -> (n,) int64 indexes."""
        return self._index(addresses)

    def network_index(self, addresses: AddressBlock) -> NDArray[np.int64]:
        """(n, 16) addresses -> (n,) int64 indexes of their /64 (IPv6) or of themselves (IPv4)."""
        four = is_v4(addresses)
        networks = np.empty(len(addresses), np.int64)
        networks[four] = self._index(addresses[four])
        networks[~four] = self._index_of_prefixes(addresses[~four])
        return networks

    def unpack_index(self, sealed: AddressBlock) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(n, 16) sealed addresses -> their (n,) indexes and (n,) network indexes; nothing else leaves."""
        addresses = self.unseal(sealed)
        indexes = self.ip_index(addresses)
        networks = indexes.copy()
        v6 = ~is_v4(addresses)
        networks[v6] = self._index_of_prefixes(addresses[v6])
        return indexes, networks

    def seal_lookup(self, index: int, answer: bytes) -> bytes:
        """What is known of the address with this index, sealed: 28 bytes longer, and another text each time."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._lookups.encrypt(nonce, answer, _index_bytes(index))

    def unseal_lookup(self, index: int, sealed: bytes) -> bytes | None:
        """What was sealed for this index; None for what is damaged, or was sealed for another index or by another key."""
        try:
            return self._lookups.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _index_bytes(index))
        except (InvalidTag, ValueError):  # ValueError: too short to have a nonce
            return None

    def coin(self, name: str) -> float:
        """A number from 0 to below 1, the same for the same name, that nobody without the key can foretell."""
        digest = hmac.digest(self._coins, name.encode(), "sha256")
        return int.from_bytes(digest[:6], "big") / (1 << 48)

    def stand_in(self, index: int) -> int:
        """A pseudonym for what had this index under another key, of which the address is not known any more."""
        digest = hmac.digest(self._coins, b"stand-in" + _index_bytes(index), "sha256")
        return int.from_bytes(digest[:8], "big", signed=True)

    def _index_of_prefixes(self, addresses: AddressBlock) -> NDArray[np.int64]:
        """(n, 16) IPv6 addresses -> (n,) indexes of their /64, each worked out once."""
        words = np.ascontiguousarray(addresses).view(np.uint64)
        prefixes, place = np.unique(words[:, 0], return_inverse=True)
        return self._index(np.stack([prefixes, np.zeros_like(prefixes)], axis=1).view(np.uint8))[place]

    def _index(self, blocks: AddressBlock) -> NDArray[np.int64]:
        indexes = np.empty(len(blocks), np.int64)
        for start in range(0, len(blocks), _BATCH):
            indexes[start : start + _BATCH] = self._index_of_batch(blocks[start : start + _BATCH])
        return indexes

    def _index_of_batch(self, blocks: AddressBlock) -> NDArray[np.int64]:
        # A copy of a prepared HMAC takes a third of the time of a new one.
        new = self._hmac.copy
        digests = []
        for block in np.ascontiguousarray(blocks).view("V16")[:, 0].tolist():
            hmac = new()
            hmac.update(block)
            digests.append(hmac.finalize())
        words = np.frombuffer(b"".join(digests), dtype=">i8").reshape(-1, 4)
        return np.asarray(words[:, 0], np.int64)


def _index_bytes(index: int) -> bytes:
    return index.to_bytes(8, "big", signed=True)


def _blocks(raw: bytes) -> AddressBlock:
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, 16)
