"""Command line of the sample log generator: options in, a folder of logs and a few numbers out."""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from s3logx_assets.core.errors import S3logxError
from s3logx_assets.sample_logs import LAYOUTS, UPSTREAM_BENCHMARK, SampleSpec, ensure

_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}
_UNITS |= {f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", 1)}


def parse_size(text: str) -> int:
    """`600MB`, `1.5 GiB` or plain bytes; ValueError otherwise."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)", text.strip())
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(f"not a size: {text!r}")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m s3logx_assets.sample_logs",
        description="Write sample S3 server access logs; the same options give the same bytes.",
        argument_default=argparse.SUPPRESS,
    )
    default = SampleSpec()
    parser.add_argument("out", type=Path, metavar="OUT_FOLDER")
    parser.add_argument("--seed", type=int, help=f"default {default.seed}")
    parser.add_argument("--first-date", type=date.fromisoformat, help=f"YYYY-MM-DD, default {default.first_date}")
    parser.add_argument("--days", type=int, help=f"days of events, default {default.days}")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--lines", type=int, help=f"lines in all, default {default.lines}")
    size.add_argument(
        "--bytes",
        type=parse_size,
        dest="total_bytes",
        metavar="SIZE",
        help="about so many bytes in all, such as 600MB, instead of --lines",
    )
    count = parser.add_mutually_exclusive_group()
    count.add_argument("--files", type=int, help=f"files in all, default {default.files}")
    count.add_argument("--files-per-day", type=int)
    parser.add_argument(
        "--file-days",
        type=int,
        help="with --plain --days 1: spread the files over so many dates in their names",
    )
    parser.add_argument("--layout", choices=LAYOUTS, help=f"default {default.layout}")
    parser.add_argument("--datasets", type=int, help=f"default {default.datasets}")
    parser.add_argument(
        "--plain",
        action="store_true",
        help="no hard lines, late events, gzip or duplicates; the lines then do not depend on how"
        " they are shared out over files",
    )
    parser.add_argument(
        "--like-upstream-benchmark",
        action="store_true",
        help=f"{UPSTREAM_BENCHMARK.files} tiny files over {UPSTREAM_BENCHMARK.days} dates",
    )
    parser.add_argument("--force", action="store_true", help="add to a folder that holds something else")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the folder holds the logs asked for, 2 when the request makes no sense."""
    given = vars(_parser().parse_args(arguments))
    out: Path = given.pop("out")
    force: bool = given.pop("force", False)
    base = UPSTREAM_BENCHMARK if given.pop("like_upstream_benchmark", False) else SampleSpec()
    if "lines" in given:
        given["total_bytes"] = None
    if "files" in given:
        given["files_per_day"] = None
    try:
        summary = ensure(replace(base, **given), out, force=force)
    except (S3logxError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if summary is None:
        print(f"{out} already holds these sample logs")
        return 0
    print(
        f"{out}: {summary.files:,} files, {summary.lines:,} lines, {summary.bytes / 1e6:,.1f} MB,"
        f" {summary.first_date} to {summary.last_date}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
