"""What finding regions is measured on, without the peers: all forms of a range table give the same answers."""

import ipaddress
import socket
from pathlib import Path

import maxminddb
import numpy as np
import pytest

from s3logx_assets.core.addresses import AddressBlock, is_v4
from s3logx_assets.core.regions import Claim, Layer, RangeTable, answers, classify, ends, layer_of
from s3logx_tests.bench.measure import Outcome, Sample
from s3logx_tests.bench.region_data import BITS, drawn, embedded_layer, levels, mmdb_of
from s3logx_tests.bench.regions import same_labels


@pytest.fixture(scope="module")
def addresses() -> AddressBlock:
    return drawn(400)


@pytest.fixture(scope="module")
def layer() -> Layer:
    """A few ranges, one of them no prefix, both ends of the address space among them."""
    prefixes = {"1.0.0.0/8": 1, "1.2.0.0/16": 2, "223.0.0.0/8": 1, "128.0.0.0/1": 3, "2000::/3": 2, "2a00::/12": 1}
    claims = [Claim(*ends(prefix), rank=0, code=code) for prefix, code in prefixes.items()]
    claims.append(Claim(ends("9.9.9.7/32")[0], ends("9.9.9.12/32")[0], rank=0, code=2))
    made = layer_of(claims, answers(["A", "B/ä", "C"], ["geolocation"] * 3, [None] * 3))
    top = made.v6.starts.astype("V16").view(">u8")[::2].astype(np.uint64)
    return Layer(made.v4, RangeTable(top, made.v6.codes), made.answers)


def test_addresses_are_distinct_routable_half_ipv6_and_partly_known(addresses: AddressBlock) -> None:
    assert addresses.shape == (400, 16)
    assert len({row.tobytes() for row in addresses}) == 400
    assert int(is_v4(addresses).sum()) == 200
    regions = classify(addresses, [embedded_layer()])["region"].to_pylist()
    assert "bogon" not in regions
    assert regions.count("unknown") < 150
    assert (drawn(400) == addresses).all()


def test_undivided_branches_are_the_fewest_prefixes_of_the_ranges(layer: Layer) -> None:
    found = []
    for level in levels(layer.v4, 32):
        whole = ~level.divided & (level.codes > 0)
        found += [
            (str(ipaddress.ip_network((first, level.length))), code)
            for first, code in zip(level.firsts[whole].tolist(), level.codes[whole].tolist(), strict=True)
        ]
    middle = ["9.9.9.7/32", "9.9.9.8/30", "9.9.9.12/32"]
    assert {prefix for prefix, code in found if code == 2} == {"1.2.0.0/16", *middle}
    around = ipaddress.IPv4Network("1.0.0.0/8").address_exclude(ipaddress.IPv4Network("1.2.0.0/16"))
    assert {prefix for prefix, code in found if code == 1} == {*map(str, around), "223.0.0.0/8"}


def test_the_mmdb_files_answer_as_the_ranges(layer: Layer, addresses: AddressBlock, tmp_path: Path) -> None:
    labels = layer.answers["region"].to_pylist()
    kinds = {"v4": (socket.AF_INET, 12, is_v4(addresses)), "v6": (socket.AF_INET6, 0, ~is_v4(addresses))}
    for family in BITS:
        path = tmp_path / f"{family}.mmdb"
        path.write_bytes(mmdb_of(layer, family))
        kind, skipped, in_family = kinds[family]
        asked = addresses[in_family]
        expected = [labels[code] for code in getattr(layer, family).find(asked).tolist()]
        assert len(set(expected)) > 1
        with maxminddb.open_database(str(path)) as reader:
            found = [reader.get(socket.inet_ntop(kind, row.tobytes()[skipped:])) or "unknown" for row in asked]
        assert found == expected


def test_other_labels_are_an_error() -> None:
    def sample(rows: int, **extra: float) -> Sample:
        return Sample(1.0, 1.0, 1, 1, Outcome(rows, None, extra))

    same_labels({"match": sample(5, labels=7.0), "peer": sample(5, labels=7.0), "steps": sample(5)})
    with pytest.raises(AssertionError, match="match, peer do not name the same labels"):
        same_labels({"match": sample(5, labels=7.0), "peer": sample(5, labels=8.0)})
    with pytest.raises(AssertionError, match="not all saw all"):
        same_labels({"match": sample(5, labels=7.0), "steps": sample(4)})
