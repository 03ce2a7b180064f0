"""`ip_indexes`, `ip_regions`, `region_coordinates`: who asked, without saying who, and where from.

Addresses are in clear only within these functions, in memory.
"""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets import address_checks
from s3logx_assets.adapters.table_store import LOG_DATE, TableStore, partition
from s3logx_assets.assets.daily import CheckOutcome, DailyAsset, Made, Tools, inputs_of, store_table
from s3logx_assets.core.addresses import from_column
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.regions import UNDETERMINED
from s3logx_assets.core.requesters import by_label, clouds, count_distinct, counted, countries
from s3logx_assets.core.schemas import IP_INDEXES, IP_REGIONS, REGION_COORDINATES
from s3logx_assets.metadata import column_schema, markdown_table
from s3logx_assets.pictures import region_map

_SHOWN = 10


def _ip_indexes(tools: Tools, day: date) -> Made:
    inputs = inputs_of(tools.private_store, day, "extracted_logs")
    values, counts = counted(
        rows["sealed_ip"] for rows in tools.private_store.groups("extracted_logs", partition(day), ["sealed_ip"])
    )
    blocks = from_column(values)
    indexes, networks = tools.sealer.unpack_index(blocks)
    table = pa.table([pa.array(indexes), pa.array(networks), values, counts], schema=IP_INDEXES)
    table = table.take(pa.array(np.argsort(indexes)))
    seen = {"requesters": table.num_rows, "networks": count_distinct(networks), **_newcomers(tools, day, table)}
    short = (
        f"{seen['requesters']:,} requesters in {seen['networks']:,} networks, {seen['new_requesters']:,} of them not seen on "
        f"the {seen['earlier_dates']:,} earlier dates"
    )
    metadata = {"in_short": short, **seen}
    made = store_table(tools, "ip_indexes", day, table, inputs, metadata)
    tools.history.put(day, table["ip_index"].to_numpy())
    return made


def _newcomers(tools: Tools, day: date, indexes: pa.Table) -> dict[str, int]:
    """How many requesters no earlier date has, as the store stands now: a date made later does not change it."""
    stored = [date.fromisoformat(value) for value in tools.private_store.partitions("ip_indexes", LOG_DATE)]
    new = tools.history.newcomers(day, indexes["ip_index"].to_numpy(), stored)
    return {"new_requesters": len(new), "earlier_dates": sum(other < day for other in stored)}


def _ip_regions(tools: Tools, day: date) -> Made:
    inputs = inputs_of(tools.private_store, day, "ip_indexes")
    indexes = tools.private_store.read("ip_indexes", partition(day))
    found = tools.geolocator.regions(tools.sealer.unseal(from_column(indexes["sealed_ip"])))
    columns = [indexes["ip_index"], *(found[name] for name in ("region", "method", "subdivision"))]
    table = pa.table(columns, schema=IP_REGIONS)
    source = tools.geolocator.data_version
    unanswered = _undetermined(table)
    if unanswered:
        table = _with_known(table, tools.private_store, day)
    undetermined = _undetermined(table)
    found_in = _where_from(table, indexes)
    short = (
        f"{table.num_rows:,} requesters in {found_in['regions']:,} regions of {found_in['countries']:,} countries and in "
        f"{found_in['clouds']:,} clouds; {undetermined:,} undetermined"
    )
    metadata = {"in_short": short, "source": source, "undetermined": undetermined, **found_in}
    facts: dict[str, Any] = {"undetermined": unanswered}  # for automation's ask_again, like the day
    if tools.rules.settings.asks_services:
        facts["asked_on"] = datetime.now(UTC).date().isoformat()
    return store_table(tools, "ip_regions", day, table, {**inputs, "geolocator": source}, metadata, facts=facts)


def _undetermined(regions: pa.Table) -> int:
    return int(pc.sum(pc.equal(regions["region"], UNDETERMINED), min_count=0).as_py())


def _with_known(regions: pa.Table, store: TableStore, day: date) -> pa.Table:
    """The same, with what the date as it is stored knows of requesters that the service did not answer now: a service that is
    out of quota when it is asked again takes no region away."""
    try:
        stored = store.read("ip_regions", partition(day))
    except StoreError:
        return regions  # there is none, or it is damaged and about to be replaced
    known = stored.filter(pc.not_equal(stored["region"], UNDETERMINED))
    places = pc.index_in(regions["ip_index"], known["ip_index"]).combine_chunks()
    is_open = pc.and_(pc.equal(regions["region"], UNDETERMINED), pc.is_valid(places)).to_numpy()
    rows = np.arange(len(regions))
    rows[is_open] = len(regions) + places.fill_null(0).to_numpy()[is_open]
    return pa.concat_tables([regions, known]).take(pa.array(rows))


def _where_from(regions: pa.Table, indexes: pa.Table) -> dict[str, Any]:
    """How many regions, and the first of the regions, clouds and countries by requests, with their requesters and
    networks. Both tables have the same requesters in the same order."""
    region, method = regions["region"].combine_chunks().dictionary_encode(), regions["method"]
    labels = {"regions": region, "clouds": clouds(region, method), "countries": countries(region, method)}
    networks, requests = (indexes[name].to_numpy() for name in ("network_index", "request_count"))
    metadata: dict[str, Any] = {}
    counts = by_label(labels, networks, requests)
    for name, table in counts.items():
        rows = zip(*(each.to_pylist() for each in table.slice(0, _SHOWN).columns), strict=True)
        metadata[name] = table.num_rows
        if table.num_rows:
            metadata[f"top_{name}"] = dg.MetadataValue.md(markdown_table(table.column_names, rows))
    of_region = counts["regions"]
    labelled, requesters = (of_region[name].to_pylist() for name in ("label", "requesters"))
    return {**metadata, **region_map("requesters_map", labelled, requesters, "Requesters")}


def _region_coordinates(tools: Tools, day: date) -> Made:
    inputs = inputs_of(tools.private_store, day, "ip_regions")
    regions = tools.private_store.read("ip_regions", partition(day), columns=["region"])["region"]
    labels = sorted(regions.unique().to_pylist())
    table = tools.geolocator.coordinates(labels)
    attribution = ", ".join(item.name for item in tools.geolocator.attribution)
    metadata: dict[str, object] = {
        "in_short": f"{table.num_rows:,} of {len(labels):,} region labels have a place on the map",
        "without_coordinates": len(labels) - table.num_rows,
        "attribution": attribution,
    }
    made = store_table(tools, "region_coordinates", day, table, inputs, metadata)
    return replace(made, checks=_check_coordinates(tools, day))


def _check_coordinates(tools: Tools, day: date) -> tuple[CheckOutcome, ...]:
    return (address_checks.coordinates_known(tools.private_store, day),)


IP_INDEXES_ASSET = DailyAsset(
    spec=dg.AssetSpec(
        "ip_indexes",
        deps=["extracted_logs"],
        group_name="addresses",
        kinds={"python", "parquet"},
        metadata=column_schema(IP_INDEXES),
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
        metadata=column_schema(IP_REGIONS),
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
        metadata=column_schema(REGION_COORDINATES),
        description="Latitude and longitude of each region label of a log date.",
    ),
    make=_region_coordinates,
    checks=address_checks.SPECS,
    check=_check_coordinates,
)
