"""Addresses in memory: packing, the IPv4 prefix, and the predicate of excluded ranges."""

import ipaddress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3logx_assets.core.addresses import exclusion, from_bytes, is_v4, pack, pack_all
from s3logx_assets.core.errors import SettingsError
from s3logx_tests import hard_lines

V4 = bytes(10) + b"\xff\xff"


@pytest.mark.parametrize(
    ("text", "packed"),
    [
        ("192.0.2.1", V4 + bytes((192, 0, 2, 1))),
        ("0.0.0.0", V4 + bytes(4)),  # noqa: S104 an address, nothing is bound
        ("255.255.255.255", V4 + b"\xff" * 4),
        ("::", bytes(16)),
        ("::1", bytes(15) + b"\1"),
        ("2001:db8::1", bytes.fromhex("20010db8000000000000000000000001")),
        ("2001:DB8::A", bytes.fromhex("20010db800000000000000000000000a")),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", bytes.fromhex("20010db8000000000000000000000001")),
        ("::ffff:192.0.2.1", V4 + bytes((192, 0, 2, 1))),
        ("::FFFF:c000:201", V4 + bytes((192, 0, 2, 1))),
        ("64:ff9b::192.0.2.1", bytes.fromhex("0064ff9b0000000000000000c0000201")),
    ],
)
def test_an_address_packs_into_16_bytes(text: str, packed: bytes) -> None:
    assert pack(text) == packed


@pytest.mark.parametrize(
    "text", ["", "-", "192.0.2", "192.0.2.256", "192.0.02.1", "192.0.2.1 ", "1::2::3", "fe80::1%eth0", ":::", "host"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(OSError, match="illegal IP address"):
        pack(text)


@given(st.ip_addresses())
def test_packing_agrees_with_the_standard_library(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert pack(str(address)) == (V4 if address.version == 4 else b"") + address.packed
    assert pack(address.exploded) == pack(str(address))


def test_a_block_keeps_the_order_of_its_addresses() -> None:
    texts = ["203.0.113.9", "2001:db8::5", "203.0.113.9", "::"]
    block = pack_all(texts)
    assert block.shape == (4, 16)
    assert block.dtype == np.uint8
    assert [row.tobytes() for row in block] == [pack(text) for text in texts]
    assert (from_bytes([pack(text) for text in texts]) == block).all()


def test_a_block_of_nothing_has_the_shape_of_a_block() -> None:
    assert pack_all([]).shape == (0, 16)
    assert is_v4(pack_all([])).shape == (0,)


def test_only_the_mapped_range_is_ipv4() -> None:
    texts = [
        "192.0.2.1",
        "::ffff:192.0.2.1",
        "::192.0.2.1",
        "::",
        "::fffe:c000:201",
        "64:ff9b::192.0.2.1",
        "1::ffff:0:1",
    ]
    assert is_v4(pack_all(texts)).tolist() == [True, True, False, False, False, False, False]


@pytest.mark.parametrize("setting", [None, ""])
def test_without_a_setting_nobody_is_excluded(setting: str | None) -> None:
    assert not any(map(exclusion(setting), ["-", "192.0.2.1", "::1"]))


@pytest.mark.parametrize(
    ("setting", "excluded", "kept"),
    [
        (
            "198.51.100.0/24,2001:db8:ffff::/48",
            ["198.51.100.0", "198.51.100.255", "2001:db8:ffff::1", "2001:DB8:FFFF:0:0:0:0:1"],
            ["198.51.99.255", "198.51.101.0", "2001:db8:fffe::1", "-"],
        ),
        (" 198.51.100.7 , 203.0.113.0/25 ", ["198.51.100.7", "203.0.113.127"], ["198.51.100.8", "203.0.113.128"]),
        # The mapped form is the same client, and has the same index.
        ("198.51.100.0/24", ["::ffff:198.51.100.7", "::FFFF:c633:6407"], ["::198.51.100.7", "64:ff9b::198.51.100.7"]),
        ("::ffff:198.51.100.0/120", ["::ffff:198.51.100.7"], ["2001:db8::1"]),
        ("0.0.0.0/0", ["192.0.2.1", "::ffff:192.0.2.1"], ["2001:db8::1", "-"]),
        ("::/0", ["2001:db8::1"], ["192.0.2.1", "-"]),
        ("re:^198[.]51[.]", ["198.51.0.1"], ["192.0.2.198", "2001:db8::198"]),
        ("re:[.]7$", ["192.0.2.7"], ["192.0.2.70"]),
        ("re:^2001:db8:|^203", ["2001:db8::1", "203.0.113.1"], ["192.0.2.1"]),
        # Whatever a regular expression says, `-` is nobody's address.
        ("re:-", [], ["-"]),
        ("re:^[^:]+$", ["192.0.2.1"], ["-", "::1"]),
    ],
)
def test_a_setting_excludes_what_it_names(setting: str, excluded: list[str], kept: list[str]) -> None:
    is_excluded = exclusion(setting)
    assert [text for text in excluded if not is_excluded(text)] == []
    assert [text for text in kept if is_excluded(text)] == []


def test_the_ranges_of_the_hard_lines_are_the_setting_they_state() -> None:
    is_excluded = exclusion(hard_lines.EXCLUDED_SETTING)
    for text in ("198.51.100.7", "2001:db8:ffff:3::1", "192.0.2.1", "2001:db8:1::1", "198.51.101.0"):
        assert is_excluded(text) == hard_lines.is_excluded(text.encode())


@pytest.mark.parametrize(
    "setting",
    [",", "198.51.100.0/24,", "198.51.100.1/24", "198.51.100.0/33", "host", "-", "re:(", "re:[", "re:", "re:.*"],
)
def test_a_malformed_setting_is_refused(setting: str) -> None:
    with pytest.raises(SettingsError, match=r"S3LOGX_EXCLUDED_IPS: .*legal: CIDR ranges"):
        exclusion(setting)
