"""Services on the network that are away for days: those that say where an address lies, and the lists of clouds' ranges.

No run may stop for them, what is known stands, and once they are back the platform catches up without a hand laid on it,
and asks for nothing twice. The addresses are of documentation; the processes that are attacked take them for routable, or
nobody would be asked about them.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import requests

from s3logx_assets import automation, resources
from s3logx_assets.adapters import cloud_ranges, ipinfo, live_ranges, opencage
from s3logx_assets.adapters.http import HttpClient, Limits, _Failed
from s3logx_assets.adapters.lookup_cache import Lookup, LookupCache
from s3logx_assets.assets import addresses
from s3logx_assets.core import regions
from s3logx_tests.http_service import HANGS_UP, HTML, MUTE, Answer, Asked, Service, json_answer, running_service
from s3logx_tests.torture.archive import Archive
from s3logx_tests.torture.attack import Attack, Break, Campaign, Toll
from s3logx_tests.torture.child import with_own_regions

_KEY = "0123456789abcdefservice"
# How a service is away: silent, hanging up, broken, out of quota, too busy for an hour, another page, no sense, half an answer.
_TROUBLES: dict[str, Answer] = {
    "silent": MUTE,
    "hangs up": HANGS_UP,
    "broken": Answer(500),
    "out of quota": Answer(402),
    "too busy": Answer(429, headers={"Retry-After": "3600"}),
    "another page": HTML,
    "no sense": json_answer([1, 2]),
    "cut off": Answer(200, b'{"prefixes": [{"ip_pre'),
}
# Where a release says that the lists are from.
_LISTS = "https://lists.example.org"
# The path at which places are asked for; and one that no packaged table has.
_GEOCODER, _UNCHARTED = "/geocode", "Atlantis"
_CATCHING_UP = ("asked again", "scopes", "publication")


@dataclass(frozen=True)
class Days:
    """So many days from now, where the services are at `url`, and nobody is waited for long."""

    url: str
    number: int

    def __call__(self) -> None:
        with_own_regions()
        away = timedelta(days=self.number)

        class Later(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                return datetime.now(tz) + away

        def clock() -> float:
            return (datetime.now(UTC) + away).timestamp()

        limits = Limits(attempts=2, connect_seconds=1, read_seconds=0.3, total_seconds=3)

        url = self.url

        class Client(HttpClient):
            def ask(self, method: str, asked: str, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]
                return super().ask(method, asked.replace(_LISTS, url), *arguments, **options)

        def client(service: str, key_setting: str = "", **options: object) -> HttpClient:
            return Client(service, key_setting, limits, sleep=lambda seconds: None)

        # Their own addresses would be looked up; these are of nobody.
        vars(regions)["_NOT_ROUTABLE"] = tuple(each for each in regions._NOT_ROUTABLE if each not in _DOCUMENTATION)
        vars(cloud_ranges)["_cloudip"] = lambda: SimpleNamespace(version="2026-09-01", ranges=[])
        vars(cloud_ranges)["_iporigin"] = lambda: SimpleNamespace(built_at=0)
        vars(cloud_ranges)["_named_by_iporigin"] = lambda table: iter(())
        for module in (addresses, automation):
            vars(module)["datetime"] = Later
        named = vars(resources)
        named["HttpClient"] = client
        named["IpinfoClient"] = functools.partial(ipinfo.IpinfoClient, url=f"{self.url}/batch")
        named["OpenCage"] = functools.partial(opencage.OpenCage, url=f"{self.url}{_GEOCODER}", clock=clock)
        named["IpinfoGeolocator"] = functools.partial(ipinfo.IpinfoGeolocator, clock=clock)
        lists = tuple(
            replace(source, url=f"{_LISTS}/{source.provider}", link="", read=live_ranges.read_aws)
            for source in live_ranges.SOURCES
        )
        named["LiveRanges"] = functools.partial(live_ranges.LiveRanges, sources=lists, client=client, clock=clock)


_DOCUMENTATION = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")


def _as_ipinfo(asked: Asked) -> Answer:
    """A place for each address, by its last character."""
    places = (("US", "California"), ("DE", "Hesse"), ("FR", ""), ("FR", _UNCHARTED))
    found = {}
    for address in asked.content:
        country, region = places[ord(address[-1]) % len(places)]
        found[address] = {"ip": address, "country": country, "region": region}
    return json_answer(found)


@contextmanager
def _asking(campaign: Campaign) -> Iterator[tuple[Service, Callable[..., Archive]]]:
    """The service, and what makes an archive that asks it."""
    with running_service() as service:

        def make(name: str, **settings: str) -> Archive:
            # What was told under `strict` while a service was away stays told; here it is asked whether all else catches up.
            options = {"S3LOGX_LAG_DAYS": "0", "S3LOGX_POLICY": "compatible", "IPINFO_API_KEY": _KEY, **settings}
            archive = Archive(campaign.folder / name, 3, 2, 25, **options)
            archive.canaries.add_secret(_KEY.encode())
            archive.terms = Days(service.url, 0)
            return archive

        yield service, make


def geolocation_away(campaign: Campaign) -> Toll:
    """ipinfo.io is away while all is made and for some nights; then it is back, and the nights after that fill the gaps. Then
    all answers have aged and it is away again: the old answers stand."""
    toll = Toll()
    with _asking(campaign) as (service, make):
        service.answers(_as_ipinfo)
        expected = make("calm", S3LOGX_GEO="ipinfo").made()
        chosen = list(_TROUBLES)[2:3] if campaign.short else list(_TROUBLES)
        for name in chosen:
            trouble = _TROUBLES[name]
            archive = make(name, S3LOGX_GEO="ipinfo")
            service.answers(trouble)
            stopped = int(archive.run(campaign.sabotage) != 0)
            stopped += _night(archive, service, 1, campaign)
            service.answers(_as_ipinfo)
            stopped += sum(_night(archive, service, number, campaign) for number in (2, 3))
            again = _asked_twice(service)
            toll += archive.toll(expected) + Toll(doubled=again, manual=stopped)
            service.answers(trouble)
            stopped = sum(_night(archive, service, 200 + number, campaign) for number in (0, 1))
            toll += replace(archive.toll(expected), tries=0) + Toll(manual=stopped)
    return toll + Toll(seen=", ".join(chosen))


def geocoder_away(campaign: Campaign) -> Toll:
    """opencagedata.com, whose key stands in what it is asked for, is away while all is made and a night long: its regions lie
    where their countries do. It is back when the answers have aged, and fills the gaps. Then these have aged and it is away
    again: the old ones stand."""
    toll = Toll()
    with _asking(campaign) as (service, make):
        asking = {"S3LOGX_GEO": "ipinfo", "OPENCAGE_API_KEY": _GEOCODER_KEY}
        well = _with_geocoder(_PLACE)
        service.answers(well)
        expected = make("calm", **asking).made()
        chosen = list(_TROUBLES)[1:2] if campaign.short else list(_TROUBLES)
        for name in chosen:
            archive = make(name, **asking)
            archive.canaries.add_secret(_GEOCODER_KEY.encode())
            service.answers(_with_geocoder(_TROUBLES[name]))
            stopped = int(archive.run(campaign.sabotage) != 0) + _night(archive, service, 1, campaign)
            unasked = not any(asked.path == _GEOCODER for asked in service.asked)
            service.answers(well)
            stopped += _night(archive, service, 100, campaign)
            again = sum(asked.path == _GEOCODER for asked in service.asked) - 1
            toll += archive.toll(expected) + Toll(doubled=again, manual=stopped + unasked)
            service.answers(_with_geocoder(_TROUBLES[name]))
            stopped = _night(archive, service, 200, campaign)
            toll += replace(archive.toll(expected), tries=0) + Toll(manual=stopped)
    return toll + Toll(seen=", ".join(chosen))


_GEOCODER_KEY = "0123456789abcdefgeocoder"
_PLACE = json_answer(
    {"results": [{"components": {"country_code": "fr", "_type": "state"}, "geometry": {"lat": 47.5, "lng": 2.5}}]}
)


def _with_geocoder(answer: Answer) -> Callable[[Asked], Answer]:
    return lambda asked: answer if asked.path == _GEOCODER else _as_ipinfo(asked)


def _night(archive: Archive, service: Service, number: int, campaign: Campaign) -> int:
    """The night `number` days from now; whether its runs failed."""
    archive.terms = Days(service.url, number)
    return int(archive.run(campaign.sabotage, steps=_CATCHING_UP) != 0)


def _asked_twice(service: Service) -> int:
    """How many addresses a service that answers was asked about more than once."""
    times = Counter(address for asked in service.asked for address in asked.content)
    return sum(count - 1 for count in times.values())


def lists_away(campaign: Campaign) -> Toll:
    """The lists of clouds' ranges are away from the first: what is packaged stands. They come, and are used. They are away
    again when a late file comes, for longer than a list is kept unasked: the last good copies stand. They come with other
    regions, and these are used."""
    toll = Toll()
    with _asking(campaign) as (service, make):
        live = {"S3LOGX_CLOUD_RANGES": "live"}
        old, new = _as_lists("old"), _as_lists("new")
        without = make("without").made()
        service.answers(old)
        with_old = make("with-old", **live)
        made_of_old = with_old.made()
        with_old.deliver(with_old.days[0], 9)
        made_of_old_late = with_old.made()
        service.answers(new)
        with_new = make("with-new", **live)
        with_new.deliver(with_new.days[0], 9)
        made_of_new = with_new.made()
        assert without != made_of_old != made_of_old_late != made_of_new
        chosen = list(_TROUBLES)[3:4] if campaign.short else list(_TROUBLES)
        for name in chosen:
            archive = make(name, **live)
            for day, answer, expected in (
                (0, _TROUBLES[name], without),
                (1, old, made_of_old),
                (30, _TROUBLES[name], made_of_old_late),
                (31, new, made_of_new),
            ):
                if day == 30:
                    archive.deliver(archive.days[0], 9)
                service.answers(answer)
                archive.terms = Days(service.url, day)
                failed = archive.run(campaign.sabotage) != 0
                toll += archive.toll(expected) + Toll(manual=failed)
    return toll + Toll(seen=", ".join(chosen))


def _as_lists(age: str) -> Callable[[Asked], Answer]:
    """A provider's list: a region named by its age for half of a range of documentation, another half each."""
    halves = {"AWS": "192.0.2.0/25", "GCP": "192.0.2.128/25", "GitHub": "198.51.100.0/25", "Azure": "203.0.113.0/25"}

    def answer(asked: Asked) -> Answer:
        prefix = halves[Path(asked.path).name]
        return json_answer({"prefixes": [{"ip_prefix": prefix, "region": f"us-{age}-1"}], "ipv6_prefixes": []})

    return answer


def _never_asked_again() -> None:
    """Lookups that failed are not made again."""
    vars(automation)["dates_to_ask_again"] = lambda records, today, lookup_days, at_most: []


def _taken_for_unknown() -> None:
    """An address for which the service is away counts as one of which it knows nothing."""
    genuine = ipinfo.IpinfoGeolocator._answer
    ipinfo.IpinfoGeolocator._answer = lambda self, place: genuine(self, place or ipinfo.NOWHERE)  # type: ignore[method-assign]


def _asked_told() -> None:
    """Who cannot be asked is told with all that he was to be asked."""
    genuine = HttpClient._attempt

    def attempt(self: HttpClient, request: requests.Request, *arguments: Any) -> Any:
        answer = genuine(self, request, *arguments)
        return answer._replace(text=f"{answer.text}: {request.params}") if isinstance(answer, _Failed) else answer

    setattr(HttpClient, "_attempt", attempt)  # noqa: B010


def _aged_are_gone() -> None:
    """An answer that has aged does not stand in for one that is not to be had."""
    genuine = LookupCache.get

    def get(self: LookupCache[Any], keys: Iterable[Any]) -> dict[Any, Lookup]:
        return {key: lookup for key, lookup in genuine(self, keys).items() if lookup.fresh}

    setattr(LookupCache, "get", get)  # noqa: B010


def _no_copies() -> None:
    """A list that is not to be had now is as good as none."""
    live_ranges.LiveRanges._kept = lambda self, source: None  # type: ignore[method-assign]


ATTACKS = (
    Attack(
        "services: geolocation away for days",
        geolocation_away,
        (
            Break("lookups that failed are not made again", _never_asked_again),
            Break("a service that is away knows nothing", _taken_for_unknown),
        ),
    ),
    Attack(
        "services: geocoder away for days",
        geocoder_away,
        (
            Break("what was asked is told with the trouble", _asked_told),
            Break("answers that have aged do not stand in", _aged_are_gone),
        ),
    ),
    Attack(
        "services: lists of clouds away for days",
        lists_away,
        (Break("a list that is not to be had is as good as none", _no_copies),),
    ),
)
