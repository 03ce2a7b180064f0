"""`python -m s3logx_assets.dagster_home [CONFIGURATION]`: makes DAGSTER_HOME ready: the folder, a copy of the file
CONFIGURATION as its dagster.yaml where it has none, and Dagster's history.

Dagster makes the SQLite files of its history wherever they are missing. Two processes that do so at the same moment can leave
one marked with two versions, and then every later run refuses it. So here one makes them, and who comes meanwhile waits; a
file that was marked twice before is put right. What the history holds is none of this module's business, but that it is
nobody else's is: it has exact figures of every date, so only its user may enter the folder.
"""

import argparse
import fcntl
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

_LOCK = ".ready.lock"
_CONFIGURATION = "dagster.yaml"
# Where Dagster keeps its history unless its configuration says otherwise.
_FILES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")


def make_ready(home: Path, configuration: Path | None = None) -> None:
    """Makes what is missing, while nobody else does, and shuts out who else is on the machine."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_open(home) and home.stat().st_uid == os.getuid():
        home.chmod(0o700)  # made by hand, or by an earlier version
    with _alone(home):
        if configuration is not None and not (home / _CONFIGURATION).exists():
            unfinished = home / f".new-{_CONFIGURATION}"
            shutil.copyfile(configuration, unfinished)
            unfinished.replace(home / _CONFIGURATION)
        versions = {path: _versions(path) for path in map(home.joinpath, _FILES)}
        for path, found in versions.items():
            if len(found) > 1:
                _keep_newest(path)
        if not all(versions.values()):
            _open_history(home)


def is_open(home: Path) -> bool:
    """Whether others than its user have any right to a folder."""
    return bool(home.stat().st_mode & 0o077)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    descriptor = os.open(home / _LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _versions(path: Path) -> list[str]:
    """The versions that a file of the history is marked with; none where it is not there or was not finished."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as connection:
        try:
            return [version for (version,) in connection.execute("SELECT version_num FROM alembic_version")]
        except sqlite3.OperationalError:
            return []


def _keep_newest(path: Path) -> None:
    """Takes the old mark away: it says that tables which this very Dagster made are of before it made marks at all."""
    from dagster._core.storage.sqlite import LAST_KNOWN_STAMPED_SQLITE_ALEMBIC_REVISION as OLD

    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM alembic_version WHERE version_num = ?", (OLD,))


def _open_history(home: Path) -> None:
    """Has Dagster make what is missing."""
    import dagster as dg  # a second or two, on the first run alone

    dg.DagsterInstance.from_config(str(home)).dispose()


def main(arguments: Sequence[str]) -> int:
    """0 when DAGSTER_HOME is ready."""
    parser = argparse.ArgumentParser(prog="python -m s3logx_assets.dagster_home")
    parser.add_argument("configuration", nargs="?", type=Path, help="what becomes its dagster.yaml where it has none")
    chosen = parser.parse_args(arguments)
    home = os.environ.get("DAGSTER_HOME", "")
    if not home:
        print("error: DAGSTER_HOME is not set", file=sys.stderr)
        return 1
    make_ready(Path(home), chosen.configuration)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
