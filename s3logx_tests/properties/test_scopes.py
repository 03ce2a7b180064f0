"""Scope names are reversible, distinct and safe for every dataset name."""

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from s3logx_assets.core.scopes import ARCHIVE, MAX_SCOPE_BYTES, dataset_of, scope_of

quick = settings(max_examples=100, deadline=None)

datasets = st.text(min_size=1) | st.text("./%~a6\\", min_size=1) | st.text("é%.", min_size=40)


@quick
@given(datasets)
@example(ARCHIVE)
@example("con..%~")
def test_a_scope_is_a_safe_name_and_leads_back(dataset: str) -> None:
    scope = scope_of(dataset)
    assert re.fullmatch(r"[A-Za-z0-9_%-][A-Za-z0-9._%~-]*", scope)
    assert ".." not in scope
    assert scope != ARCHIVE
    assert len(scope) <= MAX_SCOPE_BYTES
    shortened = re.search(r"%~[0-9a-f]{64}$", scope)
    if shortened:
        assert re.fullmatch(r"(?:[^%]|%[0-9A-F]{2})*", scope[: shortened.start()])
    else:
        assert dataset_of(scope) == dataset


@quick
@given(datasets, datasets)
def test_two_datasets_never_share_a_scope(one: str, other: str) -> None:
    assert (scope_of(one) == scope_of(other)) == (one == other)
