"""How many requesters there are of each class: those with a place, and those without one by the reason.

A requester of several dates counts once, by what its newest date says of it. What the labels mean is told in `regions`.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3logx_assets.core.regions import BOGON, UNDETERMINED, UNKNOWN, VPN

MISSING = "missing"  # no look-up has run
CLASSES = ("determined", MISSING, UNKNOWN, UNDETERMINED, BOGON, VPN, "cloud", "GitHub")
_CODES = {name: code for code, name in enumerate(CLASSES)}
# So many rows wait to be brought together with those before them.
_PENDING = 1 << 22

Indexes = NDArray[np.int64]
Classes = NDArray[np.uint8]


def class_of(label: str, method: str) -> str:
    """The class of a requester by its region label and how that was found."""
    if label in _CODES:
        return label
    return "cloud" if method == "cloud" else "determined"


def classes_of(regions: pa.Table) -> tuple[Indexes, Classes]:
    """The requesters of a date (IP_REGIONS) and the code of each one's class."""
    labels = regions["region"].combine_chunks().dictionary_encode()
    methods = regions["method"].combine_chunks().dictionary_encode()
    table = np.array(
        [
            [_CODES[class_of(label, method)] for method in methods.dictionary.to_pylist()]
            for label in labels.dictionary.to_pylist()
        ],
        np.uint8,
    ).reshape(len(labels.dictionary), len(methods.dictionary))
    codes: Classes = table[labels.indices.to_numpy(), methods.indices.to_numpy()]
    return regions["ip_index"].to_numpy(), codes


def all_missing(indexes: Indexes) -> tuple[Indexes, Classes]:
    """The same for a date whose look-up has not run."""
    return indexes, np.full(indexes.size, _CODES[MISSING], np.uint8)


def count_classes(dates: Iterable[tuple[Indexes, Classes]]) -> dict[str, int]:
    """How many requesters each of CLASSES has, from the `dates`, the oldest first."""
    kept: tuple[Indexes, Classes] = (np.zeros(0, np.int64), np.zeros(0, np.uint8))
    pending: list[tuple[Indexes, Classes]] = []
    rows = 0
    for part in dates:
        pending.append(part)
        rows += part[0].size
        if rows > _PENDING:
            kept, pending, rows = _latest([kept, *pending]), [], 0
    _, codes = _latest([kept, *pending])
    counts = np.bincount(codes, minlength=len(CLASSES)).tolist()
    return dict(zip(CLASSES, counts, strict=True))


def _latest(parts: list[tuple[Indexes, Classes]]) -> tuple[Indexes, Classes]:
    """Each requester once, with the last class that the parts have for it."""
    indexes = np.concatenate([part[0] for part in parts])
    codes = np.concatenate([part[1] for part in parts])
    order = np.argsort(indexes, kind="stable")
    indexes, codes = indexes[order], codes[order]
    last = np.append(indexes[1:] != indexes[:-1], True)[: indexes.size]
    return indexes[last], codes[last]
