"""The whole story, with the daemon that `make ui` starts, logs and inventory and store in buckets of a real server: a new
manifest becomes a release's figures; a late file becomes news of its date and its scopes, and of nothing else; a broken
manifest is a reason; a power cut in between loses nothing and doubles nothing. It takes some minutes: `make story`.
"""

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorType

from s3logx_assets.adapters.s3 import STORE as STORE_ROLE
from s3logx_assets.adapters.s3_files import S3Files
from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.core.locations import S3Location
from s3logx_assets.resources import build_bucket
from s3logx_assets.run_requests import FIRST
from s3logx_tests.inventories import Row, write_inventory
from s3logx_tests.platform import DAILY, line
from s3logx_tests.s3_server import S3Server

pytestmark = [pytest.mark.story, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
LOGS, INVENTORY, STORE = "story-logs", "story-inventory", "story-store"
CONFIGURATION = f"inventories/{LOGS}/everything/"
DAYS = ("2025-03-01", "2025-03-02", "2025-03-04")
_PATIENCE = 240


class Archive:
    """The buckets, and what a daemon makes of them."""

    def __init__(self, server: S3Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.files: dict[str, bytes] = {}
        self.home = folder / "home"
        self.home.mkdir()
        shutil.copy(ROOT / "deploy/local/dagster.yaml", self.home)
        for bucket in (LOGS, INVENTORY, STORE):
            server.make_bucket(bucket)

    @property
    def environment(self) -> dict[str, str]:
        names = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH")
        return {
            **{name: os.environ[name] for name in names if name in os.environ},
            **self.server.environment(),
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "S3LOGX_LOGS": f"s3://{LOGS}/logs",
            "S3LOGX_FIRST_DATE": "2025-03-01",
            "S3LOGX_INVENTORY": f"s3://{INVENTORY}/{CONFIGURATION}",
            "S3LOGX_STORE": f"s3://{STORE}/s3logx",
            "S3LOGX_KEY": base64.b64encode(bytes(range(32))).decode(),
            "S3LOGX_LAG_DAYS": "0",
        }

    def deliver(self, day: str, name: str, *lines: str) -> None:
        """A log object."""
        key = f"logs/{day.replace('-', '/')}/{day}-{name}"
        self.files[key] = "".join(lines).encode()
        self.server.put(LOGS, {key: self.files[key]})

    def take_inventory(self, snapshot: str, broken: bool = False) -> None:
        """A snapshot of all that was delivered, made now, brought to its bucket as S3 does: data, manifest, checksum."""
        folder = self.folder / snapshot
        rows = [
            Row(key, len(content), hashlib.md5(content).hexdigest(), bucket=LOGS)  # noqa: S324
            for key, content in self.files.items()
        ]
        write_inventory(folder, [rows], snapshot=snapshot)
        manifest = json.loads((folder / snapshot / "manifest.json").read_bytes())
        manifest |= {"sourceBucket": LOGS, "creationTimestamp": str(int(time.time() * 1000))}
        for item in manifest["files"]:
            item["key"] = CONFIGURATION + "data/" + item["key"].rpartition("/")[2]
        content = json.dumps(manifest).encode()
        checksum = hashlib.md5(content if not broken else b"").hexdigest()  # noqa: S324
        data = {f"{CONFIGURATION}data/{path.name}": path.read_bytes() for path in (folder / "data").iterdir()}
        self.server.put(INVENTORY, data)
        self.server.put(INVENTORY, {f"{CONFIGURATION}{snapshot}/manifest.json": content})
        self.server.put(INVENTORY, {f"{CONFIGURATION}{snapshot}/manifest.checksum": checksum.encode()})

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """`make ui`, killed in the end with all its children, as a power cut would."""
        environment = {**self.environment, "PORT": str(_free_port())}
        with (self.folder / "ui.log").open("ab") as log:
            process = subprocess.Popen(
                ["deploy/local/ui.sh", str(Path(sys.executable).parent)],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield
                assert process.poll() is None, "the daemon ended by itself"
            finally:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                _kill_left_over(str(self.home))

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            yield instance

    def made(self) -> Counter[tuple[str, str]]:
        """How often each partition of each asset was made."""
        found: Counter[tuple[str, str]] = Counter()
        with self.instance() as instance:
            for asset in ("log_inventory", *DAILY, "summaries", "totals"):
                cursor = None
                while True:
                    page = instance.fetch_materializations(dg.AssetKey(asset), limit=500, cursor=cursor)
                    found.update((asset, str(record.partition_key)) for record in page.records)
                    cursor = page.cursor
                    if not page.has_more:
                        break
        return found

    def reasons(self, sensor: str) -> list[str]:
        """Why a sensor asked for nothing, lately."""
        with self.instance() as instance:
            (state,) = [
                each
                for each in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
                if each.instigator_name == sensor
            ]
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=20)
        return [tick.skip_reason or "" for tick in ticks]

    def begun_dates(self) -> int:
        """How many runs of dates were begun."""
        with self.instance() as instance:
            runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.SUCCESS]))
        return sum(FIRST in run.tags for run in runs)

    def settled(self) -> bool:
        """Whether nothing runs or waits, and the sensors find nothing to do."""
        with self.instance() as instance:
            busy = instance.get_runs_count(
                dg.RunsFilter(
                    statuses=[
                        dg.DagsterRunStatus.QUEUED,
                        dg.DagsterRunStatus.NOT_STARTED,
                        dg.DagsterRunStatus.STARTING,
                        dg.DagsterRunStatus.STARTED,
                    ]
                )
            )
        return not busy


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _kill_left_over(home: str) -> None:
    """Runs have sessions of their own; a power cut spares none."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if f"DAGSTER_HOME={home}\0".encode() in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
            except (OSError, ProcessLookupError):
                continue


def wait_for(what: Callable[[], bool], words: str) -> None:
    """Waits until something is so, which it must be in time."""
    deadline = time.monotonic() + _PATIENCE
    while not what():
        assert time.monotonic() < deadline, f"in {_PATIENCE} s it did not come to this: {words}"
        time.sleep(1)


def of_dates(made: Counter[tuple[str, str]]) -> dict[str, int]:
    """How often each date went through all daily steps; each step as often as the others."""
    found = {day: {made[asset, day] for asset in DAILY} for asset, day in made if asset in DAILY}
    assert all(len(counts) == 1 for counts in found.values()), found
    return {day: counts.pop() for day, counts in found.items()}


def of_scopes(made: Counter[tuple[str, str]]) -> dict[str, int]:
    found = {scope: made[asset, scope] for asset, scope in made if asset == "summaries"}
    assert found == {scope: made[asset, scope] for asset, scope in made if asset == "totals"}
    return found


def test_the_whole_story(aws: S3Server, tmp_path: Path) -> None:
    archive = Archive(aws, tmp_path)
    for number, day in enumerate(DAYS):
        archive.deliver(day, "05-00-00-AA", *(line(f"ds{number}/a", day, second) for second in range(30)))
        archive.deliver(day, "06-00-00-AB", line("shared/b", day, host=number + 1))
    archive.take_inventory("2025-03-09T01-00Z")

    with archive.daemon():
        scopes = {"ds0", "ds1", "ds2", "shared", "archive"}
        wait_for(lambda: {scope for asset, scope in archive.made() if asset == "totals"} == scopes, "scopes")
        wait_for(archive.settled, "nothing left to do")
        first = archive.made()
        assert of_dates(first) == dict.fromkeys(DAYS, 1)
        assert of_scopes(first) == dict.fromkeys(("ds0", "ds1", "ds2", "shared", "archive"), 1)
        assert first["log_inventory", "2025-03-09T01-00Z"] == 1

        # A broken manifest is a reason, and nothing else.
        archive.take_inventory("2025-03-10T01-00Z", broken=True)
        wait_for(
            lambda: any("does not fit its checksum" in why for why in archive.reasons("inventory_manifest_sensor")),
            "a reason for the broken manifest",
        )
        assert archive.made() == first

    # While nothing runs, a file comes late for an old date, and a new snapshot has it.
    archive.deliver(DAYS[1], "23-00-00-LATE", line("ds1/late", DAYS[1], 7, host=9))
    archive.take_inventory("2025-03-11T01-00Z")
    begun = archive.begun_dates()
    with archive.daemon():
        wait_for(lambda: archive.begun_dates() > begun, "the run of the late file has begun")
        # The power goes in the middle of it.
    with archive.daemon():
        wait_for(lambda: archive.made()["totals", "archive"] >= 2, "the scopes of the late file")
        wait_for(archive.settled, "nothing left to do")
        time.sleep(70)  # two ticks of every sensor: what would be asked for again is asked for by then
        wait_for(archive.settled, "nothing left to do")
        last = archive.made()
    # The power may go between a table and its event, so of the date that was being made the table tells.
    assert {day: last["daily_usage", day] for day in DAYS} == {
        DAYS[0]: 1,
        DAYS[1]: last["daily_usage", DAYS[1]],
        DAYS[2]: 1,
    }
    store = TableStore(S3Files(build_bucket(S3Location(STORE, "s3logx/"), STORE_ROLE), "private/"))
    assert store.read("daily_usage", f"log_date={DAYS[1]}")["request_count"].to_pylist() == [30, 1, 1]
    assert store.read("totals", "scope=archive")["total_request_count"].to_pylist() == [3 * 31 + 1]
    assert of_scopes(last) == {"ds0": 1, "ds1": 2, "ds2": 1, "shared": 1, "archive": 2}
    assert last["log_inventory", "2025-03-11T01-00Z"] == 1
    assert not last["log_inventory", "2025-03-10T01-00Z"]
