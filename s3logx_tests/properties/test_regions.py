"""Flattened ranges answer as a search through all prefixes does."""

import ipaddress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from s3logx_assets.core.addresses import pack_all
from s3logx_assets.core.regions import Claim, answers, ends, flatten, layer_of

_LABELS = 5
# To the tables this is where IPv4 lies; no provider claims it as IPv6.
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


@st.composite
def prefixes(draw: st.DrawFn) -> str:
    """A prefix within a small neighbourhood, so that many overlap; now and then anywhere at all."""
    version, width = draw(st.sampled_from([(4, 32), (6, 128)]))
    near = {4: 8 << 24, 6: 0x2A00 << 112}[version]
    spread = draw(st.sampled_from([4, 12, width]))
    address = (near if spread < width else 0) + draw(st.integers(0, (1 << spread) - 1))
    length = draw(st.integers(max(0, width - spread - 2), width))
    return str(ipaddress.ip_network((address, length), strict=False))


claims = st.lists(st.tuples(prefixes(), st.integers(0, 2), st.integers(1, _LABELS)), max_size=30)


def expected(texts: list[str], claimed: list[tuple[str, int, int]]) -> list[int]:
    """By search: the lowest rank, then the longest prefix, then the lowest code."""
    networks: list[tuple[Any, int, int]] = [(ipaddress.ip_network(p), rank, code) for p, rank, code in claimed]
    found = []
    for address in map(ipaddress.ip_address, texts):
        fitting = [
            (rank, -network.prefixlen, code)
            for network, rank, code in networks
            if network.version == address.version and address in network
        ]
        found.append(min(fitting)[2] if fitting else 0)
    return found


@settings(max_examples=150, deadline=None)
@given(claims, st.lists(prefixes(), max_size=10))
def test_flattening_equals_a_search_through_all_prefixes(claimed: list[tuple[str, int, int]], more: list[str]) -> None:
    texts = set()
    for network in map(ipaddress.ip_network, [*(prefix for prefix, _, _ in claimed), *more]):
        first, last = int(network.network_address), int(network.broadcast_address)
        kind: Any = type(network.network_address)
        texts |= {str(kind(a)) for a in (first - 1, first, last, last + 1) if 0 <= a < 1 << network.max_prefixlen}
    listed = sorted(text for text in texts if not _MAPPED.overlaps(ipaddress.ip_network(text)))
    claimed = [each for each in claimed if not _MAPPED.overlaps(ipaddress.ip_network(each[0]))]
    labels = [str(code) for code in range(1, _LABELS + 1)]
    layer = layer_of(
        (Claim(*ends(prefix), rank, code) for prefix, rank, code in claimed),
        answers(labels, ["cloud"] * _LABELS, [None] * _LABELS),
    )
    found = [int((layer.v6 if ":" in text else layer.v4).find(pack_all([text]))[0]) for text in listed]
    assert found == expected(listed, claimed)


@settings(max_examples=100, deadline=None)
@given(claims)
def test_flattened_ranges_ascend_and_no_neighbours_are_alike(claimed: list[tuple[str, int, int]]) -> None:
    starts, codes = flatten(Claim(*ends(prefix), rank, code) for prefix, rank, code in claimed)
    breaks = {0, 0xFFFF << 32, 1 << 48}
    assert starts == sorted(set(starts))
    assert breaks <= set(starts)
    assert all(codes[i] != codes[i - 1] or starts[i] in breaks for i in range(1, len(starts)))
