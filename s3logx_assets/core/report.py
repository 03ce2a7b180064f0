"""The index page of a release: one self-contained HTML file that needs neither script nor network.

It shows published values only, as they stand in the release's tables; nothing exact ever comes in
here. All text is escaped here, so callers pass it as it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from urllib.parse import quote

from s3logx_assets.core.public_tables import Published
from s3logx_assets.core.scopes import ARCHIVE, UNASSOCIATED, dataset_of

_STYLE = """
:root { color-scheme: light dark; --text: #1d2733; --soft: #566370; --line: #d5dbe1;
  --page: #ffffff; --band: #f4f6f8; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e9ee; --soft: #a3aeb9; --line: #39434d;
  --page: #14191f; --band: #1c232b; --link: #7db8f2; } }
body { margin: 0 auto; max-width: 82rem; padding: 1.5rem 1rem 3rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
h1 { line-height: 1.2; margin: 0 0 .25rem; }
h2 { margin: 2.25rem 0 .5rem; }
a { color: var(--link); }
.soft { color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .75rem;
  margin: 1.5rem 0; padding: 0; }
.figures div { background: var(--band); border-radius: .5rem; padding: .75rem 1rem; }
.figures dt { color: var(--soft); font-size: .875rem; }
.figures dd { font-size: 1.375rem; font-variant-numeric: tabular-nums; margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
caption { color: var(--soft); padding-bottom: .5rem; text-align: left; }
th, td { border-bottom: 1px solid var(--line); padding: .375rem .75rem; text-align: right;
  vertical-align: baseline; white-space: nowrap; }
thead th { background: var(--band); }
th:first-child, th:last-child, td:last-child { text-align: left; }
tbody th { font-weight: 600; min-width: 8rem; overflow-wrap: anywhere; white-space: normal; }
td { font-variant-numeric: tabular-nums; }
@media print { body { max-width: none; } .wide { overflow: visible; } }
"""

# Column of the dataset table, and the name of its value among the published totals.
_COLUMNS = {
    "Bytes sent": "total_bytes_sent",
    "Requests": "total_number_of_requests",
    "Downloads": "total_number_of_downloads",
    "Requesters": "number_of_requesters",
    "Regions": "number_of_unique_regions",
    "Countries": "number_of_unique_countries",
}
_ARCHIVE_FILES = ("by_day.tsv", "by_region.tsv", "requester_count.tsv")
_DATASET_FILES = ("by_day.tsv", "by_asset.tsv", "by_region.tsv", "requester_count.tsv")
_RELEASE_FILES = ("totals.json", "archive_totals.json", "region_coordinates.tsv")
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


@dataclass(frozen=True)
class Attribution:
    """A source that the release owes a line to; `url` is empty or starts with https://."""

    text: str
    url: str = ""


def index_html(
    *,
    title: str,
    archive: Published,
    datasets: Mapping[str, Published],
    cutoff: date,
    threshold: int,
    rounding: int,
    attributions: Sequence[Attribution],
    data_licence: str,
) -> str:
    """The page as text, the same for the same arguments.

    `archive` and `datasets` (by scope) are published totals, as they stand in archive_totals.json
    and totals.json. `cutoff` is the last event date that counts. Links are relative to the
    release's folder. Raises ValueError for an attribution whose link is not https.
    """
    heading = escape(title)
    counted = f"Requests up to and including {cutoff.isoformat()} (UTC)."
    rows = "\n".join(_dataset_row(scope, datasets[scope]) for scope in sorted(datasets))
    columns = "".join(f'<th scope="col">{column}</th>' for column in _COLUMNS)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{heading}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{heading}</h1>
<p class="soft">{counted}</p>
</header>
<main>
<section aria-labelledby="archive">
<h2 id="archive">The whole archive</h2>
<dl class="figures">
{_figures(archive)}
</dl>
<p>Tables: {_links(ARCHIVE, _ARCHIVE_FILES)}</p>
</section>
<section aria-labelledby="datasets">
<h2 id="datasets">Datasets</h2>
<div class="wide">
<table>
<caption>{len(datasets):,} datasets, each with its tables</caption>
<thead><tr><th scope="col">Dataset</th>{columns}<th scope="col">Tables</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
</section>
<section aria-labelledby="files">
<h2 id="files">For machines</h2>
<ul>
{_items(_link(name, name) for name in _RELEASE_FILES)}
</ul>
</section>
<section aria-labelledby="counted">
<h2 id="counted">What is counted</h2>
<ul>
{_items(_explanations(threshold, rounding))}
</ul>
</section>
</main>
<footer>
<h2>Sources and licence</h2>
<ul>
{_items(_attribution(attribution) for attribution in attributions)}
<li>{escape(data_licence)}</li>
</ul>
</footer>
</body>
</html>
"""


def _explanations(threshold: int, rounding: int) -> list[str]:
    return [
        "A request is a successful read of an object (status 200 to 299) in the archive's storage "
        "access logs; a download is one with status 200, a whole object asked for at once.",
        "Bytes are those sent, also by downloads that were broken off. They are exact.",
        "A requester is a distinct internet address. A person may have several, and many people may share one.",
        "Days are those of the request, in UTC. Later days than the one above are not yet complete "
        "and left out of every table.",
        f"Counts of requests, downloads and requesters below {threshold} are shown as "
        f"&lt;{threshold}; others are rounded to the nearest {rounding}, after everything has been "
        "added up. Columns therefore do not add up to their totals exactly.",
        "Regions are estimates from the address. Cloud data centres, VPNs and requests from within "
        "the storage service have labels of their own and count as no country, except that "
        "regions of AWS count by their prefix.",
        f"What belongs to no dataset is found under {UNASSOCIATED}.",
    ]


def _figures(archive: Published) -> str:
    return "\n".join(
        f"<div><dt>{column}</dt><dd>{_shown(name, archive[name])}</dd></div>" for column, name in _COLUMNS.items()
    )


def _dataset_row(scope: str, published: Published) -> str:
    cells = "".join(f"<td>{_shown(name, published[name])}</td>" for name in _COLUMNS.values())
    links = _links(scope, _DATASET_FILES)
    return f'<tr><th scope="row">{escape(_display_name(scope))}</th>{cells}<td>{links}</td></tr>'


def _display_name(scope: str) -> str:
    try:
        return dataset_of(scope)
    except ValueError:  # a shortened scope is all that is left of its dataset's name
        return scope


def _shown(name: str, value: int | str) -> str:
    if isinstance(value, str):
        return escape(value)
    if name != "total_bytes_sent":
        return f"{value:,}"
    return f'<span title="{value:,} bytes">{_human_bytes(value)}</span>'


def _human_bytes(count: int) -> str:
    """Decimal units with three significant digits: 6286489 -> 6.29 MB."""
    power = min((len(str(count)) - 1) // 3, len(_UNITS) - 1)
    if power == 0:
        return f"{count:,} {_UNITS[0]}"
    scaled = count / 1000**power
    digits = max(0, 3 - len(str(int(scaled))))
    return f"{scaled:,.{digits}f} {_UNITS[power]}"


def _links(scope: str, names: Iterable[str]) -> str:
    return " · ".join(_link(f"summaries/{scope}/{name}", name.removesuffix(".tsv").replace("_", " ")) for name in names)


def _link(path: str, text: str) -> str:
    return f'<a href="{escape(quote(path))}">{escape(text)}</a>'


def _attribution(attribution: Attribution) -> str:
    if not attribution.url:
        return escape(attribution.text)
    if not attribution.url.startswith("https://"):
        raise ValueError("the link of an attribution starts with https://")
    return f'<a href="{escape(attribution.url)}">{escape(attribution.text)}</a>'


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"<li>{line}</li>" for line in lines)
