"""`python -m s3logx_tests.torture.alone NAME`: one attack in this process, on the build as it is and, with `--breaks`, on each
of its broken ones; a line of JSON for each as it ends. What comes of the lines, and how long it may take, is `lanes`' business.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from s3logx_tests.torture.attack import Attack, Break, Campaign, Toll, intact
from s3logx_tests.torture.attacks import ATTACKS
from s3logx_tests.torture.record import Row


def main(arguments: Sequence[str]) -> int:
    """Makes the attack; 0 whatever came of it."""
    parser = argparse.ArgumentParser(prog="python -m s3logx_tests.torture.alone")
    parser.add_argument("name")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--breaks", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    (attack,) = (attack for attack in ATTACKS if attack.name == chosen.name)
    environment = dict(os.environ)
    for fault in (None, *attack.breaks) if chosen.breaks else (None,):
        # One failure of a broken build is enough to know that it is noticed.
        print(_made(attack, fault, chosen.short or fault is not None, chosen.seed).line, flush=True)
        os.environ.clear()
        os.environ.update(environment)
    return 0


def _made(attack: Attack, fault: Break | None, short: bool, seed: int) -> Row:
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    campaign = Campaign(folder / "work", short, seed, intact if fault is None else fault.apply)
    broken = "" if fault is None else fault.name
    started = time.monotonic()
    try:
        toll, broke_off = attack.run(campaign), ""
    except Exception as error:  # the builds after this one are to be attacked all the same
        traceback.print_exc()
        toll, broke_off = Toll(1, manual=1), type(error).__name__
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Row(attack.name, broken, toll, time.monotonic() - started, short, broke_off)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
