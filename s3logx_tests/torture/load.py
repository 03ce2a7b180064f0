"""Ten years in one go: 3,650 dates through the commands that a user types, what that leaves Dagster with, how quickly the UI and
the sensors answer over it, and what of it can be pruned.

Every date has two lines, so that what is measured is the platform's own work and not the logs'.
"""

import os
import sqlite3
import subprocess
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

import dagster as dg

from s3logx_assets import pruning
from s3logx_tests.commands import PUBLISH, UPDATE_SCOPES, after, backfill
from s3logx_tests.platform import DAILY, Platform, line
from s3logx_tests.torture.archive import Archive
from s3logx_tests.torture.attack import Attack, Break, Campaign, Toll, intact
from s3logx_tests.torture.inputs import some_files_forgotten
from s3logx_tests.torture.restarts import Ui, ui_over

_PEOPLE = 12  # a date; as many as a release tells of
_PER_YEAR = 365
_BEGAN = "2015-03-01"  # no date after today has a partition
_PRUNE = ["s3logx_assets.pruning", "--older-than", "0"]
# A page of the UI that takes longer to fill is of no use; a sensor that takes a minute is given up by Dagster.
_MOST_SECONDS, _MOST_SECONDS_OF_A_TICK = 10.0, 30.0
# What the UI asks for: the graph, the dates of an asset, its plots, the list of runs.
_QUERIES = {
    "graph": """{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { timestamp runId }
      partitionStats { numMaterialized numMaterializing numPartitions numFailed } } }""",
    "dates": """{ assetNodeOrError(assetKey: {path: ["daily_usage"]}) { ... on AssetNode {
      partitionKeysByDimension { name partitionKeys } assetPartitionStatuses { ... on TimePartitionStatuses {
      ranges { status startKey endKey } } } } } }""",
    "plots": """{ assetOrError(assetKey: {path: ["daily_usage"]}) { ... on Asset { assetMaterializations(limit: 200) {
      partition timestamp metadataEntries { label ... on IntMetadataEntry { intValue } } } } } }""",
    "runs": """{ runsOrError(limit: 30) { ... on Runs { results { id status tags { key value }
      assetSelection { path } } } } }""",
}


def ten_years(campaign: Campaign) -> Toll:
    """All dates of ten years, then the scopes and the release; the last tenth of the dates may not take twice as long as the
    first. Then the UI is asked what it asks, and the sensors look. The last tenth is made again, twice, and Dagster's
    history pruned: nothing is forgotten, and nothing asked for again."""
    days = 40 if campaign.short else 10 * _PER_YEAR
    settings = {
        "S3LOGX_FIRST_DATE": _BEGAN,
        "S3LOGX_LAG_DAYS": "0",
        "S3LOGX_TRAILING_DATES": "0",
        "S3LOGX_RELEASE_PERIOD": "week",
    }
    archive = Archive(campaign.folder / "years", days, 0, 0, **settings)
    logs = archive.folder / "logs"
    logs.mkdir()
    for number, day in enumerate(archive.days):
        text = "".join(
            line(f"ds{number % 9}/f{host}", str(day), host, host=host, request_id=f"{number * _PEOPLE + host:016X}")
            for host in range(1, _PEOPLE + 1)
        )
        (logs / f"{day}-00-00-00-{number:08X}").write_text(text)
    home = archive.folder / "home"
    started = time.monotonic()
    failed = 0
    for command in (backfill(f"{archive.days[0]}...{archive.days[-1]}"), UPDATE_SCOPES, PUBLISH):
        failed += _run(archive, campaign, command)
    seconds = time.monotonic() - started
    counted = archive.store.read("totals", "scope=archive")["total_request_count"].to_pylist() if not failed else [0]
    wanted = _PEOPLE * days
    first, last = _pace(home)
    slower = not campaign.short and last > 2 * first + 0.01  # a tenth of the short form is four dates: no measure
    whole = pruning.size(home)
    slow, told = (0, "") if campaign.short else _asked(archive)
    for _ in range(2):
        failed += _run(archive, campaign, backfill(f"{archive.days[-days // 10]}...{archive.days[-1]}"))
    more = pruning.size(home)
    failed += _run(archive, campaign, _PRUNE)
    less = pruning.size(home)
    forgotten, late, asked_for, looked = _known(archive)
    seen = (
        f"{days:,} dates in {seconds:,.0f} s, {1000 * first:.0f} and at the end {1000 * last:.0f} ms each; history "
        f"{whole / 1e6:,.1f} MB, a tenth made again twice {more / 1e6:,.1f}, pruned {less / 1e6:,.1f}; {told}{looked}"
    )
    lost, doubled = max(0, wanted - counted[0]) + forgotten, max(0, counted[0] - wanted) + asked_for
    return Toll(days, lost, doubled, archive.leaks(), failed + slower + slow + late + (less >= more), seen)


def _asked(archive: Archive) -> tuple[int, str]:
    """How many of the UI's questions take too long to answer, and how long each takes, the best of three."""
    archive.environment["S3LOGX_TRAILING_DATES"] = "7"  # the sensors of this UI are not what is measured
    with ui_over(archive, intact) as ui:
        ui.runs()  # it has started
        times = {name: min(_seconds(ui, query) for _ in range(3)) for name, query in _QUERIES.items()}
    archive.environment["S3LOGX_TRAILING_DATES"] = "0"
    words = ", ".join(f"{name} {1000 * seconds:,.0f}" for name, seconds in times.items())
    return sum(seconds > _MOST_SECONDS for seconds in times.values()), f"UI, in ms: {words}; "


def _seconds(ui: Ui, query: str) -> float:
    started = time.perf_counter()
    ui.ask(query)
    return time.perf_counter() - started


def _known(archive: Archive) -> tuple[int, int, int, str]:
    """What Dagster has forgotten of the dates of each asset, how many ticks of sensors take too long, how many dates or
    scopes they ask for, and in words how long the slowest tick took."""
    asked_for = late = 0
    slowest = 0.0
    with dg.DagsterInstance.from_config(str(archive.folder / "home")) as instance:
        platform = Platform(archive.folder, instance, archive.environment)
        known = [platform.materialized(asset) for asset in DAILY]
        for sensor, ticks in (("new_log_files_sensor", 1 + len(archive.days) // 400), ("stale_scopes_sensor", 1)):
            for _ in range(ticks):
                started = time.perf_counter()
                found = platform.tick(sensor)
                seconds = time.perf_counter() - started
                slowest = max(slowest, seconds)
                late += seconds > _MOST_SECONDS_OF_A_TICK
                asked_for += 0 if isinstance(found, str) else len(found)
    forgotten = sum(len(archive.days) - len(days) for days in known)
    return forgotten, late, asked_for, f"slowest tick {1000 * slowest:,.0f} ms"


def _run(archive: Archive, campaign: Campaign, command: list[str]) -> int:
    """Whether a command failed."""
    environment = {**os.environ, **archive.environment, "DAGSTER_DISABLE_TELEMETRY": "1"}
    words = after(campaign.sabotage, command)
    with (archive.folder / "output-of-commands").open("ab") as output:
        return int(subprocess.run(words, env=environment, stdout=output, stderr=output, check=False).returncode != 0)


def _pace(home: Path) -> tuple[float, float]:
    """Seconds for a date, over the first and over the last tenth of them, by the events of the longest run."""
    times: list[float] = []
    for database in (home / "history" / "runs").glob("*.db"):
        with closing(sqlite3.connect(database)) as connection:
            rows = connection.execute(
                "SELECT timestamp FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND asset_key = ?"
                " ORDER BY id",
                ('["daily_usage"]',),
            ).fetchall()
        found = [datetime.fromisoformat(str(row[0])).timestamp() for row in rows]
        times = max(times, found, key=len)
    tenth = max(1, len(times) // 10)
    if len(times) <= tenth:
        return 0.0, 0.0
    return (times[tenth] - times[0]) / tenth, (times[-1] - times[-1 - tenth]) / tenth


def _everything_pruned() -> None:
    """Pruning sees no asset of which any run has the latest word."""
    dg.DagsterInstance.all_asset_keys = lambda self: []  # type: ignore[method-assign]


ATTACKS = (
    Attack(
        "load: ten years of dates",
        ten_years,
        (
            Break("some files are forgotten", some_files_forgotten),
            Break("every run that has ended can go", _everything_pruned),
        ),
    ),
)
