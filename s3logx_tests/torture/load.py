"""Ten years in one go: 3,650 dates through the commands that a user types, and what that leaves Dagster with.

Every date has two lines, so that what is measured is the platform's own work and not the logs'.
"""

import os
import sqlite3
import subprocess
import time
from datetime import datetime
from pathlib import Path

from s3logx_tests.commands import PUBLISH, UPDATE_SCOPES, after, backfill
from s3logx_tests.platform import line
from s3logx_tests.torture.archive import Archive
from s3logx_tests.torture.attack import Attack, Break, Campaign, Toll
from s3logx_tests.torture.inputs import some_files_forgotten

_PER_YEAR = 365


def ten_years(campaign: Campaign) -> Toll:
    """All dates of ten years, then the scopes and the release; the last tenth of the dates may not take twice as long as the
    first."""
    days = 110 if campaign.short else 10 * _PER_YEAR
    archive = Archive(campaign.folder / "years", days, 0, 0, S3LOGX_LAG_DAYS="0")
    logs = archive.folder / "logs"
    logs.mkdir()
    for number, day in enumerate(archive.days):
        text = "".join(
            line(f"ds{number % 9}/f{host}", str(day), host, host=host, request_id=f"{number * 2 + host:016X}")
            for host in (1, 2)
        )
        (logs / f"{day}-00-00-00-{number:08X}").write_text(text)
    started = time.monotonic()
    failed = 0
    for command in (backfill(f"{archive.days[0]}...{archive.days[-1]}"), UPDATE_SCOPES, PUBLISH):
        failed += _run(archive, campaign, command)
    seconds = time.monotonic() - started
    counted = archive.store.read("totals", "scope=archive")["total_request_count"].to_pylist() if not failed else [0]
    wanted = 2 * days
    first, last = _pace(archive.folder / "home")
    slower = last > 2 * first + 0.01
    size = sum(path.stat().st_size for path in (archive.folder / "home" / "history").rglob("*") if path.is_file())
    seen = f"{days:,} dates in {seconds:,.0f} s, {1000 * first:.0f} and at the end {1000 * last:.0f} ms each, history {size / 1e6:,.0f} MB"
    return Toll(days, max(0, wanted - counted[0]), max(0, counted[0] - wanted), archive.leaks(), failed + slower, seen)


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
        with sqlite3.connect(database) as connection:
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


ATTACKS = (Attack("load: ten years of dates", ten_years, (Break("some files are forgotten", some_files_forgotten),)),)
