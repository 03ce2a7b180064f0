"""Services that are away, wrong or half there: logs that expire, listings that are empty, a bucket that does not answer.

History must stay, the reason must be said, and once the service is back the next run makes all of it, without help.
"""

import os
import random
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from s3logx_assets.adapters.s3 import Bucket
from s3logx_assets.assets import extract
from s3logx_assets.core.errors import TransientError
from s3logx_assets.look_back import LookBack
from s3logx_tests.platform import DAILY
from s3logx_tests.s3_faults import Fault, FaultProxy, faulty
from s3logx_tests.s3_server import s3_server
from s3logx_tests.torture.archive import FIRST, Archive, closed_before
from s3logx_tests.torture.attack import Attack, Break, Campaign, Toll
from s3logx_tests.torture.leaks import not_sealed


def expired_logs(campaign: Campaign) -> Toll:
    """After a whole run a log file is gone, then all of a date, then all there were: every table and the release stay as
    they are. Then they are back, and one more with them."""
    before = Archive(campaign.folder / "calm").made()
    with_late = Archive(campaign.folder / "after")
    with_late.deliver(FIRST, 9)
    after = with_late.made()

    archive = Archive(campaign.folder / "archive")
    assert archive.run() == 0
    logs, aside = archive.folder / "logs", campaign.folder / "aside"
    shutil.copytree(logs, aside)
    toll = Toll(seen="one file, all of a date, all files, the folder empty; then back, with a late one")
    for gone in _expiries(archive):
        gone()
        silent = archive.run(campaign.sabotage) == 0
        toll += archive.toll(before) + Toll(manual=silent)
    shutil.rmtree(logs)
    aside.rename(logs)
    archive.deliver(FIRST, 9)
    failed = archive.run(campaign.sabotage) != 0
    return toll + archive.toll(closed_before(after, before)) + Toll(manual=failed)


def _expiries(archive: Archive) -> list[Callable[[], None]]:
    logs = archive.folder / "logs"

    def one() -> None:
        archive.log_files()[0].unlink()

    def date() -> None:
        shutil.rmtree(logs / f"{archive.days[1]:%Y/%m/%d}")

    def everything() -> None:
        for path in archive.log_files():
            path.unlink()

    def empty() -> None:
        shutil.rmtree(logs)
        logs.mkdir()

    return [one, date, everything, empty]


def away_for_weeks(campaign: Campaign) -> Toll:
    """Nothing ran since some hour of a day weeks ago, and the logs went on. The sensor of new log files, which looks at a few
    dates, is all that runs then."""
    toll = Toll()
    lengths = (10,) if campaign.short else (8, 9, 15, 30, 60, 85)
    for days in lengths:
        first = datetime.now(UTC).date() - timedelta(days=days)
        terms = {"days": days + 1, "files": 2, "lines": 5, "S3LOGX_FIRST_DATE": first.isoformat()}
        expected = Archive(campaign.folder / f"calm-{days}", **terms).made(("dates",))  # type: ignore[arg-type]
        archive = Archive(campaign.folder / f"{days}", **terms)  # type: ignore[arg-type]
        logs, aside = archive.folder / "logs", archive.folder / "aside"
        (seen, *_) = archive.log_files()
        logs.rename(aside)
        place = logs / seen.relative_to(logs)
        place.parent.mkdir(parents=True)
        shutil.copy(aside / seen.relative_to(logs), place)
        every, archive.days = archive.days, archive.days[:1]
        failed = int(archive.run(steps=("dates",)) != 0)
        archive.days = every
        shutil.rmtree(logs)
        aside.rename(logs)
        failed += archive.run(campaign.sabotage, ("news",)) != 0
        toll += archive.toll(expected, assets=DAILY) + Toll(manual=failed)
        shutil.rmtree(archive.folder)
    return toll + Toll(seen=f"{', '.join(map(str, lengths))} days")


def bucket_out_of_order(campaign: Campaign) -> Toll:
    """Logs and store in buckets that refuse, fail or cut off every request of a kind, for some seconds or for longer than a run:
    it says so or has all of it; the next one has all of it."""
    calm = Archive(campaign.folder / "calm", files=2, lines=15, S3LOGX_LAG_DAYS="0")
    expected = calm.made()
    toll = Toll()
    with s3_server(campaign.folder / "server") as server, faulty(server) as proxy:
        os.environ.update(server.environment())
        server.make_bucket("torture-logs")
        server.make_bucket("torture-store")
        logs = calm.folder / "logs"
        server.put(
            "torture-logs",
            {f"logs/{path.relative_to(logs)}": path.read_bytes() for path in calm.log_files()},
        )
        plans = [(fault, where, method) for fault in _FAULTS for where, method in _REQUESTS]
        chosen = plans[5:6] if campaign.short else random.Random(campaign.seed).sample(plans, 10)
        for number, (fault, where, method) in enumerate(chosen):
            toll += _outage(campaign, calm, proxy, number, (fault, where, method), expected)
    return toll + Toll(seen=f"{toll.tries} of {len(plans)} kinds of trouble")


_FAULTS = (Fault.SLOW_DOWN, Fault.INTERNAL_ERROR, Fault.ACCESS_DENIED, Fault.SKEWED, Fault.RESET, Fault.CUT_BODY)
_OUTAGE = 10.0  # seconds
_REQUESTS = (("torture-logs", "GET"), ("list-type", "GET"), ("torture-store", "PUT"), ("torture-store", "GET"))


def _outage(
    campaign: Campaign, calm: Archive, proxy: FaultProxy, number: int, plan: tuple[Fault, str, str], expected: Any
) -> Toll:
    fault, where, method = plan
    archive = Archive(campaign.folder / f"{number}", files=0)
    archive.canaries = calm.canaries
    archive.environment |= {
        **proxy.upstream.environment(),
        "AWS_ENDPOINT_URL": proxy.server.endpoint,
        "S3LOGX_LOGS": "s3://torture-logs/logs",
        "S3LOGX_STORE": f"s3://torture-store/{number}",
        "S3LOGX_LAG_DAYS": "0",
    }
    proxy.clear()
    proxy.inject(fault, where, method, times=-1)
    # Every other outage is longer than the run; the others end in the middle of it, or before.
    over = threading.Timer(_OUTAGE, proxy.clear)
    if number % 2:
        over.start()
    quick = archive.start(campaign.sabotage, quick_tries)
    succeeded = quick.end() == 0
    over.cancel()
    proxy.clear()
    stored = archive.contents()
    silent = succeeded and stored != expected
    # What a date has is all of it, even if what came after it has failed.
    short = sum((expected[name] - stored[name]).total() for name in stored if name.split()[0] in DAILY)
    failed = archive.start(campaign.sabotage, quick_tries).end() != 0
    toll = archive.toll(expected, quick) + Toll(lost=short, manual=silent + failed)
    shutil.rmtree(archive.folder)
    return toll


def quick_tries() -> None:
    """What is tried again is tried again at once, and not for minutes."""
    import dagster as dg

    from s3logx_assets.adapters import s3

    s3._PAUSE = 0.05
    s3._RETRIES["max_retries"] = 3
    s3._RETRIES["backoff"] = {
        "init_backoff": timedelta(milliseconds=10),
        "max_backoff": timedelta(milliseconds=20),
        "base": 2,
    }
    dg.RetryPolicy.calculate_delay = lambda policy, attempt: 0.01  # type: ignore[method-assign,assignment]


def _shrinks() -> None:
    """A date that lost its files is made again without them."""
    extract._refuse_to_shrink = lambda tools, seen: lambda day, listing: None


def _few_dates() -> None:
    """Only the usual dates are looked at."""
    LookBack.days = lambda self, usual, first: list(usual)  # type: ignore[method-assign]


def _errors_are_ends() -> None:
    """A listing that fails has come to its end."""
    scan, level = Bucket.scan, Bucket.level

    def short(self, *arguments, **options):  # type: ignore[no-untyped-def]
        try:
            yield from scan(self, *arguments, **options)
        except TransientError:
            return

    def shallow(self, *arguments, **options):  # type: ignore[no-untyped-def]
        try:
            return level(self, *arguments, **options)
        except Exception:
            return [], [], False

    Bucket.scan, Bucket.level = short, shallow  # type: ignore[method-assign]
    Bucket._region = lambda self: "us-east-1"  # type: ignore[method-assign]


ATTACKS = (
    Attack("services: logs that expire", expired_logs, (Break("history follows the listing", _shrinks),)),
    Attack(
        "services: nothing runs for weeks", away_for_weeks, (Break("only the usual dates are looked at", _few_dates),)
    ),
    Attack(
        "services: buckets out of order",
        bucket_out_of_order,
        (
            Break("a failed listing is an end", _errors_are_ends),
            Break("addresses are stored as they are", not_sealed),
        ),
        waits=True,
    ),
)
