"""Scope names: known escapes, and what cannot be reversed."""

from hashlib import sha256

import pytest

from s3logx_assets.core.scopes import dataset_of, scope_of


@pytest.mark.parametrize(
    ("dataset", "scope"),
    [
        ("ds006260", "ds006260"),
        ("A-Z_0.9", "A-Z_0.9"),
        ("archive", "%61rchive"),
        ("Archive", "Archive"),
        ("%61rchive", "%2561rchive"),
        ("sub 01", "sub%2001"),
        ("a/b", "a%2Fb"),
        ("a~b", "a%7Eb"),
        (".hidden", "%2Ehidden"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("a..b", "a.%2Eb"),
        ("a...b", "a.%2E%2Eb"),
        ("é\n", "%C3%A9%0A"),
        ("x" * 200, "x" * 200),
    ],
)
def test_known_escapes_and_back(dataset: str, scope: str) -> None:
    assert scope_of(dataset) == scope
    assert dataset_of(scope) == dataset


def test_a_long_name_is_cut_between_escapes_and_marked_with_its_hash() -> None:
    dataset = "a" + "é" * 100
    digest = sha256(dataset.encode()).hexdigest()
    assert scope_of(dataset) == "a" + "%C3%A9" * 19 + "%C3" + "%~" + digest


@pytest.mark.parametrize(
    "scope",
    ["archive", "", "a b", "a%2fb", "a%", "a%2", "%41", "%C3", "..", scope_of("é" * 100)],
)
def test_what_is_no_reversible_scope_is_refused(scope: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        dataset_of(scope)


def test_an_empty_dataset_has_no_scope() -> None:
    with pytest.raises(ValueError, match="name"):
        scope_of("")
