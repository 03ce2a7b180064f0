"""The latest release in a git work tree: a folder whose releases are commits, pushed where that is asked for.

One commit per release, of the release's files alone: what the owner has changed or staged beside them is left as it is.
What git says on its error output is kept from errors, since it can quote an address with a token in it.
"""

import os
import subprocess
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from s3logx_assets.adapters.destinations import FolderPlace
from s3logx_assets.core.errors import StoreError, StoreUnavailable

_PUSH_SECONDS = 600
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
        """See Place. Raises StoreError where git refuses the commit, StoreUnavailable where the push fails."""
        super().finish(release_id, names)
        # A name that is neither there nor known to git would be an error.
        known = set(self._git("ls-files", "-z", "--cached").split(b"\0"))
        ours = b"\0".join(name.encode() for name in names if self._path(name).exists() or name.encode() in known)
        self._git("add", "--all", "--force", "--pathspec-from-file=-", "--pathspec-file-nul", given=ours)
        staged = set(self._git("diff", "--cached", "--name-only", "-z", "--relative").split(b"\0"))
        if staged & set(ours.split(b"\0")) - {b""}:
            self._commit(release_id, ours)
        if self._push:
            self._git("push", "--quiet", seconds=_PUSH_SECONDS)

    def _commit(self, release_id: str, ours: bytes) -> None:
        options = ["--quiet", "--no-edit", "--message", f"Release {release_id}", "--only"]
        self._git("commit", *options, "--pathspec-from-file=-", "--pathspec-file-nul", given=ours)

    @cached_property
    def _author(self) -> dict[str, str]:
        """Who commits where git's settings do not say."""
        command = ["git", "-C", str(self.root), "config", "user.email"]
        asked = subprocess.run(command, capture_output=True, env=_surroundings(), check=False)
        if asked.stdout.strip():
            return {}
        return {**_NOBODY, **{name.replace("AUTHOR", "COMMITTER"): value for name, value in _NOBODY.items()}}

    def _git(self, command: str, *arguments: str, given: bytes | None = None, seconds: float | None = None) -> bytes:
        author = self._author if command == "commit" else {}
        environment = {**author, **_surroundings(), "GIT_LITERAL_PATHSPECS": "1", "GIT_TERMINAL_PROMPT": "0"}
        try:
            answer = subprocess.run(
                ["git", "-C", str(self.root), command, *arguments],
                input=given,
                capture_output=True,
                env=environment,
                timeout=seconds,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._failure(command, type(error).__name__) from None
        if answer.returncode:
            raise self._failure(command, f"exit code {answer.returncode}")
        return answer.stdout

    def _failure(self, command: str, why: str) -> StoreError | StoreUnavailable:
        text = f"S3LOGX_PUBLISH_TO: `git {command}` failed in {self.root} ({why}); run it by hand there to see why"
        return StoreUnavailable(text) if command == "push" else StoreError(text)


def _surroundings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER}
