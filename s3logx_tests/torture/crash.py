"""Death at any moment: the whole process group killed, and run again."""

import random
import shutil

from s3logx_tests.torture.archive import Archive
from s3logx_tests.torture.attack import Attack, Campaign, Toll


def killed_at_random_moments(campaign: Campaign) -> Toll:
    """SIGKILL for the group at 300 random moments of a run of all assets; then a run that is left alone."""
    calm = Archive(campaign.folder / "calm")
    assert calm.run() == 0
    expected = calm.contents()
    rng = random.Random(campaign.seed)
    toll = Toll()
    for number in range(6 if campaign.short else 300):
        archive = Archive(campaign.folder / f"{number}")
        child = archive.start(campaign.sabotage)
        child.wait(rng.uniform(0, 2.5))
        child.kill()
        child.end()
        manual = archive.run(campaign.sabotage) != 0
        toll += archive.toll(expected, child) + Toll(manual=manual)
        shutil.rmtree(archive.folder)
    return toll


ATTACKS = (Attack("crash: killed at random moments", killed_at_random_moments, ()),)
