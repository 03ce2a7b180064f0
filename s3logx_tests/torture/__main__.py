"""`python -m s3logx_tests.torture`: attacks the platform and prints what each attack cost; zeros are what is wanted.

With `--breaks`, each attack is made on its deliberately broken builds too, and must do harm there. Each row is kept in a
file as its attack ends, so that a campaign that is interrupted shows what was done, and `--resume` does the rest.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from s3logx_tests.torture.attacks import ATTACKS
from s3logx_tests.torture.lanes import Lanes
from s3logx_tests.torture.record import Record, Row, terms

_RECORD = Path("build") / "torture.jsonl"


def main(arguments: Sequence[str]) -> int:
    """0 when no attack did harm, and every one did to its broken builds."""
    parser = argparse.ArgumentParser(prog="python -m s3logx_tests.torture", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="TEXT", help="attacks whose names contain one of these"
    )
    parser.add_argument("--short", action="store_true", help="as few tries as the tests make")
    parser.add_argument("--breaks", action="store_true", help="the broken builds too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="not again what went well with these sources")
    parser.add_argument("--record", type=Path, default=_RECORD, metavar="FILE", help="where the rows are kept")
    chosen = parser.parse_args(arguments)
    attacks = [attack for attack in ATTACKS if any(text in attack.name for text in chosen.only)]
    options = ["--seed", str(chosen.seed), *["--short"] * chosen.short, *["--breaks"] * chosen.breaks]
    faults = [(attack, fault.name) for attack in attacks for fault in attack.breaks] if chosen.breaks else []
    wanted = [*((attack, "") for attack in attacks), *faults]
    present = {attack.name: terms(attack, chosen.seed, chosen.short) for attack in attacks}
    record = Record(chosen.record, chosen.resume, present)
    left = [attack for attack in attacks if not record.is_well([each for each in wanted if each[0] is attack])]

    def told(row: Row) -> None:
        record.add(row)
        build = f" [{row.broken}]" if row.broken else ""
        outcome = row.broke_off or f"harm {row.toll.harm:,} in {row.toll.tries:,} tries"
        print(f"{row.attack}{build}: {outcome}, {row.seconds:.0f} s", file=sys.stderr, flush=True)

    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts what runs in the background deaf to the first
        signal.signal(number, signal.default_int_handler)
    # What is killed does not clear up behind itself.
    with tempfile.TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True) as folder:
        try:
            Lanes(left, options, Path(folder), told).run()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
    print(record.tables(wanted))
    return 0 if record.is_well(wanted) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
