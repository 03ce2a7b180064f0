"""How each request looks in the log: the parts of a line, looked up or put together.

A block of lines is a matrix with one row per line and one column per part of it. Most parts are
looked up whole, so that a line costs a few table look-ups and one join; that makes over a hundred
thousand lines a second. Which requests there are does not belong here, nor do odd lines.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

import numpy as np

from s3logx_assets.sample_logs.catalogue import Catalogue
from s3logx_assets.sample_logs.clients import (
    ACCOUNT,
    BUCKET,
    BUCKET_REGION,
    PROGRAM_NAMES,
    TAIL_LENGTHS,
    Clients,
    Kind,
)
from s3logx_assets.sample_logs.randomness import (
    BASE64_LETTERS,
    HEX_LETTERS,
    REQUEST_ID_LETTERS,
    Floats,
    Ints,
    Pieces,
    draw,
    pieces,
    random_texts,
)

OWNER: Final = b"79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"

_MONTHS: Final = tuple(
    "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()  # noqa: SIM905 - reads better so
)
_PARTS: Final = 13
(
    _DATE,
    _TIME,
    _SOURCE,
    _REQUEST_ID,
    _REQUEST,
    _QUERY,
    _VERSION,
    _BLOCK,
    _TIMINGS,
    _AGENT,
    _OBJECT_VERSION,
    _HOST_ID,
    _TAIL,
) = range(_PARTS)

SUCCESSFUL_GETS: Final = (Kind.OK, Kind.ABORTED, Kind.RANGE, Kind.SIGNED, Kind.INTERNAL_GET)
FAILED_GETS: Final = (
    Kind.NOT_MODIFIED,
    Kind.FORBIDDEN,
    Kind.MISSING,
    Kind.BAD_RANGE,
    Kind.SERVER_ERROR,
)

# They bring a tail of their own.
_NEVER_OLD: Final = (Kind.SIGNED, Kind.PUT, Kind.EXPIRE, Kind.BATCH_DELETE, Kind.INTERNAL_GET)

_HTTP_VERSIONS: Final = pieces((b' HTTP/1.1" ', b' HTTP/1.0" ', b' HTTP/2.0" ', b' HTTP/2" ', b'" '))
_HTTP_STEPS: Final = np.array([0.965, 0.972, 0.985, 0.994, 1.0])
# Fields in all: 24 to 27, and the old 18, which end before the host ID.
_TAIL_STEPS: Final = np.array([0.04, 0.12, 0.45, 0.992, 1.0])

_OTHER_REQUESTS: Final = pieces(
    (
        b' REST.GET.LOCATION - "GET /?location',
        b' REST.GET.BUCKETVERSIONS - "GET /?versions&prefix=ds0',
        b' REST.OPTIONS.PREFLIGHT index.html "OPTIONS /index.html',
        b' REST.GET.OBJECT_TAGGING README.md "GET /README.md?tagging',
        b' REST.GET.ACL - "GET /?acl',
    )
)
_ERROR_BLOCKS: Final = pieces((b"503 SlowDown 384 - ", b"500 InternalError 282 - "))
_MISSING_BLOCKS: Final = pieces(b"404 NoSuchKey %d - " % size for size in range(271, 331))
_WEBSITE_BLOCKS: Final = pieces((b"200 - 5120 5120 ", b"304 - - 5120 ", b"404 NoSuchKey 346 - "))
_INTERNAL_SOURCES: Final = pieces((b"- svc:s3.amazonaws.com ", b"- arn:aws:iam::%b:role/replication " % ACCOUNT))
_INTERNAL_TAIL: Final = b" SigV4 - AuthHeader %b.s3.amazonaws.com - - - -\n" % BUCKET
_ARCHIVE_SOURCES: Final = pieces(
    b"18.216.%d.%d arn:aws:iam::%b:user/archive-api " % (host, host * 3, ACCOUNT) for host in (17, 42, 71)
)
_ARCHIVE_AGENT: Final = b'"-" "Boto3/1.36.11 md/Botocore#1.36.11 ua/2.0 os/linux#6.8.0 lang/python#3.12.8"'
_ARCHIVE_TAIL: Final = b" SigV4 TLS_AES_128_GCM_SHA256 AuthHeader %b.s3.amazonaws.com TLSv1.3 - - %b\n" % (
    BUCKET,
    BUCKET_REGION,
)


@dataclass(frozen=True)
class Requests:
    """What was asked for: one entry per line in each column.

    `kinds` holds Kind values, `clients` and `keys` numbers of clients and of catalogue keys,
    `seconds` of the event since midnight of the day of delivery: negative for an earlier date.
    """

    kinds: Ints
    clients: Ints
    keys: Ints
    seconds: Ints

    def of_kind(self, kind: Kind) -> Ints:
        """The rows of that kind."""
        return np.flatnonzero(self.kinds == kind)


class LineWriter:
    """Turns requests to a catalogue by clients into lines."""

    def __init__(self, catalogue: Catalogue, clients: Clients) -> None:
        self._catalogue = catalogue
        self._clients = clients
        self._times = _times_of_day()

    def write(self, requests: Requests, day: date, rng: np.random.Generator) -> Pieces:
        """The parts of each line, the last with its newline; `day` is the day of delivery."""
        catalogue, clients = self._catalogue, self._clients
        count = len(requests.kinds)
        version, tail, detail, pace = rng.random((4, count))
        tail_kind = draw(_TAIL_STEPS, tail)

        # First as if all were complete downloads; the other kinds then change what differs.
        parts = np.empty((count, _PARTS), dtype=object)
        self._write_times(parts, requests, day)
        parts[:, _SOURCE] = clients.sources[requests.clients]
        parts[:, _REQUEST_ID] = random_texts(rng, count, 16, REQUEST_ID_LETTERS)
        parts[:, _REQUEST] = catalogue.get_requests[requests.keys]
        parts[:, _QUERY] = b""
        parts[:, _VERSION] = _HTTP_VERSIONS[draw(_HTTP_STEPS, version)]
        parts[:, _BLOCK] = catalogue.ok_blocks[requests.keys]
        parts[:, _AGENT] = clients.agents[requests.clients]
        parts[:, _OBJECT_VERSION] = catalogue.versions[requests.keys]
        parts[:, _HOST_ID] = random_texts(rng, count, 75, BASE64_LETTERS, b" ", b"=")
        parts[:, _TAIL] = clients.tails[requests.clients, np.minimum(tail_kind, len(TAIL_LENGTHS) - 1)]
        is_old = (tail_kind == len(TAIL_LENGTHS)) & ~np.isin(requests.kinds, _NEVER_OLD)
        parts[is_old, _HOST_ID] = b""
        parts[is_old, _TAIL] = b"\n"

        sent = self._write_partial(parts, requests, detail)
        self._write_signed(parts, requests, detail, day, rng)
        self._write_failed(parts, requests, detail)
        self._write_other_operations(parts, requests, detail)
        self._write_website(parts, requests, detail)
        self._write_uploads(parts, requests, detail)
        self._write_internal(parts, requests, detail)
        parts[:, _TIMINGS] = _timings(requests, sent, pace)
        return parts

    def _write_times(self, parts: Pieces, requests: Requests, day: date) -> None:
        day_offset = requests.seconds // 86_400
        for offset in sorted(set(day_offset.tolist())):
            event = day + timedelta(days=offset)
            text = f"{event.day:02d}/{_MONTHS[event.month - 1]}/{event.year:04d}:"
            parts[day_offset == offset, _DATE] = b"%b %b [%b" % (OWNER, BUCKET, text.encode())
        parts[:, _TIME] = self._times[requests.seconds % 86_400]

    def _write_partial(self, parts: Pieces, requests: Requests, detail: Floats) -> Floats:
        """Aborted downloads and ranges; returns the bytes sent of each line that sent a body."""
        sizes = self._catalogue.sizes[requests.keys]
        sent = np.where(np.isin(requests.kinds, SUCCESSFUL_GETS), sizes, 0).astype(np.float64)
        aborted = requests.of_kind(Kind.ABORTED)
        # The square makes early breaks common, down to no byte at all, which is logged as `-`.
        sent[aborted] *= np.maximum(detail[aborted] * 1.05 - 0.05, 0.0) ** 2
        parts[aborted, _BLOCK] = [
            b"200 - %d %d " % (count, size) if count else b"200 - - %d " % size
            for count, size in _pairs(sent, sizes, aborted)
        ]
        ranges = requests.of_kind(Kind.RANGE)
        # Readers fetch a few blocks of 64 KiB; sync tools fetch parts of 8 MiB.
        program = self._clients.program[requests.clients[ranges]]
        few = 65_536 * (1 + (detail[ranges] ** 4 * 60).astype(np.int64))
        block = np.where(program == PROGRAM_NAMES.index("sync"), 8_388_608, few)
        sent[ranges] = np.minimum(sent[ranges], block)
        parts[ranges, _BLOCK] = [b"206 - %d %d " % pair for pair in _pairs(sent, sizes, ranges)]
        return sent

    def _write_signed(
        self,
        parts: Pieces,
        requests: Requests,
        detail: Floats,
        day: date,
        rng: np.random.Generator,
    ) -> None:
        """Presigned URLs."""
        signed = requests.of_kind(Kind.SIGNED)
        stamp = b"%04d%02d%02d" % (day.year, day.month, day.day)
        query = (
            b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%%2F%b%%2F%b"
            b"%%2Fs3%%2Faws4_request&X-Amz-Date=%bT000000Z&X-Amz-Expires=86400"
            b"&X-Amz-SignedHeaders=host&X-Amz-Signature=" % (stamp, BUCKET_REGION, stamp)
        )
        signatures = random_texts(rng, len(signed), 64, HEX_LETTERS)
        for row, signature in zip(signed.tolist(), signatures, strict=True):
            name = self._catalogue.paths[requests.keys[row]].rpartition(b"/")[2]
            # One in three has raw quotes in the request line, as browsers send it.
            quote = b'"' if detail[row] < 0.33 else b"%22"
            parts[row, _QUERY] = b"?response-content-disposition=attachment%%3B%%20filename%%3D%b" % (
                quote + name + quote + b"&" + query + signature
            )
        parts[signed, _TAIL] = self._clients.signed_tails[requests.clients[signed]]

    def _write_failed(self, parts: Pieces, requests: Requests, detail: Floats) -> None:
        """GETs that sent no object."""
        sizes = self._catalogue.sizes[requests.keys]
        unmodified = requests.of_kind(Kind.NOT_MODIFIED)
        parts[unmodified, _BLOCK] = [b"304 - - %d " % size for size in sizes[unmodified]]
        parts[requests.of_kind(Kind.FORBIDDEN), _BLOCK] = b"403 AccessDenied 243 - "
        parts[requests.of_kind(Kind.BAD_RANGE), _BLOCK] = b"416 InvalidRange 361 - "
        failed = requests.of_kind(Kind.SERVER_ERROR)
        parts[failed, _BLOCK] = _ERROR_BLOCKS[(detail[failed] * 2).astype(np.int64)]

        missing = requests.of_kind(Kind.MISSING)
        program = self._clients.program[requests.clients[missing]]
        # The probes stand first, and crawlers favour them.
        favour = np.where(program == PROGRAM_NAMES.index("crawler"), 6, 1)
        stale = self._catalogue.missing_requests
        chosen = detail[missing] ** favour * len(stale)
        parts[missing, _REQUEST] = stale[chosen.astype(np.int64)]
        parts[missing, _BLOCK] = _MISSING_BLOCKS[(detail[missing] * 60).astype(np.int64)]
        for kind in (Kind.FORBIDDEN, Kind.BAD_RANGE, Kind.SERVER_ERROR, Kind.MISSING):
            parts[requests.of_kind(kind), _OBJECT_VERSION] = b" -"

    def _write_other_operations(self, parts: Pieces, requests: Requests, detail: Floats) -> None:
        """HEAD, listings, and calls that are refused."""
        catalogue = self._catalogue
        head = requests.of_kind(Kind.HEAD)
        parts[head, _REQUEST] = catalogue.head_requests[requests.keys[head]]
        parts[head, _BLOCK] = [b"200 - - %d " % size for size in catalogue.sizes[requests.keys[head]]]
        missed = requests.of_kind(Kind.HEAD_MISSING)
        parts[missed, _REQUEST] = [
            b' REST.HEAD.OBJECT %b.old "HEAD /%b.old' % (catalogue.keys[n], catalogue.paths[n])
            for n in requests.keys[missed]
        ]
        parts[missed, _BLOCK] = b"404 NoSuchKey 291 - "
        listed = requests.of_kind(Kind.LIST)
        parts[listed, _REQUEST] = [
            b' REST.GET.BUCKET - "GET /?list-type=2&delimiter=%%2F&max-keys=1000&prefix=%b%%2F'
            % catalogue.paths[n].partition(b"/")[0]
            for n in requests.keys[listed]
        ]
        parts[listed, _BLOCK] = [b"200 - %d - " % (400 + share * 240_000) for share in detail[listed]]
        other = requests.of_kind(Kind.OTHER)
        parts[other, _REQUEST] = _OTHER_REQUESTS[(detail[other] * len(_OTHER_REQUESTS)).astype(np.int64)]
        parts[other, _BLOCK] = b"403 AccessDenied 243 - "
        for rows in (missed, listed, other):
            parts[rows, _OBJECT_VERSION] = b" -"

    def _write_website(self, parts: Pieces, requests: Requests, detail: Floats) -> None:
        website = requests.of_kind(Kind.WEBSITE)
        parts[website, _REQUEST] = b' WEBSITE.GET.OBJECT index.html "GET /'
        parts[website, _BLOCK] = _WEBSITE_BLOCKS[(detail[website] ** 2 * 3).astype(np.int64)]
        parts[website, _OBJECT_VERSION] = b" -"

    def _write_uploads(self, parts: Pieces, requests: Requests, detail: Floats) -> None:
        """What the archive itself writes and deletes."""
        keys, paths, sizes = self._catalogue.keys, self._catalogue.paths, self._catalogue.sizes
        put, deleted = requests.of_kind(Kind.PUT), requests.of_kind(Kind.BATCH_DELETE)
        for rows in (put, deleted):
            parts[rows, _SOURCE] = _ARCHIVE_SOURCES[(detail[rows] * 3).astype(np.int64)]
            parts[rows, _TAIL] = _ARCHIVE_TAIL
        parts[put, _AGENT] = _ARCHIVE_AGENT
        parts[put, _REQUEST] = [b' REST.PUT.OBJECT %b "PUT /%b' % (keys[n], paths[n]) for n in requests.keys[put]]
        parts[put, _BLOCK] = [b"200 - - %d " % size for size in sizes[requests.keys[put]]]
        parts[deleted, _AGENT] = b"- -"
        parts[deleted, _REQUEST] = [b" BATCH.DELETE.OBJECT %b - " % keys[n] for n in requests.keys[deleted]]
        parts[deleted, _VERSION] = b""
        parts[deleted, _BLOCK] = [b"204 - - %d " % size for size in sizes[requests.keys[deleted]]]

    def _write_internal(self, parts: Pieces, requests: Requests, detail: Floats) -> None:
        """What Amazon does inside: no address, no request line."""
        keys, sizes = self._catalogue.keys, self._catalogue.sizes
        fetched, expired = requests.of_kind(Kind.INTERNAL_GET), requests.of_kind(Kind.EXPIRE)
        for rows in (fetched, expired):
            parts[rows, _VERSION] = b""
            parts[rows, _AGENT] = b'"-" "-"'
        parts[fetched, _SOURCE] = _INTERNAL_SOURCES[(detail[fetched] * 2).astype(np.int64)]
        parts[fetched, _REQUEST] = [b" REST.GET.OBJECT %b - " % keys[n] for n in requests.keys[fetched]]
        parts[fetched, _TAIL] = _INTERNAL_TAIL
        parts[expired, _SOURCE] = b"- AmazonS3 "
        parts[expired, _REQUEST] = [b' S3.EXPIRE.OBJECT %b "-" ' % keys[n] for n in requests.keys[expired]]
        parts[expired, _BLOCK] = [b"- - - %d " % size for size in sizes[requests.keys[expired]]]
        parts[expired, _TAIL] = b" - - - - - - - -\n"


def split_ends(line: Pieces) -> tuple[bytes, bytes]:
    """Of one line's parts: `OWNER ... REQID`, and what follows the user agent."""
    return b"".join(line[: _REQUEST_ID + 1]), b"".join(line[_OBJECT_VERSION:])


@lru_cache(maxsize=1)
def _times_of_day() -> Pieces:
    """`hh:mm:ss +0000] ` for each second."""
    return pieces(
        b"%02d:%02d:%02d +0000] " % (second // 3600, second // 60 % 60, second % 60) for second in range(86_400)
    )


def _timings(requests: Requests, sent: Floats, pace: Floats) -> Pieces:
    """`TOTAL TURN ` in milliseconds."""
    turn = (6.0 + 60.0 * pace**3).astype(np.int64)
    # Bytes per millisecond: from a slow line to a machine in the same region.
    total = turn + (1.0 + sent / (400.0 * 600.0**pace)).astype(np.int64)
    timings = pieces(b"%d %d " % pair for pair in zip(total.tolist(), turn.tolist(), strict=True))
    timings[np.isin(requests.kinds, (Kind.EXPIRE, Kind.BATCH_DELETE))] = b"- - "
    return timings


def _pairs(sent: Floats, sizes: Ints, rows: Ints) -> Iterator[tuple[int, int]]:
    return zip(sent[rows].astype(np.int64).tolist(), sizes[rows].tolist(), strict=True)
