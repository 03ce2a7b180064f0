"""What must never be in a release, looked for in its bytes: addresses, keys, and columns that no public table has.

The figures are made without an address in reach, so nothing should ever be found; this looks all the same, at the bytes
that will leave. A finding tells where and what kind, never the text. What looks like an address and stands in the name of a
dataset or a file is the archive's own text and is counted apart. What is done about a finding does not belong here.

All patterns are linear in the content.
"""

import base64
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple

_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_V4 = re.compile(_OCTET + rb"(?:\." + _OCTET + rb"){3}")
# What every address has in its middle. A pattern that begins with a character is searched for at the speed of memchr; what
# stands around it is looked at afterwards.
_MIDDLE_OF_V4 = re.compile(rb"\.[0-9]{1,3}\.[0-9]{1,3}\.")
_MIDDLE_OF_V6 = re.compile(rb":[0-9A-Fa-f]{0,4}:")
_BEFORE = re.compile(rb"[0-9A-Za-z:.]*\Z")
_AFTER = re.compile(rb"[0-9A-Za-z:.]*")
_SHORTEST = 8  # a secret of fewer bytes is in everything
_LONGEST = 64  # bytes on either side
_SECRETS = {
    "AWS access key": re.compile(rb"(?<![A-Z0-9])A(?:KIA|SIA)[A-Z0-9]{16}(?![A-Z0-9])"),
    "private key": re.compile(rb"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----"),
}
_COUNT = rb"(?:[0-9]+|<[0-9]+)"
_USAGE = rb"\t[0-9]+\t" + _COUNT + rb"\t" + _COUNT
_DATE = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_DEGREES = rb"-?[0-9]+(?:\.[0-9]+)?(?:e-[0-9]+)?"
# The lines after the header of each public table, by the end of its name: nothing else may have a column in a release.
_ROWS = {
    "by_day.tsv": _DATE + _USAGE,
    "by_asset.tsv": rb"[^\t]+" + _USAGE,
    "by_region.tsv": rb"[^\t]+" + _USAGE,
    "by_asset_type_per_week.tsv": _DATE + rb"(?:\t[0-9]+)*",
    "region_coordinates.tsv": rb"[^\t]+\t" + _DEGREES + rb"\t" + _DEGREES,
}
_TABLES = {name: re.compile(row) for name, row in _ROWS.items()}
_COUNTER = re.compile(_COUNT)


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
    own in which something that looks like an address may stand.
    """

    def __init__(self, secrets: Iterable[bytes], names: Iterable[str] = ()) -> None:
        long_enough = [secret for secret in secrets if len(secret) >= _SHORTEST]
        self._secrets = [form for secret in long_enough for form in _forms(secret)]
        self._hex = [secret.hex().encode() for secret in long_enough]
        self._known = {token for name in names for token, _ in _addresses(name.encode())}
        self.names_like_addresses = len(self._known)

    def findings(self, name: str, content: bytes) -> Iterator[Finding]:
        """What is wrong with a file, each line and kind once. Of Parquet the metadata; see `texts`."""
        found = {(0, kind) for kind in self._secrets_in(content)}
        if name.endswith(".parquet"):
            yield from (Finding(name, line, kind) for line, kind in sorted(found))
            return
        places = [at for token, at in _addresses(content) if token not in self._known]
        found |= {(content.count(b"\n", 0, at) + 1, "looks like an address") for at in places}
        row = next((row for ending, row in _TABLES.items() if name.endswith(ending)), None)
        if row is not None:
            found |= {(number, "a column that no public table has") for number in _other_rows(content, row)}
        elif name.endswith("requester_count.tsv") and not _COUNTER.fullmatch(content):
            found.add((1, "not a count"))
        yield from (Finding(name, line, kind) for line, kind in sorted(found))

    def findings_in_texts(self, name: str, texts: Iterable[str]) -> Iterator[Finding]:
        """The same for the texts of a file that is not text itself."""
        together = "\n".join(texts).encode()
        kinds = self._secrets_in(together)
        if any(token not in self._known for token, _ in _addresses(together)):
            kinds.add("looks like an address")
        yield from (Finding(name, 0, kind) for kind in sorted(kinds))

    def _secrets_in(self, content: bytes) -> set[str]:
        kinds = {kind for kind, pattern in _SECRETS.items() if pattern.search(content)}
        if any(form in content for form in self._secrets) or any(form in content.lower() for form in self._hex):
            kinds.add("a secret of the settings")
        return kinds


def names_in(files: Mapping[str, bytes], scopes: Collection[str]) -> list[str]:
    """The archive's own texts in a release: names of datasets, and the first columns of its tables of files."""
    tables = [content for name, content in files.items() if name.endswith("by_asset.tsv")]
    return [*scopes, *(line.partition("\t")[0] for table in tables for line in table.decode().splitlines())]


def _addresses(content: bytes) -> Iterator[tuple[bytes, int]]:
    """What reads as an address, and where."""
    for middle, read in ((_MIDDLE_OF_V4, _v4_in), (_MIDDLE_OF_V6, _v6_in)):
        end = 0
        for match in middle.finditer(content):
            if match.start() < end:
                continue
            before = _BEFORE.search(content[max(match.start() - _LONGEST, end) : match.start()])
            after = _AFTER.match(content[match.end() : match.end() + _LONGEST])
            assert before is not None, "both patterns fit nothing too"
            assert after is not None
            text = (before[0] + match[0] + after[0]).strip(b".")
            end = match.end() + len(after[0])
            address = read(text)
            if address is not None:
                yield address, match.start()


def _v4_in(text: bytes) -> bytes | None:
    return next(filter(_V4.fullmatch, text.split(b":")), None)  # a port may follow


def _v6_in(text: bytes) -> bytes | None:
    """The IPv6 address in it, one with a figure: `::` alone is in many a style sheet. What may be glued to it, a label such
    as `ip:` or a port, is taken off a part at a time."""
    if not text.isascii():
        return None
    parts = text.lower().decode().split(":")
    pieces = (
        ":".join(parts[first:last])
        for first in range(min(len(parts), 3))
        for last in range(len(parts), max(len(parts) - 2, first), -1)
    )
    found = next(filter(_reads, pieces), None)
    return None if found is None else found.encode()


def _reads(text: str) -> bool:
    try:
        return bool(IPv6Address(text).packed.strip(b"\0")) and text.count(":") > 1
    except AddressValueError:
        return False


def _other_rows(content: bytes, row: re.Pattern[bytes]) -> Iterator[int]:
    """The numbers of the lines after the first that are not of this form."""
    for number, line in enumerate(content.split(b"\n")[1:], 2):
        if line and not row.fullmatch(line):
            yield number


def _forms(secret: bytes) -> Sequence[bytes]:
    """How a secret may be written: as it is, and in base64 from each of three offsets."""
    forms = [secret]
    for offset in range(3):
        # What comes before shifts the groups of three bytes; the ends of the text depend on the neighbours and are left out.
        inner = base64.b64encode(b"\0" * offset + secret)[4 if offset else 0 :].rstrip(b"=")[:-1]
        forms += [inner, inner.replace(b"+", b"-").replace(b"/", b"_")]
    return forms
