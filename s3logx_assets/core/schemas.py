"""Arrow schemas of every private table: the columns that other programs may rely on, in order.

Names carry their unit. What a column means stands beside it; how it is computed does not belong here.
Indexes are int64 and stay so from end to end: a detour over floats would corrupt them.
"""

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
