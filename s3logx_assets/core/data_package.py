"""`datapackage.json` and `SHA256SUMS`: what a release's files hold, column by column, for programs.

One package for the archive and one beside each dataset's tables, since a list of all tables would be as long as they are.
The descriptor follows the Data Package standard, https://datapackage.org/standard/data-package/, in the form that
frictionless reads. What is in a table is told in `public_tables`; this is the only place that describes it.
"""

import csv
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any
from urllib.parse import quote

SHA256SUMS = "SHA256SUMS"
_COUNT = "{} below the threshold have no figure, others are rounded"
# Name, type, and what it is; the columns of by_asset_type_per_week depend on settings.
_FIELDS: dict[str, tuple[str, str]] = {
    "date": ("date", "Day of the requests, UTC"),
    "week_start": ("date", "Monday of the week of the requests, UTC"),
    "asset_path": (
        "string",
        "Path of the file within the dataset, as logged; a leading = + - or @ has a quote before it",
    ),
    "region": ("string", "Country and region, cloud region, or why there is none"),
    "bytes_sent": ("integer", "Bytes sent, exact"),
    "number_of_requests": ("integer", "Successful requests; " + _COUNT.format("counts")),
    "number_of_downloads": ("integer", "Requests with status 200; " + _COUNT.format("counts")),
    "latitude": ("number", "Degrees north, WGS 84"),
    "longitude": ("number", "Degrees east, WGS 84"),
}
# The same under policy `strict`.
_STRICT_FIELDS: dict[str, tuple[str, str]] = {
    "date": ("string", "Day of the requests, UTC; or a period, first day/last day, of those that are told for it only"),
    "asset_path": (
        "string",
        "Path of the file within the dataset, as logged, or `(other files)` of a folder; a leading = + - or @ has a quote before it",
    ),
    "region": ("string", "Country and region, or country, cloud region, or why there is none; `other` are all others"),
    "bytes_sent": ("integer", "Bytes sent, right to within a step that its noughts show"),
    "number_of_requests": ("integer", "Successful requests"),
    "number_of_downloads": ("integer", "Requests with status 200"),
}
_TYPE_BYTES = ("integer", "Bytes sent of files of this type, exact")
_HEADER = 65_536  # bytes, more than the names of all columns
_TITLES = {
    "by_day": "Usage by day",
    "by_asset": "Usage by file",
    "by_region": "Usage by region",
    "by_asset_type_per_week": "Bytes sent by kind of file and week",
    "requester_count": "Number of requesters",
    "totals": "Totals of each dataset",
    "archive_totals": "Totals of the archive",
    "region_coordinates": "Where the regions lie",
    "privacy": "The privacy policy",
}


@dataclass(frozen=True)
class About:
    """What a release says of itself everywhere. `licence` is an SPDX id or empty, `site_url` an address without a slash at
    its end or empty, `sources` are names and links (or empty), `until` is the last date that counts, YYYY-MM-DD. `people` is how
    many people are behind every figure under policy `strict`, else 0."""

    title: str
    archive: str
    licence: str
    site_url: str
    release_id: str
    until: str
    threshold: int
    sources: Sequence[tuple[str, str]]
    people: int = 0

    @property
    def what_is_hidden(self) -> str:
        """A sentence on what the policy does."""
        if self.people:
            return f"Every figure is about at least {self.people} requesters; finer ones are put together."
        return f"Counts below {self.threshold} are not told."

    @property
    def licence_url(self) -> str:
        """The licence's text, empty for one that has no entry in the list of SPDX."""
        known = self.licence and not self.licence.startswith("LicenseRef-")
        return f"https://spdx.org/licenses/{self.licence}.html" if known else ""


def data_package(name: str, title: str, folder: str, files: Mapping[str, bytes], about: About) -> bytes:
    """The descriptor that lies in `folder` ("" or ending in a slash) and describes `files` (path from there -> content):
    tables as TSV with a schema, the same as Parquet, JSON."""
    package: dict[str, Any] = {
        "name": _name(name),
        "title": title,
        "description": f"Use of open data, from server access logs, up to and including {about.until} (UTC). "
        f"{about.what_is_hidden}",
        "version": about.release_id,
        "sources": [{"title": text, **({"path": link} if link else {})} for text, link in about.sources],
        "resources": [_resource(path, files[path], about) for path in sorted(files)],
    }
    if about.licence:
        link = {"path": about.licence_url} if about.licence_url else {}
        package["licenses"] = [{"name": about.licence, **link}]
    if about.site_url:
        package["homepage"] = f"{about.site_url}/{quote(folder)}index.html"
    return json.dumps(package, indent=2, ensure_ascii=False).encode()


def package_name(scope: str) -> str:
    """What the package of a dataset is called. It may look like another address than the dataset's name does."""
    return _name(f"usage-{scope}")


def sha256sums(files: Mapping[str, bytes]) -> bytes:
    """One line per file as `sha256sum --check` reads it, by name; odd names are escaped as GNU coreutils does."""
    lines = []
    for name in sorted(files):
        escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        mark = "\\" if escaped != name else ""
        lines.append(f"{mark}{hashlib.sha256(files[name]).hexdigest()}  {escaped}\n")
    return "".join(lines).encode()


def _resource(path: str, content: bytes, about: About) -> dict[str, Any]:
    stem, _, kind = path.rpartition("/")[2].rpartition(".")
    base: dict[str, Any] = {
        "name": _name(path.replace("/", "-").replace(".", "-")),
        "title": _TITLES[stem] + {"tsv": "", "json": "", "parquet": ", as Parquet"}[kind],
        "path": path,
        "bytes": len(content),
        "hash": f"sha256:{hashlib.sha256(content).hexdigest()}",
    }
    if kind == "json":
        return {**base, "type": "json", "format": "json", "mediatype": "application/json"}
    if kind == "parquet" or stem == "requester_count":
        media = "application/vnd.apache.parquet" if kind == "parquet" else "text/plain"
        return {**base, "type": "file", "format": kind, "mediatype": media}
    return {
        **base,
        "type": "table",
        "format": "tsv",
        "mediatype": "text/tab-separated-values",
        "encoding": "utf-8",
        "dialect": {"csv": {"delimiter": "\t"}},
        "schema": _schema(content, about),
    }


def _schema(content: bytes, about: About) -> dict[str, Any]:
    """Of a TSV by its header."""
    header = next(csv.reader(StringIO(content[:_HEADER].decode(errors="replace"), newline=""), delimiter="\t"))
    known = {**_FIELDS, **_STRICT_FIELDS} if about.people else _FIELDS
    described = [(name, known.get(name, _TYPE_BYTES)) for name in header]
    fields = [{"name": name, "type": kind, "description": text} for name, (kind, text) in described]
    missing = [""] if about.people else ["", f"<{about.threshold}"]
    return {"fields": fields, "missingValues": missing, "primaryKey": [described[0][0]]}


def _name(text: str) -> str:
    """A name that the standard allows: lower-case letters, digits, `.`, `_` and `-`."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-.") or "x"
