"""The attacker finds what there is to find: known answers, and policy `compatible` broken."""

import json
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from s3logx_assets.core import public_tables
from s3logx_assets.core.privacy.attack import (
    Inference,
    attack,
    came_between,
    changed,
    compositions,
    figures_of,
    figures_of_cells,
    infer,
    read_release,
)
from s3logx_assets.core.privacy.compatible import published_count
from s3logx_assets.core.privacy.strict import CELLS, MEASURES
from s3logx_assets.core.privacy.truth import Finding, Truth, judge
from s3logx_assets.core.schemas import BY_ASSET, BY_DAY, BY_REGION

SIZES = {"ds": {"small.nwb": 1_048_576, "large.nwb": 7_340_033}}
Row = tuple[str, str, str, str, int, int]  # day, path, region, person, requests, bytes


def compatible(rows: list[Row], requests: int = 0) -> dict[str, bytes]:
    """A release of one dataset `ds`, as policy `compatible` makes it; all requests are downloads."""

    def table(at: int, schema: pa.Schema) -> pa.Table:
        keys = sorted({row[at] for row in rows})
        sums = [
            (sum(row[5] for row in rows if row[at] == key), sum(row[4] for row in rows if row[at] == key))
            for key in keys
        ]
        column = pa.array([date.fromisoformat(str(key)) for key in keys] if at == 0 else keys, schema.field(0).type)
        return pa.table([column, *([each[part] for each in sums] for part in (0, 1, 1))], schema=schema)

    people = len({row[3] for row in rows})
    count = sum(row[4] for row in rows)
    totals: public_tables.Published = {
        "total_bytes_sent": sum(row[5] for row in rows),
        "number_of_unique_regions": 1,
        "number_of_unique_countries": 1,
        "total_number_of_requests": published_count(count),
        "total_number_of_downloads": published_count(count),
        "number_of_requesters": published_count(people),
    }
    files = {
        "totals.json": public_tables.totals_json({"ds": totals}),
        "archive_totals.json": public_tables.archive_totals_json(totals),
    }
    for scope in ("ds", "archive"):
        files[f"summaries/{scope}/by_day.tsv"] = public_tables.by_day(table(0, BY_DAY), 50, 20).tsv()
        files[f"summaries/{scope}/by_region.tsv"] = public_tables.by_region(table(2, BY_REGION), 50, 20).tsv()
    files["summaries/ds/by_asset.tsv"] = public_tables.by_asset(table(1, BY_ASSET), 50, 20).tsv()
    return files


def truth_of(rows: list[Row]) -> Truth:
    codes = {person: code for code, person in enumerate(sorted({row[3] for row in rows}))}
    groups = {"day": 0, "asset": 1, "region": 2, "archive_region": 2}
    return Truth(
        np.array(["ds"] * len(rows), object),
        np.array([row[1] for row in rows], object),
        {name: np.array([row[at] for row in rows], object) for name, at in groups.items()},
        np.array([codes[row[3]] for row in rows]),
        np.array([[row[4], row[4], row[5], 0] for row in rows]).T,
    )


MONDAY: list[Row] = [
    ("2025-03-03", "small.nwb", "DE", f"p{number}", 1, SIZES["ds"]["small.nwb"]) for number in range(60)
]
TUESDAY: Row = ("2025-03-04", "large.nwb", "FR/Brittany", "somebody", 1, SIZES["ds"]["large.nwb"])


def found(rows: list[Row], inferences: list[Inference]) -> list[Finding]:
    return list(judge(iter(inferences), truth_of(rows).of, 10))


def test_compatible_tells_what_one_person_read() -> None:
    """Why `compatible` is not the default: one person's request on a quiet day is shown as `<50`, beside its exact bytes, which are
    those of one file; so day, file and region of one person's request are public."""
    release = read_release(compatible([*MONDAY, TUESDAY]))
    assert release.tables["ds"]["day"]["2025-03-04"] == (None, None, 7_340_033)
    findings = found([*MONDAY, TUESDAY], list(infer(figures_of(release), SIZES, 10)))
    exact = {(each.inference.how, *sorted(each.inference.where)): each for each in findings if each.people == 1}
    assert exact["a figure", "day"].inference.low == exact["a figure", "day"].inference.high == 7_340_033
    by_size = next(
        each.inference for each in findings if each.inference.how == "sizes" and "day" in each.inference.where
    )
    assert (by_size.files, by_size.where["day"]) == (frozenset(["large.nwb"]), frozenset(["2025-03-04"]))
    assert (by_size.low, by_size.high) == (1, 1)


def test_compatible_tells_who_came_between_two_releases() -> None:
    """All counts are the same in both releases; the bytes are not, and the difference is one file."""
    late: Row = ("2025-03-03", "large.nwb", "DE", "somebody", 1, SIZES["ds"]["large.nwb"])
    before, after = (read_release(compatible(rows)) for rows in (MONDAY, [*MONDAY, late]))
    assert before.tables["ds"]["day"]["2025-03-03"][:2] == after.tables["ds"]["day"]["2025-03-03"][:2] == (60, 60)
    findings = found([late], list(infer(came_between(before, after), SIZES, 10)))
    assert any(each.inference.how == "sizes" and each.inference.files == {"large.nwb"} for each in findings)
    places = [place for place, each in attack([before, after], SIZES, 10) if each.how.startswith("two releases")]
    assert set(places) == {1}


def test_compatible_tells_hidden_counts_by_its_sums() -> None:
    """Forty-five requests of one person on one day are `<50`; the total and the other day leave little else."""
    many: Row = ("2025-03-04", "small.nwb", "DE", "somebody", 45, 45)
    release = read_release(compatible([*MONDAY, many]))
    assert release.tables["ds"]["day"]["2025-03-04"][0] is None
    figures = figures_of(release)["ds"]
    assert (figures.total.low[0, 0], figures.total.high[0, 0]) == (90, 109)
    table = next(iter(infer({"ds": figures}, {}, 30)), None)
    assert table is not None
    told = [each for each in infer({"ds": figures}, {}, 30) if each.measure == "request_count" and "day" in each.where]
    assert all(each.low <= 45 <= each.high for each in told if each.where["day"] == {"2025-03-04"})


def test_a_release_that_takes_something_back_is_seen() -> None:
    before, after = (read_release(compatible(rows)) for rows in ([*MONDAY, TUESDAY], MONDAY))
    assert changed(before, after) == ["archive", "ds"]
    assert changed(after, before) == []


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        ((1, 1), (7, 7), {"a": (0, 0), "b": (1, 1), "c": (0, 0)}),
        ((2, 2), (10, 10), {"a": (0, 1), "b": (0, 1), "c": (0, 2)}),  # 7 + 3, 5 + 5
        ((3, 3), (9, 9), {"a": (3, 3), "b": (0, 0), "c": (0, 0)}),
        ((1, 9), (12, 12), {"a": (0, 4), "b": (0, 1), "c": (0, 1)}),  # 7 + 5, 4 x 3
        ((1, 1), (4, 4), None),
        ((2, 2), (6, 11), {"a": (0, 2), "b": (0, 1), "c": (0, 2)}),
    ],
)
def test_compositions(
    count: tuple[int, int], size: tuple[int, int], expected: dict[str, tuple[int, int]] | None
) -> None:
    assert compositions({"a": 3, "b": 7, "c": 5}, count, size, 1000) == expected


def test_compositions_are_those_of_a_search_through_everything() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        sizes = {f"f{number}": int(size) for number, size in enumerate(rng.integers(1, 12, rng.integers(1, 4)))}
        count = tuple(sorted(rng.integers(0, 5, 2).tolist()))
        size = tuple(sorted(rng.integers(0, 40, 2).tolist()))
        ways: list[list[int]] = [[]]
        for _name in sizes:
            ways = [[*way, number] for way in ways for number in range(5)]
        fits = [
            way
            for way in ways
            if count[0] <= sum(way) <= count[1] and size[0] <= sum(map(int.__mul__, way, sizes.values())) <= size[1]
        ]
        expected = (
            {name: (min(column), max(column)) for name, column in zip(sizes, zip(*fits, strict=True), strict=True)}
            if fits
            else None
        )
        assert compositions(sizes, (count[0], count[1]), (size[0], size[1]), 10**6) == expected


def test_a_search_that_is_too_long_says_nothing() -> None:
    sizes = {f"f{number}": 1000 + number for number in range(40)}
    assert compositions(sizes, (20, 20), (20_000, 21_000), 100) is None


def cells(*rows: tuple[str, str, int], downloads: int = 0, partial_step: int = 1) -> pa.Table:
    """Cells of a dataset by dimension, label and requests, so many of each downloaded."""
    figures = (("ds", name, label, True, count, downloads, 0, 1, partial_step) for name, label, count in rows)
    columns = zip(*figures, strict=True)
    return pa.table([pa.array(column, kind.type) for column, kind in zip(columns, CELLS, strict=True)], schema=CELLS)


def test_two_tables_tell_where_they_meet() -> None:
    """All but ten of a thousand requests are on one day, and all but ten for one file: 980 at least are both."""
    told = cells(("total", "", 1000), ("day", "mon", 990), ("day", "tue", 10), ("asset", "a", 990), ("asset", "b", 10))
    crossings = [
        each for each in infer(figures_of_cells(told, 12), {}, 12) if each.how == "two tables" and each.scope == "ds"
    ]
    bounds = {(*each.where["day"], *each.where["asset"]): (each.low, each.high) for each in crossings}
    assert bounds == {("mon", "a"): (980, 990), ("mon", "b"): (0, 10), ("tue", "a"): (0, 10), ("tue", "b"): (0, 10)}


def test_the_archive_tells_of_datasets_that_are_hidden() -> None:
    told = cells(("total", "", 100), ("day", "mon", 100))
    whole = figures_of_cells(told, 10)["archive"]
    hidden = {"archive": whole, "ds": figures_of_cells(cells(("total", "", 97), ("day", "mon", 97)), 10)["ds"]}
    rests = [each for each in infer(hidden, {}, 10) if each.scope == ""]
    assert {(each.measure, each.low, each.high) for each in rests} == {
        ("request_count", 3, 3),
        ("partial_count", 3, 3),
    }


def test_downloads_tell_of_the_requests_that_were_none() -> None:
    """Seven requests of somebody's were for parts of files, and the figure beside that of downloads told it."""
    rows = ("total", "", 40), ("day", "mon", 40)
    inferences = list(infer(figures_of_cells(cells(*rows, downloads=33), 10), {}, 10))
    assert {(each.measure, each.low, each.high) for each in inferences} >= {("partial_count", 7, 7)}
    stepped = cells(*rows, downloads=33, partial_step=20)
    inferences = [each for each in infer(figures_of_cells(stepped, 10), {}, 10) if each.measure == "partial_count"]
    assert not [each for each in inferences if each.is_narrow(10, 7)]


def test_a_finding_is_about_few_people_and_narrow() -> None:
    inference = Inference("ds", {"day": frozenset(["mon"])}, MEASURES[0], 3, 3, "a figure")
    assert [str(each) for each in judge(iter([inference]), lambda each: (2, 3), 10)] == [
        "request_count of ds by day, from a figure"
    ]
    assert not list(judge(iter([inference]), lambda each: (10, 30), 10))
    assert not list(judge(iter([inference]), lambda each: (0, 0), 10))
    wide = Inference("ds", {}, MEASURES[0], 0, 9, "a figure")
    assert not list(judge(iter([wide]), lambda each: (2, 3), 10))


def test_truth_counts_people_and_not_rows() -> None:
    truth = truth_of([*MONDAY, *MONDAY, TUESDAY])
    assert truth.of(Inference("ds", {"day": frozenset(["2025-03-03"])}, MEASURES[0], 0, 0, "")) == (60, 120)
    assert truth.of(Inference("archive", {}, MEASURES[1], 0, 0, "")) == (61, 121)
    both = Inference(
        "ds", {"day": frozenset(["2025-03-03"]), "region": frozenset(["FR/Brittany"])}, MEASURES[0], 0, 0, ""
    )
    assert truth.of(both) == (0, 0)
    of_file = Inference("ds", {}, MEASURES[0], 0, 0, "", frozenset(["large.nwb"]))
    assert truth.of(of_file) == (1, 1)


def test_files_that_look_alike_behind_the_guard_of_formulas_are_read_together() -> None:
    """Only the last of `-x` and `'-x` counted. Under policy `strict` the tables then did not add up to what was told, and no
    release could be made any more."""
    rows = [
        ("2025-03-03", path, "DE", f"p{number}", 1, 7)
        for path in ("-x.nwb", "'-x.nwb", "y.nwb")
        for number in range(60)
    ]
    read = read_release(compatible(rows)).tables["ds"]["asset"]
    assert read == {"'-x.nwb": (120, 120, 840), "y.nwb": (60, 60, 420)}


def test_what_is_no_release_is_refused() -> None:
    with pytest.raises((ValueError, KeyError)):
        read_release({"totals.json": json.dumps({}).encode()})
