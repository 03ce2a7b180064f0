"""The release against the tool whose formats it has: the same parsed rows where that tool is right, and a case for each
place where it is wrong, with the right number.

The oracle is that tool's arithmetic, said again with pandas: sums over exact rows for days, assets and regions; rounding
by Python's `round`; totals as sums over the published rows, which is one of its faults.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from s3logx_tests.platform import Platform, failure_text, line

DAYS = ("2025-03-01", "2025-03-02")
# With this seed no count that is published is 10 modulo 20.
SEED = 0
COUNTS = {"requests": "number_of_requests", "downloads": "number_of_downloads"}


def visits() -> pd.DataFrame:
    """Requests of two datasets such that no published count is 10 modulo 20."""
    random = np.random.default_rng(SEED)
    rows = []
    for dataset, per_day in (("ds1", 183), ("ds2", 77)):
        for day in DAYS:
            for number in range(per_day):
                rows.append(
                    {
                        "dataset": dataset,
                        "asset_path": f"sub-{number % 2}/a.nwb",
                        "date": day,
                        "second": number,
                        "host": int(random.integers(1, 200)),
                        "status": 206 if number % 7 == 0 else 200,
                        "bytes_sent": int(random.integers(0, 1 << 40)),
                    }
                )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The release of these visits."""
    with dg.DagsterInstance.ephemeral() as instance:
        platform = Platform.make(
            tmp_path_factory.mktemp("parity"), instance, S3LOGX_LAG_DAYS="0", S3LOGX_COLLAPSE_ZARR="0"
        )
        for day, of_day in visits().groupby("date"):
            lines = [
                line(f"{v.dataset}/{v.asset_path}", v.date, v.second, int(v.status), int(v.bytes_sent), int(v.host))
                for v in of_day.itertuples()
            ]
            platform.log(f"{day}-23-00-00-AA", *lines)
        release(platform)
        yield platform


def release(platform: Platform) -> None:
    assert platform.daily(DAYS[0], DAYS[-1]).success
    assert platform.update_scopes().success
    assert platform.publish().success


def masked(count: int) -> str:
    return "<50" if count < 50 else str(round(count / 20) * 20)


def oracle(rows: pd.DataFrame, key: str) -> list[tuple[Any, ...]]:
    grouped = rows.groupby(key).agg(
        bytes_sent=("bytes_sent", "sum"),
        requests=("status", "size"),
        downloads=("status", lambda s: int((s == 200).sum())),
    )
    for name in COUNTS:
        assert not (grouped[name] % 20 == 10).any(), "rounding halves is where the tools differ"
        grouped[name] = grouped[name].map(masked)
    return sorted(grouped.reset_index().itertuples(index=False, name=None))


def published(platform: Platform, scope: str, table: str) -> list[tuple[Any, ...]]:
    text = (platform.latest / "summaries" / scope / f"{table}.tsv").read_text()
    parsed = pd.read_table(io.StringIO(text), dtype=dict.fromkeys(COUNTS.values(), str))
    return list(parsed.itertuples(index=False, name=None))


@pytest.mark.parametrize(("table", "key"), [("by_day", "date"), ("by_asset", "asset_path"), ("by_region", "region")])
@pytest.mark.parametrize("scope", ["ds1", "ds2", "archive"])
def test_the_parsed_rows_are_those_of_the_tool(platform: Platform, scope: str, table: str, key: str) -> None:
    if scope == "archive" and table == "by_asset":
        assert not (platform.latest / "summaries" / scope / "by_asset.tsv").exists()
        return
    rows = visits().assign(region=lambda v: np.where(v["host"] % 2 == 0, "AA/Even", "BB/Odd"))
    rows = rows if scope == "archive" else rows[rows["dataset"] == scope]
    assert published(platform, scope, table) == oracle(rows, key)


def test_requesters_are_counted_once_in_the_archive_too(platform: Platform) -> None:
    """That tool adds the datasets' rounded numbers up."""
    rows = visits()
    for scope, hosts in (
        ("ds1", rows[rows["dataset"] == "ds1"]),
        ("ds2", rows[rows["dataset"] == "ds2"]),
        ("archive", rows),
    ):
        exact = hosts["host"].nunique()
        found = (platform.latest / "summaries" / scope / "requester_count.tsv").read_text()
        assert found == (str((exact + 10) // 20 * 20) if exact >= 50 else "<50")
    archive = json.loads((platform.latest / "archive_totals.json").read_text())
    totals = json.loads((platform.latest / "totals.json").read_text())
    assert archive["number_of_requesters"] < sum(totals[name]["number_of_requesters"] for name in totals)


def small(tmp_path: Path, instance: dg.DagsterInstance, *lines: str) -> Platform:
    platform = Platform.make(tmp_path, instance, S3LOGX_LAG_DAYS="0")
    platform.log(f"{DAYS[0]}-23-00-00-AA", *lines)
    return platform


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_totals_are_sums_of_exact_counts(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """That tool reads `<50` cells as 0 and adds rounded ones: 30 and 45 requests on two days would be none."""
    platform = small(tmp_path, instance, *(line("ds1/a", DAYS[0], n, host=n % 9 + 1) for n in range(30)))
    platform.log(f"{DAYS[1]}-23-00-00-AA", *(line("ds1/a", DAYS[1], n, host=n % 9 + 1) for n in range(45)))
    release(platform)
    totals = json.loads((platform.latest / "totals.json").read_text())["ds1"]
    assert (totals["total_number_of_requests"], totals["number_of_requesters"]) == (80, "<50")


def test_fifty_is_never_shown_as_forty(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """Python rounds halves to even: `round(50 / 20) * 20` is 40, below the threshold that it should keep."""
    platform = small(tmp_path, instance, *(line("ds1/a", DAYS[0], n, host=n + 1) for n in range(50)))
    release(platform)
    assert published(platform, "ds1", "by_day")[0][2:] == ("60", "60")
    assert (platform.latest / "summaries" / "ds1" / "requester_count.tsv").read_text() == "60"


def test_regions_without_a_slash_and_requests_without_an_address_are_kept(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """That tool splits every label at `/`, and stops at one that has none."""
    lines = [line("ds1/a", DAYS[0], n, ip="-") for n in range(3)]
    platform = small(tmp_path, instance, *lines, line("ds1/a", DAYS[0], 9, host=2))
    release(platform)
    assert [row[0] for row in published(platform, "ds1", "by_region")] == ["AA/Even", "internal"]
    totals = json.loads((platform.latest / "totals.json").read_text())["ds1"]
    assert (totals["number_of_unique_regions"], totals["number_of_unique_countries"]) == (2, 1)


def test_an_archive_without_requests_says_so_and_publishes_nothing(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """That tool fails on an empty scope with an error of pandas."""
    platform = small(tmp_path, instance, line("ds1/a", DAYS[0], status=404))
    assert platform.daily(DAYS[0], DAYS[0]).success
    assert platform.update_scopes().success
    assert "nothing to publish yet" in failure_text(platform.publish())
    assert not platform.latest.exists()


def test_a_key_with_a_tab_cannot_break_a_table(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """Keys are logged percent-encoded; one with a raw tab is not S3's and is rejected, counted."""
    platform = small(tmp_path, instance, line("ds1/a\tb", DAYS[0]), line("ds1/a%09b", DAYS[0], 1))
    release(platform)
    assert [row[0] for row in published(platform, "ds1", "by_asset")] == ["a%09b"]
    record = platform.store.record("extracted_logs", f"log_date={DAYS[0]}")
    assert record is not None
    assert record["counts"]["rejected_key"] + record["counts"]["rejected_head"] == 1
