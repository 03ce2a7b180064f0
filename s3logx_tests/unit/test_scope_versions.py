"""Versions of scopes: any way to the same groups gives the same version, and other groups another one."""

from hypothesis import given, settings
from hypothesis import strategies as st

from s3logx_assets.core.scope_versions import NOTHING, Group, Version, exchanged
from s3logx_assets.core.scopes import ARCHIVE

days = st.sampled_from(["2025-01-31", "2025-02-01", "2025-02-02", "2025-03-01"])
groups = st.tuples(days, st.tuples(st.sampled_from(["ds1", "ds2", "archive"]), days, st.sampled_from("abc")))
sets = st.lists(groups, unique=True, max_size=8)
Groups = list[tuple[str, Group]]
NONE = Version("", NOTHING, NOTHING)


def version_of(found: Groups) -> dict[str, Version]:
    versions = exchanged({}, (), found)
    assert versions is not None
    return versions


@settings(deadline=None)
@given(sets, sets)
def test_going_from_one_set_to_another_is_as_being_there(before: Groups, after: Groups) -> None:
    there = version_of(after)
    gone, new = [g for g in before if g not in after], [g for g in after if g not in before]
    moved = exchanged(version_of(before), gone, new)
    if moved is None:  # a scope lost its newest month
        lost = {scope for scope, version in version_of(before).items() if version.month > there.get(scope, NONE).month}
        assert lost
    else:
        assert moved == there


@given(sets, sets)
def test_other_groups_have_another_version(first: Groups, second: Groups) -> None:
    assert (version_of(first) == version_of(second)) == (set(first) == set(second))


def test_a_scope_has_its_own_newest_month_and_the_archive_all_groups() -> None:
    versions = version_of([("2025-01-31", ("ds1", "2025-01-31", "a")), ("2025-03-01", ("archive", "2025-01-01", "a"))])
    assert {scope: version.month for scope, version in versions.items()} == {
        "%61rchive": "2025-03",
        ARCHIVE: "2025-03",
        "ds1": "2025-01",
    }
    assert versions[ARCHIVE].earlier == versions["ds1"].newest
    assert versions[ARCHIVE].newest == versions["%61rchive"].newest
    assert versions["ds1"].earlier == NOTHING


def test_versions_are_pinned() -> None:
    """A change here makes every scope be counted anew at once."""
    versions = version_of([("2025-01-31", ("ds1", "2025-01-30", "0" * 32))])
    assert versions["ds1"] == Version(
        "2025-01", "d5240ac088b0d03b4ae245db6e4c7b5886ebbd56ebe37f92bd841e3d2e94b422", NOTHING
    )
