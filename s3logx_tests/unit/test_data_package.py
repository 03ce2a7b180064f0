"""What describes a release to programs: data packages, checksums, citation, JSON-LD, and what is new."""

import hashlib
import json
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from s3logx_assets.core.citation import citation_cff, json_ld
from s3logx_assets.core.data_package import About, data_package, sha256sums
from s3logx_assets.core.public_tables import Published
from s3logx_assets.core.release_changes import changelog_md, changes, changes_json, totals_of

EVIL = "</script><script>alert(1)</script>&\u2028\"'\\: #\x7f{é}"
FILES = {
    "by_day.tsv": b"date\tbytes_sent\tnumber_of_requests\tnumber_of_downloads\n2025-03-01\t7\t60\t<50\n",
    "by_day.parquet": b"PAR1",
    "by_asset_type_per_week.tsv": b'week_start\tMisc\t"a ""b"""\n2025-02-24\t1\t2\n',
    "requester_count.tsv": b"<50",
}


def about(title: str = "Usage", licence: str = "CC0-1.0", site_url: str = "https://u.example.org/x") -> About:
    return About(
        title, "An Archive", licence, site_url, "2025-03-01-abc", "2025-03-01", 50, [("DB-IP", "https://db-ip.com")]
    )


def totals(requests: int | str = 100) -> Published:
    return {
        "total_bytes_sent": 1000,
        "number_of_unique_regions": 2,
        "number_of_unique_countries": 1,
        "total_number_of_requests": requests,
        "total_number_of_downloads": "<50",
        "number_of_requesters": 60,
    }


def test_a_package_describes_every_file_and_every_column() -> None:
    package = json.loads(data_package("usage-DS 1", "DS 1", "summaries/DS%201/", FILES, about()))
    assert package["name"] == "usage-ds-1"
    assert package["version"] == "2025-03-01-abc"
    assert package["homepage"] == "https://u.example.org/x/summaries/DS%25201/index.html"
    assert package["licenses"] == [{"name": "CC0-1.0", "path": "https://spdx.org/licenses/CC0-1.0.html"}]
    resources = {resource["path"]: resource for resource in package["resources"]}
    assert set(resources) == set(FILES)
    for path, content in FILES.items():
        assert resources[path]["bytes"] == len(content)
        assert resources[path]["hash"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    schema = resources["by_day.tsv"]["schema"]
    assert [field["name"] for field in schema["fields"]] == [
        "date",
        "bytes_sent",
        "number_of_requests",
        "number_of_downloads",
    ]
    assert schema["missingValues"] == ["", "<50"]
    weeks = resources["by_asset_type_per_week.tsv"]["schema"]["fields"]
    assert [(field["name"], field["type"]) for field in weeks] == [
        ("week_start", "date"),
        ("Misc", "integer"),
        ('a "b"', "integer"),
    ]
    assert resources["requester_count.tsv"]["type"] == "file"


def test_a_package_says_nothing_that_nobody_told() -> None:
    package = json.loads(data_package("x", "X", "", {}, about(licence="", site_url="")))
    assert not {"licenses", "homepage"} & set(package)
    named = json.loads(data_package("x", "X", "", {}, about(licence="LicenseRef-ours")))
    assert named["licenses"] == [{"name": "LicenseRef-ours"}]


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.binary(), max_size=5))
def test_names_of_packages_are_legal(files: dict[str, bytes]) -> None:
    for name in files:
        made = json.loads(data_package(name, name, "", {}, about()))["name"]
        assert made
        assert made == made.lower()
        assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")


def test_sha256sum_agrees(tmp_path: Path) -> None:
    files = {"a.tsv": b"1", "summaries/%61rchive/by_day.tsv": b"", "odd\\name": b"2", "two\nlines": b"3"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "SHA256SUMS").write_bytes(sha256sums(files))
    checked = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, capture_output=True)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(b": OK") == len(files)


@pytest.mark.parametrize("title", ["Usage", EVIL])
def test_the_citation_is_what_the_format_says(title: str) -> None:
    cited = yaml.safe_load(citation_cff(about(title)))
    assert cited["cff-version"] == "1.2.0"
    assert cited["type"] == "dataset"
    assert cited["title"] == title
    assert cited["authors"] == [{"name": "An Archive"}]
    assert (cited["version"], cited["date-released"]) == ("2025-03-01-abc", "2025-03-01")
    assert (cited["license"], cited["url"]) == ("CC0-1.0", "https://u.example.org/x/")
    assert {"cff-version", "message", "title", "authors"} <= set(cited)


class Scripts(HTMLParser):
    """The contents of script elements, and how many other tags there are."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.contents: list[str] = []
        self.tags: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.contents.append("")

    def handle_data(self, data: str) -> None:
        self.contents[-1] += data


@pytest.mark.parametrize("title", ["DS", EVIL])
def test_json_ld_survives_its_page(title: str) -> None:
    text = json_ld(
        title, "From then to now.", "2024-01-01", about(title), "summaries/a%20b/", ["by_day.tsv"], part_of=title
    )
    page = Scripts(f'<script type="application/ld+json">{text}</script>')
    assert page.tags == ["script"]
    data = json.loads(page.contents[0])
    assert data["name"] == data["isPartOf"]["name"] == title
    assert data["@type"] == "Dataset"
    assert 50 <= len(data["description"]) <= 5000
    assert data["temporalCoverage"] == "2024-01-01/2025-03-01"
    assert data["distribution"][0]["contentUrl"] == "https://u.example.org/x/summaries/a%2520b/by_day.tsv"
    assert data["distribution"][0]["encodingFormat"] == "text/tab-separated-values"
    assert "2025-03-01-abc" not in text, "a page changes with its figures, not with every release"


def test_the_first_release_has_nothing_before_it() -> None:
    (entry,) = changes("r1", "2025-03-01", totals(), {"a": totals()}, None, None)
    assert entry["datasets_added"]["count"] == entry["datasets_changed"] == 0
    assert entry["archive_before"] is None
    text = changelog_md("Usage", [entry]).decode()
    assert "## r1" in text
    assert "- requests: 100\n" in text


def test_a_release_says_what_is_new() -> None:
    first = changes("r1", "2025-03-01", totals(100), {"a": totals(), "b": totals(), "c": totals()}, None, None)
    before = {"a": totals(), "b": totals(), "c": totals()}
    now = {"a": totals(), "b": totals("<50"), "d": totals()}
    entries = changes("r2", "2025-03-08", totals(140), now, before, changes_json(first))
    assert [entry["release"] for entry in entries] == ["r2", "r1"]
    newest = entries[0]
    assert newest["datasets_added"] == {"count": 1, "first": ["d"]}
    assert newest["datasets_removed"] == {"count": 1, "first": ["c"]}
    assert newest["datasets_changed"] == 1
    text = changelog_md("Usage <b>", entries).decode()
    assert "# Usage \\<b\\>: releases" in text
    assert "- requests: 140 (before: 100)\n" in text
    assert "- datasets added: 1 (d)\n" in text
    assert text.index("## r2") < text.index("## r1")


def test_the_same_release_is_written_once_and_old_ones_end() -> None:
    (entry,) = changes("r", "2025-03-01", totals(), {}, {}, None)
    entries = changes_json([{**entry, "release": f"r{number}"} for number in range(502, -1, -1)])
    again = changes("r502", "2025-03-01", totals(), {}, {}, entries)
    assert [entry["release"] for entry in again] == [f"r{number}" for number in range(502, 2, -1)]


@pytest.mark.parametrize("damaged", [b"", b"{", b"[1]", b'"x"', b'[{"release": 1}]', b"\xff", b"7"])
def test_a_damaged_history_is_none(damaged: bytes) -> None:
    assert len(changes("r1", "2025-03-01", totals(), {}, None, damaged)) == 1
    assert not totals_of(damaged)
