"""Lines that a careless reader of logs gets wrong, and what a careful one makes of each.

Each is seen in real logs or can be brought about by anyone who sends a crafted request: Amazon S3
escapes nothing. They take the place of ordinary lines, whose server-made head and tail they keep.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal[
    "extracted",
    "duplicate",
    "skipped: blank",
    "skipped: operation",
    "skipped: status",
    "rejected: head",
    "rejected: time",
    "rejected: key",
    "rejected: request",
    "rejected: ambiguous",
    "rejected: tail",
]


@dataclass(frozen=True)
class Victim:
    """The ordinary line that gives way.

    `head` is `OWNER ... REQID`, `tail` begins with a blank before the object version and ends with
    the newline, `key` is as logged and `path` as in the request line; `size` in bytes.
    """

    head: bytes
    key: bytes
    path: bytes
    size: int
    tail: bytes


def _line(
    victim: Victim,
    uri: bytes | None = None,
    block: bytes | None = None,
    agent: bytes = b'"-" "curl/8.9.1"',
    key: bytes | None = None,
) -> bytes:
    uri = b'"GET /%b HTTP/1.1"' % victim.path if uri is None else uri
    block = b"200 - %d %d 45 12" % (victim.size, victim.size) if block is None else block
    shown = victim.key if key is None else key
    return b"%b REST.GET.OBJECT %b %b %b %b%b" % (
        victim.head,
        shown,
        uri,
        block,
        agent,
        victim.tail,
    )


_NOT_FOUND = b"404 NoSuchKey 283 - 9 -"


def _quoted_agent(victim: Victim) -> bytes:
    return _line(victim, agent=b'"-" ""Mozilla/5.0 (Windows NT 10.0; "Win64"; x64) Gecko/20100101"')


def _odd_separators(victim: Victim) -> bytes:
    # NEL, LINE SEPARATOR, VT, FF and CR all end a line for some readers, none does for S3.
    return _line(victim, agent=b'"-" "reader\xc2\x85one\xe2\x80\xa8two\x0bthree\x0cfour\rfive"')


def _latin1_agent(victim: Victim) -> bytes:
    return _line(victim, agent=b'"-" "T\xe9l\xe9chargeur/2.1"')


def _http_in_query(victim: Victim) -> bytes:
    return _line(victim, uri=b'"GET /%b?note=HTTP/1.1 HTTP/1.1"' % victim.path)


def _windows_newline(victim: Victim) -> bytes:
    return _line(victim).removesuffix(b"\n") + b"\r\n"


def _forged_request(victim: Victim) -> bytes:
    forged = b'x HTTP/1.1" 200 - 9000000000 9000000000 1 1 "-" "forged'
    return _line(victim, uri=b'"GET /%b?%b HTTP/1.1"' % (victim.path, forged), block=_NOT_FOUND)


def _forged_agent(victim: Victim) -> bytes:
    forged = b'"-" "curl" 200 - 9000000000 9000000000 1 1 "-" "forged"'
    return _line(victim, block=b"403 AccessDenied 243 - 7 -", agent=forged)


def _forged_failure(victim: Victim) -> bytes:
    forged = b'x HTTP/1.1" 403 AccessDenied 1 - 1 - "-" "forged'
    return _line(victim, uri=b'"GET /%b?%b HTTP/1.1"' % (victim.path, forged), block=_NOT_FOUND)


def _quotes_in_request(victim: Victim) -> bytes:
    query = rb's=index/\think\app/invokefunction&vars[0]="system"&vars[1][]="id";<?php echo 1;?>'
    return _line(victim, uri=b'"GET //?%b HTTP/1.1"' % query, block=_NOT_FOUND, key=b"/")


def _bad_utf8_key(victim: Victim) -> bytes:
    return _line(victim, key=victim.key + b"_\xff\xfe")


def _impossible_time(victim: Victim) -> bytes:
    time = victim.head.index(b"[")
    broken = victim.head[: time + 16] + b"60" + victim.head[time + 18 :]
    return _line(Victim(broken, victim.key, victim.path, victim.size, victim.tail))


def _torn_head(victim: Victim) -> bytes:
    return _line(victim)[70:]


def _torn_request(victim: Victim) -> bytes:
    line = _line(victim)
    return line[: line.index(b'"GET /') + 8] + b"\n"


def _torn_agent(victim: Victim) -> bytes:
    line = _line(victim)
    return line[: line.rindex(b"curl") + 3] + b"\n"


def _blank(victim: Victim) -> bytes:
    return b"\n"


DUPLICATE_LINE: Final = "duplicate_line"

# Name -> what a careful reader makes of it. The repeated line is made by the caller, who knows its
# neighbours.
HARD_VERDICTS: Final[dict[str, Verdict]] = {
    "quoted_agent": "extracted",
    "forged_request": "rejected: ambiguous",
    "blank": "skipped: blank",
    "torn_request": "rejected: request",
    "odd_separators": "extracted",
    "bad_utf8_key": "rejected: key",
    DUPLICATE_LINE: "duplicate",
    "quotes_in_request": "skipped: status",
    "forged_agent": "rejected: ambiguous",
    "torn_agent": "rejected: tail",
    "latin1_agent": "extracted",
    "impossible_time": "rejected: time",
    "http_in_query": "extracted",
    "torn_head": "rejected: head",
    "forged_failure": "skipped: status",
    "windows_newline": "extracted",
}
_MAKERS: Final[dict[str, Callable[[Victim], bytes]]] = {
    "quoted_agent": _quoted_agent,
    "forged_request": _forged_request,
    "blank": _blank,
    "torn_request": _torn_request,
    "odd_separators": _odd_separators,
    "bad_utf8_key": _bad_utf8_key,
    "quotes_in_request": _quotes_in_request,
    "forged_agent": _forged_agent,
    "torn_agent": _torn_agent,
    "latin1_agent": _latin1_agent,
    "impossible_time": _impossible_time,
    "http_in_query": _http_in_query,
    "torn_head": _torn_head,
    "forged_failure": _forged_failure,
    "windows_newline": _windows_newline,
}


def make_hard_line(name: str, victim: Victim) -> bytes:
    """The hard line of that name (not the duplicate), with its newline."""
    return _MAKERS[name](victim)
