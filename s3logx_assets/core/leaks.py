"""What must never be in a release, looked for in its bytes: addresses, keys, and columns that no public table has.

The figures are made without an address in reach, so nothing should ever be found; this looks all the same, at the bytes
that will leave. A finding tells where and what kind, never the text. What looks like an address or like the id of an access
key and stands in the name of a dataset or a file is the archive's own text and is counted apart. What is done about a
finding does not belong here.

Looked for are the textual forms of addresses (RFC 4291 for IPv6), also behind the escapes of JSON, URLs and HTML and glued
to words: `ip192.0.2.1`, `1.2.0.192.in-addr.arpa`. Not addresses are versions, with a `v` before them (`v1.2.3.4`) or with
another count of parts than four. An address as one plain number cannot be told from a count; the columns see to that.

All patterns are linear in the content.
"""

import base64
import html
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple
from urllib.parse import quote

from s3logx_assets.core.data_package import package_name
from s3logx_assets.core.scopes import dataset_of

# What every address has in its middle. A pattern that begins with one character is searched for at the speed of memchr;
# what stands around it is looked at afterwards.
_MIDDLE_OF_V4 = re.compile(rb"\.[0-9]{1,3}\.[0-9]{1,3}\.")
_V4 = re.compile(rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_DIGITS_AND_DOTS = re.compile(rb"[0-9.]*")
# `%20` or `\u00e9` before an address: its last digits are not the address's.
_ESCAPE_BEFORE = re.compile(rb"(?:%(?:25)*[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2})([0-9.]+)\Z")
_VERSION_BEFORE = re.compile(rb"(?<![A-Za-z\\])[vV]\Z")
_EIGHT_GROUPS = re.compile(rb":(?<=[0-9A-Fa-f]:)(?:[0-9A-Fa-f]{1,4}:){6}[0-9A-Fa-f]{1,4}")
_PAIR = re.compile(rb"::(?!:)")  # the last two of three: `at:` may stand before an address
_GROUP = re.compile(rb"[0-9A-Fa-f]{1,4}")
_GROUP_BEFORE = re.compile(rb"[0-9A-Fa-f]{1,4}\Z")
_WORD = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz:"
_WORD_AFTER = re.compile(rb"[0-9A-Za-z:.]*")
_AROUND = 48  # bytes: longer than any address
_ESCAPED = [
    re.compile(rb"%(?:25)*(?:2[Ee]|3[Aa])"),
    re.compile(rb"&(?:#(?:0*(?:46|58)|[xX]0*(?:2[Ee]|3[Aa]))|period|colon);"),
    re.compile(rb"\\u00(?:2[Ee]|3[Aa])"),
]
_ESCAPED_DOT = re.compile(rb"%(?:25)*2[Ee]|&(?:#0*46|#[xX]0*2[Ee]|period);|\\u002[Ee]")
_ESCAPED_COLON = re.compile(rb"%(?:25)*3[Aa]|&(?:#0*58|#[xX]0*3[Aa]|colon);|\\u003[Aa]")

_SHORTEST = 8  # a secret of fewer bytes is in everything
# What a secret of others begins with, by which it is searched for quickly, and all of it.
_KEY_IDS = [
    (b"AKIA", "AWS access key", re.compile(rb"(?<![A-Z0-9])AKIA[A-Z0-9]{16}(?![A-Z0-9])")),
    (b"ASIA", "AWS access key", re.compile(rb"(?<![A-Z0-9])ASIA[A-Z0-9]{16}(?![A-Z0-9])")),
]
_SECRETS = [
    *_KEY_IDS,
    (b"PRIVATE KEY", "private key", re.compile(rb"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----")),
]

_COUNT = rb"<?[0-9]++"
_USAGE = rb"\t[0-9]++\t" + _COUNT + rb"\t" + _COUNT
_USAGE_HEAD = rb"\tbytes_sent\tnumber_of_requests\tnumber_of_downloads"
_DATE = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_PERIOD = rb"(?:(?:" + _DATE + rb"|\.\.)/)?" + _DATE
_DEGREES = rb"-?[0-9]+(?:\.[0-9]+)?(?:e-[0-9]+)?"
# No place is called by a long number; an index, or an address as one number, is one.
_REGION = rb"(?:[^\t\n0-9]|[0-9]{1,6}(?![0-9]))+"


class _Form(NamedTuple):
    head: re.Pattern[bytes]
    rows: re.Pattern[bytes]
    has_names: bool


def _form(head: bytes, row: bytes, has_names: bool = False) -> _Form:
    # One pattern takes all rows up to the first that is wrong, without going back.
    return _Form(re.compile(head), re.compile(rb"(?>" + row + rb"\n)*+"), has_names)


# The first line and the others of each public table, by the end of its name; nothing else may have a column in a release.
_TABLES = {
    "by_day.tsv": _form(rb"date" + _USAGE_HEAD, _PERIOD + _USAGE),
    "by_asset.tsv": _form(rb"asset_path" + _USAGE_HEAD, rb"[^\t\n]+" + _USAGE, has_names=True),
    "by_region.tsv": _form(rb"region" + _USAGE_HEAD, _REGION + _USAGE),
    "by_asset_type_per_week.tsv": _form(rb"week_start(?:\t[^\t\n]+)*", _DATE + rb"(?:\t[0-9]+)*"),
    "region_coordinates.tsv": _form(rb"region\tlatitude\tlongitude", _REGION + rb"\t" + _DEGREES + rb"\t" + _DEGREES),
}
_COUNTER = re.compile(_COUNT)
_SHORTENED = re.compile("[A-Za-z0-9._%-]{1,120}%~[0-9a-f]{64}")
_ADDRESS, _COLUMN = "looks like an address", "a column that no public table has"
_PRIVATE = ("ip_index", "network_index", "sealed_ip")


class Finding(NamedTuple):
    """Something that must not be in a release: the file, the line (from 1; 0 where a file has none), what kind."""

    name: str
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.name}{f', line {self.line}' if self.line else ''}: {self.kind}"


class Scan:
    """Looks through the files of one release.

    `secrets`: bytes that must not occur, in themselves, in base64 or in hexadecimal. `names`: the texts of the archive's
    own in which something that looks like an address or a key's id may stand; `names_of`: those that may stand in one file
    alone.
    """

    def __init__(
        self, secrets: Iterable[bytes], names: Iterable[str] = (), names_of: Mapping[str, Iterable[str]] | None = None
    ) -> None:
        long_enough = [secret for secret in secrets if len(secret) >= _SHORTEST]
        self._secrets = sorted({form for secret in long_enough for form in _forms(secret)})
        self._hex = sorted({secret.hex().encode() for secret in long_enough})
        own, self._known = _known(names)
        self._known_of = {}
        for file, more in (names_of or {}).items():
            own_of, known = _known(more)
            own |= own_of
            self._known_of[file] = self._known | known
        self.names_like_addresses = len(own)

    def findings(self, name: str, content: bytes) -> Iterator[Finding]:
        """What is wrong with a file, each line and kind once. Of Parquet the bytes alone; see `findings_in_table`."""
        form = next((form for ending, form in _TABLES.items() if name.endswith(ending)), None)
        known = self._known_of.get(name, self._known) if form is None or form.has_names else set()
        found = {(0, kind) for kind in self._secrets_in(content, known)}
        if not name.endswith(".parquet"):
            found |= {(line, _ADDRESS) for token, line in _addresses(content) if token not in known}
            if form is not None:
                found |= {(line, _COLUMN) for line in _other_lines(content, form)}
            elif name.endswith("requester_count.tsv") and not _COUNTER.fullmatch(content):
                found.add((1, "not a count"))
        yield from (Finding(name, line, kind) for line, kind in sorted(found))

    def findings_in_table(
        self, name: str, columns: Sequence[str], others: Sequence[str], texts: Iterable[str]
    ) -> Iterator[Finding]:
        """What is wrong with a file that is not text itself: its `columns`, those that it should have (of the same table
        as text), and all `texts` in it."""
        together = "\n".join(texts).encode()
        kinds = self._secrets_in(together, self._known)
        if any(token not in self._known for token, _ in _addresses(together)):
            kinds.add(_ADDRESS)
        if list(columns) != list(others) or not set(_PRIVATE).isdisjoint(columns):
            kinds.add(_COLUMN)
        yield from (Finding(name, 0, kind) for kind in sorted(kinds))

    def _secrets_in(self, content: bytes, known: Collection[bytes]) -> set[str]:
        kinds = {
            kind
            for start, kind, pattern in _SECRETS
            if start in content and any(found[0] not in known for found in pattern.finditer(content))
        }
        lower = content.lower()
        if any(form in content for form in self._secrets) or any(form in lower for form in self._hex):
            kinds.add("a secret of the settings")
        return kinds


def names_in(files: Mapping[str, bytes], scopes: Collection[str]) -> list[str]:
    """The archive's own texts in a release: names of datasets, what their packages are called, and the first columns of its
    tables of files."""
    tables = [content.decode(errors="replace") for name, content in files.items() if name.endswith("by_asset.tsv")]
    return [
        *scopes,
        *map(package_name, scopes),
        *(line.partition("\t")[0] for table in tables for line in table.split("\n")),
    ]


def names_of_changes(content: bytes) -> list[str]:
    """The scopes that a release's `changes.json` says came or went, in themselves and as datasets. They need not be in the
    release any more. Nothing is taken that is not in its place there or could not be a scope."""
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError):
        return []
    listed = (
        named.get("first")
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict)
        for named in (entry.get("datasets_added"), entry.get("datasets_removed"))
        if isinstance(named, dict)
    )
    scopes = {text for each in listed if isinstance(each, list) for text in each if isinstance(text, str)}
    return [form for scope in scopes for form in _forms_of_scope(scope)]


def _forms_of_scope(scope: str) -> Sequence[str]:
    if _SHORTENED.fullmatch(scope):
        return [scope]
    try:
        return [scope, dataset_of(scope)]
    except ValueError:
        return []


def _known(names: Iterable[str]) -> tuple[set[bytes], set[bytes]]:
    """What looks like an address or a key's id in names: as it is, and also as it may be written."""
    names = list(names)
    # An escape beside a key's id only ever hides it, so it needs no other forms.
    ids = {
        found[0]
        for name in names
        for start, _, like in _KEY_IDS
        if start.decode() in name
        for found in like.finditer(name.encode())
    }
    suspicious = [name for name in names if "%" in name or "::" in name or name.count(".") > 2 or name.count(":") > 6]
    own = {token for name in suspicious for token, _ in _addresses(name.encode())}
    # An escape beside it can take a part of what looks like an address away.
    written = "\n".join(form for name in suspicious for form in (html.escape(name), json.dumps(name), quote(name)))
    return own | ids, own | ids | {token for token, _ in _addresses(written.encode())}


def _addresses(content: bytes) -> Iterator[tuple[bytes, int]]:
    """What reads as an address, and its line."""
    texts = [content]
    if any(start.search(content) for start in _ESCAPED):
        texts.append(_ESCAPED_COLON.sub(b":", _ESCAPED_DOT.sub(b".", content)))
    for text in texts:
        for found in (_v4s(text), _full_v6s(text), _short_v6s(text)):
            yield from _with_lines(text, found)


def _with_lines(content: bytes, found: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    """Lines in place of places, which ascend."""
    line, counted = 1, 0
    for token, place in found:
        line += content.count(b"\n", counted, place)
        counted = place
        yield token, line


def _v4s(content: bytes) -> Iterator[tuple[bytes, int]]:
    end = 0
    for middle in _MIDDLE_OF_V4.finditer(content):
        place = middle.start()
        if place < end:
            continue  # a part of what was read already
        before = content[end:place]
        start = end + len(before.rstrip(b"0123456789."))
        after = _DIGITS_AND_DOTS.match(content, middle.end())
        assert after is not None, "the pattern fits nothing too"
        end = after.end()
        text = content[start:end]
        ahead = content[max(start - 8, 0) : start]
        escape = _ESCAPE_BEFORE.search(ahead + text) if b"%" in ahead or b"\\" in ahead else None
        apart = escape is not None or text.startswith(b".") or not _VERSION_BEFORE.search(ahead)
        text = (text if escape is None else escape[1]).strip(b".")
        if apart and _V4.fullmatch(text) and max(map(int, text.split(b"."))) < 256:
            yield text, place


def _full_v6s(content: bytes) -> Iterator[tuple[bytes, int]]:
    """All eight groups; more of them are the bytes of an address, each apart."""
    for rest in _EIGHT_GROUPS.finditer(content):
        place = rest.start()
        first = _GROUP_BEFORE.search(content[max(place - 4, 0) : place])
        assert first is not None, "the pattern looks for it"
        yield (first[0] + rest[0]).lower(), place


def _short_v6s(content: bytes) -> Iterator[tuple[bytes, int]]:
    """What has `::` and a figure. Style sheets and programs have `::` too, before or behind a word: so all that stands
    next to it must be groups, or two groups must stand before it."""
    for pair in _PAIR.finditer(content):
        place = pair.start()
        ahead = content[max(place - _AROUND, 0) : place]
        words = ahead[len(ahead.rstrip(_WORD)) :].split(b":")
        before = list(takewhile(_GROUP.fullmatch, reversed(words)))[::-1]
        following = _WORD_AFTER.match(content, place + 2, place + 2 + _AROUND)
        assert following is not None, "the pattern fits nothing too"
        word, *more = following[0].rstrip(b".").split(b":")
        behind = list(takewhile(_is_group_or_v4, [word, *more]))
        whole = not word or bool(behind)
        if ((whole and before + behind) or len(before) > 1) and b"".join(before + behind).strip(b"0."):
            yield (b":".join(before) + b"::" + b":".join(behind)).lower(), place


def _is_group_or_v4(text: bytes) -> bool:
    return bool(_GROUP.fullmatch(text) or _V4.fullmatch(text))


def _other_lines(content: bytes, form: _Form) -> Iterator[int]:
    """The numbers of the lines that are not of this form."""
    head, _, rows = content.partition(b"\n")
    if not form.head.fullmatch(head):
        yield 1
    rows += b"" if rows.endswith(b"\n") or not rows else b"\n"
    line, start = 2, 0
    while True:
        good = form.rows.match(rows, start)
        assert good is not None, "the pattern fits nothing too"
        line += rows.count(b"\n", start, good.end())
        start = good.end()
        if start == len(rows):
            return
        yield line
        line, start = line + 1, rows.index(b"\n", start) + 1


def _forms(secret: bytes) -> Sequence[bytes]:
    """How a secret may be written: as it is, and in base64 from each of three offsets."""
    forms = [secret]
    for offset in range(3):
        # What comes before shifts the groups of three bytes; the ends of the text depend on the neighbours and are left out.
        inner = base64.b64encode(b"\0" * offset + secret)[4 if offset else 0 :].rstrip(b"=")[:-1]
        forms += [inner, inner.replace(b"+", b"-").replace(b"/", b"_")]
    return forms
