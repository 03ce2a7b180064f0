"""Death while a release is brought to where it is served from: a folder, a git work tree, a bucket.

Between death and the next run each file is the old one or the new one, and the first page is new only where all is. The
next run brings the rest, without a hand laid on it. How the release is made is attacked in `crash`.
"""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from s3logx_assets.adapters import destinations, git_destination
from s3logx_assets.adapters.destinations import MANIFEST, send
from s3logx_assets.adapters.git_destination import GitPlace
from s3logx_assets.resources import build_destination
from s3logx_tests.s3_server import S3Server, s3_server
from s3logx_tests.torture.archive import Archive
from s3logx_tests.torture.attack import Attack, Break, Campaign, Toll
from s3logx_tests.torture.crash import at_once, counted, in_folder, one_of_each, with_past, written_in_place
from s3logx_tests.torture.steps import Count, Die, Step, die

_SHARING = ("sharing",)
# Below it, steps are seen.
_SITE = "s3logx-site"
_FIRST_PAGE = "index.html"
_GONE = "summaries/gone/by_day.tsv"
# So many steps are tried in the long form, and so many moments while git works.
_STEPS, _MOMENTS = 90, 60
# How long each of git's commands takes, about; in the middle of a commit the owner's hook takes its time.
_SECONDS = {"add": 0.03, "commit": 0.4, "push": 0.1}
_HOOK = "#!/bin/sh\nsleep 0.3\n"

Files = dict[str, bytes]


class Served(Protocol):
    """A kind of place."""

    def make(self, archive: Archive) -> None:
        """Makes the place of an archive, and puts it into its settings."""

    def held(self, archive: Archive) -> Files:
        """What is there now, without what others keep there."""

    def other_harm(self, archive: Archive) -> Toll:
        """What is wrong when all is done, beside the files."""


class _Folder:
    """A folder that a web server serves."""

    def make(self, archive: Archive) -> None:
        """See Served."""
        archive.environment["S3LOGX_PUBLISH_TO"] = str(archive.folder / _SITE)

    def held(self, archive: Archive) -> Files:
        """See Served."""
        site = archive.folder / _SITE
        paths = (path for path in site.rglob("*") if path.is_file())
        found = {path.relative_to(site).as_posix(): path.read_bytes() for path in paths}
        return {name: content for name, content in found.items() if not name.startswith((".git/", "theirs"))}

    def other_harm(self, archive: Archive) -> Toll:
        """See Served."""
        return Toll()


class _WorkTree(_Folder):
    """A git work tree with a remote, in which the owner has something staged and something changed."""

    def make(self, archive: Archive) -> None:
        """See Served."""
        super().make(archive)
        site, remote = archive.folder / _SITE, archive.folder / "remote"
        archive.environment |= {
            "S3LOGX_PUBLISH_PUSH": "1",
            "HOME": str(archive.folder),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(remote)], check=True)
        subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(site)], check=True)
        _git(site, "config", "user.name", "Owner")
        _git(site, "config", "user.email", "owner@example.org")
        (site / "theirs").write_text("1")
        _git(site, "add", "theirs")
        _git(site, "commit", "--quiet", "--message", "First")
        _git(site, "remote", "add", "origin", str(remote))
        # Where the remote is, nobody is killed.
        _git(site, "config", "remote.origin.receivepack", "setsid --wait git-receive-pack")
        _git(site, "push", "--quiet", "--set-upstream", "origin", "main")
        (site / "theirs").write_text("2")
        (site / "theirs-staged").write_text("3")
        _git(site, "add", "theirs-staged")
        hook = site / ".git" / "hooks" / "pre-commit"
        hook.write_text(_HOOK)
        hook.chmod(0o700)

    def other_harm(self, archive: Archive) -> Toll:
        """See Served: what is not in the last commit, or not pushed; more than one commit; what git left behind, or is not
        the owner's as it was."""
        site, remote = archive.folder / _SITE, archive.folder / "remote"
        commits = _git(site, "log", "--format=%s").splitlines()
        status = set(_git(site, "status", "--porcelain").splitlines())
        locks = [*(site / ".git").rglob("*.lock")]
        unsound = subprocess.run(["git", "-C", str(site), "fsck", "--strict"], capture_output=True, check=False)
        return Toll(
            lost=(_git(site, "rev-parse", "HEAD") != _git(remote, "rev-parse", "main"))
            + len(status ^ {" M theirs", "A  theirs-staged"}),
            doubled=abs(len(commits) - 3),
            manual=len(locks) + (unsound.returncode != 0),
        )


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@dataclass(frozen=True)
class _Bucket:
    """A prefix of a bucket of a real server."""

    server: S3Server

    def make(self, archive: Archive) -> None:
        """See Served."""
        archive.environment |= {"S3LOGX_PUBLISH_TO": f"s3://site/{archive.folder.name}/", **self.server.environment()}
        os.environ.update(self.server.environment())  # this process writes there too

    def held(self, archive: Archive) -> Files:
        """See Served."""
        prefix = f"{archive.folder.name}/"
        found = self.server.objects("site", prefix)
        return {key.removeprefix(prefix): content for key, content in found.items()}

    def other_harm(self, archive: Archive) -> Toll:
        """See Served."""
        return Toll()


class Shared:
    """An archive with a new release, whose old one is where it is served from."""

    def __init__(self, archive: Archive, served: Served, old: Files, new: Files) -> None:
        self.archive, self._served, self._old, self._new = archive, served, old, new
        served.make(archive)
        place = build_destination(archive.settings)
        assert place is not None
        send(place, "before", old)

    def killed(self, doom: Callable[[], None], campaign: Campaign) -> Toll:
        """A run that dies, one without trouble, and what both cost."""
        child = self.archive.start(campaign.sabotage, doom, _SHARING)
        child.end()
        left = len(child.orphans())
        torn = self._torn()
        again = self.archive.start(campaign.sabotage, steps=_SHARING)
        failed = again.end() != 0
        found = self._served.held(self.archive)
        told = json.loads(found.pop(MANIFEST, b"{}")).get("release")
        missing = sum(found.get(name) != content for name, content in self._new.items())
        toll = Toll(
            1,
            lost=torn + missing + (told != self.archive.releases.latest()),
            doubled=len(found.keys() - self._new.keys()),
            leaked=self.archive.leaks() + len(self.archive.canaries.found_among(found)),
            manual=left + failed + len(again.orphans()),
        )
        toll += self._served.other_harm(self.archive)
        shutil.rmtree(self.archive.folder)
        return toll

    def _torn(self) -> int:
        """How many files are neither old nor new, and whether the first page tells of what is not there yet."""
        found = self._served.held(self.archive)
        ours = {**self._old, **self._new}.keys() & found.keys()
        neither = [name for name in ours if found[name] not in (self._old.get(name), self._new.get(name))]
        is_shown = found.get(_FIRST_PAGE) == self._new[_FIRST_PAGE]
        return len(neither) + (is_shown and any(found.get(name) != content for name, content in self._new.items()))


@contextmanager
def _ready(campaign: Campaign, served: Served) -> Iterator[Callable[[str], Shared]]:
    """Makes archives by name; the old release has a file that the new one has not."""
    with in_folder(campaign) as copy:
        model = with_past(copy)("model")
        old = {**_latest(model), _GONE: b"of a dataset that is gone\n"}
        model.made()
        new = _latest(model)
        assert old[_FIRST_PAGE] != new[_FIRST_PAGE]
        yield lambda name: Shared(copy(name, model), served, old, new)


def _latest(archive: Archive) -> Files:
    releases = archive.releases
    latest = releases.latest()
    assert latest is not None
    return {name: releases.read(latest, name) for name in releases.names(latest)}


def _at_every_step(served: Served, campaign: Campaign) -> Toll:
    with _ready(campaign, served) as make:
        calm = make("calm").archive
        count = Count(calm.folder / "steps")
        assert calm.start(doom=count, steps=_SHARING).end() == 0
        steps = count.steps
        some = random.Random(campaign.seed).sample(steps, min(len(steps), _STEPS))
        chosen = [*one_of_each(steps, campaign), *_last(steps)] if campaign.short else [*some, *_last(steps)]
        distinct = list(dict.fromkeys(chosen))

        def one(step: Step) -> Toll:
            return make(f"step-{step}").killed(Die(step), campaign)

        return at_once(one, distinct, f"{len(distinct)} of {len(steps)} steps: {counted(distinct)}")


def _last(steps: Sequence[Step]) -> Sequence[Step]:
    """Around the first page and the manifest, which come last."""
    return [step for step in steps if step.kind in ("rename", "bucket put", "bucket remove", "remove")][-4:]


def at_every_step(campaign: Campaign) -> Toll:
    """Killed before a step of a run that brings a release to a folder."""
    return _at_every_step(_Folder(), campaign)


def at_every_step_in_bucket(campaign: Campaign) -> Toll:
    """The same to a bucket."""
    campaign.folder.mkdir(parents=True, exist_ok=True)
    with s3_server(campaign.folder / "server") as server:
        server.make_bucket("site")
        return _at_every_step(_Bucket(server), campaign)


@dataclass(frozen=True)
class DieInGit:
    """So many seconds after a command of git's was begun the group is killed, or this process `alone`."""

    command: str
    seconds: float
    alone: bool

    def __call__(self) -> None:
        def run(arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
            if self.command in arguments:
                threading.Thread(target=self._die, daemon=True).start()
            return subprocess.run(arguments, **options)

        vars(git_destination)["subprocess"] = SimpleNamespace(**{**vars(subprocess), "run": run})

    def _die(self) -> None:
        time.sleep(self.seconds)
        if self.alone:
            os.kill(os.getpid(), signal.SIGKILL)
        die()


def while_git_works(campaign: Campaign) -> Toll:
    """Killed while git adds, commits or pushes; one of four alone, so that its git lives on."""
    with _ready(campaign, _WorkTree()) as make:
        rng = random.Random(campaign.seed)
        plans = []
        for number, command in zip(range(6 if campaign.short else _MOMENTS), itertools.cycle(_SECONDS), strict=False):
            plans.append((number, DieInGit(command, rng.uniform(0, _SECONDS[command]), number % 4 == 3)))

        def one(plan: tuple[int, DieInGit]) -> Toll:
            number, doom = plan
            return make(f"git-{number}").killed(doom, campaign)

        return at_once(one, plans, f"while git does {', '.join(_SECONDS)}")


def _served_in_place() -> None:
    """Files are written where they are served from."""
    from s3logx_assets.adapters import local_files

    written_in_place()
    vars(destinations)["replacing"] = local_files.replacing


def _first_page_first() -> None:
    """The first page is brought like any other file."""
    vars(destinations)["_FIRST_PAGE"] = "SHA256SUMS"


def _left_locked() -> None:
    """What a killed git has locked stays locked."""
    vars(git_destination)["_unlock"] = lambda own, shared, since: None


def _forgotten() -> None:
    """What the last commit has is not looked at."""
    GitPlace._committed = lambda self: ()  # type: ignore[method-assign]


ATTACKS = (
    Attack(
        "sharing: killed at any step, to a folder",
        at_every_step,
        (Break("files are written where they are served from", _served_in_place),),
    ),
    Attack(
        "sharing: killed while git works",
        while_git_works,
        (
            Break("a killed git's locks stay", _left_locked),
            Break("what the last commit has is not looked at", _forgotten),
        ),
    ),
    Attack(
        "sharing: killed at any step, to a bucket",
        at_every_step_in_bucket,
        (Break("the first page does not come last", _first_page_first),),
    ),
)
