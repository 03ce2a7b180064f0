"""The ledger: the conservation law, the sums, and the digest of a listing."""

import random
from dataclasses import replace

import pyarrow as pa
import pytest

from s3logx_assets.core.ledger import COUNTS, LEDGER, LogObject, listing_digest, sum_of, unaccounted
from s3logx_assets.core.log_lines import REJECT_REASONS, SKIP_RULES


def ledger(*files: dict[str, int]) -> pa.Table:
    rows = [
        {
            "name": f"file-{number}",
            "size": 10 + number,
            "version": "1",
            **dict.fromkeys(("records", *COUNTS), 0),
            **counts,
        }
        for number, counts in enumerate(files)
    ]
    return pa.Table.from_pylist(rows, schema=LEDGER)


def test_every_outcome_has_a_column() -> None:
    assert {
        "extracted",
        "duplicate",
        *(f"skipped_{rule}" for rule in SKIP_RULES),
        *(f"rejected_{reason}" for reason in REJECT_REASONS),
    } == set(COUNTS)
    assert len(COUNTS) == len(set(COUNTS))
    assert LEDGER.names == ["name", "size", "version", "records", *COUNTS]


def test_sums_are_over_all_files() -> None:
    sums = sum_of(ledger({"records": 3, "extracted": 2, "rejected_key": 1}, {"records": 4, "extracted": 4}))
    assert sums["files"] == 2
    assert sums["bytes"] == 21
    assert sums["records"] == 7
    assert sums["extracted"] == 6
    assert sums["rejected_key"] == 1
    assert sum(sums[name] for name in COUNTS) == sums["records"]


def test_a_date_without_files_sums_to_nothing() -> None:
    empty = LEDGER.empty_table()
    assert set(sum_of(empty).values()) == {0}
    assert unaccounted(empty) == 0


@pytest.mark.parametrize("name", COUNTS)
def test_each_count_takes_part_in_the_conservation_law(name: str) -> None:
    assert unaccounted(ledger({"records": 1, name: 1})) == 0
    assert unaccounted(ledger({"records": 1, name: 2})) == 1
    assert unaccounted(ledger({"records": 2, name: 1}, {"records": 1, name: 1})) == 1


def test_files_that_err_in_opposite_ways_do_not_make_each_other_good() -> None:
    assert unaccounted(ledger({"records": 2, "extracted": 1}, {"records": 1, "extracted": 2})) == 2


OBJECTS = [LogObject("a", 1, "10"), LogObject("b", 2, "20"), LogObject("c/ü\n", 0, "30")]


def test_a_listing_s_digest_depends_on_what_is_listed_alone() -> None:
    digest = listing_digest(OBJECTS)
    shuffled = OBJECTS[:]
    random.Random(1).shuffle(shuffled)
    assert listing_digest(iter(shuffled)) == digest
    assert len(digest) == 32
    int(digest, 16)


@pytest.mark.parametrize(
    "changed",
    [
        OBJECTS[:2],
        [*OBJECTS, LogObject("d", 1, "10")],
        [replace(OBJECTS[0], name="A"), *OBJECTS[1:]],
        [replace(OBJECTS[0], size=2), *OBJECTS[1:]],
        [replace(OBJECTS[0], version="11"), *OBJECTS[1:]],
        [],
    ],
    ids=["file gone", "file new", "renamed", "other size", "other version", "empty"],
)
def test_any_change_of_a_listing_changes_its_digest(changed: list[LogObject]) -> None:
    assert listing_digest(changed) != listing_digest(OBJECTS)


def test_a_name_cannot_pass_for_two_files() -> None:
    for separator in ("\n", " ", "\t", "\\0"):  # anything but NUL, which no file name holds
        other = LogObject(separator.join(["a", "1", "10\nb"]), 2, "20")
        assert listing_digest([other]) != listing_digest(OBJECTS[:2])


def test_log_objects_are_ordered_by_the_bytes_of_their_names() -> None:
    names = ["a", "B", "a/b", "a-b", "é", "\U0001f600", "\uffff"]
    objects = sorted(LogObject(name, 1, "1") for name in names)
    assert [item.name.encode() for item in objects] == sorted(name.encode() for name in names)
