"""The latest release in a git work tree: a folder whose releases are commits, pushed where that is asked for.

One commit per release, of the release's files alone: what the owner has changed or staged beside them is left as it is.
A git that is killed leaves its lock files behind, and every later one refuses to work until somebody removes them; so
the repository has a file of ours that tells of a command of ours which did not come to its end. What git says on its
error output is kept from errors, since it can quote an address with a token in it.
"""

import fcntl
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import chain
from pathlib import Path

from s3logx_assets.adapters.destinations import MANIFEST, FolderPlace, listed
from s3logx_assets.core.errors import StoreBusyError, StoreError, StoreUnavailable

_PUSH_SECONDS = 600
# In git's own folder. It is locked by who works there and by its git, and has content while a git of ours is at work.
_AT_WORK = "s3logx-at-work"
_OPTIONS = (
    # Or git goes on beside us after the commit, out of reach, and its locks with it.
    *("-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false"),
    # By itself git leaves new objects, refs and the index to the operating system: after a power failure one may be empty,
    # and every later command fails for good. Before 2.36 it knows no such option, and says nothing.
    *("-c", "core.fsync=all"),
)
_FROM_INPUT = ("--pathspec-from-file=-", "--pathspec-file-nul")
_NOBODY = {"GIT_AUTHOR_NAME": "s3logx", "GIT_AUTHOR_EMAIL": "s3logx@localhost"}


# What a hook that this runs in says of another repository.
_OF_ANOTHER = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX")


def work_tree(folder: Path) -> bool:
    """Whether a folder, there or not yet, is in a git work tree. Git itself is not asked: where it is not installed, or
    will have nothing to do with somebody else's repository, the release must not land there without a commit."""
    real = folder.resolve()
    return any((parent / ".git").exists() for parent in (real, *real.parents))


class GitPlace(FolderPlace):
    """`Place` in a folder of a work tree. With `push`, the branch is pushed to where git's settings say, each time: what
    could not be pushed before goes along."""

    def __init__(self, root: Path, push: bool) -> None:
        super().__init__(root)
        self._push = push

    def trial(self) -> str:
        """See Place. A push is tried, as far as it goes without pushing."""
        words = super().trial()
        if self.root.exists():
            self._git("rev-parse", "--git-dir")
            if self._push:
                self._git("push", "--quiet", "--dry-run", seconds=_PUSH_SECONDS)
        return f"{words}; a git work tree"

    def finish(self, release_id: str, names: Iterable[str]) -> None:
        """See Place. Raises StoreError where git refuses the commit, StoreUnavailable where the push fails, StoreBusyError where
        another run is at it."""
        super().finish(release_id, names)
        with self._at_work() as mark:
            # What was removed by a run that was killed before its commit is known to the last commit's manifest alone.
            ours = {*names, *self._committed()}
            # A name that git does not know would be an error.
            indexed = self._names("ls-files", "--cached")
            known = [name for name in ours if self._path(name).exists() or name in indexed]
            self._git("add", "--all", "--force", *_FROM_INPUT, given=_lines(known), mark=mark)
            if changed := ours & self._names("diff", "--cached", "--name-only", "--relative", "--no-renames"):
                options = ["--quiet", "--no-edit", "--message", f"Release {release_id}", "--only"]
                self._git("commit", *options, *_FROM_INPUT, given=_lines(changed), mark=mark)
            if self._push:
                self._git("push", "--quiet", seconds=_PUSH_SECONDS, mark=mark)

    def _committed(self) -> Iterable[str]:
        """The files of ours that the last commit has."""
        try:
            return listed(self._git("cat-file", "blob", f"HEAD:./{MANIFEST}"), self)
        except StoreError:  # no commit, or no release in it
            return ()

    def _names(self, *command: str) -> set[str]:
        return set(map(os.fsdecode, self._git(*command, "-z").split(b"\0"))) - {""}

    @contextmanager
    def _at_work(self) -> Iterator[int]:
        """Keeps other runs of this machine out of the repository, and removes the locks of a git that was killed. Gives the
        descriptor of _AT_WORK."""
        own, shared = (self._folder_of(kind) for kind in ("--absolute-git-dir", "--git-common-dir"))
        mark = self._told(lambda: os.open(own / _AT_WORK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                words = "another run is at work in it; run again when that is done"
                raise StoreBusyError(f"S3LOGX_PUBLISH_TO: {self.root}: {words}") from None
            if (left := os.fstat(mark)).st_size:
                self._told(lambda: _unlock(own, shared, left.st_mtime_ns))
            yield mark
        finally:
            os.close(mark)

    def _folder_of(self, kind: str) -> Path:
        return self.root / os.fsdecode(self._git("rev-parse", kind).removesuffix(b"\n"))

    @cached_property
    def _author(self) -> dict[str, str]:
        """Who commits where git's settings do not say."""
        command = ["git", "-C", str(self.root), "config", "user.email"]
        asked = subprocess.run(command, capture_output=True, env=_surroundings(), check=False)
        if asked.stdout.strip():
            return {}
        return {**_NOBODY, **{name.replace("AUTHOR", "COMMITTER"): value for name, value in _NOBODY.items()}}

    def _git(
        self,
        command: str,
        *arguments: str,
        given: bytes | None = None,
        seconds: float | None = None,
        mark: int | None = None,
    ) -> bytes:
        """What a command of git's prints; `mark`: that of _at_work, where it changes the repository."""
        author = self._author if command == "commit" else {}
        environment = {**author, **_surroundings(), "GIT_LITERAL_PATHSPECS": "1", "GIT_TERMINAL_PROMPT": "0"}
        if mark is not None:
            os.pwrite(mark, b"a git is at work\n", 0)
            os.fsync(mark)
        # With its lock: where this process is killed alone, its git lives on. What a push may leave running for good, such
        # as a keeper of passwords, must not hold it.
        held = () if mark is None or command == "push" else (mark,)
        try:
            answer = subprocess.run(
                ["git", "-C", str(self.root), *_OPTIONS, command, *arguments],
                input=given,
                capture_output=True,
                env=environment,
                timeout=seconds,
                pass_fds=held,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._failure(command, type(error).__name__) from None
        if mark is not None and answer.returncode >= 0:
            os.ftruncate(mark, 0)  # it ended by itself, and has cleared up
        if answer.returncode:
            raise self._failure(command, f"exit code {answer.returncode}")
        return answer.stdout

    def _failure(self, command: str, why: str) -> StoreError | StoreUnavailable:
        text = f"S3LOGX_PUBLISH_TO: `git {command}` failed in {self.root} ({why}); run it by hand there to see why"
        return StoreUnavailable(text) if command == "push" else StoreError(text)


def _unlock(own: Path, shared: Path, since: int) -> None:
    """Removes git's lock files that came at that time (nanoseconds) or later; those that the owner had before stay. `own` is the
    work tree's folder, `shared` that of all work trees of the repository."""
    below = [folder.rglob("*.lock") for folder in (own / "refs", shared / "refs", shared / "objects" / "info")]
    for path in chain(own.glob("*.lock"), [shared / "packed-refs.lock"], *below):
        with suppress(FileNotFoundError):
            if path.lstat().st_mtime_ns >= since:
                path.unlink()


def _lines(names: Iterable[str]) -> bytes:
    return b"\0".join(map(os.fsencode, names))


def _surroundings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER}
