"""The gawk program against the reference parser and against truth by construction, on hard, mutated and hostile lines."""

import random
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice, product

import pytest

from s3logx_assets.adapters.extractor import _PROGRAM_COUNTS
from s3logx_assets.adapters.gawk import RecordFeeder
from s3logx_assets.core.log_lines import MAX_RECORD_BYTES, split_records
from s3logx_tests.hard_lines import CATEGORIES, HUGE_CATEGORIES, HardLine, generate, honest_line, mutate
from s3logx_tests.programs import (
    Verdict,
    disagreements,
    hostile_lines,
    reference,
    row_verdicts,
    running,
    truth,
    verdicts,
)

SEED = 20250301


def summary(found: list[tuple[Verdict, Verdict, bytes]]) -> list[str]:
    """The first disagreements, short enough to be read."""
    return [f"program {ours}, reference {theirs}: {record[:2000]!r}" for ours, theirs, record in found[:5]]


def assert_true(lines: list[HardLine]) -> None:
    found = verdicts([line.record for line in lines])
    for line, verdict in zip(lines, found, strict=True):
        expected = truth(line)
        if expected == ("skipped_excluded",):  # the caller's business, as is told in the program
            assert verdict[0] == "extracted", line.category
            assert verdict == reference(line.record), line.category
        else:
            assert verdict == expected, line.category
            assert line.huge or reference(line.record) == expected, line.category


def test_the_program_tells_the_truth_about_every_category() -> None:
    lines = list(generate(SEED, per_category=15, per_huge_category=0))
    assert {line.category for line in lines} == set(CATEGORIES) - HUGE_CATEGORIES
    assert len(CATEGORIES) > 100
    assert_true(lines)


def test_the_program_tells_the_truth_about_every_huge_category() -> None:
    lines = list(generate(SEED, per_category=0, per_huge_category=1))
    assert {line.category for line in lines} == HUGE_CATEGORIES
    assert_true(lines)


def test_the_order_of_records_changes_no_verdict() -> None:
    """The program remembers the start of the last record; that must not show."""
    lines = list(generate(SEED + 1, per_category=3, per_huge_category=0))
    random.Random(SEED).shuffle(lines)
    assert_true(lines)


def mutated(rng: random.Random, count: int) -> Iterator[bytes]:
    """Mutations of hard lines that are not too long to be many, and hostile lines."""
    lines = [line.record for line in generate(rng.randrange(1 << 32), 1, 0) if len(line.record) < 3000]
    for hostile in islice(hostile_lines(rng), count // 2):
        yield hostile
        yield mutate(rng, rng.choice(lines))


def test_program_and_reference_agree_on_mutated_and_hostile_lines() -> None:
    records = list(mutated(random.Random(SEED), 40_000))
    assert summary(disagreements(records)) == []
    kinds = Counter(reference(record)[0] for record in records)
    assert kinds["extracted"] > 2000
    assert kinds["rejected_ambiguous"] > 500
    assert kinds["rejected_tail"] > 500
    assert kinds["rejected_request"] > 500
    assert kinds["skipped_status"] > 500


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_program_and_reference_agree_on_two_million_lines() -> None:
    rng = random.Random()
    for batch in range(40):
        seed = rng.randrange(1 << 64)
        found = disagreements(list(mutated(random.Random(seed), 50_000)))
        assert summary(found) == [], f"batch {batch}, seed {seed}"


HEAD_PIECES = (b"", b"-", b"ID", b"A.B", b"REST.GET.OBJECT", b"REST.PUT.OBJECT")
BODY_PIECES = (b'" ', b' "', b'"', b" -", b" 200 - 1 2 3 4", b" 404 - - - - -", b" v")


def heads(longest: int) -> Iterator[bytes]:
    """Records with every sequence of up to `longest` pieces between the address and the request."""
    start = b"owner bucket [01/Mar/2025:00:00:00 +0000] 192.0.2.1 "
    end = b' "GET /k HTTP/1.1" 200 - 1 2 3 4 "-" "-" - host'
    for length in range(1, longest + 1):
        for pieces in product(HEAD_PIECES, repeat=length):
            yield start + b" ".join(pieces) + end


def bodies(length: int) -> Iterator[bytes]:
    """Records with every sequence of `length` pieces behind the quote that opens the request."""
    start = b'owner bucket [01/Mar/2025:00:00:00 +0000] 192.0.2.1 - ID REST.GET.OBJECT k "'
    for pieces in product(BODY_PIECES, repeat=length):
        yield start + b"".join(pieces)


def bare_bodies(length: int) -> Iterator[bytes]:
    """Records with every sequence of `length` pieces behind a request that is `-` without quotes, or almost."""
    for start in (b"- 200 - 1 2 3 4 ", b"- 404 - - - - - ", b"- "):
        for pieces in product(BODY_PIECES, repeat=length):
            yield (
                b"owner bucket [01/Mar/2025:00:00:00 +0000] 192.0.2.1 - ID REST.GET.OBJECT k "
                + start
                + b"".join(pieces)
            )


def test_program_and_reference_agree_on_every_small_head() -> None:
    assert summary(disagreements(list(heads(5)))) == []


def test_program_and_reference_agree_on_every_small_body() -> None:
    assert summary(disagreements([record for length in range(5) for record in bodies(length)])) == []


def test_program_and_reference_agree_on_every_small_body_without_a_request() -> None:
    assert summary(disagreements([record for length in range(5) for record in bare_bodies(length)])) == []


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_program_and_reference_agree_on_every_larger_head_and_body() -> None:
    records = chain(heads(7), bodies(5), bodies(6), bodies(7), bare_bodies(5), bare_bodies(6))
    for batch in iter(lambda: list(islice(records, 50_000)), []):
        assert summary(disagreements(batch)) == []


def test_an_operation_in_place_of_a_request_id_is_the_operation() -> None:
    """With two blanks after the address, the shape had been checked for one reading and the columns were written for
    the other: a column too many, which ended the run of all dates."""
    lines = [honest_line(random.Random(seed), gap=b"  ID ", request_id=b"A.B") for seed in range(3)]
    assert [reference(line) for line in lines] == [("skipped_operation",)] * 3
    assert summary(disagreements(lines)) == []


CRAFTED = [
    b" " * (MAX_RECORD_BYTES + 9) + b"\r",
    b" " * (MAX_RECORD_BYTES + 9) + b"\r\r",
    b" " * (MAX_RECORD_BYTES + 9) + b"\r ",
    b"\t" * (MAX_RECORD_BYTES + 9) + b"x",
    b"x" + b" " * (MAX_RECORD_BYTES + 9),
    b" " * MAX_RECORD_BYTES,
    b" " * (MAX_RECORD_BYTES - 1) + b"\r",
    b" " * MAX_RECORD_BYTES + b"\r",
    b"\r" * (MAX_RECORD_BYTES + 1),
    b"\x00" * MAX_RECORD_BYTES,
    b'"' * MAX_RECORD_BYTES,
]


@pytest.mark.parametrize("record", CRAFTED, ids=map(str, range(len(CRAFTED))))
def test_program_and_reference_agree_around_the_longest_record(record: bytes) -> None:
    assert verdicts([record]) == [reference(record)]


def test_text_that_looks_like_the_program_s_own_commands_is_text() -> None:
    records = [
        b"\x1e",
        b"\x1e.",
        b"\x1eC 0 1 1 0 0 0 0 0 0 0 0 0 0 0",
        b"\x1eR 0 1 head",
        b"\x1e%s 5" % (b"0" * 32),
        b"\x1e%s -" % (b"0" * 32),
        b"0" * 32,
        b"BEGIN { print }",
        b"FS=x",
        b"/etc/passwd",
        b"-f",
        honest_line(random.Random(1), agent=b'"\x1e.\x1eC 0 9 9"'),
        honest_line(random.Random(2), key=b"a=b"),
    ]
    assert disagreements(records) == []


def content_of_hard_lines(seed: int, per_category: int) -> bytes:
    return b"\n".join(line.record for line in generate(seed, per_category, 0)) + b"\n"


@pytest.mark.parametrize("seed", range(3))
def test_neither_chunks_nor_reports_between_them_change_the_outcome(seed: int) -> None:
    """A file comes in pieces of any size, and reports may be asked for wherever a record has ended."""
    rng = random.Random(seed)
    content = content_of_hard_lines(seed, 1)
    expected = [reference(record) for record in split_records(content)]
    with running() as (gawk, reports):
        feeder = RecordFeeder(gawk)
        gawk.open_file(7)
        start = 0
        while start < len(content):
            end = start + rng.choice([1, 2, 100, 5000, 70_000])
            if rng.random() < 0.3:
                end = content.find(b"\n", start) + 1
            feeder.feed(content[start:end])
            if feeder.between_records and rng.random() < 0.5:
                gawk.report()
            start = end
        feeder.end_file()
    (closed,) = [file for report in reports for file in report.files]
    assert closed.number == 7
    assert closed.records == len(expected)
    assert [row for report in reports for row in row_verdicts(report)] == [v for v in expected if v[0] == "extracted"]
    counts = Counter(verdict[0] for verdict in expected)
    assert closed.extracted == counts.pop("extracted")
    assert {name: count for name, count in zip(_PROGRAM_COUNTS, closed.counts, strict=True) if count} == counts


def test_the_first_rejected_records_of_each_file_are_named() -> None:
    files = {3: content_of_hard_lines(1, 1), 4: b"", 9: content_of_hard_lines(2, 1), 11: b"bad\n\n\nworse\n"}
    with running() as (gawk, reports):
        for number, content in files.items():
            gawk.open_file(number)
            gawk.feed(content)
    expected = []
    for number, content in files.items():
        reasons = enumerate((str(reference(record)[0]) for record in split_records(content)), start=1)
        rejected = [(number, place, name.removeprefix("rejected_")) for place, name in reasons if "rejected" in name]
        expected += rejected[:20]
    assert [item for report in reports for item in report.rejected] == expected
    assert expected[-2:] == [(11, 1, "head"), (11, 4, "head")]


def test_files_may_be_many_and_empty() -> None:
    with running() as (gawk, reports):
        for number in range(5000):
            gawk.open_file(number)
            if number % 1000 == 0:
                gawk.feed(honest_line(random.Random(number)) + b"\n")
    closed = [file for report in reports for file in report.files]
    assert [file.number for file in closed] == list(range(5000))
    assert [file.number for file in closed if file.records] == list(range(0, 5000, 1000))
    assert sum(file.extracted for file in closed) == 5
    assert not any(count for file in closed for count in file.counts)


def test_pieces_larger_than_a_pipe_and_answers_larger_than_their_buffer() -> None:
    """Input is passed on in pieces, as many as the system takes at once, and a pipe takes a part of them only; a report
    of more rows than are expected makes its buffer grow."""
    rng = random.Random(SEED)
    lines = [honest_line(rng, key=b"k" * 900 + b"%d" % number) + b"\n" for number in range(200)]
    content = b"".join(lines) * 40
    with running() as (gawk, reports):
        gawk.open_file(0)
        gawk.feed(content)
        gawk.open_file(1)
        for start in range(0, 500_000, 100):
            gawk.feed(memoryview(content)[start : start + 100])
        gawk.feed(b"\n" if content[499_999:500_000] != b"\n" else b"")
    first, second = (file for report in reports for file in report.files)
    assert (first.records, first.extracted) == (8000, 8000)
    assert second.records == content[:499_999].count(b"\n") + 1
    assert max(len(report.rows) for report in reports) > 1 << 22
    keys = [verdict[1] for report in reports for verdict in row_verdicts(report)]
    assert keys[:8000] == ["k" * 900 + str(number) for number in range(200)] * 40


def test_records_that_are_nearly_ordinary_take_no_other_path_to_another_verdict() -> None:
    """What is told at a glance of raw quotes in the request, of a request that is `-`, of an empty requester and of a tail
    that could be numbers, must be what is told by trying every place."""
    uris = [
        b'"GET /k HTTP/1.1"',
        b'"GET /k?a="b"&c HTTP/1.1"',
        b'"GET /k" 200 - 1 2 3 4 "x"',
        b'"" "',
        b"-",
        b'"-"',
        b'" "',
    ]
    blocks = [
        b"200 - 1 2 3 4",
        b"206 A 1 2 3 4",
        b"404 NoSuchKey - - 1 2",
        b"- - - - - -",
        b"200 - 1 2 3",
        b"2000 - 1 2 3 4",
    ]
    agents = [
        b'"-" "a"',
        b'"-" " a"',
        b'" -" "a"',
        b'"-" "a" "',
        b'"-" -',
        b'- "a"',
        b"- -",
        b'"" ""',
        b'"a"b" "c"d"',
        b'" " " "',
    ]
    tails = [
        b" - h",
        b" v h SigV4",
        b" 200 - 1 2 3 4",
        b" - A - - - - x",
        b" v  h",
        b" v ",
        b"v",
        b"",
        b" 200 h",
        b" - A 1 2 3",
        b" \xc3\xa9",
    ]
    gaps = [b" - ID ", b"  ID ", b"  - ID "]
    records = [
        b"owner bucket [01/Mar/2025:00:00:00 +0000] 192.0.2.1"
        + gap
        + b"REST.GET.OBJECT k "
        + b" ".join((uri, block, agent))
        + tail
        for gap, uri, block, agent, tail in product(gaps, uris, blocks, agents, tails)
    ]
    assert summary(disagreements(records)) == []
    assert len({reference(record)[0] for record in records}) >= 5


def test_every_operation_but_one_is_skipped() -> None:
    """The fast path knows operations by how they begin; none may be taken for a GET of an object, nor that for another."""
    names = (
        b"REST.GET.OBJECT REST.GET.OBJECT_TAGGING REST.GET.OBJECTS REST.GET.OBJEC REST.GET.BUCKET REST.GET.O REST.GET.OB"
        b" REST.HEAD.OBJECT REST.GETS.OBJECT REST.GE.OBJECT REST.GET REST REST. RES.GET.OBJECT R.E S3.EXPIRE.OBJECT"
        b" BATCH.DELETE.OBJECT WEBSITE.GET.OBJECT SOAP.GET.OBJECT REST.GET.OBJECT.X REST.GET.object rest.get.object"
        b" REST.GET.ACL_1 REST.PUT.PART REST..OBJECT REST.get.OBJECT RE5T.GET.OBJECT REST2.GET.OBJECT"
    ).split()
    records = [honest_line(random.Random(1), operation=name) for name in names]
    assert summary(disagreements(records)) == []
    kinds = Counter(reference(record)[0] for record in records)
    assert kinds["extracted"] == 1
    assert kinds["skipped_operation"] > 15
