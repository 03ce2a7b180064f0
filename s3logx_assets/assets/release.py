"""What a release holds, file by file. The only place where exact figures pass the privacy policy and become public.

The tables that belong together, and where the files go, do not belong here.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from s3logx_assets.adapters.geolocation import Attribution
from s3logx_assets.core import public_tables
from s3logx_assets.core.public_tables import Published
from s3logx_assets.core.scope_report import Policy, scope_report
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
)


@dataclass(frozen=True)
class Release:
    """What is released: files by their path, a digest of them all, and what was counted."""

    release_id: str
    digest: str
    files: Mapping[str, bytes]
    datasets: Mapping[str, Published]
    archive: Published


def release_of(
    scopes: Mapping[str, ScopeTables], coordinates: pa.Table, cutoff: date, sources: Sequence[Attribution], rules: Rules
) -> Release:
    """The release of exact tables, the archive's among them: no scope without a row, no event later than `cutoff`.
    `coordinates`: REGION_COORDINATES, each region once. The same for the same arguments."""
    policy = Policy(rules.settings.threshold, rules.settings.rounding)
    site = Site(_facts(rules, sources, cutoff, coordinates))
    files: dict[str, bytes] = site.static_files()
    lines: list[DatasetLine] = []
    for scope, tables in scopes.items():
        files.update(_tables_of(scope, tables, rules))
        if scope != ARCHIVE:
            report = scope_report(scope, tables, policy, DATASET_DAYS, DATASET_WEEKS, LISTED)
            files[f"summaries/{scope}/index.html"] = site.dataset(report, "")
            lines.append(DatasetLine(scope, report.totals))
    archive = scope_report(ARCHIVE, scopes[ARCHIVE], policy, ARCHIVE_DAYS, ARCHIVE_WEEKS, LISTED)
    datasets = {line.scope: line.totals for line in lines}
    files.update(site.overview(archive, lines, ""))
    files["totals.json"] = public_tables.totals_json(datasets)
    files["archive_totals.json"] = public_tables.archive_totals_json(archive.totals)
    files["region_coordinates.tsv"] = public_tables.region_coordinates_tsv(coordinates)
    digest = _digest(files)
    return Release(f"{cutoff}-{digest[:12]}", digest, files, datasets, archive.totals)


def _facts(rules: Rules, sources: Sequence[Attribution], cutoff: date, coordinates: pa.Table) -> Facts:
    names, longitudes, latitudes = (coordinates[name].to_pylist() for name in ("region", "longitude", "latitude"))
    return Facts(
        title="Usage report",
        cutoff=cutoff,
        threshold=rules.settings.threshold,
        rounding=rules.settings.rounding,
        attributions=sources,
        licence="not stated",
        site_url="",
        places=dict(zip(names, zip(longitudes, latitudes, strict=True), strict=True)),
    )


def _tables_of(scope: str, tables: ScopeTables, rules: Rules) -> dict[str, bytes]:
    folder, policy = f"summaries/{scope}", (rules.settings.threshold, rules.settings.rounding)
    weeks = by_type_per_week(tables.by_day_and_type, rules.asset_types)
    files = {
        f"{folder}/by_day.tsv": public_tables.by_day_tsv(tables.by_day, *policy),
        f"{folder}/by_region.tsv": public_tables.by_region_tsv(tables.by_region, *policy),
        f"{folder}/requester_count.tsv": public_tables.requester_count_tsv(tables.requesters.num_rows, *policy),
        f"{folder}/by_asset_type_per_week.tsv": public_tables.by_asset_type_per_week_tsv(weeks),
    }
    if scope != ARCHIVE:
        files[f"{folder}/by_asset.tsv"] = public_tables.by_asset_tsv(tables.by_asset, *policy)
    return files


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode())
        digest.update(files[name])
    return digest.hexdigest()
