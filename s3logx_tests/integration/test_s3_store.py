"""The store in a bucket of a real S3 server: the same tables and releases as in a folder, one run's or two runs' at once,
and every failure in plain words with the old tables standing."""

import base64
import json
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from itertools import count
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from s3logx_assets import __main__ as commands
from s3logx_assets import key_care
from s3logx_assets.adapters import key_store, s3_files, scope_state
from s3logx_assets.adapters import s3 as s3_adapter
from s3logx_assets.adapters.s3 import STORE
from s3logx_assets.adapters.s3_files import S3Files
from s3logx_assets.adapters.scope_state import COUNTED, held_usage, read_state
from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.core.data_package import SHA256SUMS, sha256sums
from s3logx_assets.core.errors import MasterKeyError, S3logxError, StoreBusyError, StoreError, StoreUnavailable
from s3logx_assets.core.locations import S3Location
from s3logx_assets.resources import build_bucket, build_release_store
from s3logx_assets.settings import Settings
from s3logx_tests.platform import DAILY, Platform, failure_text, line
from s3logx_tests.processes import CONTEXT, generation, write_s3_generations
from s3logx_tests.s3_faults import Fault, FaultProxy, faulty
from s3logx_tests.s3_server import S3Server

_NUMBERS = count()
KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(range(1, 33))).decode()
PART = "log_date=2025-03-01"


@pytest.fixture
def location(aws: S3Server) -> S3Location:
    """A place in a new bucket."""
    name = f"store-{next(_NUMBERS)}"
    aws.make_bucket(name)
    return S3Location(name, "archive/")


def files_of(location: S3Location) -> S3Files:
    return S3Files(build_bucket(location, STORE), "private/")


@pytest.fixture
def store(location: S3Location) -> TableStore:
    return TableStore(files_of(location))


@pytest.fixture
def proxy(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """The way to the server."""
    monkeypatch.setattr(s3_adapter, "_PAUSE", 0.05)
    monkeypatch.setitem(s3_adapter._RETRIES, "max_retries", 3)
    short = {"init_backoff": timedelta(milliseconds=10), "max_backoff": timedelta(milliseconds=20), "base": 2}
    monkeypatch.setitem(s3_adapter._RETRIES, "backoff", short)
    with faulty(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.server.endpoint)
        yield proxy


def platform_in(folder: Path, instance: dg.DagsterInstance, location: S3Location | None, **settings: str) -> Platform:
    """A platform with its store in a bucket, or else in a folder, over the logs of three dates."""
    folder.mkdir()
    place = {} if location is None else {"S3LOGX_STORE": str(location)}
    platform = Platform.make(folder, instance, **{"S3LOGX_KEY": KEY, "S3LOGX_LAG_DAYS": "0", **place, **settings})
    for number in (1, 2, 3):
        day = f"2025-03-0{number}"
        lines = [line(f"ds{i % 3}/f{i % 7}", day, i, host=i % 90) for i in range(120)]
        platform.log(f"{day}-00-00-00-A{number}", *lines)
    return platform


def with_late_files(platform: Platform) -> Platform:
    """The same, when all was made and counted, and then each date made again with one more file."""
    assert platform.daily("2025-03-01", "2025-03-03").success
    assert platform.update_scopes().success
    for number in (1, 2, 3):
        platform.log(f"2025-03-0{number}-09-00-00-B", line("ds1/late", f"2025-03-0{number}", 9))
    assert platform.daily("2025-03-01", "2025-03-03").success
    return platform


def tables_of(platform: Platform) -> dict[str, object]:
    """The rows and the records of all tables."""
    store = platform.store
    found: dict[str, object] = {}
    for asset in (*DAILY, "summaries", "totals"):
        dimension = "log_date" if asset in DAILY else "scope"
        for value in store.partitions(asset, dimension):
            for part in ("part-0",) if asset != "summaries" else ("newest_month", "earlier_months"):
                read = store.read_whole(asset, f"{dimension}={value}", part)
                if read is not None:
                    found[f"{asset} {value} {part}"] = (read[0].to_pylist(), read[1]["data_version"])
    return found


def release_of(platform: Platform) -> dict[str, bytes]:
    store = build_release_store(platform.settings)
    latest = store.latest()
    assert latest is not None
    names = ["totals.json", "archive_totals.json", "region_coordinates.tsv", "index.html"]
    names += [f"summaries/{scope}/by_day.tsv" for scope in ("ds0", "ds1", "ds2", "archive")]
    return {"id": latest.encode(), **{name: store.read(latest, name) for name in names}}


def test_the_store_in_a_bucket_holds_what_a_folder_would(location: S3Location, tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance, dg.DagsterInstance.ephemeral() as other:
        platforms = platform_in(tmp_path / "a", instance, location), platform_in(tmp_path / "b", other, None)
        for platform in platforms:
            assert platform.daily("2025-03-01", "2025-03-03").success
            assert platform.update_scopes().success
            assert platform.publish().success
        assert tables_of(platforms[0]) == tables_of(platforms[1])
        assert release_of(platforms[0]) == release_of(platforms[1])
        for platform in platforms:  # a late file, a new dataset, and one that goes
            platform.log("2025-03-02-09-00-00-B", line("ds9/new", "2025-03-02"), line("ds1/f1", "2025-03-02", 7777))
            assert platform.daily("2025-03-02", "2025-03-02").success
            assert platform.update_scopes().success
            assert platform.publish().success
        assert len(tables_of(platforms[0])) == 5 * 3 + 2 * 5
        assert tables_of(platforms[0]) == tables_of(platforms[1])
        assert release_of(platforms[0]) == release_of(platforms[1])
        again = platforms[0].update_scopes()
        assert again.success
        assert not [event for event in again.all_events if event.is_step_materialization]


def test_a_release_that_is_made_again_stays_whole(location: S3Location, tmp_path: Path) -> None:
    """The same release has another list of changes the second time, since it follows itself. It was sent where its size was another,
    and the list of checksums, which is always as long, was not."""
    with dg.DagsterInstance.ephemeral() as instance:
        platform = platform_in(tmp_path / "a", instance, location)
        assert platform.daily("2025-03-01", "2025-03-03").success
        assert platform.update_scopes().success
        assert platform.publish().success
        store = build_release_store(platform.settings)
        latest = store.latest()
        assert latest is not None
        before = {name: store.read(latest, name) for name in store.names(latest)}
        assert platform.publish().success
        assert store.latest() == latest
        after = {name: store.read(latest, name) for name in store.names(latest)}
        assert after == before
        assert after[SHA256SUMS] == sha256sums({name: after[name] for name in after if name != SHA256SUMS})


def test_objects_have_the_media_types_and_ages_that_a_browser_needs(
    aws: S3Server, location: S3Location, tmp_path: Path
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        platform = platform_in(tmp_path / "a", instance, location)
        assert platform.daily("2025-03-01", "2025-03-03").success
        assert platform.update_scopes().success
        assert platform.publish().success
        latest = release_of(platform)["id"].decode()
    with closing(aws.client()) as client:
        base = f"archive/public/releases/{latest}"
        page = client.head_object(Bucket=location.bucket, Key=f"{base}/index.html")
        assert page["ContentType"] == "text/html; charset=utf-8"
        assert "immutable" in page["CacheControl"]
        switch = client.get_object(Bucket=location.bucket, Key="archive/public/latest.json")
        assert json.loads(switch["Body"].read()) == {"path": f"releases/{latest}/", "release": latest}
        assert (switch["ContentType"], switch["CacheControl"]) == ("application/json", "no-cache")


def test_the_commands_know_a_store_in_a_bucket(
    location: S3Location, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        platform = platform_in(tmp_path / "a", instance, location)
        settings = platform.settings
        assert commands.check(settings) == 0
        shown = capsys.readouterr().out
        assert f"S3LOGX_STORE               {location}" in shown
        assert "ready, and empty" in shown
        assert KEY not in shown
        with pytest.raises(StoreError, match="has no release yet"):
            commands.report(settings)
        assert platform.daily("2025-03-01", "2025-03-03").success
        assert platform.update_scopes().success
        assert platform.publish().success
        capsys.readouterr()
        assert commands.check(settings) == 0
        assert "ready, with tables in it" in capsys.readouterr().out
        assert commands.report(settings) == 0
        assert f"{location}public/releases/" in capsys.readouterr().out
        assert key_care.status(settings) == 0
        assert "fits the store" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["rotate", "destroy"])
def test_what_takes_a_folder_says_so(location: S3Location, tmp_path: Path, action: str) -> None:
    environment = {
        "DAGSTER_HOME": str(tmp_path),
        "S3LOGX_LOGS": str(tmp_path),
        "S3LOGX_FIRST_DATE": "2025-03-01",
        "S3LOGX_STORE": str(location),
        "S3LOGX_KEY": KEY,
    }
    settings = Settings.read(environment)
    chosen = Namespace(action=action, yes_destroy="x")
    with pytest.raises(S3logxError, match="is in a bucket: "):
        key_care.run(settings, chosen)


def test_another_key_writes_nothing(aws: S3Server, location: S3Location, tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        platform = platform_in(tmp_path / "a", instance, location)
        assert platform.daily("2025-03-01", "2025-03-01").success
        platform.environment["S3LOGX_KEY"] = OTHER_KEY
        with closing(aws.client()) as client:
            before = client.list_objects_v2(Bucket=location.bucket)["Contents"]
            result = platform.daily("2025-03-02", "2025-03-02")
            assert not result.success
            assert "the master key is not the one" in failure_text(result)
            assert client.list_objects_v2(Bucket=location.bucket)["Contents"] == before
        with closing(aws.client()) as client:
            client.delete_object(Bucket=location.bucket, Key="archive/private/key_id")
        with pytest.raises(MasterKeyError, match="key_id is gone"):
            key_store.verify(files_of(location), tmp_path, bytes(range(32)))


# --------------------------------------------------------------------------- one table


def test_a_table_comes_back_as_it_was(store: TableStore) -> None:
    """Small ones whole with the first request, large ones in ranges and uploaded in parts."""
    large = pa.table({"number": pa.array(range(3_000_000)), "text": pa.array([f"{n * n}" for n in range(3_000_000)])})
    for asset, table in (("small", generation(1, 10)), ("large", large)):
        sections = {"a": b"a" * 100, "b": bytes(range(256)) * 4000}
        store.write(asset, PART, table, {"asset": asset}, sections)
        assert store.read(asset, PART).equals(table)
        assert store.read(asset, PART, columns=["number"])["number"].equals(table["number"])
        assert store.record(asset, PART) == {"asset": asset}
        assert {name: store.section(asset, PART, name) for name in sections} == sections


def test_what_is_absent_or_damaged_is_named(aws: S3Server, location: S3Location, store: TableStore) -> None:
    assert store.record("asset", PART) is None
    assert store.read_state("asset", "state.json") is None
    with pytest.raises(StoreError, match="is not there; materialise asset for"):
        store.read("asset", PART)
    for content in (b"", b"PAR1", b"x" * 1000):
        aws.put(location.bucket, {f"archive/private/asset/{PART}/part-0.parquet": content})
        with pytest.raises(StoreError, match=r"cannot be read .*materialise asset again"):
            store.read("asset", PART)
        assert dict(store.records("asset", [PART, "log_date=2025-03-02"])) == {PART: None, "log_date=2025-03-02": None}


def test_folders_without_objects_are_no_partitions(store: TableStore) -> None:
    """The server of these tests keeps a folder after its last object; a scope that was gone refused every release."""
    for scope in ("a", "b"):
        store.write("summaries", f"scope={scope}", generation(1, 3), {})
    store.remove("summaries", "scope=a")
    assert store.partitions("summaries", "scope") == ["b"]
    store.remove_part("summaries", "scope=b", "part-0")
    assert store.partitions("summaries", "scope") == []
    assert store.files.is_empty()


def test_a_table_that_is_replaced_while_it_is_read_is_not_mixed(store: TableStore) -> None:
    rows = 400_000
    store.write("asset", PART, generation(1, rows), {"n": 1})

    def read() -> None:
        with store._opened("asset", PART, "part-0") as (_, file):
            store.write("asset", PART, generation(2, rows), {"n": 2})
            file.read()

    with pytest.raises(StoreUnavailable, match="was replaced while it was read"):
        read()
    assert store.read("asset", PART)["number"].unique().to_pylist() == [2]


def test_writers_at_once_and_killed_ones_leave_one_whole_table(aws: S3Server, location: S3Location) -> None:
    store = TableStore(files_of(location))
    store.write("asset", PART, generation(0), {"n": 0}, {"s": b"0" * 1000})
    writers = [
        CONTEXT.Process(target=write_s3_generations, args=(aws.environment(), location, first * 100))
        for first in (1, 2, 3)
    ]
    for writer in writers:
        writer.start()
    seen: set[int] = set()
    deadline = time.monotonic() + 120
    while len(seen) < 4 and time.monotonic() < deadline:
        table, record = store.read_whole("asset", PART) or (None, {})
        assert table is not None
        assert table["number"].unique().to_pylist() == [record["n"]]
        seen.add(record["n"])
    for writer in writers:
        writer.kill()
        writer.join()
    assert len(seen) >= 4
    table, record = store.read_whole("asset", PART) or (None, {})
    assert table is not None
    assert table["number"].unique().to_pylist() == [record["n"]]
    assert store.section("asset", PART, "s") == b"%d" % record["n"] * 1000


# --------------------------------------------------------------------------- faults on the way


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.INTERNAL_ERROR, Fault.RESET])
def test_what_passes_is_got_over(proxy: FaultProxy, store: TableStore, fault: Fault) -> None:
    for method in ("GET", "PUT"):
        proxy.inject(fault, "part-0", method, times=2)
    store.write("asset", PART, generation(1), {"n": 1})
    assert store.read("asset", PART).equals(generation(1))
    proxy.inject(fault, "", "POST", times=1)
    store.remove("asset", PART)
    assert store.record("asset", PART) is None


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault.RESET, StoreUnavailable, "cannot be reached"),
        (Fault.ACCESS_DENIED, StoreError, "s3:PutObject"),
        (Fault.SKEWED, StoreError, "clock"),
    ],
)
def test_what_stays_is_said_and_the_old_table_stands(
    proxy: FaultProxy, aws: S3Server, store: TableStore, fault: Fault, kind: type[Exception], words: str
) -> None:
    store.write("asset", PART, generation(1), {"n": 1})
    proxy.inject(fault, "part-0", "PUT", times=-1)
    with pytest.raises(kind, match=words) as caught:
        store.write("asset", PART, generation(2), {"n": 2})
    assert "S3LOGX_STORE" in str(caught.value)
    assert aws.access_key not in str(caught.value)
    proxy.clear()
    assert store.read("asset", PART).equals(generation(1))
    proxy.inject(fault, "part-0", "GET", times=-1)
    with pytest.raises(kind, match=words.replace("PutObject", "GetObject")):
        store.read("asset", PART)


def test_no_such_bucket_is_a_clear_error(aws: S3Server) -> None:
    store = TableStore(files_of(S3Location("no-such-bucket", "")))
    with pytest.raises(StoreError, match="S3LOGX_STORE: s3://no-such-bucket/: there is no such bucket"):
        store.record("asset", PART)
    with pytest.raises(StoreError, match="there is no such bucket"):
        store.write("asset", PART, generation(1), {})


def test_one_creates_a_file_and_others_find_it(proxy: FaultProxy, location: S3Location) -> None:
    """A request that was cut off may have been carried out."""
    made = [files_of(location).create("key_id", b"%d" % number) for number in range(3)]
    assert made == [True, False, False]
    proxy.inject(Fault.RESET, "other_id", "PUT", times=1)
    assert files_of(location).create("other_id", b"x")
    assert files_of(location).read("key_id") == b"0"


# --------------------------------------------------------------------------- one at a time


def test_a_lock_is_one_holder_s_at_a_time(location: S3Location) -> None:
    inside, most = [0], [0]

    def work() -> None:
        with files_of(location).locked("asset") as confirm:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.1)
            confirm()
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert list(files_of(location)._bucket.scan("", "")) == []


def test_a_lock_that_is_renewed_is_kept_and_one_that_is_not_is_taken_over(
    location: S3Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a process that was killed, nobody has to remove the lock."""
    for name, seconds in (("RENEWED", 0.2), ("PATIENCE", 1.5), ("_LOOKED_AT", 0.1)):
        monkeypatch.setattr(s3_files, name, seconds)
    with files_of(location).locked("asset") as confirm:
        waiting = s3_files._Lease(files_of(location)._bucket, "archive/private/asset/.lock", "the lock")
        thread = threading.Thread(target=waiting.take)
        thread.start()
        thread.join(4)
        assert thread.is_alive(), "a lock that is renewed was taken over"
        confirm()
    thread.join(30)
    assert not thread.is_alive()
    waiting._done.set()  # its process ends: no more renewals, and nothing is given back
    assert waiting._renewing is not None
    waiting._renewing.join()
    with files_of(location).locked("asset") as confirm:
        confirm()
        with pytest.raises(StoreBusyError, match="may have been taken over"):
            waiting.confirm()
        waiting.give_back()  # not what is somebody else's by now
        with closing(build_bucket(location, STORE)._client) as client:
            assert client.head_object(Bucket=location.bucket, Key="archive/private/asset/.lock")


def test_usage_that_is_replaced_while_it_is_held_back_is_another_try(
    location: S3Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        platform = platform_in(tmp_path / "a", instance, location)
        assert platform.daily("2025-03-01", "2025-03-01").success
        hold = TableStore.hold

        def too_late(store: TableStore, asset: str, holder: str, partition: str, tag: str) -> None:
            platform.log("2025-03-01-09-00-00-B", line("ds1/late", second=9))
            assert platform.daily("2025-03-01", "2025-03-01").success
            hold(store, asset, holder, partition, tag)

        with monkeypatch.context() as patch:
            patch.setattr(TableStore, "hold", too_late)
            with pytest.raises(StoreBusyError, match="was replaced meanwhile"), held_usage(platform.store):
                pass
        assert platform.update_scopes().success
        with held_usage(platform.store) as usage:
            assert not usage.news
            stored = platform.store.read("daily_usage", PART)
            assert usage.present("2025-03-01").num_rows == stored.num_rows


@pytest.mark.parametrize("position", range(3))
def test_an_update_that_the_service_stops_between_state_and_usage_is_ended_by_the_next(
    location: S3Location, tmp_path: Path, proxy: FaultProxy, position: int
) -> None:
    """A busy service refused one copy: late requests that the state called counted were thrown away, and never told."""
    with dg.DagsterInstance.ephemeral() as instance:
        platform = with_late_files(platform_in(tmp_path / "a", instance, location))
        target = f"/private/{COUNTED}/log_date=2025-03-0{position + 1}/"
        proxy.inject(Fault.ACCESS_DENIED, target, "PUT")  # which no patience outlasts
        assert "access is denied" in failure_text(platform.update_scopes())
        with held_usage(platform.store) as usage:
            assert not usage.news
            for day in usage.days:
                stored = platform.store.read("daily_usage", f"log_date={day}").num_rows
                assert usage.counted(day).num_rows == usage.present(day).num_rows == stored


def test_a_copy_that_the_service_is_too_busy_for_is_tried_again(
    location: S3Location, store: TableStore, proxy: FaultProxy
) -> None:
    """boto3's own tries were all that a copy had, unlike every other request."""
    store.write("a", PART, pa.table({"x": [1]}), {})
    held = f"/private/b/{PART}/"
    proxy.inject(Fault.RESET, held, "PUT", 7)
    store.move("a", "b", PART)
    assert store.read("b", PART)["x"].to_pylist() == [1]
    assert len([1 for method, path in proxy.requests if method == "PUT" and held in path.replace("%3D", "=")]) == 8


@pytest.mark.parametrize("after", [0, 2])
def test_an_update_that_dies_between_state_and_usage_is_ended_by_the_next(
    location: S3Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """What the state called counted was still the old usage: the next change made every scope anew."""
    with dg.DagsterInstance.ephemeral() as instance:
        platform = with_late_files(platform_in(tmp_path / "a", instance, location))

        moves = [0]

        def dying(store: TableStore, *place: str) -> None:
            moves[0] += 1
            if moves[0] > after:
                raise SystemExit(1)
            move(store, *place)

        move = TableStore.move
        with monkeypatch.context() as patch:
            patch.setattr(TableStore, "move", dying)
            patch.setattr(TableStore, "remove", lambda store, asset, name="": None)
            assert not platform.update_scopes().success
        assert moves[0] > after
        # The killed run's lock is there still, as of a process that is gone.
        assert platform.store.partitions(scope_state._NEWS, "log_date")
        for name, seconds in (("RENEWED", 0.2), ("PATIENCE", 3.0)):  # the next one's own lock lasts as long as it works
            monkeypatch.setattr(s3_files, name, seconds)
        with held_usage(platform.store) as usage:
            assert not usage.news
            for day in usage.days:
                assert usage.counted(day).equals(
                    platform.store.read("daily_usage", f"log_date={day}", encoded=("dataset", "asset_path", "region"))
                )
        assert sorted(read_state(platform.store).days) == platform.store.partitions(COUNTED, "log_date")
