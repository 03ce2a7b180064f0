"""The reference parser against lines of known truth, arbitrary bytes, brute force and the clock."""

import gc
import random
import re
import statistics
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3logx_assets.core.log_lines import (
    REJECT_REASONS,
    SKIP_RULES,
    Record,
    Rejected,
    Skipped,
    parse_record,
    split_records,
)
from s3logx_tests.hard_lines import (
    CATEGORIES,
    HUGE_CATEGORIES,
    Expected,
    generate,
    honest_line,
    is_excluded,
    mutate,
)

HEAD = b"o b [06/Feb/2025:00:00:38 +0000] 192.0.2.3 - 3E57 REST.GET.OBJECT key "


def as_expected(outcome: Record | Skipped | Rejected) -> Expected:
    if isinstance(outcome, Skipped):
        return Expected("skipped", outcome.rule)
    if isinstance(outcome, Rejected):
        return Expected("rejected", outcome.reason)
    return Expected(
        kind="extracted",
        object_key=outcome.object_key,
        requested_at=outcome.requested_at,
        bytes_sent=outcome.bytes_sent,
        object_size=outcome.object_size,
        status=outcome.status,
        address=outcome.address,
    )


def test_every_category_has_the_truth_it_was_built_with() -> None:
    wrong, seen, reasons = set(), set(), set()
    for line in generate(seed=20250206, per_category=12):
        seen.add(line.category)
        reasons.add(line.expected.reason)
        if as_expected(parse_record(line.record, is_excluded)) != line.expected:
            wrong.add(line.category)
    assert wrong == set()
    assert seen == set(CATEGORIES)
    assert reasons == {"", *SKIP_RULES, *REJECT_REASONS}


def test_the_generator_is_seeded_and_writes_one_record_per_line() -> None:
    first = [line.record for line in generate(7, 2, per_huge_category=0)]
    assert first == [line.record for line in generate(7, 2, per_huge_category=0)]
    assert first != [line.record for line in generate(8, 2, per_huge_category=0)]
    assert len(first) == 2 * (len(CATEGORIES) - len(HUGE_CATEGORIES))
    assert not any(b"\n" in record for record in first)


def check_outcome(outcome: Record | Skipped | Rejected) -> None:
    if isinstance(outcome, Record):
        assert 200 <= outcome.status <= 299
        assert 0 <= outcome.bytes_sent < 10**18
        assert re.search('[\\x00-\\x20"\\x7f]', outcome.object_key) is None
        assert outcome.object_key
        assert outcome.address is None or len(outcome.address) == 16
    elif isinstance(outcome, Skipped):
        assert outcome.rule in SKIP_RULES
    else:
        assert outcome.reason in REJECT_REASONS


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_have_an_outcome(record: bytes) -> None:
    check_outcome(parse_record(record))
    check_outcome(parse_record(HEAD + record))


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_damaged_lines_have_an_outcome(seed: int) -> None:
    rng = random.Random(seed)
    damaged = mutate(rng, honest_line(rng))
    assert b"\n" not in damaged
    check_outcome(parse_record(damaged))


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text("a\n\r", max_size=50).map(str.encode))
def test_records_and_newlines_are_the_whole_file(content: bytes) -> None:
    records = list(split_records(content))
    assert not any(b"\n" in record for record in records)
    joined = b"\n".join(records)
    assert content == joined or content == joined + b"\n"


# The format once more, as a backtracking regex would have it: slow, but every split is tried.
BLOCK = rb" ([1-5][0-9]{2}|-) (?:-|[A-Za-z][\w.]{0,99})(?: (?:-|[0-9]{1,18})){4}"
FITS = re.compile(rb' (?:-|".*") (?:-|".*")(?: [!#-~]+)+', re.DOTALL)


def judge_by_brute_force(rest: bytes) -> str:
    ends = [1] if rest[:1] == b"-" else [i + 1 for i, c in enumerate(rest) if i and c == 0x22]
    ends = ends if rest[:1] in (b"-", b'"') else []
    blocks = [re.compile(BLOCK + rb"(?= |\Z)").match(rest, end) for end in ends]
    places = [block for block in blocks if block]
    fitting = [place for place in places if FITS.fullmatch(rest, place.end())]
    statuses = [place[1][:1] for place in fitting or places]
    if not statuses:
        return "request"
    if b"2" not in statuses:
        return "status"
    if len(statuses) > 1:
        return "ambiguous"
    return "" if fitting else "tail"


PIECES = [b'"', b'"', b" ", b" ", b"-", b" - ", b'" "', b"x", b" 200 - 1 2 3 4", b" 404 E 1 - - 4"]
HONEST_RESTS = [
    b'"u" 200 - 1 2 3 4 "r" "a" - h x',
    b'"u" 404 - 1 2 3 4 - "a" v',
    b"- 206 - 1 2 3 4 - - v h",
]


@settings(max_examples=800, deadline=None)
@given(
    st.sampled_from(HONEST_RESTS),
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from(PIECES)), max_size=8),
)
def test_every_split_of_quotes_is_judged_as_brute_force_does(rest: bytes, insertions: list[tuple[int, bytes]]) -> None:
    for at, piece in insertions:
        rest = rest[:at] + piece + rest[at:]
    assert as_expected(parse_record(HEAD + rest)).reason == judge_by_brute_force(rest)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, b'"u" 200 - 1 2 3 4 ', b"v"]), max_size=14).map(b"".join))
def test_every_soup_of_pieces_is_judged_as_brute_force_does(rest: bytes) -> None:
    assert as_expected(parse_record(HEAD + rest)).reason == judge_by_brute_force(rest)


START = HEAD + b'"GET /a HTTP/1.1" 200 - 5 5 1 1 '
WORST: dict[str, Callable[[int], bytes]] = {
    "token": lambda n: b"o" * n,
    "tokens": lambda n: b"o " * n,
    "bracket": lambda n: b"o b [" + b"[ " * n,
    "operation": lambda n: HEAD.replace(b"REST", b"REST" + b".A" * n) + b'"',
    "ipv4": lambda n: HEAD.replace(b"192", b"1." * n),
    "ipv6": lambda n: HEAD.replace(b"192.0.2.3", b"1:" * n),
    "key": lambda n: HEAD.replace(b"key", b"%25" * n),
    "quotes": lambda n: START + b'"-" "' + b'"' * n + b'" - h',
    "quotes and blanks": lambda n: START + b'"-" "' + b'" ' * n + b'" - h',
    "partings": lambda n: START + b'"-" "' + b'" "' * n + b'" - h',
    "places that fit": lambda n: START + b'"-" "' + b'" 404 - 5 5 1 1 ' * n + b'"-" "" - h',
    "places that do not": lambda n: START + b'"-" "' + b'" 200 - 5 5 1 1 x' * n + b'" - h',
    "error codes": lambda n: START + b'"-" "' + (b'" 200 ' + b"E" * 101) * n + b'" - h',
    "tail": lambda n: START + b'"-" "-"' + b" -" * n + b" ",
    "tail of blocks": lambda n: START + b'- "-"' + b" 200 - 5 5 1 1 - -" * n + b" ",
}


def parse_seconds(record: bytes) -> float:
    """The time of this thread, whatever else the machine does, and without collecting what other tests left behind."""
    gc.disable()
    try:
        start = time.thread_time()
        parse_record(record)
        return time.thread_time() - start
    finally:
        gc.enable()


@pytest.mark.parametrize("name", WORST)
def test_time_grows_with_the_length_only(name: str) -> None:
    """Eight times the length may take eight times as long, not sixty-four."""
    unit = len(WORST[name](1001)) - len(WORST[name](1000))
    short, long = (WORST[name](size // unit) for size in (131_072, 1_048_576))
    ratios = [parse_seconds(long) / (parse_seconds(short) + 1e-4) for _ in range(5)]
    assert statistics.median(ratios) < 24
    assert statistics.median(parse_seconds(long) for _ in range(3)) < 1
