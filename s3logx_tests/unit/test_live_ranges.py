"""Lists of ranges that are fetched: reading them, hostile ones, copies on disk, and what they replace."""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s3logx_assets.adapters import cloud_ranges
from s3logx_assets.adapters.geolocation import EmbeddedGeolocator
from s3logx_assets.adapters.http import HttpClient, Limits
from s3logx_assets.adapters.live_ranges import (
    SOURCES,
    LiveRanges,
    PublishedList,
    Source,
    checked,
    read_aws,
    read_azure,
    read_gcp,
    read_github,
)
from s3logx_assets.core.addresses import pack_all
from s3logx_assets.core.regions import ends
from s3logx_tests.http_service import HTML, MUTE, Answer, Asked, Clock, Service, json_answer, running_service

DAY = 86_400
AWS = {
    "syncToken": "1",
    "prefixes": [
        {"ip_prefix": "9.9.9.0/24", "region": "us-east-2", "service": "S3", "network_border_group": "us-east-2"},
        {"ip_prefix": "9.9.9.0/24", "region": "us-east-2", "service": "AMAZON", "network_border_group": "us-east-2"},
    ],
    "ipv6_prefixes": [{"ipv6_prefix": "2600:1f13::/36", "region": "us-west-2", "service": "EC2"}],
}
GCP = {
    "prefixes": [
        {"ipv4Prefix": "9.9.8.0/24", "scope": "us-central1"},
        {"ipv6Prefix": "2600:1900:8000::/44", "scope": "us-west9"},
    ]
}
GITHUB = {
    "verifiable_password_authentication": False,
    "ssh_keys": ["ssh-ed25519 AAAA/BBBB"],
    "domains": {"website": ["*.github.com"]},
    "web": ["9.9.7.0/24", "2a0a:a440::/29"],
    "actions": ["9.9.7.0/24", "9.9.6.0/31"],
    "empty": [],
}
AZURE = {
    "changeNumber": 1,
    "values": [
        {"name": "AzureCloud.norwaye", "properties": {"region": "norwaye", "addressPrefixes": ["9.9.5.0/24"]}},
        {"name": "Sql", "properties": {"region": "", "addressPrefixes": ["9.9.5.0/25", "9.9.4.0/24"]}},
    ],
}
READERS: dict[str, tuple[Callable[[Any], Iterator[tuple[str, str]]], Any]] = {
    "AWS": (read_aws, AWS),
    "GCP": (read_gcp, GCP),
    "GitHub": (read_github, GITHUB),
    "Azure": (read_azure, AZURE),
}


def test_each_list_is_read_with_its_regions() -> None:
    found = {provider: checked(read(value)) for provider, (read, value) in READERS.items()}
    assert found == {
        "AWS": [("2600:1f13::/36", "us-west-2"), ("9.9.9.0/24", "us-east-2")],
        "GCP": [("2600:1900:8000::/44", "us-west9"), ("9.9.8.0/24", "us-central1")],
        "GitHub": [("2a0a:a440::/29", ""), ("9.9.6.0/31", ""), ("9.9.7.0/24", "")],
        "Azure": [("9.9.4.0/24", ""), ("9.9.5.0/24", "norwaye"), ("9.9.5.0/25", "")],
    }


def _spoilt(value: Any) -> Iterator[Any]:
    """The value with one part of it, at any depth, replaced by something that does not belong there."""
    wrong: tuple[Any, ...] = (None, 5, "text", [], {}, [None], [[]], {"prefixes": [5]}, True)
    yield from (other for other in wrong if type(other) is not type(value) or not other)
    if isinstance(value, dict):
        for name in value:
            yield {key: item for key, item in value.items() if key != name}
            yield from ({**value, name: spoilt} for spoilt in _spoilt(value[name]))
    if isinstance(value, list):
        for place in range(len(value)):
            yield from ([*value[:place], spoilt, *value[place + 1 :]] for spoilt in _spoilt(value[place]))


@pytest.mark.parametrize("provider", READERS)
def test_hostile_lists_are_refused_or_read_as_ranges(provider: str) -> None:
    read, value = READERS[provider]
    refused = 0
    for hostile in _spoilt(value):
        try:
            ranges = checked(read(hostile))
        except ValueError:
            refused += 1
        else:
            assert checked(ranges) == ranges
    assert refused >= 9


@pytest.mark.parametrize(
    "prefix",
    [
        *("0.0.0.0/0", "8.0.0.0/7", "::/0", "2000::/15", "::ffff:0:0/96"),
        *(
            "9.9.9.1/24",
            "9.9.9.0/33",
            "9.9.9.0/-1",
            "9.9.9.0/",
            "9.9.9.0",
            "/24",
            "9.9.9/24",
            "2600::/129",
            "x/8",
            "\0/8",
            "",
        ),
    ],
)
def test_a_range_that_is_none_or_too_large_spoils_the_list(prefix: str) -> None:
    good = ("9.9.9.0/24", "us-east-2")
    assert checked([good]) == [good]
    with pytest.raises(ValueError, match="range"):
        checked([good, (prefix, "us-east-2")])


@pytest.mark.parametrize("region", ["us east", "us/east", "x" * 100, "=1+1", "é", "a\n"])
def test_a_region_without_a_plain_name_spoils_the_list(region: str) -> None:
    with pytest.raises(ValueError, match="range"):
        checked([("9.9.9.0/24", region)])


def test_an_empty_list_is_none() -> None:
    with pytest.raises(ValueError, match="no ranges"):
        checked([])


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as running:
        running.answers(partial(_publish, running, {}))
        yield running


def _publish(service: Service, instead: dict[str, Answer], asked: Asked) -> Answer:
    """All four lists, by path; `instead` replaces some."""
    if asked.path == "/azure":
        page = "".join(
            f'<a href="{service.url}/ServiceTags_Public_{day}.json">' for day in (20260901, 20261102, 20261026)
        )
        usual = Answer(body=page.encode())
    else:
        provider = {"/ServiceTags_Public_20261102.json": "Azure"}.get(asked.path, asked.path[1:])
        usual = json_answer(READERS[provider][1])
    return instead.get(asked.path, usual)


def live(service: Service, cache: Path, clock: Clock | None = None, limits: Limits | None = None) -> LiveRanges:
    link = re.escape(service.url) + r"/ServiceTags_Public_[0-9]{8}\.json"
    sources = [
        Source(provider, f"{service.url}/{provider}", read)
        for provider, (read, _) in READERS.items()
        if provider != "Azure"
    ]
    sources.append(Source("Azure", f"{service.url}/azure", read_azure, link))

    def client(provider: str) -> HttpClient:
        return HttpClient(provider, limits=limits or Limits(attempts=1), sleep=lambda seconds: None)

    return LiveRanges(cache, sources, client, clock or Clock())


def ranges(lists: tuple[PublishedList, ...]) -> dict[str, int]:
    return {each.provider: len(each.ranges) for each in lists}


def test_lists_are_fetched_once_a_day(service: Service, tmp_path: Path) -> None:
    clock = Clock()
    first = live(service, tmp_path, clock).lists
    assert ranges(first) == {"AWS": 2, "GCP": 2, "GitHub": 3, "Azure": 3}
    paths = ["/AWS", "/GCP", "/GitHub", "/azure", "/ServiceTags_Public_20261102.json"]
    assert [asked.path for asked in service.asked] == paths
    clock.now += DAY - 1
    kept = live(service, tmp_path, clock).lists
    assert [each.digest for each in kept] == [each.digest for each in first]
    assert len(service.asked) == 5
    clock.now += 1
    assert ranges(live(service, tmp_path, clock).lists) == ranges(first)
    assert len(service.asked) == 10


@pytest.mark.parametrize(
    "failure",
    [Answer(500), Answer(404), HTML, MUTE, json_answer({}), json_answer({"prefixes": []}), Answer(body=b" " * 2000)],
)
def test_the_last_good_copy_stands_and_without_one_there_is_no_list(
    service: Service, tmp_path: Path, failure: Answer
) -> None:
    clock = Clock()
    limits = Limits(attempts=1, read_seconds=0.05, body_bytes=1000)
    paths = ("/AWS", "/azure")
    service.answers(partial(_publish, service, dict.fromkeys(paths, failure)))
    assert ranges(live(service, tmp_path, clock, limits).lists) == {"GCP": 2, "GitHub": 3}
    service.answers(partial(_publish, service, {}))
    assert len(live(service, tmp_path, clock).lists) == 4
    service.answers(partial(_publish, service, dict.fromkeys(paths, failure)))
    clock.now += 500 * DAY
    found = live(service, tmp_path, clock, limits).lists
    assert ranges(found) == {"AWS": 2, "GCP": 2, "GitHub": 3, "Azure": 3}
    assert [clock.now - each.fetched_at for each in found] == [500 * DAY, 0, 0, 500 * DAY]


@pytest.mark.parametrize(
    "damage",
    [
        *(b"", b"{", b"[]", b"[" * 100_000, b'{"fetched_at": 1}'),
        b'{"ranges": [["9.9.9.0/24", "x"]], "fetched_at": []}',
        b'{"ranges": [["0.0.0.0/0", ""]], "fetched_at": 1700000000}',
        b'{"ranges": [["9.9.9.0/24"]], "fetched_at": 1700000000}',
        b'{"ranges": [[1, 2]], "fetched_at": 1700000000}',
    ],
    ids=len,
)
def test_a_damaged_copy_is_fetched_anew(service: Service, tmp_path: Path, damage: bytes) -> None:
    before = live(service, tmp_path).lists
    path = tmp_path / "live-ranges" / "AWS.json"
    path.write_bytes(damage)
    assert live(service, tmp_path).lists == before
    assert json.loads(path.read_bytes())["ranges"] == [list(each) for each in before[0].ranges]


def test_a_copy_that_cannot_be_kept_costs_time_only(service: Service, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    for _ in range(2):
        assert len(live(service, blocked / "cache").lists) == 4
    assert len(service.asked) == 10


def test_the_real_sources_are_https_and_the_link_is_microsoft_s() -> None:
    assert [source.provider for source in SOURCES] == ["AWS", "GCP", "GitHub", "Azure"]
    assert all(source.url.startswith("https://") for source in SOURCES)
    (link,) = [source.link for source in SOURCES if source.link]
    page = (
        '<a href="https://download.microsoft.com/download/7/1/d/71d86715-5596-4529-9b13-da13a5de5b63/'
        'ServiceTags_Public_20261102.json">'
    )
    assert re.findall(link, page) == [page[9:-2]]
    assert not re.findall(link, page.replace("microsoft", "example"))


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages with ranges that are empty, which take no time to read."""
    monkeypatch.setattr(cloud_ranges, "_cloudip", lambda: SimpleNamespace(version="2026-09-01"))
    monkeypatch.setattr(cloud_ranges, "_iporigin", lambda: SimpleNamespace(built_at=0))
    for name in ("_named_by_cloudip", "_named_by_iporigin"):
        monkeypatch.setattr(cloud_ranges, name, lambda packaged: [])


def test_live_lists_replace_the_packaged_ones_of_their_providers(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_packages: None
) -> None:
    packaged = {
        "3.16.0.0/24": "AWS/us-east-2",
        "35.192.0.0/24": "GCP/us-central1",
        "116.202.0.0/24": "Hetzner",
        "171.25.193.0/24": "VPN",
        "140.82.112.0/24": "GitHub",
    }
    named = [cloud_ranges._Named(*ends(prefix), label) for prefix, label in packaged.items()]
    monkeypatch.setattr(cloud_ranges, "_named_by_cloudip", lambda database: named[:3])
    monkeypatch.setattr(cloud_ranges, "_named_by_iporigin", lambda table: named[3:])
    listed = ["9.9.9.9", "9.9.8.1", "9.9.7.1", "9.9.5.200", "9.9.5.1", "9.9.4.1", "2600:1f13::1"]
    packaged_ones = ["3.16.0.1", "35.192.0.1", "140.82.112.3", "116.202.0.1", "171.25.193.20"]
    addresses = pack_all([*listed, *packaged_ones])
    geolocator = EmbeddedGeolocator(tmp_path, live=live(service, tmp_path))
    assert geolocator.regions(addresses)["region"].to_pylist()[:7] == [
        *(
            "AWS/us-east-2",
            "GCP/us-central1",
            "GitHub",
            "Azure/norwayeast",
            "Azure/norwayeast",
            "Azure",
            "AWS/us-west-2",
        )
    ]
    others = geolocator.regions(addresses)["region"].to_pylist()[7:]
    assert not {"AWS/us-east-2", "GCP/us-central1", "GitHub"} & set(others)
    assert others[3:] == ["Hetzner", "VPN"]
    assert [each.name for each in geolocator.attribution][-4:] == [
        *("Ranges of AWS", "Ranges of GCP", "Ranges of GitHub", "Ranges of Azure")
    ]
    assert geolocator.attribution[-1].data_date == "2023-11-14"


def test_the_data_version_follows_the_lists(service: Service, tmp_path: Path) -> None:
    clock = Clock()
    first = live(service, tmp_path, clock)
    version = EmbeddedGeolocator(live=first).data_version
    assert version != EmbeddedGeolocator().data_version
    clock.now += 2 * DAY
    assert EmbeddedGeolocator(live=live(service, tmp_path, clock)).data_version == version
    changed = [first.lists[0]._replace(ranges=[("9.9.9.0/24", "us-east-1")]), *first.lists[1:]]
    assert cloud_ranges.data_version(changed) != cloud_ranges.data_version(first.lists)


def test_what_was_made_of_older_lists_is_removed(service: Service, tmp_path: Path, no_packages: None) -> None:
    packaged = tmp_path / "cloud-ranges-packaged.parquet"
    packaged.write_text("stays")
    lists = live(service, tmp_path).lists
    for changed in (lists, lists[1:]):
        for _ in range(2):
            cloud_ranges.load(tmp_path, changed)
        made = sorted(path.name for path in tmp_path.glob("*.parquet"))
        assert made == [f"cloud-ranges-live-{cloud_ranges.data_version(changed)}.parquet", packaged.name]


def test_nothing_is_fetched_before_the_first_question(service: Service, tmp_path: Path) -> None:
    asking = live(service, tmp_path)
    EmbeddedGeolocator(tmp_path, live=asking)
    assert service.asked == []
