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


def work_tree(folder: Path) -> bool:
    """Whether a folder is in a git work tree. False where there is no git."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--is-inside-work-tree"], capture_output=True, check=False
        )
    except OSError:
        return False
    return answer.stdout.strip() == b"true"


class GitPlace(FolderPlace):
    """`Place` in a folder of a work tree. With `push`, the branch is pushed to where git's settings say, each time: what
    could not be pushed before goes along."""

    def __init__(self, root: Path, push: bool) -> None:
        super().__init__(root)
        self._push = push

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
        asked = subprocess.run(["git", "-C", str(self.root), "config", "user.email"], capture_output=True, check=False)
        if asked.stdout.strip():
            return {}
        return {**_NOBODY, **{name.replace("AUTHOR", "COMMITTER"): value for name, value in _NOBODY.items()}}

    def _git(self, command: str, *arguments: str, given: bytes | None = None, seconds: float | None = None) -> bytes:
        environment = {**self._author, **os.environ, "GIT_LITERAL_PATHSPECS": "1", "GIT_TERMINAL_PROMPT": "0"}
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
