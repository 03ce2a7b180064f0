"""Policy `strict`, piece by piece, with known answers."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from s3logx_assets.core.privacy import late
from s3logx_assets.core.privacy.byte_steps import Swing, step_for, swing, told_bytes
from s3logx_assets.core.privacy.released import ends, released_scopes, visible
from s3logx_assets.core.privacy.strict import (
    CELLS,
    MEASURES,
    POOLED,
    RELEASED,
    WAITING,
    Rule,
    safe,
    stepped_count,
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
    assert cells["ds", "day", "2025-03-03"] == (20, 20, 2000)
    assert cells["ds", "day", "2025-03-03/2025-03-09"] == (12, 12, 1200)
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


@pytest.mark.parametrize(
    ("less", "more", "step"),
    [(0, 0, 1), (1, 0, 5), (0, 1, 5), (2, 0, 5), (49, 3, 100), (50, 0, 200), (10**12, 0, 5 * 10**12)],
)
def test_steps_are_round_and_wide_enough(less: int, more: int, step: int) -> None:
    assert step_for(less, more) == step


def test_a_rare_file_cannot_be_told_from_bytes() -> None:
    """Twenty people read the large file, three the small one. From exact bytes and 23 downloads it would follow that three were of
    the small one."""
    cells = told(
        *crowd("ds", "large", 3, "DE/Berlin", range(20), 10**9), *crowd("ds", "small", 3, "DE/Berlin", range(3), 7)
    )
    (size,) = {value[2] for key, value in cells.items() if key[1] == "total"}
    exact = 20 * 10**9 + 21
    step = step_for(21, 3 * (10**9 - 7))
    assert size % step == 0
    assert abs(size - exact) < step
    # Twenty-three large files could have been as well.
    assert abs(23 * 10**9 - size) < step


def test_swings_of_groups() -> None:
    group = np.array([0, 0, 0, 1, 1])
    file, person = np.array([0, 0, 1, 0, 0]), np.array([0, 1, 2, 3, 4])
    requests, size = np.array([1, 2, 1, 1, 1]), np.array([10, 20, 100, 10, 10])
    found = swing(group, 2, file, person, requests, size, 2)
    # In the first group two people read file 0 and one read file 1; in the second everybody read file 0.
    assert found.less.tolist() == [100, 0]
    assert found.more.tolist() == [0, 0]
    found = swing(group, 2, file, person, requests, size, 3)
    assert found.less.tolist() == [100, 20]
    assert found.more.tolist() == [3 * 90, 0]
    nothing = np.zeros(0, np.int64)
    assert [each.tolist() for each in swing(nothing, 1, nothing, nothing, nothing, nothing, 3)] == [[0], [0]]


@pytest.mark.parametrize("coin", [0.0, 0.5, 0.999])
def test_told_bytes_could_be_those_without_a_rare_file(coin: float) -> None:
    rng = np.random.default_rng(7)
    size = rng.integers(0, 10**6, 10_000)
    swings = Swing(np.minimum(size, rng.integers(0, 10**4, size.size)), rng.integers(0, 10**4, size.size))
    step = np.array(list(map(step_for, *(each.tolist() for each in swings))), np.int64)
    shown = told_bytes(size, step, swings, np.full(size.size, coin))
    assert (shown % step == 0).all()
    assert (abs(shown - size) < np.maximum(step, 1)).all()
    assert (abs(shown - (size - swings.less)) < step)[step > 1].all()
    assert (abs(shown - (size + swings.more)) < step)[step > 1].all()


def test_people_are_told_in_steps() -> None:
    assert [stepped_count(count, 10) for count in (0, 9, 10, 19, 25)] == [0, 0, 10, 10, 20]


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
