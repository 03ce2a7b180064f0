"""Objects of a real S3 server, fetched ahead: mostly by the fast lane, always what was listed, or the reason why not."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from typing import Any

import pytest

from s3logx_assets.adapters import s3_ahead
from s3logx_assets.adapters.http_gets import Connection, Origin
from s3logx_assets.adapters.s3 import Bucket, ObjectChanged, StoredObject, source_role
from s3logx_assets.adapters.s3_ahead import ahead
from s3logx_assets.core.errors import SourceError
from s3logx_assets.core.locations import S3Location
from s3logx_assets.resources import build_bucket
from s3logx_tests.s3_faults import Fault, FaultProxy, faulty
from s3logx_tests.s3_server import S3Server

_NUMBERS = count()
MOST, LARGEST = s3_ahead._MOST, 1 << 20


class Watched:
    """A bucket, and the keys that were read the slow way."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch, requester_pays: bool = False) -> None:
        self.bucket = build_bucket(S3Location(name, ""), source_role("S3LOGX_LOGS"), requester_pays)
        self.slow: list[str] = []
        read = Bucket.read

        def watched(bucket: Bucket, wanted: StoredObject) -> bytes:
            self.slow.append(wanted.key)
            return read(bucket, wanted)

        monkeypatch.setattr(Bucket, "read", watched)

    def ahead(self, items: list[StoredObject]) -> list[bytes | Exception | None]:
        return list(ahead(self.bucket, items, LARGEST))


def stored(server: S3Server, objects: dict[str, bytes]) -> tuple[str, list[StoredObject]]:
    """A new bucket with these objects, as they are listed."""
    name = f"ahead-{next(_NUMBERS)}"
    server.make_bucket(name)
    server.put(name, objects)
    with closing(server.client()) as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=name)
        return name, [
            StoredObject(item["Key"], item["Size"], item["ETag"].strip('"'))
            for page in pages
            for item in page["Contents"]
        ]


def numbered(number: int, size: int = 1000) -> dict[str, bytes]:
    return {f"logs/{index:04}": b"%d" % index * size for index in range(number)}


@pytest.fixture
def proxy(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy on the way to the server."""
    with faulty(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.server.endpoint)
        yield proxy


@pytest.mark.parametrize("requester_pays", [False, True])
def test_all_objects_come_in_order_by_the_fast_lane(
    aws: S3Server, monkeypatch: pytest.MonkeyPatch, requester_pays: bool
) -> None:
    objects = {**numbered(300), "empty": b""}
    name, items = stored(aws, objects)
    watched = Watched(name, monkeypatch, requester_pays)
    assert watched.ahead(items) == [objects[item.key] for item in items]
    assert watched.slow == []


def test_odd_keys_come_by_the_fast_lane(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [
        "a b+c",
        "p%20q",
        "p%2Fq",
        "tab\ttab",
        "ü ~#%?&+=*[1]{2}|^`<>\"'.tsv",
        "x/y=z/…",
        "(1)!;:@$,",
        "-_.~",
        "日本/語",
    ]
    objects = {key: key.encode() for key in keys}
    name, items = stored(aws, objects)
    watched = Watched(name, monkeypatch)
    assert sorted(item.key for item in items) == sorted(keys)
    assert watched.ahead(items) == [objects[item.key] for item in items]
    assert watched.slow == []


def test_larger_objects_are_read_the_other_way_and_the_largest_not_at_all(
    aws: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"a": s3_ahead._FAST, "b": s3_ahead._FAST + 1, "c": LARGEST, "d": LARGEST + 1, "e": 1}
    objects = {key: b"x" * size for key, size in sizes.items()}
    name, items = stored(aws, objects)
    watched = Watched(name, monkeypatch)
    assert watched.ahead(items) == [None if key == "d" else objects[key] for key in sizes]
    assert sorted(watched.slow) == ["b", "c"]


@pytest.mark.parametrize("fault", [each for each in Fault if each is not Fault.HANG], ids=lambda fault: fault.name)
def test_what_the_fast_lane_does_not_get_is_read_the_other_way(
    aws: S3Server, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    objects = numbered(200)
    name, items = stored(aws, objects)
    watched = Watched(name, monkeypatch)
    for key in ("logs/0003", "logs/0100"):
        proxy.inject(fault, key)
    assert watched.ahead(items) == [objects[item.key] for item in items]
    # A connection that is lost is opened again in the meantime, so some others may have none.
    assert {"logs/0003", "logs/0100"} <= {*watched.slow}
    assert len(watched.slow) <= 12


def test_a_fast_lane_that_fails_is_left_alone_for_a_while(
    aws: S3Server, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a service in trouble would be asked for all things twice, and one after the other."""
    monkeypatch.setattr(s3_ahead, "_PAUSE", 100)
    objects = numbered(300)
    name, items = stored(aws, objects)
    watched = Watched(name, monkeypatch)
    for item in items[: s3_ahead._PATIENCE]:
        proxy.inject(Fault.ACCESS_DENIED, item.key)
    assert watched.ahead(items) == [objects[item.key] for item in items]
    assert 100 <= len(watched.slow) <= 100 + 3 * MOST
    assert len(proxy.requests) < 300 + 2 * MOST


def test_every_object_has_its_own_error(aws: S3Server, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    name, items = stored(aws, numbered(40))
    watched = Watched(name, monkeypatch)
    proxy.inject(Fault.ACCESS_DENIED, "logs/", times=-1)
    found = watched.ahead(items)
    assert len(found) == 40
    assert all(isinstance(each, SourceError) and "s3:GetObject" in str(each) for each in found)


def test_an_object_that_is_not_what_was_listed(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced by one of the same size, by one of another, and gone."""
    objects = numbered(50)
    name, items = stored(aws, objects)
    aws.put(name, {"logs/0010": b"00" * 1000, "logs/0020": b"x"})
    with closing(aws.client()) as client:
        client.delete_object(Bucket=name, Key="logs/0030")
    found = dict(zip(objects, Watched(name, monkeypatch).ahead(items), strict=True))
    kinds = {"logs/0010": ObjectChanged, "logs/0020": ObjectChanged, "logs/0030": FileNotFoundError}
    for key, content in objects.items():
        if key in kinds:
            assert isinstance(found[key], kinds[key])
        else:
            assert found[key] == content


def test_credentials_are_asked_for_anew(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role's expire in the middle of a run."""
    monkeypatch.setattr(s3_ahead, "_PAUSE", 50)
    objects = numbered(300)
    name, items = stored(aws, objects)
    watched = Watched(name, monkeypatch)
    provider = watched.bucket._credentials
    asked = count()

    def changing() -> Any:
        credentials = provider()
        # Those that obstore gets, which keeps them, and all others are good.
        return {**credentials, "secret_access_key": "expired"} if next(asked) == 3 else credentials

    watched.bucket.__dict__["_credentials"] = changing
    assert watched.ahead(items) == [objects[item.key] for item in items]
    assert 0 < len(watched.slow) <= 50 + 3 * MOST
    assert next(asked) > 5


def test_no_more_than_so_many_bytes_are_ahead(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_ahead, "_MOST_BYTES", 20_000)
    objects = {f"logs/{index:04}": b"x" * 3000 for index in range(60)}
    name, items = stored(aws, objects)
    left = deque(items)
    wanted = (left.popleft() for _ in items)
    for given, content in enumerate(ahead(Watched(name, monkeypatch).bucket, wanted, LARGEST)):
        assert content == b"x" * 3000
        assert len(items) - len(left) <= given + 7
    assert not left


def test_no_more_than_that_many_are_ahead(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    name, items = stored(aws, numbered(100))
    left = deque(items)
    wanted = (left.popleft() for _ in items)
    watched = Watched(name, monkeypatch)
    for given, _ in enumerate(ahead(watched.bucket, wanted, LARGEST)):
        assert len(items) - len(left) <= given + MOST


def test_who_stops_leaves_no_thread_and_no_connection(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    name, items = stored(aws, numbered(200))
    connections: list[Connection] = []
    connect = Origin.connect

    def noted(origin: Origin) -> Connection:
        connections.append(connect(origin))
        return connections[-1]

    monkeypatch.setattr(Origin, "connect", noted)
    bucket = Watched(name, monkeypatch).bucket
    before = {*threading.enumerate()}
    found = ahead(bucket, items, LARGEST)
    for _ in range(20):
        next(found)
    found.close()
    assert len(connections) >= MOST
    assert not any(connection.is_fresh for connection in connections)
    assert {*threading.enumerate()} <= before
