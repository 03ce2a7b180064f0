"""Records through the real extraction program, one verdict each, and the same verdicts by the reference parser."""

import random
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from s3logx_assets.adapters.extractor import _PROGRAM_COUNTS
from s3logx_assets.adapters.gawk import Gawk, RecordFeeder, Report
from s3logx_assets.core.addresses import pack
from s3logx_assets.core.extraction import parse_rows
from s3logx_assets.core.log_lines import Record, Rejected, Skipped, parse_record
from s3logx_tests import hard_lines

Verdict = tuple[object, ...]

_RECORDS_PER_REPORT = 1000


@contextmanager
def running() -> Iterator[tuple[Gawk, list[Report]]]:
    """A running program and its reports; all are in when the block has ended."""
    gawk = Gawk()
    reports: list[Report] = []
    errors: list[BaseException] = []

    def read() -> None:
        try:
            reports.extend(gawk.reports())
        except BaseException as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield gawk, reports
        gawk.open_file(-1)
        gawk.report()
        gawk.end()
        reader.join()
    finally:
        gawk.kill()
        reader.join()
        gawk.close()
    if errors:
        raise errors[0]


def verdicts(records: Iterable[bytes]) -> list[Verdict]:
    """What the program makes of each record, each as a file of its own: ("extracted", key, second, bytes, size, status,
    address as 16 bytes) or ("skipped_…",) or ("rejected_…",)."""
    with running() as (gawk, reports):
        feeder = RecordFeeder(gawk)
        for number, record in enumerate(records):
            gawk.open_file(number)
            feeder.feed(record + b"\n")
            feeder.end_file()
            if number % _RECORDS_PER_REPORT == _RECORDS_PER_REPORT - 1:
                gawk.open_file(-1)
                gawk.report()
    found: list[Verdict] = []
    for report in reports:
        rows = iter(row_verdicts(report))
        for file in report.files:
            assert file.number == len(found)
            assert file.records == 1 == file.extracted + sum(file.counts)
            if file.extracted:
                found.append(next(rows))
            else:
                found.append((_PROGRAM_COUNTS[file.counts.index(1)],))
        assert next(rows, None) is None
    return found


def row_verdicts(report: Report) -> list[Verdict]:
    """The rows of a report as verdicts."""
    table = parse_rows(report.rows).to_pydict()
    return [
        ("extracted", key, int(when.timestamp()), sent or 0, size, status, None if address == "-" else pack(address))
        for key, when, sent, size, status, address in zip(
            table["object_key"],
            table["requested_at"],
            table["bytes_sent"],
            table["object_size"],
            table["status"],
            table["address"],
            strict=True,
        )
    ]


def reference(record: bytes) -> Verdict:
    """What the reference parser makes of a record, excluded addresses set aside as the program does."""
    match parse_record(record):
        case Skipped(rule):
            return (f"skipped_{rule}",)
        case Rejected(reason):
            return (f"rejected_{reason}",)
        case Record(key, when, sent, size, status, address):
            return ("extracted", key, int(when.timestamp()), sent, size, status, address)


def truth(line: hard_lines.HardLine) -> Verdict:
    """What a hard line is by its construction, excluded addresses as its rule says."""
    expected = line.expected
    if expected.kind != "extracted":
        return (f"{expected.kind}_{expected.reason}",)
    assert expected.requested_at is not None
    return (
        "extracted",
        expected.object_key,
        int(expected.requested_at.timestamp()),
        expected.bytes_sent,
        expected.object_size,
        expected.status,
        expected.address,
    )


def disagreements(records: Sequence[bytes]) -> list[tuple[Verdict, Verdict, bytes]]:
    """(program, reference, record) wherever the two differ."""
    return [
        (ours, theirs, record)
        for record, ours in zip(records, verdicts(records), strict=True)
        if ours != (theirs := reference(record))
    ]


_PIECES = (
    *(
        b'"',
        b" ",
        b'" ',
        b' "',
        b'" "',
        b"-",
        b" - ",
        b'" - "',
        b'"-"',
        b" -",
        b"- ",
        b'""',
        b"\\",
        b"x",
        b"x y",
        b"\r",
    ),
    *(b'" %s - 5 5 1 1' % status for status in (b"200", b"206", b"404", b"-")),
    *(b'" 200 - - - - - "-" "-" ', b" 200 - 5 5 1 1 ", b'" 200 Err 1 2 3 4 - -', b'" 304 - - - 1 - "-" "y" v h'),
    *(b"\x00", b"\xff", b"\t", b"\x1e", "é".encode(), b"200", b"[", b"] ", b" +0000] ", b"REST.GET.OBJECT", b"a.B"),
)


def hostile_lines(rng: random.Random) -> Iterator[bytes]:
    """Lines, without end, of a server that tells the truth and clients that write whatever could be misread."""
    honest = [hard_lines.honest_parts(rng) for _ in range(300)]
    while True:
        yield _hostile(rng, rng.choice(honest))


def _hostile(rng: random.Random, parts: hard_lines.Parts) -> bytes:

    def soup(most: int) -> bytes:
        return b"".join(rng.choices(_PIECES, k=rng.randint(0, most)))

    def text() -> bytes:
        return rng.choice([b"-", b'"' + soup(5) + b'"', b'"' + soup(5) + b'"', soup(4)])

    changes: dict[str, Any] = {}
    for name in rng.sample(["uri", "referer", "agent"], rng.randint(1, 3)):
        changes[name] = text()
    if rng.random() < 0.3:
        changes["tail"] = rng.choice([b"- h - - - - - x", b"-", b"- - - - -", b"200 h 1 2 3 4 - - x", soup(4)])
    if rng.random() < 0.2:
        changes["status"] = rng.choice([b"404", b"-", b"304", b"20", soup(2)])
    if rng.random() < 0.2:
        changes["gap"] = rng.choice([b"  ", b"  - ", b" a.B ", b"  a.B ", b"  REST.GET.OBJECT ", soup(3)])
    if rng.random() < 0.1:
        changes["key"] = rng.choice([b"a.B", b"REST.GET.OBJECT", b"-", b'"', soup(3)])
    return replace(parts, **changes).record().replace(b"\n", b"\x0b")
