"""Rekeying: every count stays with its requester, nobody is merged or split, and rows are in the order of the new key."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3logx_assets.core.datasets import LevelRule
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.rekeying import rekeyed_indexes, rekeyed_logs, rekeyed_regions, rekeyed_usage
from s3logx_assets.core.schemas import EXTRACTED_LOGS, IP_INDEXES, IP_REGIONS
from s3logx_assets.core.sealing import Sealer
from s3logx_tests.usage_tables import daily_usage

OLD, NEW = Sealer(bytes(32)), Sealer(bytes(range(32)))
LEVEL = LevelRule()

addresses = st.one_of(
    st.integers(0, 20).map(lambda host: bytes(10) + b"\xff\xff" + bytes([192, 0, 2, host])),
    st.tuples(st.integers(0, 3), st.integers(0, 3)).map(
        lambda pair: bytes.fromhex("20010db8") + bytes([0, 0, 0, pair[0]]) + bytes(7) + bytes([pair[1]])
    ),
    st.none(),
)
visits = st.lists(
    st.tuples(st.sampled_from(["ds1/a", "ds1/b", "ds2/a"]), st.integers(0, 2), st.integers(0, 2), addresses),
    max_size=30,
)


def logs(rows: list[tuple[str, int, int, bytes | None]], sealer: Sealer) -> pa.Table:
    """EXTRACTED_LOGS as an extraction under this key orders them."""

    def sealed(address: bytes | None) -> bytes | None:
        return None if address is None else sealer.seal(np.frombuffer(address, np.uint8).reshape(1, 16)).tobytes()

    full = [(key, second, sent, sealed(address)) for key, second, sent, address in rows]
    full.sort(key=lambda row: (*row[:3], row[3] is None, row[3] or b""))
    return pa.table(
        {
            "object_key": pa.array([row[0] for row in full], pa.string()).dictionary_encode(),
            "requested_at": [datetime(2025, 3, 1, 0, 0, row[1], tzinfo=UTC) for row in full],
            "bytes_sent": pa.array([row[2] for row in full], pa.int64()),
            "object_size": pa.array([None if row[2] else 5 for row in full], pa.int64()),
            "status": pa.array([200] * len(full), pa.int16()),
            "sealed_ip": pa.array([row[3] for row in full], pa.binary(16)),
        },
        schema=EXTRACTED_LOGS,
    )


def made(rows: pa.Table, sealer: Sealer) -> tuple[pa.Table, pa.Table, pa.Table]:
    """IP_INDEXES, IP_REGIONS and DAILY_USAGE of the rows; the region hangs on the address alone."""
    counted = pc.value_counts(rows["sealed_ip"].drop_null())
    blocks = np.frombuffer(b"".join(counted.field(0).to_pylist()), np.uint8).reshape(-1, 16)
    index, network = sealer.unpack_index(blocks)
    columns = [pa.array(index), pa.array(network), counted.field(0), counted.field(1)]
    indexes = pa.table(columns, schema=IP_INDEXES).sort_by("ip_index")
    sealed = np.frombuffer(b"".join(indexes["sealed_ip"].to_pylist()), np.uint8).reshape(-1, 16)
    labels = [f"AA/{address[15] % 3}" for address in sealer.unseal(sealed)]
    texts = [
        pa.array(labels, pa.string()),
        pa.array(["test"] * len(labels), pa.string()),
        pa.nulls(len(labels), pa.string()),
    ]
    regions = pa.table([indexes["ip_index"], *texts], schema=IP_REGIONS)
    return indexes, regions, daily_usage([rows], indexes, regions, LEVEL)


@settings(max_examples=60, deadline=None)
@given(visits)
def test_rekeyed_tables_are_those_that_the_new_key_would_have_made(
    rows: list[tuple[str, int, int, bytes | None]],
) -> None:
    before, after = logs(rows, OLD), logs(rows, NEW)
    indexes, regions, usage = made(before, OLD)
    fresh_indexes, fresh_regions, fresh_usage = made(after, NEW)
    assert rekeyed_logs(before, OLD, NEW).to_pylist() == after.to_pylist()
    rekeyed, exchange = rekeyed_indexes(indexes, OLD, NEW)
    assert rekeyed == fresh_indexes
    assert rekeyed_regions(regions, exchange) == fresh_regions
    assert rekeyed_usage(usage, exchange) == fresh_usage
    # Nobody is merged or split.
    assert sorted(rekeyed["request_count"].to_pylist()) == sorted(indexes["request_count"].to_pylist())
    assert len(set(exchange["ip_index"].to_pylist())) == len(set(exchange["old"].to_pylist())) == indexes.num_rows


def test_an_index_that_nobody_knows_is_refused() -> None:
    _, regions, usage = made(logs([("ds1/a", 0, 0, b"\1" * 16)], OLD), OLD)
    _, exchange = rekeyed_indexes(IP_INDEXES.empty_table(), OLD, NEW)
    with pytest.raises(StoreError, match="lacks 1 of the indexes"):
        rekeyed_regions(regions, exchange)
    with pytest.raises(StoreError, match="lacks 1 of the indexes"):
        rekeyed_usage(usage, exchange)
