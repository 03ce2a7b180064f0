"""Bogons, addresses that carry another, the order of labels, and the country that a label counts for."""

import ipaddress

import numpy as np
import pyarrow as pa
import pytest

from s3logx_assets.core.addresses import pack_all
from s3logx_assets.core.regions import (
    ANSWERS,
    METHODS,
    Claim,
    Layer,
    answers,
    classify,
    client_addresses,
    country_of,
    ends,
    flatten,
    layer_of,
)

_BOGONS = """
0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 169.254.169.254 172.16.0.0
172.31.255.255 192.0.0.1 192.0.0.8 192.0.0.11 192.0.2.0 192.0.2.255 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0
198.19.255.255 198.51.100.7 203.0.113.255 224.0.0.1 239.255.255.255 240.0.0.0 255.255.255.255
:: ::1 ::7f00:1 100::1 100:0:0:1::1 64:ff9b:1::1 2001:2::1 2001:10::1 2001:1ff:ffff::1 2001:db8::1
2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 3fff::1 3fff:fff:ffff::1 4000::1 5f00::1 8000::1 fc00::1 fd12:3456::1 fe80::1
febf::1 fec0::1 ff02::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
"""

_ROUTABLE = """
1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0
172.15.255.255 172.32.0.0 191.255.255.255 192.0.0.9 192.0.0.10 192.0.1.0 192.0.3.0 192.31.196.1 192.52.193.1 192.88.98.255
192.88.100.0 192.167.255.255 192.169.0.0 192.175.48.1 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0
203.0.112.255 203.0.114.0 223.255.255.255
2000:: 2001:1::1 2001:1::2 2001:3::1 2001:4:112::1 2001:20::1 2001:2f:ffff::1 2001:30::1 2001:200::1 2001:db7:ffff::1
2001:db9::1 2003::1 2600::1 2620:4f:8000::1 3ffe::1 3fff:1000::1
"""
BOGONS, ROUTABLE = _BOGONS.split(), _ROUTABLE.split()


def regions(*texts: str, layers: tuple[Layer, ...] = ()) -> list[str]:
    found: list[str] = classify(pack_all(texts), layers)["region"].to_pylist()
    return found


def layer(*claims: tuple[str, int, str], method: str = "cloud") -> Layer:
    labels = sorted({label for _, _, label in claims})
    return layer_of(
        (Claim(*ends(prefix), rank, labels.index(label) + 1) for prefix, rank, label in claims),
        answers(labels, [method] * len(labels), [None] * len(labels)),
    )


def test_what_is_not_routable_is_a_bogon() -> None:
    found = dict(zip(BOGONS, regions(*BOGONS), strict=True))
    assert {text for text, region in found.items() if region != "bogon"} == set()


def test_what_is_routable_is_no_bogon() -> None:
    found = dict(zip(ROUTABLE, regions(*ROUTABLE), strict=True))
    assert {text for text, region in found.items() if region != "unknown"} == set()


def test_bogons_agree_with_the_standard_library() -> None:
    """For IPv4, but for multicast, the withdrawn relay prefix, and 192.0.0.0/24, which Python has whole since 3.13 only."""
    texts = [text for text in BOGONS + ROUTABLE if ":" not in text and not text.startswith("192.0.0.")]
    for text, region in zip(texts, regions(*texts), strict=True):
        address = ipaddress.ip_address(text)
        expected = not address.is_global or address.is_multicast or text.startswith("192.88.99.")
        assert (region == "bogon") is expected, text


@pytest.mark.parametrize(
    ("carrier", "client"),
    [
        ("::ffff:8.8.8.8", "8.8.8.8"),
        ("2002:808:808::1", "8.8.8.8"),
        ("2002:0a01:0203:4::5", "10.1.2.3"),
        ("64:ff9b::8.8.4.4", "8.8.4.4"),
        ("64:ff9b::192.168.1.1", "192.168.1.1"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "192.0.2.45"),  # the example of RFC 4380
        ("2001:0:4136:e378:8000:63bf:f7f7:f7f7", "8.8.8.8"),
    ],
)
def test_an_address_that_carries_its_clients_address_is_judged_by_that(carrier: str, client: str) -> None:
    assert client_addresses(pack_all([carrier])).tolist() == pack_all([client]).tolist()
    google = layer(("8.8.0.0/16", 0, "here"))
    assert regions(carrier, layers=(google,)) == regions(client, layers=(google,))


def test_only_the_well_known_translation_prefix_carries_an_address() -> None:
    texts = ["64:ff9b:1::8.8.8.8", "64:ff9b:0:0:0:1:808:808", "2003:808:808::1", "2001:1:808:808::1"]
    block = pack_all(texts)
    assert client_addresses(block) is block


def test_the_first_layer_that_knows_an_address_answers_and_a_bogon_comes_before_all() -> None:
    first = layer(("1.0.0.0/8", 0, "first"), ("10.0.0.0/8", 0, "first"), ("2600::/16", 0, "first"))
    second = layer(("1.0.0.0/8", 0, "second"), ("2.0.0.0/8", 0, "second"), ("2600::/12", 0, "second"), method="vpn")
    texts = ["1.2.3.4", "2.2.3.4", "3.2.3.4", "10.2.3.4", "2600::1", "2601::1", "2a00::1"]
    found = classify(pack_all(texts), (first, second))
    assert found["region"].to_pylist() == ["first", "second", "unknown", "bogon", "first", "second", "unknown"]
    assert found["method"].to_pylist() == ["cloud", "vpn", "none", "bogon", "cloud", "vpn", "none"]
    assert set(found["method"].to_pylist()) <= set(METHODS)
    assert found["subdivision"].null_count == len(texts)


def test_the_lower_rank_stands_then_the_smaller_range() -> None:
    ranked = layer(
        ("8.0.0.0/8", 1, "wide"),
        ("8.8.0.0/16", 1, "narrow"),
        ("8.8.8.0/24", 2, "narrower but later"),
        ("8.9.0.0/16", 0, "first"),
        ("8.9.9.0/24", 1, "later"),
        ("2a00::/16", 1, "wide"),
        ("2a00::1/128", 1, "one"),
    )
    texts = ["8.1.1.1", "8.8.1.1", "8.8.8.8", "8.9.9.9", "9.0.0.0", "7.255.255.255", "2a00::", "2a00::1", "2a00::2"]
    assert regions(*texts, layers=(ranked,)) == [
        *("wide", "narrow", "narrow", "first", "unknown", "unknown", "wide", "one", "wide")
    ]


def test_the_whole_space_can_be_claimed_and_nothing_at_all() -> None:
    assert flatten([]) == ([0, 0xFFFF << 32, 1 << 48], [0, 0, 0])
    assert flatten([Claim(0, (1 << 128) - 1, 0, 3)]) == ([0, 0xFFFF << 32, 1 << 48], [3, 3, 3])


@pytest.mark.parametrize("prefix", ["8.8.8.8/24", "2a00::1/64", "8.8.8.8/33", "here/8", "8.8.8.0/"])
def test_what_is_not_a_prefix_is_refused(prefix: str) -> None:
    with pytest.raises((ValueError, OSError)):
        ends(prefix)


def test_no_addresses_give_an_empty_table_of_the_same_form() -> None:
    found = classify(np.zeros((0, 16), np.uint8), ())
    assert found.num_rows == 0
    assert found.schema.equals(ANSWERS)
    assert classify(pack_all(["10.0.0.1", "fe80::1"]), ()).schema.equals(ANSWERS)


def test_answers_keep_the_order_of_the_addresses() -> None:
    texts = ["8.8.8.8", "fe80::1", "1.1.1.1", "10.0.0.1", "2600::1", "8.8.8.8"]
    known = layer(("8.8.8.0/24", 0, "a"), ("1.1.1.0/24", 0, "b"), ("2600::/16", 0, "c"))
    assert regions(*texts, layers=(known,)) == ["a", "bogon", "b", "bogon", "c", "a"]
    assert regions(*reversed(texts), layers=(known,)) == ["a", "c", "bogon", "b", "bogon", "a"]


@pytest.mark.parametrize(
    ("label", "country"),
    [
        ("US/California", "US"),
        ("US", "US"),
        ("GB/England", "GB"),
        ("BO/La Paz/El Alto", "BO"),
        ("AWS/us-east-2", "US"),
        ("AWS/us-gov-west-1", "US"),
        ("AWS/eu-west-1", "EU"),
        ("AWS/cn-north-1", "CN"),
        ("AWS/GLOBAL", None),
        ("AWS", None),
        ("AWS/", None),
        ("GCP/us-central1", None),
        ("Azure/eastus", None),
        ("DigitalOcean/US-NJ", None),
        *((label, None) for label in ("GitHub", "VPN", "bogon", "unknown", "undetermined", "missing", "internal")),
        ("", None),
        ("us/California", None),
        ("IBM", None),
    ],
)
def test_the_country_of_a_label(label: str, country: str | None) -> None:
    assert country_of(label) == country


def test_answers_start_with_unknown() -> None:
    table = answers(["US/Ohio"], ["geolocation"], ["US-OH"])
    assert table.to_pylist() == [
        {"region": "unknown", "method": "none", "subdivision": None},
        {"region": "US/Ohio", "method": "geolocation", "subdivision": "US-OH"},
    ]
    assert isinstance(table, pa.Table)
