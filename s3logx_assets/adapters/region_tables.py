"""Region tables on disk: a folder of three Parquet files, as they are packaged and cached.

    regions.parquet      one row per region (core.region_table.REGIONS); its metadata names the data's source
    regions_v4.parquet   start (uint32, an IPv4 address), region (uint16)
    regions_v6.parquet   start (uint64, the first 64 bits of an IPv6 address), region (uint16)

A range reaches up to the next start; region 0 is a range that the source says nothing of. How a table is made does not
belong here.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from s3logx_assets.adapters.local_files import replacing
from s3logx_assets.core.digests import table_digest, text_digest
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.region_table import Provenance, RegionTable
from s3logx_assets.core.regions import RangeTable

_REGIONS = "regions.parquet"
_RANGES = {"v4": ("regions_v4.parquet", np.uint32), "v6": ("regions_v6.parquet", np.uint64)}
_DIGEST = "digest"


def write(folder: Path, table: RegionTable, level: int = 3) -> None:
    """Writes the three files, each replaced whole and readable by its owner only; `regions.parquet` last, so that it
    vouches for the others. `level`: of zstd, 1 to 22. Raises OSError."""
    digests = [table_digest(table.regions)]
    for family, (name, _) in _RANGES.items():
        ranges: RangeTable = getattr(table, family)
        columns = pa.table({"start": pa.array(ranges.starts), "region": pa.array(ranges.codes)})
        digests.append(table_digest(columns))
        with replacing(folder / name) as stream:
            pq.write_table(
                columns,
                stream,
                row_group_size=1 << 24,
                use_dictionary=False,
                column_encoding=dict.fromkeys(columns.column_names, "BYTE_STREAM_SPLIT"),
                compression="zstd",
                compression_level=level,
                write_statistics=False,
            )
    metadata = {**table.provenance._asdict(), _DIGEST: text_digest(*digests)}
    with replacing(folder / _REGIONS) as stream:
        pq.write_table(table.regions.replace_schema_metadata(metadata), stream, compression="zstd")


def read(folder: Path) -> RegionTable:
    """The table in `folder`. Raises StoreError if a file is absent or damaged."""
    regions, provenance = read_regions(folder)
    try:
        v4, v6 = (_read_ranges(folder / name, kind) for name, kind in _RANGES.values())
    except (OSError, KeyError, pa.ArrowException) as error:
        raise StoreError(f"{folder} holds no whole region table ({type(error).__name__})") from None
    return RegionTable(v4, v6, regions, provenance)


def read_regions(folder: Path) -> tuple[pa.Table, Provenance]:
    """The regions alone (schema REGIONS) and their source. Raises StoreError as `read` does."""
    metadata = _metadata(folder)
    regions = pq.read_table(folder / _REGIONS).replace_schema_metadata(None)
    return regions, Provenance(*(metadata[field] for field in Provenance._fields))


def digest(folder: Path) -> str:
    """What the table's content is known by, without reading it. Raises StoreError as `read` does."""
    return _metadata(folder)[_DIGEST]


def _metadata(folder: Path) -> dict[str, str]:
    try:
        metadata = pq.read_schema(folder / _REGIONS).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{folder} holds no region table ({type(error).__name__})") from None
    found = {key.decode(): value.decode() for key, value in metadata.items()}
    if not {*Provenance._fields, _DIGEST} <= set(found):
        raise StoreError(f"{folder / _REGIONS} does not say where its data comes from")
    return found


def _read_ranges(path: Path, kind: Any) -> RangeTable:
    columns = pq.read_table(path)
    starts, regions = (columns[name].combine_chunks().to_numpy() for name in ("start", "region"))
    return RangeTable(starts.astype(kind, copy=False), regions.astype(np.uint16, copy=False))
