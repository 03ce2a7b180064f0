"""An archive to attack: logs of several dates whose addresses are known, the platform over them, and what must come of it.

What came of an attack is compared row for row with a run that nobody disturbed. How it is attacked does not belong here.
"""

import atexit
import base64
import copy
import functools
import hashlib
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from s3logx_assets import dagster_home
from s3logx_assets.adapters.closed_periods import PERIOD, RELEASED_USAGE, read_periods
from s3logx_assets.adapters.key_store import KEY_FILE
from s3logx_assets.adapters.release_store import ReleaseStore
from s3logx_assets.adapters.scope_state import COUNTED, groups, read_state
from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.assets.extract import ledger_of
from s3logx_assets.core.data_package import SHA256SUMS, sha256sums
from s3logx_assets.core.errors import StoreError
from s3logx_assets.resources import build_release_store, private_files
from s3logx_assets.settings import Settings
from s3logx_tests.platform import DAILY, Configured, line
from s3logx_tests.s3_server import S3Server
from s3logx_tests.torture.attack import Both, Toll, intact
from s3logx_tests.torture.canaries import Canaries
from s3logx_tests.torture.child import STEPS, Child, Job

FIRST = date(2025, 3, 1)
SCOPED = ("summaries", "totals")
# What names begin with that are not tables'.
_BESIDE = "beside: "
_LEFT_BEHIND = (".writing-", ".new-", ".tmp")

Contents = dict[str, Counter[str]]


@functools.cache
def _ready_home() -> str:
    """A DAGSTER_HOME with nothing in its history: to make one takes as long as a run of a date. It goes with the process that made
    it, not with the first of its children that ends."""
    home, maker = tempfile.mkdtemp(prefix="torture-home-"), os.getpid()

    def remove() -> None:
        if os.getpid() == maker:
            shutil.rmtree(home, ignore_errors=True)

    atexit.register(remove)
    dagster_home.make_ready(Path(home))
    return home


@functools.lru_cache(maxsize=64)
def _opened(environment: tuple[tuple[str, str], ...]) -> tuple[TableStore, ReleaseStore]:
    """The stores that an environment tells of. To open one in a bucket takes half a second, and a try reads hundreds of tables."""
    settings = Settings.read(dict(environment))
    return TableStore(private_files(settings)), build_release_store(settings)


def closed_before(tables: Contents, told: Contents) -> Contents:
    """The private tables of one state with what another one told: a period that is closed stays as it was told."""

    def is_told(name: str) -> bool:
        return name.startswith(("summaries/", f"{RELEASED_USAGE} "))

    return {name: rows for name, rows in tables.items() if not is_told(name)} | {
        name: rows for name, rows in told.items() if is_told(name)
    }


class Archive(Configured):
    """Logs, home and store below `folder`, which is made. `settings` beside the folders'."""

    terms: Callable[[], None] = staticmethod(intact)
    """What is called in each process that runs, before anything else."""
    before: Contents
    """The private tables that were there when it was copied."""

    def __init__(self, folder: Path, days: int = 3, files: int = 3, lines: int = 40, **settings: str) -> None:
        folder.mkdir(parents=True)
        shutil.copytree(_ready_home(), folder / "home")
        (folder / "tmp").mkdir()
        self.folder, self.before = folder, {}
        first = date.fromisoformat(settings.get("S3LOGX_FIRST_DATE", FIRST.isoformat()))
        self.days = [first + timedelta(days=number) for number in range(days)]
        self.environment = {
            "DAGSTER_HOME": str(folder / "home"),
            "S3LOGX_LOGS": str(folder / "logs"),
            "S3LOGX_FIRST_DATE": first.isoformat(),
            "S3LOGX_WORKERS": "1",
            "TMPDIR": str(folder / "tmp"),
            # An attack has few dates; all of them are to be told.
            "S3LOGX_RELEASE_PERIOD": "day",
            # With a key of its own choice two archives can be compared, and the key be looked for.
            "S3LOGX_KEY": base64.b64encode(random.Random("key").randbytes(32)).decode(),
            **settings,
        }
        self.canaries = Canaries(secrets=[base64.b64decode(self.environment["S3LOGX_KEY"])])
        for day in self.days:
            for number in range(files):
                self.deliver(day, number, lines)

    @property
    def store(self) -> TableStore:
        """The private store."""
        return _opened(tuple(self.environment.items()))[0]

    @property
    def releases(self) -> ReleaseStore:
        """The public store."""
        return _opened(tuple(self.environment.items()))[1]

    def copied(self, folder: Path, **settings: str) -> "Archive":
        """The same in another folder, with what its runs have made, as far as that lies in folders."""
        folder.mkdir(parents=True)
        for part in ("home", "logs"):
            shutil.copytree(self.folder / part, folder / part, symlinks=True)
        (folder / "tmp").mkdir()
        twin = copy.copy(self)
        places = {"DAGSTER_HOME": "home", "S3LOGX_LOGS": "logs", "TMPDIR": "tmp"}
        twin.folder = folder
        twin.environment = {
            **self.environment,
            **{name: str(folder / part) for name, part in places.items()},
            **settings,
        }
        return twin

    def without_history(self) -> "Archive":
        """The same, with a DAGSTER_HOME that is as empty as before the first run."""
        shutil.rmtree(self.folder / "home")
        (self.folder / "home").mkdir()
        return self

    def deliver(self, day: date, number: int, lines: int = 40) -> Path:
        """One more log file of a date, always the same for the same date and number."""
        rng = random.Random(f"{day} {number}")
        text = ""
        for second in range(lines):
            address = self.canaries.make(rng)
            key = f"ds{rng.randrange(4)}/sub-{rng.randrange(6)}/file{rng.randrange(9)}.nwb"
            request_id = f"{rng.getrandbits(64):016X}"
            status, when = rng.choice((200, 206)), number * 3600 + second
            text += line(key, day.isoformat(), when, status, 100, ip=address, request_id=request_id)
        path = self.folder / "logs" / f"{day:%Y/%m/%d}" / f"{day}-00-00-{number:02}-{number:08X}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def start(
        self,
        sabotage: Callable[[], None] = intact,
        doom: Callable[[], None] = intact,
        steps: Sequence[str] = STEPS,
    ) -> Child:
        """Runs `steps` in a process group of its own."""
        first, last = self.days[0].isoformat(), self.days[-1].isoformat()
        return Child(Job(self.folder, self.environment, first, last, steps, Both(self.terms, sabotage), doom))

    def run(self, sabotage: Callable[[], None] = intact, steps: Sequence[str] = STEPS) -> int:
        """The same to its end; the exit code."""
        return self.start(sabotage, steps=steps).end()

    def made(self, steps: Sequence[str] = STEPS) -> Contents:
        """What comes of a run that nobody disturbs."""
        child = self.start(steps=steps)
        assert child.end() == 0, child.output.read_text()[-2000:]
        return self.contents()

    def log_files(self) -> list[Path]:
        """The log files that there are."""
        return sorted(path for path in (self.folder / "logs").rglob("*") if path.is_file())

    def contents(self) -> Contents:
        """The rows of every private table as a multiset, and the lines of every table of the latest release, by name.
        Raises StoreError where one cannot be read."""
        found: Contents = {}
        for table in self._tables():
            if (read := self._rows(*table)) is not None:
                found[" ".join(table)] = read
        releases = self.releases
        if (latest := releases.latest()) is not None:
            try:
                totals = json.loads(releases.read(latest, "totals.json"))
            except ValueError:
                raise StoreError(f"the totals of {latest} cannot be read") from None
            for scope in totals:
                for kind in ("by_day", "by_asset", "by_region"):
                    name = f"summaries/{scope}/{kind}.tsv"
                    found[name] = Counter(releases.read(latest, name).decode().splitlines())
        return found

    def everything(self) -> Contents:
        """The contents, and what lies beside the rows: the ledgers, but for the versions of the files, the groups of usage, what
        the scopes have counted, what the periods have told, and all files of the latest release. Raises StoreError."""
        store, releases = self.store, self.releases
        found: dict[str, Any] = {}
        for day in store.partitions("extracted_logs", "log_date"):
            rows = ledger_of(store, date.fromisoformat(day)).drop_columns("version")
            found[f"{_BESIDE}ledger {day}"] = rows.to_pylist()
            found[f"{_BESIDE}groups {day}"] = groups(store, "daily_usage", day)
        for day in store.partitions(COUNTED, "log_date"):
            found[f"{_BESIDE}counted {day}"] = store.read(COUNTED, f"log_date={day}").to_pylist()
        state = read_state(store)
        found[f"{_BESIDE}state"] = [state.days, state.scopes, state.types]
        found[f"{_BESIDE}periods"] = [(each, each.cells.to_pylist()) for each in read_periods(store)]
        if (latest := releases.latest()) is not None:
            for name in releases.names(latest):
                digest = hashlib.sha256(releases.read(latest, name)).hexdigest()
                found[f"{_BESIDE}release {name}"] = [latest, digest]
        return self.contents() | {name: Counter(map(repr, each)) for name, each in found.items()}

    def private(self) -> tuple[Contents, int]:
        """The rows of every private table that can be read, and how many cannot."""
        found: Contents = {}
        damaged = 0
        for table in self._tables():
            try:
                if (rows := self._rows(*table)) is not None:
                    found[" ".join(table)] = rows
            except StoreError:
                damaged += 1
        return found, damaged

    def damaged(self) -> int:
        """How many tables there are that cannot be read."""
        return self.private()[1]

    def torn(self, expected: Contents) -> int:
        """How many tables are neither as they were before nor as they are `expected`, or are gone; one more where the latest
        release is not whole."""
        found, damaged = self.private()
        neither = [name for name in found if found[name] not in (self.before.get(name), expected.get(name))]
        gone = self.before.keys() & expected.keys() - found.keys()
        # One that is damaged is not gone.
        return len(neither) + max(damaged, len(gone)) + (not self._is_told_whole())

    def missing(self, expected: Contents, steps: Sequence[str] = STEPS) -> int:
        """How many rows are not there that these steps have made."""
        assets = DAILY if steps == STEPS[:1] else (*DAILY, *SCOPED)
        made = {
            name: rows
            for name, rows in expected.items()
            if name.split()[0] in assets or (steps == STEPS and not name.startswith(_BESIDE))
        }
        try:
            found = self.contents()
        except StoreError:
            return max(1, self.damaged())
        return sum((made[name] - found.get(name, Counter())).total() for name in made)

    def _is_told_whole(self) -> bool:
        """Whether the latest release is what its checksums say. None need be there where nothing was before."""
        releases = self.releases
        try:
            if (latest := releases.latest()) is None:
                return not self.before
            files = {name: releases.read(latest, name) for name in releases.names(latest)}
        except StoreError:
            return False
        return files.pop(SHA256SUMS, None) == sha256sums(files)

    def _rows(self, asset: str, place: str, part: str) -> Counter[str] | None:
        read = self.store.read_whole(asset, place, part)
        return None if read is None else Counter(map(repr, read[0].to_pylist()))

    def _tables(self) -> Iterator[tuple[str, str, str]]:
        for asset in (*DAILY, *SCOPED):
            dimension = "log_date" if asset in DAILY else "scope"
            for value in self.store.partitions(asset, dimension):
                for part in ("part-0",) if asset != "summaries" else ("newest_month", "earlier_months"):
                    yield asset, f"{dimension}={value}", part
        for value in self.store.partitions(RELEASED_USAGE, PERIOD):
            yield RELEASED_USAGE, f"{PERIOD}={value}", "part-0"

    def toll(self, expected: Contents, child: Child | None = None, assets: Sequence[str] = ()) -> Toll:
        """What is missing and what is too much against `expected`, what of `child` or of any writer is left, and canaries
        where none may be. With `assets` only the tables of these are compared."""
        left = (len(child.orphans()) if child is not None else 0) + len(self.left_behind())
        try:
            found = self.everything() if any(name.startswith(_BESIDE) for name in expected) else self.contents()
        except StoreError:
            return Toll(1, lost=max(1, self.damaged()), leaked=self.leaks(), manual=left)
        if assets:
            expected, found = (
                {name: all_[name] for name in all_ if name.split()[0] in assets} for all_ in (expected, found)
            )
        lost = sum((expected[name] - found.get(name, Counter())).total() for name in expected)
        doubled = sum((found[name] - expected.get(name, Counter())).total() for name in found)
        return Toll(1, lost, doubled, self.leaks(), left)

    def leaks(self) -> int:
        """Places where a canary was found: every file below the archive's folder but the logs and the key's, and every object of
        its store where that is in a bucket. The bucket's own key is a secret, too."""
        if secret := self.environment.get("AWS_SECRET_ACCESS_KEY"):
            self.canaries.add_secret(secret.encode())
        exempt = (self.folder / "logs", self.folder / "home" / KEY_FILE)
        return len(self.canaries.found_in(self.folder, exempt)) + len(self.canaries.found_among(self._objects()))

    def _objects(self) -> dict[str, bytes]:
        store = urlsplit(self.environment.get("S3LOGX_STORE", ""))
        if store.scheme != "s3":
            return {}
        names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        return S3Server(*(self.environment[name] for name in names)).objects(store.netloc, f"{store.path.strip('/')}/")

    def left_behind(self) -> list[Path]:
        """Files that only a writer at work may have."""
        home = self.folder / "home"
        return [path for path in home.rglob("*") if path.name.startswith(_LEFT_BEHIND)]
