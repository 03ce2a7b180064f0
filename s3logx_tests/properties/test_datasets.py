"""Dataset rules against slow readings of their definitions, one key at a time."""

from urllib.parse import unquote_to_bytes

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s3logx_assets.core.datasets import LevelRule
from s3logx_assets.core.scopes import UNASSOCIATED
from s3logx_tests.mappings import mapping_rule, text_table

quick = settings(max_examples=60, deadline=None)

# Pieces that make slashes, escapes, double escapes and broken ones likely.
piece = st.sampled_from(["a", "b", "/", "%", "2", "5", "F", "f", "%2F", "%252f", "%25", ".zarr/"])
text = st.lists(piece | st.characters(min_codepoint=0xE0, max_codepoint=0x2FF), min_size=1)
keys = st.lists(text.map("".join), unique=True, max_size=8)


def decoded_twice(key: str) -> bytes:
    return unquote_to_bytes(unquote_to_bytes(key))


@quick
@given(keys, st.integers(1, 3))
def test_level(logged: list[str], level: int) -> None:
    found = LevelRule(level, collapse_zarr=False).assign(pa.array(logged, pa.string()))
    for key, dataset, path in zip(logged, found.dataset.to_pylist(), found.path.to_pylist(), strict=True):
        *parts, rest = key.split("/", level)
        if len(parts) == level and all(parts) and rest:
            assert (dataset, path) == ("/".join(parts), rest)
        else:
            assert (dataset, path) == (UNASSOCIATED, key)


@st.composite
def keys_and_entries(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Keys, and entries of which many are such a key or a prefix of one."""
    logged, mapped = draw(keys), draw(keys)
    for key in logged:
        plain = decoded_twice(key).decode(errors="replace")
        ends = [position + 1 for position, char in enumerate(plain) if char == "/"]
        cuts = draw(st.lists(st.sampled_from([*ends, len(plain)]), max_size=2))
        mapped += [plain[:cut] for cut in cuts]
    return logged, list(dict.fromkeys(mapped))


@quick
@given(keys_and_entries())
@example((["a%2", "5", "%"], ["a"]))
@example((["é/%25%32%46a"], ["é/"]))
def test_mapping(case: tuple[list[str], list[str]]) -> None:
    logged, mapped = case
    entries = {key: f"dataset {number}" for number, key in enumerate(mapped)}
    table = {"key": pa.array(mapped, pa.string()), "dataset": list(entries.values())}
    if not mapped:
        table["dataset"] = pa.array([], pa.string())
    found = mapping_rule(pa.table(table), collapse_zarr=False).assign(pa.array(logged, pa.string()))

    for key, dataset, path in zip(logged, found.dataset.to_pylist(), found.path.to_pylist(), strict=True):
        plain = decoded_twice(key)
        prefixes = [m for m in mapped if m.endswith("/") and plain.startswith(m.encode())]
        exact = [m for m in mapped if m.encode() == plain]
        matches = exact or sorted(prefixes, key=len, reverse=True)
        if not matches:
            assert (dataset, path) == (UNASSOCIATED, key)
            continue
        assert dataset == entries[matches[0]]
        rest = plain[len(matches[0].encode()) :]
        if rest:
            assert key.endswith(path)
            assert decoded_twice(path) == rest
        else:
            assert path == key


@quick
@given(keys)
def test_a_collapsed_path_is_the_store_and_nothing_else_changes(logged: list[str]) -> None:
    whole = LevelRule(1, collapse_zarr=False).assign(pa.array(logged, pa.string()))
    collapsed = LevelRule(1).assign(pa.array(logged, pa.string()))
    assert whole.dataset == collapsed.dataset
    for path, store in zip(whole.path.to_pylist(), collapsed.path.to_pylist(), strict=True):
        members = path.find(".zarr/")
        assert store == (path if members < 0 else path[: members + len(".zarr")])


shared = st.lists(
    st.tuples(
        st.sampled_from(["k", "l", "m/", "m/n"]), st.sampled_from("abc"), st.none() | st.sampled_from(["p", "q/"])
    ),
    max_size=12,
)


@quick
@given(shared, st.lists(st.sampled_from(["k", "l", "m/x", "m/n", "o"]), unique=True))
def test_a_key_of_several_datasets(rows: list[tuple[str, str, str | None]], logged: list[str]) -> None:
    found = mapping_rule(text_table(rows), each=True).assign(pa.array(logged, pa.string()))
    expected = []
    for place, key in enumerate(logged):
        matched = key if key in {row[0] for row in rows} else "m/" if key.startswith("m/") else None
        own: dict[str, str] = {}
        for entry, dataset, path in rows:
            if entry == matched:
                rest = key.removeprefix(entry)
                parts = [path.rstrip("/")] if path else []
                own.setdefault(dataset, "/".join(parts + [rest] * bool(rest)) or key)
        expected += [(place, *pair) for pair in own.items()] or [(place, UNASSOCIATED, key)]
    assert list(zip(found.key.tolist(), found.dataset.to_pylist(), found.path.to_pylist(), strict=True)) == expected
