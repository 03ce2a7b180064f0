"""`ip_indexes`, `ip_regions`, `region_coordinates`: who asked, without saying who, and where from.

Addresses are in clear only within these functions, in memory.
"""

from datetime import date

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.assets.daily import DailyAsset, Made, Tools, inputs_of, partition, store_table
from s3logx_assets.core.addresses import AddressBlock
from s3logx_assets.core.schemas import IP_INDEXES, IP_REGIONS
from s3logx_assets.metadata import markdown_table

_SHOWN = 10


def _block(sealed: pa.ChunkedArray) -> AddressBlock:
    """A fixed_size_binary[16] column without nulls as (n, 16) bytes."""
    array = sealed.combine_chunks()
    return np.frombuffer(array.buffers()[1], np.uint8).reshape(-1, 16)[array.offset : array.offset + len(array)]


def _ip_indexes(tools: Tools, day: date) -> Made:
    inputs = inputs_of(tools.private_store, day, "extracted_logs")
    sealed = tools.private_store.read("extracted_logs", partition(day), columns=["sealed_ip"])["sealed_ip"]
    counted = pc.value_counts(sealed.drop_null()).field
    values, counts = counted(0), counted(1)
    blocks = _block(pa.chunked_array([values], pa.binary(16)))
    indexes, networks = tools.sealer.unpack_index(blocks)
    table = pa.table([pa.array(indexes), pa.array(networks), values, counts], schema=IP_INDEXES).sort_by("ip_index")
    requesters = {"requesters": table.num_rows, "networks": len(np.unique(networks))}
    return store_table(tools, "ip_indexes", day, table, inputs, requesters)


def _ip_regions(tools: Tools, day: date) -> Made:
    inputs = inputs_of(tools.private_store, day, "ip_indexes")
    indexes = tools.private_store.read("ip_indexes", partition(day), columns=["ip_index", "sealed_ip", "request_count"])
    found = tools.geolocator.regions(tools.sealer.unseal(_block(indexes["sealed_ip"])))
    columns = [indexes["ip_index"], *(found[name] for name in ("region", "method", "subdivision"))]
    table = pa.table(columns, schema=IP_REGIONS)
    regions = found.select(["region"]).append_column("requests", indexes["request_count"])
    top = (
        regions.group_by("region")
        .aggregate([("requests", "sum")])
        .sort_by([("requests_sum", "descending"), ("region", "ascending")])
    )
    rows = zip(top["region"].to_pylist()[:_SHOWN], top["requests_sum"].to_pylist()[:_SHOWN], strict=True)
    metadata: dict[str, object] = {
        "regions": top.num_rows,
        "source": tools.geolocator.data_version,
        "top_regions": dg.MetadataValue.md(markdown_table(("region", "requests"), rows)),
    }
    return store_table(
        tools, "ip_regions", day, table, {**inputs, "geolocator": tools.geolocator.data_version}, metadata
    )


def _region_coordinates(tools: Tools, day: date) -> Made:
    inputs = inputs_of(tools.private_store, day, "ip_regions")
    regions = tools.private_store.read("ip_regions", partition(day), columns=["region"])["region"]
    labels = sorted(regions.unique().to_pylist())
    table = tools.geolocator.coordinates(labels)
    attribution = ", ".join(item.name for item in tools.geolocator.attribution)
    metadata: dict[str, object] = {"without_coordinates": len(labels) - table.num_rows, "attribution": attribution}
    return store_table(tools, "region_coordinates", day, table, inputs, metadata)


IP_INDEXES_ASSET = DailyAsset(
    spec=dg.AssetSpec(
        "ip_indexes",
        deps=["extracted_logs"],
        group_name="addresses",
        kinds={"python", "parquet"},
        description="Each distinct requester of a log date: pseudonymous index, network index, sealed address.",
    ),
    make=_ip_indexes,
)
IP_REGIONS_ASSET = DailyAsset(
    spec=dg.AssetSpec(
        "ip_regions",
        deps=["ip_indexes"],
        group_name="addresses",
        kinds={"python", "parquet"},
        description="Each distinct requester's region label, and how it was found.",
    ),
    make=_ip_regions,
)
REGION_COORDINATES_ASSET = DailyAsset(
    spec=dg.AssetSpec(
        "region_coordinates",
        deps=["ip_regions"],
        group_name="addresses",
        kinds={"python", "parquet"},
        description="Latitude and longitude of each region label of a log date.",
    ),
    make=_region_coordinates,
)
