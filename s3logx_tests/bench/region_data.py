"""What finding regions is measured on: addresses, a store with a date of them, and a range table in the forms that
others look addresses up in. Made once and used again. Who looks them up does not belong here.
"""

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3logx_assets.adapters import cloud_ranges, key_store, region_tables
from s3logx_assets.adapters.local_files import LocalFiles
from s3logx_assets.adapters.table_store import TableStore, partition
from s3logx_assets.core.addresses import AddressBlock
from s3logx_assets.core.digests import table_digest
from s3logx_assets.core.regions import BOGON, V4_FIRST, Layer, RangeTable, classify
from s3logx_assets.core.schemas import EXTRACTED_LOGS
from s3logx_tests.mmdb_writer import assembled, encoded

KEY = bytes(range(32))
DAY = date(2025, 3, 1)
# The address bits that the embedded table tells apart.
BITS = {"v4": 32, "v6": 64}
_SEED = 20_250_301

Words = NDArray[np.uint64]  # (n,) an IPv4 address, or the first 64 bits of an IPv6 address


class Level(NamedTuple):
    """All branches of one length of the binary tree of a range table, ascending: where they begin (n,), whether ranges
    divide them further (n,) and, for those that are not divided, the code of their range (n,)."""

    length: int
    firsts: Words
    divided: NDArray[np.bool_]
    codes: NDArray[Any]


def embedded_layer() -> Layer:
    """The region table of the package."""
    return region_tables.read(Path(region_tables.__file__).parents[1] / "data").layer()


def levels(ranges: RangeTable, bits: int) -> Iterator[Level]:
    """The binary tree of a range table from its root down. The branches that are not divided are the fewest prefixes
    that make up the ranges."""
    starts = ranges.starts.astype(np.uint64)
    nodes = np.zeros(1, np.uint64)
    for length in range(1, bits + 1):
        shift = np.uint64(bits - length)
        branches = np.repeat(nodes * np.uint64(2), 2)
        branches[1::2] += np.uint64(1)
        firsts = branches << shift
        nodes = starts[starts & ((np.uint64(1) << shift) - np.uint64(1)) != 0] >> shift
        nodes = nodes[np.append(True, nodes[1:] != nodes[:-1])] if nodes.size else nodes
        codes = ranges.codes[np.searchsorted(starts, firsts, side="right") - 1]
        yield Level(length, firsts, np.isin(branches, nodes), codes)
        if not nodes.size:
            return


def mmdb_of(layer: Layer, family: str) -> bytes:
    """One family of a layer as an MMDB file whose data are the labels themselves."""
    tree = list(levels(getattr(layer, family), BITS[family]))
    node_count = sum(level.firsts.size // 2 for level in tree)
    data, record_of = b"", [node_count]
    for label in layer.answers["region"].to_pylist()[1:]:
        record_of.append(node_count + 16 + len(data))
        data += encoded(label)
    records, numbered = [], 1
    for level in tree:
        record = np.array(record_of)[level.codes]
        inner = int(np.count_nonzero(level.divided))
        record[level.divided] = np.arange(numbered, numbered + inner)
        numbered += inner
        records.append(record)
    search_tree = np.concatenate(records).astype(">u4").tobytes()
    return assembled(search_tree, node_count, data, ip_version=int(family[1]))


def drawn(number: int) -> AddressBlock:
    """(number, 16) distinct routable addresses in no order, half of them IPv6; of each half, half from within the ranges
    of the embedded table, half from anywhere."""
    random = np.random.default_rng(_SEED)
    layer = embedded_layer()
    v4 = np.concatenate([_inside(random, layer.v4, 32, number), random.integers(1 << 24, 224 << 24, number, np.uint64)])
    v6 = np.concatenate([_inside(random, layer.v6, 64, number), random.integers(1 << 61, 1 << 62, number, np.uint64)])
    low = random.integers(0, 1 << 64, v6.size, np.uint64)
    mapped = np.full(v4.size, V4_FIRST >> 32 << 32, np.uint64)
    parts = []
    for high, rest in ((np.zeros_like(v4), mapped + v4), (v6, low)):
        block = np.stack([high, rest], axis=1).astype(">u8").view(np.uint8)
        block = block[np.flatnonzero(np.asarray(classify(block, [])["region"]) != BOGON)]
        # Equal addresses have equal words, and so the same sum of them without carry.
        _, first = np.unique(block.view(">u8")[:, 0] ^ block.view(">u8")[:, 1], return_index=True)
        parts.append(block[random.permutation(first)[: number // 2]])
    return random.permutation(np.concatenate(parts))


def _inside(random: np.random.Generator, ranges: RangeTable, bits: int, number: int) -> Words:
    """From within ranges that have a code, each as likely as the other."""
    starts = ranges.starts.astype(np.uint64)
    lasts = np.append(starts[1:] - np.uint64(1), np.uint64((1 << bits) - 1))
    chosen = random.choice(np.flatnonzero(ranges.codes), number)
    return np.asarray(random.integers(starts[chosen], lasts[chosen], dtype=np.uint64, endpoint=True))


def region_data(folder: Path, number: int) -> Path:
    """The folder with `number` addresses in addresses.npy, a store in which each of them asked once, the MMDB files and
    a home with its cache; made if need be."""
    if not folder.exists():
        making = folder.with_name(f"{folder.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        (making / "home").mkdir(parents=True)
        addresses = drawn(number)
        np.save(making / "addresses.npy", addresses)
        private = making / "store" / "private"
        sealer = key_store.open_sealer(LocalFiles(private), making / "home", KEY, lambda line: None)
        _store(TableStore(private), sealer.seal(addresses))
        cloud_ranges.load(making / "home" / "cache")
        layer = embedded_layer()
        for family in BITS:
            (making / f"{family}.mmdb").write_bytes(mmdb_of(layer, family))
        making.rename(folder)
    return folder


def _store(store: TableStore, sealed: AddressBlock) -> None:
    number = len(sealed)
    columns = {
        "object_key": pa.DictionaryArray.from_arrays(pa.array(np.zeros(number, np.int32)), ["ds000001/README"]),
        "requested_at": pa.array(np.arange(number) * 80_000 // number * 1000, pa.timestamp("ms", tz="UTC")),
        "bytes_sent": pa.array(np.full(number, 100)),
        "object_size": pa.array(np.full(number, 100)),
        "status": pa.array(np.full(number, 200, np.int16)),
        "sealed_ip": pa.array(sealed.view("V16")[:, 0].tolist(), pa.binary(16)),
    }
    table = pa.table([columns[name] for name in EXTRACTED_LOGS.names], schema=EXTRACTED_LOGS)
    record = {"data_version": table_digest(table), "counts": {"extracted": number}}
    store.write("extracted_logs", partition(DAY), table, record)
