"""Scopes and the release: what becomes stale, what is refused, what is published."""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from dagster._core.execution.plan.active import ActiveExecution

from s3logx_assets.adapters.release_store import LocalReleaseStore
from s3logx_assets.core.addresses import AddressBlock
from s3logx_tests.platform import DAILY, EvenOddGeolocator, Platform, failure_text, line


def fill(platform: Platform, last: int = 6) -> None:
    """Dates 1 to `last`, three datasets, one of them with fewer requesters than the threshold."""
    for day in range(1, last + 1):
        date = f"2025-03-{day:02}"
        lines = [line("ds1/sub-1/a.nii", date, second, sent=7, host=second % 64) for second in range(60)]
        lines += [line("ds2/x.zarr/0/0", date, second, status=206, host=second % 5) for second in range(10)]
        lines += [line("archive/b.nwb", date, 1)]
        platform.log(f"{date}-05-00-00-AA", *lines)


SITE = ("index.html", "datasets.html", "assets/report.css", "assets/report.js", "assets/world.svg")
DESCRIPTIONS = ("datapackage.json", "changes.json", "CHANGELOG.md", "CITATION.cff", "SHA256SUMS")
USAGE = ("by_day", "by_region", "by_asset_type_per_week")
TABLES = ("requester_count.tsv", *(f"{name}.{kind}" for name in USAGE for kind in ("tsv", "parquet")))
OF_DATASETS = (*TABLES, "by_asset.tsv", "by_asset.parquet", "index.html", "datapackage.json")


def published(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def released(platform: Platform) -> Platform:
    """A platform with one release of the dates 1 to 6; with two days of lag the events of 1 to 4 are settled."""
    fill(platform)
    assert platform.daily("2025-03-01", "2025-03-06").success
    assert platform.update_scopes().success
    assert platform.publish().success
    return platform


def test_the_release_holds_what_the_formats_say(released: Platform) -> None:
    files = published(released.latest)
    assert set(files) == {
        *SITE,
        *DESCRIPTIONS,
        "totals.json",
        "archive_totals.json",
        "region_coordinates.tsv",
        "privacy.json",
        *(f"summaries/archive/{name}" for name in TABLES),
        *(f"summaries/{scope}/{name}" for scope in ("ds1", "ds2", "%61rchive") for name in OF_DATASETS),
    }
    assert files["summaries/ds1/by_day.tsv"].decode() == (
        "date\tbytes_sent\tnumber_of_requests\tnumber_of_downloads\n"
        + "".join(f"2025-03-0{day}\t420\t60\t60\n" for day in range(1, 5))
    )
    assert files["summaries/ds1/by_asset.tsv"].decode() == (
        "asset_path\tbytes_sent\tnumber_of_requests\tnumber_of_downloads\nsub-1/a.nii\t1680\t240\t240\n"
    )
    assert files["summaries/ds2/by_asset.tsv"].decode().splitlines()[1] == "x.zarr\t400\t<50\t<50"
    assert files["summaries/ds1/by_region.tsv"].decode().splitlines()[1:] == [
        "AA/Even\t840\t120\t120",
        "BB/Odd\t840\t120\t120",
    ]
    assert files["summaries/ds1/by_asset_type_per_week.tsv"].decode() == (
        "week_start\tNeurophysiology\tMicroscopy\tVideo\tMiscellaneous\n"
        "2025-02-24\t0\t840\t0\t0\n2025-03-03\t0\t840\t0\t0\n"
    )
    assert files["summaries/ds1/requester_count.tsv"] == b"60"
    assert files["summaries/ds2/requester_count.tsv"] == b"<50"
    assert files["region_coordinates.tsv"] == b"region\tlatitude\tlongitude\nAA/Even\t1.5\t-2.5\nBB/Odd\t1.5\t-2.5\n"
    totals = json.loads(files["totals.json"])
    assert list(totals) == ["%61rchive", "ds1", "ds2"]
    assert totals["ds1"] == {
        "number_of_requesters": 60,
        "number_of_unique_countries": 2,
        "number_of_unique_regions": 2,
        "total_bytes_sent": 1680,
        "total_number_of_downloads": 240,
        "total_number_of_requests": 240,
    }
    # The archive's requesters are a union, not a sum: the hosts of ds2 are among those of ds1.
    assert json.loads(files["archive_totals.json"])["number_of_requesters"] == 60
    assert json.loads(files["archive_totals.json"])["total_bytes_sent"] == 1680 + 400 + 40


def test_what_is_not_settled_is_in_the_private_tables_only(released: Platform) -> None:
    private = released.store.read("summaries", "scope=ds1", "newest_month")
    assert private["dimension"].to_pylist().count("day") == 6
    assert len(published(released.latest)["summaries/ds1/by_day.tsv"].splitlines()) == 1 + 4


def test_regions_that_are_not_settled_have_no_coordinates_yet(platform: Platform) -> None:
    """The table listed where somebody had been seen after the last date that counts."""
    for day, host in ((1, 2), (4, 3)):  # with two days of lag that of the 1st is settled, and that of the 4th is not
        date = f"2025-03-0{day}"
        platform.log(f"{date}-05-00-00-AA", *(line("ds/a.nwb", date, second, host=host) for second in range(60)))
    assert platform.daily("2025-03-01", "2025-03-04").success
    assert platform.update_scopes().success
    assert platform.publish().success
    coordinates = published(platform.latest)["region_coordinates.tsv"]
    assert coordinates == b"region\tlatitude\tlongitude\nAA/Even\t1.5\t-2.5\n"


class ManyRegions(EvenOddGeolocator):
    """Eight regions of one country."""

    def regions(self, addresses: AddressBlock) -> pa.Table:
        """CC/0 to CC/7."""
        labels = [f"CC/{last % 8}" for last in addresses[:, 15].tolist()]
        return super().regions(addresses).set_column(0, "region", pa.array(labels, pa.string()))


def test_a_country_of_regions_put_together_has_a_coordinate(platform: Platform) -> None:
    """Policy `strict` told `CC`, which no address had been labelled with, and the map did not have it."""
    platform.environment["S3LOGX_POLICY"] = "strict"
    platform.geolocator = ManyRegions()
    for day in range(1, 5):  # the first week ends on the 2nd
        date = f"2025-03-0{day}"
        platform.log(f"{date}-05-00-00-AA", *(line("ds/a.nwb", date, host, sent=1000, host=host) for host in range(40)))
    assert platform.daily("2025-03-01", "2025-03-04").success
    assert platform.update_scopes().success
    assert platform.publish().success
    files = published(platform.latest)
    assert [row.split(b"\t")[0] for row in files["summaries/archive/by_region.tsv"].splitlines()] == [b"region", b"CC"]
    assert files["region_coordinates.tsv"] == b"region\tlatitude\tlongitude\nCC\t1.5\t-2.5\n"


@pytest.mark.parametrize("policy", ["compatible", "strict"])
def test_names_that_look_like_what_must_not_leave_hold_no_release_back(platform: Platform, policy: str) -> None:
    """Each of these held back every release for good: what was written of it looked like an address or a key."""
    platform.environment["S3LOGX_POLICY"] = policy
    keys = ("2024:/a.nwb", "Release!1.2.3.4/a.nwb", "ds/ASIAPOPULATION202001.tif", "ASIAPOPULATION202001/a.nwb")
    for day in range(1, 5):
        date = f"2025-03-0{day}"
        lines = [line(key, date, host, sent=1000, host=host) for key in keys for host in range(60)]
        platform.log(f"{date}-05-00-00-AA", *lines)
    assert platform.daily("2025-03-01", "2025-03-04").success
    assert platform.update_scopes().success
    result = platform.publish()
    assert result.success, failure_text(result)
    assert {path.name for path in (platform.latest / "summaries").iterdir()} == {
        *("2024%3A", "Release%211.2.3.4", "ds", "ASIAPOPULATION202001", "archive")
    }


def test_the_same_state_is_the_same_release(released: Platform) -> None:
    before, name = published(released.latest), released.latest.resolve().name
    assert released.daily("2025-03-01", "2025-03-06").success
    assert released.update_scopes().success
    assert released.publish().success
    assert published(released.latest) == before
    assert released.latest.resolve().name == name


def test_a_late_file_makes_exactly_the_scopes_it_touches_stale(released: Platform) -> None:
    def scopes() -> dict[str, str]:
        folder = released.store.root / "summaries"
        return {
            path.name: hashlib.sha256((path / "newest_month.parquet").read_bytes()).hexdigest()
            for path in folder.iterdir()
        }

    before = scopes()
    released.log("2025-03-02-09-00-00-BB", line("ds2/late", "2025-03-02", host=9))
    assert released.daily("2025-03-02", "2025-03-02").success
    result = released.publish()
    assert "2 scopes are out of date (archive, ds2)" in failure_text(result)
    assert "dagster job execute -m s3logx_assets.definitions -j update_scopes" in failure_text(result)
    assert released.update_scopes().success
    after = scopes()
    assert {name for name in before if before[name] != after[name]} == {"scope=archive", "scope=ds2"}
    assert released.publish().success


def test_time_going_on_settles_more_without_touching_a_scope(released: Platform) -> None:
    released.log("2025-03-08-05-00-00-AA", line("ds3/new", "2025-03-08"))
    assert released.daily("2025-03-07", "2025-03-08").success
    assert released.update_scopes().success
    made = released.materialized("summaries")
    assert made == {"archive", "ds1", "ds2", "ds3", "%61rchive"}
    assert released.publish().success
    assert len(published(released.latest)["summaries/ds1/by_day.tsv"].splitlines()) == 1 + 6
    assert "summaries/ds3/by_day.tsv" not in published(released.latest)


def test_a_mixed_set_of_dates_is_refused(released: Platform) -> None:
    released.log("2025-03-03-09-00-00-BB", line("ds1/late", "2025-03-03", host=77))
    assert released.daily("2025-03-03", "2025-03-03", ["extracted_logs"]).success
    text = failure_text(released.publish())
    assert "of 2025-03-03 was made from other extracted_logs than the present" in text
    assert "--partition-range 2025-03-03...2025-03-03" in text


def test_a_date_that_a_run_is_making_is_waited_for(released: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where runs are side by side, the week's only try met a date between two of its steps, and there was no release
    that week."""
    day = "2025-03-03"
    released.log(f"{day}-09-00-00-BB", line("ds1/late", day, host=77))
    assert released.daily(day, day, ["extracted_logs"]).success
    other = released.start_run(day, day)
    tries = 0

    def meanwhile(plan: ActiveExecution) -> None:
        nonlocal tries
        tries += 1
        if tries == 2:
            assert released.daily(day, day, DAILY[1:]).success
            assert released.update_scopes().success
            released.instance.report_run_canceled(other)
        plan._waiting_to_retry = dict.fromkeys(plan._waiting_to_retry, 0.0)

    monkeypatch.setattr(ActiveExecution, "sleep_til_ready", meanwhile)
    assert released.publish().success
    assert tries == 2


def test_a_dataset_that_is_mapped_away_leaves_the_next_release(released: Platform) -> None:
    released.environment["S3LOGX_DATASET_REGEX"] = "(?P<dataset>ds1|archive)/(?P<asset>.*)"
    assert released.daily("2025-03-01", "2025-03-06").success
    result = released.update_scopes()
    assert result.success
    assert released.publish().success
    assert "summaries/ds2/by_day.tsv" not in published(released.latest)
    assert "summaries/unassociated/by_day.tsv" in published(released.latest)
    assert "ds2" not in released.instance.get_dynamic_partitions("scope")
    assert not released.store.partitions("totals", "scope").count("ds2")


def test_dates_of_another_dataset_rule_are_refused(released: Platform) -> None:
    """Else half of the history would be divided by the old rule, and nobody would see it."""
    released.environment["S3LOGX_DATASET_LEVEL"] = "2"
    text = failure_text(released.publish())
    assert "daily_usage of 6 dates was made by another dataset rule" in text
    assert "--select daily_usage --partition-range 2025-03-01...2025-03-06" in text
    assert released.daily("2025-03-01", "2025-03-06", ["daily_usage"]).success
    assert released.update_scopes().success
    assert released.publish().success


def test_a_mapping_that_changed_is_said_and_not_refused(released: Platform) -> None:
    """A mapping grows with every new object; to refuse would ask for all of history every day."""
    mapping = released.folder / "mapping.csv"
    mapping.write_text("key,dataset,path\nds1/,ds1,\n")
    released.environment["S3LOGX_DATASET_MAPPING"] = str(mapping)
    result = released.publish()
    assert result.success
    [made] = result.asset_materializations_for_node("publication")
    assert made.metadata["dates_of_another_dataset_rule"].value == 6


def test_nothing_to_publish_says_so(platform: Platform) -> None:
    assert "nothing to publish yet" in failure_text(platform.publish())


def test_a_store_that_was_empty_on_a_wednesday_can_still_be_filled(platform: Platform) -> None:
    """The first release was asked for before the first log file came. It left a folder behind, which was taken for the
    tables of a store whose key had been lost, and no date could ever be extracted."""
    assert not platform.publish().success
    assert platform.update_scopes().success
    platform.log("2025-03-01-05-00-00-AA", *(line("ds1/a", host=host) for host in range(60)))
    assert platform.daily("2025-03-01", "2025-03-01").success
    assert platform.update_scopes().success
    assert (platform.folder / "home/s3logx/private/key_id").exists()


def test_one_run_at_a_time_makes_a_release(released: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older one that was slower took the place of a newer one, for a week."""
    genuine, seen = LocalReleaseStore.publish, []

    def publish(self: LocalReleaseStore, release_id: str, files: Mapping[str, bytes]) -> None:
        folder = os.open(released.folder / "home/s3logx/private/publication", os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(folder)
        seen.append(release_id)
        genuine(self, release_id, files)

    monkeypatch.setattr(LocalReleaseStore, "publish", publish)
    assert released.publish().success
    assert len(seen) == 1


def test_a_crash_while_writing_leaves_the_old_release(released: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    before = published(released.latest)
    released.log("2025-03-02-09-00-00-BB", line("ds2/late", "2025-03-02", host=9))
    assert released.daily("2025-03-02", "2025-03-02").success
    assert released.update_scopes().success

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("s3logx_assets.adapters.release_store.sync_folder", full)
    assert "No space left on device" in failure_text(released.publish())
    assert published(released.latest) == before
    monkeypatch.undo()
    assert released.publish().success
    assert published(released.latest) != before
    assert not [path for path in released.latest.resolve().parent.iterdir() if path.name.startswith(".")]
