"""The search for what must not be in a release: everything planted is found, nothing of what is told is quoted."""

import base64
import html
import json
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3logx_assets.core.data_package import About, data_package
from s3logx_assets.core.leaks import Scan, names_in, names_of_changes
from s3logx_assets.core.scopes import scope_of

KEY = bytes(range(32))
USAGE = "\tbytes_sent\tnumber_of_requests\tnumber_of_downloads"


def found(name: str, content: bytes, *names: str) -> list[str]:
    return [str(each) for each in Scan([KEY], names).findings(name, content)]


around = st.sampled_from(
    [
        "",
        " ",
        "\n",
        '"',
        "'",
        ">",
        "(",
        "=",
        "\t",
        "/",
        ",",
        "[",
        "ip=",
        "%20",
        "é",
        "%2520",
        "\\n",
        "\\u00e9",
        "&#39;",
        "at:",
    ]
)
after = st.sampled_from(["", " ", "\n", '"', "<", ")", "/", ",", "]", ". ", "é", "\r\n", "\\n", "&gt;", "%20", ":443 "])
v4 = st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number)))
v6 = st.integers(2**32, 2**128 - 1).map(IPv6Address)
forms = st.one_of(
    v4,
    v4.map(lambda text: f"::ffff:{text}"),
    v6.map(lambda address: address.compressed),
    v6.map(lambda address: address.exploded),
    v6.map(lambda address: address.compressed.upper()),
    v6.map(lambda address: address.exploded.upper()),
)
escapes = st.sampled_from(
    [
        str,
        quote,
        lambda text: quote(quote(text)),
        lambda text: text.replace(".", "%2e").replace(":", "%3a"),
        lambda text: text.replace(".", "&#46;").replace(":", "&#x3A;"),
        lambda text: text.replace(".", "&period;").replace(":", "&colon;"),
        lambda text: text.replace(".", "\\u002e").replace(":", "\\u003a"),
    ]
)


@given(around, forms, after)
def test_an_address_is_found_wherever_it_stands(before: str, address: str, behind: str) -> None:
    text = f"first line\n{before}{address}{behind}more text\n" if behind else f"first line\n{before}{address}"
    (finding,) = found("a.json", text.encode())
    assert finding == f"a.json, line {2 + before.count(chr(10))}: looks like an address"
    assert address not in finding


@given(forms, escapes)
def test_an_address_is_found_behind_escapes(address: str, escape: Callable[[str], str]) -> None:
    assert found("a.json", f'{{"a": 1,\n "b": "{escape(address)}"}}'.encode()) == [
        "a.json, line 2: looks like an address"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "ip:2001:db8::1",
        "[2001:db8::1]:443",
        "192.0.2.1:443",
        "x=192.0.2.7.",
        "2001:db8::1:80",
        "ip192.0.2.1",
        "x192.0.2.1",
        "192.0.2.1and",
        "192.0.2.1T12:00",
        "a.192.0.2.1",
        "192.000.002.001",
        "1.2.0.192.in-addr.arpa",
        "192.0.2.1.example.org",
        "192.0.2.0/24",
        "fe80::1%eth0",
        "2001:db8::1and",
        "from2001:db8:1:2:3:4:5:6",
        "2001:db8:1:2:3:4:5:6and",
        "a:b:client:from:2001:db8::1",
        "20:01:0d:b8:00:00:00:00:00:00:00:00:00:00:00:01",
        "::1",
        "2001:db8::",
        "::ffff:c000:201",
    ],
)
def test_an_address_with_something_glued_to_it_is_found(text: str) -> None:
    assert found("a.html", text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "a::before { content: none } p::after {}",
        "12:34:56 2025-03-01T12:34:56Z",
        "version 1.2.3, 1.2.3.4.5, v1.2.3.4",
        "M1.5 2.3v-4.5h3.25.5",
        "256.1.1.1 999.999.999.999",
        "sha256:0123456789abcdef0123456789abcdef",
        "https://example.org:8080/x",
        "::",
        "dd::after a::before add::first-line",
        "%C3%A9.1.2.3 \\u00e9.1.2.3",
        "std::vector<int>",
        "urn:a:b:c",
        "<50",
    ],
)
def test_what_is_none_is_let_be(text: str) -> None:
    assert found("a.html", text.encode()) == []


def test_a_secret_of_others_in_a_longer_word_is_none() -> None:
    assert found("a.txt", b"X" + b"AKIA" + b"A" * 16 + b" " + b"AKIA" + b"A" * 17) == []


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
    for start in (b"RSA PRIVATE KEY", b"PRIVATE KEY", b"OPENSSH PRIVATE KEY", b"PGP PRIVATE KEY BLOCK"):
        text = b"ASIA" + b"A" * 16 + b" -----BEGIN " + start + b"-----"
        assert found("a.txt", text) == ["a.txt: AWS access key", "a.txt: private key"]


def test_a_short_secret_is_in_everything_and_not_looked_for() -> None:
    assert list(Scan([b"a"]).findings("a.txt", b"banana")) == []


def test_an_address_in_a_name_of_the_archive_is_the_archives() -> None:
    """A folder of a dataset may be called like a version, or an address; nobody who asks can put it there."""
    content = b'<th>sub/10.1.2.3/a</th> "192.0.2.1"'
    assert found("a.html", content, "sub/10.1.2.3/a") == ["a.html, line 1: looks like an address"]
    assert found("a.html", content.replace(b'"192.0.2.1"', b""), "sub/10.1.2.3/a") == []
    assert Scan([], ["sub/10.1.2.3/a", "b"]).names_like_addresses == 1


def test_a_name_of_the_archive_may_look_like_a_key() -> None:
    """A map called `ASIAPOPULATION202001.tif` held back every release for good."""
    name, other = "é/ASIAPOPULATION202001.tif", "AKIA" + "A" * 16
    written = "\n".join([name, html.escape(name), json.dumps(name), quote(name)])
    scan = Scan([], [name])
    assert list(scan.findings("a.html", written.encode())) == []
    assert list(scan.findings("summaries/d/by_asset.parquet", name.encode())) == []
    assert list(scan.findings_in_table("a.parquet", ["a"], ["a"], [name])) == []
    assert scan.names_like_addresses == 1
    assert found("a.html", f"{name} {other}".encode(), name) == ["a.html: AWS access key"]
    table = f"region{USAGE}\nASIAPOPULATION202001\t7\t60\t60\n"
    assert "by_region.tsv: AWS access key" in found("by_region.tsv", table.encode(), name)


@pytest.mark.parametrize(
    "name", ["a/10.1.2.3/b", "é10.1.2.3", "éa::b", "x%3A%3A1", "10.1.2.3&v=::1", "'1.2.3.4'", "a::b"]
)
def test_a_name_is_known_however_it_is_written(name: str) -> None:
    written = "\n".join([name, html.escape(name), json.dumps(name), quote(name)])
    assert found("a.html", written.encode(), name) == []
    assert Scan([], [name]).names_like_addresses


def test_an_address_is_no_name_in_a_table_that_has_none() -> None:
    """A file may be called like an address, a region never is."""
    content = b"region\tbytes_sent\tnumber_of_requests\tnumber_of_downloads\n10.1.2.3\t7\t60\t60\n"
    assert found("summaries/d/by_region.tsv", content, "sub/10.1.2.3/a") == [
        "summaries/d/by_region.tsv, line 2: looks like an address"
    ]


def test_names_are_those_of_datasets_and_files() -> None:
    files = {
        "summaries/d/by_asset.tsv": b"asset_path\tx\nsub/10.1.2.3\t1\n",
        "summaries/d/by_region.tsv": b"region\n192.0.2.1\t1\n",
    }
    names = names_in(files, ["1.2.3.4"])
    assert "sub/10.1.2.3" in names
    assert "1.2.3.4" in names
    assert "192.0.2.1" not in names


def test_what_a_package_is_called_is_a_name_too() -> None:
    """`Release%201.2.3.4` became `usage-release-201.2.3.4`, another address than the known one, and every release was held
    back."""
    dataset = "Release 1.2.3.4"
    scope = scope_of(dataset)
    about = About("Usage", "", "", "", "1", "2025-03-01", 50, [])
    package = data_package(f"usage-{scope}", dataset, f"summaries/{scope}/", {}, about)
    assert b"201.2.3.4" in package
    assert found("datapackage.json", package, *names_in({}, [scope, dataset])) == []


def test_names_of_changes_are_those_of_scopes_that_came_or_went() -> None:
    entries = [
        {
            "datasets_added": {"count": 1, "first": ["1.0.0.2"]},
            "datasets_removed": {"count": 1, "first": ["db%3A%3A1"]},
        },
        {"datasets_removed": {"count": 1, "first": ["10.0.0.3" + "%~" + "0" * 64]}},
    ]
    names = names_of_changes(json.dumps(entries).encode())
    assert sorted(names) == ["1.0.0.2", "1.0.0.2", "10.0.0.3%~" + "0" * 64, "db%3A%3A1", "db::1"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"9" * 100_000,
        b"NaN",
        b'{"datasets_added": {"first": ["192.0.2.1"]}}',
        b'["192.0.2.1", ["192.0.2.1"], null]',
        b'[{"release": "192.0.2.1", "note": {"first": ["192.0.2.1"]}}]',
        b'[{"datasets_added": ["192.0.2.1"]}, {"datasets_removed": {"first": "192.0.2.1", "last": ["192.0.2.1"]}}]',
        b'[{"datasets_added": {"first": [["192.0.2.1"], {"192.0.2.1": 1}, 192]}}]',
        b'[{"datasets_added": {"first": ["from 192.0.2.1", "/192.0.2.1", "192.0.2.1\\n", "%31192.0.2.1"]}}]',
        b'[{"datasets_added": {"first": ["\\ud800192.0.2.1", "%FF192.0.2.1", "", "archive", "192.0.2.1%~x"]}}]',
    ],
)  # fmt: skip
def test_nothing_else_of_changes_is_a_name(content: bytes) -> None:
    """Whoever can write to the store of releases may have written the list of the release before."""
    assert names_of_changes(content) == []


def test_a_name_of_one_file_is_none_in_another() -> None:
    scan = Scan([], (), {"changes.json": ["1.0.0.2"]})
    assert list(scan.findings("changes.json", b'"1.0.0.2"')) == []
    assert [each.line for each in scan.findings("index.html", b'"1.0.0.2"')] == [1]
    assert scan.names_like_addresses == 1


@pytest.mark.parametrize(
    ("name", "header", "rows"),
    [
        ("by_day.tsv", f"date{USAGE}", [b"2025-03-01\t7\t60\t<50"]),
        ("by_region.tsv", f"region{USAGE}", [b"US/Ohio\t7\t60\t<50", b'"a ""b"""\t0\t<50\t<50']),
        ("by_asset.tsv", f"asset_path{USAGE}", [b"sub/x.nwb\t7\t60\t60"]),
        ("by_asset_type_per_week.tsv", "week_start\tMisc", [b"2025-02-24\t0\t12"]),
        ("region_coordinates.tsv", "region\tlatitude\tlongitude", [b"US/Ohio\t40.25\t-82.9", b"x\t1e-05\t0.0"]),
    ],
)
def test_tables_have_their_columns_and_no_other(name: str, header: str, rows: list[bytes]) -> None:
    head = header.encode() + b"\n"
    assert found(f"summaries/d/{name}", head + b"\n".join(rows) + b"\n") == []
    assert found(f"summaries/d/{name}", head + b"\n".join(rows)) == []
    assert found(f"summaries/d/{name}", head) == []
    assert found(name, b"ip_index\t" + head) == [f"{name}, line 1: a column that no public table has"]
    for row in rows:
        for wrong in (
            row + b"\t-1234567890123456789",
            row.replace(b"\t", b"\tx", 1),
            b"x" + row if row[:2] == b"20" else row[:-1] + b"x",
        ):
            content = head + b"\n".join([*rows, wrong, rows[0], wrong]) + b"\n"
            assert found(name, content) == [
                f"{name}, line {line + len(rows)}: a column that no public table has" for line in (2, 4)
            ]


@pytest.mark.parametrize("label", ["1234567", "AA/3221225985", "-1234567890123456789"])
def test_a_number_is_no_region(label: str) -> None:
    """An index, or an address as one number."""
    content = f"region{USAGE}\n{label}\t7\t60\t60\n".encode()
    assert found("by_region.tsv", content) == ["by_region.tsv, line 2: a column that no public table has"]
    assert found("region_coordinates.tsv", f"region\tlatitude\tlongitude\n{label}\t1.5\t2\n".encode())


@pytest.mark.parametrize(
    ("content", "wrong"), [(b"<50", False), (b"120", False), (b"-5", True), (b"5\n6", True), (b"", True)]
)
def test_the_count_of_requesters_is_a_count(content: bytes, wrong: bool) -> None:
    assert bool(found("summaries/d/requester_count.tsv", content)) == wrong


@pytest.mark.parametrize(
    ("columns", "others", "text", "kinds"),
    [
        (["a", "b"], ["a", "b"], "1.2.3", []),
        (["a"], ["a"], "y 192.0.2.1", ["looks like an address"]),
        (["a"], ["a"], KEY.hex(), ["a secret of the settings"]),
        (["a", "b"], ["a"], "", ["a column that no public table has"]),
        (["ip_index"], ["ip_index"], "", ["a column that no public table has"]),
    ],
)
def test_what_is_in_a_file_that_is_no_text(columns: list[str], others: list[str], text: str, kinds: list[str]) -> None:
    findings = Scan([KEY]).findings_in_table("a.parquet", columns, others, ["x", text])
    assert [str(each) for each in findings] == [f"a.parquet: {kind}" for kind in kinds]


@pytest.mark.parametrize(
    "piece",
    [
        b"1.",
        b":a",
        b"1.2.3.",
        b"::",
        b"a:",
        b"255.",
        b"0",
        b"\t",
        b"A",
        b"%2E1",
        b"192.0.2.1\n",
        b"::1\n",
        b"%25",
        b"\n1",
    ],
)
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

    assert seconds(64_000) < 8 * 4 * max(seconds(8_000), 0.001)
