"""Builds the region table that ships with the package, from a geolocation database.

    python -m s3logx_assets.adapters.region_table_builder MMDB OUT_FOLDER --source-name "DB-IP City Lite" \\
        --data-date 2026-09-01 --licence "CC BY 4.0" --attribution "IP Geolocation by DB-IP" --url https://db-ip.com \\
        --subdivisions iso3166-2.json

For maintainers, on a new issue of the data; needs `maxminddb` (extra `regions`). ISO 3166-2 codes, which are facts, come
from the JSON file of the PyPI package `iso3166-2` (MIT, release 1.8.4), whose names are compared with at build time and
not kept; names in use that it lacks stand in data/subdivision_names.csv. What the files hold is
`adapters.region_tables`' business, what a region is `core.region_table`'s.
"""

import argparse
import csv
import json
import re
import sys
from collections import defaultdict
from importlib import resources
from pathlib import Path

from s3logx_assets.adapters import region_tables
from s3logx_assets.adapters.mmdb import read_region_table
from s3logx_assets.core.errors import S3logxError, SettingsError
from s3logx_assets.core.region_names import Subdivision
from s3logx_assets.core.region_table import Provenance

# A grouping of provinces that is itself no subdivision in use.
_GROUPING = "geographical unit"
_CITY_TYPES = ("city", "capital", "municipality")
# `localOtherName`: "Moscow City (eng), Москва (rus)"; a comma may stand within the brackets or a quoted name.
_BETWEEN_NAMES = re.compile(r",\s*(?![^()]*\))")
_LANGUAGE = re.compile(r"\s*\([^()]*\)\s*$")


def read_subdivisions(path: Path | None) -> dict[str, list[Subdivision]]:
    """The entries of ISO 3166-2 by country, from the JSON of the package `iso3166-2`; without it, none. Raises
    SettingsError for a file of another form."""
    if path is None:
        return {}
    try:
        countries = json.loads(path.read_text(encoding="utf-8"))
        found = {country: _entries(entries) for country, entries in countries.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise SettingsError(f"--subdivisions: {path} is not the JSON of iso3166-2 ({type(error).__name__})") from None
    names = defaultdict(list)
    with resources.files("s3logx_assets").joinpath("data", "subdivision_names.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            names[row["code"]].append(row["name"])
    for entries in found.values():
        for entry in list(entries):
            entries += [entry._replace(name=name, other_names=()) for name in names.get(entry.code, ())]
    return found


def _entries(entries: dict[str, dict[str, str | None]]) -> list[Subdivision]:
    groupings = {code for code, entry in entries.items() if str(entry["type"]).casefold() == _GROUPING}
    return [
        Subdivision(
            code,
            str(entry["name"]),
            tuple(_LANGUAGE.sub("", name).strip("' ") for name in _BETWEEN_NAMES.split(entry["localOtherName"] or "")),
            entry["parentCode"] is None or entry["parentCode"] in groupings,
            any(word in str(entry["type"]).casefold() for word in _CITY_TYPES),
        )
        for code, entry in entries.items()
        if code not in groupings
    ]


def main(arguments: list[str] | None = None) -> int:
    """Builds the table and prints what it holds. Exit code 1 if the database cannot be read."""
    parser = argparse.ArgumentParser(prog="region_table_builder", description="Builds the packaged region table.")
    parser.add_argument("mmdb", type=Path, help="a city-type database in the MaxMind DB format")
    parser.add_argument("out_folder", type=Path, help="where the Parquet files go")
    parser.add_argument("--source-name", required=True)
    parser.add_argument("--data-date", required=True, help="YYYY-MM-DD")
    parser.add_argument("--licence", default="")
    parser.add_argument("--attribution", default="")
    parser.add_argument("--url", default="")
    parser.add_argument("--subdivisions", type=Path, help="iso3166-2.json of the PyPI package iso3166-2")
    given = parser.parse_args(arguments)
    provenance = Provenance(given.source_name, given.data_date, given.licence, given.attribution, given.url)
    try:
        table = read_region_table(given.mmdb, read_subdivisions(given.subdivisions), provenance)
        region_tables.write(given.out_folder, table, level=19)
    except (S3logxError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    regions = table.regions
    print(
        f"{len(table.v4.starts)} ranges of IPv4, {len(table.v6.starts)} of IPv6, {regions.num_rows} labels, of which "
        f"{regions.num_rows - regions['subdivision'].null_count} have an ISO 3166-2 code and "
        f"{regions.num_rows - regions['latitude'].null_count} a coordinate"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
