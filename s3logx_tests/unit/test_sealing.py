"""Sealing and indexing: known answers, independent implementations as oracles, and keys that stay out of sight."""

import hashlib
import hmac
import ipaddress

import ipcrypt
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from s3logx_assets.core import sealing
from s3logx_assets.core.addresses import AddressBlock, from_bytes, pack, pack_all
from s3logx_assets.core.errors import MasterKeyError
from s3logx_assets.core.sealing import Sealer, derive

MASTER = bytes(range(32))
TEXTS = ["192.0.2.1", "203.0.113.255", "0.0.0.0", "2001:db8::1", "2001:db8:0:0:1::1", "::1", "::", "8.8.8.8"]  # noqa: S104
# For MASTER and the addresses 192.0.2.1 and 2001:db8::1, worked out with hmac, hashlib and AES alone.
SEALED = ["61659987906419a8a41c6d998b888211", "df3bd10c6418ce3d0273ed9c66ccc925"]
INDEXES = [4190980375458402020, 7066990511798180468]
NETWORKS = [4190980375458402020, -5060952229881277803]
KEY_ID = "7bdbd3ad428025c0dc7fabf461c6ebe2"
blocks = st.lists(st.binary(min_size=16, max_size=16), max_size=40).map(from_bytes)


def hkdf(master: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 by the book, with an empty salt."""
    key = hmac.digest(b"", master, "sha256")
    stream, previous = b"", b""
    while len(stream) < length:
        previous = hmac.digest(key, previous + info + bytes([len(stream) // 32 + 1]), "sha256")
        stream += previous
    return stream[:length]


def index_of(address: bytes, master: bytes = MASTER) -> int:
    digest = hmac.digest(hkdf(master, b"s3logx/index/v1", 32), address, "sha256")
    return int.from_bytes(digest[:8], "big", signed=True)


def text_of(sealed: AddressBlock) -> list[str]:
    """Sealed addresses in the notation of ipcrypt."""
    return [str(ipaddress.ip_address(row.tobytes())) for row in sealed]


@pytest.mark.parametrize(
    ("key", "address", "sealed"),
    [
        ("0123456789abcdeffedcba9876543210", "0.0.0.0", "bde9:6789:d353:824c:d7c6:f58a:6bd2:26eb"),  # noqa: S104
        ("1032547698badcfeefcdab8967452301", "255.255.255.255", "aed2:92f6:ea23:58c3:48fd:8b8:74e8:45d8"),
        ("2b7e151628aed2a6abf7158809cf4f3c", "192.0.2.1", "1dbd:c1b9:fff1:7586:7d0b:67b4:e76e:4777"),
    ],
)
def test_sealing_gives_the_published_answers(
    key: str, address: str, sealed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test vectors of draft-denis-ipcrypt, ipcrypt-deterministic; they give the AES key, so derivation is set aside."""
    monkeypatch.setattr(sealing, "derive", lambda master, info, length: bytes.fromhex(key).ljust(length, b"\0"))
    sealer = Sealer(MASTER)
    assert text_of(sealer.seal(pack_all([address]))) == [sealed]
    assert (sealer.unseal(from_bytes([ipaddress.ip_address(sealed).packed])) == pack_all([address])).all()


@pytest.mark.parametrize(
    ("master", "info", "length", "okm"),
    [
        # RFC 5869, test case 3: empty salt, empty info.
        (b"\x0b" * 22, b"", 42, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
    ],
)
def test_derivation_gives_the_published_answer(master: bytes, info: bytes, length: int, okm: str) -> None:
    assert derive(master, info, length).hex() == okm
    assert hkdf(master, info, length).hex() == okm


@given(st.binary(min_size=1, max_size=64), st.binary(max_size=40), st.integers(1, 100))
def test_derivation_agrees_with_the_rfc_by_the_book(master: bytes, info: bytes, length: int) -> None:
    assert derive(master, info, length) == hkdf(master, info, length)


def test_fixed_answers_of_one_master_secret() -> None:
    """These bytes are in every store there is: another answer would cut a store in two."""
    sealer = Sealer(MASTER)
    addresses = pack_all(["192.0.2.1", "2001:db8::1"])
    assert [row.tobytes().hex() for row in sealer.seal(addresses)] == SEALED
    assert sealer.ip_index(addresses).tolist() == INDEXES
    assert sealer.network_index(addresses).tolist() == NETWORKS
    assert sealer.key_id == KEY_ID


@given(st.ip_addresses(), st.binary(min_size=32, max_size=32))
def test_sealing_agrees_with_the_package_ipcrypt(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, master: bytes
) -> None:
    key = hkdf(master, b"s3logx/seal/v1", 16)
    sealer = Sealer(master)
    sealed = sealer.seal(pack_all([str(address)]))
    assert text_of(sealed) == [str(ipcrypt.deterministic_encrypt(str(address), key))]
    opened = ipaddress.ip_address(str(ipcrypt.deterministic_decrypt(text_of(sealed)[0], key)))
    assert pack(str(opened)) == pack(str(address))


@given(blocks, st.binary(min_size=32, max_size=32))
def test_what_is_sealed_comes_back(addresses: AddressBlock, master: bytes) -> None:
    sealer = Sealer(master)
    sealed = sealer.seal(addresses)
    assert sealed.shape == addresses.shape
    assert sealed.dtype == np.uint8
    assert (sealer.unseal(sealed) == addresses).all()
    assert (sealer.seal(sealer.unseal(addresses)) == addresses).all()


@given(blocks)
def test_equal_addresses_and_only_they_have_equal_seals_and_indexes(addresses: AddressBlock) -> None:
    sealer = Sealer(MASTER)
    distinct = len({row.tobytes() for row in addresses})
    assert len({row.tobytes() for row in sealer.seal(addresses)}) == distinct
    assert len(set(sealer.ip_index(addresses).tolist())) == distinct


@given(blocks)
def test_an_index_is_the_start_of_an_hmac(addresses: AddressBlock) -> None:
    indexes = Sealer(MASTER).ip_index(addresses)
    assert indexes.dtype == np.int64
    assert indexes.dtype.isnative
    assert indexes.tolist() == [index_of(row.tobytes()) for row in addresses]


def test_indexes_use_all_64_bits() -> None:
    indexes = Sealer(MASTER).ip_index(pack_all([f"192.0.2.{host}" for host in range(256)]))
    assert (indexes < 0).any()
    assert (indexes > 1 << 60).any()
    assert len(np.unique(indexes)) == 256


def test_a_network_is_a_64_for_ipv6_and_the_address_for_ipv4() -> None:
    sealer = Sealer(MASTER)
    texts = [*TEXTS, "::ffff:192.0.2.1", "2001:db8::ffff:192.0.2.1"]
    addresses = pack_all(texts)
    before = addresses.tobytes()
    expected = [
        index_of(packed if packed[:12] == bytes(10) + b"\xff\xff" else packed[:8] + bytes(8))
        for packed in map(pack, texts)
    ]
    assert sealer.network_index(addresses).tolist() == expected
    assert addresses.tobytes() == before

    def networks(*texts: str) -> int:
        return len(set(sealer.network_index(pack_all(texts)).tolist()))

    assert networks("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8::") == 1
    assert networks("2001:db8::1", "2001:db8:0:1::1") == 2
    assert networks("192.0.2.1", "192.0.2.2") == 2
    assert networks("192.0.2.1", "::ffff:192.0.2.1") == 1
    # ::a.b.c.d and the like are no IPv4 addresses: they share ::/64.
    assert networks("::192.0.2.1", "::1") == 1


@given(blocks)
def test_indexes_can_be_had_from_sealed_addresses_without_opening_them(addresses: AddressBlock) -> None:
    sealer = Sealer(MASTER)
    indexes, networks = sealer.unpack_index(sealer.seal(addresses))
    assert indexes.tolist() == sealer.ip_index(addresses).tolist()
    assert networks.tolist() == sealer.network_index(addresses).tolist()


def test_the_same_for_the_mixture_of_a_real_date() -> None:
    sealer = Sealer(MASTER)
    addresses = pack_all(TEXTS * 50)
    indexes, networks = sealer.unpack_index(sealer.seal(addresses))
    assert (indexes == sealer.ip_index(addresses)).all()
    assert (networks == sealer.network_index(addresses)).all()


def test_nothing_goes_in_and_nothing_comes_out() -> None:
    sealer, empty = Sealer(MASTER), pack_all([])
    assert sealer.seal(empty).shape == sealer.unseal(empty).shape == (0, 16)
    assert sealer.ip_index(empty).shape == sealer.network_index(empty).shape == (0,)
    assert [part.shape for part in sealer.unpack_index(empty)] == [(0,), (0,)]


def test_a_block_that_is_not_contiguous_is_sealed_as_it_reads() -> None:
    sealer = Sealer(MASTER)
    addresses = pack_all(TEXTS)
    assert (sealer.seal(addresses[::2]) == sealer.seal(addresses)[::2]).all()
    assert (sealer.ip_index(addresses[::-1]) == sealer.ip_index(addresses)[::-1]).all()
    assert (sealer.network_index(addresses[1::3]) == sealer.network_index(addresses)[1::3]).all()


def test_another_master_secret_shares_nothing() -> None:
    one, other = Sealer(MASTER), Sealer(MASTER[:-1] + b"\0")
    addresses = pack_all(TEXTS)
    assert one.key_id != other.key_id
    assert not set(one.ip_index(addresses).tolist()) & set(other.ip_index(addresses).tolist())
    assert not (one.seal(addresses) == other.seal(addresses)).all(axis=1).any()


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_master_secret_of_another_length_is_refused(length: int) -> None:
    secret = b"hunter2-" * 8
    with pytest.raises(MasterKeyError, match=f"{length} bytes.*32") as caught:
        Sealer(secret[:length])
    assert "hunter2" not in str(caught.value)


def test_no_key_is_in_sight() -> None:
    sealer = Sealer(MASTER)
    keys = [MASTER, *(hkdf(MASTER, f"s3logx/{use}/v1".encode(), size) for use, size in [("seal", 16), ("index", 32)])]
    text = repr(sealer) + str(sealer) + f"{sealer}" + str(vars(sealer))
    for key in keys:
        assert key.hex() not in text
        assert repr(key)[2:-1] not in text
    assert repr(sealer) == f"Sealer(key_id={sealer.key_id!r})"


def test_the_key_id_tells_keys_apart_and_is_no_key() -> None:
    sealer = Sealer(MASTER)
    assert sealer.key_id == hkdf(MASTER, b"s3logx/key-id/v1", 16).hex()
    assert sealer.key_id != hkdf(MASTER, b"s3logx/seal/v1", 16).hex()
    assert sealer.key_id != hashlib.sha256(MASTER).hexdigest()[:32]


@given(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=200))
def test_an_answer_comes_back_for_its_index_only(index: int, answer: bytes) -> None:
    sealer = Sealer(MASTER)
    sealed = sealer.seal_lookup(index, answer)
    assert len(sealed) == len(answer) + 28
    assert sealer.unseal_lookup(index, sealed) == answer
    assert sealer.unseal_lookup(~index, sealed) is None
    assert Sealer(bytes(32)).unseal_lookup(index, sealed) is None
    assert sealer.unseal_lookup(index, sealed[:-1] + bytes([sealed[-1] ^ 1])) is None
    assert sealer.unseal_lookup(index, sealed[:20]) is None
    assert sealer.seal_lookup(index, answer) != sealed


def test_an_answer_is_sealed_with_aes_gcm_under_a_key_of_its_own() -> None:
    sealed = Sealer(MASTER).seal_lookup(-2, b"an answer")
    key = hkdf(MASTER, b"s3logx/lookups/v1", 32)
    assert AESGCM(key).decrypt(sealed[:12], sealed[12:], b"\xff" * 7 + b"\xfe") == b"an answer"
