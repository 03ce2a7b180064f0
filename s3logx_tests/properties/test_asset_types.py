"""Asset types against a slow reading of their definition, one path at a time."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from s3logx_assets.core.asset_types import OTHER, asset_types, parse_asset_types

quick = settings(max_examples=60, deadline=None)

suffix = st.lists(st.sampled_from([".a", ".b", ".A", ".c"]), min_size=1, max_size=4).map("".join)
paths = st.lists(st.lists(st.sampled_from([".a", ".B", ".c", "x", "/", "é", "İ"])).map("".join), max_size=8)


@st.composite
def classes(draw: st.DrawFn) -> dict[str, list[str]]:
    """Up to four types; no suffix is of two of them, whatever its case."""
    suffixes = draw(st.lists(suffix, min_size=1, max_size=8, unique_by=str.lower))
    owners = draw(st.lists(st.integers(0, 3), min_size=len(suffixes), max_size=len(suffixes)))
    found: dict[str, list[str]] = {}
    for owner, own in zip(owners, suffixes, strict=True):
        found.setdefault(f"type {owner}", []).append(own)
    return found


@quick
@given(classes(), paths)
def test_the_longest_suffix_decides_whatever_the_order_and_the_case(
    own: dict[str, list[str]], logged: list[str]
) -> None:
    types = asset_types(own)
    places = types.classify(pa.array(logged, pa.string()))
    for path, place in zip(logged, places, strict=True):
        fitting = [(len(each), name) for name, each_own in own.items() for each in each_own if ends(path, each)]
        assert types.names[place] == (max(fitting)[1] if fitting else OTHER)

    backwards = asset_types({name: own[name][::-1] for name in reversed(own)})
    again = backwards.classify(pa.array(logged, pa.string()))
    assert [backwards.names[place] for place in again] == [types.names[place] for place in places]
    written = ";".join(f"{name}={','.join(each).upper()}" for name, each in own.items())
    assert parse_asset_types(written) == types


def ends(path: str, suffix: str) -> bool:
    return path.lower().endswith(suffix.lower())
