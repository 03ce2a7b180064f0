"""The bytes of each public table: column names, order, masking, quoting and guards of the format.

The formats are those that the archives' consumers already read. Exact tables come in, publishable
bytes go out, so that no caller can forget the policy. Where the files lie in a release, and what
else a release holds, does not belong here.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s3logx_assets.core.grouping import ranked
from s3logx_assets.core.privacy.compatible import published_count, published_counts
from s3logx_assets.core.privacy.released import ReleasedScope
from s3logx_assets.core.privacy.trees import OTHER_REGIONS
from s3logx_assets.core.regions import country_of
from s3logx_assets.core.schemas import REGION_COORDINATES
from s3logx_assets.core.scopes import ARCHIVE

Published = dict[str, int | str]

_SMALL = 1000  # rows
_MASKED = {"request_count": "number_of_requests", "download_count": "number_of_downloads"}


@dataclass(frozen=True)
class PublicTable:
    """A table under the policy: `rows` in the order of release, counts int64, null below `threshold`, which is 0 where no count is
    hidden."""

    rows: pa.Table
    threshold: int

    def tsv(self) -> bytes:
        """Quoted as by pandas' `to_csv(sep="\\t")`; a count below the threshold is `<50`, a formula is guarded."""
        shown = [pc.fill_null(column.cast(pa.string()), f"<{self.threshold}") for column in self.rows.columns]
        return _tsv(pa.table(shown, names=self.rows.column_names))

    def parquet(self) -> bytes:
        """The same rows with their types: null is a count below the threshold. The same for the same rows."""
        sink = pa.BufferOutputStream()
        note = {"null": f"a count below {self.threshold}"} if self.threshold else None
        # Without a dictionary and statistics a small file is written in half the time; it has a thousand siblings.
        pq.write_table(
            self.rows.replace_schema_metadata(note),
            sink,
            compression="zstd",
            use_dictionary=self.rows.num_rows > _SMALL,
            write_statistics=self.rows.num_rows > _SMALL,
        )
        return bytes(sink.getvalue().to_pybytes())


def by_day(by_day: pa.Table, threshold: int, rounding: int) -> PublicTable:
    """date, bytes_sent, number_of_requests, number_of_downloads of a BY_DAY table."""
    return _usage(by_day, "date", threshold, rounding)


def by_asset(by_asset: pa.Table, threshold: int, rounding: int) -> PublicTable:
    """asset_path, bytes_sent, number_of_requests, number_of_downloads of a BY_ASSET table."""
    return _usage(by_asset, "asset_path", threshold, rounding)


def by_region(by_region: pa.Table, threshold: int, rounding: int) -> PublicTable:
    """region, bytes_sent, number_of_requests, number_of_downloads of a BY_REGION table."""
    return _usage(by_region, "region", threshold, rounding)


def by_asset_type_per_week(by_week: pa.Table, threshold: int) -> PublicTable:
    """week_start and the bytes sent of each asset type, from what `summaries.by_type_per_week` gives; nothing in it is a
    count of requests."""
    return PublicTable(by_week, threshold)


def requester_count_tsv(requester_count: int, threshold: int, rounding: int) -> bytes:
    """The one value, without header or newline."""
    return str(published_count(requester_count, threshold, rounding)).encode()


def published_totals(totals: pa.Table, threshold: int, rounding: int) -> Published:
    """The object that stands for one scope in the totals files, from its TOTALS table."""
    [row] = totals.to_pylist()

    def masked(name: str) -> int | str:
        return published_count(row[name], threshold, rounding)

    return {
        "total_bytes_sent": row["total_bytes_sent"],
        "number_of_unique_regions": row["region_count"],
        "number_of_unique_countries": row["country_count"],
        "total_number_of_requests": masked("total_request_count"),
        "total_number_of_downloads": masked("total_download_count"),
        "number_of_requesters": masked("requester_count"),
    }


def released_totals(released: ReleasedScope) -> Published:
    """The same of what policy `strict` released. Regions are counted as they are told."""
    labels = [label for label in released.by_region["label"].to_pylist() if label != OTHER_REGIONS]
    size, requests, downloads = released.total
    return {
        "total_bytes_sent": size,
        "number_of_unique_regions": len(labels),
        "number_of_unique_countries": len({country_of(label) for label in labels} - {None}),
        "total_number_of_requests": requests,
        "total_number_of_downloads": downloads,
        "number_of_requesters": released.people,
    }


def totals_json(published: Mapping[str, Published]) -> bytes:
    """totals.json of the datasets: published totals by scope. Raises ValueError for the archive."""
    if ARCHIVE in published:
        raise ValueError("the archive's totals have a file of their own")
    return _json(published)


def archive_totals_json(published: Published) -> bytes:
    """archive_totals.json: the archive's published totals."""
    return _json(published)


def region_coordinates_tsv(coordinates: pa.Table) -> bytes:
    """region, latitude, longitude (degrees) of a REGION_COORDINATES table, each region once."""
    return _tsv(coordinates.select(["region", "latitude", "longitude"]))


def latest_coordinates(oldest_first: Iterable[pa.Table]) -> pa.Table:
    """One REGION_COORDINATES table with each region once, sorted; the latest table wins."""
    newest_first = [REGION_COORDINATES.empty_table(), *reversed(list(oldest_first))]
    rows = pa.concat_tables(newest_first)
    code, _ = ranked(rows["region"])
    _, first_row = np.unique(code, return_index=True)
    return rows.take(pa.array(first_row))


def _usage(table: pa.Table, first_column: str, threshold: int, rounding: int) -> PublicTable:
    columns: dict[str, Any] = {first_column: table.column(0), "bytes_sent": table["bytes_sent"]}
    for exact, shown in _MASKED.items():
        columns[shown] = published_counts(table[exact], threshold, rounding)
    # Sorted by the first column as the TSV writes it, with its guard against formulas.
    order = pc.sort_indices(_without_formulas(table.column(0)))
    return PublicTable(pa.table(columns).take(order), threshold)


def _tsv(table: pa.Table) -> bytes:
    text = StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows(zip(*(_without_formulas(column).to_pylist() for column in table.columns), strict=True))
    return text.getvalue().encode()


def _without_formulas(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A quote before what a spreadsheet would run as a formula."""
    if not pa.types.is_string(column.type):
        return column
    return pc.replace_substring_regex(column, r"\A([=+\-@])", r"'\1")


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode()
