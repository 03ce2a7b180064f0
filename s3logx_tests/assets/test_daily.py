"""The daily chain: what a date becomes, what a bad one does to the others, what is recorded."""

import gc
import hashlib
import threading
import weakref
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from s3logx_assets.adapters import table_store
from s3logx_assets.adapters.extractor import ExtractedDate, Extractor, FailedDate
from s3logx_assets.adapters.row_runs import RowCollector
from s3logx_assets.assets.extract import ledger_of
from s3logx_assets.core import usage
from s3logx_assets.core.addresses import AddressBlock
from s3logx_assets.core.errors import ServiceUnavailable, StoreError
from s3logx_assets.resources import build_extractor
from s3logx_tests.platform import DAILY, EvenOddGeolocator, Platform, failure_text, line

CHECKS = 8


def month(platform: Platform, days: int) -> None:
    for day in range(1, days + 1):
        name = f"2025-03-{day:02}"
        platform.log(f"{name}-05-00-00-AA", line("ds1/a.nii", name, 1), line("ds2/b.nii", name, 2, host=day))


def tree(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_one_bad_date_stops_itself_alone(platform: Platform) -> None:
    month(platform, 10)
    platform.log("2025-03-04-06-00-00-BB").write_bytes(b"\x1f\x8bnot gzip at all")
    result = platform.daily("2025-03-01", "2025-03-10")
    assert not result.success
    assert "1 of 10 dates failed: 2025-03-04: log file '2025-03-04-06-00-00-BB' is a damaged gzip file" in failure_text(
        result
    )
    good = {f"2025-03-{day:02}" for day in range(1, 11)} - {"2025-03-04"}
    for asset in DAILY:
        assert platform.materialized(asset) == good, asset
        assert set(platform.store.partitions(asset, "log_date")) == good, asset


def test_an_unexpected_error_names_its_place_and_not_its_text(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    month(platform, 3)
    genuine = usage.content_digests
    calls = []

    def once_broken(table: pa.Table) -> list[tuple[str, date, str]]:
        calls.append(table)
        if len(calls) == 2:
            raise RuntimeError("192.0.2.7 asked for it")
        return genuine(table)

    monkeypatch.setattr("s3logx_assets.adapters.scope_state.content_digests", once_broken)
    result = platform.daily("2025-03-01", "2025-03-03")
    assert "2025-03-02: unexpected RuntimeError at test_daily.py" in failure_text(result)
    assert "192.0.2.7" not in "".join(str(event) for event in result.all_events)
    assert platform.materialized("daily_usage") == {"2025-03-01", "2025-03-03"}
    assert platform.materialized("ip_regions") == {"2025-03-01", "2025-03-02", "2025-03-03"}


@pytest.mark.parametrize("step", ["extraction", "storing", "a later step"])
def test_a_failed_date_keeps_no_table(platform: Platform, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Errors were kept to the run's end, with the frames that they came through: where a disk was full for a long backfill,
    each failed date held on to its rows. Nor may a cycle hold them: its collection does not see how large they are."""
    month(platform, 5)
    for module in ("core.extraction", "assets.extract"):
        monkeypatch.setattr(f"s3logx_assets.{module}.GROUP", 1)  # so that a thread works ahead
    threads = threading.active_count()
    tables: list[weakref.ref[pa.Table]] = []
    alive: list[int] = []

    def fail(table: pa.Table) -> None:
        alive.append(sum(seen() is not None for seen in tables))
        tables.append(weakref.ref(table))
        raise StoreError("full") if step != "a later step" else ValueError

    def fail_to_take(collector: RowCollector, chunk: pa.Table, files: object) -> None:
        try:
            raise OSError
        except OSError:
            fail(chunk.slice(0))

    def fail_to_store(stream: Any, schema: Any, groups: Iterator[pa.Table], *more: Any) -> None:
        fail(next(groups))

    if step == "extraction":
        monkeypatch.setattr(RowCollector, "take", fail_to_take)
    elif step == "storing":
        monkeypatch.setattr(table_store, "_write_parquet", fail_to_store)
    else:
        monkeypatch.setattr("s3logx_assets.adapters.scope_state.content_digests", fail)
    gc.collect()
    gc.disable()
    try:
        result = platform.daily("2025-03-01", "2025-03-05")
    finally:
        gc.enable()
    assert "5 of 5 dates failed" in failure_text(result)
    assert len(tables) == 5
    assert max(alive) <= 1  # that of the date before
    assert threading.active_count() == threads


def test_the_same_logs_make_the_same_bytes_again(platform: Platform) -> None:
    month(platform, 3)
    assert platform.daily("2025-03-01", "2025-03-03").success
    before = tree(platform.store.root)
    assert platform.daily("2025-03-01", "2025-03-03").success
    assert tree(platform.store.root) == before


def test_a_date_without_log_files_is_an_empty_partition(platform: Platform) -> None:
    month(platform, 1)
    assert platform.daily("2025-03-01", "2025-03-02").success
    for asset in DAILY:
        assert platform.store.read(asset, "log_date=2025-03-02").num_rows == 0


def test_requests_without_an_address_count_and_are_nobody(platform: Platform) -> None:
    platform.log("2025-03-01-05-00-00-AA", line("ds1/a", ip="-"), line("ds1/a", second=9, ip="-"))
    assert platform.daily("2025-03-01", "2025-03-01").success
    assert platform.store.read("ip_indexes", "log_date=2025-03-01").num_rows == 0
    (row,) = platform.store.read("daily_usage", "log_date=2025-03-01").to_pylist()
    assert (row["region"], row["ip_index"], row["request_count"]) == ("internal", None, 2)


def test_every_record_is_accounted_for(platform: Platform) -> None:
    platform.log(
        "2025-03-01-05-00-00-AA", line("ds1/a"), line("ds1/a"), line("ds1/b", status=404), "\n", "not a record\n"
    )
    result = platform.daily("2025-03-01", "2025-03-01")
    assert result.success
    (row,) = ledger_of(platform.store, date(2025, 3, 1)).to_pylist()
    counted = {name: count for name, count in row.items() if isinstance(count, int) and count and name != "size"}
    assert counted == {
        "records": 5,
        "extracted": 1,
        "duplicate": 1,
        "skipped_status": 1,
        "skipped_blank": 1,
        "rejected_head": 1,
    }
    evaluations = {item.check_name: item for item in result.get_asset_check_evaluations()}
    assert len(evaluations) == CHECKS
    assert evaluations["conservation"].passed
    assert evaluations["reference_agreement"].passed
    assert evaluations["completeness"].passed
    assert not evaluations["rejected_share"].passed  # one of five, and 0.01 is accepted
    assert not evaluations["downloads_logic"].passed  # 10 of 100 bytes
    assert evaluations["downloads_logic"].metadata["aborted"].value == 1


def test_checks_can_be_run_again_and_see_a_late_file(platform: Platform) -> None:
    month(platform, 1)
    assert platform.daily("2025-03-01", "2025-03-01").success
    platform.log("2025-03-01-07-00-00-CC", line("ds1/late"))
    key = dg.AssetCheckKey(dg.AssetKey("extracted_logs"), "completeness")
    job = (
        platform.definitions()
        .resolve_implicit_global_asset_job_def()
        .get_subset(asset_selection=set(), asset_check_selection={key})
    )
    tags = {"dagster/asset_partition_range_start": "2025-03-01", "dagster/asset_partition_range_end": "2025-03-01"}
    result = job.execute_in_process(instance=platform.instance, tags=tags)
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert evaluation.metadata["new_or_changed"].value == 1


def test_copies_in_the_next_date_are_suspected(platform: Platform) -> None:
    copied = line("ds1/a", "2025-03-01", 80000)
    platform.log("2025-03-01-23-00-00-AA", copied)
    platform.log("2025-03-02-01-00-00-BB", copied, line("ds1/b", "2025-03-02"))
    result = platform.daily("2025-03-01", "2025-03-02")
    suspects = [
        item.metadata["suspects"].value
        for item in result.get_asset_check_evaluations()
        if item.check_name == "duplicates_across_dates"
    ]
    assert suspects == [0, 1]


def test_history_is_not_destroyed_by_an_empty_listing(platform: Platform) -> None:
    month(platform, 2)
    assert platform.daily("2025-03-01", "2025-03-02").success
    before = tree(platform.store.root)
    for path in (platform.folder / "logs").iterdir():
        path.unlink()
    result = platform.daily("2025-03-01", "2025-03-02")
    assert "S3LOGX_ALLOW_SHRINK=1" in failure_text(result)
    assert tree(platform.store.root) == before
    platform.environment["S3LOGX_ALLOW_SHRINK"] = "1"
    assert platform.daily("2025-03-01", "2025-03-02").success
    assert platform.store.read("extracted_logs", "log_date=2025-03-01").num_rows == 0


def damage(path: Path, place: str) -> None:
    """Bit rot: of the file's end, so that nothing of it can be read; of its ledger; or of its rows."""
    content = path.read_bytes()
    spot = {"footer": len(content) - 20, "ledger": content.rindex(b"ARROW1") - 6, "rows": 4}[place]
    path.write_bytes(content[:spot] + b"\xff" * 12 + content[spot + 12 :])


@pytest.mark.parametrize("place", ["footer", "ledger", "rows"])
def test_a_damaged_date_is_made_again_and_stops_no_other_one(platform: Platform, place: str) -> None:
    """One unreadable file stopped every date of its run, with the advice to materialise it again, which failed alike: whether
    it would shrink could not be told. The date after it was stored and then called failed by a check."""
    month(platform, 3)
    assert platform.daily("2025-03-01", "2025-03-03").success
    before = tree(platform.store.root)
    path = platform.store.path("extracted_logs", "log_date=2025-03-01")
    damage(path, place)
    platform.log("2025-03-01-07-00-00-CC", line("ds1/late"))
    assert platform.daily("2025-03-02", "2025-03-02").success
    assert platform.daily("2025-03-01", "2025-03-03").success
    assert ledger_of(platform.store, date(2025, 3, 1)).num_rows == 2
    (platform.folder / "logs" / "2025-03-01-07-00-00-CC").unlink()
    platform.environment["S3LOGX_ALLOW_SHRINK"] = "1"
    assert platform.daily("2025-03-01", "2025-03-01").success
    assert tree(platform.store.root) == before


def test_a_check_says_that_the_date_before_could_not_be_compared(platform: Platform) -> None:
    month(platform, 2)
    assert platform.daily("2025-03-01", "2025-03-02").success
    damage(platform.store.path("extracted_logs", "log_date=2025-03-01"), "rows")
    result = platform.daily("2025-03-02", "2025-03-02")
    (check,) = (c for c in result.get_asset_check_evaluations() if c.check_name == "duplicates_across_dates")
    assert check.passed
    assert "2025-03-01 cannot be read" in str(check.metadata["not_compared"].value)


@pytest.mark.parametrize("place", ["footer", "ledger"])
def test_a_damaged_date_whose_log_files_are_gone_stands(platform: Platform, place: str) -> None:
    """To be made again from nothing would end what a backup or a patient reader may save."""
    month(platform, 2)
    assert platform.daily("2025-03-01", "2025-03-02").success
    damage(platform.store.path("extracted_logs", "log_date=2025-03-01"), place)
    (platform.folder / "logs" / "2025-03-01-05-00-00-AA").unlink()
    before = tree(platform.store.root)
    assert "from a backup, or set S3LOGX_ALLOW_SHRINK=1" in failure_text(platform.daily("2025-03-01", "2025-03-01"))
    assert tree(platform.store.root) == before
    platform.environment["S3LOGX_ALLOW_SHRINK"] = "1"
    assert platform.daily("2025-03-01", "2025-03-01").success


@pytest.mark.parametrize("allowed", ["0", "1"])
def test_an_older_run_does_not_overwrite_what_a_newer_one_extracted(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, allowed: str
) -> None:
    """A backfill listed a date at ten, a late file came and another run extracted it, and at one the backfill stored the
    date as it had been listed: the late requests were gone, and nothing told of it."""
    platform.environment["S3LOGX_ALLOW_SHRINK"] = allowed
    month(platform, 2)
    assert platform.daily("2025-03-01", "2025-03-01").success
    newer: list[int] = []

    def overtaken(*tools: Any) -> Extractor:
        extractor = build_extractor(*tools)
        found = extractor.extract

        def late(days: Sequence[date], refuse: Any) -> Iterator[ExtractedDate | FailedDate]:
            for number, outcome in enumerate(found(days, refuse)):
                if not newer:
                    newer.append(number)
                    platform.log("2025-03-01-07-00-00-CC", line("ds1/late"))
                    assert platform.daily("2025-03-01", "2025-03-01").success
                yield outcome

        monkeypatch.setattr(extractor, "extract", late)
        return extractor

    monkeypatch.setattr("s3logx_assets.assets.extract.build_extractor", overtaken)
    result = platform.daily("2025-03-01", "2025-03-02")
    assert result.success
    assert len([event for event in result.all_events if event.is_step_up_for_retry]) == 1
    assert ledger_of(platform.store, date(2025, 3, 1)).num_rows == 2
    assert platform.store.read("daily_usage", "log_date=2025-03-01").num_rows == 3


def test_a_step_alone_refuses_inputs_that_do_not_belong_together(platform: Platform) -> None:
    month(platform, 1)
    assert platform.daily("2025-03-01", "2025-03-01").success
    platform.log("2025-03-01-07-00-00-CC", line("ds1/late", host=99))
    assert platform.daily("2025-03-01", "2025-03-01", ["extracted_logs"]).success
    result = platform.daily("2025-03-01", "2025-03-01", ["daily_usage"])
    assert "ip_indexes of 2025-03-01 was made from other extracted_logs" in failure_text(result)


def test_a_wrong_key_is_refused_before_any_write(platform: Platform) -> None:
    month(platform, 1)
    assert platform.daily("2025-03-01", "2025-03-01").success
    before = tree(platform.store.root)
    platform.environment["S3LOGX_KEY"] = "A" * 43 + "="
    result = platform.daily("2025-03-01", "2025-03-01")
    assert not result.success
    assert tree(platform.store.root) == before


class FlakyGeolocator(EvenOddGeolocator):
    """Fails so often, in this way, for dates with a requester from 192.0.2.`host`."""

    def __init__(self, error: Exception, times: int, host: int) -> None:
        self.error, self.times, self.host = error, times, host
        self.asked: list[int] = []

    def regions(self, addresses: AddressBlock) -> pa.Table:
        hosts = set(addresses[:, 15].tolist())
        self.asked.append(min(hosts))
        if self.host in hosts and self.times:
            self.times -= 1
            raise self.error
        return super().regions(addresses)


def test_what_may_pass_is_tried_again_for_the_dates_that_failed_alone(platform: Platform) -> None:
    for number in (1, 2, 3):
        platform.log(f"2025-03-0{number}-05-00-00-A", line("ds1/a", f"2025-03-0{number}", host=number))
    platform.geolocator = flaky = FlakyGeolocator(ServiceUnavailable("down"), 2, 2)
    result = platform.daily("2025-03-01", "2025-03-03")
    assert result.success
    assert flaky.asked == [1, 2, 3, 2, 2]
    assert platform.materialized("daily_usage") == {"2025-03-01", "2025-03-02", "2025-03-03"}


@pytest.mark.parametrize("error", [StoreError("damaged"), ValueError("192.0.2.2")], ids=["permanent", "unexpected"])
def test_what_stays_is_not_tried_again(platform: Platform, error: Exception) -> None:
    for number in (1, 2):
        platform.log(f"2025-03-0{number}-05-00-00-A", line("ds1/a", f"2025-03-0{number}", host=number))
    platform.geolocator = flaky = FlakyGeolocator(error, 2, 2)
    result = platform.daily("2025-03-01", "2025-03-02")
    assert not result.success
    assert flaky.asked == [1, 2]
    assert "192.0.2" not in failure_text(result)


def test_tries_come_to_an_end(platform: Platform) -> None:
    platform.log("2025-03-01-05-00-00-A", line("ds1/a", host=2))
    platform.geolocator = flaky = FlakyGeolocator(ServiceUnavailable("down"), 99, 2)
    assert not platform.daily("2025-03-01", "2025-03-01").success
    assert len(flaky.asked) == 4
