"""`python -m s3logx_assets.dead_runs`: ends the runs that ended with the machine, or with the daemon that had launched them.

Dagster's launcher for one machine leaves such a run as started, for good: it holds its place in the queue, and what asked
for it takes it for answered. To be called when no daemon runs over this DAGSTER_HOME, as `deploy/local/ui.sh` does. Runs of
the command line have processes of their own and are left alone.
"""

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES
from dagster._core.storage.tags import GRPC_INFO_TAG, RUN_KEY_TAG


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Marks them as failed and frees the keys that they were asked for by, so that a sensor may ask again; their ids."""
    dead = [
        run
        for run in instance.get_runs(dg.RunsFilter(statuses=[*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.CANCELING]))
        if GRPC_INFO_TAG in run.tags
    ]
    for run in dead:
        if RUN_KEY_TAG in run.tags:
            instance.add_run_tags(run.run_id, {RUN_KEY_TAG: f"ended {run.run_id}"})
        instance.report_run_failed(run, "The run ended with the machine, or with the daemon that had launched it.")
    return [run.run_id for run in dead]


if __name__ == "__main__":
    with dg.DagsterInstance.get() as found:
        for ended in end_dead_runs(found):
            print(f"run {ended} had ended without a word; it is marked as failed")
