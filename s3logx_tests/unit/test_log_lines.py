"""Known answers of the reference parser, and the order in which defects are judged."""

from datetime import UTC, datetime

import pytest

from s3logx_assets.core.log_lines import (
    MAX_RECORD_BYTES,
    REJECT_REASONS,
    SKIP_RULES,
    Record,
    Rejected,
    Skipped,
    parse_record,
    split_records,
)

HEAD = b"owner bucket [06/Feb/2025:00:00:38 +0000] 192.0.2.3 - 3E57427F3EXAMPLE REST.GET.OBJECT"
BLOCK = b"200 - 113 140 7 6"
CLIENT = b'"-" "curl/8.5.0"'
TAIL = b"- s9lzHYrFp76ZVxRcpX9= SigV4 ECDHE AuthHeader bucket.s3.amazonaws.com TLSv1.2 - - -"
LINE = b" ".join([HEAD, b"a/b.nii", b'"GET /a/b.nii HTTP/1.1"', BLOCK, CLIENT, TAIL])
FORGED = b'"x" 200 - 5 5 1 1 "-" "y"'


def changed(*edits: tuple[bytes, bytes]) -> bytes:
    """The line above with each old text, which must be there, replaced once."""
    line = LINE
    for old, new in edits:
        assert old in line
        line = line.replace(old, new, 1)
    return line


BAD_TIME = (b"06/Feb", b"30/Feb")
BAD_IP = (b"192.0.2.3", b"192.0.2.300")
PUT = (b".GET.", b".PUT.")
BAD_KEY = (b"a/b.nii", b"a/\xff")
BAD_REQUEST = (b'"GET /a/b.nii HTTP/1.1"', b"GET")
FORGERY = (b'"curl/8.5.0"', FORGED)
NOT_FOUND = (b" 200 - 113", b" 404 NoSuchKey 113")
BAD_TAIL = (b" SigV4 ", b"  SigV4 ")


def everything_is_excluded(address: bytes) -> bool:
    return True


def test_a_successful_get_gives_its_fields() -> None:
    assert parse_record(LINE) == Record(
        object_key="a/b.nii",
        requested_at=datetime(2025, 2, 6, 0, 0, 38, tzinfo=UTC),
        bytes_sent=113,
        object_size=140,
        status=200,
        address=bytes.fromhex("00000000000000000000ffffc0000203"),
    )


def test_dashes_are_no_bytes_no_size_and_no_address() -> None:
    record = parse_record(changed((b"192.0.2.3", b"-"), (b"113 140 7 6", b"- - - -")))
    assert isinstance(record, Record)
    assert (record.bytes_sent, record.object_size, record.address) == (0, None, None)


@pytest.mark.parametrize(
    ("token", "address"),
    [
        (b"0.0.0.0", "00000000000000000000ffff00000000"),
        (b"255.255.255.255", "00000000000000000000ffffffffffff"),
        (b"::", "00000000000000000000000000000000"),
        (b"2001:DB8::a:0", "20010db80000000000000000000a0000"),
        (b"2001:db8:0:0:0:0:0:1", "20010db8000000000000000000000001"),
        (b"::ffff:192.0.2.3", "00000000000000000000ffffc0000203"),
        (b"64:ff9b::192.0.2.3", "0064ff9b0000000000000000c0000203"),
    ],
)
def test_addresses_become_16_bytes(token: bytes, address: str) -> None:
    record = parse_record(changed((b"192.0.2.3", token)))
    assert isinstance(record, Record)
    assert record.address == bytes.fromhex(address)


def test_the_address_stays_out_of_the_repr() -> None:
    record = parse_record(changed((b"192.0.2.3", b"::4141:4141:4141:4141")))
    assert "address" not in repr(record)
    assert "AAAA" not in repr(record)


@pytest.mark.parametrize("gap", [b" - ", b" arn:aws:iam::123456789012:user/x ", b"  ", b"  x "])
def test_an_empty_requester_may_double_its_blank(gap: bytes) -> None:
    assert isinstance(parse_record(changed((b" - 3E", gap + b"3E"))), Record)


def test_after_an_empty_requester_a_key_is_not_taken_for_the_operation() -> None:
    record = parse_record(changed((b" - 3E", b"  3E"), (b" a/b.nii ", b" README.md ")))
    assert isinstance(record, Record)
    assert record.object_key == "README.md"


# In the order of judgement: each outcome with the edit that causes it.
DEFECTS: list[tuple[Skipped | Rejected, tuple[bytes, bytes]]] = [
    (Rejected("head"), (b"owner bucket", b"owner  bucket")),
    (Rejected("time"), BAD_TIME),
    (Rejected("ip"), BAD_IP),
    (Skipped("operation"), PUT),
    (Rejected("key"), BAD_KEY),
    (Rejected("request"), BAD_REQUEST),
    (Rejected("ambiguous"), FORGERY),
    (Skipped("status"), NOT_FOUND),
    (Rejected("tail"), BAD_TAIL),
]


@pytest.mark.parametrize(("outcome", "defect"), DEFECTS, ids=[str(outcome) for outcome, _ in DEFECTS])
def test_each_defect_alone_has_its_outcome(outcome: Skipped | Rejected, defect: tuple[bytes, bytes]) -> None:
    assert parse_record(changed(defect)) == outcome


@pytest.mark.parametrize("first", range(len(DEFECTS)))
def test_of_several_defects_the_first_in_order_is_named(first: int) -> None:
    line = changed(*(defect for _, defect in DEFECTS[first:]))
    assert parse_record(line, everything_is_excluded) == DEFECTS[first][0]


def test_excluded_is_judged_last() -> None:
    assert parse_record(LINE, everything_is_excluded) == Skipped("excluded")
    assert parse_record(changed(BAD_TAIL), everything_is_excluded) == Rejected("tail")
    assert parse_record(changed(NOT_FOUND), everything_is_excluded) == Skipped("status")


def test_exclusion_sees_the_address_as_logged_and_never_a_dash() -> None:
    seen = []

    def spy(address: bytes) -> bool:
        seen.append(address)
        return False

    for token in (b"2001:DB8::0:1", b"-", b"192.0.2.3"):
        assert isinstance(parse_record(changed((b"192.0.2.3", token)), spy), Record)
    assert seen == [b"2001:DB8::0:1", b"192.0.2.3"]


@pytest.mark.parametrize("record", [b"", b"\r", b" ", b"\t \t", b" \r"])
def test_blank_records(record: bytes) -> None:
    assert parse_record(record) == Skipped("blank")


def test_the_length_limit_counts_the_cr_and_comes_after_blank() -> None:
    padding = b"x" * (MAX_RECORD_BYTES - len(LINE))
    longest = changed((b"curl", b"curl" + padding))
    assert len(longest) == 16 * 1024 * 1024
    assert isinstance(parse_record(longest), Record)
    assert parse_record(longest + b"\r") == Rejected("too_long")
    assert parse_record(b"\x00" * (MAX_RECORD_BYTES + 1)) == Rejected("too_long")
    assert parse_record(b"\t" * (MAX_RECORD_BYTES + 1)) == Skipped("blank")


def test_one_cr_is_dropped_and_a_second_is_part_of_the_tail() -> None:
    assert parse_record(LINE + b"\r") == parse_record(LINE)
    assert parse_record(LINE + b"\r\r") == Rejected("tail")


def test_a_crafted_404_does_not_become_a_download() -> None:
    """A 404 whose URI held a quote and `200 - 5 5 ...` was counted as 5 bytes downloaded."""
    uri = b'"GET /k" 200 - 999 999 1 1 "-" "x HTTP/1.1"'
    line = changed((b'"GET /a/b.nii HTTP/1.1"', uri), NOT_FOUND)
    assert parse_record(line) == Rejected("ambiguous")
    assert parse_record(line.replace(b"200 - 999", b"403 - 999")) == Skipped("status")


def test_a_forged_block_that_cannot_be_the_request_is_ignored() -> None:
    uri = b'"GET /k" 200 - 999 999 1 1 HTTP/1.1"'
    record = parse_record(changed((b'"GET /a/b.nii HTTP/1.1"', uri)))
    assert isinstance(record, Record)
    assert record.bytes_sent == 113


def test_an_ordinary_looking_line_can_be_ambiguous() -> None:
    """Six quotes in their usual places: the referer itself starts with a block that fits."""
    line = changed((b'"-" "curl', b'" 200 - 5 5 1 1 - " "curl'))
    assert line.count(b'"') == 6
    assert parse_record(line) == Rejected("ambiguous")


@pytest.mark.parametrize("uri", [b"-", b'"-"', b'""', b'"GET /a"', b'"GET /a HTTP/2"', b'"G"E"T"'])
def test_request_lines_of_every_make(uri: bytes) -> None:
    assert isinstance(parse_record(changed((b'"GET /a/b.nii HTTP/1.1"', uri))), Record)


def test_the_old_format_ends_with_the_version_id() -> None:
    assert parse_record(changed((TAIL, b"-"))) == parse_record(LINE)
    assert parse_record(changed((b" " + TAIL, b""))) == Rejected("tail")


def test_the_closed_lists() -> None:
    assert SKIP_RULES == ("blank", "operation", "status", "excluded")
    assert REJECT_REASONS == (
        "too_long",
        "head",
        "time",
        "ip",
        "key",
        "request",
        "ambiguous",
        "tail",
    )


@pytest.mark.parametrize(
    ("content", "records"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\n\nb\r\n", [b"a", b"", b"b\r"]),
        (b"a\x0bb\x0cc\x85d\r\xe2\x80\xa8e\nf", [b"a\x0bb\x0cc\x85d\r\xe2\x80\xa8e", b"f"]),
    ],
)
def test_only_newlines_part_records(content: bytes, records: list[bytes]) -> None:
    assert list(split_records(content)) == records
