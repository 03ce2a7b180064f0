"""Coordinates from opencagedata.com, for regions that no packaged table has.

Asked are labels such as `US/California`, never anything on a person; answers are kept for their time to live. Whatever goes
wrong with the service, the run goes on without its coordinates. Their API takes the key in the query, so no URL is ever
told or logged (see `http`). API: https://opencagedata.com/api
"""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from s3logx_assets.adapters.geolocation import Attribution, Coordinate
from s3logx_assets.adapters.http import HttpClient, parsed
from s3logx_assets.adapters.lookup_cache import LookupCache
from s3logx_assets.core.errors import ServiceError, ServiceUnavailable

URL = "https://api.opencagedata.com/geocode/v1/json"
SOURCE = "opencage"

_LABEL = re.compile("([A-Z]{2})/(.{1,200})")
# What is found when the region is not: whoever asked knows that already, and better.
_TOO_WIDE = ("continent", "country")
_PARTS = ("components", "geometry")

Point = tuple[float, float]  # latitude, longitude


def point_of(answer: Any, country: str) -> Point | None:
    """The point in an answer to a question about a region of `country`; None where the service found no such region.
    Raises ValueError for what is no answer."""
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list):
        raise ValueError
    if not results:
        return None
    components, geometry = (results[0].get(name) if isinstance(results[0], dict) else None for name in _PARTS)
    if not isinstance(components, dict) or not isinstance(geometry, dict):
        raise ValueError
    if components.get("country_code") != country.lower() or components.get("_type") in _TOO_WIDE:
        return None
    return _degrees(geometry.get("lat"), 90), _degrees(geometry.get("lng"), 180)


def _degrees(value: Any, limit: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -limit <= value <= limit:
        raise ValueError
    return round(float(value), 4)


class OpenCage:
    """Locates regions with an API key; `lookup_days` is the answers' time to live in the file below `cache`. An answer
    that has expired stands in while the service is down."""

    data_version = SOURCE
    attribution = (
        Attribution("Geocoding by OpenCage, © OpenStreetMap contributors", "https://opencagedata.com/credits", "", ""),
    )

    def __init__(
        self,
        key: str,
        client: HttpClient,
        cache: Path,
        lookup_days: int,
        url: str = URL,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key, self._client, self._url = key, client, url
        self._lookups: LookupCache[str] = LookupCache(cache / "opencage.sqlite", lookup_days, clock=clock)

    def __repr__(self) -> str:
        return "OpenCage()"

    def locate(self, labels: Sequence[str]) -> dict[str, Coordinate]:
        """Where the labels lie; those that are not `CC/Region name`, or that were not found, are absent."""
        regions = [label for label in labels if _LABEL.fullmatch(label)]
        kept = self._lookups.get(regions) if regions else {}
        points = {label: _kept_point(lookup.answer) for label, lookup in kept.items()}
        for label in regions:
            if label not in kept or not kept[label].fresh:
                try:
                    points[label] = self._asked(label)
                except (ServiceError, ServiceUnavailable):
                    break  # the client has told why
                self._lookups.put({label: points[label] or []})
        return {label: Coordinate(*point, SOURCE) for label, point in points.items() if point is not None}

    def _asked(self, label: str) -> Point | None:
        country, _, region = label.partition("/")
        query = {
            "q": f"{region}, {country}",
            "key": self._key,
            "countrycode": country.lower(),
            "limit": "1",
            "no_annotations": "1",
            "no_record": "1",
        }
        return self._client.ask("GET", self._url, lambda body: point_of(parsed(body), country), query=query)


def _kept_point(answer: Any) -> Point | None:
    return (answer[0], answer[1]) if isinstance(answer, list) and len(answer) == 2 else None
