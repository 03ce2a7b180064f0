"""Small tables in the project's schemas, built from plain Python values for tests."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from s3logx_assets.core import usage as usages
from s3logx_assets.core.datasets import DatasetRule
from s3logx_assets.core.schemas import DAILY_USAGE, EXTRACTED_LOGS, IP_INDEXES, IP_REGIONS


class Visit(NamedTuple):
    """One row of EXTRACTED_LOGS; `visitor` numbers a requester, None has no address."""

    key: str
    visitor: int | None = 0
    bytes_sent: int = 1
    status: int = 200
    when: datetime = datetime(2024, 3, 1, 12, tzinfo=UTC)


def sealed(visitor: int | None) -> bytes | None:
    return None if visitor is None else visitor.to_bytes(16, "big")


def extracted(visits: Iterable[Visit]) -> pa.Table:
    rows = [
        {
            "object_key": visit.key,
            "requested_at": visit.when,
            "bytes_sent": visit.bytes_sent,
            "object_size": None,
            "status": visit.status,
            "sealed_ip": sealed(visit.visitor),
        }
        for visit in visits
    ]
    plain = pa.schema(
        [field.with_type(pa.string()) if field.name == "object_key" else field for field in EXTRACTED_LOGS]
    )
    return pa.Table.from_pylist(rows, schema=plain).cast(EXTRACTED_LOGS)


def indexes(ip_index_of: Mapping[int, int]) -> pa.Table:
    """The visitors' indexes; a visitor's network is its index halved."""
    rows = [
        {
            "ip_index": ip_index,
            "network_index": ip_index // 2,
            "sealed_ip": sealed(visitor),
            "request_count": 1,
        }
        for visitor, ip_index in ip_index_of.items()
    ]
    return pa.Table.from_pylist(rows, schema=IP_INDEXES)


def regions(region_of: Mapping[int, str]) -> pa.Table:
    """Region labels by ip_index."""
    rows = [
        {"ip_index": ip_index, "region": region, "method": "test", "subdivision": None}
        for ip_index, region in region_of.items()
    ]
    return pa.Table.from_pylist(rows, schema=IP_REGIONS)


def usage(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """DAILY_USAGE rows, each a mapping of what differs from one request by requester 1."""
    usual = {
        "dataset": "ds1",
        "asset_path": "a",
        "event_date": date(2024, 3, 1),
        "region": "US/Ohio",
        "ip_index": 1,
        "network_index": 1,
        "request_count": 1,
        "download_count": 1,
        "bytes_sent": 1,
        "in_archive": True,
    }
    return pa.Table.from_pylist([usual | dict(row) for row in rows], schema=DAILY_USAGE)


def daily_usage(groups: Iterable[pa.Table], indexes: pa.Table, regions: pa.Table | None, rule: DatasetRule) -> pa.Table:
    """DAILY_USAGE as it is stored, with its texts in full."""
    return usages.daily_usage(groups, indexes, regions, rule).cast(DAILY_USAGE)
