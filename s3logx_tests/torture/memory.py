"""One date that is larger than the memory it may take: all daily steps under a limit, the whole process group together.

A guard kills the group the moment its resident memory is over the limit. Other ways to limit memory are not to be had
everywhere, or count addresses that are reserved and never used.
"""

from datetime import date
from pathlib import Path

import pyarrow.compute as pc

from s3logx_assets.adapters import row_runs
from s3logx_assets.adapters.log_store import LocalLogStore
from s3logx_assets.adapters.table_store import TableStore, partition
from s3logx_assets.assets.extract import KEY, ledger_of
from s3logx_assets.core import extraction
from s3logx_assets.core.ledger import sum_of
from s3logx_tests.bench.data import BenchData
from s3logx_tests.bench.measure import ProcessTree
from s3logx_tests.torture.attack import Attack, Break, Campaign, Toll, intact
from s3logx_tests.torture.child import Child, Job

_LIMIT = 1_000_000_000  # bytes
# The short form is extraction alone: a fifth of the logs, all bounds a sixteenth. It takes 360 MB, most of them the
# interpreter's and the libraries'; with all rows in memory 480 MB.
_SCALE, _SHRUNK = 0.2, 16
_SHORT_LIMIT = 420_000_000
_ALL = 1 << 60


def huge_date(campaign: Campaign) -> Toll:
    """A date of 4 GB through all daily steps in 1 GB."""
    campaign.folder.mkdir()
    logs = BenchData(campaign.folder, _SCALE if campaign.short else 1.0).logs("huge")
    limit = _SHORT_LIMIT if campaign.short else _LIMIT
    (day,) = LocalLogStore(logs).days()
    home = campaign.folder / "home"
    home.mkdir()
    environment = {
        "DAGSTER_HOME": str(home),
        "S3LOGX_LOGS": str(logs),
        "S3LOGX_FIRST_DATE": str(day),
        "S3LOGX_WORKERS": "2",
    }
    steps = ("extraction",) if campaign.short else ("dates",)
    doom = _smaller_bounds if campaign.short else intact
    child = Child(Job(campaign.folder, environment, str(day), str(day), steps, campaign.sabotage, doom))
    peak = guarded(child, limit)
    seen = f"{sum(path.stat().st_size for path in _files(logs)) / 1e9:.1f} GB, peak {peak / 1e6:,.0f} MB"
    if child.end() != 0:
        return Toll(1, manual=1, seen=f"{seen}, over {limit / 1e6:,.0f} MB")
    lost, doubled = _difference(TableStore(home / "s3logx" / "private"), day, logs)
    return Toll(1, lost, doubled, manual=len(child.orphans()), seen=seen)


def guarded(child: Child, limit: int) -> int:
    """The peak of the group's resident memory in bytes; the group is killed when that is over the limit."""
    tree = ProcessTree(child.pid)
    peak = 0
    while not child.wait(0.005):
        peak = max(peak, tree.resident_bytes())
        if peak > limit:
            child.kill()
    return peak


def _difference(store: TableStore, day: date, logs: Path) -> tuple[int, int]:
    """Records, rows and requests that are missing, and that are too many, against the lines of the files."""
    lines = sum(path.read_bytes().count(b"\n") for path in _files(logs))
    counts = sum_of(ledger_of(store, day))
    rows = sum(table.num_rows for table in store.groups(KEY, partition(day), columns=["status"]))
    found = [(lines, counts["records"]), (counts["extracted"], rows)]
    if store.record("daily_usage", partition(day)) is not None:
        requests = store.read("daily_usage", partition(day), columns=["request_count"])["request_count"]
        found.append((rows, pc.sum(requests).as_py()))
    return sum(max(0, a - b) for a, b in found), sum(max(0, b - a) for a, b in found)


def _files(logs: Path) -> list[Path]:
    return [path for path in logs.rglob("*") if path.is_file()]


def _smaller_bounds() -> None:
    if row_runs._KEPT != _ALL:
        row_runs._KEPT //= _SHRUNK
    row_runs._PIECE //= _SHRUNK
    row_runs._MERGED //= _SHRUNK
    extraction.GROUP //= _SHRUNK


def _all_rows_in_memory() -> None:
    row_runs._KEPT = _ALL


ATTACKS = (
    Attack(
        "memory: a date of 4 GB in 1 GB",
        huge_date,
        (Break("the rows of a date all stay in memory", _all_rows_in_memory),),
    ),
)
