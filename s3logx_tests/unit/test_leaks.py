"""The search for what must not be in a release: everything planted is found, nothing of what is told is quoted."""

import base64
import time
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3logx_assets.core.leaks import Scan, names_in

KEY = bytes(range(32))
BY_DAY = b"date\tbytes_sent\tnumber_of_requests\tnumber_of_downloads\n2025-03-01\t7\t60\t<50\n"


def found(name: str, content: bytes, *names: str) -> list[str]:
    return [str(each) for each in Scan([KEY], names).findings(name, content)]


around = st.sampled_from(["", " ", "\n", '"', "'", ">", "(", "=", "\t", "/", ",", "[", "ip=", "%20 ", "é"])
after = st.sampled_from(["", " ", "\n", '"', "<", ")", "/", ",", "]", ". ", "é", "\r\n"])
v4 = st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number)))
v6 = st.integers(2**32, 2**128 - 1).map(IPv6Address)
forms = st.one_of(
    v4,
    v4.map(lambda text: f"::ffff:{text}"),
    v6.map(lambda address: address.compressed),
    v6.map(lambda address: address.exploded),
    v6.map(lambda address: address.compressed.upper()),
)


@given(around, forms, after)
def test_an_address_is_found_wherever_it_stands(before: str, address: str, behind: str) -> None:
    text = f"first line\n{before}{address}{behind}more text\n" if behind else f"first line\n{before}{address}"
    (finding,) = found("a.json", text.encode())
    assert finding == f"a.json, line {2 + before.count(chr(10))}: looks like an address"
    assert address not in finding


@pytest.mark.parametrize(
    "text", ["ip:2001:db8::1", "[2001:db8::1]:443", "192.0.2.1:443", "x=192.0.2.7.", "2001:db8::1:80"]
)
def test_an_address_with_something_glued_to_it_is_found(text: str) -> None:
    assert found("a.html", text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "a::before { content: none } p::after {}",
        "12:34:56 2025-03-01T12:34:56Z",
        "version 1.2.3, 1.2.3.4.5, v1.2.3.4a",
        "M1.5 2.3v-4.5h3.25.5.5",
        "256.1.1.1 999.999.999.999",
        "sha256:0123456789abcdef0123456789abcdef",
        "https://example.org:8080/x",
        "::",
        "std::vector<int>",
        "urn:a:b:c",
        "<50",
    ],
)
def test_what_is_none_is_let_be(text: str) -> None:
    assert found("a.html", text.encode()) == []


@given(st.binary(max_size=9), st.sampled_from(["raw", "b64", "url", "hex", "HEX"]), st.binary(max_size=9))
def test_a_secret_is_found_in_every_form(before: bytes, form: str, behind: bytes) -> None:
    glued = before + KEY + behind
    text = {
        "raw": glued,
        "b64": base64.b64encode(glued),
        "url": base64.urlsafe_b64encode(glued),
        "hex": glued.hex().encode(),
        "HEX": glued.hex().upper().encode(),
    }[form]
    assert "x.bin: a secret of the settings" in found("x.bin", text)


def test_keys_of_others_are_found() -> None:
    text = b"AKIA" + b"A" * 16 + b" -----BEGIN RSA " + b"PRIVATE KEY-----"
    assert found("a.txt", text) == ["a.txt: AWS access key", "a.txt: private key"]


def test_a_short_secret_is_in_everything_and_not_looked_for() -> None:
    assert list(Scan([b"a"]).findings("a.txt", b"banana")) == []


def test_an_address_in_a_name_of_the_archive_is_the_archives() -> None:
    """A folder of a dataset may be called like a version, or an address; nobody who asks can put it there."""
    content = b'<th>sub/10.1.2.3/a</th> "192.0.2.1"'
    assert found("a.html", content, "sub/10.1.2.3/a") == ["a.html, line 1: looks like an address"]
    assert found("a.html", content.replace(b'"192.0.2.1"', b""), "sub/10.1.2.3/a") == []
    assert Scan([], ["sub/10.1.2.3/a", "b"]).names_like_addresses == 1


def test_names_are_those_of_datasets_and_files() -> None:
    files = {
        "summaries/d/by_asset.tsv": b"asset_path\tx\nsub/10.1.2.3\t1\n",
        "summaries/d/by_region.tsv": b"region\n192.0.2.1\t1\n",
    }
    names = names_in(files, ["1.2.3.4"])
    assert "sub/10.1.2.3" in names
    assert "1.2.3.4" in names
    assert "192.0.2.1" not in names


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("by_day.tsv", [b"2025-03-01\t7\t60\t<50"]),
        ("by_region.tsv", [b"US/Ohio\t7\t60\t<50", b'"a ""b"""\t0\t<50\t<50']),
        ("by_asset.tsv", [b"sub/x.nwb\t7\t60\t60"]),
        ("by_asset_type_per_week.tsv", [b"2025-02-24\t0\t12"]),
        ("region_coordinates.tsv", [b"US/Ohio\t40.25\t-82.9", b"x\t1e-05\t0.0"]),
    ],
)
def test_tables_have_their_columns_and_no_other(name: str, rows: list[bytes]) -> None:
    header = b"header\n"
    assert found(f"summaries/d/{name}", header + b"\n".join(rows) + b"\n") == []
    for row in rows:
        for wrong in (
            row + b"\t-1234567890123456789",
            row.replace(b"\t", b"\tx", 1),
            b"x" + row if row[:2] == b"20" else row[:-1] + b"x",
        ):
            content = header + b"\n".join([*rows, wrong]) + b"\n"
            assert found(name, content) == [f"{name}, line {2 + len(rows)}: a column that no public table has"]


@pytest.mark.parametrize(
    ("content", "wrong"), [(b"<50", False), (b"120", False), (b"-5", True), (b"5\n6", True), (b"", True)]
)
def test_the_count_of_requesters_is_a_count(content: bytes, wrong: bool) -> None:
    assert bool(found("summaries/d/requester_count.tsv", content)) == wrong


def test_texts_of_a_file_that_is_none() -> None:
    scan = Scan([KEY])
    findings = [*scan.findings_in_texts("a.parquet", ["x", "y 192.0.2.1"])]
    assert [str(each) for each in findings] == ["a.parquet: looks like an address"]
    assert list(scan.findings_in_texts("a.parquet", ["x", "1.2.3"])) == []


@pytest.mark.parametrize("piece", [b"1.", b":a", b"1.2.3.", b"::", b"a:", b"255.", b"0", b"\t", b"A"])
def test_the_worst_content_takes_linear_time(piece: bytes) -> None:
    scan = Scan([KEY])

    def seconds(size: int) -> float:
        content = piece * (size // len(piece))
        best = 9.0
        for _ in range(3):
            start = time.perf_counter()
            list(scan.findings("a.html", content))
            list(scan.findings("by_asset.tsv", content))
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(200_000) < 8 * 4 * max(seconds(25_000), 0.001)
