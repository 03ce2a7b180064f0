"""What is new in a release against the one before: `changes.json` for programs, `CHANGELOG.md` for people.

Only published figures are compared, those of `totals.json` and `archive_totals.json`: what the difference between two
releases tells is told by the releases anyway. Which release is the one before does not belong here.
"""

import json
from collections.abc import Mapping
from typing import Any

from s3logx_assets.core.public_tables import Published

Entry = dict[str, Any]
_KEPT = 500  # releases
_NAMED = 20  # datasets
_FIGURES = {
    "total_bytes_sent": "bytes sent",
    "total_number_of_requests": "requests",
    "total_number_of_downloads": "downloads",
    "number_of_requesters": "requesters",
}


def changes(
    release_id: str,
    until: str,
    archive: Published,
    datasets: Mapping[str, Published],
    before: Mapping[str, Published] | None,
    history: bytes | None,
) -> list[Entry]:
    """The entries of `changes.json`, the newest first: this release's, and those of the `history` (the file of the release
    before; what is no such file counts as none). `before`: the totals of the release before, by scope. An entry of this
    release that the history has already is not written again."""
    older = [entry for entry in _entries(history) if entry["release"] != release_id]
    known = before or {}
    changed = sorted(scope for scope in datasets.keys() & known.keys() if datasets[scope] != known[scope])
    entry: Entry = {
        "release": release_id,
        "counted_until": until,
        "archive": dict(archive),
        "archive_before": older[0]["archive"] if older else None,
        "datasets": len(datasets),
        "datasets_changed": len(changed),
        "datasets_added": _named(datasets.keys() - known.keys()) if before is not None else _named(()),
        "datasets_removed": _named(known.keys() - datasets.keys()),
    }
    return [entry, *older][:_KEPT]


def changes_json(entries: list[Entry]) -> bytes:
    """The file for programs."""
    return json.dumps(entries, indent=2, sort_keys=True).encode()


def changelog_md(title: str, entries: list[Entry]) -> bytes:
    """The file for people."""
    return "\n".join([f"# {_plain(title)}: releases", *map(_section, entries)]).encode()


def totals_of(content: bytes | None) -> dict[str, Published] | None:
    """The totals in a `totals.json`, None where it is none."""
    try:
        totals = json.loads(content or b"")
    except ValueError:
        return None
    if not isinstance(totals, dict) or not all(isinstance(each, dict) for each in totals.values()):
        return None
    return totals


def _entries(history: bytes | None) -> list[Entry]:
    try:
        entries = json.loads(history or b"[]")
        return [dict(entry) for entry in entries if {"release", "counted_until", "archive"} <= entry.keys()]
    except (ValueError, TypeError, AttributeError):
        return []


def _named(scopes: Any) -> dict[str, Any]:
    return {"count": len(scopes), "first": sorted(scopes)[:_NAMED]}


def _section(entry: Entry) -> str:
    lines = [f"\n## {entry['release']}\n", f"Counted up to and including {entry['counted_until']}.\n"]
    before = entry.get("archive_before") or {}
    for name, words in _FIGURES.items():
        now, then = entry["archive"].get(name), before.get(name)
        change = f" (before: {_shown(then)})" if then is not None and then != now else ""
        lines.append(f"- {words}: {_shown(now)}{change}")
    for what in ("added", "removed"):
        named = entry.get(f"datasets_{what}") or {}
        if named.get("count"):
            more = ", …" if named["count"] > len(named["first"]) else ""
            lines.append(f"- datasets {what}: {named['count']} ({', '.join(map(_plain, named['first']))}{more})")
    lines.append(f"- datasets with other figures: {entry.get('datasets_changed', 0)} of {entry.get('datasets', 0)}\n")
    return "\n".join(lines)


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _plain(text: str) -> str:
    """Text in which Markdown sees no mark of its own."""
    for mark in "\\`*_[]<>#&":
        text = text.replace(mark, "\\" + mark)
    return text
