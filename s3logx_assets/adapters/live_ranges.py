"""The ranges of AWS, GCP, Azure and GitHub as these publish them today, instead of those that came with a package.

A list is fetched once a day at most, over HTTPS, checked from end to end, and kept; where it cannot be had, or is not what
it should be, the last good copy stands, of whatever age, and without one the packaged ranges do. What becomes of a range
and what comes first where ranges overlap is `cloud_ranges`' business.
"""

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from s3logx_assets.adapters.http import HttpClient, Limits, parsed
from s3logx_assets.adapters.local_files import replacing
from s3logx_assets.core.digests import text_digest
from s3logx_assets.core.errors import ServiceError, ServiceUnavailable
from s3logx_assets.core.regions import V4_FIRST, V4_LAST, ends

_LIMITS = Limits(attempts=2, read_seconds=20, total_seconds=60)
_DAY = 86_400
_REGION = re.compile("[A-Za-z0-9-]{0,60}")
# Nobody has more in one piece. A list with a wider range is a mistake, which would put half the Internet into a cloud.
_LARGEST = {True: 1 << (32 - 8), False: 1 << (128 - 16)}

Range = tuple[str, str]  # a prefix, and the provider's name for its region; empty without one


@dataclass(frozen=True)
class Source:
    """Where a provider's list is, and how it is read. `link`: the list's URL changes, and this finds it on the page
    `url`; the last in the order of text is the newest."""

    provider: str
    url: str
    read: Callable[[Any], Iterator[Range]]
    link: str = ""


class PublishedList(NamedTuple):
    """A provider's ranges, sorted, and when they were fetched (seconds since 1970)."""

    provider: str
    url: str
    ranges: Sequence[Range]
    fetched_at: float

    @property
    def digest(self) -> str:
        """What the ranges are known by."""
        return text_digest(self.provider, *(f"{prefix} {region}" for prefix, region in self.ranges))


def read_aws(value: Any) -> Iterator[Range]:
    """https://docs.aws.amazon.com/vpc/latest/userguide/aws-ip-ranges.html"""
    for entries, prefix in (("prefixes", "ip_prefix"), ("ipv6_prefixes", "ipv6_prefix")):
        for entry in _items(value, entries):
            yield _text(entry, prefix), _text(entry, "region")


def read_gcp(value: Any) -> Iterator[Range]:
    """https://docs.cloud.google.com/vpc/docs/overview: the external ranges of customers' resources, cloud.json."""
    for entry in _items(value, "prefixes"):
        name = "ipv4Prefix" if isinstance(entry, dict) and "ipv4Prefix" in entry else "ipv6Prefix"
        yield _text(entry, name), _text(entry, "scope")


def read_azure(value: Any) -> Iterator[Range]:
    """https://learn.microsoft.com/azure/virtual-network/service-tags-overview"""
    for entry in _items(value, "values"):
        properties = entry.get("properties") if isinstance(entry, dict) else None
        region = _text(properties, "region").lower()
        for prefix in _items(properties, "addressPrefixes"):
            yield prefix, region


def read_github(value: Any) -> Iterator[Range]:
    """https://docs.github.com/rest/meta/meta: every list of ranges. Other lists in it, of keys say, hold none at all."""
    if not isinstance(value, dict):
        raise ValueError
    for entries in value.values():
        if isinstance(entries, list) and any(_is_prefix(entry) for entry in entries):
            yield from ((entry, "") for entry in entries)


SOURCES = (
    Source("AWS", "https://ip-ranges.amazonaws.com/ip-ranges.json", read_aws),
    Source("GCP", "https://www.gstatic.com/ipranges/cloud.json", read_gcp),
    Source("GitHub", "https://api.github.com/meta", read_github),
    Source(
        "Azure",
        "https://www.microsoft.com/en-us/download/details.aspx?id=56519",
        read_azure,
        r"https://download\.microsoft\.com/download/[\w/-]+/ServiceTags_Public_[0-9]{8}\.json",
    ),
)


def _client(provider: str) -> HttpClient:
    return HttpClient(f"the list of {provider}'s ranges", limits=_LIMITS)


class LiveRanges:
    """The lists of `sources`, with their copies in the folder `cache`. `clock`: seconds since 1970."""

    def __init__(
        self,
        cache: Path,
        sources: Sequence[Source] = SOURCES,
        client: Callable[[str], HttpClient] = _client,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder, self._sources, self._client, self._clock = cache / "live-ranges", sources, client, clock

    @cached_property
    def lists(self) -> tuple[PublishedList, ...]:
        """The lists that are to be had, each as it is now or was at last; fetched on the first question."""
        found = (self._list(source) for source in self._sources)
        return tuple(each for each in found if each is not None)

    def _list(self, source: Source) -> PublishedList | None:
        kept = self._kept(source)
        now = self._clock()
        if kept is not None and 0 <= now - kept.fetched_at < _DAY:
            return kept
        try:
            fetched = PublishedList(source.provider, source.url, self._fetched(source), now)
        except (ServiceError, ServiceUnavailable):
            return kept  # the client has told why
        content = json.dumps({"fetched_at": now, "ranges": fetched.ranges}).encode()
        # A copy that cannot be written costs another fetch, nothing else.
        with contextlib.suppress(OSError), replacing(self._path(source)) as stream:
            stream.write(content)
        return fetched

    def _fetched(self, source: Source) -> list[Range]:
        client, url = self._client(source.provider), source.url
        if source.link:
            url = client.ask("GET", url, lambda page: _link(page, source.link), redirects=True)
        return client.ask("GET", url, lambda body: checked(source.read(parsed(body))), redirects=True)

    def _kept(self, source: Source) -> PublishedList | None:
        try:
            copy = json.loads(self._path(source).read_bytes())
            ranges = checked((prefix, region) for prefix, region in copy["ranges"])
            return PublishedList(source.provider, source.url, ranges, float(copy["fetched_at"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None  # absent or damaged

    def _path(self, source: Source) -> Path:
        return self._folder / f"{source.provider}.json"


def checked(ranges: Iterable[Range]) -> list[Range]:
    """The ranges, each once, sorted. Raises ValueError if there are none, or if one is not a range of a sensible size
    in a region with a plain name."""
    distinct: set[Range] = set()
    for prefix, region in ranges:
        if not _is_prefix(prefix) or not _REGION.fullmatch(region):
            raise ValueError("not a range")
        first, last = ends(prefix)
        if last - first >= _LARGEST[V4_FIRST <= first <= V4_LAST]:
            raise ValueError("a range that is too large")
        distinct.add((prefix, region))
    if not distinct:
        raise ValueError("no ranges")
    return sorted(distinct)


def _link(page: bytes, pattern: str) -> str:
    found: list[str] = re.findall(pattern, page.decode("utf-8", "replace"))
    if not found:
        raise ValueError("no link")
    return max(found)


def _is_prefix(value: Any) -> bool:
    try:
        return isinstance(value, str) and "/" in value and ends(value)[0] >= 0
    except (ValueError, OSError):
        return False


def _items(value: Any, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise ValueError(f"no list {name}")
    return found


def _text(value: Any, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, str):
        raise ValueError(f"no text {name}")
    return found
