"""The ways in: what listens and where, what is installed, what programs are started and with what, how long a line can hold a
parser.

Each attack looks at a copy of what is shipped, so that a broken copy can be looked at too.
"""

import ast
import multiprocessing
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pyarrow as pa

from s3logx_assets.adapters import gawk
from s3logx_assets.core import addresses, leaks, locations, log_names
from s3logx_assets.core.datasets import RegexRule
from s3logx_assets.core.log_lines import parse_record
from s3logx_tests.platform import line
from s3logx_tests.programs import verdicts
from s3logx_tests.torture.archive import Archive
from s3logx_tests.torture.attack import Attack, Break, Campaign, Toll
from s3logx_tests.torture.child import SESSION, processes_of

_ROOT = Path(__file__).parents[2]
_SHIPPED = ("deploy", "awk", "s3logx_assets", "Makefile", "workspace.yaml", "README.md", ".ci", "pyproject.toml")
_TREE = "S3LOGX_TORTURE_TREE"


def _tree(campaign: Campaign) -> Path:
    """A copy of what is shipped, in which the sabotage may do its work."""
    tree = campaign.folder / "tree"
    tree.mkdir(parents=True)
    for name in (*_SHIPPED, *(path.name for path in _ROOT.glob("requirements*.lock"))):
        source = _ROOT / name
        copy: Callable[[Path, Path], object] = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tree / name)
    os.environ[_TREE] = str(tree)
    campaign.sabotage()
    return tree


_FOR_EVERYBODY = "|".join(
    (
        r"(?<![\d.])0\.0\.0\.0(?!/)",
        r"--host(?: |=|, )(?!127\.0\.0\.1)",
        # Docker publishes a port on every address unless it is told one.
        r"^ +- [\"']?\d+:\d+",
        r"^EXPOSE ",
        r"AssignPublicIp: ENABLED|PubliclyAccessible: true|MapPublicIpOnLaunch: true|PortMappings:",
        r"type: (?:LoadBalancer|NodePort)",
        r"^ingress:\n +enabled: true",
    )
)


def loopback_alone(campaign: Campaign) -> Toll:
    """The UI as it is shipped, started for real: every socket that its processes listen on, and every host that a shipped
    file names, or way in that the configuration of a deployment opens."""
    tree = _tree(campaign)
    named = sum(
        len(re.findall(_FOR_EVERYBODY, path.read_text(errors="replace"), re.MULTILINE))
        for path in tree.rglob("*")
        if path.is_file()
        and path.suffix in (".sh", ".yaml", ".yml", ".md", ".py", ".toml", ".env", ".service", "")
        and "data" not in path.parts
    )
    if campaign.short:
        return Toll(1, leaked=named, seen="shipped files")
    archive = Archive(campaign.folder / "ui", days=1, files=1)
    environment = {**os.environ, **archive.environment, "PORT": "14731", "PYTHONPATH": str(tree)}
    process = subprocess.Popen(
        [tree / "deploy" / "local" / "ui.sh", str(Path(sys.executable).parent)],
        cwd=tree,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        answered = _answers("http://127.0.0.1:14731/server_info")
        found = list(listening(processes_of(SESSION, process.pid)))
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        for left in processes_of(SESSION, process.pid):
            os.kill(left, signal.SIGKILL)
    elsewhere = [address for address in found if address not in ("127.0.0.1", "::1")]
    return Toll(
        1, leaked=named + len(elsewhere), manual=not answered, seen=f"{len(found)} sockets of the UI, all files"
    )


def _answers(url: str) -> bool:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 our own
                return bool(answer.status == 200)
        except (URLError, OSError):
            time.sleep(0.2)
    return False


def listening(processes: list[int]) -> Iterator[str]:
    """The addresses on which these processes listen for TCP connections."""
    inodes = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            try:
                target = os.readlink(descriptor)
            except OSError:
                continue
            inodes.add(target.removeprefix("socket:[").removesuffix("]"))
    for name in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == "0A" and fields[9] in inodes:
                words = bytes.fromhex(fields[1].partition(":")[0])
                packed = b"".join(words[start : start + 4][::-1] for start in range(0, len(words), 4))
                yield addresses.unpack(packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed)


def pinned_by_hash(campaign: Campaign) -> Toll:
    """Every requirement has one version and its hashes, and nothing is installed that is not in a list."""
    tree = _tree(campaign)
    wrong = count = 0
    for lock in tree.glob("requirements*.lock"):
        text = re.sub(r"\\\n\s*", " ", lock.read_text())
        for requirement in filter(None, (words.partition("#")[0].strip() for words in text.splitlines())):
            count += 1
            pinned = re.fullmatch(
                r"[A-Za-z0-9._-]+(\[[a-z0-9, _-]+\])?==\S+(\s*;.+?)?(\s+--hash=sha256:[0-9a-f]{64})+", requirement
            )
            wrong += pinned is None
    for path in (tree / "Makefile", *(tree / "deploy").rglob("*.sh")):
        for words in path.read_text().splitlines():
            if re.search(r"\bpip\"? install", words) and path.name != "lock.sh":
                wrong += "--require-hashes" not in words and "--no-deps" not in words
    return Toll(1, leaked=wrong, seen=f"{count} requirements")


def no_shell(campaign: Campaign) -> Toll:
    """No shell, no evaluated text and no foreign pickle in the source; and what a whole run really starts, with keys in the
    logs that mean something to a shell."""
    tree = _tree(campaign)
    found = [
        wrong for path in (tree / "s3logx_assets").rglob("*.py") for wrong in _wrong_calls(ast.parse(path.read_text()))
    ]
    awk = "".join(path.read_text() for path in (tree / "awk").glob("*.awk"))
    found += re.findall(r"\bsystem\s*\(|\|&?\s*getline|\bprint[^\n]*\|\s*\"|@load|close\s*\(", awk)
    archive = Archive(campaign.folder / "started", 1, 0, 0, S3LOGX_LAG_DAYS="0")
    path = archive.folder / "logs" / f"{archive.days[0]}-00-00-00-KEYS"
    path.parent.mkdir()
    keys = ("$(touch%20canary)/`canary`", "a;canary/|canary")
    # As many people as a release tells of.
    path.write_text("".join(line(key, second=1, host=host) for key in keys for host in range(1, 13)))
    record = archive.folder / "started"
    failed = archive.start(campaign.sabotage, Started(record)).end() != 0
    started = [words.split("\0") for words in record.read_text().split("\n") if words]
    strange = [words for words in started if Path(words[0]).name not in _PROGRAMS or "canary" in " ".join(words)]
    return Toll(1, leaked=len(found) + len(strange), manual=failed, seen=f"{len(started)} programs started")


# Ours, and those with which Dagster keeps what is printed and looks at its machine.
_PROGRAMS = ("gawk", "stdbuf", "git", "tail", "uname", Path(sys.executable).name)
_EVALUATING = ("eval", "exec", "compile", "__import__")
_SHELLS = ("system", "popen", "spawnl", "spawnlp", "execl", "execlp", "getoutput", "getstatusoutput")


def _wrong_calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            attribute = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if name in _EVALUATING or attribute in _SHELLS:
                yield name or attribute
            for keyword in node.keywords:
                if keyword.arg == "shell" and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                ):
                    yield "shell"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name for name in names if name.partition(".")[0] in ("pickle", "marshal", "shelve", "dill"))


@dataclass(frozen=True)
class Started:
    """Notes every program that is started, with its arguments."""

    file: Path

    def __call__(self) -> None:
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event in ("subprocess.Popen", "os.exec", "os.posix_spawn"):
                words = arguments[1] if isinstance(arguments[1], list | tuple) else [arguments[1]]
                os.write(descriptor, "\0".join(map(str, words)).encode() + b"\n")
            elif event == "os.system":
                os.write(descriptor, b"sh\0" + str(arguments[0]).encode() + b"\n")

        sys.addaudithook(hook)


def linear_in_time(campaign: Campaign) -> Toll:
    """The worst that we know to write for each parser, at lengths that double: four times as long may take no more than
    eight times as long, where what is quadratic takes sixteen times."""
    campaign.folder.mkdir(parents=True)
    name = log_names._NAME
    campaign.sabotage()
    try:
        start = 1 << (15 if campaign.short else 17)
        slow = [name for name, parser in PARSERS.items() for worst in _WORST if _ratio(parser, worst, start) > 8]
    finally:
        log_names._NAME = name
    return Toll(
        len(PARSERS) * len(_WORST), manual=len(slow), seen=f"{len(PARSERS)} parsers, {len(_WORST)} kinds of lines"
    )


def _ratio(parser: Callable[[str], object], worst: str, length: int) -> float:
    """How much longer a line takes that is four times as long; the best of some tries of each. What takes less than five
    milliseconds is as good as nothing."""
    texts = [(worst * (size // len(worst) + 1))[:size] for size in (length, 4 * length)]
    short, long = (min(_seconds(parser, text) for _ in range(3)) for text in texts)
    return long / max(short, 0.005)


def _seconds(parser: Callable[[str], object], text: str) -> float:
    """Of the processor, here and in gawk: what else the machine does meanwhile says nothing of a parser."""
    started = _used()
    parser(text)
    return _used() - started


def _used() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _quietly(function: Callable[[str], object]) -> Callable[[str], object]:
    """What a parser does with a text that it refuses is as good as what it does with another."""

    def quiet(text: str) -> object:
        try:
            return function(text)
        except Exception:
            return None

    return quiet


def _in_agent(text: str) -> bytes:
    return line("ds1/x").rstrip("\n").encode().replace(b'"test"', b'"' + text.encode() + b'"')


_RULE = RegexRule("(?P<dataset>(?:a|b|ab)*?[^/]*)/(?P<asset>.+)", True)


def _assign(text: str) -> object:
    return _RULE.assign(pa.array([text]))


PARSERS: dict[str, Callable[[str], object]] = {
    "gawk": lambda text: verdicts([text.encode()]),
    "gawk, user agent": lambda text: verdicts([_in_agent(text)]),
    "reference": lambda text: parse_record(text.encode()),
    "reference, user agent": lambda text: parse_record(_in_agent(text)),
    "file name": _quietly(log_names.log_date),
    "address": _quietly(addresses.pack),
    "location": _quietly(locations.parse_location),
    "dataset rule": _quietly(_assign),
    "leak search": _quietly(lambda text: list(leaks.Scan([]).findings("index.html", text.encode()))),
}
_WORST = (
    '"',
    '" ',
    "[",
    "] ",
    " ",
    "\\",
    "%",
    "1.",
    ":",
    "::",
    "HTTP/1.1 ",
    '" 200 - ',
    "a/",
    "../",
    "x",
    "2025-03-01-",
    "- ",
)


def _everywhere() -> None:
    """The UI is for everybody."""
    script = Path(os.environ[_TREE]) / "deploy" / "local" / "ui.sh"
    script.write_text(script.read_text().replace("127.0.0.1", "0.0.0.0"))  # noqa: S104


def _published() -> None:
    """A container's port is published for everybody."""
    compose = Path(os.environ[_TREE]) / "deploy" / "docker" / "compose.yaml"
    compose.write_text(compose.read_text().replace("- 127.0.0.1:3000:", "- 3000:"))


def _public_address() -> None:
    """The platform's task has an address of the internet."""
    template = Path(os.environ[_TREE]) / "deploy" / "ecs" / "template.yaml"
    template.write_text(template.read_text().replace("AssignPublicIp: DISABLED", "AssignPublicIp: ENABLED"))


def _without_hash() -> None:
    """A requirement has lost its hash."""
    lock = Path(os.environ[_TREE]) / "requirements.lock"
    lock.write_text(re.sub(r" \\\n    --hash=sha256:[0-9a-f]{64}(?= \\\n| *\n)", "", lock.read_text(), count=2))


def _with_a_shell() -> None:
    """gawk is started by a shell."""
    if not _is_child():  # which does not run what is in the tree
        module = Path(os.environ[_TREE]) / "s3logx_assets" / "adapters" / "gawk.py"
        broken = module.read_text().replace("bufsize=0,", "bufsize=0, shell=True,")
        assert "shell=True" in broken, "there is nothing to break"
        module.write_text(broken)


def _behind_a_shell() -> None:
    """gawk is started by a shell, which nothing in the source tells."""

    def start(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(["sh", "-c", shlex.join(command)], **options)

    if _is_child():  # this process has other builds to attack
        vars(gawk)["subprocess"] = SimpleNamespace(**{**vars(subprocess), "Popen": start})


def _is_child() -> bool:
    return multiprocessing.parent_process() is not None


def _quadratic() -> None:
    """The name of a file may have dates before it, and a folder of digits is looked for behind each of them."""
    before = r"(?:\d{4}-\d\d-\d\d-)*(?:[\d-]*+/)?"
    log_names._NAME = re.compile(before + log_names.PATTERN, re.ASCII)


ATTACKS = (
    Attack(
        "doors: the UI on this machine alone",
        loopback_alone,
        (
            Break("the UI is for everybody", _everywhere),
            Break("a container's port is for everybody", _published),
            Break("a task has a public address", _public_address),
        ),
    ),
    Attack("doors: requirements pinned by hash", pinned_by_hash, (Break("a hash is missing", _without_hash),)),
    Attack(
        "doors: no shell",
        no_shell,
        (
            Break("gawk is started by a shell", _with_a_shell),
            Break("a shell starts gawk, and the source hides it", _behind_a_shell),
        ),
    ),
    Attack(
        "doors: parsers are linear",
        linear_in_time,
        (Break("the names of files are read in quadratic time", _quadratic),),
    ),
)
