"""Countries and regions from ipinfo.io, for the addresses that no list of this package decides.

Only `IpinfoGeolocator` sends addresses anywhere: in the body of a POST, never in a URL. Answers are kept, sealed, for their
time to live. Whatever goes wrong with the service, the run goes on: an address without an answer is `undetermined`, which
is not kept. API: https://ipinfo.io/developers/batch (the records that ipinfo.io/batch gives).
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.adapters.geolocation import Attribution, EmbeddedGeolocator, Geocoder, packaged_regions
from s3logx_assets.adapters.http import HttpClient, parsed
from s3logx_assets.adapters.live_ranges import LiveRanges
from s3logx_assets.adapters.lookup_cache import SealedLookupCache
from s3logx_assets.core.addresses import AddressBlock, unpack
from s3logx_assets.core.digests import text_digest
from s3logx_assets.core.errors import ServiceError, ServiceUnavailable
from s3logx_assets.core.region_names import Region, Subdivision, clean, spelling_among
from s3logx_assets.core.region_table import named_subdivisions
from s3logx_assets.core.regions import ANSWERS, UNDETERMINED, UNKNOWN, classify, client_addresses
from s3logx_assets.core.sealing import Sealer

URL = "https://ipinfo.io/batch"
MAX_BATCH = 1000

# Counts up when the same answers would give other regions.
_RULES = "1"
_METHOD = "ipinfo"
# So many addresses are looked up in the cache at once: what is held in memory does not follow the date.
_PORTION = 16 * MAX_BATCH
_COUNTRY = re.compile("[A-Z]{2}")
_LONGEST_NAME = 200


class Place(NamedTuple):
    """What the service says of an address: country (ISO 3166-1 alpha-2) and region, empty where it says nothing."""

    country: str
    region: str


NOWHERE = Place("", "")


def place_of(record: Any) -> Place | None:
    """The place in one record of an answer; None for what is no whole record, such as an error."""
    if not isinstance(record, dict) or "error" in record:
        return None
    if record.get("bogon") is True:
        return NOWHERE
    found = [record.get(name, "") for name in ("country", "region")]
    if not isinstance(record.get("ip"), str) or not all(isinstance(text, str) for text in found):
        return None
    country, region = found[0].strip().upper(), clean(found[1])
    if country in ("", "ZZ"):  # ISO 3166's user-assigned code for "unknown"
        return NOWHERE
    return Place(country, region) if _COUNTRY.fullmatch(country) and len(region) <= _LONGEST_NAME else None


class IpinfoClient:
    """Asks ipinfo.io with an API key."""

    def __init__(self, key: str, client: HttpClient, url: str = URL) -> None:
        self._key, self._client, self._url = key, client, url

    def __repr__(self) -> str:
        return "IpinfoClient()"

    def places(self, addresses: Sequence[str]) -> dict[str, Place]:
        """The places of up to 1,000 addresses; those that the service did not answer are absent. Raises ServiceError,
        and ServiceUnavailable also where it answered none."""

        def read(body: bytes) -> dict[str, Place]:
            answer = parsed(body)
            if not isinstance(answer, dict):
                raise ValueError
            found = {text: place_of(answer.get(text)) for text in addresses}
            places = {text: place for text, place in found.items() if place is not None}
            if not places:
                raise ValueError
            return places

        headers = {"Authorization": f"Bearer {self._key}"}
        return self._client.ask("POST", self._url, read, headers=headers, content=list(addresses))


class IpinfoGeolocator(EmbeddedGeolocator):
    """Countries and regions from ipinfo.io; bogons, clouds, VPNs and coordinates as embedded.

    Addresses that the embedded lists decide are never sent out; of 6to4, NAT64 and Teredo addresses the client's is.
    `sealer` opens the key on the first lookup; `lookup_days` is the answers' time to live in the file below `cache`. An
    answer that has expired stands in while the service is down.
    """

    def __init__(
        self,
        client: IpinfoClient,
        sealer: Callable[[], Sealer],
        cache: Path,
        lookup_days: int,
        geocoder: Geocoder | None = None,
        live: LiveRanges | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(cache, geocoder, live)
        self._client, self._open_sealer = client, sealer
        self._file, self._days, self._clock = cache / "ipinfo.sqlite", lookup_days, clock
        self._spellings: dict[Place, Region] = {}

    @cached_property
    def data_version(self) -> str:
        """Of the data beside the service, and the rules: what the service knows has no version."""
        return text_digest("ipinfo", _RULES, *self._versions())

    @cached_property
    def attribution(self) -> tuple[Attribution, ...]:
        """IPinfo, then as embedded."""
        return (Attribution("IP address data powered by IPinfo", "https://ipinfo.io", "", ""), *super().attribution)

    def regions(self, addresses: AddressBlock) -> pa.Table:
        """See Geolocator. Raises MasterKeyError."""
        known = classify(addresses, [self._clouds.layer])
        open_rows = np.flatnonzero(pc.equal(known["method"], "none").to_numpy())
        if not open_rows.size:
            return known
        clients = np.ascontiguousarray(client_addresses(addresses[open_rows]))
        distinct, place = np.unique(clients.view("V16")[:, 0], return_inverse=True)
        answers = pa.Table.from_pylist(list(self._answers(distinct.view(np.uint8).reshape(-1, 16))), schema=ANSWERS)
        rows = np.arange(len(addresses))
        rows[open_rows] = len(addresses) + place
        return pa.concat_tables([known, answers]).combine_chunks().take(pa.array(rows))

    def _answers(self, clients: AddressBlock) -> Iterator[dict[str, str | None]]:
        """The answer for each of the distinct `clients` (n, 16), as rows of ANSWERS."""
        for start in range(0, len(clients), _PORTION):
            portion = clients[start : start + _PORTION]
            indexes = self._sealer.ip_index(portion).tolist()
            kept = self._lookups.get(indexes)
            places = {index: place for index, lookup in kept.items() if (place := _kept_place(lookup.answer))}
            to_ask = [row for row, index in enumerate(indexes) if index not in places or not kept[index].fresh]
            places |= self._asked([indexes[row] for row in to_ask], portion[to_ask])
            yield from (self._answer(places.get(index)) for index in indexes)

    def _asked(self, indexes: Sequence[int], clients: AddressBlock) -> dict[int, Place]:
        """What the service says of `clients`, by index; each batch is kept as it comes."""
        found: dict[int, Place] = {}
        texts = list(_texts(clients))
        for start in range(0, len(texts), MAX_BATCH):
            batch = slice(start, start + MAX_BATCH)
            index_of = dict(zip(texts[batch], indexes[batch], strict=True))
            try:
                places = self._client.places(list(index_of))
            except (ServiceError, ServiceUnavailable):
                break  # the client has told why
            answers = {index_of[text]: place for text, place in places.items()}
            self._lookups.put(answers)
            found |= answers
        return found

    def _answer(self, place: Place | None) -> dict[str, str | None]:
        if place is None:
            return {"region": UNDETERMINED, "method": "none", "subdivision": None}
        if place == NOWHERE:
            return {"region": UNKNOWN, "method": "none", "subdivision": None}
        if not place.region:
            return {"region": place.country, "method": _METHOD, "subdivision": None}
        region = self._spelt(place)
        return {"region": f"{place.country}/{region.name}", "method": _METHOD, "subdivision": region.code}

    def _spelt(self, place: Place) -> Region:
        """The region as the packaged table spells it, so that it has a coordinate there, worked out once."""
        if place not in self._spellings:
            known, subdivisions = self._packaged_names.get(place.country, ([], []))
            self._spellings[place] = spelling_among(place.region, known, subdivisions)
        return self._spellings[place]

    @cached_property
    def _sealer(self) -> Sealer:
        return self._open_sealer()

    @cached_property
    def _lookups(self) -> SealedLookupCache:
        return SealedLookupCache(self._file, self._days, self._sealer, self._clock)

    @cached_property
    def _packaged_names(self) -> dict[str, tuple[list[str], list[Subdivision]]]:
        """The names and subdivisions of each country's regions in the packaged table."""
        regions = packaged_regions()
        subdivisions = named_subdivisions(regions)
        names: dict[str, list[str]] = {}
        for row in regions.to_pylist():
            if row["name"]:
                names.setdefault(row["country"], []).append(row["name"])
        return {country: (known, subdivisions.get(country, [])) for country, known in names.items()}


def _texts(addresses: AddressBlock) -> Iterator[str]:
    """The addresses (n, 16) as text, as RFC 5952 wants it."""
    return (unpack(address.tobytes()) for address in addresses)


def _kept_place(answer: Any) -> Place | None:
    whole = isinstance(answer, list) and len(answer) == 2 and all(isinstance(text, str) for text in answer)
    return Place(*answer) if whole else None
