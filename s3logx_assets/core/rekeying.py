"""From one master key to another: the tables of a date as they would have been made under the new one.

Sealed addresses are opened and sealed anew, indexes are exchanged one for one, and rows that were in the order of either
are put in order again. All counts, labels and other columns stay. Nobody is merged or split: an index of the old key
stands for one address, and so for one index of the new one. Where tables and keys lie does not belong here.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from s3logx_assets.core.addresses import AddressBlock, from_column, to_column
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.grouping import coded
from s3logx_assets.core.schemas import DAILY_USAGE, EXTRACTED_LOGS, IP_INDEXES, IP_REGIONS
from s3logx_assets.core.sealing import Sealer


def rekeyed_logs(rows: pa.Table, old: Sealer, new: Sealer) -> pa.Table:
    """EXTRACTED_LOGS under the new key. Only rows alike in all but the address can change places."""
    sealed = rows["sealed_ip"].combine_chunks()
    encoded = sealed.dictionary_encode()
    blocks = _resealed(encoded.dictionary, old, new)
    codes = pc.fill_null(encoded.indices, -1).to_numpy()
    order_of_block = np.lexsort(blocks.view(">u8").T[::-1]) if len(blocks) else np.zeros(0, np.int64)
    rank = np.empty(len(blocks) + 1, np.int64)
    rank[order_of_block] = np.arange(len(blocks))
    rank[-1] = len(blocks)  # no address is the greatest
    order = np.lexsort((rank[codes], _runs(rows.drop_columns(["sealed_ip"]))))
    columns = [rows[name].take(pa.array(order)) for name in EXTRACTED_LOGS.names[:-1]]
    return pa.table([*columns, to_column(blocks, codes[order])], schema=EXTRACTED_LOGS)


def rekeyed_indexes(indexes: pa.Table, old: Sealer, new: Sealer) -> tuple[pa.Table, pa.Table]:
    """IP_INDEXES under the new key; and what became of each index: `old` and `ip_index`, `network_index` (int64)."""
    blocks = _resealed(indexes["sealed_ip"], old, new)
    ip_index, network_index = new.unpack_index(blocks)
    sealed = to_column(blocks, np.arange(len(blocks)))
    columns = [pa.array(ip_index), pa.array(network_index), sealed, indexes["request_count"]]
    exchange = pa.table({"old": indexes["ip_index"], "ip_index": columns[0], "network_index": columns[1]})
    return pa.table(columns, schema=IP_INDEXES).sort_by("ip_index"), exchange


def rekeyed_regions(regions: pa.Table, exchange: pa.Table) -> pa.Table:
    """IP_REGIONS under the new key. Raises StoreError for an index that `exchange` lacks."""
    place = _places(regions["ip_index"], exchange)
    columns = [exchange["ip_index"].take(place), *(regions[name] for name in IP_REGIONS.names[1:])]
    return pa.table(columns, schema=IP_REGIONS).sort_by("ip_index")


def rekeyed_usage(usage: pa.Table, exchange: pa.Table) -> pa.Table:
    """DAILY_USAGE under the new key. Raises StoreError for an index that `exchange` lacks."""
    place = _places(usage["ip_index"], exchange)
    index, network = (exchange[name].take(place).combine_chunks() for name in ("ip_index", "network_index"))
    runs = _runs(usage.select(["dataset", "event_date", "asset_path", "region"]))
    order = np.lexsort((pc.fill_null(index, 0).to_numpy(), index.is_null().to_numpy(zero_copy_only=False), runs))
    columns = {**{name: usage[name] for name in usage.column_names}, "ip_index": index, "network_index": network}
    table = pa.table([columns[name] for name in DAILY_USAGE.names], schema=DAILY_USAGE)
    return table.take(pa.array(order))


def network_exchange(indexes: pa.Table, old: Sealer, new: Sealer) -> pa.Table:
    """What becomes of each network in IP_INDEXES rows, each once: `old` and `new` (int64)."""
    _, first = np.unique(indexes["network_index"].to_numpy(), return_index=True)
    some = indexes.take(pa.array(first))
    _, networks = new.unpack_index(_resealed(some["sealed_ip"], old, new))
    return pa.table({"old": some["network_index"].combine_chunks(), "new": pa.array(networks)})


def rekeyed_periods(rows: pa.Table, exchange: pa.Table, new: Sealer) -> pa.Table:
    """RELEASED_USAGE under the new key. `exchange` is as `network_exchange` gives it, each network once; one that it lacks,
    since its dates are gone, gets a pseudonym of its own."""
    networks = rows["network_index"].combine_chunks()
    found = (
        exchange["new"].combine_chunks().take(pc.index_in(networks, exchange["old"].combine_chunks(), skip_nulls=True))
    )
    for stranger in networks.filter(pc.and_(networks.is_valid(), found.is_null())).unique().to_pylist():
        found = pc.if_else(pc.fill_null(pc.equal(networks, stranger), False), new.stand_in(stranger), found)
    return rows.set_column(rows.schema.get_field_index("network_index"), "network_index", found)


def _resealed(sealed: pa.Array | pa.ChunkedArray, old: Sealer, new: Sealer) -> AddressBlock:
    return new.seal(old.unseal(from_column(sealed)))


def _runs(rows: pa.Table) -> NDArray[np.int64]:
    """A number for each row, one higher wherever a row differs from the one before."""
    changes = np.zeros(rows.num_rows, bool)
    for column in rows.columns:
        codes = coded(column.drop_null())[0]
        if column.null_count:
            known = column.is_valid().to_numpy()
            filled = np.full(rows.num_rows, -1, np.int64)
            filled[known] = codes
            codes = filled
        changes[1:] |= codes[1:] != codes[:-1]
    return np.cumsum(changes)


def _places(indexes: pa.ChunkedArray, exchange: pa.Table) -> pa.Array:
    """The row of `exchange` for each index, null for null."""
    place = pc.index_in(indexes, value_set=exchange["old"].combine_chunks(), skip_nulls=True)
    if place.null_count != indexes.null_count:
        raise StoreError(
            f"ip_indexes lacks {place.null_count - indexes.null_count} of the indexes in a table of its date; "
            "materialise the date again before the key is rotated"
        )
    return place
