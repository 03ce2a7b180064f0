"""From sealed addresses to regions: the range match alone against the usual structures for it, and the whole step.

The match is that of the embedded region table, 4.2 million ranges. The peers hold the very same ranges, as the fewest
prefixes that make them up: pytricia a Patricia trie of each address family, maxminddb a search tree of each in its own
file format, whose data are the labels and nothing else. Each is given the addresses in the form that it likes best, and
must name the same label for each. The whole step is what the assets `ip_indexes` and `ip_regions` do of a date.
"""

import base64
import hashlib
import json
import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from s3logx_assets.assets.addresses import IP_INDEXES_ASSET, IP_REGIONS_ASSET
from s3logx_assets.assets.daily import Tools
from s3logx_assets.core.addresses import AddressBlock, is_v4
from s3logx_assets.core.regions import UNKNOWN
from s3logx_assets.resources import build_resources
from s3logx_assets.settings import Settings
from s3logx_tests.bench.measure import Contestant, Outcome, Round, Step, middle, ratio, run_rounds
from s3logx_tests.bench.measurements import Bench, Measured
from s3logx_tests.bench.region_data import BITS, DAY, KEY, embedded_layer, levels, region_data

_MODULE = "s3logx_tests.bench.regions"
_PEERS = ("pytricia", "maxminddb")
_ADDRESSES = 1_000_000
_WARM_UP = 2_000
# Building a trie of millions of prefixes takes half a minute, each time.
_MOST_ROUNDS = 3


def regions(bench: Bench) -> Measured:
    """A million distinct addresses, half of them IPv6, to their regions."""
    number = round(_ADDRESSES * bench.data.scale)
    data, warm_up = (region_data(bench.data.root / f"regions-{size}", size) for size in (number, _WARM_UP))
    contestants = [Contestant(name, f"{_MODULE}:{name}", data) for name in ("match", *_PEERS, "steps")]
    rounds = run_rounds(contestants, min(bench.rounds, _MOST_ROUNDS), bench.scratch, warm_up, same_labels, bench.tell)
    figures = {f"regions_vs_{peer}": ratio(rounds, peer, "match") for peer in _PEERS}
    figures["regions_million_seconds"] = middle(rounds, "steps", lambda sample: sample.seconds)
    figures["regions_million_peak_mb"] = middle(rounds, "steps", lambda sample: sample.peak_bytes / 1e6)
    notes = [
        "`match`, pytricia and maxminddb look every address up in the same ranges of both families, those of the"
        " embedded region table (from DB-IP City Lite; packaged as ranges, so its MMDB is written here), and name the"
        " same labels. Building their structures is not counted.",
        "`steps` is what the assets `ip_indexes` and `ip_regions` do of a date on which each address asked once: read,"
        " unseal, index, load the tables, find the regions (clouds and VPNs too), count for the metadata, write. Only"
        " the flattening of the clouds' ranges, done once and kept, comes before.",
    ]
    return Measured(f"{number:,} sealed addresses to regions", rounds, figures, notes)


def match(data: Path, out: Path) -> Step:
    """This project's range match."""
    layer = embedded_layer()
    labels = layer.answers["region"].combine_chunks()
    addresses = _addresses(data)

    def step() -> Callable[[], Outcome]:
        code = np.zeros(len(addresses), np.uint16)
        four = is_v4(addresses)
        for in_family, ranges in ((four, layer.v4), (~four, layer.v6)):
            code[in_family] = ranges.find(addresses[in_family])
        found = labels.take(pa.array(code))
        return lambda: _outcome(found.to_pylist())

    return step


def pytricia(data: Path, out: Path) -> Step:
    """Packed addresses as keys, which are its fastest, and the tries frozen."""
    import pytricia as engine

    layer = embedded_layer()
    labels = layer.answers["region"].to_pylist()
    tries = {"v4": engine.PyTricia(32, socket.AF_INET), "v6": engine.PyTricia(128, socket.AF_INET6)}
    for family, trie in tries.items():
        width = BITS[family] // 8
        rest = bytes(0 if family == "v4" else 8)
        for level in levels(getattr(layer, family), BITS[family]):
            whole = ~level.divided
            for first, code in zip(level.firsts[whole].tolist(), level.codes[whole].tolist(), strict=True):
                trie.insert(first.to_bytes(width, "big") + rest, level.length, labels[code])
        trie.freeze()
    return _one_by_one(_addresses(data), tries["v4"].get, tries["v6"].get, lambda family, packed: packed)


def maxminddb(data: Path, out: Path) -> Step:
    """The reader in C over memory-mapped files; it takes texts."""
    import maxminddb as engine

    v4, v6 = (engine.open_database(str(data / f"{family}.mmdb"), engine.MODE_MMAP_EXT) for family in BITS)
    return _one_by_one(_addresses(data), v4.get, v6.get, socket.inet_ntop)


def _one_by_one(
    addresses: AddressBlock,
    get_v4: Callable[[Any], str | None],
    get_v6: Callable[[Any], str | None],
    form: Callable[[int, bytes], Any],
) -> Step:
    """The step of an engine that is asked for single addresses."""
    asked = [
        (get_v4, form(socket.AF_INET, packed[12:])) if four else (get_v6, form(socket.AF_INET6, packed))
        for four, packed in zip(is_v4(addresses).tolist(), addresses.view("V16")[:, 0].tolist(), strict=True)
    ]

    def step() -> Callable[[], Outcome]:
        found = [get(address) for get, address in asked]
        return lambda: _outcome(found)

    return step


def steps(data: Path, out: Path) -> Step:
    """The two assets, as a run has them."""
    shutil.copytree(data / "store", out / "store")
    environment = {
        "DAGSTER_HOME": str(data / "home"),
        "S3LOGX_LOGS": str(data),
        "S3LOGX_STORE": str(out / "store"),
        "S3LOGX_FIRST_DATE": DAY.isoformat(),
        "S3LOGX_KEY": base64.b64encode(KEY).decode(),
    }

    def step() -> Callable[[], Outcome]:
        resources: dict[str, Any] = build_resources(Settings.read(environment))
        used = {field.name: resources[field.name] for field in fields(Tools) if field.name in resources}
        tools = Tools(**used, log=lambda line: None)
        rows = 0
        for asset in (IP_INDEXES_ASSET, IP_REGIONS_ASSET):
            assert asset.make is not None
            rows = asset.make(tools, DAY).metadata["dagster/partition_row_count"]
        return lambda: Outcome(rows)

    return step


def same_labels(samples: Round) -> None:
    """Raises AssertionError unless all have as many rows, and all who match name the same labels."""
    assert len({sample.outcome.rows for sample in samples.values()}) == 1, "not all saw all addresses"
    named = {name: sample.outcome.extra["labels"] for name, sample in samples.items() if sample.outcome.extra}
    assert len(set(named.values())) == 1, f"{', '.join(named)} do not name the same labels"


def _outcome(labels: Sequence[str | None]) -> Outcome:
    """How many labels, and a digest of them in their order. A peer says None for what it does not know."""
    text = json.dumps([label or UNKNOWN for label in labels]).encode()
    return Outcome(len(labels), None, {"labels": float(int.from_bytes(hashlib.sha256(text).digest()[:6], "big"))})


def _addresses(data: Path) -> AddressBlock:
    addresses: AddressBlock = np.load(data / "addresses.npy")
    return addresses
