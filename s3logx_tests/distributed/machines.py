"""Machines that share nothing: each a folder of its own that its processes see under the same path, while those of the
others are out of their sight (a mount namespace), as a real machine's disk would be. What they have in common is what they
reach over the network.

What runs on them, and what must come of it, does not belong here.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PATIENCE = 120.0
# Makes the machine's own folder appear under the common path, hides all machines, and becomes the command.
_BOOT = 'mount --bind "$1" "$2" && mount -t tmpfs none "$3" && shift 3 && exec "$@"'
_TICKS = os.sysconf("SC_CLK_TCK")


def wait_for(what: Callable[[], object], words: str, patience: float = _PATIENCE, every: float = 0.2) -> None:
    """Waits until something is so, which it must be in time."""
    deadline = time.monotonic() + patience
    while not what():
        assert time.monotonic() < deadline, f"in {patience:.0f} s it did not come to this: {words}"
        time.sleep(every)


class Machine:
    """One of several machines below `root`. Its processes see its folder as `root`/machine."""

    def __init__(self, root: Path, name: str, files: Mapping[str, str]) -> None:
        self.root, self.name = root, name
        self.folder = root / "machines" / name
        self.seen_as = root / "machine"
        self.seen_as.mkdir(exist_ok=True)
        for each in ("home", "tmp", "dagster"):
            (self.folder / each).mkdir(parents=True)
        for file, text in files.items():
            (self.folder / file).write_text(text)
            (self.folder / file).chmod(0o600)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, words: Sequence[str], log: str, **environment: str) -> subprocess.Popen[bytes]:
        """A process of this machine, in a session of its own; its output goes to `log` in the machine's folder."""
        command = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", _BOOT, "sh"]
        command += [str(self.folder), str(self.seen_as), str(self.folder.parent), *words]
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd="/",
                env={
                    "PATH": os.environ["PATH"],
                    "LANG": "C.UTF-8",
                    "HOME": str(self.seen_as / "home"),
                    "TMPDIR": str(self.seen_as / "tmp"),
                    "S3LOGX_TEST_CLUSTER": str(self.root),
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def lose_power(self) -> None:
        """Kills (-9) all that runs on it, at once."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()
        self.processes.clear()

    def shut_down(self) -> None:
        """Asks what runs on it to end, and waits."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            process.wait(timeout=_PATIENCE)
        self.processes.clear()

    def wrote(self, log: str) -> str:
        """What was written to one of its logs."""
        path = self.folder / log
        return path.read_text(errors="replace") if path.exists() else ""

    def cpu_seconds(self) -> float:
        """The processor time of all that runs, or ran, on it."""
        return sum(cpu_seconds(process.pid) for process in self.processes)


def kill_left_over(root: Path) -> None:
    """What any machine below `root` has left behind: runs have sessions of their own."""
    mark = f"S3LOGX_TEST_CLUSTER={root}\0".encode()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                if mark in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)


def cpu_seconds(pid: int) -> float:
    """The processor time of a process, of all its descendants that live, and of those they have waited for."""
    used = 0.0
    for member in family([pid]):
        with suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(") ")[2].split()
            used += sum(map(int, fields[11:15])) / _TICKS
    return used


def family(ancestors: Sequence[int]) -> set[int]:
    """These processes and all their descendants that live."""
    parents: dict[int, int] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                parents[int(path.name)] = int((path / "stat").read_text().rpartition(") ")[2].split()[1])
    found = set(ancestors)
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def descendants_named(name: str) -> list[int]:
    """The processes that this one has started, or their children, whose program has this name."""
    found = []
    for pid in family([os.getpid()]):
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                found.append(pid)
    return found


def require_namespaces() -> None:
    """Fails with the reason where machines cannot be told apart: it takes Linux, and root."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        raise AssertionError("the distributed tests need Linux and root, for mount namespaces; run them as root")
