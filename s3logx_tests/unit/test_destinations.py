"""Where releases go: only what differs is written, what others keep stays, and what was killed is put right."""

import fcntl
import json
import os
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from s3logx_assets.adapters.destinations import FolderPlace, Place, Sent, send
from s3logx_assets.adapters.git_destination import GitPlace, work_tree
from s3logx_assets.core.errors import StoreBusyError, StoreError, StoreUnavailable

FIRST = {"index.html": b"1", "a/x.tsv": b"x", "a/y.tsv": b"y", "b/%61z.tsv": b"z"}
SECOND = {"index.html": b"2", "a/x.tsv": b"x", "a/y.tsv": b"yy", "c/new.tsv": b"n"}


def held(folder: Path) -> dict[str, bytes]:
    """The files of a folder but for git's own."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


def manifest(release: str, files: Mapping[str, bytes], folder: Path) -> dict[str, bytes]:
    """What the folder should hold: the files, and the manifest, which is read."""
    listed = json.loads((folder / "release.json").read_bytes())
    assert listed["release"] == release
    assert set(listed["files"]) == set(files)
    return {**files, "release.json": (folder / "release.json").read_bytes()}


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    place = FolderPlace(tmp_path)
    assert send(place, "r1", FIRST) == Sent(4, 0, 0, 4)
    assert held(tmp_path) == manifest("r1", FIRST, tmp_path)
    before = os.stat(tmp_path / "a/x.tsv")
    assert send(place, "r1", FIRST) == Sent(0, 4, 0, 0)
    assert send(place, "r2", SECOND) == Sent(3, 1, 1, 4)
    assert held(tmp_path) == manifest("r2", SECOND, tmp_path)
    assert os.stat(tmp_path / "a/x.tsv").st_ino == before.st_ino
    assert not (tmp_path / "b").exists()


def test_what_others_keep_there_stays(tmp_path: Path) -> None:
    for name in ("CNAME", "a/notes.txt", "b/keep", ".nojekyll"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    place = FolderPlace(tmp_path)
    send(place, "r1", FIRST)
    send(place, "r2", SECOND)
    for name in ("CNAME", "a/notes.txt", "b/keep", ".nojekyll"):
        assert (tmp_path / name).read_bytes() == b"mine"


def test_a_file_of_ours_that_somebody_changed_is_put_back(tmp_path: Path) -> None:
    place = FolderPlace(tmp_path)
    send(place, "r1", FIRST)
    (tmp_path / "a/x.tsv").write_bytes(b"?")
    (tmp_path / "a/y.tsv").unlink()
    assert send(place, "r1", FIRST).written == 3
    assert held(tmp_path) == manifest("r1", FIRST, tmp_path)


class Killed(Exception):
    """Instead of a kill."""


class Dying(FolderPlace):
    """Dies before its n-th change."""

    def __init__(self, root: Path, changes: int) -> None:
        super().__init__(root)
        self.left = changes

    def _live(self) -> None:
        if not self.left:
            raise Killed
        self.left -= 1

    def put(self, name: str, content: bytes) -> None:
        self._live()
        super().put(name, content)

    def remove(self, name: str) -> None:
        self._live()
        super().remove(name)


@pytest.mark.parametrize("following", [("r1", FIRST), ("r2", SECOND)], ids=["back", "on"])
def test_killed_anywhere_the_next_time_puts_it_right(tmp_path: Path, following: tuple[str, dict[str, bytes]]) -> None:
    """Also where the next release is the one before: a file that was written already is not taken for the old one."""
    for first in (True, False):
        for changes in range(6):
            folder = tmp_path / f"{first}{changes}"
            folder.mkdir()
            (folder / "CNAME").write_bytes(b"theirs")
            if not first:
                send(FolderPlace(folder), "r1", FIRST)
            with pytest.raises(Killed):
                send(Dying(folder, changes), "r2" if not first else "r1", SECOND if not first else FIRST)
            send(FolderPlace(folder), *following)
            assert held(folder) == {**manifest(*following, folder), "CNAME": b"theirs"}


def test_readers_find_the_first_page_last(tmp_path: Path) -> None:
    order: list[str] = []

    class Watched(FolderPlace):
        def put(self, name: str, content: bytes) -> None:
            order.append(name)
            super().put(name, content)

        def remove(self, name: str) -> None:
            order.append(f"-{name}")
            super().remove(name)

    send(Watched(tmp_path), "r1", FIRST)
    assert order[0] == order[-1] == "release.json"
    assert order[-2] == "index.html"
    order.clear()
    send(Watched(tmp_path), "r2", SECOND)
    assert order[-3:] == ["index.html", "-b/%61z.tsv", "release.json"]


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "x.tsv").write_bytes(b"theirs")
    (inside / "a").symlink_to(outside)
    with pytest.raises(StoreError, match="leads out of it"):
        send(FolderPlace(inside), "r1", FIRST)
    assert held(outside) == {"x.tsv": b"theirs"}
    (inside / "a").unlink()
    send(FolderPlace(inside), "r1", FIRST)
    for name in ("index.html", "a/x.tsv"):  # in place of files that were ours
        (inside / name).unlink()
        (inside / name).symlink_to(outside / "x.tsv")
    send(FolderPlace(inside), "r2", SECOND)
    assert held(outside) == {"x.tsv": b"theirs"}
    assert held(inside) == manifest("r2", SECOND, inside)
    assert not any(path.is_symlink() for path in inside.rglob("*"))


@pytest.mark.parametrize("name", ["index.html", "a/x.tsv"])
@pytest.mark.parametrize("content", [b"theirs", FIRST["index.html"], None])
def test_a_file_of_others_is_not_overwritten(tmp_path: Path, name: str, content: bytes | None) -> None:
    """The change log of somebody's project, say, at the top of whose work tree a release was to go."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    if content is None:
        (tmp_path / name).symlink_to("nowhere")
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match=f"files of others where those of the release belong: {name}; move"):
        send(FolderPlace(tmp_path), "r1", FIRST)
    assert sorted(held(tmp_path)) == ([] if content is None else [name])
    (tmp_path / name).unlink()
    send(FolderPlace(tmp_path), "r1", FIRST)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/new.tsv").write_bytes(b"theirs")
    with pytest.raises(StoreError, match=r"c/new\.tsv"):
        send(FolderPlace(tmp_path), "r2", SECOND)
    (tmp_path / "c/new.tsv").unlink()
    (tmp_path / "c").rmdir()
    assert held(tmp_path) == manifest("r1", FIRST, tmp_path)


def test_what_is_no_release_takes_the_place_of_none(tmp_path: Path) -> None:
    send(FolderPlace(tmp_path), "r1", FIRST)
    with pytest.raises(KeyError):
        send(FolderPlace(tmp_path), "r2", {})
    assert held(tmp_path) == manifest("r1", FIRST, tmp_path)


@pytest.mark.parametrize("listed", [b"", b"{", b"[]", b"7", b"{}", b'{"files": 3}', b"\xff"])
def test_a_manifest_of_somebody_else_is_left_alone(tmp_path: Path, listed: bytes) -> None:
    (tmp_path / "release.json").write_bytes(listed)
    with pytest.raises(StoreError, match=r"release\.json that no release left there"):
        send(FolderPlace(tmp_path), "r1", FIRST)
    assert held(tmp_path) == {"release.json": listed}


def test_a_manifest_leads_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (tmp_path / "x").write_bytes(b"theirs")
    (folder / "release.json").write_bytes(b'{"files": {"../../x": "", "/etc/x": "", "a//b": "", "../x": ""}}')
    send(FolderPlace(folder), "r1", FIRST)
    assert held(folder) == manifest("r1", FIRST, folder)
    assert (tmp_path / "x").read_bytes() == b"theirs"


def test_what_a_killed_writer_left_goes_with_the_next_writing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in (".writing-index.html.0011", "a/.writing-x.tsv.0011"):
        (tmp_path / name).write_bytes(b"half")
    send(FolderPlace(tmp_path), "r1", FIRST)
    assert held(tmp_path) == manifest("r1", FIRST, tmp_path)


def test_a_place_is_tried_without_a_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert FolderPlace(tmp_path / "a/b").trial() == f"will be made below {tmp_path}"
    with pytest.raises(StoreError, match=r"file is not a folder"):
        FolderPlace(tmp_path / "file/x").trial()
    assert sorted(os.listdir(tmp_path)) == ["file"]
    send(FolderPlace(tmp_path / "a"), "r1", FIRST)
    assert FolderPlace(tmp_path / "a").trial() == "a release is there"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"S3LOGX_PUBLISH_TO: .* cannot be written"):
        send(FolderPlace(tmp_path / "file"), "r1", FIRST)


def test_files_can_be_read_by_the_web_server(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        send(FolderPlace(tmp_path / "new"), "r1", FIRST)
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(tmp_path / "new/index.html").st_mode) == 0o644


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work tree with a commit and a remote, away from the settings of whoever runs this."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "remote")], check=True)
    folder = tmp_path / "tree"
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(folder)], check=True)
    (folder / "README").write_text("theirs")
    git(folder, "add", "README")
    git(folder, "-c", "user.name=Owner", "-c", "user.email=owner@example.org", "commit", "--quiet", "-m", "First")
    git(folder, "remote", "add", "origin", str(tmp_path / "remote"))
    git(folder, "push", "--quiet", "--set-upstream", "origin", "main")
    return folder


def messages(folder: Path) -> list[str]:
    return git(folder, "log", "--format=%s").split("\n")


def test_one_commit_per_release(tree: Path) -> None:
    place: Place = GitPlace(tree, push=False)
    assert work_tree(tree)
    for _ in range(2):
        send(place, "r1", FIRST)
        assert messages(tree) == ["Release r1", "First"]
    send(place, "r2", SECOND)
    assert messages(tree) == ["Release r2", "Release r1", "First"]
    assert set(git(tree, "ls-tree", "-r", "--name-only", "HEAD").split("\n")) == {*SECOND, "README", "release.json"}
    assert git(tree, "status", "--porcelain") == ""
    assert git(tree, "log", "-1", "--format=%an") == "s3logx"


def test_what_the_owner_has_under_way_is_left_as_it_is(tree: Path) -> None:
    (tree / "README").write_text("changed")
    (tree / "staged.txt").write_text("staged")
    (tree / "loose.txt").write_text("loose")
    (tree / ".gitignore").write_text("*.tsv\n")
    git(tree, "add", "staged.txt")
    git(tree, "config", "user.name", "Owner")
    git(tree, "config", "user.email", "owner@example.org")
    send(GitPlace(tree, push=False), "r1", FIRST)
    assert set(git(tree, "show", "--name-only", "--format=", "HEAD").split("\n")) == {*FIRST, "release.json"}
    assert git(tree, "log", "-1", "--format=%an") == "Owner"
    status = git(tree, "status", "--porcelain").split("\n")
    assert set(status) == {"M README", "A  staged.txt", "?? loose.txt", "?? .gitignore"}


def test_a_folder_in_a_work_tree_and_one_without_commits(tree: Path, tmp_path: Path) -> None:
    (tree / "docs").mkdir()
    send(GitPlace(tree / "docs", push=False), "r1", FIRST)
    assert "docs/index.html" in git(tree, "ls-tree", "-r", "--name-only", "HEAD")
    empty = tmp_path / "empty"
    subprocess.run(["git", "init", "--quiet", str(empty)], check=True)
    send(GitPlace(empty, push=False), "r1", FIRST)
    assert messages(empty) == ["Release r1"]
    assert not work_tree(tmp_path)
    assert work_tree(tree / "not/there/yet")
    send(GitPlace(tree / "not/there/yet", push=False), "r1", FIRST)
    assert messages(tree) == ["Release r1", "Release r1", "First"]


def test_another_repository_in_the_surroundings_is_not_meant(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a hook of another repository git says where that one is; the release once was committed there."""
    other = tmp_path / "other"
    subprocess.run(["git", "init", "--quiet", str(other)], check=True)
    with monkeypatch.context() as surroundings:
        surroundings.setenv("GIT_DIR", str(other / ".git"))
        surroundings.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
        send(GitPlace(tree, push=False), "r1", FIRST)
    assert messages(tree) == ["Release r1", "First"]
    assert git(other, "count-objects") == "0 objects, 0 kilobytes"


def test_what_git_will_have_nothing_to_do_with_is_told(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not taken for a folder that needs no commit."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert work_tree(tree)
    with pytest.raises(StoreError, match="`git rev-parse` failed"):
        GitPlace(tree, push=False).trial()


def test_a_push_is_tried_without_pushing(tree: Path, tmp_path: Path) -> None:
    assert GitPlace(tree, push=True).trial() == "no release is there yet; a git work tree"
    send(GitPlace(tree, push=False), "r1", FIRST)
    assert GitPlace(tree, push=True).trial() == "a release is there; a git work tree"
    assert messages(tmp_path / "remote") == ["First"]
    (tmp_path / "remote").rename(tmp_path / "away")
    with pytest.raises(StoreUnavailable, match="`git push` failed"):
        GitPlace(tree, push=True).trial()


def test_a_push_that_failed_is_made_up_for(tree: Path, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    place = GitPlace(tree, push=True)
    send(place, "r1", FIRST)
    assert messages(remote) == ["Release r1", "First"]
    remote.rename(tmp_path / "away")
    with pytest.raises(StoreUnavailable, match="git push") as failure:
        send(place, "r2", SECOND)
    assert str(remote) not in str(failure.value), "an address can hold a token"
    (tmp_path / "away").rename(remote)
    assert send(place, "r2", SECOND).written == 0
    assert messages(remote) == ["Release r2", "Release r1", "First"]


def test_a_commit_that_git_refuses_is_told(tree: Path) -> None:
    hook = tree / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\necho secret >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(StoreError, match="`git commit` failed") as failure:
        send(GitPlace(tree, push=False), "r1", FIRST)
    assert "secret" not in str(failure.value)
    hook.unlink()
    send(GitPlace(tree, push=False), "r1", FIRST)
    assert messages(tree) == ["Release r1", "First"]


def test_a_commit_is_on_the_disk(tree: Path) -> None:
    """After a power failure a commit's objects or its branch may be empty files, since git leaves them to the operating system,
    and nothing was shared any more until somebody repaired the repository."""
    hook = tree / ".git/hooks/pre-commit"
    hook.write_text('#!/bin/sh\ngit config core.fsync >"$(git rev-parse --git-dir)/told"\n')
    hook.chmod(0o755)
    send(GitPlace(tree, push=False), "r1", FIRST)
    assert (tree / ".git/told").read_text() == "all\n"


def test_what_a_killed_git_has_locked_is_unlocked(tree: Path) -> None:
    """A machine that went down in the middle of a commit once ended all sharing until somebody removed a file by hand."""
    hook = tree / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\nkill -9 $PPID\n")
    hook.chmod(0o755)
    with pytest.raises(StoreError, match="`git commit` failed"):
        send(GitPlace(tree, push=True), "r1", FIRST)
    assert (tree / ".git/index.lock").exists()
    hook.unlink()
    send(GitPlace(tree, push=True), "r1", FIRST)
    assert messages(tree) == ["Release r1", "First"]
    assert git(tree, "status", "--porcelain") == ""
    assert not list((tree / ".git").rglob("*.lock"))


def test_what_the_owner_has_locked_stays_locked(tree: Path) -> None:
    lock = tree / ".git/index.lock"
    lock.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(StoreError, match="`git add` failed"):
            send(GitPlace(tree, push=False), "r1", FIRST)
    assert lock.exists()
    lock.unlink()
    send(GitPlace(tree, push=False), "r1", FIRST)
    assert messages(tree) == ["Release r1", "First"]


@pytest.mark.parametrize("added", [False, True])
def test_what_was_removed_before_a_kill_is_removed_from_the_commit(tree: Path, added: bool) -> None:
    """A dataset's page that was taken away once stayed in the repository for good."""

    class DyingBeforeTheCommit(GitPlace):
        def finish(self, release_id: str, names: object) -> None:
            if added:
                git(tree, "add", "--all")
            raise Killed

    send(GitPlace(tree, push=False), "r1", FIRST)
    with pytest.raises(Killed):
        send(DyingBeforeTheCommit(tree, push=False), "r2", SECOND)
    send(GitPlace(tree, push=False), "r2", SECOND)
    assert messages(tree) == ["Release r2", "Release r1", "First"]
    assert set(git(tree, "ls-tree", "-r", "--name-only", "HEAD").split("\n")) == {*SECOND, "README", "release.json"}
    assert git(tree, "status", "--porcelain") == ""


def test_two_runs_are_not_at_work_in_a_repository_at_once(tree: Path) -> None:
    with open(tree / ".git/s3logx-at-work", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreBusyError, match="another run is at work in it; run again"):
            send(GitPlace(tree, push=False), "r1", FIRST)
    send(GitPlace(tree, push=False), "r1", FIRST)
    assert messages(tree) == ["Release r1", "First"]


def test_of_a_second_work_tree_only_its_own_locks_are_removed(tree: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    git(tree, "worktree", "add", "--quiet", "-b", "site", str(second))
    hook = tree / ".git/hooks/pre-commit"
    hook.write_text(f"#!/bin/sh\ntouch {tree}/.git/index.lock\nkill -9 $PPID\n")
    hook.chmod(0o755)
    with pytest.raises(StoreError, match="`git commit` failed"):
        send(GitPlace(second, push=False), "r1", FIRST)
    hook.unlink()
    send(GitPlace(second, push=False), "r1", FIRST)
    assert messages(second) == ["Release r1", "First"]
    assert (tree / ".git/index.lock").exists()
