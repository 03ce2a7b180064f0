"""The S3 Inventory from its snapshot to the runs it sets going, over a local copy of it and of the logs."""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from s3logx_assets import inventory_sensors, ticks
from s3logx_assets.adapters.log_store import LocalLogStore
from s3logx_assets.assets.inventory import dates_of, rows_of, stored_snapshots
from s3logx_assets.assets.statistics import refuse_unlistable
from s3logx_assets.core.address_classes import CLASSES
from s3logx_assets.core.errors import SourceError
from s3logx_assets.core.inventory import LOG_ROWS
from s3logx_assets.run_requests import FIRST, LAST
from s3logx_tests.inventories import Row, write_inventory_of
from s3logx_tests.platform import DAILY, Platform, failure_text, line

SNAPSHOT = "2025-03-09T01-00Z"
LATER = "2025-03-10T01-00Z"
CREATED = datetime(2025, 3, 9, 1, tzinfo=UTC)


@pytest.fixture
def listed(tmp_path: Path) -> Iterator[Platform]:
    """Logs of three dates in a local copy of a bucket, whose inventory lies beside it."""
    (tmp_path / "instance").mkdir()
    with dg.instance_for_test(temp_dir=str(tmp_path / "instance")) as instance:
        platform = Platform.make(
            tmp_path, instance, S3LOGX_INVENTORY=str(tmp_path / "inventory"), S3LOGX_INVENTORY_PREFIX="logs/"
        )
        for number in (1, 2, 4):
            day = f"2025-03-0{number}"
            platform.log(f"2025/03/0{number}/{day}-05-00-00-A{number}", line(f"ds{number}/a", day), line("ds1/b", day))
        yield platform


def write_snapshot(platform: Platform, snapshot: str = SNAPSHOT, more: Sequence[Row] = ()) -> None:
    """An inventory of what is in the folder of logs now, and `more`."""
    write_inventory_of(platform.folder / "logs", platform.folder / "inventory", snapshot, more)


def make(platform: Platform, snapshot: str = SNAPSHOT) -> dg.ExecuteInProcessResult:
    """Materialises a snapshot, as the sensor asks for it."""
    platform.instance.add_dynamic_partitions("inventory_snapshot", [snapshot])
    return platform.materialize("log_inventory", snapshot)


def request_of(found: Sequence[dg.RunRequest] | str) -> dg.RunRequest:
    assert not isinstance(found, str), found
    (request,) = found
    return request


def asked(found: Sequence[dg.RunRequest] | str) -> list[tuple[str, str]]:
    assert not isinstance(found, str), found
    return [(request.tags[FIRST], request.tags[LAST]) for request in found]


def test_a_snapshot_is_stored_by_date_as_the_listings_have_it(listed: Platform) -> None:
    """Files astray too: those in a neighbour's folder are their date's, those further off nobody's."""
    for folder in ("03/03", "03/05", "03/07", "02/28"):
        listed.log(f"2025/{folder}/2025-03-04-06-00-00-{folder.replace('/', '')}", line("ds1/astray", "2025-03-04"))
    listed.log("2025-03-01-07-00-00-FLAT", line("ds1/flat"))
    listed.log("logs.txt", "no log")
    write_snapshot(listed, more=[Row(f"elsewhere/{SNAPSHOT[:10]}-01-00-00-A"), Row("logs/2025-02-30-01-00-00-A")])
    made = make(listed)
    assert made.success
    dates, record = dates_of(listed.store, SNAPSHOT)
    assert record["with_versions"]
    found = {row["log_date"]: rows_of(listed.store, SNAPSHOT, row) for row in dates.to_pylist()}
    days = [date(2025, 3, number) for number in range(1, 8)]
    listings = dict(LocalLogStore(listed.folder / "logs").listings(days))
    assert {day: rows["name"].to_pylist() for day, rows in found.items()} == {
        day: [item.name for item in listing.objects] for day, listing in listings.items() if listing.objects
    }
    assert all(rows.schema.remove_metadata() == LOG_ROWS for rows in found.values())
    (event,) = made.asset_materializations_for_node("log_inventory")
    assert event.metadata["files"].value == sum(rows.num_rows for rows in found.values()) == 6
    assert event.metadata["first_date"].value == "2025-03-01"


def test_only_the_newest_two_snapshots_keep_their_rows(listed: Platform) -> None:
    names = [f"2025-03-0{number}T01-00Z" for number in (6, 7, 8, 9)]
    for name in names:
        write_snapshot(listed, name)
        assert make(listed, name).success
    assert stored_snapshots(listed.store) == names
    kept = [name for name in names if listed.store.record("log_inventory", f"snapshot={name}") is not None]
    assert kept == names[2:]
    assert all(dates_of(listed.store, name)[0].num_rows == 3 for name in names)


def test_a_new_manifest_is_asked_for_once(listed: Platform) -> None:
    assert "has no snapshot yet" in str(listed.tick("inventory_manifest_sensor"))
    write_snapshot(listed)
    request = request_of(listed.tick("inventory_manifest_sensor"))
    assert request.partition_key == SNAPSHOT
    assert listed.instance.get_dynamic_partitions("inventory_snapshot") == [SNAPSHOT]
    assert listed.tick("inventory_manifest_sensor") == f"snapshot {SNAPSHOT} was asked for today"
    listed.cursors.clear()  # a restart that lost it, even: the run's key is the same
    again = request_of(listed.tick("inventory_manifest_sensor"))
    assert again.run_key == request.run_key
    assert make(listed).success
    assert listed.tick("inventory_manifest_sensor") == f"snapshot {SNAPSHOT} is stored"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / LATER / "manifest.checksum").unlink(), "has no manifest and checksum"),
        (lambda folder: (folder / LATER / "manifest.json").write_bytes(b"{}"), "does not fit its checksum"),
    ],
    ids=["half uploaded", "broken"],
)
def test_a_broken_snapshot_is_a_reason_and_the_one_before_it_serves(
    listed: Platform, damage: object, words: str
) -> None:
    write_snapshot(listed)
    write_snapshot(listed, LATER)
    assert callable(damage)
    damage(listed.folder / "inventory")
    request = request_of(listed.tick("inventory_manifest_sensor"))
    assert request.partition_key == SNAPSHOT
    assert make(listed).success
    reason = listed.tick("inventory_manifest_sensor")
    assert words in str(reason)
    assert f"snapshot {SNAPSHOT} is stored" in str(reason)
    write_snapshot(listed, LATER)  # the rest has come
    request = request_of(listed.tick("inventory_manifest_sensor"))
    assert request.partition_key == LATER


def test_a_snapshot_with_a_damaged_file_is_not_stored(listed: Platform) -> None:
    write_snapshot(listed)
    path = sorted((listed.folder / "inventory" / "data").iterdir())[1]
    path.write_bytes(path.read_bytes()[:-1])
    failed = make(listed)
    assert not failed.success
    assert "has not the size" in failure_text(failed)
    assert "no snapshot of the inventory is stored yet" in str(listed.tick("inventory_files_sensor"))
    assert not list((listed.folder / "home" / "scratch").iterdir())


def test_dates_with_files_that_were_not_extracted_are_asked_for_and_no_others(listed: Platform) -> None:
    write_snapshot(listed)
    assert make(listed).success
    requests = listed.tick("inventory_files_sensor")
    assert asked(requests) == [("2025-03-01", "2025-03-02"), ("2025-03-04", "2025-03-04")]
    assert {key.to_user_string() for key in requests[0].asset_selection or ()} == set(DAILY)  # type: ignore[union-attr]
    again = listed.tick("inventory_files_sensor")  # its run may have died: the keys tell the daemon that it is the same
    assert [request.run_key for request in again] == [request.run_key for request in requests]  # type: ignore[union-attr]
    assert listed.daily("2025-03-01", "2025-03-04").success
    assert "3 dates of snapshot" in str(listed.tick("inventory_files_sensor"))
    assert "nothing has changed since" in str(listed.tick("inventory_files_sensor"))


def test_a_late_file_is_news_of_its_date_alone_and_vanished_and_newer_ones_are_not(listed: Platform) -> None:
    assert listed.daily("2025-03-01", "2025-03-04").success
    after = datetime.now(UTC) + timedelta(minutes=1)
    listed.log("2025/03/02/2025-03-02-09-00-00-LATE", line("ds1/late", "2025-03-02"))
    gone = listed.folder / "logs" / "2025/03/04/2025-03-04-05-00-00-A4"
    content = gone.read_bytes()
    gone.unlink()
    newer = listed.log("2025/03/01/2025-03-09-00-30-00-NEW", line("ds1/newer"))
    write_snapshot(listed)
    write_created(listed, after)
    gone.write_bytes(content)
    assert newer.exists()
    assert make(listed).success
    # 2025-03-09's file lies a week astray: no listing of that date has it.
    assert asked(listed.tick("inventory_files_sensor")) == [("2025-03-02", "2025-03-02")]


def test_a_date_that_a_run_left_half_way_is_asked_for(listed: Platform) -> None:
    """The power went between the extraction of a late file and the steps after it: the ledger had the file, so nothing
    ever asked for the rest."""
    assert listed.daily("2025-03-01", "2025-03-04").success
    listed.log("2025/03/02/2025-03-02-09-00-00-LATE", line("ds1/late", "2025-03-02"))
    write_snapshot(listed)
    assert make(listed).success
    assert listed.daily("2025-03-02", "2025-03-02", ["extracted_logs"]).success
    assert asked(listed.tick("inventory_files_sensor")) == [("2025-03-02", "2025-03-02")]
    assert listed.daily("2025-03-02", "2025-03-02").success
    listed.cursors.clear()
    assert "3 dates of snapshot" in str(listed.tick("inventory_files_sensor"))


def damage_ledger(platform: Platform, day: str) -> None:
    """Overwrites the ledger within a date's file, whose footer stays whole."""
    path = platform.store.path("extracted_logs", f"log_date={day}")
    ledger = platform.store.section("extracted_logs", f"log_date={day}", "ledger")
    content = path.read_bytes()
    assert content.count(ledger) == 1
    path.write_bytes(content.replace(ledger, bytes(len(ledger))))


def test_a_damaged_ledger_keeps_no_other_date_from_being_asked_for(listed: Platform) -> None:
    """The comparison stopped at it, at every tick for ever: no late file of any date was asked for any more."""
    assert listed.daily("2025-03-01", "2025-03-04").success
    for day in ("01", "04"):
        listed.log(f"2025/03/{day}/2025-03-{day}-09-00-00-LATE", line("ds1/late", f"2025-03-{day}"))
    damage_ledger(listed, "2025-03-01")
    write_snapshot(listed)
    write_created(listed, datetime.now(UTC) + timedelta(minutes=1))
    assert make(listed).success
    assert asked(listed.tick("inventory_files_sensor")) == [("2025-03-01", "2025-03-01"), ("2025-03-04", "2025-03-04")]
    found = figures(listed.materialize("statistics"))
    assert (found["listed_files"], found["files_not_extracted"]) == (
        5,
        3,
    )  # none of the first date's two is vouched for
    assert listed.daily("2025-03-01", "2025-03-01").success
    assert listed.daily("2025-03-04", "2025-03-04").success
    assert "3 dates of snapshot" in str(listed.tick("inventory_files_sensor"))


def test_a_date_that_was_listed_after_the_snapshot_is_no_news(listed: Platform) -> None:
    """The ledger is newer: asking again would bring the same, every day anew."""
    write_snapshot(listed)
    listed.log("2025/03/02/2025-03-02-05-00-00-A2", line("ds1/replaced", "2025-03-02"))
    assert listed.daily("2025-03-01", "2025-03-04").success
    assert make(listed).success
    assert "3 dates of snapshot" in str(listed.tick("inventory_files_sensor"))


def test_what_a_run_is_under_way_for_is_not_asked_for(listed: Platform) -> None:
    write_snapshot(listed)
    assert make(listed).success
    run = listed.start_run("2025-03-01", "2025-03-03")
    assert asked(listed.tick("inventory_files_sensor")) == [("2025-03-04", "2025-03-04")]
    listed.cursors.clear()
    listed.instance.report_run_canceled(run)
    assert asked(listed.tick("inventory_files_sensor")) == [("2025-03-01", "2025-03-02"), ("2025-03-04", "2025-03-04")]


def test_many_dates_are_compared_in_several_ticks(listed: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    first = date(2025, 3, 1)
    rows = [Row(f"logs/{first + timedelta(days=n)}-01-00-00-A", 10, "0" * 32) for n in range(500)]
    write_snapshot(listed, more=rows)
    assert make(listed).success
    monkeypatch.setattr(inventory_sensors, "_SLICE", 100)
    monkeypatch.setattr(ticks, "SECONDS", 0.0)
    assert "up to date" not in str(listed.tick("inventory_files_sensor"))  # at least one slice a tick
    covered: list[tuple[str, str]] = []
    for _ in range(6):
        found = listed.tick("inventory_files_sensor")
        covered += asked(found) if not isinstance(found, str) else []
    assert max(last for _, last in covered) == str(first + timedelta(days=499))


def write_created(platform: Platform, moment: datetime) -> None:
    """Lets the snapshot have been made at a moment."""
    import json

    from s3logx_tests.inventories import write_manifest

    folder = platform.folder / "inventory"
    told = json.loads((folder / SNAPSHOT / "manifest.json").read_bytes())
    write_manifest(folder, {**told, "creationTimestamp": str(int(moment.timestamp() * 1000))}, SNAPSHOT)


# --------------------------------------------------------------------------- how far it has come


def figures(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    (event,) = result.asset_materializations_for_node("statistics")
    return {name: value.value for name, value in event.metadata.items()}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


def test_statistics_say_what_is_listed_extracted_and_gone(listed: Platform) -> None:
    result = listed.materialize("statistics")
    assert figures(result)["extracted_files"] == figures(result)["requesters"] == 0
    assert checks(result) == {"completion": True, "listed_files_exist": True}
    write_snapshot(listed)
    assert make(listed).success
    assert listed.daily("2025-03-01", "2025-03-02").success
    (listed.folder / "logs" / "2025/03/04/2025-03-04-05-00-00-A4").unlink()
    result = listed.materialize("statistics")
    found = figures(result)
    assert (found["listed_files"], found["extracted_files"], found["files_not_extracted"]) == (3, 2, 1)
    assert found["share_extracted"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["requesters_determined"] == found["requesters"] == 1
    assert "2025-03-04" in str(found["first_dates_behind"])
    assert "▁" not in str(found["by_month"]).splitlines()[0]
    assert checks(result) == {"completion": False, "listed_files_exist": False}
    for kind in (int, str, float):
        assert any(isinstance(value, kind) for value in found.values())


def test_statistics_need_no_inventory(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        platform = Platform.make(tmp_path, instance)
        for host in (2, 3, 4):
            platform.log(f"2025-03-01-05-00-00-A{host}", line("ds1/a", host=host))
        assert platform.daily("2025-03-01", "2025-03-01").success
        assert platform.daily("2025-03-02", "2025-03-02").success
        platform.store.remove("ip_regions", "log_date=2025-03-01")
        found = figures(platform.materialize("statistics"))
    assert str(found.pop("in_short")).startswith("3 log files of 2 dates, ")
    assert "2025-03-01 to 2025-03-02, one bar per day, the highest 3" in str(found.pop("files_by_date"))
    assert found == {
        "extracted_dates": 2,
        "extracted_files": 3,
        "extracted_bytes": found["extracted_bytes"],
        "records": 3,
        "rows": 3,
        "requesters": 3,
        **{f"requesters_{name}": 3 if name == "missing" else 0 for name in CLASSES},
    }


def test_statistics_fail_where_the_source_cannot_be_listed(platform: Platform) -> None:
    """Credentials were revoked: sensors asked for nothing, no run failed, nobody was told, and releases stood still."""
    assert platform.materialize("statistics").success, "a date without log files is none of that"
    (platform.folder / "logs").rmdir()
    result = platform.materialize("statistics")
    assert not result.success
    assert failure_text(result) == f"S3LOGX_LOGS: {platform.folder / 'logs'} is not a folder"
    assert not any(event.is_step_up_for_retry for event in result.all_events)


def test_a_date_that_alone_cannot_be_listed_is_told_by_its_own_error(platform: Platform) -> None:
    platform.log("2025-03-01-05-00-00-A1", line("ds1/a"))
    unreadable = os.fsdecode(b"\xff")
    platform.log(f"{unreadable}/2025/03/02/2025-03-02-05-00-00-A2", line("ds1/a"))
    store = LocalLogStore(platform.folder / "logs")
    refuse_unlistable(store, date(2025, 3, 1))
    with pytest.raises(SourceError, match="is not UTF-8"):
        refuse_unlistable(store, date(2025, 3, 2))
