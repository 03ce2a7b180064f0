"""Daily usage against a slow count, and its independence from order and layout."""

from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from s3logx_assets.core.datasets import LevelRule
from s3logx_assets.core.digests import table_digest
from s3logx_assets.core.usage import content_digests, daily_usage
from s3logx_tests.usage_tables import Visit, extracted, indexes, regions

quick = settings(max_examples=40, deadline=None)

INDEX_OF = {0: -(2**63), 1: 2**63 - 1, 2: 2**53 + 1, 3: 2**53, 4: -1}
REGION_OF = dict(zip(INDEX_OF.values(), ["US/Ohio", "DE", "DE", "É", "bogon"], strict=True))

visits = st.lists(
    st.builds(
        Visit,
        key=st.sampled_from(["a/x", "a/y", "a/é", "b/x", "b/z.zarr/0", "b/z.zarr/1", "top", "B/x"]),
        visitor=st.none() | st.sampled_from(list(INDEX_OF)),
        bytes_sent=st.integers(0, 2**54),
        status=st.sampled_from([200, 200, 204, 206]),
        when=st.integers(0, 3 * 86_400 - 1).map(
            lambda second: datetime(2024, 2, 28, tzinfo=UTC) + timedelta(seconds=second)
        ),
    ),
    max_size=20,
)


def usage_of(rows: pa.Table) -> pa.Table:
    return daily_usage(rows, indexes(INDEX_OF), regions(REGION_OF), LevelRule())


def slow_usage(logged: list[Visit]) -> list[tuple[Any, ...]]:
    sums: defaultdict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for visit in logged:
        dataset, slash, path = visit.key.partition("/")
        if not slash:
            dataset, path = "unassociated", visit.key
        if path.startswith("z.zarr"):
            path = "z.zarr"
        index = None if visit.visitor is None else INDEX_OF[visit.visitor]
        region = "internal" if index is None else REGION_OF[index]
        network = None if index is None else index // 2
        group = sums[dataset, path, visit.when.date(), region, index, network]
        group["requests"] += 1
        group["downloads"] += visit.status == 200
        group["bytes"] += visit.bytes_sent
    rows = [(*key, g["requests"], g["downloads"], g["bytes"]) for key, g in sums.items()]

    def order(row: tuple[Any, ...]) -> tuple[Any, ...]:
        dataset, path, day, region, index = row[:5]
        return dataset.encode(), day, path.encode(), region.encode(), index is None, index or 0

    return sorted(rows, key=order)


@quick
@given(visits)
def test_usage_equals_a_slow_count(logged: list[Visit]) -> None:
    counted = usage_of(extracted(logged))
    assert [tuple(row.values()) for row in counted.to_pylist()] == slow_usage(logged)


@quick
@given(visits, st.data())
def test_order_and_chunks_of_the_rows_change_nothing(logged: list[Visit], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(logged))
    cut = data.draw(st.integers(0, len(shuffled)))
    chunked = pa.concat_tables([extracted(shuffled[:cut]), extracted(shuffled[cut:])])
    one, other = usage_of(extracted(logged)), usage_of(chunked)
    assert one.equals(other)
    assert table_digest(one) == table_digest(other)
    assert content_digests(one) == content_digests(other)


@quick
@given(visits, visits)
def test_a_content_digest_tells_exactly_the_groups_that_differ(before: list[Visit], after: list[Visit]) -> None:
    def groups(logged: list[Visit]) -> dict[tuple[str, date], list[tuple[Any, ...]]]:
        result = defaultdict(list)
        for dataset, path, day, *rest in slow_usage(logged):
            result[dataset, day].append((path, *rest))
        return result

    def digests(logged: list[Visit]) -> dict[tuple[str, date], str]:
        return {(name, day): digest for name, day, digest in content_digests(usage_of(extracted(logged)))}

    old, new = groups(before), groups(after)
    old_digests, new_digests = digests(before), digests(after)
    assert old.keys() == old_digests.keys()
    for group in old.keys() & new.keys():
        assert (old[group] == new[group]) == (old_digests[group] == new_digests[group])
