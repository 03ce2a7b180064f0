"""When the Dagster UI calls an asset overdue.

Dagster looks at when an asset was last made, of whatever partition, and not at which dates it has; so the only question that
can be asked is whether there was any news in time. Logs of a bucket in use come every hour, a few hours late, and the
sensors make a date again whenever a file of it comes: an archive whose first or last daily step, or whose totals, saw no
news in S3LOGX_FRESH_DAYS days has lost its logs, or its daemon. Half of that time is a warning. Which dates are missing is
said by `behind`, the checks `completeness` and `completion`, and the partitions themselves.

Logs that get no news any more, such as the samples, would be overdue for ever: S3LOGX_FRESH_DAYS=0, as `make` sets it for
the samples, asks nothing of what hangs on news. What schedules make is asked for in any case: the statistics are daily,
the publication is weekly, and each may miss one turn. The steps in between follow at once or not at all, so one alarm for
one trouble is enough.
"""

from datetime import timedelta

import dagster as dg

_BY_NEWS = ("extracted_logs", "daily_usage", "totals")
_LONGEST = 10_000  # days; datetime knows no end of time
_BY_SCHEDULE = {"statistics": timedelta(days=2), "publication": timedelta(days=14)}


def freshness_policy(asset: str, fresh_days: int) -> dg.FreshnessPolicy | None:
    """When `asset` is overdue; None for never. `fresh_days`: S3LOGX_FRESH_DAYS."""
    if asset in _BY_SCHEDULE:
        return dg.FreshnessPolicy.time_window(fail_window=_BY_SCHEDULE[asset])
    if asset in _BY_NEWS and fresh_days:
        window = timedelta(days=min(fresh_days, _LONGEST))
        return dg.FreshnessPolicy.time_window(fail_window=window, warn_window=window / 2)
    return None
