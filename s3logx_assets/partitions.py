"""How the assets are partitioned: by log date, by scope, and by snapshot of the
inventory. One place, so that equal means identical."""

from datetime import date

import dagster as dg

SNAPSHOTS = dg.DynamicPartitionsDefinition(name="inventory_snapshot")
SNAPSHOT = "snapshot"
SCOPES = dg.DynamicPartitionsDefinition(name="scope")
SCOPE = "scope"


def log_dates(first: date) -> dg.DailyPartitionsDefinition:
    """One partition per log date (UTC) from `first` to today, today included."""
    return dg.DailyPartitionsDefinition(start_date=first.isoformat(), timezone="UTC", end_offset=1)


def backfill_policy(partitions_per_run: int) -> dg.BackfillPolicy:
    """All partitions in a single run, or so many a run."""
    return dg.BackfillPolicy.multi_run(partitions_per_run) if partitions_per_run else dg.BackfillPolicy.single_run()
