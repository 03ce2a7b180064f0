"""`python -m s3logx_tests.torture`: attacks the platform and prints what each attack cost; zeros are what is wanted.

With `--breaks`, each attack is made on its deliberately broken builds too, and must do harm there.
"""

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from s3logx_tests.torture.attack import Attack, Campaign, Toll
from s3logx_tests.torture.attacks import ATTACKS

_COLUMNS = ("attack", "tries", "lost", "doubled", "leaked", "manual steps", "seen")


def main(arguments: Sequence[str]) -> int:
    """0 when no attack did harm, and every one did to its broken builds."""
    parser = argparse.ArgumentParser(prog="python -m s3logx_tests.torture", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="TEXT", help="attacks whose names contain one of these"
    )
    parser.add_argument("--short", action="store_true", help="as few tries as the tests make")
    parser.add_argument("--breaks", action="store_true", help="the broken builds too")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    rows: list[tuple[str, ...]] = []
    broken: list[tuple[str, str, str]] = []
    harmless = noticed = True
    for attack in ATTACKS:
        if not any(text in attack.name for text in chosen.only):
            continue
        toll = _made(attack, Campaign(Path(), chosen.short, chosen.seed))
        harmless &= not toll.harm
        rows.append(_row(attack.name, toll))
        for fault in attack.breaks if chosen.breaks else ():
            toll = _made(attack, Campaign(Path(), True, chosen.seed, fault.apply), fault.name)
            noticed &= bool(toll.harm)
            broken.append(
                (attack.name, fault.name, f"{toll.harm} in {toll.tries} tries" if toll.harm else "NOT NOTICED")
            )
    print(_as_markdown(_COLUMNS, rows))
    if broken:
        print()
        print(_as_markdown(("attack", "deliberately broken build", "harm done"), broken))
    return 0 if harmless and noticed else 1


def _made(attack: Attack, campaign: Campaign, on: str = "") -> Toll:
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    started = time.monotonic()
    try:
        toll = attack.run(replace(campaign, folder=folder / "work"))
    except Exception:  # an attack that cannot be ended does not keep the others from being made
        traceback.print_exc()
        toll = Toll(1, manual=1, seen="it broke off")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    words = f"{attack.name}{f' [{on}]' if on else ''}: harm {toll.harm} in {toll.tries} tries, "
    print(f"{words}{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return toll


def _row(name: str, toll: Toll) -> tuple[str, ...]:
    counts = (toll.tries, toll.lost, toll.doubled, toll.leaked, toll.manual)
    return (name, *(f"{count:,}" for count in counts), toll.seen)


def _as_markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
