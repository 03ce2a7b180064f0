"""Public tables: known bytes of each file, and pandas as the judge of quoting."""

import json
from datetime import date
from io import BytesIO, StringIO

import pandas as pd
import pyarrow as pa
import pytest

from s3logx_assets.core.public_tables import (
    archive_totals_json,
    by_asset,
    by_day,
    by_region,
    latest_coordinates,
    published_totals,
    region_coordinates_tsv,
    requester_count_tsv,
    totals_json,
)
from s3logx_assets.core.schemas import (
    BY_ASSET,
    BY_DAY,
    BY_REGION,
    REGION_COORDINATES,
    TOTALS,
)

TOTAL_ROW = {
    "total_bytes_sent": 2**53 + 1,
    "total_request_count": 70,
    "total_download_count": 49,
    "requester_count": 50,
    "network_count": 3,
    "region_count": 4,
    "country_count": 2,
    "first_event_date": date(2024, 3, 1),
    "last_event_date": None,
}
TOTAL = pa.Table.from_pylist([TOTAL_ROW], schema=TOTALS)


def counted(schema: pa.Schema, *rows: tuple[object, ...]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)


def test_by_day() -> None:
    table = counted(BY_DAY, (date(2020, 1, 1), 6286489, 50, 49), (date(2022, 4, 6), 2**53 + 1, 70, 69))
    assert by_day(table, 50, 20).tsv() == (
        b"date\tbytes_sent\tnumber_of_requests\tnumber_of_downloads\n"
        b"2020-01-01\t6286489\t60\t<50\n"
        b"2022-04-06\t9007199254740993\t80\t60\n"
    )


def test_by_asset() -> None:
    table = counted(BY_ASSET, ("sub-1/é b.nii", 1, 100, 99))
    assert (
        by_asset(table, 10, 1).tsv()
        == ("asset_path\tbytes_sent\tnumber_of_requests\tnumber_of_downloads\nsub-1/é b.nii\t1\t100\t99\n").encode()
    )


def test_by_region_guards_spreadsheets_and_quotes_quotes() -> None:
    labels = ["+1", "-", "=x()", "@a", "A", 'CI/Korhogo "N"', "it's"]
    table = counted(BY_REGION, *((label, 0, 0, 0) for label in labels))
    lines = by_region(table, 50, 20).tsv().decode().split("\n")
    assert lines[0] == "region\tbytes_sent\tnumber_of_requests\tnumber_of_downloads"
    first_cells = [line.split("\t")[0] for line in lines[1:-1]]
    assert first_cells == ["'+1", "'-", "'=x()", "'@a", "A", '"CI/Korhogo ""N"""', "it's"]
    assert lines[-1] == ""


def test_rows_are_sorted_by_the_cells_as_written() -> None:
    """A guarded cell starts with a quote, which sorts before digits and after `%`."""
    table = counted(BY_REGION, *((label, 0, 0, 0) for label in ["%", "(", "-", "0", "=", "\uffff"]))
    frame = pd.read_csv(BytesIO(by_region(table, 50, 20).tsv()), sep="\t")
    assert frame["region"].tolist() == ["%", "'-", "'=", "(", "0", "\uffff"]


def test_empty_tables_are_a_header() -> None:
    assert by_region(BY_REGION.empty_table(), 50, 20).tsv().count(b"\n") == 1
    assert region_coordinates_tsv(REGION_COORDINATES.empty_table()) == (b"region\tlatitude\tlongitude\n")


@pytest.mark.parametrize(("count", "shown"), [(0, b"<50"), (49, b"<50"), (50, b"60")])
def test_the_requester_count_is_the_value_alone(count: int, shown: bytes) -> None:
    assert requester_count_tsv(count, 50, 20) == shown


def test_totals() -> None:
    published = published_totals(TOTAL, 50, 20)
    assert archive_totals_json(published).decode() == (
        "{\n"
        '  "number_of_requesters": 60,\n'
        '  "number_of_unique_countries": 2,\n'
        '  "number_of_unique_regions": 4,\n'
        '  "total_bytes_sent": 9007199254740993,\n'
        '  "total_number_of_downloads": "<50",\n'
        '  "total_number_of_requests": 80\n'
        "}"
    )
    both = totals_json({"ds2": published, "ds1": published})
    assert list(json.loads(both)) == ["ds1", "ds2"]
    expected = StringIO()
    json.dump({"ds2": published, "ds1": published}, expected, indent=2, sort_keys=True)
    assert both == expected.getvalue().encode()
    assert totals_json({}) == b"{}"


def test_the_archive_is_not_among_the_datasets() -> None:
    with pytest.raises(ValueError, match="archive"):
        totals_json({"archive": published_totals(TOTAL, 50, 20)})


def test_coordinates_are_the_latest_of_each_region_in_full_precision() -> None:
    def on_a_date(*rows: tuple[str, float, float]) -> pa.Table:
        return counted(REGION_COORDINATES, *((*row, "test") for row in rows))

    latest = latest_coordinates(
        [
            on_a_date(("US/Ohio", 1.0, 1.0), ("DE", 51.5, -0.1)),
            on_a_date(),
            on_a_date(("US/Ohio", 40.41666666666667, -82.0), ("A", 0.0, 180.0)),
        ]
    )
    assert latest.schema == REGION_COORDINATES
    assert region_coordinates_tsv(latest) == (
        b"region\tlatitude\tlongitude\nA\t0.0\t180.0\nDE\t51.5\t-0.1\nUS/Ohio\t40.41666666666667\t-82.0\n"
    )
    assert latest_coordinates([]).num_rows == 0
