"""A disk that does not do what it is told: full, broken, read-only, over its quota; at any step of a run, or for good.

The run must say why, what was there before must stay readable, and a run on a good disk must make all of it again.
"""

import errno
import itertools
import os
import random
import shutil
import subprocess
from functools import partial

from s3logx_assets.adapters import table_store
from s3logx_tests.torture.archive import FIRST, Archive, Contents
from s3logx_tests.torture.attack import Attack, Break, Campaign, Toll
from s3logx_tests.torture.child import Child
from s3logx_tests.torture.crash import (
    GONE_FIRST,
    at_once,
    calm,
    counted,
    in_folder,
    one_of_each,
    with_past,
    written_in_place,
)
from s3logx_tests.torture.steps import Fail, Step

# So many steps fail in the long form: every second or third.
_STEPS = 90
_TROUBLE = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)


def at_every_step(lasting: bool, campaign: Campaign) -> Toll:
    """Each step fails in a run that makes everything anew over a store that has it: with each trouble in turn."""
    with in_folder(campaign) as copy:
        make = with_past(copy)
        expected, found = calm(make)
        steps = [step for step in found if step.kind != "event"]
        some = random.Random(campaign.seed).sample(steps, min(len(steps), _STEPS))
        chosen = one_of_each(steps, campaign) if campaign.short else some
        troubles = dict(zip(chosen, itertools.cycle(_TROUBLE), strict=False))

        def one(step: Step) -> Toll:
            archive = make(f"step-{step}")
            number = troubles[step]
            child = archive.start(campaign.sabotage, Fail(step, number, lasting))
            return _after(archive, child, number, expected, campaign)

        return at_once(one, chosen, f"{len(chosen)} of {len(steps)} steps: {counted(chosen)}")


def _after(archive: Archive, child: Child, number: int, expected: Contents, campaign: Campaign) -> Toll:
    ended = child.end()
    torn = archive.torn(expected)
    unnamed = ended != 0 and os.strerror(number) not in child.output.read_text()
    # What may be done without is no reason to fail; then nothing may be missing.
    failed = ended != 0 and archive.run(campaign.sabotage) != 0
    toll = archive.toll(expected, child) + Toll(lost=torn, manual=unnamed + failed)
    shutil.rmtree(archive.folder)
    return toll


def full_file_system(campaign: Campaign) -> Toll:
    """A real file system of a few hundred kilobytes below the store: it fills up, is given more room, and all is well. The
    same mounted read-only: the old tables are read all the same."""
    expected = Archive(campaign.folder / "calm", S3LOGX_LAG_DAYS="0").made()
    toll = Toll()
    filled = 0
    sizes = (100,) if campaign.short else range(60, 601, 60)
    for size in sizes:
        archive = Archive(campaign.folder / f"{size}k", S3LOGX_LAG_DAYS="0")
        store = archive.folder / "home" / "s3logx"
        store.mkdir(mode=0o700)
        _mount(store, "-t", "tmpfs", "-o", f"size={size}k,mode=700", "none")
        try:
            child = archive.start(campaign.sabotage)
            full = child.end() != 0
            named = not full or os.strerror(errno.ENOSPC) in child.output.read_text()
            filled += full
            damaged = archive.damaged()
            _mount(store, "-o", "remount,size=50m", "none")
            failed = archive.run(campaign.sabotage) != 0
            toll += archive.toll(expected, child) + Toll(lost=damaged, manual=(not named) + failed)
            _mount(store, "-o", "remount,ro", "none")
            archive.deliver(FIRST, 7)
            child = archive.start(campaign.sabotage)
            refused = child.end() != 0 and os.strerror(errno.EROFS) in child.output.read_text()
            toll += archive.toll(expected, child) + Toll(manual=not refused)
        finally:
            subprocess.run(["umount", str(store)], check=True)
    return toll + Toll(
        seen=f"tmpfs of {min(sizes)} to {max(sizes)} kB, {filled} of {len(sizes)} full, then all read-only"
    )


def _mount(place: os.PathLike[str], *options: str) -> None:
    subprocess.run(["mount", *options, os.fspath(place)], check=True)


def _nameless() -> None:
    """A write that failed says so, and not why."""
    table_store._reason = lambda error: "failed"


ATTACKS = (
    Attack(
        "disk: a step fails once",
        partial(at_every_step, False),
        (
            Break("the cause is not named", _nameless),
            Break("tables are written where they are read", written_in_place),
            GONE_FIRST,
        ),
    ),
    Attack(
        "disk: a step fails, and all like it",
        partial(at_every_step, True),
        (Break("the cause is not named", _nameless),),
    ),
    Attack(
        "disk: a full file system",
        full_file_system,
        (Break("tables are written where they are read", written_in_place),),
    ),
)
