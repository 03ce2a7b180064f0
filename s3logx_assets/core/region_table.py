"""From the networks of a geolocation database to a compact table: disjoint ranges of regions, and where they lie.

A region is a country and a first-level subdivision of it. What is finer (city, postcode) is dropped, neighbouring
networks of one region become one range, and a region's coordinate is the mean of its networks'. How a database or the
finished table is stored does not belong here.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3logx_assets.core.region_names import Region, Subdivision, clean, one_spelling
from s3logx_assets.core.regions import Layer, RangeTable, answers, country_of

# One row per code, from 1 on. Every country has a row without a name beside those of its regions.
REGIONS = pa.schema(
    [
        pa.field("id", pa.uint16(), nullable=False),
        pa.field("country", pa.string(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("label", pa.string(), nullable=False),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("subdivision", pa.string()),
    ]
)
MAX_REGIONS = np.iinfo(np.uint16).max


class Provenance(NamedTuple):
    """Where a table's data comes from, as its users must be told."""

    source: str
    data_date: str
    licence: str
    attribution: str
    url: str


class PlaceName(NamedTuple):
    """What a database says of a network's place; the subdivision is an ISO 3166-2 code. Empty where it says nothing."""

    country: str
    region: str
    subdivision: str


@dataclass(frozen=True, eq=False)
class Places:
    """The distinct records of a database: `name_of[i]` is a row of `names`; coordinates (p,) in degrees, NaN = none."""

    names: Sequence[PlaceName]
    name_of: NDArray[np.int32]
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks of one address family, disjoint and ascending: first address (n,) uint64 (an IPv4 address, or the
    first 64 bits of an IPv6 address), prefix length (n,) uint8 of at most 32 or 64 bits, row of Places (n,)."""

    starts: NDArray[np.uint64]
    bits: NDArray[np.uint8]
    places: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class RegionTable:
    """Ranges of both families, whose codes are the column `id` of `regions` (schema REGIONS), and their source."""

    v4: RangeTable
    v6: RangeTable
    regions: pa.Table
    provenance: Provenance

    def layer(self) -> Layer:
        """The table as a layer of answers."""
        return Layer(
            self.v4,
            self.v6,
            answers(
                self.regions["label"].to_pylist(),
                ["geolocation"] * self.regions.num_rows,
                self.regions["subdivision"].to_pylist(),
            ),
        )


def named_subdivisions(regions: pa.Table) -> dict[str, list[Subdivision]]:
    """The regions (schema REGIONS) that have a code, by country: names that another database's may be matched with."""
    found = defaultdict(list)
    for row in regions.to_pylist():
        if row["subdivision"]:
            found[row["country"]].append(Subdivision(row["subdivision"], row["name"], (), True, False))
    return found


def build(
    v4: Networks,
    v6: Networks,
    places: Places,
    subdivisions: Mapping[str, Sequence[Subdivision]],
    provenance: Provenance,
) -> RegionTable:
    """The region table of a database. `subdivisions`: by country, the official names that spellings are matched with.

    Raises ValueError if nothing names a country, or if there are more regions than a code can tell apart.
    """
    spelt = _spelt(v4, v6, places, subdivisions)
    rows = sorted({*spelt.values(), *((country, None) for country, _ in spelt.values())} - {("", None)}, key=_label)
    if not 0 < len(rows) <= MAX_REGIONS:
        raise ValueError(f"{len(rows)} regions, not 1 to {MAX_REGIONS}")
    code_of_row = {row: code for code, row in enumerate(rows, start=1)} | {("", None): 0}
    code_of_name = np.array([code_of_row[spelt[name]] for name in places.names], np.uint16)
    country_of_name = np.array([code_of_row[spelt[name][0], None] for name in places.names], np.uint16)

    # Most people share few addresses, so addresses are weighed; IPv6 networks count where there is no IPv4 at all.
    weight = np.zeros(len(places.name_of))
    weight += 1e-9 * np.bincount(v6.places, minlength=len(places.name_of))
    weight += np.bincount(v4.places, 2.0 ** (32 - v4.bits.astype(np.float64)), len(places.name_of))
    code_of_place = code_of_name[places.name_of]
    means = _means(code_of_place, weight, places, len(rows) + 1)
    of_countries = _means(country_of_name[places.name_of], weight, places, len(rows) + 1)
    alone = np.array([False, *(region is None for _, region in rows)])
    latitude, longitude = (np.where(alone, c, m)[1:] for c, m in zip(of_countries, means, strict=True))

    regions = pa.table(
        [
            pa.array(np.arange(1, len(rows) + 1, dtype=np.uint16)),
            pa.array([country for country, _ in rows], pa.string()),
            pa.array([region and region.name for _, region in rows], pa.string()),
            pa.array([_label(row) for row in rows], pa.string()),
            pa.array(latitude, from_pandas=True),
            pa.array(longitude, from_pandas=True),
            pa.array([region and region.code for _, region in rows], pa.string()),
        ],
        schema=REGIONS,
    )
    return RegionTable(
        _collapse(v4, code_of_place, 32, np.uint32), _collapse(v6, code_of_place, 64, np.uint64), regions, provenance
    )


def _label(row: tuple[str, Region | None]) -> str:
    country, region = row
    return f"{country}/{region.name}" if region else country


def _spelt(
    v4: Networks, v6: Networks, places: Places, subdivisions: Mapping[str, Sequence[Subdivision]]
) -> dict[PlaceName, tuple[str, Region | None]]:
    """The country and region of each place name; no country is the empty text."""
    counts = np.zeros(len(places.names), np.int64)
    for networks in (v4, v6):
        counts += np.bincount(places.name_of[networks.places], minlength=len(places.names))
    in_country: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    own: dict[str, set[Subdivision]] = defaultdict(set)
    for name, count in zip(places.names, counts.tolist(), strict=True):
        region = clean(name.region)
        if region:
            in_country[name.country][region] += count
            if name.subdivision:
                own[name.country].add(Subdivision(name.subdivision, region, (), True, False))
    regions = {
        country: one_spelling(found, [*subdivisions.get(country, ()), *sorted(own[country])])
        for country, found in in_country.items()
    }
    return {
        name: (name.country, regions[name.country].get(clean(name.region)) if name.country in regions else None)
        if country_of(name.country)
        else ("", None)
        for name in places.names
    }


def _means(
    code_of_place: NDArray[np.uint16], weight: NDArray[np.float64], places: Places, codes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean latitude and longitude of each code's places, NaN without one. Taken on the sphere, as the direction of
    the sum of unit vectors: a mean of longitudes would put what straddles the antimeridian on its other side."""
    located = np.flatnonzero(~np.isnan(places.latitude) & ~np.isnan(places.longitude) & (weight > 0))
    code, weight = code_of_place[located], weight[located]
    north, east = np.radians(places.latitude[located]), np.radians(places.longitude[located])
    axes = (np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north))
    x, y, z = (np.bincount(code, weight * axis, codes) for axis in axes)
    unknown = np.bincount(code, weight, codes) == 0
    latitude: NDArray[np.float64] = np.degrees(np.arctan2(z, np.hypot(x, y))).round(4)
    longitude: NDArray[np.float64] = np.degrees(np.arctan2(y, x)).round(4)
    latitude[unknown] = longitude[unknown] = np.nan
    return latitude, longitude


def _collapse(networks: Networks, code_of_place: NDArray[np.uint16], width: int, kind: type[Any]) -> RangeTable:
    """Neighbouring networks of one code as one range, and ranges of code 0 between networks."""
    starts, codes = networks.starts, code_of_place[networks.places]
    ends = starts + (np.uint64(1) << (np.uint64(width) - networks.bits.astype(np.uint64)))  # 2**64 wraps to 0
    limit = np.uint64(1 << 32 if width == 32 else 0)
    gap = ends != np.append(starts[1:], limit)
    starts = np.concatenate([np.zeros(1, np.uint64), starts, ends[gap]])
    codes = np.concatenate([np.zeros(1, np.uint16), codes, np.zeros(np.count_nonzero(gap), np.uint16)])
    order = np.argsort(starts, kind="stable")
    starts, codes = starts[order], codes[order]
    if len(starts) > 1 and starts[1] == 0:
        starts, codes = starts[1:], codes[1:]
    changes = np.append(True, codes[1:] != codes[:-1])
    return RangeTable(starts[changes].astype(kind), codes[changes])
