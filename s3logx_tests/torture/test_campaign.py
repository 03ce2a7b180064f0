"""The campaign itself: what its tables say of attacks that did harm, broke off or were not made, and that what it ends is gone."""

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from s3logx_tests.torture import lanes, record
from s3logx_tests.torture.__main__ import main
from s3logx_tests.torture.attack import Attack, Break, Campaign, Toll, intact
from s3logx_tests.torture.attacks import ATTACKS
from s3logx_tests.torture.lanes import Lanes, end_all
from s3logx_tests.torture.record import Record, Row, terms

ATTACK = Attack("a: b", lambda campaign: Toll(), (Break("c", intact),))
WANTED = [(ATTACK, ""), (ATTACK, "c")]


@pytest.mark.parametrize(
    ("rows", "well"),
    [
        ([], False),
        ([Row("a: b", "", Toll(5))], False),
        ([Row("a: b", "", Toll(5)), Row("a: b", "c", Toll(1, lost=3))], True),
        ([Row("a: b", "", Toll(5, leaked=1)), Row("a: b", "c", Toll(1, lost=3))], False),
        ([Row("a: b", "", Toll(5)), Row("a: b", "c", Toll(1))], False),
        ([Row("a: b", "", Toll(5), broke_off="OSError"), Row("a: b", "c", Toll(1, lost=3))], False),
        ([Row("a: b", "", Toll(5)), Row("a: b", "c", Toll(1, manual=1), broke_off="OSError")], False),
    ],
)
def test_all_is_well_when_everything_was_done_and_each_break_alone_did_harm(
    rows: list[Row], well: bool, tmp_path: Path
) -> None:
    kept = Record(tmp_path / "build" / "rows.jsonl")
    for row in rows:
        kept.add(row)
    assert kept.is_well(WANTED) == well
    assert [Row.read(words) for words in (tmp_path / "build" / "rows.jsonl").read_text().splitlines()] == rows


def test_a_campaign_goes_on_with_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It takes hours; what was done is not done again, and stands in the table."""
    file = tmp_path / "rows.jsonl"
    attack = next(each for each in ATTACKS if each.name == "doors: requirements pinned by hash")
    done = Row(attack.name, "", Toll(7, seen="before"), terms=terms(attack, 0, short=True))
    file.write_text(f"{done.line}\n")
    options = ["--only", attack.name, "--short", "--record", str(file), "--resume"]
    assert main(options) == 0
    assert "| 7 | 0 | 0 | 0 | 0 |" in capsys.readouterr().out
    assert [Row.read(words) for words in file.read_text().splitlines()] == [done]
    file.write_text(f"{replace(done, toll=Toll(7, lost=1)).line}\n")
    assert main(options) == 0
    assert "| 7 |" not in capsys.readouterr().out


def test_what_was_done_with_other_sources_or_options_is_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A short campaign, one of another seed, or one of last week's code says nothing about this one."""
    file = tmp_path / "rows.jsonl"
    name = "doors: requirements pinned by hash"
    (attack,) = (each for each in ATTACKS if each.name == name)
    others = [terms(attack, 1, short=True), terms(attack, 0, short=False), ""]
    file.write_text("".join(f"{Row(name, '', Toll(7), terms=other).line}\n" for other in others))
    assert main(["--only", name, "--short", "--record", str(file), "--resume"]) == 0
    assert "| 7 |" not in capsys.readouterr().out
    kept = [row.terms for row in map(Row.read, file.read_text().splitlines())]
    assert kept == [*others, terms(attack, 0, short=True)]


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("s3logx_assets/core/program.awk", True),
        ("s3logx_tests/torture/disk.py", True),
        ("s3logx_tests/torture/crash.py", True),  # which it imports
        ("s3logx_tests/torture/canaries.py", True),  # by way of another one
        ("s3logx_tests/torture/inputs.py", False),
        ("README.md", False),
    ],
)
def test_the_terms_change_with_a_source_that_matters(
    source: str, changes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = next(each for each in ATTACKS if each.name == "disk: a step fails once")
    shutil.copytree(Path(__file__).parent, tmp_path / "s3logx_tests" / "torture")
    monkeypatch.setattr(record, "_ROOT", tmp_path)
    file = tmp_path / source
    file.parent.mkdir(parents=True, exist_ok=True)
    before = terms(attack, 0, short=False)
    with file.open("a") as stream:
        stream.write("# changed\n")
    assert (terms(attack, 0, short=False) != before) == changes


def test_the_tables_tell_harm_what_broke_off_and_what_was_not_done(tmp_path: Path) -> None:
    kept = Record(tmp_path / "rows.jsonl")
    assert kept.tables(WANTED).count("not done") == 2
    kept.add(Row("a: b", "", Toll(1200, 1, 2, 3, 4, "five"), 60.2))
    kept.add(Row("a: b", "c", Toll(1, manual=1), broke_off="OSError"))
    first, second = kept.tables(WANTED).split("\n\n")
    assert first.splitlines()[2] == "| a: b | 1,200 | 1 | 2 | 3 | 4 | 60 | five |"
    assert second.splitlines()[2] == "| a: b | c | NOT NOTICED, it broke off: OSError |"


def test_what_is_ended_is_gone_with_all_that_it_started() -> None:
    child = "import subprocess, sys; subprocess.Popen(['sleep', '998'], start_new_session=True); print(1, flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        process.stdout.readline()
        (grandchild,) = lanes._descendants(process.pid)
        end_all(process.pid)
        process.wait()
    assert not lanes._is_running(grandchild)


def test_an_attack_that_takes_too_long_counts_as_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_LIMIT", 0.2)
    rows: list[Row] = []
    started = time.monotonic()
    Lanes([Attack("input: 100,000 files of a date", _never, ())], [], tmp_path, rows.append).run()
    assert time.monotonic() - started < 60
    (row,) = rows
    assert not row.is_well
    assert "did not end" in row.broke_off


def _never(campaign: Campaign) -> Toll:
    raise AssertionError("the attack of this name is made elsewhere")
