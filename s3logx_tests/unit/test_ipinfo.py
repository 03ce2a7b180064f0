"""Regions from ipinfo.io: the real client against a server of the test's own that speaks like it."""

import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from s3logx_assets.adapters import cloud_ranges, ipinfo
from s3logx_assets.adapters.geolocation import EmbeddedGeolocator
from s3logx_assets.adapters.http import HttpClient, Limits
from s3logx_assets.adapters.ipinfo import NOWHERE, IpinfoClient, IpinfoGeolocator, Place, place_of
from s3logx_assets.core.addresses import pack, pack_all
from s3logx_assets.core.errors import ServiceError, ServiceUnavailable
from s3logx_assets.core.regions import ANSWERS
from s3logx_assets.core.sealing import Sealer
from s3logx_tests.http_service import HANGS_UP, HTML, MUTE, Answer, Asked, Clock, Service, json_answer, running_service

KEY = "t0ken"
DAY = 86_400
KNOWN = {
    "8.8.8.8": {
        "ip": "8.8.8.8",
        "city": "Mountain View",
        "region": "California",
        "country": "US",
        "loc": "38.0,-122.0",
    },
    "1.1.1.1": {"ip": "1.1.1.1", "region": "Queensland", "country": "AU", "anycast": True},
    "9.9.9.9": {"ip": "9.9.9.9", "country": "US"},
    "2620:fe::fe": {"ip": "2620:fe::fe", "region": "", "country": "CH"},
    "193.0.6.139": {"ip": "193.0.6.139", "region": "North Holland Province", "country": "NL"},
    "80.67.169.12": {"ip": "80.67.169.12", "region": "Ile de France", "country": "FR"},
    "198.41.0.4": {"ip": "198.41.0.4"},
    "199.7.83.42": {"ip": "199.7.83.42", "bogon": True},
}
UNDETERMINED = ("undetermined", "none", None)


def as_ipinfo(asked: Asked) -> Answer:
    """What the service says of the addresses it knows."""
    return json_answer({text: KNOWN[text] for text in asked.content if text in KNOWN})


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as running:
        running.answers(as_ipinfo)
        yield running


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges that take no time: one cloud, one VPN."""
    bounds = {
        "0.0.0.0": None,  # noqa: S104
        "140.82.112.0": "GitHub",
        "140.82.113.0": None,
        "171.25.193.0": "VPN",
        "171.25.194.0": None,
    }
    columns = {
        "start": pa.array(
            [bytes(16), *(pack(text) for text in bounds), (0xFFFF_FFFF_FFFF + 1).to_bytes(16)], pa.binary(16)
        ),
        "region": [None, *bounds.values(), None],
    }
    dates = dict.fromkeys(("cloudip_date", "iporigin_date"), "2026-09-01")
    monkeypatch.setattr(cloud_ranges, "_made", lambda: pa.table(columns).replace_schema_metadata(dates))


def geolocator(
    service: Service,
    cache: Path,
    clock: Callable[[], float] | None = None,
    key: str = KEY,
    limits: Limits | None = None,
    master: bytes = bytes(32),
) -> IpinfoGeolocator:
    http = HttpClient("ipinfo.io", "IPINFO_API_KEY", limits, sleep=lambda seconds: None)
    client = IpinfoClient(key, http, f"{service.url}/batch")
    return IpinfoGeolocator(client, lambda: Sealer(master), cache, 90, clock=clock or Clock())


def found(asking: IpinfoGeolocator, *addresses: str) -> list[tuple[str, str, str | None]]:
    table = asking.regions(pack_all(addresses))
    assert table.schema.equals(ANSWERS)
    return list(zip(*(table[name].to_pylist() for name in ANSWERS.names), strict=True))


def sent(service: Service) -> list[list[str]]:
    return [asked.content for asked in service.asked]


def test_countries_and_regions_are_labels_in_the_packaged_spelling(service: Service, tmp_path: Path) -> None:
    assert found(geolocator(service, tmp_path), *KNOWN) == [
        ("US/California", "ipinfo", "US-CA"),
        ("AU/Queensland", "ipinfo", "AU-QLD"),
        ("US", "ipinfo", None),
        ("CH", "ipinfo", None),
        ("NL/North Holland", "ipinfo", "NL-NH"),
        ("FR/Île-de-France", "ipinfo", "FR-IDF"),
        ("unknown", "none", None),
        ("unknown", "none", None),
    ]
    (asked,) = service.asked
    assert (asked.method, asked.path, asked.query) == ("POST", "/batch", {})
    assert asked.headers["Authorization"] == f"Bearer {KEY}"


def test_what_the_lists_decide_is_never_sent_and_clients_of_tunnels_are(service: Service, tmp_path: Path) -> None:
    decided = ["10.0.0.1", "192.0.2.1", "2001:db8::1", "fe80::1", "140.82.112.3", "171.25.193.20", "2002:a00:1::1"]
    decided += ["2002:8c52:7003::1", "::ffff:10.0.0.1"]
    labels = [label for label, _, _ in found(geolocator(service, tmp_path), *decided)]
    assert labels == ["bogon"] * 4 + ["GitHub", "VPN", "bogon", "GitHub", "bogon"]
    assert service.asked == []
    tunnels = [
        "2002:808:808::1",
        "64:ff9b::808:808",
        "::ffff:8.8.8.8",
        "8.8.8.8",
        "2001:0:4136:e378:8000:63bf:f7f7:f7f7",
    ]
    rows = found(geolocator(service, tmp_path), *tunnels, "10.0.0.1", "1.1.1.1", "8.8.8.8")
    assert [label for label, _, _ in rows] == ["US/California"] * 5 + ["bogon", "AU/Queensland", "US/California"]
    assert sorted(sent(service)[0]) == ["1.1.1.1", "8.8.8.8"]


def test_nothing_is_opened_or_asked_before_it_is_needed(service: Service, tmp_path: Path) -> None:
    def refuse() -> Sealer:
        raise AssertionError

    client = IpinfoClient(KEY, HttpClient("ipinfo.io"), service.url)
    asking = IpinfoGeolocator(client, refuse, tmp_path / "cache", 90)
    assert asking.data_version
    assert asking.attribution[0].text == "IP address data powered by IPinfo"
    assert found(asking, "10.0.0.1", "140.82.112.3")[1][0] == "GitHub"
    assert found(asking) == []
    assert not (tmp_path / "cache" / "ipinfo.sqlite").exists()
    assert service.asked == []


def test_an_address_is_asked_once_until_its_answer_has_aged(service: Service, tmp_path: Path) -> None:
    clock = Clock()
    first = found(geolocator(service, tmp_path, clock), *KNOWN)
    assert len(service.asked) == 1
    for _ in range(2):
        assert found(geolocator(service, tmp_path, clock), *KNOWN) == first
    clock.now += 90 * DAY - 1
    assert found(geolocator(service, tmp_path, clock), *KNOWN) == first
    assert len(service.asked) == 1
    clock.now += 2
    service.answers(json_answer({"8.8.8.8": {"ip": "8.8.8.8", "region": "Nevada", "country": "US"}}))
    assert found(geolocator(service, tmp_path, clock), "8.8.8.8")[0][0] == "US/Nevada"
    assert found(geolocator(service, tmp_path, clock), "8.8.8.8")[0][0] == "US/Nevada"
    assert sent(service) == [["8.8.8.8"]]


def test_an_aged_answer_stands_in_while_the_service_is_down(service: Service, tmp_path: Path) -> None:
    """Else a month out of quota would turn known regions of the past into undetermined ones, night by night."""
    clock = Clock()
    found(geolocator(service, tmp_path, clock), "8.8.8.8")
    clock.now += 100 * DAY
    service.answers(Answer(402))
    assert [label for label, _, _ in found(geolocator(service, tmp_path, clock), "8.8.8.8", "1.1.1.1")] == [
        *("US/California", "undetermined")
    ]
    service.answers(as_ipinfo)
    found(geolocator(service, tmp_path, clock), "8.8.8.8")
    assert sent(service) == [["8.8.8.8"]]


def test_a_large_date_goes_out_in_batches_each_kept_as_it_comes(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipinfo, "_PORTION", 2000)
    addresses = [f"8.{number >> 8 & 255}.{number & 255}.1" for number in range(2500)]

    def knows_all(asked: Asked) -> Answer:
        return json_answer({text: {"ip": text, "country": "US", "region": "Ohio"} for text in asked.content})

    service.answers(knows_all, knows_all, Answer(402))
    labels = [label for label, _, _ in found(geolocator(service, tmp_path), *addresses, *addresses)]
    assert [len(batch) for batch in sent(service)] == [1000, 1000, 500]
    assert sorted(labels) == ["US/Ohio"] * 4000 + ["undetermined"] * 1000
    assert labels[:2500] == labels[2500:]
    service.answers(knows_all)
    assert {label for label, _, _ in found(geolocator(service, tmp_path), *addresses)} == {"US/Ohio"}
    assert [len(batch) for batch in sent(service)] == [500]


FAILURES: dict[str, Answer] = {
    "429": Answer(429),
    "500": Answer(500),
    "out of quota": Answer(402),
    "wrong key": json_answer({"status": 403, "error": {"title": "Unknown token"}}, 403),
    "unauthorized": Answer(401),
    "redirection": Answer(307, headers={"Location": "/elsewhere"}),
    "html": HTML,
    "hangs up": HANGS_UP,
    "silent": MUTE,
    "empty object": json_answer({}),
    "list": json_answer(["8.8.8.8"]),
    "null": json_answer(None),
    "text": json_answer("8.8.8.8"),
    "error in place of all": json_answer({"error": {"title": "Rate limit exceeded"}}),
    "errors in place of each": json_answer({"8.8.8.8": {"status": 429, "error": {"title": "Rate limit exceeded"}}}),
    "wrong types": json_answer({"8.8.8.8": {"ip": "8.8.8.8", "country": 1, "region": ["California"]}}),
    "too large": Answer(body=b" " * 100_000 + b"{}"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_undetermined_ends_the_asking_and_is_not_kept(
    service: Service, tmp_path: Path, failure: str, whole_log: pytest.LogCaptureFixture
) -> None:
    service.answers(FAILURES[failure])
    limits = Limits(attempts=2, read_seconds=0.05, body_bytes=50_000)
    asking = geolocator(service, tmp_path, limits=limits)
    assert found(asking, "8.8.8.8", "10.0.0.1") == [UNDETERMINED, ("bogon", "bogon", None)]
    requests = len(service.asked)
    assert requests <= 2
    for address in ("8.8.8.8", "1.1.1.1"):
        assert found(asking, address) == [UNDETERMINED]
    assert len(service.asked) == requests, "a service that is down is not asked again and again"
    warnings = [record.getMessage() for record in whole_log.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("ipinfo.io ")
    assert ("IPINFO_API_KEY" in warnings[0]) == (failure in ("wrong key", "unauthorized"))
    for text in ("8.8.8.8", "1.1.1.1", KEY):
        assert text not in whole_log.text
    service.answers(as_ipinfo)
    assert found(geolocator(service, tmp_path), "8.8.8.8")[0][0] == "US/California"


def test_too_many_requests_and_then_none(service: Service, tmp_path: Path) -> None:
    service.answers(Answer(429, headers={"Retry-After": "1"}), Answer(503), as_ipinfo)
    assert found(geolocator(service, tmp_path), "8.8.8.8")[0][0] == "US/California"
    assert len(service.asked) == 3


def test_an_answer_for_some_leaves_the_others_undetermined(service: Service, tmp_path: Path) -> None:
    partial: dict[str, Any] = {
        "8.8.8.8": KNOWN["8.8.8.8"],
        "1.1.1.1": {"status": 429, "error": {}},
        "9.9.9.9": "US",
        "4.4.4.4": None,
        "5.5.5.5": {"country": "US"},
        "6.6.6.6": {"ip": "6.6.6.6", "country": "USA"},
        "7.7.7.7": {"ip": "7.7.7.7", "country": "US", "region": "x" * 1000},
        "10.0.0.1": KNOWN["1.1.1.1"],
    }
    service.answers(json_answer(partial))
    addresses = [*partial, "3.3.3.3"]
    labels = dict(zip(addresses, found(geolocator(service, tmp_path), *addresses), strict=True))
    assert labels.pop("8.8.8.8")[0] == "US/California"
    assert labels.pop("10.0.0.1")[0] == "bogon"
    assert set(labels.values()) == {UNDETERMINED}
    service.answers(as_ipinfo)
    found(geolocator(service, tmp_path), *addresses)
    assert sorted(sent(service)[0]) == sorted(labels)


@pytest.mark.parametrize(
    ("record", "place"),
    [
        ({"ip": "i", "country": "us", "region": " New\tYork "}, Place("US", "New York")),
        ({"ip": "i", "country": "DE"}, Place("DE", "")),
        ({"ip": "i", "country": "", "region": "Somewhere"}, NOWHERE),
        ({"ip": "i", "country": "ZZ"}, NOWHERE),
        ({"ip": "i"}, NOWHERE),
        ({"bogon": True}, NOWHERE),
        ({"ip": "i", "bogon": False, "country": "FR", "region": "=1+1"}, Place("FR", "=1+1")),
        ({"ip": "i", "country": "FR", "error": {}}, None),
        ({"ip": "i", "country": "F/"}, None),
        ({"ip": "i", "country": None}, None),
        ({"ip": "i", "country": "FR", "region": 5}, None),
        ({}, None),
        ([], None),
        (True, None),
        (None, None),
    ],
)
def test_records(record: object, place: Place | None) -> None:
    assert place_of(record) == place


def test_the_answer_hangs_on_the_record_alone_and_not_on_its_company(service: Service, tmp_path: Path) -> None:
    """Spellings are made one by what else is in use; here that is the packaged table, never the rest of a date."""
    alone = [found(geolocator(service, tmp_path / text.replace(":", "-")), text)[0] for text in KNOWN]
    assert found(geolocator(service, tmp_path / "all"), *KNOWN) == alone


def _texts(*addresses: str) -> Sequence[bytes]:
    return [text.encode() for text in addresses] + [pack(text)[-4:] for text in addresses if ":" not in text]


def test_the_cache_says_nothing_in_clear_and_fits_its_key_only(service: Service, tmp_path: Path) -> None:
    found(geolocator(service, tmp_path), *KNOWN)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith("ipinfo")}
    assert set(kept) == {"ipinfo.sqlite", "ipinfo.lock"}
    for content in kept.values():
        for private in [*_texts(*KNOWN), pack("2620:fe::fe"), b"California", b"Queensland", KEY.encode()]:
            assert private not in content
    found(geolocator(service, tmp_path, master=bytes(31) + b"x"), "8.8.8.8")
    assert len(service.asked) == 2


def test_no_error_holds_an_address_or_the_key(service: Service) -> None:
    asked = [".".join("8888")]  # a traceback quotes the lines of this file
    for answer in (Answer(401), HTML, MUTE, json_answer({"8.8.8.8": "no"})):
        service.answers(answer)
        http = HttpClient("ipinfo.io", "IPINFO_API_KEY", Limits(attempts=1, read_seconds=0.05))
        client = IpinfoClient(KEY, http, service.url)
        with pytest.raises((ServiceError, ServiceUnavailable)) as caught:
            client.places(asked)
        text = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__) + repr(client)
        assert "8.8.8.8" not in text
        assert KEY not in text


def test_the_data_version_tells_it_from_the_embedded_source(service: Service, tmp_path: Path) -> None:
    one, other = (geolocator(service, tmp_path / name) for name in "ab")
    assert one.data_version == other.data_version
    assert one.data_version != EmbeddedGeolocator(tmp_path).data_version
