"""How a release is named to others: `CITATION.cff` for those who cite it, JSON-LD for search engines.

Formats: Citation File Format 1.2.0 (https://citation-file-format.github.io) and schema.org's Dataset
(https://schema.org/Dataset) in JSON-LD 1.1. What the release holds is told in `data_package`.
"""

import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from s3logx_assets.core.data_package import About

_MEDIA = {"tsv": "text/tab-separated-values", "parquet": "application/vnd.apache.parquet", "json": "application/json"}
_DESCRIPTION = (
    "Counts of requests, downloads, bytes sent and requesters by day, file and region, from the server access logs of the "
    "storage, without anything about a person."
)


def citation_cff(about: About) -> bytes:
    """CITATION.cff. Every text is a double-quoted scalar in JSON's form, which YAML has too."""
    lines = [
        ("cff-version", "1.2.0"),
        ("message", "Please cite this report by its release."),
        ("type", "dataset"),
        ("title", about.title),
        ("version", about.release_id),
        ("date-released", about.until),
        ("abstract", f"{_DESCRIPTION} Up to and including {about.until}."),
    ]
    if about.licence:
        lines.append(("license", about.licence))
    if about.site_url:
        lines.append(("url", about.site_url + "/"))
    text = "".join(f"{name}: {_quoted(value)}\n" for name, value in lines)
    return f"{text}authors:\n  - name: {_quoted(about.archive)}\n".encode()


def json_ld(
    title: str, sentence: str, first: str, about: About, folder: str, files: Sequence[str], part_of: str = ""
) -> str:
    """A Dataset as JSON-LD, safe inside a script element. `first`: the first date, YYYY-MM-DD; `folder`: where the page is,
    "" or ending in a slash; `files`: paths from there; `part_of`: the title of the archive's report on a dataset's page. The
    release is not named, since a page must not change where its figures do not."""
    base = f"{about.site_url}/{quote(folder)}" if about.site_url else ""
    dataset: dict[str, Any] = {
        "@context": "https://schema.org",
        "@type": "Dataset",
        "name": title,
        "description": f"{sentence} {_DESCRIPTION}"[:5000],
        "temporalCoverage": f"{first}/{about.until}",
        "isAccessibleForFree": True,
        "creator": {"@type": "Organization", "name": about.archive},
        "variableMeasured": ["bytes sent", "requests", "downloads", "requesters"],
        "distribution": [
            {
                "@type": "DataDownload",
                "name": path.rpartition("/")[2],
                "encodingFormat": _MEDIA[path.rpartition(".")[2]],
                "contentUrl": base + quote(path),
            }
            for path in files
        ],
    }
    if about.site_url:
        dataset["url"] = f"{base}index.html"
    if about.licence:
        dataset["license"] = about.licence_url or about.licence
    if part_of:
        dataset["isPartOf"] = {"@type": "Dataset", "name": part_of, "description": _DESCRIPTION}
    return _safe_in_html(json.dumps(dataset, ensure_ascii=False))


def _quoted(text: str) -> str:
    """As JSON with all beyond ASCII escaped: no YAML reader sees a line break or a mark in it."""
    return json.dumps(text)


def _safe_in_html(text: str) -> str:
    """Escapes what could end a script element, or be a line break to an old parser; JSON reads it as it was."""
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text)
