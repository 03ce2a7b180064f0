"""Other processes for tests of what several of them do at once, of death at any moment, and of other users' rights.

The functions that run in them live here too, because a process imports the module of its function.
"""

import io
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from s3logx_assets import key_care
from s3logx_assets.adapters import key_store, local_files
from s3logx_assets.adapters.local_files import LocalFiles, replacing
from s3logx_assets.adapters.log_store import LocalLogStore
from s3logx_assets.adapters.release_store import LocalReleaseStore
from s3logx_assets.adapters.s3 import STORE
from s3logx_assets.adapters.s3_files import S3Files
from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.core.errors import S3logxError
from s3logx_assets.core.ledger import LogObject
from s3logx_assets.core.locations import S3Location
from s3logx_assets.resources import build_bucket
from s3logx_assets.settings import Settings

T = TypeVar("T")

NOBODY = 65534
# Forked from a server with one thread that has imported everything: quick, and safe beside threads.
CONTEXT = multiprocessing.get_context("forkserver")
# A child imports the main module too, pyarrow imports pandas when it first makes an array, and another user may not be
# allowed to read the standard library.
CONTEXT.set_forkserver_preload(["pandas", "pytest", "importlib.readers", "s3logx_tests.processes"])


def as_nobody(function: Callable[..., T], *arguments: object) -> T:
    """What `function` returns or raises in a process whose user may read and write only what everybody may."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_answer, args=(sender, function, arguments))
    process.start()
    sender.close()
    with receiver:
        answer = pickle.loads(receiver.recv_bytes())  # noqa: S301 our own bytes
    process.join()
    process.close()
    if isinstance(answer, BaseException):
        raise answer
    result: T = answer
    return result


def _answer(sender: Connection, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        answer = function(*arguments)
    except Exception as error:
        answer = error
    sender.send_bytes(pickle.dumps(answer))


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user can enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def generation(number: int, rows: int = 20_000) -> pa.Table:
    """A table of which every value tells `number`."""
    return pa.table({"number": pa.array([number] * rows), "text": pa.array([f"{number}-{row}" for row in range(rows)])})


def write_generations(root: Path, first: int, count: int, ready: Any = None) -> None:
    """Writes `count` generations, from `first` on, over one another."""
    tables = [generation(number) for number in range(first, first + min(count, 4))]
    if ready is not None:
        ready.set()
    for step in range(count):
        number = first + step % len(tables)
        section = b"%d" % number * 1000
        TableStore(root).write(
            "asset", "log_date=2025-03-01", tables[step % len(tables)], {"n": number}, {"s": section}
        )


def write_s3_generations(environment: dict[str, str], location: S3Location, first: int) -> None:
    """Writes generations in a bucket over one another until it is killed."""
    os.environ.update(environment)
    store = TableStore(S3Files(build_bucket(location, STORE), "private/"))
    for number in range(first, first + 10_000):
        store.write("asset", "log_date=2025-03-01", generation(number), {"n": number}, {"s": b"%d" % number * 1000})


def hold_a_half_written_file(path: Path, ready: Any, release: Any) -> None:
    """A living writer of `path` that is not done before `release` is set."""
    with replacing(path) as stream:
        stream.write(b"half")
        stream.flush()
        ready.set()
        release.wait(60)
        stream.write(b" and half")


def open_sealer(private: Path, home: Path, start: Any, results: Any) -> None:
    """Opens the sealer when `start` is set; puts its key's id, or the error, and what was told."""
    told: list[str] = []
    start.wait(60)
    try:
        outcome = key_store.open_sealer(LocalFiles(private), home, None, told.append).key_id
    except BaseException as error:
        outcome = repr(error)
    results.put((outcome, told))


def publish_releases(root: Path, name: str, rounds: int, start: Any) -> None:
    """Publishes `rounds` releases of many files, and between them one of an id that others publish too."""
    start.wait(60)
    store = LocalReleaseStore(root)
    for number in range(rounds):
        store.publish(f"{name}-{number}", release_files(f"{name}-{number}"))
        store.publish(f"shared-{number}", release_files(f"shared-{number}"))


def release_files(release_id: str) -> dict[str, bytes]:
    """Files of which every one tells the release's id."""
    return {f"summaries/{number}/by_day.tsv": f"{release_id} {number}".encode() for number in range(12)}


def list_logs(root: Path, days: list[Any]) -> list[Any]:
    """The listings of a folder."""
    return list(LocalLogStore(root).listings(days))


def log_days(root: Path) -> list[Any]:
    """The dates of a folder."""
    return LocalLogStore(root).days()


def open_log(root: Path, item: LogObject) -> bytes:
    """The content of a log object."""
    reader = LocalLogStore(root).open(item)
    try:
        return reader.read(1 << 20)
    finally:
        reader.close()


def write_table(root: Path) -> None:
    """Writes a table."""
    TableStore(root).write("asset", "scope=x", generation(1), {})


def publish_release(root: Path) -> None:
    """Publishes a release."""
    LocalReleaseStore(root).publish("r1", {"a": b"b"})


def try_key(private: Path, home: Path) -> str:
    """The key's id, or the message of the refusal."""
    try:
        return key_store.open_sealer(LocalFiles(private), home, None, lambda text: None).key_id
    except S3logxError as error:
        return f"{type(error).__name__}: {error}"


# What Python tells of before it happens (PEP 578): each change of the file system, and the look for the call that renames
# in other ways.
_CHANGES = ("os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "ctypes.dlsym")


def _die_before(change: int) -> list[str]:
    """From now on this process is killed (-9) before that change of the file system; the changes until then."""
    seen: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and arguments[2] & (os.O_CREAT | os.O_DIRECTORY)):
            if len(seen) == change:
                os.kill(os.getpid(), signal.SIGKILL)
            seen.append(event)

    sys.addaudithook(hook)
    return seen


def make_key(private: Path, home: Path, until: int, system_knows: bool) -> None:
    """Makes the key of a new store, killed before its change number `until`, where the system knows how to rename a file to
    a free name, or not."""
    if not system_knows:
        vars(local_files)["took_free_name"] = lambda path, name: False
    _die_before(until)
    key_store.open_sealer(LocalFiles(private), home, None, lambda text: None)


def rotate_key(environment: dict[str, str], until: int, steps: Any = None) -> None:
    """`key rotate`, killed (-9) before its change number `until` of the file system; puts all there were at the end."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        settings = Settings.read(environment)
        seen = _die_before(until)
        key_care.rotate(settings)
    if steps is not None:
        steps.put(seen)


def hold_store(root: Path, alone: bool, ready: Any) -> None:
    """Has a store, alone or with others, until it is killed."""
    store = TableStore(root)
    with store.alone() if alone else store.in_use():
        ready.set()
        signal.pause()
