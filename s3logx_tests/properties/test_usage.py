"""Daily usage against a slow count, and its independence from order and layout."""

from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from s3logx_assets.core.datasets import LevelRule
from s3logx_assets.core.digests import table_digest
from s3logx_assets.core.usage import content_digests
from s3logx_tests.mappings import mapping_rule, text_table
from s3logx_tests.usage_tables import Visit, daily_usage, extracted, indexes, regions

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
    return daily_usage([rows], indexes(INDEX_OF), regions(REGION_OF), LevelRule())


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
    rows = [(*key, g["requests"], g["downloads"], g["bytes"], True) for key, g in sums.items()]

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


@quick
@given(visits, st.integers(0, 20), st.integers(0, 20))
def test_groups_of_rows_are_counted_as_the_rows_are(logged: list[Visit], first: int, second: int) -> None:
    rows = extracted(logged)
    first, second = sorted((min(first, len(logged)), min(second, len(logged))))
    groups = [rows.slice(0, first), rows.slice(first, second - first), rows.slice(second)]
    assert daily_usage(groups, indexes(INDEX_OF), regions(REGION_OF), LevelRule()).equals(usage_of(rows))


entries = st.lists(
    st.tuples(st.sampled_from(["a/x", "a/y", "b/", "b/x", "a/"]), st.sampled_from("123"), st.sampled_from(["p", "q"]))
)


@quick
@given(visits, entries)
def test_the_archive_counts_every_row_once_and_each_dataset_its_own(
    logged: list[Visit], mapped: list[tuple[str, str, str]]
) -> None:
    table, rows = text_table(mapped), extracted(logged)
    counted, first = (
        daily_usage([rows], indexes(INDEX_OF), regions(REGION_OF), mapping_rule(table, each=each))
        for each in (True, False)
    )
    archive = counted.filter(counted["in_archive"])
    assert archive.equals(first)
    assert pc.sum(archive["request_count"], min_count=0).as_py() == len(logged)
    assert pc.sum(archive["bytes_sent"], min_count=0).as_py() == sum(visit.bytes_sent for visit in logged)

    # What a dataset has is what it would have, were it alone in the table.
    for dataset in {dataset for _, dataset, _ in mapped} - {"unassociated"}:
        matched = {key: path for key, own, path in reversed(mapped) if own == dataset}
        every = {key for key, _, _ in mapped}
        expected = Counter[str]()
        for visit in logged:
            prefix = visit.key[:2]
            entry = visit.key if visit.key in every else prefix
            if entry in matched:
                rest = visit.key.removeprefix(entry)
                path = f"{matched[entry]}/{rest}" if rest else matched[entry]
                expected[path.partition(".zarr/")[0] + ".zarr" * (".zarr/" in path)] += 1
        own = counted.filter(pc.equal(counted["dataset"], dataset))
        found = Counter[str]()
        for path, requests in zip(own["asset_path"].to_pylist(), own["request_count"].to_pylist(), strict=True):
            found[path] += requests
        assert found == expected
    keys = counted.drop_columns(["request_count", "download_count", "bytes_sent"]).to_pylist()
    assert len({tuple(key.values()) for key in keys}) == len(keys)
