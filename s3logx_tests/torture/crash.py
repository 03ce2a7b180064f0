"""Death at any moment: the whole process group killed at a step or at any time, alone or beside another run; and again.

After each try the platform runs once more, without a hand laid on it, and must have what an undisturbed run makes, row
for row. What else can go wrong than death does not belong here.
"""

import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import stat
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from s3logx_assets import dagster_home
from s3logx_assets.adapters import gawk, local_files, release_store, s3_files
from s3logx_assets.adapters.files import Confirm
from s3logx_assets.adapters.release_store import LocalReleaseStore
from s3logx_assets.adapters.s3 import Bucket
from s3logx_assets.adapters.s3_release_store import LATEST, S3ReleaseStore
from s3logx_assets.adapters.table_store import TableStore
from s3logx_tests.s3_server import s3_server
from s3logx_tests.torture.archive import Archive, Contents
from s3logx_tests.torture.attack import Attack, Break, Campaign, Toll, intact
from s3logx_tests.torture.child import STEPS, Child
from s3logx_tests.torture.steps import Count, Die, Step, Witness, die, watch

_SETTINGS = {"S3LOGX_LAG_DAYS": "0"}
_AT_ONCE = 2
# Over a bucket most of a try is waiting for what a dead run has locked.
_AT_ONCE_IN_BUCKET = 9
_NUMBERS, _LOCKED = itertools.count(), itertools.count()
# Of so many archives in a bucket one has locks that wait as long as they do for users; they wait a third of that in the others.
_GENUINE, _FASTER = 6, 3
# Of so many tries one begins before Dagster has any history.
_FROM_NOTHING = 4

# Of the moments between writing, syncing and renaming, so many are tried.
_POWER_LOSSES = 80
# So many random moments for one run and for two, in a folder and in a bucket: 300 together.
_MOMENTS, _MOMENTS_IN_BUCKET, _MOMENTS_OF_TWO, _MOMENTS_OF_TWO_IN_BUCKET = 150, 50, 60, 40
# Of two runs: three pairs of which none is killed, since two that do not wait for one another may still miss each other.
_OF_TWO_IN_SHORT = (0, 1, 2, 4, 8)

# Makes an archive of a name.
Maker = Callable[[str], Archive]


class Copier(Protocol):
    """Makes an archive of a name in the campaign's folder, or a copy of one that is there."""

    def __call__(self, name: str, model: Archive | None = None, /) -> Archive: ...


# Where the stores are.
Place = Callable[[Campaign], AbstractContextManager[Copier]]


@contextmanager
def in_folder(campaign: Campaign) -> Iterator[Copier]:
    """Each archive has its store in a folder."""

    def make(name: str, model: Archive | None = None) -> Archive:
        folder = campaign.folder / name
        return model.copied(folder) if model else Archive(folder, days=2, files=2, lines=25, **_SETTINGS)

    yield make


@contextmanager
def _in_bucket(campaign: Campaign) -> Iterator[Copier]:
    """Each archive has a store of its own in a bucket of a real server."""
    campaign.folder.mkdir(parents=True, exist_ok=True)
    with s3_server(campaign.folder / "server") as server:
        server.make_bucket("torture")

        def make(name: str, model: Archive | None = None) -> Archive:
            prefix = f"{name}-{next(_NUMBERS)}"
            store = {"S3LOGX_STORE": f"s3://torture/{prefix}", **server.environment()}
            os.environ.update(server.environment())  # this process reads the store too
            if model:
                archive = model.copied(campaign.folder / name, **store)
                old = model.environment["S3LOGX_STORE"].removeprefix("s3://torture/")
                objects = server.objects("torture", f"{old}/")
                server.put("torture", {key.replace(old, prefix, 1): objects[key] for key in objects})
            else:
                archive = Archive(campaign.folder / name, days=2, files=2, lines=25, **_SETTINGS, **store)
            archive.terms = _quicker_locks if next(_LOCKED) % _GENUINE else intact
            return archive

        yield make


def with_past(make: Copier) -> Maker:
    """Makes archives that were run whole when only the first of their dates had logs; then came the others', and one more
    file of the first. So there are old tables and an old release, and a run makes others."""
    model = make("past")
    (first, *_), logs, later = model.days, model.folder / "logs", model.folder / "later"
    logs.rename(later)
    shutil.copytree(later / f"{first:%Y/%m/%d}", logs / f"{first:%Y/%m/%d}")
    model.deliver(first, 8, lines=75)  # or too few people were there for a release
    model.made()
    shutil.copytree(later, logs, dirs_exist_ok=True)
    model.deliver(first, 9, lines=25)
    model.before, _ = model.private()
    return lambda name: make(f"old-{name}", model)


def _quicker_locks() -> None:
    s3_files.RENEWED, s3_files.PATIENCE = s3_files.RENEWED / _FASTER, s3_files.PATIENCE / _FASTER


def _parallel(place: Place) -> int:
    return _AT_ONCE_IN_BUCKET if place is _in_bucket else _AT_ONCE


def at_every_step(place: Place, campaign: Campaign) -> Toll:
    """Killed before each step of a whole run that makes anew what is there; in the short form, before one of every kind, and
    where the release is shown."""
    with place(campaign) as copy:
        make = with_past(copy)
        expected, steps = calm(make)
        chosen = list(dict.fromkeys([*one_of_each(steps, campaign), *_telling(steps)])) if campaign.short else steps

        def one(step: Step) -> Toll:
            archive = make(f"step-{step}")
            child = archive.start(campaign.sabotage, Die(step))
            return _again(archive, child, expected, campaign)

        return at_once(one, chosen, f"{len(chosen)} of {len(steps)} steps: {counted(steps)}", _parallel(place))


def at_any_moment(place: Place, tries: int, campaign: Campaign) -> Toll:
    """Killed at random moments of a whole run; every second one makes anew what is there. One of four is killed alone, as the
    system does for want of memory: what it started must notice that by itself."""
    with place(campaign) as make:
        again = with_past(make)
        expected, _ = calm(make)
        expected_again, seconds = _made(again("calm")), pace(make, _parallel(place))
        rng = random.Random(campaign.seed)
        began: list[bool] = []
        few = 4 if place is in_folder else _AT_ONCE_IN_BUCKET
        plans = [(number, rng.uniform(0, seconds)) for number in range(few if campaign.short else tries)]

        def one(plan: tuple[int, float]) -> Toll:
            number, moment = plan
            archive = (again if number % 2 else make)(f"moment-{number}")
            if number % _FROM_NOTHING == 0:
                archive.without_history()
            child = archive.start(campaign.sabotage)
            if not child.wait(moment) and number % 4 == 1:
                os.kill(child.pid, signal.SIGKILL)
            else:
                child.kill()
            began.append(child.has_begun())
            return _again(archive, child, expected_again if number % 2 else expected, campaign)

        toll = at_once(one, plans, "", _parallel(place))
        return toll + Toll(seen=f"over {seconds:.1f} s, {sum(began)} of them within a step")


def two_runs_at_once(place: Place, tries: int, campaign: Campaign) -> Toll:
    """Two runs of the same dates and assets; in three of four tries one of them, or both, are killed at a random moment.
    Who lives ends well, unless it says to run again; a third run ends it. Every second time there is something already."""
    with place(campaign) as make:
        again = with_past(make)
        expected, _ = calm(make)
        expected_again, seconds = _made(again("calm")), pace(make, _parallel(place))
        rng = random.Random(campaign.seed)
        numbers = _OF_TWO_IN_SHORT if campaign.short else range(tries)
        plans = [(number, rng.uniform(0, 1.5 * seconds)) for number in numbers]

        def one(plan: tuple[int, float]) -> Toll:
            number, moment = plan
            has_past = number // 4 % 2 != number % 2  # each way to die with and without it
            archive = (again if has_past else make)(f"two-{number}")
            if number % _FROM_NOTHING == 0 and not has_past:
                archive.without_history()
            first, second = archive.start(campaign.sabotage), archive.start(campaign.sabotage)
            doomed = ((), (first,), (second,), (first, second))[number % 4]
            if doomed:
                doomed[0].wait(moment)
            for child in doomed:
                child.kill()
            failed = sum(child.end() != 0 and not _is_busy(child) for child in (first, second) if child not in doomed)
            wanted = expected_again if has_past else expected
            return _again(archive, second, wanted, campaign) + Toll(manual=len(first.orphans()) + failed)

        return at_once(one, plans, "none, one, the other, both killed", _parallel(place) // 2)


def _is_busy(child: Child) -> bool:
    """Whether a run gave way to another one, and said so."""
    return "run again" in child.output.read_text()


def first_openings(tries: int, campaign: Campaign) -> Toll:
    """Three processes that find DAGSTER_HOME empty at the same moment: each can use the history, and so can all that follow."""
    campaign.folder.mkdir(parents=True, exist_ok=True)
    archive = Archive(campaign.folder / "calm", days=1, files=0)
    assert archive.run(steps=()) == 0  # what the processes are forked from is there from now on

    def one(number: int) -> Toll:
        archive = Archive(campaign.folder / f"{number}", days=1, files=0).without_history()
        together = AtOnce(time.monotonic() + 0.3)
        children = [archive.start(campaign.sabotage, together, steps=()) for _ in range(3)]
        failures = [child for child in children if child.end() != 0]
        for child in failures:  # seen once in thousands, on a busy machine
            print(child.output.read_text()[-2000:], file=sys.stderr)
        wrong = sum(_marks(archive.folder / "home" / name) != 1 for name in _HISTORY)
        shutil.rmtree(archive.folder)
        return Toll(1, manual=len(failures) + wrong)

    return at_once(one, range(10 if campaign.short else tries), "three processes at the same moment")


_HISTORY = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")


def _marks(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM alembic_version").fetchone()[0])


@dataclass(frozen=True)
class AtOnce:
    """Waits for a moment of the machine's clock, with open eyes."""

    moment: float

    def __call__(self) -> None:
        while time.monotonic() < self.moment:
            pass


def asked_to_end(tries: int, campaign: Campaign) -> Toll:
    """SIGTERM or SIGINT at random moments, to the process or to its group, as from a terminal."""
    with in_folder(campaign) as make:
        expected, _ = calm(make)
        seconds = pace(make, _AT_ONCE)
        rng = random.Random(campaign.seed)
        ways = list(itertools.product((signal.SIGTERM, signal.SIGINT), (False, True)))
        plans = [(*ways[number % 4], rng.uniform(0.2, seconds)) for number in range(4 if campaign.short else tries)]

        def one(plan: tuple[signal.Signals, bool, float]) -> Toll:
            number, to_group, moment = plan
            archive = make(f"signal-{number}-{to_group}-{moment:.6f}")
            child = archive.start(campaign.sabotage)
            if not child.wait(moment):
                if to_group:
                    child.kill(number)
                else:
                    os.kill(child.pid, number)
            return _again(archive, child, expected, campaign)

        return at_once(one, plans, "SIGTERM and SIGINT, to one and to all")


def power_loss(campaign: Campaign) -> Toll:
    """The power goes at a step of a run that makes anew what is there, or when so many of its jobs have ended well: of what
    was not synced only half is left, and names are as they were when their folder was. The worst that a file system may do
    is done to the files, in a process that dies at the step. What a job said was made must be there without another run."""
    with in_folder(campaign) as copy:
        make = with_past(copy)
        expected, steps = calm(make)
        chosen = [step for step in steps if step.kind in ("rename", "fsync", "event")]
        tries = 3 if campaign.short else min(len(chosen), _POWER_LOSSES)
        moments = [*sorted(random.Random(campaign.seed).sample(chosen, tries)), *range(1, len(STEPS) + 1)]

        def one(moment: Step | int) -> Toll:
            archive = make(f"power-{moment}")
            jobs = STEPS if isinstance(moment, Step) else STEPS[:moment]
            child = archive.start(campaign.sabotage, PowerLoss(moment, archive.folder), jobs)
            ended_well = child.end() == 0
            _lose(archive.folder)
            kept = Toll(lost=archive.missing(expected, jobs)) if ended_well else Toll()
            return kept + _again(archive, child, expected, campaign, whole=False)

        return at_once(one, moments, f"{tries} moments between writing, syncing and renaming, and each job's end")


# Where it is told what a loss of power undoes, and where files are kept that were replaced; below an archive's folder.
_UNSYNCED, _ASIDE = "unsynced.json", "aside"


@dataclass(frozen=True)
class PowerLoss:
    """Dies before the step `at`, or ends when all is done, and leaves in `folder` what was not synced by then."""

    at: Step | int
    folder: Path

    def __call__(self) -> None:
        unsynced = _Unsynced(self.folder)
        sync, leave = os.sync, os._exit

        def sync_everything() -> None:
            sync()
            unsynced.clear()

        def end(code: int) -> None:
            unsynced.write()
            leave(code)

        def plan(step: Step) -> None:
            if step == self.at:
                unsynced.write()
                die()

        os.sync, os._exit = sync_everything, end  # type: ignore[assignment]
        watch(plan, unsynced)


class _Name(NamedTuple):
    """A new name of a file or a folder; of one that was renamed the old one, its inode, and where the file is kept that had
    the name before."""

    name: str
    old: str = ""
    inode: int = 0
    kept: str = ""

    def undo(self) -> None:
        path = Path(self.name)
        if not self.old:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        elif os.path.lexists(path) and path.lstat().st_ino == self.inode:  # or the rename was still to come
            Path(self.old).parent.mkdir(parents=True, exist_ok=True)  # gone later than the name
            path.rename(self.old)
            if self.kept:
                os.link(self.kept, path, follow_symlinks=False)


class _Unsynced(Witness):
    """The files whose contents, and the names whose folders, were not synced yet. A name that was taken away stays so."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / _ASIDE).mkdir()
        self._lock = threading.RLock()
        self._numbers = itertools.count()
        self._opened: set[str] = set()
        self._files: set[tuple[int, int]] = set()
        self._names: list[_Name] = []

    def opens(self, path: str, flags: int) -> None:
        with self._lock:
            is_new = not os.path.lexists(path)
            if is_new:
                self._names.append(_Name(path))
            if is_new or flags & os.O_TRUNC:
                self._opened.add(path)

    def makes(self, path: str) -> None:
        with self._lock:
            if not os.path.lexists(path):
                self._names.append(_Name(path))

    def renames(self, path: str, name: str) -> None:
        with self._lock:
            self._find_opened()
            if os.path.lexists(path):
                self._names.append(_Name(name, path, os.lstat(path).st_ino, self._kept(name)))

    def wrote(self, descriptor: int) -> None:
        with self._lock:
            self._files.add(_identity(os.fstat(descriptor)))

    def synced(self, descriptor: int) -> None:
        place, status = os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor)
        with self._lock:
            self._find_opened()
            self._files.discard(_identity(status))
            if stat.S_ISDIR(status.st_mode):
                stays = [each for each in self._names if os.path.dirname(each.name) == place]
                self._names = [each for each in self._names if each not in stays]
                for old, new in ((f"{each.old}/", f"{each.name}/") for each in stays if each.old):
                    self._names = [each._replace(name=each.name.replace(old, new, 1)) for each in self._names]

    def clear(self) -> None:
        with self._lock:
            self._find_opened()
            self._files.clear()
            self._names.clear()

    def write(self) -> None:
        with self._lock:
            self._find_opened()
            (self._folder / _UNSYNCED).write_text(json.dumps([sorted(self._files), self._names]))

    def _find_opened(self) -> None:
        """A file is told of before it is there, so it is looked for later."""
        for path in [path for path in self._opened if os.path.lexists(path)]:
            self._opened.remove(path)
            self._files.add(_identity(os.lstat(path)))

    def _kept(self, name: str) -> str:
        if not os.path.lexists(name) or (os.path.isdir(name) and not os.path.islink(name)):
            return ""
        kept = str(self._folder / _ASIDE / str(next(self._numbers)))
        os.link(name, kept, follow_symlinks=False)
        return kept


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _lose(folder: Path) -> None:
    """Takes back the names that were not synced, the last first, and cuts the files, wherever they are by now."""
    files, names = json.loads((folder / _UNSYNCED).read_text())
    for name in reversed(names):
        _Name(*name).undo()
    lost = set(map(tuple, files))
    for path in (folder / "home").rglob("*"):
        if path.is_file() and not path.is_symlink() and _identity(path.lstat()) in lost:
            os.truncate(path, path.lstat().st_size // 2)
    shutil.rmtree(folder / _ASIDE)


def calm(make: Maker) -> tuple[Contents, list[Step]]:
    """An undisturbed run: what came of it, and its steps."""
    first = make("calm")
    count = Count(first.folder / "steps")
    child = first.start(doom=count)
    assert child.end() == 0, child.output.read_text()[-2000:]
    return first.everything(), count.steps


def pace(make: Maker, parallel: int) -> float:
    """How many seconds an undisturbed run takes while as many others run as in the attack. Of one that runs alone the moments
    would be too early: most of them before the first step."""

    def one(archive: Archive) -> float:
        started = time.monotonic()
        assert archive.run() == 0
        seconds = time.monotonic() - started
        shutil.rmtree(archive.folder)
        return seconds

    with ThreadPoolExecutor(parallel) as pool:
        return statistics.median(pool.map(one, [make(f"timed-{number}") for number in range(parallel)]))


def _made(archive: Archive) -> Contents:
    archive.made()
    return archive.everything()


def one_of_each(steps: Iterable[Step], campaign: Campaign) -> list[Step]:
    """One step of every kind."""
    rng = random.Random(campaign.seed)
    by_kind: dict[str, list[Step]] = {}
    for step in steps:
        by_kind.setdefault(step.kind, []).append(step)
    return list(map(rng.choice, by_kind.values()))


def _telling(steps: Iterable[Step]) -> list[Step]:
    """Before the first object of a table is put, and before the last release is shown."""
    puts = [step for step in steps if step.kind == "bucket put"]
    return [puts[0], puts[-1]] if puts else [step for step in steps if step.kind == "rename"][-1:]


def counted(steps: Iterable[Step]) -> str:
    """How many of each kind there are, in words."""
    kinds = Counter(step.kind for step in steps)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _again(archive: Archive, child: Child, expected: Contents, campaign: Campaign, whole: bool = True) -> Toll:
    """The end of `child`, a run without trouble, and what both cost. Between them every table is `whole`, the old one or
    the new one, but where the power went: then some may be neither, which are made anew."""
    child.end()
    left = len(child.orphans())
    torn = archive.torn(expected) if whole else 0
    again = archive.start(campaign.sabotage)
    failed = again.end() != 0
    toll = archive.toll(expected, again) + Toll(lost=torn, manual=left + failed)
    shutil.rmtree(archive.folder)
    return toll


def at_once(one: Callable[..., Toll], tries: Iterable[object], seen: str, parallel: int = _AT_ONCE) -> Toll:
    """The tries, some at a time, and what they cost together."""
    with ThreadPoolExecutor(parallel) as pool:
        return sum(pool.map(one, tries), Toll(seen=seen))


def written_in_place() -> None:
    """Tables are written where they are read."""

    @contextmanager
    def replacing(path: Path, settled: bool = True, mode: int = 0o600) -> Iterator[object]:
        local_files.make_folder(path.parent)
        watched = vars(local_files)["io"]
        with watched.FileIO(path, "wb") as raw, watched.BufferedWriter(raw, 1 << 20) as stream:
            yield stream

    local_files.replacing = replacing  # type: ignore[assignment]


def gone_first() -> None:
    """The old table is removed before the new one is written."""
    genuine = local_files.replacing

    @contextmanager
    def replacing(path: Path, settled: bool = True, mode: int = 0o600) -> Iterator[object]:
        path.unlink(missing_ok=True)
        with genuine(path, settled, mode) as stream:
            yield stream

    local_files.replacing = replacing  # type: ignore[assignment]


def _object_gone_first() -> None:
    """The same in a bucket."""
    genuine = s3_files.S3Files.replacing

    @contextmanager
    def replacing(self, name, settled=True):  # type: ignore[no-untyped-def]
        self.remove(name)
        with genuine(self, name, settled) as stream:
            yield stream

    s3_files.S3Files.replacing = replacing  # type: ignore[method-assign]


def _shown_early() -> None:
    """The latest release is the new one before its files are there."""
    write, publish = LocalReleaseStore._write, S3ReleaseStore.publish

    def switched(self, release, files):  # type: ignore[no-untyped-def]
        self._switch(release.name)
        write(self, release, files)

    def put(self, release_id, files):  # type: ignore[no-untyped-def]
        self._bucket.put(self._prefix + LATEST, json.dumps({"release": release_id}).encode())
        publish(self, release_id, files)

    LocalReleaseStore._write = switched  # type: ignore[method-assign]
    S3ReleaseStore.publish = put  # type: ignore[method-assign]


def _never_swept() -> None:
    """What a dead writer left stays."""
    local_files._sweep = lambda folder: None


def _never_synced() -> None:
    """A table is renamed into its place before it is on disk."""
    genuine = local_files.replacing

    @contextmanager
    def replacing(path: Path, settled: bool = True, mode: int = 0o600) -> Iterator[object]:
        with genuine(path, False, mode) as stream:
            yield stream

    local_files.replacing = replacing  # type: ignore[assignment]


def _folders_never_synced() -> None:
    """A new name is not put on disk."""
    for module in (local_files, release_store):
        vars(module)["sync_folder"] = lambda folder: None


def _release_never_synced() -> None:
    """A release is shown before its files are on disk."""

    def write(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    LocalReleaseStore._write_file = staticmethod(write)  # type: ignore[method-assign]


def outliving() -> None:
    """A process beside gawk does not notice that the run is gone."""
    program = gawk.executable

    def executable() -> str:
        subprocess.Popen(["sleep", "1000"])
        return program()

    gawk.executable = executable


def _kept_open() -> None:
    """For some time somebody else, out of the group, keeps open what gawk reads, so that it does not see the run's end."""

    def started(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(*arguments, **options)
        assert process.stdin is not None
        subprocess.Popen(["sleep", "15"], pass_fds=[process.stdin.fileno()], start_new_session=True)
        return process

    vars(gawk)["subprocess"] = SimpleNamespace(**{**vars(subprocess), "Popen": started})


def _appended() -> None:
    """A date that is made again is added to what is there."""
    genuine = TableStore.write_groups

    def write_groups(self, asset, partition, schema, groups, record, sections=None, part="part-0"):  # type: ignore[no-untyped-def]
        if asset == "daily_usage" and self.record(asset, partition, part) is not None:
            groups = [self.read(asset, partition, part), *groups]
            groups = [pa.concat_tables([group.cast(schema) for group in groups])]
        genuine(self, asset, partition, schema, groups, record, sections, part)

    TableStore.write_groups = write_groups  # type: ignore[method-assign]


def _in_two_requests() -> None:
    """Of an object half is put first, and some time later all of it."""
    genuine = Bucket.put

    def put(self, key, content, *how):  # type: ignore[no-untyped-def]
        if isinstance(content, bytes):
            genuine(self, key, content[: len(content) // 2], *how)
            time.sleep(0.5)  # so that most moments are between them
        genuine(self, key, content, *how)

    Bucket.put = put  # type: ignore[method-assign]


def _nobody_waits() -> None:
    """Two work at the same time on what is for one alone, and take some time for it, so that they meet."""

    @contextmanager
    def locked(place: object, folder: str = "") -> Iterator[Confirm]:
        yield lambda: time.sleep(1)

    local_files.LocalFiles.locked = locked  # type: ignore[method-assign,assignment]
    s3_files.S3Files.locked = locked  # type: ignore[method-assign,assignment]
    vars(release_store)["locked"] = locked


def _all_at_once() -> None:
    """Nobody waits for who makes Dagster's history."""
    dagster_home._alone = lambda home: nullcontext()  # type: ignore[assignment,return-value]


_IN_PLACE = Break("tables are written where they are read", written_in_place)
GONE_FIRST = Break("the old table goes before the new one is there", gone_first)
_SHOWN_EARLY = Break("a release is shown before it is whole", _shown_early)
_APPENDED = Break("a date that is made again is added to what is there", _appended)
_NOBODY_WAITS = Break("nobody waits for who writes", _nobody_waits)

ATTACKS = (
    Attack(
        "crash: killed at every step, local store",
        partial(at_every_step, in_folder),
        (_IN_PLACE, GONE_FIRST, _SHOWN_EARLY, Break("what a dead writer left stays", _never_swept)),
    ),
    Attack(
        "crash: killed at every step, store in a bucket",
        partial(at_every_step, _in_bucket),
        (Break(GONE_FIRST.name, _object_gone_first), _SHOWN_EARLY),
        waits=True,
    ),
    Attack(
        "crash: killed at any moment, local store",
        partial(at_any_moment, in_folder, _MOMENTS),
        (Break("gawk does not see that the run has ended", _kept_open), _APPENDED),
    ),
    Attack(
        "crash: killed at any moment, store in a bucket",
        partial(at_any_moment, _in_bucket, _MOMENTS_IN_BUCKET),
        (Break("an object is put in two requests", _in_two_requests),),
        waits=True,
    ),
    Attack(
        "crash: two runs at once, local store", partial(two_runs_at_once, in_folder, _MOMENTS_OF_TWO), (_NOBODY_WAITS,)
    ),
    Attack(
        "crash: two runs at once, store in a bucket",
        partial(two_runs_at_once, _in_bucket, _MOMENTS_OF_TWO_IN_BUCKET),
        (_NOBODY_WAITS,),
        waits=True,
    ),
    Attack(
        "crash: the first openings of the history",
        partial(first_openings, 100),
        (Break("nobody waits for who makes the history", _all_at_once),),
    ),
    Attack("crash: SIGTERM and SIGINT", partial(asked_to_end, 40), (Break("a process outlives the run", outliving),)),
    Attack(
        "crash: power loss",
        power_loss,
        (
            Break("a table is renamed before it is synced", _never_synced),
            Break("a folder is not synced", _folders_never_synced),
            Break("a release is shown before it is synced", _release_never_synced),
        ),
    ),
)
