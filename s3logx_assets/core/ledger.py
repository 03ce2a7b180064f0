"""The ledger of a date: every log file it was extracted from, with what became of each of its records.

The conservation law is stated and checked here: records = extracted + skipped + rejected + duplicate, for every
file and so for the date. How records are judged is `core.log_lines`' business, where the ledger lies the store's.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter, lt

import numpy as np
import pyarrow as pa

from s3logx_assets.core.log_lines import REJECT_REASONS, SKIP_RULES

COUNTS = (
    "extracted",
    "duplicate",
    *(f"skipped_{rule}" for rule in SKIP_RULES),
    *(f"rejected_{reason}" for reason in REJECT_REASONS),
)

# `name` is the path within the source; `version` the ETag, or the time of modification in ns, as text.
LEDGER = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("records", pa.int64(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in COUNTS),
    ]
)


@dataclass(frozen=True, slots=True, order=True)
class LogObject:
    """One log file as its source lists it. Ordered by name, whose bytes are ASCII."""

    name: str
    size: int
    version: str


def sum_of(ledger: pa.Table) -> dict[str, int]:
    """The date's counts: `files`, `bytes`, `records` and every one of COUNTS."""
    sums = {name: int(ledger[name].to_numpy().sum()) for name in ("records", *COUNTS)}
    return {"files": ledger.num_rows, "bytes": int(ledger["size"].to_numpy().sum()), **sums}


def unaccounted(ledger: pa.Table) -> int:
    """How many files break the conservation law; 0 is the only good answer."""
    counted = sum(ledger[name].to_numpy() for name in COUNTS)
    return int(np.count_nonzero(ledger["records"].to_numpy() != counted))


def listing_digest(objects: Iterable[LogObject]) -> str:
    """A digest of what a listing says of a date (names, sizes, versions): equal digests, nothing new."""
    ordered = list(objects)
    names = [item.name for item in ordered]
    if not all(map(lt, names, names[1:])):  # which a listing is already; to compare all three takes ten times as long
        ordered.sort(key=attrgetter("name", "size", "version"))
    described = "".join([f"{item.name}\0{item.size}\0{item.version}\n" for item in ordered])
    return hashlib.sha256(described.encode()).hexdigest()[:32]
