"""Policy `strict`, piece by piece, with known answers."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from s3logx_assets.core.privacy import late
from s3logx_assets.core.privacy.byte_steps import most_of_a_request, reach, rounded, rounded_to, step_for
from s3logx_assets.core.privacy.released import ends, released_scopes, visible
from s3logx_assets.core.privacy.strict import (
    CELLS,
    MEASURES,
    POOLED,
    RELEASED,
    WAITING,
    Rule,
    people_told,
    safe,
    tell,
)
from s3logx_assets.core.privacy.trees import day_tree, file_tree, region_tree, week_label

UNTIL = date(2025, 3, 9)
LONG_AGO = date(2024, 1, 1)


def usage(*rows: tuple[object, ...], since: date = UNTIL) -> pa.Table:
    """Rows of dataset, path, day of March 2025, region, person, requests, downloads, bytes."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * 8
    days = [date(2025, 3, day) if isinstance(day, int) else day for day in columns[2]]
    table = pa.table(
        {
            "dataset": pa.array(columns[0], pa.string()),
            "asset_path": pa.array(columns[1], pa.string()),
            "event_date": pa.array(days, pa.date32()),
            "region": pa.array(columns[3], pa.string()),
            "network_index": pa.array(columns[4], pa.int64()),
            **{name: pa.array(columns[5 + at], pa.int64()) for at, name in enumerate(MEASURES)},
        }
    )
    return table.append_column("since", pa.repeat(pa.scalar(since, pa.date32()), table.num_rows))


def crowd(dataset: str, path: str, day: int, region: str, people: range, size: int = 100) -> list[tuple[object, ...]]:
    return [(dataset, path, day, region, person, 1, 1, size) for person in people]


def told(
    *rows: tuple[object, ...], rule: Rule | None = None, coin: float = 0.99
) -> dict[tuple[str, str, str], tuple[int, ...]]:
    """The cells by dataset, dimension and label."""
    cells = tell(usage(*rows), rule or Rule(), UNTIL, lambda name: coin, LONG_AGO).cells
    names = ("dataset", "dimension", "label", *MEASURES)
    return {row[:3]: row[3:] for row in zip(*(cells[name].to_pylist() for name in names), strict=True)}


@pytest.mark.parametrize(
    ("people", "largest", "coalition"), [(1, 0.5, 0.9), (10, 0.05, 0.9), (10, 0.5, 0.8), (10, 1.5, 1)]
)
def test_a_rule_that_no_group_could_keep_to_is_none(people: int, largest: float, coalition: float) -> None:
    with pytest.raises(ValueError, match="group"):
        Rule(people, largest, coalition)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([1] * 10, True),
        ([1] * 9, False),
        ([10, 1, 1, 1, 1, 1, 1, 1, 1, 1], False),  # one of them makes up more than half
        ([2] * 10 + [20], True),  # exactly half, and nine of eleven make up 36 of 40
        ([1] * 9 + [3, 3, 3], True),
        ([9] * 9 + [1, 1, 1], False),  # nine of them make up more than nine tenths
        ([], True),
        ([0] * 3, True),  # nobody adds to it
    ],
)
def test_what_is_safe(counts: list[int], expected: bool) -> None:
    rows = len(counts)
    group, person, values = np.zeros(rows, np.int64), np.arange(rows), np.array(counts, np.int64)
    assert safe(group, 1, person, [values], Rule()).tolist() == [expected]


def test_every_measure_must_be_safe() -> None:
    """Ten people asked for parts of files and one of them for a whole file: the one download would be that person's."""
    group, person = np.zeros(10, np.int64), np.arange(10)
    downloads = np.array([1] + [0] * 9, np.int64)
    assert not safe(group, 1, person, [np.ones(10, np.int64), downloads], Rule())[0]


def test_rows_of_one_person_are_one_person_and_requests_of_nobody_are_no_people() -> None:
    group = np.zeros(20, np.int64)
    assert not safe(group, 1, np.arange(20) % 9, [np.ones(20, np.int64)], Rule())[0]
    nobody = np.where(np.arange(20) < 11, -1, np.arange(20))
    assert not safe(group, 1, nobody, [np.ones(20, np.int64)], Rule())[0]
    assert safe(group, 1, np.full(20, -1), [np.ones(20, np.int64)], Rule())[0]


def test_days_are_put_together_with_their_week() -> None:
    cells = told(
        *crowd("ds", "a", 3, "DE/Berlin", range(20)),
        *crowd("ds", "a", 4, "DE/Berlin", range(6)),
        *crowd("ds", "a", 5, "DE/Berlin", range(6, 12)),
    )
    assert cells["ds", "day", "2025-03-03"][:2] == (20, 20)
    assert cells["ds", "day", "2025-03-03/2025-03-09"][:2] == (12, 12)
    assert len([key for key in cells if key[1] == "day"]) == 2


def test_what_is_left_takes_the_smallest_group_with_it() -> None:
    """One request alone on a day would be what the week's total leaves."""
    cells = told(
        *crowd("ds", "a", 3, "DE/Berlin", range(30)),
        *crowd("ds", "a", 4, "DE/Berlin", range(20)),
        *crowd("ds", "a", 5, "DE/Berlin", range(1)),
    )
    assert {key[2]: value[0] for key, value in cells.items() if key[1] == "day"} == {
        "2025-03-03": 30,
        "2025-03-03/2025-03-09": 21,
    }


def test_files_are_put_together_with_their_folder_and_regions_with_their_country() -> None:
    cells = told(
        *crowd("ds", "sub-1/a", 3, "US/Texas", range(20)),
        *crowd("ds", "sub-1/b", 3, "US/Ohio", range(20, 26)),
        *crowd("ds", "sub-1/c", 3, "US/Utah", range(26, 32)),
        *crowd("ds", "sub-2/d", 3, "FR/Brittany", range(32, 37)),
        *crowd("ds", "e", 3, "JP/Tokyo", range(37, 43)),
    )
    files = {key[2]: value[0] for key, value in cells.items() if key[1] == "asset"}
    assert files == {"sub-1/a": 20, "sub-1/ (other files)": 12, "(other files)": 11}
    regions = {key[2]: value[0] for key, value in cells.items() if key[1] == "region"}
    assert regions == {"US/Texas": 20, "US": 12, "other": 11}


def test_a_dataset_with_too_few_people_waits_and_is_not_told_in_the_archive_either() -> None:
    rows = [*crowd("large", "a", 3, "DE/Berlin", range(20)), *crowd("small", "b", 3, "DE/Berlin", range(9))]
    found = tell(usage(*rows), Rule(), UNTIL, lambda name: 0.5, LONG_AGO)
    assert found.fate.to_pylist() == [RELEASED] * 20 + [WAITING] * 9
    assert found.cells["dataset"].unique().to_pylist() == ["large"]
    assert found.groups.num_rows == 20


def test_what_waited_too_long_counts_in_the_archive_alone() -> None:
    old = [*crowd("one", "a", 3, "DE/Berlin", range(6)), *crowd("two", "b", 3, "DE/Berlin", range(6, 12))]
    found = tell(usage(*old, since=LONG_AGO - timedelta(1)), Rule(), UNTIL, lambda name: 0.5, LONG_AGO)
    assert found.fate.unique().to_pylist() == [POOLED]
    scopes = released_scopes([found.cells], {"archive": 10})
    assert list(scopes) == ["archive"]
    assert scopes["archive"].total[1] == 12
    few = tell(usage(*old[:9], since=LONG_AGO - timedelta(1)), Rule(), UNTIL, lambda name: 0.5, LONG_AGO)
    assert few.fate.unique().to_pylist() == [WAITING]


def test_regions_that_no_dataset_can_tell_are_told_for_the_archive() -> None:
    """Six people in each of two regions, in each of two datasets: together twelve."""
    rows = [
        row
        for at, dataset in enumerate(("one", "two"))
        for row in (
            *crowd(dataset, "a", 3, "DE/Berlin", range(20 * at, 20 * at + 6)),
            *crowd(dataset, "a", 3, "FR/Brittany", range(20 * at + 6, 20 * at + 12)),
        )
    ]
    cells = told(*rows)
    assert {key[0]: key[2] for key in cells if key[1] == "region" and key[0]} == {"one": "other", "two": "other"}
    scopes = released_scopes(
        [tell(usage(*rows), Rule(), UNTIL, lambda name: 0.5, LONG_AGO).cells], {"archive": 20, "one": 10, "two": 10}
    )
    assert dict(
        zip(*(scopes["archive"].by_region[name].to_pylist() for name in ("label", "request_count")), strict=True)
    ) == {
        "DE/Berlin": 12,
        "FR/Brittany": 12,
    }
    detail = {line.detail: line.requests for line in visible(scopes)}
    assert detail == {"day": 1.0, "file": 1.0, "country": 1.0, "region": 1.0}


def test_nothing_tells_nothing() -> None:
    found = tell(usage(), Rule(), UNTIL, lambda name: 0.5, LONG_AGO)
    assert (found.cells.num_rows, found.groups.num_rows, len(found.fate)) == (0, 0, 0)
    assert found.cells.schema == CELLS


def test_labels_of_days() -> None:
    days = [date(2024, 12, 30), date(2025, 1, 1), date(2025, 3, 1), date(2025, 3, 31)]
    tree = day_tree(days, UNTIL)
    labels = [tree.labels[node] for node in tree.above]
    assert labels == ["2024-12-30/2025-01-05"] * 2 + ["2025-02-24/2025-03-02", "2025-03-31/2025-04-06"]
    months = [tree.labels[tree.parent[node]] for node in tree.above]
    # The months are of the Thursdays of the weeks.
    assert months == ["2024-12-30/2025-02-02"] * 2 + ["2025-02-03/2025-03-02", "2025-03-31/2025-04-27"]
    years = [tree.labels[tree.parent[tree.parent[node]]] for node in tree.above]
    assert years == ["2024-12-30/2025-12-28"] * 4
    assert tree.labels[0] == "../2025-03-09"
    assert tree.parent[0] == 0


@pytest.mark.parametrize("year", range(2015, 2045))
def test_periods_are_nested_whole_weeks(year: int) -> None:
    days = [date(year, 1, 1) + timedelta(number) for number in range(365)]
    tree = day_tree(days, date(year, 12, 31))
    for day, node in zip(days, tree.above.tolist(), strict=True):
        first, last = ends(tree.labels[node])
        assert first is not None
        assert first <= day <= last
        assert (first.weekday(), last - first) == (0, timedelta(6))
        while tree.parent[node] != 0:
            node = int(tree.parent[node])
            start, end = ends(tree.labels[node])
            assert start is not None
            assert start <= first
            assert last <= end
            assert (start.weekday(), end.weekday()) == (0, 6)
            first, last = start, end


def test_labels_of_files_and_regions_cannot_be_taken_for_values() -> None:
    tree = file_tree(["a/b/c", "a/d", "e", "/f", "a//g"])
    assert [tree.labels[node] for node in tree.above] == [
        "a/b/ (other files)",
        "a/ (other files)",
        "(other files)",
        "/ (other files)",
        "a// (other files)",
    ]
    assert all(" " in label for label in tree.labels)
    tree = region_tree(["US/Texas", "US", "AWS/us-east-1", "VPN"])
    assert [tree.labels[node] for node in tree.above] == ["US", "US", "AWS", "VPN"]
    assert week_label(date(2025, 3, 3)) == "2025-03-03/2025-03-09"


# --------------------------------------------------------------------------- bytes and partial requests


@pytest.mark.parametrize(
    ("reached", "step"), [(0, 1), (1, 20), (5, 100), (100, 2000), (111, 2000), (112, 5000), (10**12, 2 * 10**13)]
)
def test_steps_are_round_and_wide_enough(reached: int, step: int) -> None:
    assert step_for(reached, 10) == step
    assert most_of_a_request(np.array([step]), 10)[0] >= reached


def test_a_request_reaches_as_far_as_those_of_k_people() -> None:
    holder = np.array([0] * 6 + [1] * 3 + [2])
    person = np.array([1, 1, 2, 3, 4, -1, 1, 2, 2, -1])
    requests = np.array([1, 2, 1, 1, 1, 1, 1, 1, 3, 1])
    size = np.array([10, 50, 30, 20, 0, 999, 7, 8, 12, 5])
    # Of the largest requests of each person, 25, 30, 20 and 0, the third largest; of two people there is none.
    assert reach(holder, 3, person, requests, size, 3).tolist() == [20, 0, 0]
    nothing = np.zeros(0, np.int64)
    assert reach(nothing, 1, nothing, nothing, nothing, 3).tolist() == [0]


@pytest.mark.parametrize("seed", range(20))
def test_parts_add_up_to_the_whole_as_it_is_told(seed: int) -> None:
    rng = np.random.default_rng(seed)
    step = np.array([1, 20, 500, 2000])
    partition = rng.integers(0, 4, 300)
    value = rng.integers(0, 5000, 300) * rng.choice([1, 500], 300)
    total = np.bincount(partition, value, 4).astype(np.int64)
    told_total = rounded(total, step, rng.random(4))
    parts = rounded_to(value, step[partition], partition, told_total, rng.random(300))
    assert (parts % step[partition] == 0).all()
    assert (abs(parts - value) < step[partition]).all()
    assert (abs(told_total - total) < step).all()
    assert (np.bincount(partition, parts, 4) == told_total).all()
    assert (parts[partition == 0] == value[partition == 0]).all(), "a step of one is none"


def test_rounding_is_fair() -> None:
    """What is told of many periods adds up to nearly what there was."""
    value, step = np.full(10_000, 700), np.full(10_000, 2000)
    coins = np.random.default_rng(1).random(10_000)
    assert abs(rounded(value, step, coins).mean() - 700) < 30
    partition = np.repeat(np.arange(5000), 2)
    whole = rounded(np.full(5000, 1400), step[:5000], np.random.default_rng(2).random(5000))
    assert abs(rounded_to(value, step, partition, whole, coins).mean() - 700) < 30


Cell = tuple[tuple[str, str, str], tuple[int, ...]]


def of_world(*rows: tuple[object, ...]) -> set[tuple[Cell, ...]]:
    """All that can be told of an archive, with this coin or that."""
    return {tuple(sorted(told(*rows, coin=coin).items())) for coin in (0.0, 0.3, 0.6, 0.999)}


def test_one_partial_request_is_not_what_downloads_leave() -> None:
    """33 requests and 32 downloads of a file said that somebody had asked for a part of it; the day, the region and the bytes, which day,
    where, and how much."""
    rows = [
        *crowd("ds", "a", 3, "US/Texas", range(20), 10**9),
        *crowd("ds", "a", 4, "US/Texas", range(20, 32), 10**9),
        *crowd("ds", "b", 4, "US/Texas", range(20, 35), 10**9),
    ]
    somebody = ("ds", "a", 4, "US/Texas", 0, 1, 0, 123_456)
    nobody = ("ds", "a", 4, "US/Texas", 0, 1, 1, 10**9)
    assert of_world(*rows, somebody) & of_world(*rows, nobody)
    for (_, dimension, label), (requests, downloads, _) in told(*rows, somebody, coin=0.01).items():
        assert requests - downloads in (0, 20, requests), (dimension, label)


def test_partial_requests_of_many_are_told() -> None:
    rows = [("ds", "a", 3, "DE/Berlin", person, 2, 1, 150) for person in range(20)]
    assert {value[:2] for value in told(*rows).values()} == {(40, 20)}


@pytest.mark.parametrize("size", [7, 8 * 10**8, 10**12])
def test_a_file_that_one_person_read_cannot_be_told_from_bytes(size: int) -> None:
    """Its size was the step's: of 21 downloads with 2 000 000 000 bytes, only one of this file and 20 of the other could be."""
    rows = crowd("ds", "a", 3, "DE/Berlin", range(20), 10**8)
    with_it = [*rows, *crowd("ds", "f", 3, "DE/Berlin", range(20, 21), size)]
    without = [*rows, *crowd("ds", "a", 3, "DE/Berlin", range(20, 21), 10**8)]
    totals = [{cell for world in of_world(*of) for cell in world if "total" in cell[0]} for of in (with_it, without)]
    assert totals[0] & totals[1]


def test_what_one_person_read_of_many_files_cannot_be_told_from_bytes() -> None:
    """Fifty small files by one person among 61 downloads of a larger one: each file was hidden, their sum was not."""
    rows = crowd("ds", "a", 3, "DE/Berlin", range(61), 10_000)
    folder = [("ds", f"sub-1/{number}", 3, "DE/Berlin", 99, 1, 1, 4000) for number in range(50)]
    (cell,) = [value for key, value in told(*rows, *folder).items() if key[1] == "total"]
    assert cell[0] == 111
    # What 41 more or fewer of the small ones would change is not seen.
    assert cell[2] % 200_000 == 0


def test_files_of_the_same_name_in_two_datasets_are_two() -> None:
    """The regions that two datasets tell together took `data.nwb` of both for one, which many had read, and told exact bytes."""
    rows = [
        *crowd("d1", "a.nwb", 3, "US/Texas", range(6), 10**9 + 1),
        *crowd("d1", "data.nwb", 3, "US/Texas", range(1), 800_000_013),
        *crowd("d1", "a.nwb", 3, "DE/Berlin", range(6, 12), 10**9 + 1),
        *crowd("d2", "a.nwb", 3, "US/Texas", range(20, 29), 300_000_007),
        *crowd("d2", "data.nwb", 3, "US/Texas", range(20, 29), 500_000_101),
        *crowd("d2", "a.nwb", 3, "DE/Berlin", range(30, 36), 300_000_007),
        *crowd("d2", "a.nwb", 3, "DE/Berlin", range(30, 36), 300_000_007),
    ]
    cells = told(*rows)
    assert ("", "region", "US/Texas") in cells
    assert {value[2] % 10**10 for value in cells.values()} == {0}


def test_a_file_that_one_person_reads_most_cannot_be_told_from_bytes() -> None:
    """It was put together with others for that person's sake, and the exact bytes of these gave it away, since ten had read it."""
    rows = [
        *crowd("ds", "a", 3, "DE/Berlin", range(30), 1000),
        *crowd("ds", "f", 3, "DE/Berlin", range(9), 7001),
        ("ds", "f", 3, "DE/Berlin", 9, 2, 2, 14_002),
        *crowd("ds", "g", 3, "DE/Berlin", range(10, 20), 300),
    ]
    assert {key[2] for key in told(*rows) if key[1] == "asset"} == {"a", "(other files)"}
    assert {value[2] % 200_000 for value in told(*rows).values()} == {0}


def test_requests_without_a_person_are_told_as_they_are_where_there_are_no_others() -> None:
    cells = told(("ds", "a", 3, "internal", None, 30, 29, 12_345))
    assert set(cells.values()) == {(30, 29, 12_345)}


def test_numbers_of_people_are_few_and_far_between() -> None:
    assert [people_told(count, 10_000, 10) for count in (0, 9, 10, 19, 25)] == [0, 0, 10, 10, 20]
    # Of eleven requests of a group it is known that eleven people made them.
    assert [people_told(11, requests, 10) for requests in (11, 49, 50, 500)] == [0, 0, 10, 10]


def of_date(*rows: tuple[object, ...]) -> pa.Table:
    table = usage(*rows).drop_columns(["since"])
    return late.networks(table.append_column("in_archive", pa.repeat(True, table.num_rows)))


def test_late_records_are_what_came_since() -> None:
    before = of_date(("ds", "a", 3, "DE", 1, 2, 2, 20), ("ds", "a", 3, "DE", None, 1, 1, 10))
    after = of_date(
        ("ds", "a", 3, "DE", 1, 5, 3, 50), ("ds", "b", 3, "DE", 2, 1, 1, 10), ("ds", "a", 3, "DE", None, 1, 1, 10)
    )
    came, unclear = late.late_rows(after, before)
    rows = [tuple(row[name] for name in ("asset_path", "network_index", *MEASURES)) for row in came.to_pylist()]
    assert sorted(rows) == [("a", 1, 3, 1, 30), ("b", 2, 1, 1, 10)]
    assert unclear == 0


def test_what_is_only_called_otherwise_is_not_told_again() -> None:
    before = of_date(("ds", "a", 3, "DE/Berlin", 1, 2, 2, 20), ("ds", "a", 3, "FR", 2, 2, 2, 20))
    after = of_date(("ds", "a", 3, "DE/Hesse", 1, 3, 3, 30), ("other", "a", 3, "FR", 2, 2, 2, 20))
    came, unclear = late.late_rows(after, before)
    assert came.num_rows == 0
    assert unclear == 1  # of person 1 came one, and nobody can tell which


def test_what_is_gone_stays_told() -> None:
    before = of_date(("ds", "a", 3, "DE", 1, 2, 2, 20), ("ds", "b", 3, "DE", 2, 1, 1, 10))
    after = of_date(("ds", "b", 3, "DE", 2, 1, 1, 10))
    assert late.late_rows(after, before)[0].num_rows == 0


def test_a_request_counts_in_the_first_of_its_datasets() -> None:
    table = usage(("one", "a", 3, "DE", 1, 1, 1, 10), ("two", "a", 3, "DE", 1, 1, 1, 10)).drop_columns(["since"])
    rows = late.networks(table.append_column("in_archive", pa.array([True, False])))
    assert rows["dataset"].to_pylist() == ["one"]


def test_scopes_are_sums_of_cells() -> None:
    cells = [
        tell(
            usage(*crowd("archive", "a", day, "DE/Berlin", range(20))), Rule(), UNTIL, lambda name: 0.5, LONG_AGO
        ).cells
        for day in (3, 4)
    ]
    scopes = released_scopes(cells, {"archive": 20, "%61rchive": 20})
    assert set(scopes) == {"archive", "%61rchive"}
    assert scopes["%61rchive"].by_day["label"].to_pylist() == ["2025-03-03", "2025-03-04"]
    assert scopes["archive"].total == (4000, 40, 40)
    assert scopes["archive"].by_asset.num_rows == 0
    assert pc.sum(scopes["%61rchive"].by_asset["request_count"]).as_py() == 40
