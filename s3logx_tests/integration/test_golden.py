"""A small tree of logs and the example logs, and what the engine has always made of them."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from s3logx_assets.adapters.extractor import ExtractedDate
from s3logx_assets.adapters.log_store import LocalLogStore
from s3logx_assets.core.ledger import COUNTS
from s3logx_tests.log_folders import assert_as_worked_out, extract, rows_of, table_of

GOLDEN = Path(__file__).parents[1] / "golden"
LOGS = GOLDEN / "logs"
DAYS = [date(2025, 3, 1), date(2025, 3, 2)]
EXAMPLE_LOGS = Path(__file__).parents[3] / "shared" / "data" / "example_logs"


@pytest.fixture(scope="module")
def dates() -> list[ExtractedDate]:
    outcomes = extract(LOGS, DAYS, workers=2)
    return [outcome for day in DAYS if isinstance(outcome := outcomes[day], ExtractedDate)]


def as_tsv(columns: list[str], rows: list[list[object]]) -> str:
    lines = [columns, *(["-" if value is None else str(value) for value in row] for row in rows)]
    return "".join("\t".join(line) + "\n" for line in lines)


def rows_as_tsv(dates: list[ExtractedDate]) -> str:
    """Addresses as they are stored: sealed under the tests' key."""
    rows: list[list[object]] = [
        [item.day, *row.values()] for item in dates for row in readable(table_of(item)).to_pylist()
    ]
    return as_tsv(["log_date", *table_of(dates[0]).column_names], rows)


def readable(table: pa.Table) -> pa.Table:
    when = [time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in table["requested_at"].to_pylist()]
    sealed = [None if value is None else value.hex() for value in table["sealed_ip"].to_pylist()]
    table = table.set_column(1, "requested_at", pa.array(when, pa.string()))
    return table.set_column(5, "sealed_ip", pa.array(sealed, pa.string()))


def ledger_as_tsv(dates: list[ExtractedDate]) -> str:
    """Without the versions, which are times of modification here."""
    columns = ["name", "size", "records", *COUNTS]
    rows: list[list[object]] = [
        [item.day, *(row[name] for name in columns)] for item in dates for row in item.ledger.to_pylist()
    ]
    return as_tsv(["log_date", *columns], rows)


def test_the_golden_dates_are_all_there_are() -> None:
    store = LocalLogStore(LOGS)
    assert store.days() == DAYS
    first, second = (listing for _, listing in store.listings(DAYS))
    assert (len(first.objects), first.strays, first.ignored) == (4, 1, 0)
    assert (len(second.objects), second.strays, second.ignored) == (3, 0, 1)


def test_the_rows_are_the_golden_ones(dates: list[ExtractedDate]) -> None:
    assert rows_as_tsv(dates).encode() == (GOLDEN / "expected" / "extracted_logs.tsv").read_bytes()


def test_the_ledger_is_the_golden_one(dates: list[ExtractedDate]) -> None:
    assert ledger_as_tsv(dates).encode() == (GOLDEN / "expected" / "ledger.tsv").read_bytes()


def test_the_golden_rows_are_what_the_reference_parser_makes_of_the_logs(dates: list[ExtractedDate]) -> None:
    for item in dates:
        files = {log.name: (LOGS / log.name).read_bytes() for log in item.listing.objects}
        assert_as_worked_out(item, files)


def test_no_address_of_the_golden_logs_is_in_what_is_expected() -> None:
    text = b"".join(path.read_bytes() for path in (GOLDEN / "expected").iterdir())
    assert not [part for part in (b"192.0.2.", b"198.51.100.", b"203.0.113.", b"2001:db8", b"2001:DB8") if part in text]


def test_the_example_logs_give_seven_rows() -> None:
    if not EXAMPLE_LOGS.is_dir():
        pytest.skip(f"the example logs are not part of the repository; they would be in {EXAMPLE_LOGS}")
    days = LocalLogStore(EXAMPLE_LOGS).days()
    assert days == [date(2020, 1, 1), date(2022, 1, 1)]
    outcomes = extract(EXAMPLE_LOGS, days)
    for day, count in zip(days, (3, 4), strict=True):
        item = outcomes[day]
        assert isinstance(item, ExtractedDate)
        assert item.row_count == count
        assert_as_worked_out(item, {log.name: (EXAMPLE_LOGS / log.name).read_bytes() for log in item.listing.objects})
        # One client, at 192.0.2.0, is behind all of them.
        assert {row[5] for row in rows_of(table_of(item))} == {bytes(10) + b"\xff\xff\xc0\x00\x02\x00"}
