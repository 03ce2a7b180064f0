"""Names of log objects: what date a name stands for. Where the objects lie is the log store's business.

Format: `YYYY-MM-DD-hh-mm-ss-<unique>`, as Amazon S3 names its server access log objects; the time is that of
delivery (or, in the event-time layout, the start of the period). The name alone decides the log date.
"""

import re
from datetime import date

# Of the ASCII digits; dates that no calendar has are for `log_date` to refuse.
PATTERN = r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)-(?:[01]\d|2[0-3])-[0-5]\d-[0-5]\d-[A-Za-z0-9]+(?:\.gz)?"
_NAME = re.compile(PATTERN, re.ASCII)

# Logs, or the folders of dates with them, are looked for so many folders deep.
DEEPEST_ROOT = 6


def log_date(name: str) -> date | None:
    """The log date of an object named `name` (the last part of its path), or None if it is not a log's name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        return date(int(match["year"]), int(match["month"]), int(match["day"]))
    except ValueError:
        return None
