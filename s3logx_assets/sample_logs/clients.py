"""Who asks the sample archive for files: addresses, programs and habits.

Addresses are random hosts in public ranges of well-known universities, research networks, access
providers and clouds, so that region names vary as they do for a real archive, and at most a few in
ranges reserved for documentation. No address belongs to a person that anyone knows of.
How a request then looks in the log does not belong here.
"""

import socket
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from ipaddress import ip_network
from typing import Final

import numpy as np
import numpy.typing as npt

from s3logx_assets.sample_logs.catalogue import Catalogue
from s3logx_assets.sample_logs.randomness import (
    Floats,
    Ints,
    Pieces,
    draw,
    make_rng,
    pieces,
    zipf_steps,
)

BUCKET: Final = b"openscience"
BUCKET_REGION: Final = b"us-east-2"
ACCOUNT: Final = b"111122223333"


class Kind(IntEnum):
    """What becomes of a request; the kinds from PUT on are the archive's and Amazon's own."""

    OK = 0
    ABORTED = 1
    RANGE = 2
    SIGNED = 3
    NOT_MODIFIED = 4
    FORBIDDEN = 5
    MISSING = 6
    BAD_RANGE = 7
    SERVER_ERROR = 8
    HEAD = 9
    HEAD_MISSING = 10
    LIST = 11
    WEBSITE = 12
    OTHER = 13
    PUT = 14
    EXPIRE = 15
    BATCH_DELETE = 16
    INTERNAL_GET = 17


# Relative weights of the kinds OK to OTHER, and of the dataset families that each program's users
# come for (BIDS, NWB, Zarr, loose keys).
_PROGRAMS: Final[dict[str, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "browser": ((42, 5, 10, 9, 12, 3, 5, 0.3, 0.3, 3, 0.4, 2, 5, 3), (3, 2, 2, 9)),
    "sync": ((44, 2, 21, 0, 0.4, 2, 1.5, 0.3, 0.6, 16, 1, 11, 0, 0.2), (5, 3, 1, 1)),
    "annex": ((46, 3, 5, 0, 0.3, 2, 3, 0.3, 0.4, 37, 3, 0, 0, 0), (6, 0.3, 0.2, 0)),
    "stream": ((8, 1, 56, 8, 0.2, 2, 2, 1, 0.5, 19, 1, 1.3, 0, 0), (0.3, 6, 2, 0)),
    "viewer": ((52, 2, 8, 1, 9, 1, 22, 0.2, 0.3, 1, 2, 0.5, 0, 1), (0.2, 0.6, 6, 0)),
    "fetch": ((60, 8, 12, 1, 0.6, 5, 7, 0.8, 0.6, 4, 1, 0, 0, 0), (2, 2, 0.3, 2)),
    "crawler": ((24, 1, 1, 0, 4, 21, 38, 0, 0.3, 6, 2, 2, 0.5, 0.2), (1, 1, 1, 4)),
}
PROGRAM_NAMES: Final = tuple(_PROGRAMS)
_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36"
_AGENTS: Final[dict[str, tuple[str, ...]]] = {
    "browser": (
        *(f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME.format(n)}" for n in (131, 132, 133)),
        *(f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_CHROME.format(n)}" for n in (130, 133)),
        "Mozilla/5.0 (X11; Linux x86_64; rv:135.0) Gecko/20100101 Firefox/135.0",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
        " Version/18.2 Safari/605.1.15",
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME.format(132)} Edg/132.0.0.0",
    ),
    "sync": (
        "aws-cli/2.22.35 md/awscrt#0.23.4 ua/2.0 os/linux#6.8.0-51-generic md/arch#x86_64"
        " lang/python#3.12.6 md/pyimpl#CPython md/prompt#off md/command#s3.sync",
        "aws-cli/1.37.4 md/Botocore#1.36.4 ua/2.0 os/linux#5.15.0 lang/python#3.10.12",
        "Boto3/1.36.11 md/Botocore#1.36.11 ua/2.0 os/macos#24.2.0 md/arch#arm64 lang/python#3.11.9 Resource",
        "Boto3/1.21.19 Python/3.9.10 Linux/4.4.0-1104-aws Botocore/1.24.19 Resource",
        "rclone/v1.68.2",
        "S3A 3.4.1, aws-sdk-java/2.24.6 Linux/5.10 OpenJDK_64-Bit_Server_VM/17.0.13",
    ),
    "annex": (
        "git-annex/10.20241202",
        "git-annex/10.20220927-geb4a544",
        "DataLad/1.1.4 python-requests/2.32.3",
    ),
    "stream": (
        "aiobotocore/2.17.0 md/Botocore#1.35.93 ua/2.0 os/linux#6.1 md/arch#x86_64 lang/python#3.11.11",
        "Python/3.12 aiohttp/3.11.11",
        "python-requests/2.32.3",
        "libhdf5/1.14.5 (ros3 VFD)",
        "MATLAB 24.2.0.2833386 (R2024b) Update 4",
    ),
    "viewer": (
        f"Mozilla/5.0 (X11; Linux x86_64) {_CHROME.format(131)}",
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME.format(133)}",
        "Mozilla/5.0 (iPad; CPU OS 17_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    ),
    "fetch": ("curl/8.9.1", "Wget/1.21.4", "curl/7.81.0", "axel/2.17.11 (Linux)", "R (4.4.2)", "-"),
    "crawler": (
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "CCBot/2.0 (https://commoncrawl.org/faq/)",
        "Go-http-client/1.1",
    ),
}
_REFERERS: Final[dict[str, tuple[str, ...]]] = {
    "browser": (
        "-",
        "-",
        "https://openneuro.org/",
        "https://dandiarchive.org/",
        "https://scholar.google.com/scholar?q=fmri+dataset&hl=en",
        "https://www.nature.com/",
    ),
    "viewer": (
        "https://neuroglancer-demo.appspot.com/",
        "https://neurosift.app/",
        "https://ome.github.io/",
    ),
}

# Which programs run on which kind of network, in the order of PROGRAM_NAMES.
_PROGRAMS_OF_NETWORK: Final[dict[str, tuple[float, ...]]] = {
    "campus": (22, 26, 13, 16, 10, 12, 1),
    "access": (44, 12, 3, 9, 14, 13, 5),
    "cloud": (1, 40, 6, 30, 1, 9, 13),
    "reserved": (30, 30, 5, 15, 5, 15, 0),
}
_NETWORK_SHARES: Final = {"campus": 0.44, "access": 0.31, "cloud": 0.22, "reserved": 0.03}

# The first of each list are drawn more often than the last. AWS prefixes carry the region that S3
# would log as the source region.
_NETWORKS: Final = {
    "campus": """
        18.9.0.0/16 171.64.0.0/14 128.32.0.0/16 128.59.0.0/16 128.122.0.0/16 128.103.0.0/16
        130.132.0.0/16 128.112.0.0/16 128.54.0.0/16 128.97.0.0/16 128.95.0.0/16 141.211.0.0/16
        128.252.0.0/16 130.126.0.0/16 128.62.0.0/16 152.3.0.0/16 128.220.0.0/16 128.231.0.0/16
        129.170.0.0/16 128.101.0.0/16 129.79.0.0/16 2607:f140::/32 2607:f010::/32 2607:f470::/32
        129.67.0.0/16 131.111.0.0/16 128.40.0.0/16 129.215.0.0/16 130.88.0.0/16 131.251.0.0/16
        2001:630::/32 129.132.0.0/16 128.178.0.0/16 130.92.0.0/16 128.141.0.0/16 2001:620::/32
        131.159.0.0/16 141.42.0.0/16 129.206.0.0/16 134.76.0.0/16 134.94.0.0/16 134.100.0.0/16
        2001:638::/32 134.58.0.0/16 157.193.0.0/16 145.18.0.0/16 131.174.0.0/16 131.211.0.0/16
        2001:610::/32 130.237.0.0/16 129.240.0.0/16 130.225.0.0/16 128.214.0.0/16 2001:708::/32
        128.93.0.0/16 129.199.0.0/16 2001:660::/32 147.83.0.0/16 147.156.0.0/16 137.204.0.0/16
        151.100.0.0/16 193.136.0.0/15 134.226.0.0/16 131.130.0.0/16 147.229.0.0/16 149.156.0.0/16
        147.102.0.0/16 157.181.0.0/16 133.11.0.0/16 134.160.0.0/16 133.1.0.0/16 2001:200::/32
        166.111.0.0/16 162.105.0.0/16 2001:da8::/32 143.248.0.0/16 147.46.0.0/16 137.132.0.0/16
        140.112.0.0/16 147.8.0.0/16 128.250.0.0/16 129.78.0.0/16 129.94.0.0/16 150.203.0.0/16
        2001:388::/32 130.216.0.0/16 128.100.0.0/16 132.216.0.0/16 137.82.0.0/16 132.204.0.0/16
        136.159.0.0/16 129.173.0.0/16 132.248.0.0/16 143.107.0.0/16 143.106.0.0/16 146.83.0.0/16
        157.92.0.0/16 137.158.0.0/16 146.141.0.0/16 2001:4200::/32 132.68.0.0/16 132.76.0.0/16
        132.64.0.0/16 160.75.0.0/16 144.122.0.0/16 196.200.128.0/18 41.204.160.0/19
    """,
    "access": """
        73.0.0.0/8 71.160.0.0/11 99.0.0.0/10 108.0.0.0/9 70.160.0.0/11 2601::/20 2600:1700::/28
        2600:4040::/28 24.48.0.0/14 142.112.0.0/13 2607:fea8::/32 79.192.0.0/10 87.128.0.0/10
        2003::/20 2a02:8100::/28 86.128.0.0/10 2a00:23c0::/26 2a02:c7c::/32 90.0.0.0/10
        82.64.0.0/14 2a01:cb00::/24 2a01:e00::/26 83.32.0.0/11 79.0.0.0/10 77.160.0.0/12
        2a02:a440::/26 81.224.0.0/12 84.208.0.0/13 95.24.0.0/13 88.224.0.0/11 153.128.0.0/10
        126.0.0.0/10 240b:10::/28 121.128.0.0/10 116.224.0.0/12 123.112.0.0/12 113.64.0.0/10
        2409:8a00::/24 240e:300::/24 122.160.0.0/12 106.192.0.0/11 2409:4000::/24 1.120.0.0/13
        2001:8003::/32 189.128.0.0/10 2806:2f0::/32 177.32.0.0/12 2804:14c::/31 190.192.0.0/13
        114.32.0.0/12 1.0.128.0/17 14.160.0.0/11 175.136.0.0/13 41.0.0.0/11 105.112.0.0/12
        156.192.0.0/11 2.176.0.0/12
    """,
    "cloud": """
        3.80.0.0/12=us-east-1 54.80.0.0/13=us-east-1 2600:1f18::/33=us-east-1
        3.12.0.0/16=us-east-2 18.216.0.0/14=us-east-2 2600:1f16::/36=us-east-2
        34.208.0.0/12=us-west-2 52.24.0.0/14=us-west-2 2600:1f14::/36=us-west-2
        52.208.0.0/13=eu-west-1 35.176.0.0/15=eu-west-2 3.120.0.0/14=eu-central-1
        54.64.0.0/15=ap-northeast-1 13.54.0.0/15=ap-southeast-2 13.232.0.0/14=ap-south-1
        15.222.0.0/15=ca-central-1 18.228.0.0/16=sa-east-1
        34.72.0.0/16 35.224.0.0/15 34.74.0.0/15 34.82.0.0/15 35.240.0.0/17 34.141.0.0/17
        2600:1900:4000::/44 20.42.0.0/17 52.232.0.0/17 140.82.112.0/20 49.12.0.0/16 51.38.0.0/16
        104.131.0.0/18
    """,
    "reserved": "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32",
}

# A present requester, a stray blank before one, none at all: the log shows `-` for the anonymous.
_REQUESTERS: Final = (
    b"arn:aws:iam::%b:user/archive-api" % ACCOUNT,
    b"arn:aws:sts::%b:assumed-role/Processing/i-0a1b2c3d4e5f67890" % ACCOUNT,
    b"79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be",
    b" arn:aws:iam::%b:user/archive-api" % ACCOUNT,
    b"",
)
_ENCRYPTION: Final = (
    (b"ECDHE-RSA-AES128-GCM-SHA256", b"TLSv1.2"),
    (b"TLS_AES_128_GCM_SHA256", b"TLSv1.3"),
    (b"TLS_AES_256_GCM_SHA384", b"TLSv1.3"),
    (b"-", b"-"),
)
TAIL_LENGTHS: Final = (24, 25, 26, 27)


@dataclass(frozen=True)
class Clients:
    """All clients, the most active first; every column has one entry per client.

    `sources` is `IP REQUESTER `, `agents` is `"REFERER" "UA"`, `tails` the fields 20 on with the
    newline, one column per entry of TAIL_LENGTHS, `signed_tails` the same for a presigned URL.
    `favourites` are three dataset numbers, `program` an index into PROGRAM_NAMES.
    """

    steps: Floats
    sources: Pieces
    agents: Pieces
    tails: Pieces
    signed_tails: Pieces
    favourites: Ints
    program: Ints


@lru_cache(maxsize=1)
def kind_steps() -> npt.NDArray[np.float64]:
    """Cumulative shares of the kinds OK to OTHER, one row per program."""
    weights = np.array([weights for weights, _ in _PROGRAMS.values()], dtype=np.float64)
    return np.asarray(np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True))


def build_clients(seed: int, count: int, catalogue: Catalogue) -> Clients:
    """`count` clients with addresses, programs, and the datasets that they come back for."""
    rng = make_rng(seed, 2)
    network_names = tuple(_NETWORKS)
    networks = {name: _parse_networks(text) for name, text in _NETWORKS.items()}
    network_steps = np.cumsum([_NETWORK_SHARES[name] for name in network_names])
    network = draw(network_steps, rng.random(count))
    # Reserved addresses stay away from the busiest ranks, or one of them could make up a tenth.
    busiest = min(count, 60)
    network[:busiest][network[:busiest] == network_names.index("reserved")] = 0

    family_weights = np.array([families for _, families in _PROGRAMS.values()])
    sources: list[bytes] = []
    agents: list[bytes] = []
    tails: list[list[bytes]] = []
    signed_tails: list[bytes] = []
    programs = np.empty(count, dtype=np.int64)
    program_steps = {
        name: np.cumsum(np.array(weights) / sum(weights)) for name, weights in _PROGRAMS_OF_NETWORK.items()
    }
    last_in: dict[bytes, bytes] = {}
    uniform = rng.random((count, 12))
    for client in range(count):
        u = uniform[client]
        name = network_names[int(network[client])]
        prefix, bits, region = networks[name][int(u[0] ** 1.4 * len(networks[name]))]
        packed = _random_host(prefix, bits, u[1:5], last_in.get(prefix))
        last_in[prefix] = packed
        is_ipv6 = len(packed) == 16
        text = socket.inet_ntop(socket.AF_INET6 if is_ipv6 else socket.AF_INET, packed)

        program = int(draw(program_steps[name], u[5:6])[0])
        programs[client] = program
        program_name = PROGRAM_NAMES[program]
        signs = program_name in ("sync", "stream") and u[6] < 0.12
        requester = _REQUESTERS[int(u[7] ** 2 * len(_REQUESTERS))] if signs else b"-"
        sources.append(b"%b %b " % (text.encode("ascii"), requester))

        agent = _AGENTS[program_name][int(u[8] * len(_AGENTS[program_name]))]
        referers = _REFERERS.get(program_name, ("-",))
        referer = referers[int(u[9] * len(referers))]
        agents.append(f'"{referer}" "{agent}"'.encode("ascii"))

        cipher, tls = _ENCRYPTION[min(3, int(u[10] * 3.1))]
        dualstack = b"dualstack." if is_ipv6 else b""
        host = b"%b.s3.%b%b.amazonaws.com" % (BUCKET, dualstack, BUCKET_REGION)
        if not is_ipv6 and u[11] < 0.6:
            host = BUCKET + b".s3.amazonaws.com"
        signature, auth = (b"SigV4", b"AuthHeader") if signs else (b"-", b"-")
        short = b" %b %b %b %b %b" % (signature, cipher, auth, host, tls)
        acl = b" Yes" if u[11] > 0.97 else b" -"
        tails.append(
            [
                short + b"\n",
                short + b" -\n",
                short + b" -" + acl + b"\n",
                short + b" -" + acl + b" " + region + b"\n",
            ]
        )
        signed_tails.append(b" SigV4 %b QueryString %b %b - - %b\n" % (cipher, host, tls, region))

    return Clients(
        steps=zipf_steps(count, 1.0, 9.0),
        sources=pieces(sources),
        agents=pieces(agents),
        tails=np.array(tails, dtype=object),
        signed_tails=pieces(signed_tails),
        favourites=_choose_favourites(family_weights[programs], catalogue, rng),
        program=programs,
    )


def _parse_networks(text: str) -> list[tuple[bytes, int, bytes]]:
    """(packed network address, prefix length, AWS region or `-`) of each entry."""
    networks = []
    for entry in text.split():
        cidr, _, region = entry.partition("=")
        network = ip_network(cidr)
        networks.append((network.network_address.packed, network.prefixlen, region.encode("ascii") or b"-"))
    return networks


def _random_host(prefix: bytes, bits: int, uniform: npt.NDArray[np.float64], last: bytes | None) -> bytes:
    """A host of the network, given as packed bytes; now and then one beside the `last` chosen.

    Beside means the same address for IPv4 (many behind one gateway), the same /64 for IPv6 (one
    household with many devices).
    """
    shares = [int(value * 2**32) for value in uniform.tolist()]
    if len(prefix) == 4:
        if last is not None and shares[1] < 2**32 // 10:
            return last
        host = int.from_bytes(prefix, "big") | (shares[0] >> bits)
        last_octet = 1 + shares[2] % 254
        return (host & ~0xFF | last_octet).to_bytes(4, "big")
    if last is not None and shares[1] < 2**32 // 4:
        network = int.from_bytes(last[:8], "big")
    else:
        subnet = ((shares[0] << 32 | shares[1]) >> bits) & ~0xFF
        network = int.from_bytes(prefix[:8], "big") | subnet
    return network.to_bytes(8, "big") + shares[2].to_bytes(4, "big") + shares[3].to_bytes(4, "big")


def _choose_favourites(family_weights: npt.NDArray[np.float64], catalogue: Catalogue, rng: np.random.Generator) -> Ints:
    """Three datasets for each client, popular ones first, of the families that it comes for."""
    popularity = np.diff(catalogue.dataset_steps, prepend=0.0)
    weights = family_weights[:, catalogue.family] * popularity
    steps = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
    uniform = rng.random((len(weights), 3))
    return np.stack(
        [np.minimum((steps <= uniform[:, [i]]).sum(axis=1), len(popularity) - 1) for i in range(3)],
        axis=1,
    )
