"""`shared_release`, and the search through a release's bytes before it leaves: what is planted holds it back."""

import fcntl
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s3logx_assets.adapters import destinations
from s3logx_assets.adapters.destinations import Place, Sent
from s3logx_assets.assets import share
from s3logx_assets.assets.share import refuse_leaks
from s3logx_assets.core.addresses import AddressBlock
from s3logx_assets.core.errors import ReleaseError, SettingsError
from s3logx_assets.core.release_changes import changelog_md, changes, changes_json
from s3logx_assets.core.scopes import scope_of
from s3logx_assets.definitions import build_defs
from s3logx_assets.resources import build_resources
from s3logx_assets.settings import Settings
from s3logx_tests.platform import EvenOddGeolocator, Platform, failure_text, line

KEY = {"S3LOGX_KEY": "A" * 43 + "="}


class Leaky(EvenOddGeolocator):
    """A source of regions whose labels hold what they should not."""

    def regions(self, addresses: AddressBlock) -> pa.Table:
        """Every address somewhere else."""
        made = super().regions(addresses)
        labels = [f"AA/192.0.2.{number % 200}" for number in range(made.num_rows)]
        return made.set_column(0, "region", pa.array(labels, pa.string()))


def filled(platform: Platform, key: str = "ds1/a.nwb") -> Platform:
    for day in range(1, 5):
        date = f"2025-03-0{day}"
        platform.log(f"{date}-05-00-00-AA", *(line(key, date, second, host=second % 64) for second in range(60)))
    assert platform.daily("2025-03-01", "2025-03-04").success
    assert platform.update_scopes().success
    return platform


def sharing(folder: Path, instance: dg.DagsterInstance, key: str = "ds1/a.nwb") -> Platform:
    target = str(folder / "site")
    return filled(Platform.make(folder, instance, S3LOGX_PUBLISH_TO=target), key)


def test_the_release_goes_to_its_place(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        platform = sharing(tmp_path, instance)
        assert platform.publish().success
        result = platform.materialize("shared_release")
        assert result.success
        (event,) = result.asset_materializations_for_node("shared_release")
        assert event.metadata["files_unchanged"].value == 0
        site, release = tmp_path / "site", platform.latest.resolve()
        names = {str(path.relative_to(release)) for path in release.rglob("*") if path.is_file()}
        assert {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()} == names | {"release.json"}
        assert all((site / name).read_bytes() == (release / name).read_bytes() for name in names)
        assert json.loads((site / "release.json").read_bytes())["release"] == release.name
        (again,) = platform.materialize("shared_release").asset_materializations_for_node("shared_release")
        assert again.metadata["files_written"].value == 0


def test_without_a_release_there_is_nothing_to_share(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        platform = sharing(tmp_path, instance)
        result = platform.materialize("shared_release")
        assert "materialise publication first" in failure_text(result)
        assert not (tmp_path / "site").exists()


def test_one_run_at_a_time_brings_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that bring different releases the place would have some files of each."""
    with dg.DagsterInstance.ephemeral() as instance:
        platform = sharing(tmp_path, instance)
        assert platform.publish().success
        kept_out = []

        def send(place: Place, release_id: str, files: Mapping[str, bytes]) -> Sent:
            folder = os.open(tmp_path / "home/s3logx/private/shared_release", os.O_RDONLY)
            with pytest.raises(BlockingIOError):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(folder)
            kept_out.append(release_id)
            return destinations.send(place, release_id, files)

        monkeypatch.setattr(share, "send", send)
        assert platform.materialize("shared_release").success
        assert kept_out == [platform.latest.resolve().name]


def test_an_address_in_a_label_holds_the_release_back(platform: Platform) -> None:
    """Somebody's own MMDB, say, with addresses for names."""
    platform.geolocator = Leaky()
    filled(platform)
    result = platform.publish()
    assert not result.success
    text = failure_text(result)
    assert "held back" in text
    assert "summaries/archive/by_region.tsv, line 2: looks like an address" in text
    assert "192.0.2" not in text
    assert not platform.latest.exists()


def test_what_was_planted_in_the_public_store_is_not_shared(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        platform = sharing(tmp_path, instance)
        assert platform.publish().success
        key = (tmp_path / "home/s3logx.key").read_bytes()
        (platform.latest / "notes.txt").write_bytes(b"see " + key.hex().encode())
        text = failure_text(platform.materialize("shared_release"))
        assert "notes.txt: a secret of the settings" in text
        assert key.hex() not in text
        assert not (tmp_path / "site").exists()


def test_a_release_that_is_not_whole_is_not_shared(tmp_path: Path) -> None:
    """A release that was cleared away from the store once took the whole site away with it."""
    with dg.DagsterInstance.ephemeral() as instance:
        platform = sharing(tmp_path, instance)
        assert platform.publish().success
        assert platform.materialize("shared_release").success
        site, release = tmp_path / "site", platform.latest.resolve()
        shown = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
        (release / "index.html").rename(tmp_path / "index.html")
        assert "not as it was published" in failure_text(platform.materialize("shared_release"))
        (tmp_path / "index.html").rename(release / "index.html")
        (release / "notes.txt").write_bytes(b"a note")
        assert "not as it was published" in failure_text(platform.materialize("shared_release"))
        shutil.rmtree(release)
        assert "not as it was published" in failure_text(platform.materialize("shared_release"))
        assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == shown
        assert platform.publish().success
        assert platform.materialize("shared_release").success


def test_a_dataset_named_like_an_address_is_published_and_counted(platform: Platform) -> None:
    filled(platform, "10.1.2.3/sub-192.0.2.77/a.nwb")
    result = platform.publish()
    assert result.success, failure_text(result)
    (event,) = result.asset_materializations_for_node("publication")
    assert event.metadata["names_like_addresses"].value == 2


def test_a_dataset_named_like_an_address_may_be_called_otherwise(platform: Platform) -> None:
    """It was "removed" in the next release's list of changes, and what has an address in it is held back."""
    filled(platform, "10.1.2.3/a.nwb")
    assert platform.publish().success
    mapping = platform.folder / "mapping.csv"
    mapping.write_text("key,dataset,path\n10.1.2.3/,atlas,\n")
    platform.environment["S3LOGX_DATASET_MAPPING"] = str(mapping)
    assert platform.daily("2025-03-01", "2025-03-04").success
    assert platform.update_scopes().success
    result = platform.publish()
    assert result.success, failure_text(result)
    assert "datasets removed: 1 (10.1.2.3)" in (platform.latest / "CHANGELOG.md").read_text()


def with_history(files: Mapping[str, bytes], gone: Sequence[str]) -> dict[str, bytes]:
    """A release's files, whose list of changes says that these scopes went in the release before it."""
    totals = json.loads(files["totals.json"])
    archive = json.loads(files["archive_totals.json"])
    went = changes("r1", "2025-03-01", archive, totals, {**totals, **{scope: {} for scope in gone}}, None)
    entries = changes("r2", "2025-03-08", archive, totals, totals, changes_json(went))
    return {**files, "changes.json": changes_json(entries), "CHANGELOG.md": changelog_md("An archive", entries)}


def test_a_dataset_that_is_gone_and_was_named_like_an_address_holds_no_release_back(platform: Platform) -> None:
    """Its name stood in the list of changes as removed, and was no dataset's any more: nothing was ever released again."""
    filled(platform)
    assert platform.publish().success
    release = platform.latest.resolve()
    files = {str(path.relative_to(release)): path.read_bytes() for path in release.rglob("*") if path.is_file()}
    later = with_history(files, [*map(scope_of, ("1.0.0.2", "db::1")), scope_of("10.0.0.3 " + "x" * 300)])
    assert b"1.0.0.2" in later["CHANGELOG.md"]
    assert b"db%3A%3A1" in later["CHANGELOG.md"]
    assert refuse_leaks(later, []) == 3
    address = b"198.51.100.7"
    for name, content in (
        ("CHANGELOG.md", later["CHANGELOG.md"] + b"\n" + address),
        ("changes.json", later["changes.json"].replace(b'"r1"', b'"' + address + b'"')),
        ("index.html", later["index.html"] + b"1.0.0.2"),
    ):
        with pytest.raises(ReleaseError, match=rf"must not leave: {name}, line \d+: looks like an address$"):
            refuse_leaks({**later, name: content}, [])


def test_parquet_is_read_for_what_it_holds(platform: Platform) -> None:
    filled(platform)
    assert platform.publish().success
    release = platform.latest.resolve()
    files = {str(path.relative_to(release)): path.read_bytes() for path in release.rglob("*") if path.is_file()}
    secrets = [(platform.folder / "home/s3logx.key").read_bytes()]
    assert refuse_leaks(files, secrets) == 0
    sink = BytesIO()
    pq.write_table(pa.table({"region": ["198.51.100.7"]}), sink)
    name = "summaries/ds1/by_region.parquet"
    with pytest.raises(ReleaseError, match=r"by_region\.parquet: looks like an address"):
        refuse_leaks({**files, name: sink.getvalue()}, secrets)
    footer = len(files[name]) - 60
    for damaged in (b"PAR1" + bytes(20), b"", files[name][:footer] + bytes(50) + files[name][-10:]):
        with pytest.raises(ReleaseError, match=r"by_region\.parquet of the release is damaged"):
            refuse_leaks({**files, name: damaged}, secrets)
    good = pq.read_table(BytesIO(files[name]))
    for column, kind in (("ip_index", pa.int64()), ("more", pa.int64())):
        sink = BytesIO()
        pq.write_table(good.append_column(column, pa.nulls(good.num_rows, kind)), sink)
        with pytest.raises(ReleaseError, match=r"by_region\.parquet: a column that no public table has"):
            refuse_leaks({**files, name: sink.getvalue()}, secrets)


def test_sharing_is_in_the_graph_where_there_is_a_place(tmp_path: Path) -> None:
    environment = {"DAGSTER_HOME": str(tmp_path), "S3LOGX_LOGS": str(tmp_path), "S3LOGX_FIRST_DATE": "2025-03-01"}
    alone = build_defs(Settings.read(environment)).get_repository_def()
    assert dg.AssetKey("shared_release") not in alone.asset_graph.get_all_asset_keys()
    shared = build_defs(Settings.read({**environment, "S3LOGX_PUBLISH_TO": str(tmp_path / "x")})).get_repository_def()
    job = shared.get_job(shared.get_schedule_def("weekly_publication").job_name)
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == {"publication", "shared_release"}


def test_a_site_may_be_beside_the_store_in_its_bucket() -> None:
    environment = {"DAGSTER_HOME": "/nowhere", "S3LOGX_LOGS": "/nowhere", "S3LOGX_FIRST_DATE": "2025-03-01", **KEY}
    for site in ("s3://bucket/x/www", "s3://bucket/private", "s3://other"):
        settings = Settings.read({**environment, "S3LOGX_STORE": "s3://bucket/x", "S3LOGX_PUBLISH_TO": site})
        assert str(settings.publish_to).startswith(site)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"S3LOGX_PUBLISH_TO": "{home}/s3logx/public"}, "outside the store"),
        ({"S3LOGX_PUBLISH_TO": "{home}"}, "not around it"),
        ({"S3LOGX_PUBLISH_TO": "{home}", "S3LOGX_STORE": "{home}/../store"}, "the key may lie there"),
        ({"S3LOGX_PUBLISH_TO": "{home}/..", "S3LOGX_STORE": "s3://bucket/x", **KEY}, "the key may lie there"),
        ({"S3LOGX_PUBLISH_TO": "s3://bucket/x", "S3LOGX_STORE": "s3://bucket/x/", **KEY}, "outside the store"),
        ({"S3LOGX_PUBLISH_TO": "s3://bucket/x/private", "S3LOGX_STORE": "s3://bucket/x", **KEY}, "outside the store"),
        ({"S3LOGX_PUBLISH_TO": "s3://bucket/public/y", "S3LOGX_STORE": "s3://bucket", **KEY}, "outside the store"),
        ({"S3LOGX_PUBLISH_TO": "s3://bucket/", "S3LOGX_STORE": "s3://bucket/x", **KEY}, "not around it"),
        ({"S3LOGX_PUBLISH_TO": "ftp://x"}, "S3LOGX_PUBLISH_TO"),
        ({"S3LOGX_PUBLISH_TO": "s3://bucket/site-"}, "s3://bucket/prefix"),
        ({"S3LOGX_PUBLISH_PUSH": "1"}, "git work tree"),
        ({"S3LOGX_PUBLISH_TO": "s3://bucket/x", "S3LOGX_PUBLISH_PUSH": "1"}, "git work tree"),
        ({"S3LOGX_PUBLISH_TO": "{home}/../x", "S3LOGX_PUBLISH_PUSH": "1"}, "only in a git work tree"),
    ],
)
def test_places_that_cannot_be_are_refused(tmp_path: Path, settings: dict[str, str], why: str) -> None:
    home = tmp_path / "home"
    environment = {"DAGSTER_HOME": str(home), "S3LOGX_LOGS": str(tmp_path), "S3LOGX_FIRST_DATE": "2025-03-01"}
    environment |= {name: value.format(home=home) for name, value in settings.items()}
    with pytest.raises(SettingsError, match=why):
        build_resources(Settings.read(environment))
