"""Arrow schemas of every private table: the columns that other programs may rely on, in order.

Names carry their unit. What a column means stands beside it; how it is computed does not belong here.
Indexes are int64 and stay so from end to end: a detour over floats would corrupt them.
"""

from collections.abc import Callable

import pyarrow as pa

# The tables that a log date goes through, in order.
DAILY_TABLES = ("extracted_logs", "ip_indexes", "ip_regions", "region_coordinates", "daily_usage")

_COUNTS = [
    pa.field("bytes_sent", pa.int64(), nullable=False),
    pa.field("request_count", pa.int64(), nullable=False),
    pa.field("download_count", pa.int64(), nullable=False),
]

# One row per successful GET. `sealed_ip` is null where the log has no address (AWS-internal).
EXTRACTED_LOGS = pa.schema(
    [
        pa.field("object_key", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("requested_at", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("bytes_sent", pa.int64(), nullable=False),
        pa.field("object_size", pa.int64()),
        pa.field("status", pa.int16(), nullable=False),
        pa.field("sealed_ip", pa.binary(16)),
    ]
)

# One row per distinct requester of a log date.
IP_INDEXES = pa.schema(
    [
        pa.field("ip_index", pa.int64(), nullable=False),
        pa.field("network_index", pa.int64(), nullable=False),
        pa.field("sealed_ip", pa.binary(16), nullable=False),
        pa.field("request_count", pa.int64(), nullable=False),
    ]
)

# One row per distinct requester: its region label and how it was found. `method` is `bogon` (a registry of addresses
# that are not routable), `cloud` or `vpn` (ranges of clouds, of VPNs), `geolocation` (a database that knows the country),
# `ipinfo` (that service knows it) or `none` (nobody knew, or could be asked). `subdivision` is the ISO 3166-2 code where
# the region matches one.
IP_REGIONS = pa.schema(
    [
        pa.field("ip_index", pa.int64(), nullable=False),
        pa.field("region", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("subdivision", pa.string()),
    ]
)

# One row per region label of a log date that has coordinates, in degrees (WGS 84).
REGION_COORDINATES = pa.schema(
    [
        pa.field("region", pa.string(), nullable=False),
        pa.field("latitude", pa.float64(), nullable=False),
        pa.field("longitude", pa.float64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ]
)

# Exact counts. Null indexes stand for requests without an address (region `internal`). Where an object belongs to several
# datasets, its requests count in each; `in_archive` is true in the first of them alone, so that the archive counts them
# once. Over the rows where it is true the counts are those of all rows extracted.
DAILY_USAGE = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("asset_path", pa.string(), nullable=False),
        pa.field("event_date", pa.date32(), nullable=False),
        pa.field("region", pa.string(), nullable=False),
        pa.field("ip_index", pa.int64()),
        pa.field("network_index", pa.int64()),
        pa.field("request_count", pa.int64(), nullable=False),
        pa.field("download_count", pa.int64(), nullable=False),
        pa.field("bytes_sent", pa.int64(), nullable=False),
        pa.field("in_archive", pa.bool_(), nullable=False),
    ]
)

# What a closed period of policy `strict` took of the usage. `since` is the last day of the period that took the row first, and
# `fate` what became of it: `released`, `pooled` (in the archive alone) or `waiting` (for the next period).
RELEASED_USAGE = pa.schema(
    [
        pa.field("log_date", pa.date32(), nullable=False),
        pa.field("since", pa.date32(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("asset_path", pa.string(), nullable=False),
        pa.field("event_date", pa.date32(), nullable=False),
        pa.field("region", pa.string(), nullable=False),
        pa.field("network_index", pa.int64()),
        pa.field("request_count", pa.int64(), nullable=False),
        pa.field("download_count", pa.int64(), nullable=False),
        pa.field("bytes_sent", pa.int64(), nullable=False),
        pa.field("fate", pa.string(), nullable=False),
    ]
)

# The exact tables of one scope. `by_day` is `by_day_and_type` with all types together.
BY_DAY = pa.schema([pa.field("event_date", pa.date32(), nullable=False), *_COUNTS])
BY_DAY_AND_TYPE = pa.schema(
    [
        pa.field("event_date", pa.date32(), nullable=False),
        pa.field("asset_type", pa.string(), nullable=False),
        *_COUNTS,
    ]
)
BY_ASSET = pa.schema([pa.field("asset_path", pa.string(), nullable=False), *_COUNTS])
BY_REGION = pa.schema([pa.field("region", pa.string(), nullable=False), *_COUNTS])
REQUESTERS = pa.schema(
    [
        pa.field("ip_index", pa.int64(), nullable=False),
        pa.field("network_index", pa.int64(), nullable=False),
        *_COUNTS,
    ]
)

# The same tables in one, as they are stored: `dimension` is day, asset, region or requester and says which keys a row
# has; the others are null. Every dimension adds up to the scope's total, but that requests without an address have no
# requester, and that the archive has no assets.
SUMMARIES = pa.schema(
    [
        pa.field("dimension", pa.string(), nullable=False),
        pa.field("event_date", pa.date32()),
        pa.field("asset_type", pa.string()),
        pa.field("asset_path", pa.string()),
        pa.field("region", pa.string()),
        pa.field("ip_index", pa.int64()),
        pa.field("network_index", pa.int64()),
        *_COUNTS,
    ]
)

# The exact totals of one scope: a single row.
TOTALS = pa.schema(
    [
        pa.field("total_bytes_sent", pa.int64(), nullable=False),
        pa.field("total_request_count", pa.int64(), nullable=False),
        pa.field("total_download_count", pa.int64(), nullable=False),
        pa.field("requester_count", pa.int64(), nullable=False),
        pa.field("network_count", pa.int64(), nullable=False),
        pa.field("region_count", pa.int64(), nullable=False),
        pa.field("country_count", pa.int64(), nullable=False),
        pa.field("first_event_date", pa.date32()),
        pa.field("last_event_date", pa.date32()),
    ]
)

# What a column means, wherever it stands; in a line, for people.
MEANINGS = {
    "object_key": "The key exactly as logged, URL-encoded as it came",
    "requested_at": "Time of the request, whole seconds",
    "bytes_sent": "Bytes sent to the client; what the log has as - counts as 0",
    "object_size": "Size of the whole object in bytes",
    "status": "HTTP status, 200 to 299; 200 is a download of the whole object",
    "sealed_ip": "The requester's address, encrypted; null where the log has none",
    "ip_index": "Pseudonym of the requester: the same address has the same one, on every date",
    "network_index": "Pseudonym of the requester's network: of an IPv6 address its /64, of an IPv4 address itself",
    "request_count": "Successful reads, status 200 to 299",
    "download_count": "Reads with status 200",
    "region": "Region label, such as US/California, AWS/us-east-2 or VPN",
    "method": "How the region was found: bogon, cloud, vpn, geolocation, ipinfo or none",
    "subdivision": "ISO 3166-2 code of the region, where one fits",
    "latitude": "Degrees north (WGS 84)",
    "longitude": "Degrees east (WGS 84)",
    "source": "Where the coordinates are from",
    "dataset": "Dataset that the key belongs to",
    "asset_path": "The rest of the key within its dataset, as logged",
    "event_date": "Day of the request (UTC), which can be earlier than the log date",
    "in_archive": "True once for each request, so that the archive counts it once",
    "asset_type": "Class of the file by the ending of its path",
    "dimension": "What the row counts by: day, asset, region or requester",
    "total_bytes_sent": "Bytes sent",
    "total_request_count": "Successful reads, status 200 to 299",
    "total_download_count": "Reads with status 200",
    "requester_count": "Distinct addresses",
    "network_count": "Distinct networks, an IPv6 /64 being one",
    "region_count": "Distinct region labels, clouds and unknown among them",
    "country_count": "Distinct countries",
    "first_event_date": "Day of the first request",
    "last_event_date": "Day of the last request",
    "log_date": "Date in the log file's name",
    "files": "Log files that the snapshot lists",
    "bytes": "Their size",
    "digest": "Digest of their names, sizes and versions",
    "first_group": "First row group of the date in the file of log objects",
    "groups": "How many row groups it has there",
}


def encoded(schema: pa.Schema) -> pa.Schema:
    """The same columns, texts dictionary-encoded: how large tables are held in memory."""
    return _with_types(schema, lambda kind: pa.dictionary(pa.int32(), kind) if pa.types.is_string(kind) else kind)


def decoded(schema: pa.Schema) -> pa.Schema:
    """The same columns, texts in full: how other programs read them."""
    return _with_types(schema, lambda kind: kind.value_type if pa.types.is_dictionary(kind) else kind)


def _with_types(schema: pa.Schema, changed: Callable[[pa.DataType], pa.DataType]) -> pa.Schema:
    return pa.schema([field.with_type(changed(field.type)) for field in schema])
