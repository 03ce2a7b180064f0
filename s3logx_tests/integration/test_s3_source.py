"""Logs in a bucket of a real S3 server: listed and extracted as from a folder, and every failure in plain words."""

import gzip
import random
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import obstore
import pytest
from obstore.exceptions import InvalidPathError

from s3logx_assets.adapters import s3 as s3_adapter
from s3logx_assets.adapters import s3_log_store
from s3logx_assets.adapters.extractor import ExtractedDate, Extractor, FailedDate
from s3logx_assets.adapters.log_store import LocalLogStore, LogReader
from s3logx_assets.adapters.s3 import Bucket, StoredObject, source_role
from s3logx_assets.adapters.s3_log_store import S3LogStore
from s3logx_assets.core.errors import LogFileError, S3logxError, SourceError, SourceUnavailable
from s3logx_assets.core.ledger import LogObject
from s3logx_assets.core.locations import S3Location, parse_location
from s3logx_assets.resources import build_bucket
from s3logx_tests.log_folders import DAY, SCRATCH, SEALER, honest_lines, joined, kept, table_of, write
from s3logx_tests.platform import DAILY, Platform, failure_text, line
from s3logx_tests.s3_faults import Fault, FaultProxy, _Refusal, faulty
from s3logx_tests.s3_server import S3Server

_NUMBERS = count()
PREFIXES = ("", "logs/", "logs/access-")


def bucket_of(server: S3Server, files: dict[str, bytes], prefix: str = "logs/") -> S3Location:
    """A new bucket with these files below the prefix."""
    name = f"bucket-{next(_NUMBERS)}"
    server.make_bucket(name)
    server.put(name, {prefix + path: content for path, content in files.items()})
    return S3Location(name, prefix)


def store_of(location: S3Location) -> S3LogStore:
    return S3LogStore(build_bucket(location, source_role("S3LOGX_LOGS")))


def file_name(day: date, number: int) -> str:
    return f"{day}-{number % 24:02}-00-00-{number:016X}"


def any_places(seed: int) -> dict[str, bytes]:
    """Log files in all layouts, mixed, astray too, and files that are none."""
    chance = random.Random(seed)
    files = {}
    for number in range(120):
        day = date(2024, 12, 28) + timedelta(days=chance.choice([0, 1, 2, 5, 6, 30, 31, 36]))
        folder_day = day + timedelta(days=chance.choice([0, 0, 0, 0, 1, -1, 3]))
        folder = chance.choice(
            ["", "", f"{folder_day:%Y/%m/%d}/", f"111122223333/us-east-1/site/{folder_day:%Y/%m/%d}/", "more/"]
        )
        # The survey jumps over whatever lies between a year's logs, so no such name is counted in a flat folder.
        other = f"2025-02-30-00-00-00-{number}" if folder.count("/") > 2 else f"note-{number}.txt"
        name = chance.choice([file_name(day, number)] * 9 + [other])
        files[folder + name] = b"x" * number
    return files


@pytest.mark.parametrize(("seed", "at_first", "files_at_once"), [(0, 45, 1_000), (1, 4, 1_000), (0, 2, 20)])
def test_a_bucket_is_listed_as_a_folder_with_the_same_files(
    aws: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, at_first: int, files_at_once: int
) -> None:
    monkeypatch.setattr(s3_log_store, "_DATES_AT_FIRST", at_first)
    monkeypatch.setattr(s3_log_store, "FILES_AT_ONCE", files_at_once)
    files = any_places(seed)
    local = LocalLogStore(write(tmp_path, files))
    days = [date(2024, 12, 26) + timedelta(days=shift) for shift in range(45)]
    wanted = dict(local.listings(days))
    for prefix in PREFIXES:
        store = store_of(bucket_of(aws, files, prefix))
        found = dict(store.listings(days))
        assert list(found) == days
        for day in days:
            assert [(item.name, item.size) for item in found[day].objects] == [
                (item.name, item.size) for item in wanted[day].objects
            ], (prefix, day)
            assert found[day].strays == wanted[day].strays
            assert found[day].ignored == wanted[day].ignored
        assert set(local.days()) <= set(store.days())
        some = days[3::7]
        assert [(day, found[day]) for day in some] == list(store.listings(some))


@pytest.mark.parametrize("prefix", ["logs/", "logs/access-", "access-"])
def test_no_listing_asks_for_more_than_the_prefix(aws: S3Server, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A date below `access-` was looked for in the whole bucket, behind some key: a policy that let nothing but the prefix be
    listed, as that of deploy/ecs, denied it."""
    monkeypatch.setattr(s3_adapter, "_PAGE", 3)
    files = {file_name(DAY, number): b"" for number in range(8)}
    files |= {f"{DAY:%Y/%m/%d}/{file_name(DAY, number)}": b"" for number in range(8, 16)}
    with faulty(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.server.endpoint)
        store = store_of(bucket_of(aws, files, prefix))
        assert store.days() == [DAY]
        ((_, listing),) = store.listings([DAY])
        asked = [parse_qs(urlsplit(path).query).get("prefix") for _, path in proxy.requests if "list-type" in path]
    assert len(listing.objects) == len(files)
    assert len(asked) > 6
    assert all(each is not None and each[0].startswith(prefix) for each in asked), asked


def test_a_flat_folder_is_surveyed_without_listing_all_of_it(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten years of a flat layout are millions of keys; a look at one date must not pass over them."""
    monkeypatch.setattr(s3_adapter, "_PAGE", 10)
    files = {
        file_name(date(year, 6, 1 + day), number): b""
        for year in (2023, 2024)
        for day in range(20)
        for number in range(5)
    }
    files |= {"2024/06/07/" + file_name(date(2024, 6, 7), 9): b"", "zz/" + file_name(date(2024, 6, 8), 8): b""}
    with faulty(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.server.endpoint)
        store = store_of(bucket_of(aws, files))
        ((_, listing),) = store.listings([date(2024, 6, 7)])
        listings = [path for method, path in proxy.requests if "list-type" in path]
    assert len(listing.objects) == 6
    assert len(listings) < 15, f"{len(listings)} listings of {len(files)} keys, 10 each"


def test_a_bucket_is_listed_some_dates_at_a_time(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """All objects of all dates of a backfill were in memory before the first one was read."""
    monkeypatch.setattr(s3_log_store, "FILES_AT_ONCE", 30)
    days = [date(2024, 1, 1) + timedelta(days=shift) for shift in range(100)]
    store = store_of(bucket_of(aws, {file_name(day, number): b"" for day in days for number in range(3)}))
    asked: list[int] = []
    original = S3LogStore._listed

    def noted(self: S3LogStore, survey: object, some: list[date]) -> object:
        asked.append(len(some))
        return original(self, survey, some)  # type: ignore[arg-type]

    monkeypatch.setattr(S3LogStore, "_listed", noted)
    listings = store.listings(days)
    next(listings)
    assert asked == [4]
    assert sum(len(listing.objects) for _, listing in listings) == 297
    assert asked == [4, *[10] * 9, 6]


@pytest.mark.parametrize("layout", ["", "%Y/%m/%d/"], ids=["flat", "folders"])
def test_dates_that_have_more_than_those_before_are_not_all_held(
    aws: S3Server, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """Four nearly empty dates, and the next 512 were listed together, however many objects they had."""
    monkeypatch.setattr(s3_log_store, "FILES_AT_ONCE", 30)
    days = [date(2024, 1, 1) + timedelta(days=shift) for shift in range(60)]
    sizes = {day: 1 if shift < 6 else 70 if shift == 20 else 12 if shift < 50 else 0 for shift, day in enumerate(days)}
    files = {day.strftime(layout) + file_name(day, number) for day, size in sizes.items() for number in range(size)}
    held: list[tuple[int, int]] = []
    original = S3LogStore._listed
    scan = Bucket.scan

    def noted(self: S3LogStore, survey: object, some: list[date]) -> object:
        held.append((len(some), 0))
        return original(self, survey, some)  # type: ignore[arg-type]

    def counted(self: Bucket, *where: str) -> Iterator[StoredObject]:
        for item in scan(self, *where):
            held[-1] = (held[-1][0], held[-1][1] + 1)
            yield item

    store = store_of(bucket_of(aws, dict.fromkeys(files, b"")))
    monkeypatch.setattr(S3LogStore, "_listed", noted)
    monkeypatch.setattr(Bucket, "scan", counted)
    # The threads' count, which is not exact, is enough to tell a bound from none.
    found = list(store.listings(days))
    assert [day for day, _ in found] == days
    assert {day: len(listing.objects) for day, listing in found} == sizes
    assert {item.name for _, listing in found for item in listing.objects} == files
    assert [dates for dates, _ in held[:3]] == [4, 30, 3], "begun again with fewer"
    assert all(objects <= 2 * 30 + s3_log_store._LISTINGS_AT_ONCE for dates, objects in held if dates > 1), held
    assert any(dates == 1 and objects >= 70 for dates, objects in held), "a date alone has no bound"


def log_files(days: list[date]) -> dict[str, bytes]:
    """Plain, gzip and empty files, large and small ones, equal ones too."""
    files = {}
    for shift, day in enumerate(days):
        for number in range(6):
            content = joined(honest_lines(f"{day}{number}", 30 + number))
            files[file_name(day, number)] = gzip.compress(content, mtime=0) if number == 1 else content
        files[file_name(day, 7)] = b""
        files[file_name(day, 8)] = files[file_name(day, 0)]
        if not shift:
            files[file_name(day, 9)] = joined(honest_lines("large", 6000))
    return files


def outcomes(location: S3Location, days: list[date]) -> dict[date, ExtractedDate | FailedDate]:
    return {
        outcome.day: kept(outcome) for outcome in Extractor(store_of(location), SEALER.seal, 2, SCRATCH).extract(days)
    }


def error_of(outcome: ExtractedDate | FailedDate) -> S3logxError:
    assert isinstance(outcome, FailedDate)
    return outcome.error


def test_a_bucket_is_extracted_as_a_folder_with_the_same_files(aws: S3Server, tmp_path: Path) -> None:
    days = [DAY, DAY + timedelta(days=1), DAY + timedelta(days=2)]
    files = log_files(days)
    assert max(map(len, files.values())) > s3_log_store._SMALL
    local = {
        each.day: kept(each)
        for each in Extractor(LocalLogStore(write(tmp_path, files)), SEALER.seal, 2, SCRATCH).extract(days)
    }
    for day, outcome in outcomes(bucket_of(aws, files), days).items():
        other = local[day]
        assert isinstance(outcome, ExtractedDate)
        assert isinstance(other, ExtractedDate)
        assert outcome.row_count > 100
        assert table_of(outcome).equals(table_of(other))
        assert outcome.ledger.drop(["version"]).equals(other.ledger.drop(["version"]))
        assert all(version.isalnum() for version in outcome.ledger["version"].to_pylist()), "ETags without quotes"


@pytest.fixture
def proxy(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy on the way to the server; of the patience with faults the number of tries and the waits are less."""
    monkeypatch.setitem(s3_adapter._RETRIES, "max_retries", 2)
    short = {"init_backoff": timedelta(milliseconds=10), "max_backoff": timedelta(milliseconds=20), "base": 2}
    monkeypatch.setitem(s3_adapter._RETRIES, "backoff", short)
    monkeypatch.setitem(s3_adapter._TIMES, "read_timeout", timedelta(seconds=1))
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))
    with faulty(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.server.endpoint)
        yield proxy


BAD = file_name(DAY, 2)
# Not among the faults, since it is of objects alone, never of a listing.
ARCHIVED: Any = SimpleNamespace(
    value=_Refusal(403, "InvalidObjectState", "The operation is not valid for the object's storage class")
)


@pytest.mark.parametrize(
    "fault",
    [Fault.SLOW_DOWN, Fault.INTERNAL_ERROR, Fault.RESET, Fault.CUT_BODY, Fault.HANG],
    ids=lambda fault: fault.name,
)
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_a_fault_that_passes_is_tried_again_and_one_that_stays_fails_its_date_alone(
    aws: S3Server, proxy: FaultProxy, fault: Fault, large: bool
) -> None:
    """Never a short count: either all rows, or a date that says why not and may be tried again."""
    days = [DAY, DAY + timedelta(days=1)]
    files = {file_name(day, number): joined(honest_lines(f"{day}{number}", 20)) for day in days for number in range(4)}
    if large:
        files[BAD] = joined(honest_lines("large", 6000))
    location = bucket_of(aws, files)
    whole = outcomes(location, days)
    proxy.inject(fault, BAD, times=1)
    passed = outcomes(location, days)
    for day in days:
        assert isinstance(passed[day], ExtractedDate), passed[day]
        assert table_of(passed[day]).equals(table_of(whole[day]))
    proxy.inject(fault, BAD, times=-1)
    stayed = outcomes(location, days)
    error = error_of(stayed[DAY])
    assert isinstance(error, SourceUnavailable)
    assert BAD in str(error)
    assert isinstance(stayed[days[1]], ExtractedDate)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault.NOT_FOUND, LogFileError, "vanished after it was listed"),
        (Fault.ACCESS_DENIED, LogFileError, "s3:GetObject"),
        (Fault.SKEWED, LogFileError, "clock"),
        (ARCHIVED, LogFileError, "must be restored"),
    ],
    ids=["vanished", "denied", "skewed", "archived"],
)
def test_an_object_that_cannot_be_had_fails_its_date_alone(
    aws: S3Server, proxy: FaultProxy, fault: Fault, kind: type[Exception], words: str
) -> None:
    days = [DAY, DAY + timedelta(days=1)]
    files = {file_name(day, number): joined(honest_lines(f"{day}{number}", 20)) for day in days for number in range(4)}
    location = bucket_of(aws, files)
    proxy.inject(fault, BAD, times=-1)
    found = outcomes(location, days)
    error = error_of(found[DAY])
    assert isinstance(error, kind)
    assert words in str(error)
    assert aws.access_key not in str(error)
    assert isinstance(found[days[1]], ExtractedDate)


def test_an_archived_object_is_told_from_one_that_may_not_be_read(aws: S3Server, proxy: FaultProxy) -> None:
    """The advice was to grant s3:GetObject, which was granted. Both clients."""
    location = bucket_of(aws, {BAD: b"x"})
    bucket = build_bucket(location, source_role("S3LOGX_LOGS"))
    key = location.prefix + BAD
    for method, use in (
        ("GET", lambda: list(bucket.chunks_of(key))),
        ("PUT", lambda: bucket.copy(key, f"{key}.copy")),
    ):
        proxy.inject(ARCHIVED, BAD, method, times=-1)
        with pytest.raises(SourceError, match="is archived") as caught:
            use()
        assert "s3:GetObject" not in str(caught.value)


@pytest.mark.parametrize("size", [20, 6000], ids=["small", "large"])
def test_an_object_that_is_replaced_after_it_was_listed_fails_its_date(aws: S3Server, size: int) -> None:
    """By one of the same size, even."""
    location = bucket_of(aws, {BAD: joined(honest_lines(1, size))})

    class Slow(S3LogStore):
        def open(self, item: LogObject) -> LogReader:
            replace()
            return super().open(item)

        def opening(self, items: Iterable[LogObject]) -> Iterator[Callable[[], LogReader]]:
            replace()
            return super().opening(items)

    def replace() -> None:
        content = joined(honest_lines(1, size))
        aws.put(location.bucket, {location.prefix + BAD: content.replace(b"GET", b"GOT")})

    (failed,) = Extractor(Slow(build_bucket(location, source_role("S3LOGX_LOGS"))), SEALER.seal, 1, SCRATCH).extract(
        [DAY]
    )
    assert "changed after it was listed" in str(error_of(failed))


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault.SLOW_DOWN, SourceUnavailable, "too busy"),
        (Fault.INTERNAL_ERROR, SourceUnavailable, "too busy"),
        (Fault.RESET, SourceUnavailable, "cannot be reached"),
        (Fault.ACCESS_DENIED, SourceError, "s3:ListBucket"),
        (Fault.SKEWED, SourceError, "clock"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.parametrize("from_the_start", [True, False], ids=["boto3", "obstore"])
def test_a_listing_that_fails_is_no_empty_one(
    aws: S3Server, proxy: FaultProxy, fault: Fault, kind: type[Exception], words: str, from_the_start: bool
) -> None:
    location = bucket_of(aws, {f"{DAY:%Y/%m/%d}/{BAD}": b""})
    # The survey asks with a delimiter, the listing of dates behind it with a key to start after.
    proxy.inject(fault, "delimiter" if from_the_start else "start-after=logs%2F", times=-1)
    with pytest.raises(kind, match=words) as caught:
        list(store_of(location).listings([DAY]))
    assert f"S3LOGX_LOGS: {location}" in str(caught.value)


@pytest.mark.parametrize("fault", [*Fault], ids=lambda fault: fault.name)
def test_a_page_of_a_listing_that_fails_is_asked_for_again_from_where_it_was(
    aws: S3Server, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """Never a listing cut short, and nothing twice; what would fail again fails at once."""
    files = {f"{DAY:%Y/%m/%d}/{file_name(DAY, number)}": b"" for number in range(1200)}
    location = bucket_of(aws, files)
    proxy.inject(fault, "continuation-token", times=1)
    store = store_of(location)
    if fault in (Fault.ACCESS_DENIED, Fault.SKEWED):
        with pytest.raises(S3logxError, match="S3LOGX_LOGS"):
            list(store.listings([DAY]))
        return
    ((_, listing),) = store.listings([DAY])
    assert [item.name for item in listing.objects] == sorted(files)
    assert any("continuation-token" in path for _, path in proxy.requests)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, SourceError, "credentials are refused"),
        ({"AWS_ACCESS_KEY_ID": "WRONG"}, SourceError, "credentials are refused"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, SourceError, "no AWS credentials"),
        ({"AWS_PROFILE": "nobody"}, SourceError, "no AWS credentials"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, SourceUnavailable, "cannot be reached"),
    ],
    ids=["secret", "key", "none", "profile", "endpoint"],
)
def test_wrong_settings_of_aws_are_told(
    aws: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    changes: dict[str, str],
    kind: type[Exception],
    words: str,
) -> None:
    location = bucket_of(aws, {BAD: b""})
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(kind, match=words) as caught:
        list(store_of(location).listings([DAY]))
    for secret in (aws.secret_key, aws.access_key):
        assert secret not in str(caught.value)
    assert caught.value.__cause__ is None


def test_logs_behind_many_other_objects_are_not_passed_over(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at a folder was broken off without a word, and the dates behind had no logs."""
    monkeypatch.setattr(s3_adapter, "_PAGE", 5)
    files = {f"{number:03}.bin": b"" for number in range(20)}
    location = bucket_of(aws, {**files, f"access/{DAY:%Y/%m/%d}/{BAD}": b"", BAD: b""})
    monkeypatch.setattr(s3_log_store, "_MOST_IGNORED", 20)
    ((_, listing),) = store_of(location).listings([DAY])
    assert len(listing.objects) == 2
    monkeypatch.setattr(s3_log_store, "_MOST_IGNORED", 10)
    words = f"S3LOGX_LOGS: {location} holds over 10 objects that are no logs in 'logs/'; name the folder of logs"
    with pytest.raises(SourceError, match=re.escape(words)):
        list(store_of(location).listings([DAY]))


def test_a_key_that_obstore_has_no_path_for_hides_no_others(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refused the whole page, for ever: here for a tab, which the server keeps, on S3 for `a//b` too."""
    monkeypatch.setattr(s3_adapter, "_PAGE", 3)
    folder = f"{DAY:%Y/%m/%d}/"
    names = [folder + file_name(DAY, number) for number in range(12)]
    odd = [f"{names[5]}\t", f"{folder}tab\ttab", f"{folder}z/"]
    location = bucket_of(aws, dict.fromkeys([*names, *odd], b""))
    with pytest.raises(InvalidPathError):
        obstore.list(aws.store(location.bucket)).collect()
    ((_, listing),) = store_of(location).listings([DAY])
    assert [item.name for item in listing.objects] == sorted(names)
    assert listing.ignored == 2
    bucket = build_bucket(location, source_role("S3LOGX_LOGS"))
    found = [item.key.removeprefix(location.prefix) for item in bucket.scan(location.prefix, "")]
    assert found == sorted([*names, *odd[:2]])
    with pytest.raises(SourceError, match="has an empty part"):
        bucket.size_of("logs/a//b")


def test_a_bucket_that_is_not_there_and_one_without_logs_are_told(aws: S3Server) -> None:
    with pytest.raises(SourceError, match="no such bucket"):
        list(store_of(S3Location("absent-bucket")).listings([DAY]))
    with pytest.raises(SourceError, match="none is named like an access log"):
        list(store_of(bucket_of(aws, {"data.bin": b"", "other.txt": b""})).listings([DAY]))
    empty = store_of(bucket_of(aws, {}))
    assert empty.days() == []
    assert [listing.objects for _, listing in empty.listings([DAY])] == [()]


def test_the_graph_runs_over_a_bucket_and_history_is_kept(aws: S3Server, tmp_path: Path) -> None:
    """All the way; then a late file, then objects that expired, which destroy nothing."""
    with dg.DagsterInstance.ephemeral() as instance:
        _whole_story(aws, Platform.make(tmp_path, instance))


def _whole_story(aws: S3Server, platform: Platform) -> None:
    files = {
        "2025-03-01-00-00-00-AA": line("ds1/a", "2025-03-01").encode(),
        "2025/03/02/2025-03-02-00-00-00-BB": line("ds2/b", "2025-03-02", host=2).encode(),
    }
    location = bucket_of(aws, files)
    platform.environment["S3LOGX_LOGS"] = str(location)
    assert parse_location(str(location)) == location
    assert platform.daily("2025-03-01", "2025-03-02").success
    assert platform.materialized("daily_usage") == {"2025-03-01", "2025-03-02"}
    rows = platform.store.read("extracted_logs", "log_date=2025-03-02")
    assert rows["object_key"].to_pylist() == ["ds2/b"]
    aws.put(location.bucket, {"logs/2025-03-01-09-00-00-CC": line("ds1/c", "2025-03-01", 9).encode()})
    assert platform.daily("2025-03-01", "2025-03-01", DAILY[:1]).success
    assert platform.store.read("extracted_logs", "log_date=2025-03-01").num_rows == 2
    with closing(aws.client()) as client:
        client.delete_object(Bucket=location.bucket, Key="logs/2025-03-01-00-00-00-AA")
    failed = platform.daily("2025-03-01", "2025-03-01", DAILY[:1])
    assert "no longer in the source" in failure_text(failed)
    assert platform.store.read("extracted_logs", "log_date=2025-03-01").num_rows == 2
