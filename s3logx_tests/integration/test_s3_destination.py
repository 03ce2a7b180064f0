"""The latest release in a bucket of a real S3 server, as a web site is served from it."""

from collections.abc import Iterator
from contextlib import closing
from itertools import count
from typing import Any

import pytest

from s3logx_assets.adapters.destinations import Sent, send
from s3logx_assets.adapters.s3_destination import ROLE, S3Place
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.locations import S3Location
from s3logx_assets.resources import build_bucket
from s3logx_tests.s3_server import S3Server

_NUMBERS = count()
FIRST = {"index.html": b"1", "a/x.tsv": b"x", "a/%61y.parquet": b"y", "assets/report.js": b"z", "SHA256SUMS": b"s"}
SECOND = {"index.html": b"2", "a/x.tsv": b"x", "new.json": b"{}"}


@pytest.fixture
def location(aws: S3Server) -> S3Location:
    name = f"site-{next(_NUMBERS)}"
    aws.make_bucket(name)
    return S3Location(name, "www/")


@pytest.fixture
def client(aws: S3Server) -> Iterator[Any]:
    with closing(aws.client()) as client:
        yield client


def place(location: S3Location) -> S3Place:
    return S3Place(build_bucket(location, ROLE))


def held(client: Any, location: S3Location) -> dict[str, bytes]:
    listed = client.list_objects_v2(Bucket=location.bucket).get("Contents", ())
    return {item["Key"]: client.get_object(Bucket=location.bucket, Key=item["Key"])["Body"].read() for item in listed}


def test_a_release_in_a_bucket(client: Any, location: S3Location) -> None:
    client.put_object(Bucket=location.bucket, Key="www/CNAME", Body=b"theirs")
    client.put_object(Bucket=location.bucket, Key="other/index.html", Body=b"theirs")
    assert send(place(location), "r1", FIRST) == Sent(5, 0, 0, 5)
    assert send(place(location), "r1", FIRST) == Sent(0, 5, 0, 0)
    modified = client.head_object(Bucket=location.bucket, Key="www/a/x.tsv")["LastModified"]
    assert send(place(location), "r2", SECOND) == Sent(2, 1, 3, 3)
    found = held(client, location)
    found.pop("www/release.json")
    theirs = {"www/CNAME": b"theirs", "other/index.html": b"theirs"}
    assert found == {**{f"www/{name}": content for name, content in SECOND.items()}, **theirs}
    assert client.head_object(Bucket=location.bucket, Key="www/a/x.tsv")["LastModified"] == modified


def test_browsers_are_told_what_they_get(client: Any, location: S3Location) -> None:
    send(place(location), "r1", FIRST)
    types = {
        "index.html": "text/html; charset=utf-8",
        "a/x.tsv": "text/tab-separated-values; charset=utf-8",
        "a/%61y.parquet": "application/vnd.apache.parquet",
        "assets/report.js": "text/javascript; charset=utf-8",
        "SHA256SUMS": "text/plain; charset=utf-8",
        "release.json": "application/json",
    }
    for name, kind in types.items():
        head = client.head_object(Bucket=location.bucket, Key=f"www/{name}")
        assert head["ContentType"] == kind
        assert head["CacheControl"] == "no-cache"


def test_an_object_that_somebody_took_away_is_put_back(client: Any, location: S3Location) -> None:
    send(place(location), "r1", FIRST)
    client.delete_object(Bucket=location.bucket, Key="www/a/x.tsv")
    send(place(location), "r1", FIRST)
    assert held(client, location)["www/a/x.tsv"] == b"x"


def test_an_object_of_others_is_not_overwritten(client: Any, location: S3Location) -> None:
    client.put_object(Bucket=location.bucket, Key="www/index.html", Body=b"?")
    with pytest.raises(StoreError, match=r"files of others where those of the release belong: index\.html; move"):
        send(place(location), "r1", FIRST)
    assert held(client, location) == {"www/index.html": b"?"}


def test_a_second_look_sees_what_has_changed_since(client: Any, location: S3Location) -> None:
    one = place(location)
    assert one.trial() == "no release is there yet"
    send(one, "r1", FIRST)
    assert send(one, "r1", FIRST).written == 0
    client.delete_object(Bucket=location.bucket, Key="www/a/x.tsv")
    assert send(one, "r1", FIRST).written == 2
    assert one.trial() == "a release is there"


class Killed(Exception):
    """Instead of a kill."""


class Dying(S3Place):
    """Dies before its n-th change."""

    left = 0

    def put(self, name: str, content: bytes) -> None:
        if not self.left:
            raise Killed
        self.left -= 1
        super().put(name, content)


def test_killed_anywhere_the_next_time_puts_it_right(aws: S3Server, client: Any) -> None:
    """Also where a file has the size that it had, and so looks as it did."""
    for changes in (1, 3):
        location = S3Location(f"killed-{changes}", "www/")
        aws.make_bucket(location.bucket)
        send(place(location), "r1", FIRST)
        dying = Dying(build_bucket(location, ROLE))
        dying.left = changes
        with pytest.raises(Killed):
            send(dying, "r2", {**SECOND, "a/x.tsv": b"X"})
        send(place(location), "r1", FIRST)
        found = held(client, location)
        found.pop("www/release.json")
        assert found == {f"www/{name}": content for name, content in FIRST.items()}


def test_a_bucket_that_is_not_there_is_told(aws: S3Server) -> None:
    with pytest.raises(StoreError, match=r"S3LOGX_PUBLISH_TO: s3://no-such-bucket/: there is no such bucket"):
        send(place(S3Location("no-such-bucket")), "r1", FIRST)
