"""A backfill of sixty dates over two workers, one of which loses its power in the middle; then what a second worker brings,
and where the rest of the time goes.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from unittest import mock

import dagster as dg
import pytest
from dagster._core.events import DagsterEventType as Kind
from dagster._core.storage.tags import BACKFILL_ID_TAG

from s3logx_assets.adapters.s3 import STORE as STORE_ROLE
from s3logx_assets.adapters.s3_files import S3Files
from s3logx_assets.adapters.table_store import TableStore, partition
from s3logx_assets.core.locations import S3Location
from s3logx_assets.resources import build_bucket
from s3logx_tests.distributed.cluster import STORE, VISIBILITY, Cluster, restored, running_cluster
from s3logx_tests.distributed.conftest import DATES, SingleMachine
from s3logx_tests.distributed.distance import far_away
from s3logx_tests.distributed.machines import wait_for
from s3logx_tests.distributed.phases import Moments, moments, runs_of, summary
from s3logx_tests.platform import DAILY
from s3logx_tests.s3_server import S3Server
from s3logx_tests.torture.doors import listening

pytestmark = pytest.mark.timeout(900)

DATES_A_RUN = 10
DISTANCE = 0.05  # seconds to the S3 server and back
MEASURED = DATES[:40]  # four runs, so that one worker has as much to do in each round as two
ELSEWHERE = "restored-store"
_ENDED = ("COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED")
_BACKFILL = 400.0
RESULT = Path(__file__).parents[2] / "build" / "distributed.json"


@pytest.fixture(scope="module")
def cluster(s3: S3Server) -> Iterator[Cluster]:
    """A head and two workers, for all tests of this module, which tell one story in their order."""
    with (
        mock.patch.dict(os.environ, s3.environment()),
        far_away(s3, DISTANCE) as distant,
        running_cluster(distant, DATES[0], DATES_A_RUN) as running,
    ):
        # It would take up the work of the measured backfills.
        running.switch_sensor("stale_scopes_sensor", on=False)
        for name in ("worker-1", "worker-2"):
            running.start_worker(name)
        yield running


@pytest.fixture(scope="module")
def found(single: SingleMachine) -> dict[str, object]:
    """What is measured, test by test, for build/distributed.json."""
    return {
        "dates": len(DATES),
        "dates_a_run": DATES_A_RUN,
        "measured_dates": len(MEASURED),
        "seconds_to_the_s3_server": DISTANCE,
        "cores_of_this_machine": os.cpu_count(),
        "single_machine_seconds_for_all_dates": round(single.seconds, 1),
    }


def test_machines_share_no_folder_and_nothing_listens_for_everybody(cluster: Cluster) -> None:
    machine = cluster.workers["worker-1"]
    assert machine.start(["ls", str(machine.folder.parent)], "sees.log").wait() == 0
    assert machine.wrote("sees.log") == "", "a machine sees the others' folders"
    machine.processes.pop()
    addresses = set(listening(cluster.processes()))
    assert addresses == {"127.0.0.1"}


def test_a_worker_dies_and_nothing_is_lost(cluster: Cluster, single: SingleMachine, found: dict[str, object]) -> None:
    found["killed"] = _kill_a_worker_in_the_middle(cluster)
    _same_tables(_store(STORE), single.store)


def test_what_a_second_worker_brings(
    cluster: Cluster, single: SingleMachine, found: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    (survivor,) = cluster.workers
    cluster.start_worker("worker-3")
    two = _measured(cluster, 2)
    cluster.workers.pop(survivor).shut_down()
    one = _measured(cluster, 1)
    _same_tables(_store(STORE), single.store)
    found |= {
        # Others' work on this machine slows all of it down.
        "load_of_this_machine": round(os.getloadavg()[2], 1),
        "two_workers": two,
        "one_worker": one,
        "speed_up": _ratio(one, two, "seconds"),
        "speed_up_from_first_to_last_step": _ratio(one, two, "seconds_from_first_to_last_step"),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    with capsys.disabled():
        print(f"\n{RESULT.read_text()}")


def test_the_scopes_follow_by_themselves(cluster: Cluster, single: SingleMachine) -> None:
    cluster.switch_sensor("stale_scopes_sensor", on=True)
    _scopes_follow(cluster)
    _same_scopes(_store(STORE), single.store)


def test_a_backup_is_restored_elsewhere(cluster: Cluster, single: SingleMachine, s3: S3Server, tmp_path: Path) -> None:
    cluster.switch_sensor("stale_scopes_sensor", on=False)
    dump = tmp_path / "history.dump"
    cluster.run_services("backup", str(dump))
    assert dump.stat().st_mode & 0o777 == 0o600
    kept = s3.objects(STORE, "s3logx/private/", "s3logx/public/")
    assert kept
    with cluster.instance() as instance:
        before = {asset: instance.get_materialized_partitions(dg.AssetKey(asset)) for asset in (*DAILY, "totals")}

    # Elsewhere: another database, another bucket, the key from where it is kept.
    s3.make_bucket(ELSEWHERE)
    s3.put(ELSEWHERE, kept)
    with restored(cluster, dump, ELSEWHERE) as (environment, instance):
        assert {asset: instance.get_materialized_partitions(dg.AssetKey(asset)) for asset in before} == before
        _same_tables(_store(ELSEWHERE), single.store)
        _same_scopes(_store(ELSEWHERE), single.store)
        assert _check(environment) == (0, [])
        # A key that is not the store's is no key.
        wrong = {**environment, "S3LOGX_KEY": base64.b64encode(bytes(32)).decode()}
        code, failed = _check(wrong)
        assert code == 1
        assert [line.split()[0] for line in failed] == ["key"]
        _services_that_end_start_again(cluster, cluster.root / "restored-services")


def _services_that_end_start_again(cluster: Cluster, folder: Path) -> None:
    """A database that ended on a full disk stayed ended, and with it everything, until somebody noticed."""
    for file, number in (("redis/redis.pid", signal.SIGKILL), ("postgres/postmaster.pid", signal.SIGQUIT)):
        assert cluster.services_are_alive(folder)
        os.kill(int((folder / file).read_text().split()[0]), number)
        wait_for(lambda: not cluster.services_are_alive(folder), f"the end of {file} is noticed")
        cluster.run_services("start", folder=folder)
    assert cluster.services_are_alive(folder)


def _check(environment: dict[str, str]) -> tuple[int, list[str]]:
    """`check`: its exit code, and what failed."""
    answer = subprocess.run(
        [sys.executable, "-m", "s3logx_assets", "check"], env=environment, capture_output=True, text=True, check=False
    )
    return answer.returncode, [line for line in answer.stdout.splitlines() if "FAILED" in line]


def _store(bucket: str) -> TableStore:
    return TableStore(S3Files(build_bucket(S3Location(bucket, "s3logx/"), STORE_ROLE), "private/"))


def _kill_a_worker_in_the_middle(cluster: Cluster) -> dict[str, object]:
    """Launches the backfill of all dates and takes the power from the worker that is in the middle of a run, when others
    have ended and some dates of its own are done. What that cost."""
    launched = time.time()
    backfill = cluster.backfill(DATES)
    victim: list[Moments] = []
    with cluster.instance() as instance:

        def in_the_middle() -> bool:
            """Whether a run has ended, and another one has made a date or more."""
            filters = dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill})
            records = instance.get_run_records(filters)
            statuses = [record.dagster_run.status for record in records]
            assert dg.DagsterRunStatus.FAILURE not in statuses
            if dg.DagsterRunStatus.SUCCESS not in statuses:
                return False
            for record in records:
                if record.dagster_run.status == dg.DagsterRunStatus.STARTED:
                    run_id = record.dagster_run.run_id
                    found = moments(instance, run_id, record.create_timestamp.timestamp())
                    made = instance.get_records_for_run(run_id, of_type=Kind.ASSET_MATERIALIZATION, limit=50).records
                    if found.workers and made and len(made) < 4 * len(DAILY) and Kind.STEP_SUCCESS not in found.at:
                        victim.append(found)
                        return True
            return False

        wait_for(in_the_middle, "a run is in its middle", _BACKFILL)
        run = victim[0]
        cluster.workers[run.workers[0]].lose_power()
        died = time.time()
        del cluster.workers[run.workers[0]]
        wait_for(lambda: cluster.backfill_status(backfill) in _ENDED, "the end of the backfill", _BACKFILL)
        ended = time.time()
        assert cluster.backfill_status(backfill) == "COMPLETED_SUCCESS"
        runs = runs_of(instance, backfill)
        for asset in DAILY:
            assert instance.get_materialized_partitions(dg.AssetKey(asset)) == set(DATES)
        begun = [
            record.event_log_entry.timestamp
            for record in instance.get_records_for_run(run.run_id, of_type=Kind.STEP_START).records
        ]
    assert len(runs) == len(DATES) // DATES_A_RUN, "no run was made twice"
    (again,) = [found for found in runs if found.run_id == run.run_id]
    assert again.workers[0] == run.workers[0] != again.workers[1], "the other worker took the step over"
    # On a machine that is busy with other things a step can take longer than a lost one is waited for.
    slow = [found for found in runs if found.phases()["the step works"] > VISIBILITY]
    assert all(found.starts == 1 for found in runs if found is not again and found not in slow), "others began once"
    assert len(begun) == 2
    waited = max(begun) - died
    assert waited > 0
    return {
        "worker": run.workers[0],
        "seconds": round(ended - launched, 1),
        "seconds_until_the_step_began_again": round(waited, 1),
        "visibility_timeout": VISIBILITY,
        "runs_slower_than_that": len(slow),
        "runs": len(runs),
    }


def _measured(cluster: Cluster, workers: int) -> dict[str, object]:
    """A backfill over the measured dates, undisturbed; its time and where it went."""
    assert len(cluster.workers) == workers
    before = cluster.cpu_seconds()
    launched = time.time()
    backfill = cluster.backfill(MEASURED)
    filters = dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill})
    with cluster.instance() as instance:

        def all_succeeded() -> bool:
            statuses = [record.dagster_run.status for record in instance.get_run_records(filters)]
            assert dg.DagsterRunStatus.FAILURE not in statuses
            return statuses == [dg.DagsterRunStatus.SUCCESS] * (len(MEASURED) // DATES_A_RUN)

        wait_for(all_succeeded, "the end of the runs", _BACKFILL)
        ended = time.time()
        used = {part: round(seconds - before[part], 1) for part, seconds in cluster.cpu_seconds().items()}
        found = summary(runs_of(instance, backfill), launched, ended, workers)
    return {**found, "processor_seconds": used}


def _ratio(one: dict[str, object], two: dict[str, object], name: str) -> float:
    return round(float(str(one[name])) / float(str(two[name])), 2)


def _same_tables(store: TableStore, single: TableStore) -> None:
    """Every private table of every date, row for row."""
    for asset in DAILY:
        for day in DATES:
            assert store.read(asset, partition_of(day)).equals(single.read(asset, partition_of(day))), (asset, day)
    assert sum(single.read("daily_usage", partition_of(day)).num_rows for day in DATES) > len(DATES)


def partition_of(day: str) -> str:
    """A date's partition."""
    return partition(date.fromisoformat(day))


def _scopes_follow(cluster: Cluster) -> None:
    """The sensor has the scopes updated, by a worker."""
    with cluster.instance() as instance:

        def updated() -> bool:
            records = instance.get_run_records(dg.RunsFilter(job_name="update_scopes"))
            statuses = {record.dagster_run.status for record in records}
            assert dg.DagsterRunStatus.FAILURE not in statuses
            return statuses == {dg.DagsterRunStatus.SUCCESS}

        wait_for(updated, "the scopes are updated", 240)


def _same_scopes(store: TableStore, single: TableStore) -> None:
    """The summaries and totals of every scope, row for row."""
    scopes = single.partitions("totals", "scope")
    assert scopes == store.partitions("totals", "scope")
    assert len(scopes) > 5
    for scope in scopes:
        place = f"scope={scope}"
        for asset, parts in {"totals": ("part-0",), "summaries": ("newest_month", "earlier_months")}.items():
            for part in parts:
                ours, theirs = store.read_whole(asset, place, part), single.read_whole(asset, place, part)
                assert (ours is None) == (theirs is None), (asset, scope, part)
                if ours is not None and theirs is not None:
                    assert ours[0].equals(theirs[0]), (asset, scope, part)
