"""The line about each date of a run."""

from datetime import date, timedelta

from s3logx_assets.core.progress import Progress

DAY = date(2025, 3, 1)


class Clock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_what_was_read_how_fast_and_how_long_it_will_take() -> None:
    clock = Clock()
    progress = Progress(31, clock)
    clock.seconds += 2
    assert progress.done(DAY, 12, 3400, 10_000_000) == "2025-03-01 done, 1 of 31; 12 files, 3,400 lines; 5.0 MB/s"
    clock.seconds += 8
    told = progress.done(DAY + timedelta(days=1), 1, 1, 2_500_000)
    assert told == "2025-03-02 done, 2 of 31; 1 files, 1 lines; 1.2 MB/s; about 2 min left"


def test_a_failed_date_counts_as_time_and_the_last_has_none_left() -> None:
    clock = Clock()
    progress = Progress(3, clock)
    clock.seconds += 20
    progress.failed()
    assert progress.done(DAY) == "2025-03-01 done, 2 of 3; about 10 s left"
    assert progress.done(DAY) == "2025-03-01 done, 3 of 3"


def test_long_runs_are_told_in_hours() -> None:
    clock = Clock()
    progress = Progress(3650, clock)
    clock.seconds += 7
    assert progress.done(DAY) == "2025-03-01 done, 1 of 3650; about 7 h 6 min left"
