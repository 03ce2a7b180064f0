"""The asset check of `region_coordinates`: which of a date's labels have no place on the map, and what share of the
requests that is.

It looks at what is stored. Where a label lies, and which labels there are, does not belong here.
"""

from datetime import date

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.adapters.table_store import TableStore, partition
from s3logx_assets.assets.daily import CheckOutcome, record_of
from s3logx_assets.core.regions import BOGON, UNDETERMINED, UNKNOWN, VPN
from s3logx_assets.core.usage import INTERNAL, MISSING
from s3logx_assets.metadata import markdown_table

ASSET = "region_coordinates"
_SHOWN = 10

# Labels that name no place. Every other one should have a coordinate, if only its country's.
PLACELESS = frozenset({BOGON, VPN, UNKNOWN, UNDETERMINED, MISSING, INTERNAL})

SPECS = (
    dg.AssetCheckSpec(
        "coordinates_known",
        asset=ASSET,
        blocking=False,
        description="Every label that names a place has a coordinate; what has none is listed with its share of the requests.",
    ),
)


def coordinates_known(store: TableStore, day: date) -> CheckOutcome:
    """The labels of a stored date without a coordinate, told apart by whether they could have one. Shares are of all
    requests of the date, those without an address among them. Raises StoreError where a table is missing."""
    requests = _requests_by_label(store, day)
    located = set(store.read(ASSET, partition(day), columns=["region"])["region"].to_pylist())
    without = {label: count for label, count in requests.items() if label not in located}
    missing = {label: count for label, count in without.items() if label not in PLACELESS}
    total = sum(requests.values()) or 1
    metadata: dict[str, object] = {
        "labels_missing": len(missing),
        "share_missing": sum(missing.values()) / total,
        "share_without_coordinate": sum(without.values()) / total,
    }
    if without:
        # What should not be there comes first.
        shown = sorted(without, key=lambda label: (label in PLACELESS, -without[label], label))[:_SHOWN]
        rows = [
            (
                label,
                "names no place" if label in PLACELESS else "missing",
                without[label],
                f"{without[label] / total:.2%}",
            )
            for label in shown
        ]
        table = markdown_table(("label", "coordinate", "requests", "share"), rows)
        metadata["without_coordinate"] = dg.MetadataValue.md(table)
    return CheckOutcome("coordinates_known", not missing, metadata)


def _requests_by_label(store: TableStore, day: date) -> dict[str, int]:
    """The requests of each label of a date, `internal` for those without an address."""
    indexes = store.read("ip_indexes", partition(day), columns=["ip_index", "request_count"])
    regions = store.read("ip_regions", partition(day), columns=["ip_index", "region"])
    place = pc.index_in(regions["ip_index"], value_set=indexes["ip_index"])
    counts = pc.fill_null(indexes["request_count"].take(place), 0)
    summed = (
        pa.table({"label": regions["region"], "requests": counts}).group_by("label").aggregate([("requests", "sum")])
    )
    requests = dict(zip(summed["label"].to_pylist(), summed["requests_sum"].to_pylist(), strict=True))
    extracted = record_of(store, "extracted_logs", day)["counts"]["extracted"]
    internal = extracted - int(indexes["request_count"].to_numpy().sum())
    return requests | ({INTERNAL: internal} if internal > 0 else {})
