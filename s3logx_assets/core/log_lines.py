"""One S3 server access log record in, its fields or the reason for leaving it out: the reference.

This module says what a record means; it is written to be read, and linear in the record's length.
The bulk engine says the same much faster, and tests compare the two. What needs more than the
record itself does not belong here: files, counts, duplicates, sealing.

The format escapes nothing. The server writes the head (up to the operation) and the tail (after
the user agent); the client controls the key, which cannot hold a blank, and the request line, the
referer and the user agent, which can hold anything, quotes and whole forged records too:

    OWNER BUCKET [TIME] IP REQUESTER REQID OPERATION KEY          printable, parted by single blanks
    "URI" STATUS ERR BYTES SIZE TOTAL TURN                        the request block
    "REFERER" "UA" TAIL                                           TAIL: one or more plain tokens

So a request line may end wherever a well-formed request block follows. Such a place *fits* if the
rest can be read as referer, user agent and tail. Only fitting places count if there are any, and
where several count and any of them is a success, the record is refused: one crafted request must
not become a download. How referer and user agent share their text is never decided, and need not
be: neither is kept.

Source of the format: Amazon S3 User Guide, "Amazon S3 server access log format"; that the
requester may be empty, and so its blanks doubled, is seen in real logs.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal, get_args

SkipRule = Literal["blank", "operation", "status", "excluded"]
RejectReason = Literal["too_long", "head", "time", "ip", "key", "request", "ambiguous", "tail"]

# Each in the order in which it is judged. Between the two lists the order is: blank, too_long,
# head, time, ip, operation, key, request, ambiguous, status, tail, excluded.
SKIP_RULES: Final[tuple[SkipRule, ...]] = get_args(SkipRule)
REJECT_REASONS: Final[tuple[RejectReason, ...]] = get_args(RejectReason)

MAX_RECORD_BYTES: Final = 16 * 1024 * 1024

_EXTRACTED_OPERATION = b"REST.GET.OBJECT"
_MONTHS = tuple(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())

# Possessive quantifiers (`++`) never give back what they took, which keeps every match linear.
_TOKEN = rb"[!#-~]++"
_BOUNDARY = rb"(?![^ ])"  # a blank or the end of the record comes next
_OPERATION = rb"[A-Z][A-Z0-9]*+(?:\.[A-Za-z0-9_]++)++" + _BOUNDARY
_NUMBER = rb"(?:-|[0-9]{1,18})"

# Two blanks after the address mean an empty requester, or a stray blank before a present one. The
# first reading is tried first: a request ID never looks like an operation, but a key may
# (`README.md`), and a client chooses the key.
_HEAD = re.compile(
    rb"%(token)b %(token)b \[(?P<time>[^\]]*+)\] (?P<ip>%(token)b)"
    rb"(?:  %(token)b|  ?%(token)b %(token)b) (?P<operation>%(operation)b)"
    % {b"token": _TOKEN, b"operation": _OPERATION}
)
_TIME = re.compile(rb"([0-9]{2})/([A-Za-z]{3})/([0-9]{4}):([0-9]{2}):([0-9]{2}):([0-9]{2}) \+0000")
_NOT_IN_KEY = re.compile(rb'[\x00-\x20"\x7f]')
_BLOCK = (
    rb" (?P<status>[1-5][0-9]{2}|-) (?:-|[A-Za-z][A-Za-z0-9_.]{0,99})"
    rb" (?P<sent>%(number)b) (?P<size>%(number)b) %(number)b %(number)b" % {b"number": _NUMBER} + _BOUNDARY
)
_DASH_PLACE = re.compile(b"-" + _BLOCK)
_QUOTE_PLACE = re.compile(b'"' + _BLOCK)
_TAIL = re.compile(rb"(?: %b)++" % _TOKEN)
_DASH_TAIL = re.compile(rb" -(?: %b)++" % _TOKEN)
_DASH_DASH_TAIL = re.compile(rb" - -(?: %b)++" % _TOKEN)


@dataclass(frozen=True, slots=True)
class Record:
    """A successful GET.

    `object_key` is as logged, `requested_at` aware in UTC, `bytes_sent` 0 where the log has `-`,
    `object_size` in bytes or None for `-`, `status` 200 to 299. `address` is 16 bytes in network
    order (IPv4 as ::ffff:a.b.c.d) or None for `-`; it is kept out of the repr.
    """

    object_key: str
    requested_at: datetime
    bytes_sent: int
    object_size: int | None
    status: int
    address: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A sound record, as far as it was read, that is no download of anyone's."""

    rule: SkipRule


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that the format does not explain, or explains in two ways."""

    reason: RejectReason


def split_records(content: bytes) -> Iterator[bytes]:
    """The records of a log file, without their newlines.

    Only `\\n` parts records: user agents hold every other line separator there is.
    """
    start = 0
    while start < len(content):
        newline = content.find(b"\n", start)
        end = len(content) if newline < 0 else newline
        yield content[start:end]
        start = end + 1


def parse_record(
    record: bytes, is_excluded: Callable[[bytes], bool] = lambda address: False
) -> Record | Skipped | Rejected:
    """Judge one record, given without its newline; never raises for what a record holds.

    `is_excluded` says whether an address, given as the bytes logged, is the archive's own traffic.
    It is asked last, and never about `-`.
    """
    body = record.removesuffix(b"\r")
    if not body.strip(b" \t"):
        return Skipped("blank")
    if len(record) > MAX_RECORD_BYTES:
        return Rejected("too_long")

    head = _HEAD.match(body)
    if head is None:
        return Rejected("head")
    try:
        requested_at = _parse_time(head["time"])
    except ValueError:
        return Rejected("time")
    try:
        address = _parse_address(head["ip"])
    except ValueError:
        return Rejected("ip")
    if head["operation"] != _EXTRACTED_OPERATION:
        return Skipped("operation")

    key, _, _ = body[head.end() + 1 :].partition(b" ")
    try:
        object_key = _parse_key(key)
    except ValueError:
        return Rejected("key")

    places = _find_places(body, head.end() + 1 + len(key) + 1)
    if not places:
        return Rejected("request")
    fitting = _keep_fitting(body, places)
    candidates = fitting or places
    succeeded = any(place["status"].startswith(b"2") for place in candidates)
    if succeeded and len(candidates) > 1:
        return Rejected("ambiguous")
    if not succeeded:
        return Skipped("status")
    if not fitting:
        return Rejected("tail")
    if address is not None and is_excluded(head["ip"]):
        return Skipped("excluded")

    (block,) = fitting
    return Record(
        object_key=object_key,
        requested_at=requested_at,
        bytes_sent=_parse_number(block["sent"]) or 0,
        object_size=_parse_number(block["size"]),
        status=int(block["status"]),
        address=address,
    )


def _parse_time(text: bytes) -> datetime:
    """`DD/Mon/YYYY:hh:mm:ss +0000`, from 1970 on; ValueError if the calendar has no such second."""
    match = _TIME.fullmatch(text)
    if match is None or match[2] not in _MONTHS or int(match[3]) < 1970:
        raise ValueError("not a log time")
    day, year, hour, minute, second = (int(match[group]) for group in (1, 3, 4, 5, 6))
    month = _MONTHS.index(match[2]) + 1
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def _parse_address(token: bytes) -> bytes | None:
    """The 16 bytes of an address, None for `-`; ValueError if it is no address."""
    if token == b"-":
        return None
    text = token.decode("ascii")
    if ":" not in text:
        return b"\x00" * 10 + b"\xff\xff" + IPv4Address(text).packed
    if "%" in text:
        raise ValueError("an address with a zone")
    return IPv6Address(text).packed


def _parse_key(key: bytes) -> str:
    """The key as text; ValueError if it is empty, not UTF-8, or holds a control byte or quote."""
    if not key or _NOT_IN_KEY.search(key):
        raise ValueError("not a key")
    return key.decode("utf-8")


def _parse_number(text: bytes) -> int | None:
    return None if text == b"-" else int(text)


def _find_places(body: bytes, start: int) -> list[re.Match[bytes]]:
    """Every place, from `start` on, where the request URI can end: a block follows each of them."""
    if body.startswith(b'"', start):
        # Blocks hold no quote, so no two of them overlap and finditer misses none.
        return list(_QUOTE_PLACE.finditer(body, start + 1))
    bare = _DASH_PLACE.match(body, start)
    return [] if bare is None else [bare]


def _keep_fitting(body: bytes, places: list[re.Match[bytes]]) -> list[re.Match[bytes]]:
    """The places after whose block the record can be read as referer, user agent and tail.

    A tail has no quote, so the last quote of the record ends the user agent, or, where that is `-`,
    the referer. What may follow that quote, and the last `" "` that can part a referer from a user
    agent, are the same for all places: each is then a matter of comparing positions.
    """
    last_quote = body.rfind(b'"')
    ends_agent = _TAIL.fullmatch(body, last_quote + 1) is not None
    ends_referer = _DASH_TAIL.fullmatch(body, last_quote + 1) is not None
    last_parting = body.rfind(b'" "', 0, last_quote) if last_quote > 0 else -1

    def fits(place: re.Match[bytes]) -> bool:
        end = place.end()
        if last_quote < end:
            # Of all places only the last can have no quote behind it: still linear.
            return _DASH_DASH_TAIL.fullmatch(body, end) is not None
        if body.startswith(b' "', end):
            opening = end + 1
            parted = ends_agent and opening < last_parting
            return parted or (ends_referer and opening < last_quote)
        return ends_agent and body.startswith(b' - "', end) and end + 3 < last_quote

    return [place for place in places if fits(place)]
