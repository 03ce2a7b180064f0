"""Policy `strict` against the attacker, on random archives of which the truth is known.

The attacker gets more than any reader: what each period told alone, with the steps of bytes; and all releases, each the sum of
all periods up to it, with what came between any two that follow one another. Nothing may be found about fewer than ten people.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray

from s3logx_assets.core.grouping import Codes, Measure
from s3logx_assets.core.privacy import strict
from s3logx_assets.core.privacy.attack import attack, changed, figures_of_cells, infer, read_release
from s3logx_assets.core.privacy.strict import DAY, FILE, MEASURES, REGION, RELEASED, TOTAL, Rule
from s3logx_assets.core.privacy.truth import judge
from s3logx_assets.core.scopes import ARCHIVE
from s3logx_tests.crowds import Closed, Crowd, history, published, truth_of_periods

RULE = Rule()
_EFFORT = 5_000
# In the order in which they are run: those of `make test`, and the rest.
QUICK, ALL = 60, 1000


def found_in_periods(crowd: Crowd, periods: list[Closed]) -> list[str]:
    """What is found in each period alone."""
    found = []
    for period in periods:
        inferences = infer(figures_of_cells(period.told.cells, RULE.people), crowd.sizes, RULE.people, _EFFORT)
        found += list(map(str, judge(inferences, truth_of_periods([period]).of, RULE.people)))
    return found


def found_in_releases(crowd: Crowd, periods: list[Closed]) -> list[str]:
    """What is found in the releases after each period, and between them."""
    files = [published(periods[: number + 1], RULE) for number in range(len(periods))]
    first = next((number for number, each in enumerate(files) if each is not None), len(files))
    releases = [read_release(each) for each in files[first:] if each is not None]
    found = [scope for one, other in pairwise(releases) for scope in changed(one, other)]
    whole = [truth_of_periods(periods[: first + place + 1]) for place in range(len(releases))]
    news = [truth_of_periods(periods[first + place : first + place + 1]) for place in range(len(releases))]
    for place, inference in attack(releases, crowd.sizes, RULE.people, _EFFORT):
        truth = news[place] if inference.how.startswith("two releases") else whole[place]
        found += list(map(str, judge(iter([inference]), truth.of, RULE.people)))
    return found


@pytest.mark.parametrize("block", range(6))
def test_nothing_is_found_in_random_archives(block: int) -> None:
    for seed in range(block * QUICK // 6, (block + 1) * QUICK // 6):
        crowd = Crowd.of(seed)
        periods = history(crowd, 3, RULE)
        assert found_in_periods(crowd, periods) == [], seed
        assert found_in_releases(crowd, periods) == [], seed


def _nothing_taken(*parts: object) -> None:
    """What is left in the end stays alone."""


def _all_safe(group: Codes, groups: int, *terms: object) -> NDArray[np.bool_]:
    return np.ones(groups, bool)


def _partial_safe(
    group: Codes, groups: int, person: Codes, measures: Sequence[Measure], rule: Rule
) -> NDArray[np.bool_]:
    """Nobody looks at the difference of requests and downloads."""
    return _all_safe(group, groups) if len(measures) == 1 else genuine(group, groups, person, measures, rule)


genuine = strict.safe


@pytest.mark.parametrize(
    ("broken", "how", "measure"),
    [
        (
            {"step_for": lambda reached, people: 1, "most_of_a_request": lambda step, people: step + 2**50},
            "sizes",
            "download_count",
        ),
        ({"_absorb": _nothing_taken}, "a figure", "request_count"),
        ({"safe": _all_safe}, "a figure", "request_count"),
        ({"safe": _partial_safe}, "a figure", "partial_count"),
    ],
    ids=["bytes are exact", "what is left stays alone", "every group is safe", "partial requests are exact"],
)
def test_a_broken_policy_is_found_out(
    broken: dict[str, object], how: str, measure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker who finds nothing in a policy without its protections would prove nothing about one that has them."""
    for name, function in broken.items():
        monkeypatch.setattr(strict, name, function)
    crowds = [Crowd.of(seed) for seed in range(20)]
    found = [text for crowd in crowds for text in found_in_periods(crowd, history(crowd, 3, RULE))]
    assert [text for text in found if text.startswith(measure) and text.endswith(f"from {how}")]


@pytest.mark.privacy
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("block", range(20))
def test_nothing_is_found_in_a_thousand_random_archives(block: int) -> None:
    for seed in range(ALL + block * ALL // 20, ALL + (block + 1) * ALL // 20):
        crowd = Crowd.of(seed)
        periods = history(crowd, 3, RULE)
        assert found_in_periods(crowd, periods) == [], seed
        assert found_in_releases(crowd, periods) == [], seed


@pytest.mark.privacy
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(10_000, 10_040))
def test_nothing_is_found_in_histories_of_twenty_releases(seed: int) -> None:
    crowd = Crowd.of(seed)
    periods = history(crowd, 20, RULE)
    assert found_in_periods(crowd, periods) == []
    assert found_in_releases(crowd, periods) == []


@pytest.mark.parametrize("seed", range(40))
def test_every_division_is_a_partition_into_groups_of_people(seed: int) -> None:
    """Counted anew, one group at a time and without the engine's own steps."""
    for period in history(Crowd.of(seed), 2, RULE):
        fate = np.array(period.told.fate.to_pylist())
        rows = period.usage.filter(period.usage["dataset"].is_valid()).to_pandas()[fate != "waiting"].reset_index()
        rows["partial_count"] = rows["request_count"] - rows["download_count"]
        groups = period.told.groups.to_pandas()
        cells = period.told.cells.to_pandas()
        told = rows[(fate[fate != "waiting"] == RELEASED)]
        for dataset, own in told.groupby("dataset"):
            steps = cells[cells.dataset == dataset][["byte_step", "partial_step"]].drop_duplicates()
            assert len(steps) == 1, "one step for all figures of the same requests"
            byte_step, partial_step = steps.iloc[0]
            # No request counts with more than k people reach, which is looked for among all sizes that there are.
            known = own[own.network_index.notna()]
            each = -(-known.bytes_sent // known.request_count)
            reached = each.groupby(known.network_index).max().nlargest(RULE.people)
            assert byte_step >= 2 * (RULE.people - 1) * (reached.iloc[-1] if len(reached) == RULE.people else 0)
            most = byte_step // (2 * (RULE.people - 1)) * own.request_count
            size = np.minimum(own.bytes_sent, most) if len(known) else own.bytes_sent
            for dimension in (DAY, FILE, REGION):
                shown = cells[(cells.dataset == dataset) & (cells.dimension == dimension)].set_index("label")
                total = cells[(cells.dataset == dataset) & (cells.dimension == TOTAL)].iloc[0]
                assert shown.request_count.sum() == total.request_count
                assert shown.bytes_sent.sum() == total.bytes_sent
                labels = groups.loc[own.index, dimension].astype(str)
                assert set(labels) == set(shown.index)
                for label, group in own.groupby(labels):
                    assert shown.loc[label, "request_count"] == group.request_count.sum()
                    partial = group.partial_count.sum()
                    told_partial = shown.loc[label, "request_count"] - shown.loc[label, "download_count"]
                    measures = ["request_count", "download_count"]
                    if partial_step == 1:
                        assert told_partial == partial
                        measures.append("partial_count")
                    else:
                        assert abs(told_partial - partial) < partial_step == 2 * RULE.people
                        assert told_partial % partial_step == 0 or told_partial == shown.loc[label, "request_count"]
                    for measure in measures:
                        people = group[group[measure] > 0].groupby("network_index")[measure].sum().sort_values()
                        if len(people):
                            assert len(people) >= RULE.people
                            assert people.iloc[-1] <= RULE.largest * people.sum()
                            assert people.iloc[-(RULE.people - 1) :].sum() <= RULE.coalition * people.sum() + 1e-9
                    assert shown.loc[label, "bytes_sent"] % byte_step == 0
                    assert abs(shown.loc[label, "bytes_sent"] - size[group.index].sum()) < byte_step


@pytest.mark.parametrize("seed", range(40))
def test_the_archive_is_what_its_datasets_tell(seed: int) -> None:
    for period in history(Crowd.of(seed), 2, RULE):
        cells, told = period.told.cells, period.told.fate
        for measure in MEASURES[:1]:
            exact = pc.sum(period.usage[measure].filter(pc.not_equal(told, "waiting"))).as_py() or 0
            for dimension in (TOTAL, DAY, REGION):
                of = cells.filter(pc.and_(pc.equal(cells["dimension"], dimension), cells["in_archive"]))
                assert (pc.sum(of[measure]).as_py() or 0) == exact
        assert (ARCHIVE in figures_of_cells(cells, RULE.people)) == (cells.num_rows > 0)


@pytest.mark.parametrize("seed", range(20))
def test_the_same_usage_tells_the_same(seed: int) -> None:
    one, other = (history(Crowd.of(seed), 2, RULE) for _ in range(2))
    assert [each.told.cells for each in one] == [each.told.cells for each in other]
