"""The pages: which there are, what each is given, and how figures become words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from s3logx_assets.adapters import world_outline
from s3logx_assets.adapters.geolocation import Attribution
from s3logx_assets.core.charts import HEIGHT, WIDTH, BarChart, bar_chart, bytes_text
from s3logx_assets.core.privacy.released import Visible
from s3logx_assets.core.public_tables import Published
from s3logx_assets.core.scope_report import Listing, Period, Periods, ScopeReport, Usage, usual_unit
from s3logx_assets.core.scopes import ARCHIVE, UNASSOCIATED, dataset_of
from s3logx_assets.core.world_map import HEIGHT as MAP_HEIGHT
from s3logx_assets.core.world_map import WIDTH as MAP_WIDTH
from s3logx_assets.core.world_map import Circle, circles

# How much of a scope a page shows; the tables beside it have everything.
ARCHIVE_DAYS, ARCHIVE_WEEKS, DATASET_DAYS, DATASET_WEEKS = 366, 157, 92, 105
LISTED = 100
_TOP = 20  # datasets on the overview
_CIRCLES = 400
_STATIC = ("report.css", "report.js")
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


@dataclass(frozen=True)
class Facts:
    """What all pages say alike. `cutoff` is the last event date that counts; `site_url` is empty where nobody knows it.
    `attributions` are owed a line each; their links are empty or start with https://. `places` are longitude and latitude by region label. Under policy `strict`, `people` is how many are behind every figure, `period`
    what a release is made after, and `visible` what is told in full detail; else they are empty."""

    title: str
    cutoff: date
    threshold: int
    rounding: int
    attributions: Sequence[Attribution]
    licence: str
    licence_url: str
    site_url: str
    places: Mapping[str, tuple[float, float]]
    people: int = 0
    period: str = ""
    visible: Sequence[Visible] = ()


class DatasetLine(NamedTuple):
    """A dataset in a list of datasets, with its published totals."""

    scope: str
    totals: Published


class View(NamedTuple):
    """One chart of a figure: what it measures, in which periods, whether added up, and its geometry."""

    measure: str
    unit: str
    chart: BarChart
    words: str


_MEASURES = {"bytes": "Data sent", "downloads": "Downloads", "requests": "Requests"}


class Site:
    """Renders the pages of one release. Raises ValueError for an attribution whose link is not https."""

    def __init__(self, facts: Facts) -> None:
        for attribution in facts.attributions:
            if attribution.url and not attribution.url.startswith("https://"):
                raise ValueError("the link of an attribution starts with https://")
        self._facts = facts
        below = facts.threshold
        self._below = Markup(f'<span class="masked" title="fewer than {below}">&lt;{below}</span>')
        # The templates are read from the package; nothing of a release is ever a template.
        self._env = Environment(
            loader=PackageLoader("s3logx_assets.site"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        self._env.filters |= {
            "size": bytes_text, "number": number, "day": day_text, "count": self._count, "period": period_text,
            "name": display_name, "href": href, "masked": self._masked, "cell": self._cell,
            "size_cell": size_cell, "row": self._row, "percent": percent,
        }  # fmt: skip
        self._env.globals |= {
            "facts": facts, "measures": _MEASURES, "archive_scope": ARCHIVE, "unassociated": UNASSOCIATED,
            "plot_width": WIDTH, "plot_height": HEIGHT, "map_width": MAP_WIDTH, "map_height": MAP_HEIGHT,
        }  # fmt: skip

    def static_files(self) -> dict[str, bytes]:
        """What the pages share: style, script, and the outline of the world."""
        folder = files("s3logx_assets.site").joinpath("static")
        shared = {f"assets/{name}": folder.joinpath(name).read_bytes() for name in _STATIC}
        shared["assets/world.svg"] = self._render(
            "world.svg", land=world_outline.land(), borders=world_outline.borders()
        )
        return shared

    def overview(self, archive: ScopeReport, datasets: Sequence[DatasetLine], json_ld: str) -> dict[str, bytes]:
        """The page of the archive, and that of all datasets. `json_ld` is safe inside a script element."""
        by_size = sorted(datasets, key=lambda line: (-_size(line), line.scope))
        page = self._scope_page(
            "index.html",
            archive,
            "",
            json_ld,
            datasets=by_size[:_TOP],
            dataset_count=len(by_size),
            sentence=sentence(archive),
        )
        everything = self._render(
            "datasets.html", root="", datasets=by_size, largest=max(map(_size, by_size), default=1)
        )
        return {"index.html": page, "datasets.html": everything}

    def dataset(self, report: ScopeReport, json_ld: str) -> bytes:
        """The page of a dataset, `summaries/<scope>/index.html`."""
        return self._scope_page("dataset.html", report, "../../", json_ld, sentence=sentence(report))

    def _scope_page(self, template: str, report: ScopeReport, root: str, json_ld: str, **more: object) -> bytes:
        return self._render(
            template, root=root, report=report, views=self._views(report), usual=usual_unit(report.first, report.last),
            dots=self._dots(report.places), json_ld=Markup(json_ld), **more,
        )  # fmt: skip

    def _views(self, report: ScopeReport) -> list[View]:
        shown: list[tuple[str, Periods]] = [*report.over_time.items(), ("total", report.cumulative)]
        return [self._view(measure, name, periods) for name, periods in shown for measure in _MEASURES]

    def _view(self, measure: str, name: str, periods: Periods) -> View:
        values = _values(measure, periods)
        chart = bar_chart(periods.starts, values, self._facts.threshold, size=measure == "bytes")
        most = max((value for value in values if value is not None), default=0)
        per = f"up to the end of each {periods.unit}" if name == "total" else f"per {periods.unit}"
        highest = bytes_text(most) if measure == "bytes" else self._count(most or None)
        # A count below the threshold has a bar too.
        bars = f"the highest bar is {highest}" if any(value != 0 for value in values) else "there is no bar"
        ends = [
            f"{'the ' if periods.unit == 'week' else ''}{period_text(periods.starts[at], periods.unit)}"
            for at in (0, -1)
        ]
        words = f"{_MEASURES[measure]} {per}, from {ends[0]} to {ends[1]}; {bars}."
        return View(measure, name, chart, words)

    def _dots(self, places: Listing) -> list[tuple[Circle, Usage]]:
        at = [self._facts.places.get(usage.name) for usage in places.shown]
        drawn = circles(at[:_CIRCLES], [usage.bytes_sent for usage in places.shown[:_CIRCLES]])
        return [(circle, places.shown[circle.index]) for circle in drawn]

    def _count(self, count: int | str | None) -> str:
        """A published count for people."""
        if isinstance(count, int):
            return number(count)
        return f"<{self._facts.threshold}"

    # A release has a million cells, all of figures: they are written here, since templates take several times as long.

    def _masked(self, count: int | str | None) -> Markup:
        """A published count; one below the threshold looks like what it is."""
        if isinstance(count, int):
            return Markup(f"{count:,}")
        return self._below

    def _cell(self, count: int | str | None) -> Markup:
        """A cell with a count. Without a figure it sorts just below the threshold."""
        value = count if isinstance(count, int) else self._facts.threshold - 1
        return Markup(f'<td data-v="{value}">{self._masked(count)}</td>')

    def _row(self, period: Period, unit: str) -> Markup:
        """The row of a period in the table beside its chart."""
        return Markup(
            f'<tr data-i="{period.place}"><th scope="row">{period_text(period.start, unit)}</th>'
            f"<td>{bytes_text(period.bytes_sent)}</td><td>{self._masked(period.requests)}</td>"
            f"<td>{self._masked(period.downloads)}</td></tr>"
        )

    def _render(self, template: str, **values: object) -> bytes:
        return self._env.get_template(template).render(values).encode()


def _size(line: DatasetLine) -> int:
    size = line.totals["total_bytes_sent"]
    assert isinstance(size, int), "bytes are never masked"
    return size


def _values(measure: str, periods: Periods) -> list[int | None]:
    values: list[int | None] = [0] * len(periods.starts)
    for period in periods.filled:
        values[period.place] = _value(measure, period)
    return values


def _value(measure: str, period: Period) -> int | None:
    if measure == "bytes":
        return period.bytes_sent
    return period.downloads if measure == "downloads" else period.requests


def sentence(report: ScopeReport) -> str:
    """The totals in words."""
    totals = report.totals
    size = totals["total_bytes_sent"]
    assert isinstance(size, int), "bytes are never masked"
    countries = totals["number_of_unique_countries"]
    requesters = totals["number_of_requesters"]
    if report.strict:
        who = f"at least {requesters:,} requesters" if requesters else "programs within the storage service"
        many, downloads = f"{totals['total_number_of_requests']:,}", f"{totals['total_number_of_downloads']:,}"
    else:
        who = f"{_about(requesters)} requesters"
        many, downloads = _about(totals["total_number_of_requests"]), _about(totals["total_number_of_downloads"])
    where = f" in {countries} {'country' if countries == 1 else 'countries'}" if countries else ""
    return (
        f"From {day_text(report.first)} to {day_text(report.last)}, {who}{where} were sent {bytes_text(size)} in {many} "
        f"requests, {downloads} of them downloads."
    )


def _about(count: int | str) -> str:
    return f"about {number(count)}" if isinstance(count, int) else f"fewer than {count.removeprefix('<')}"


def size_cell(size: int, largest: int) -> Markup:
    """A cell with bytes, and a bar for their share of the largest."""
    share = 100 * size / largest if largest else 0
    return Markup(
        f'<td class="size" data-v="{size}"><span class="share" style="--share:{share:.2f}%"></span>'
        f'<span title="{size:,} bytes">{bytes_text(size)}</span></td>'
    )


def number(count: int) -> str:
    """12,345."""
    return f"{count:,}"


def percent(share: float) -> str:
    """12 %."""
    return f"{100 * share:.0f} %"


def day_text(day: date) -> str:
    """3 March 2025."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def period_text(start: date, unit: str) -> str:
    """How a period is called: 3 March 2025, week of 3 March 2025, March 2025."""
    if unit == "month":
        return f"{_MONTHS[start.month - 1]} {start.year}"
    return f"week of {day_text(start)}" if unit == "week" else day_text(start)


def display_name(scope: str) -> str:
    """The dataset of a scope, for people."""
    try:
        return dataset_of(scope)
    except ValueError:  # a shortened scope is all that is left of its dataset's name
        return scope


def href(path: str) -> str:
    """A path within the release as a link."""
    return quote(path)
