"""A folder of sample logs as a whole: made once, not mixed up by mistake, searched for addresses.

What the files hold is the writer's business.
"""

import gzip
import json
import re
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from s3logx_assets.core.errors import SourceError
from s3logx_assets.sample_logs.spec import SAMPLE_FORMAT, SampleSpec, SampleSummary
from s3logx_assets.sample_logs.writer import SampleWriter


def generate(spec: SampleSpec, out: Path, *, force: bool = False) -> SampleSummary:
    """Write the sample logs of `spec` into the folder `out`, which is made if need be.

    `force` writes beside what the folder already holds. Raises SourceError if it holds something
    otherwise, or is no folder.
    """
    if out.exists() and not out.is_dir():
        raise SourceError(f"sample logs: {out} is not a folder")
    if not force and _holds_anything(out):
        raise SourceError(
            f"sample logs: the folder {out} is not empty and does not hold the output of these"
            " options; name another folder, or use --force to add to it"
        )
    out.mkdir(parents=True, exist_ok=True)
    return SampleWriter(spec, out).write()


def ensure(spec: SampleSpec, out: Path, *, force: bool = False) -> SampleSummary | None:
    """`generate`, unless the folder already holds the output of `spec`: then None.

    What a folder holds is noted beside it, in `<out>.stamp.json`, as a log folder must hold nothing
    else. A generation that was interrupted is done again in place.
    """
    out = out.resolve()
    stamp = out.with_name(out.name + ".stamp.json")
    options = json.loads(json.dumps({"format": SAMPLE_FORMAT, **asdict(spec)}, default=str))
    held = _read_stamp(stamp) if _holds_anything(out) else []
    if {"options": options, "complete": True} in held:
        return None
    started = {"options": options, "complete": False}
    others = [entry for entry in held if entry["options"] != options]
    may_add = force or started in held
    if may_add or not _holds_anything(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _write_stamp(stamp, [*others, started])
    summary = generate(spec, out, force=may_add)
    _write_stamp(stamp, [*others, {"options": options, "complete": True}])
    return summary


def addresses_in(folder: Path) -> dict[str, bytes]:
    """Every address text in the logs of `folder` (plain and gzip), with its 16 bytes.

    IPv4 is given as ::ffff:a.b.c.d. For tests that look for leaks: found by one loose expression,
    independent of any log parser.
    """
    texts: set[bytes] = set()
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if content.startswith(b"\x1f\x8b"):
                content = gzip.decompress(content)
            texts.update(re.findall(rb"^(?:[^ \n]* ){4}([0-9A-Fa-f.:]+) ", content, re.MULTILINE))
    addresses: dict[str, bytes] = {}
    for text in (found.decode("ascii") for found in texts):
        try:
            packed = ip_address(text).packed
        except ValueError:
            continue
        addresses[text] = packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed
    return addresses


def _holds_anything(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _read_stamp(stamp: Path) -> list[dict[str, Any]]:
    """The generations noted; none where there is no stamp, or none that this version wrote."""
    try:
        entries = json.loads(stamp.read_text("utf-8"))["generated"]
        return [{"options": entry["options"], "complete": entry["complete"]} for entry in entries]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write_stamp(stamp: Path, entries: list[dict[str, Any]]) -> None:
    draft = stamp.with_name(stamp.name + ".new")
    draft.write_text(json.dumps({"generated": entries}, indent=2) + "\n", "utf-8")
    draft.replace(stamp)
