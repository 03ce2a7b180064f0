"""What a release holds, file by file. The only place where exact figures pass the privacy policy and become public.

The tables that belong together, which periods are closed, and where the files go, do not belong here.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any, TypeVar

import pyarrow as pa

from s3logx_assets.adapters.closed_periods import Period
from s3logx_assets.adapters.geolocation import Attribution
from s3logx_assets.core import public_tables
from s3logx_assets.core.citation import citation_cff, json_ld
from s3logx_assets.core.data_package import SHA256SUMS, About, data_package, sha256sums
from s3logx_assets.core.privacy.attack import POLICY_FILE
from s3logx_assets.core.privacy.released import ReleasedScope, visible
from s3logx_assets.core.public_tables import Published
from s3logx_assets.core.release_changes import changelog_md, changes, changes_json, totals_of
from s3logx_assets.core.scope_report import Policy, ScopeReport, released_report, scope_report
from s3logx_assets.core.scopes import ARCHIVE
from s3logx_assets.core.summaries import ScopeTables, by_type_per_week
from s3logx_assets.resources import Rules
from s3logx_assets.site.pages import (
    ARCHIVE_DAYS,
    ARCHIVE_WEEKS,
    DATASET_DAYS,
    DATASET_WEEKS,
    LISTED,
    DatasetLine,
    Facts,
    Site,
    display_name,
    sentence,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Release:
    """What is released: files by their path, a digest of them all, and what was counted."""

    release_id: str
    digest: str
    files: Mapping[str, bytes]
    datasets: Mapping[str, Published]
    archive: Published
    in_short: str


@dataclass(frozen=True)
class Before:
    """What the latest release before says of itself: its `totals.json`, `changes.json` and `privacy.json`, None where it has
    none."""

    totals: bytes | None = None
    changes: bytes | None = None
    policy: bytes | None = None


@dataclass(frozen=True)
class Shown:
    """A scope as it is shown: its tables by their names, and its report."""

    tables: Mapping[str, bytes]
    report: ScopeReport


def compatible_release(
    scopes: Mapping[str, ScopeTables],
    coordinates: pa.Table,
    cutoff: date,
    sources: Sequence[Attribution],
    rules: Rules,
    before: Before,
) -> Release:
    """The release of exact tables under policy `compatible`, the archive's among them: no scope without a row, no event later
    than `cutoff`. `coordinates`: REGION_COORDINATES, each region once. The release's id and all that it shows are the same for
    the same tables and settings; `before` is only compared with."""
    policy = Policy(rules.settings.threshold, rules.settings.rounding)

    def show(scope: str, exact: ScopeTables) -> Shown:
        report = scope_report(scope, exact, policy, *_limits(scope))
        return Shown(_tables_of(exact, scope != ARCHIVE, rules), report)

    about = _about(rules, sources, cutoff)
    facts = _facts(about, sources, cutoff, policy, coordinates)
    stated = {"policy": "compatible", **policy._asdict()}
    return _release(scopes, show, about, facts, stated, coordinates, before)


def strict_release(
    scopes: Mapping[str, ReleasedScope],
    periods: Sequence[Period],
    coordinates: pa.Table,
    sources: Sequence[Attribution],
    rules: Rules,
    before: Before,
) -> Release:
    """The same under policy `strict`, of what the closed `periods` tell."""
    cutoff, people = periods[-1].until, rules.settings.min_people

    def show(scope: str, released: ReleasedScope) -> Shown:
        return Shown(
            _released_tables(released, scope != ARCHIVE), released_report(scope, released, cutoff, *_limits(scope))
        )

    about = replace(_about(rules, sources, cutoff), threshold=0, people=people)
    facts = _facts(about, sources, cutoff, Policy(0, 1), coordinates)
    facts = replace(facts, people=people, period=rules.settings.release_period, visible=visible(scopes))
    stated = {
        "policy": "strict",
        **asdict(rules.privacy),
        "periods": [{"until": period.until.isoformat(), "digest": period.digest} for period in periods],
    }
    return _release(scopes, show, about, facts, stated, coordinates, before)


def _limits(scope: str) -> tuple[int, int, int]:
    days, weeks = (ARCHIVE_DAYS, ARCHIVE_WEEKS) if scope == ARCHIVE else (DATASET_DAYS, DATASET_WEEKS)
    return days, weeks, LISTED


def _release(
    scopes: Mapping[str, T],
    show: Callable[[str, T], Shown],
    about: About,
    facts: Facts,
    policy: Mapping[str, Any],
    coordinates: pa.Table,
    before: Before,
) -> Release:
    site = Site(facts)
    tables: dict[str, Mapping[str, bytes]] = {}
    pages = site.static_files()
    lines: list[DatasetLine] = []
    for scope, found in scopes.items():
        if scope == ARCHIVE:
            continue
        shown = show(scope, found)
        tables[scope], report = shown.tables, shown.report
        folder, name = f"summaries/{scope}/", display_name(scope)
        data = json_ld(
            name, sentence(report), str(report.first), about, folder, sorted(tables[scope]), part_of=about.title
        )
        pages[f"{folder}index.html"] = site.dataset(report, data)
        lines.append(DatasetLine(scope, report.totals))
    whole = show(ARCHIVE, scopes[ARCHIVE])
    archive = whole.report
    tables = {scope: tables.get(scope, whole.tables) for scope in scopes}
    datasets = {line.scope: line.totals for line in lines}
    shared = {f"summaries/{ARCHIVE}/{name}": content for name, content in tables[ARCHIVE].items()}
    shared["totals.json"] = public_tables.totals_json(datasets)
    shared["archive_totals.json"] = public_tables.archive_totals_json(archive.totals)
    shared["region_coordinates.tsv"] = public_tables.region_coordinates_tsv(coordinates)
    shared[POLICY_FILE] = json.dumps(policy, indent=2, sort_keys=True).encode()
    data = json_ld(about.title, sentence(archive), str(archive.first), about, "", sorted(shared))
    pages.update(site.overview(archive, lines, data))
    files = {f"summaries/{scope}/{name}": content for scope, each in tables.items() for name, content in each.items()}
    files.update(shared | pages)
    digest = _digest(files)
    named = replace(about, release_id=f"{about.until}-{digest[:12]}")
    files.update(_descriptions(named, tables, shared, archive.totals, datasets, before))
    files[SHA256SUMS] = sha256sums(files)
    return Release(named.release_id, digest, files, datasets, archive.totals, sentence(archive))


def _descriptions(
    about: About,
    tables: Mapping[str, Mapping[str, bytes]],
    shared: Mapping[str, bytes],
    archive: Published,
    datasets: Mapping[str, Published],
    before: Before,
) -> dict[str, bytes]:
    """What names the release, and so cannot be a part of what its id is made of."""
    entries = changes(about.release_id, about.until, archive, datasets, totals_of(before.totals), before.changes)
    files = {
        "datapackage.json": data_package("usage", about.title, "", shared, about),
        "CITATION.cff": citation_cff(about),
        "changes.json": changes_json(entries),
        "CHANGELOG.md": changelog_md(about.title, entries),
    }
    for scope in datasets:
        folder, title = f"summaries/{scope}/", f"{about.title}: {display_name(scope)}"
        files[f"{folder}datapackage.json"] = data_package(f"usage-{scope}", title, folder, tables[scope], about)
    return files


def _about(rules: Rules, sources: Sequence[Attribution], cutoff: date) -> About:
    settings = rules.settings
    return About(
        title=f"{settings.archive_name}: usage report" if settings.archive_name else "Usage report",
        archive=settings.archive_name or "The archive",
        licence=settings.licence or "",
        site_url=settings.site_url or "",
        release_id="",
        until=cutoff.isoformat(),
        threshold=settings.threshold,
        sources=[(source.text, source.url) for source in sources],
    )


def _facts(about: About, sources: Sequence[Attribution], cutoff: date, policy: Policy, coordinates: pa.Table) -> Facts:
    names, longitudes, latitudes = (coordinates[name].to_pylist() for name in ("region", "longitude", "latitude"))
    return Facts(
        title=about.title,
        cutoff=cutoff,
        threshold=policy.threshold,
        rounding=policy.rounding,
        attributions=sources,
        licence=about.licence,
        licence_url=about.licence_url,
        site_url=about.site_url,
        places=dict(zip(names, zip(longitudes, latitudes, strict=True), strict=True)),
    )


def _released_tables(released: ReleasedScope, with_assets: bool) -> dict[str, bytes]:
    """A scope's tables as they are told, by their names."""
    shown = {
        "by_day": public_tables.by_day(released.by_day, 0, 1),
        "by_region": public_tables.by_region(released.by_region, 0, 1),
    }
    if with_assets:
        shown["by_asset"] = public_tables.by_asset(released.by_asset, 0, 1)
    files = {"requester_count.tsv": str(released.people).encode()}
    for name, table in shown.items():
        files |= {f"{name}.tsv": table.tsv(), f"{name}.parquet": table.parquet()}
    return files


def _tables_of(exact: ScopeTables, with_assets: bool, rules: Rules) -> dict[str, bytes]:
    """A scope's tables under the policy, by their names."""
    policy = (rules.settings.threshold, rules.settings.rounding)
    shown = {
        "by_day": public_tables.by_day(exact.by_day, *policy),
        "by_region": public_tables.by_region(exact.by_region, *policy),
        "by_asset_type_per_week": public_tables.by_asset_type_per_week(
            by_type_per_week(exact.by_day_and_type, rules.asset_types), rules.settings.threshold
        ),
    }
    if with_assets:
        shown["by_asset"] = public_tables.by_asset(exact.by_asset, *policy)
    files = {"requester_count.tsv": public_tables.requester_count_tsv(exact.requesters.num_rows, *policy)}
    for name, table in shown.items():
        files |= {f"{name}.tsv": table.tsv(), f"{name}.parquet": table.parquet()}
    return files


def _digest(files: Mapping[str, bytes]) -> str:
    """Of all files but the Parquet ones: they hold what the TSV ones hold, and their bytes depend on who writes them."""
    digest = hashlib.sha256()
    for name in sorted(files):
        if not name.endswith(".parquet"):
            digest.update(f"{name}\0{len(files[name])}\0".encode())
            digest.update(files[name])
    return digest.hexdigest()
