"""What is left behind must not tell who asked: every byte below the store's parent, Dagster's history and logs, whatever was
printed, temporary folders; after runs that went well and after errors at every place that sees an address.

Only the archive's own logs may hold an address, and only the key's file a key.
"""

import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from s3logx_assets.adapters import memory
from s3logx_tests.commands import PUBLISH, UPDATE_SCOPES, after, backfill
from s3logx_tests.torture.archive import FIRST, Archive
from s3logx_tests.torture.attack import Attack, Break, Campaign, Toll

_ROOT = Path(__file__).parents[2]
# Functions that see addresses, lines or keys, on the way from the first to the last.
_SEEING = (
    "s3logx_assets.adapters.gawk:Gawk.feed",
    "s3logx_assets.core.extraction:parse_rows",
    "s3logx_assets.core.extraction:gather",
    "s3logx_assets.core.extraction:in_order",
    "s3logx_assets.core.extraction:to_table",
    "s3logx_assets.core.addresses:pack_all",
    "s3logx_assets.core.sealing:Sealer.seal",
    "s3logx_assets.core.sealing:Sealer.unseal",
    "s3logx_assets.core.sealing:Sealer.unpack_index",
    "s3logx_assets.adapters.table_store:TableStore.write_groups",
    "s3logx_assets.checks:evaluate",
    "s3logx_assets.core.usage:daily_usage",
    "s3logx_assets.adapters.scope_state:serialized_groups",
    "s3logx_assets.assets.summaries:make_scopes",
    "s3logx_assets.assets.publish:build_release",
)


@dataclass(frozen=True)
class Quoting:
    """Makes a function raise an error that quotes an address, a line and the key."""

    function: str
    text: str

    def __call__(self) -> None:
        import importlib

        module_name, _, path = self.function.partition(":")
        holder = importlib.import_module(module_name)
        *parents, name = path.split(".")
        for parent in parents:
            holder = getattr(holder, parent)
        text = self.text

        def failing(*arguments: object, **options: object) -> None:
            raise ValueError(text)

        genuine = getattr(holder, name)
        for module in list(sys.modules.values()):  # wherever it was imported to by name
            if module is not None and getattr(module, name, None) is genuine:
                setattr(module, name, failing)
        setattr(holder, name, failing)


def errors_that_quote(campaign: Campaign) -> Toll:
    """An error in each function that sees addresses, lines or keys, with all of them in its text."""
    toll = Toll()
    reached = 0
    for number, function in enumerate(_SEEING[::5] if campaign.short else _SEEING):
        archive = Archive(campaign.folder / f"{number}", days=1, files=1, S3LOGX_LAG_DAYS="0")
        (path,) = archive.log_files()
        text = f"{path.read_text()} {archive.environment['S3LOGX_KEY']}"
        child = archive.start(campaign.sabotage, Quoting(function, text))
        reached += child.end() != 0
        toll += Toll(1, leaked=archive.leaks(), manual=len(child.orphans()))
    return toll + Toll(manual=toll.tries - reached, seen=f"{reached} functions")


def commands(campaign: Campaign) -> Toll:
    """All commands a user types, as processes with homes and temporary folders of their own, good and failing ones: a
    damaged log, a damaged table, a wrong key, a wrong setting, a service's key."""
    archive = Archive(campaign.folder / "commands", S3LOGX_LAG_DAYS="0")
    own = archive.canaries.make(random.Random("own"))
    service_key = "0123456789abcdefcanary"
    archive.canaries.add_secret(service_key.encode())
    work = archive.folder / "work"
    work.mkdir()
    environment = {
        **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
        **archive.environment,
        "HOME": str(work),
        "TMPDIR": str(work),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "S3LOGX_EXCLUDED_IPS": f"{own}/32" if "." in own else f"{own}/128",
        "IPINFO_API_KEY": service_key,
        "OPENCAGE_API_KEY": service_key,
        "PYTHONPATH": os.environ.get("PYTHONPATH", str(_ROOT)),
    }

    def run(*command: str, **more: str) -> int:
        result = subprocess.run(
            after(campaign.sabotage, command),
            cwd=work,
            env={**environment, **more},
            capture_output=True,
            check=False,
        )
        with (archive.folder / f"printed-{len(list(archive.folder.iterdir()))}").open("wb") as file:
            file.write(result.stdout + result.stderr)
        return result.returncode

    def materialize(**more: str) -> int:
        return run(*backfill(f"{FIRST}...{archive.days[-1]}"), **more)

    def good() -> list[int]:
        return [
            run("s3logx_assets", "check"),
            materialize(),
            run(*UPDATE_SCOPES),
            run(*PUBLISH),
            run("s3logx_assets", "report"),
            run("s3logx_assets", "range"),
        ]

    def failing() -> list[int]:
        codes = [
            materialize(S3LOGX_KEY="A" * 43 + "="),
            run("s3logx_assets", "check", S3LOGX_EXCLUDED_IPS=f"{own}/3x"),
            run("s3logx_assets", "check", S3LOGX_KEY=environment["S3LOGX_KEY"][:-4]),
        ]
        (archive.folder / "logs" / f"{FIRST}-00-00-00-DAMAGED").write_bytes(b"\x1f\x8bnot gzip")
        codes.append(materialize())
        (archive.folder / "logs" / f"{FIRST}-00-00-00-DAMAGED").unlink()
        table = archive.store.path("ip_indexes", f"log_date={FIRST}")
        table.write_bytes(table.read_bytes()[:100])
        return [*codes, run(*UPDATE_SCOPES)]

    well = [materialize()] if campaign.short else good()
    badly = [] if campaign.short else failing()
    wrong = sum(code != 0 for code in well) + sum(code == 0 for code in badly[:-1])
    tries = len(well) + len(badly)
    return Toll(tries, leaked=archive.leaks(), manual=wrong, seen=f"{tries} commands, every byte that they left")


def while_running(campaign: Campaign) -> Toll:
    """Under a umask that forbids nothing: private files are their owner's alone, no process that sees an address would leave
    a core dump, and no command line tells anything."""
    archive = Archive(campaign.folder / "running", 3, 4, 500)
    child = archive.start(campaign.sabotage, _open_umask)
    seen_gawk = dumping = telling = 0
    while not child.wait(0.002):
        for process in child.group():
            words = _read(process, "cmdline")
            if b"gawk" in words.split(b"\0", 1)[0]:
                seen_gawk += 1
                dumping += _core_limit(_read(process, "limits")) not in (0, None)
            telling += archive.canaries.in_bytes(words)
    failed = child.end() != 0
    home = archive.folder / "home" / "s3logx"
    open_ones = [path for path in [home, *home.rglob("*")] if not path.is_symlink() and path.stat().st_mode & 0o077]
    open_ones = [path for path in open_ones if not path.is_relative_to(home / "public")]
    manual = failed + (seen_gawk == 0)
    leaked = archive.leaks() + bool(dumping) + telling + len(open_ones)
    return Toll(1, leaked=leaked, manual=manual, seen=f"gawk looked at {seen_gawk} times")


def _open_umask() -> None:
    import resource

    os.umask(0)
    limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def _read(process: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{process}/{name}").read_bytes()
    except OSError:
        return b""


def _core_limit(limits: bytes) -> int | None:
    """The hard limit of a core dump's size in bytes, -1 for none; None where the process is gone."""
    for words in limits.decode().splitlines():
        if words.startswith("Max core file size"):
            hard = words.split()[5]
            return -1 if hard == "unlimited" else int(hard)
    return None


def _told_in_full() -> None:
    """What any error says is told."""
    for module in ("s3logx_assets.assets.daily", "s3logx_assets.retries"):
        vars(sys.modules[module])["reason"] = str


def not_sealed() -> None:
    """Addresses are stored as they are."""
    from s3logx_assets.core.sealing import Sealer

    Sealer.seal = lambda self, addresses: addresses  # type: ignore[method-assign]
    Sealer.unseal = lambda self, sealed: sealed  # type: ignore[method-assign]


def _open_files() -> None:
    """New folders and files are for everybody."""
    from s3logx_assets.adapters import local_files

    local_files.make_folder = lambda folder: folder.mkdir(mode=0o777, parents=True, exist_ok=True)


def _dumping() -> None:
    """Core dumps are left as large as they may be."""
    memory.keep_out_of_core_dumps = lambda: None


ATTACKS = (
    Attack("leaks: errors that quote", errors_that_quote, (Break("what any error says is told", _told_in_full),)),
    Attack("leaks: commands, good and failing", commands, (Break("addresses are stored as they are", not_sealed),)),
    Attack(
        "leaks: modes, core dumps, command lines",
        while_running,
        (
            Break("folders are for everybody", _open_files),
            Break("core dumps are left", _dumping),
            Break("addresses are stored as they are", not_sealed),
        ),
    ),
)
