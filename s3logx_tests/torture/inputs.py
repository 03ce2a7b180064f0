"""Logs as nobody should deliver them: twice, cut, growing, gone, packed to burst, by the hundred thousand, under names and
with keys that mean something to a shell or a file system.

What must come of them is known by construction, or is what the same logs without the mischief come to.
"""

import gzip
import os
import random
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from s3logx_assets.adapters import extractor, gawk, log_contents, log_store
from s3logx_assets.adapters.duplicates import EqualRecords
from s3logx_assets.adapters.log_store import LocalLogReader
from s3logx_assets.adapters.table_store import TableStore, partition
from s3logx_assets.assets.extract import ledger_of
from s3logx_assets.core import datasets, log_names, scopes
from s3logx_assets.core.ledger import LogObject
from s3logx_assets.core.log_lines import Record, parse_record, split_records
from s3logx_tests.platform import line
from s3logx_tests.torture.archive import FIRST, Archive
from s3logx_tests.torture.attack import Attack, Break, Campaign, Toll
from s3logx_tests.torture.child import STEPS
from s3logx_tests.torture.memory import guarded

_LIMIT = 500_000_000  # bytes of memory for what is small, however it is packed


def _run(archive: Archive, campaign: Campaign, steps: Sequence[str] = STEPS) -> int:
    """Whether a run failed."""
    return int(archive.run(campaign.sabotage, steps) != 0)


def twice(campaign: Campaign) -> Toll:
    """Every log file again under another name, packed, in another order, and all three."""
    expected = Archive(campaign.folder / "calm").made()
    toll = Toll(seen="copies, packed copies, reordered copies, all of them")
    for ways in (1, 2, 4, 7)[-1 if campaign.short else 0 :]:
        archive = Archive(campaign.folder / f"{ways}")
        for path in archive.log_files():
            _copy(path, ways)
        failed = _run(archive, campaign)
        toll += archive.toll(expected) + Toll(manual=failed)
    return toll


def _copy(path: Path, ways: int) -> None:
    content = path.read_bytes()
    reordered = b"".join(sorted(content.splitlines(keepends=True), reverse=True))
    copies = {"COPY": content, "PACKED": gzip.compress(content), "REVERSED": reordered}
    for number, (name, copy) in enumerate(copies.items()):
        if ways >> number & 1:
            path.with_name(f"{path.name[:19]}-{name}{path.name[-4:]}").write_bytes(copy)


def cut_at_every_byte(campaign: Campaign) -> Toll:
    """A file of three lines, cut at each of its bytes: a date for each cut."""
    archive = Archive(campaign.folder / "cut", files=1, lines=3)
    content = archive.log_files()[0].read_bytes()
    cuts = range(0, len(content) + 1, 23 if campaign.short else 1)
    for path in archive.log_files():
        path.unlink()
    archive.days = [FIRST + timedelta(days=number) for number in range(len(cuts))]
    for day, cut in zip(archive.days, cuts, strict=True):
        (archive.folder / "logs" / f"{day}-00-00-00-AAAA").write_bytes(content[:cut])
    failed = _run(archive, campaign, ("dates",))
    toll = Toll(len(cuts), manual=failed, leaked=archive.leaks(), seen=f"{len(cuts)} cuts of {len(content)} bytes")
    for day, cut in zip(archive.days, cuts, strict=True):
        toll += _difference(_rows_of(content[:cut]), _rows(archive.store, day))
    return toll


def _rows_of(content: bytes) -> Counter[tuple[Any, ...]]:
    """What the second parser reads."""
    records = map(parse_record, split_records(content))
    return Counter(
        (record.object_key, record.requested_at, record.bytes_sent, record.status)
        for record in records
        if isinstance(record, Record)
    )


def _rows(store: TableStore, day: date) -> Counter[tuple[Any, ...]]:
    if store.record("extracted_logs", partition(day)) is None:
        return Counter()
    table = store.read("extracted_logs", partition(day), encoded=["object_key"])
    columns = (table[name].to_pylist() for name in ("object_key", "requested_at", "bytes_sent", "status"))
    return Counter(zip(*columns, strict=True))


def _difference(expected: Counter[Any], found: Counter[Any]) -> Toll:
    return Toll(lost=(expected - found).total(), doubled=(found - expected).total())


def growing(campaign: Campaign) -> Toll:
    """Files that grow, vanish and come back while they are read, in three runs: what is stored of a date is what its
    ledger says that was read. Then a run that is left alone."""
    expected = Archive(campaign.folder / "calm", files=6, lines=80).made()
    toll = Toll()
    judged = 0
    for number in range(3 if campaign.short else 10):
        archive = Archive(campaign.folder / f"{number}", files=6, lines=80)
        whole = {path: path.read_bytes() for path in archive.log_files()}
        rng = random.Random(campaign.seed + number)
        for _ in range(3):
            for path, content in whole.items():
                path.write_bytes(content[: len(content) // 3])
            over = threading.Event()
            restless = threading.Thread(target=_disturb, args=(whole, over, rng))
            restless.start()
            # A date that changes under the reader's hands may fail. No release: what one tells is not taken back.
            _run(archive, campaign, STEPS[:2])
            over.set()
            restless.join()
            for found in _against_ledgers(archive, whole):
                toll += found
                judged += 1
        for path, content in whole.items():
            path.write_bytes(content)
        failed = _run(archive, campaign)
        toll += archive.toll(expected) + Toll(manual=failed)
    return toll + Toll(seen=f"three runs while the files grow, go and come back, {judged} stored dates")


def _against_ledgers(archive: Archive, whole: Mapping[Path, bytes]) -> Iterator[Toll]:
    """Each stored date's rows, against those of as much of each file as its ledger tells."""
    logs = archive.folder / "logs"
    for day in archive.days:
        if archive.store.record("extracted_logs", partition(day)) is not None:
            ledger = ledger_of(archive.store, day)
            read = zip(ledger["name"].to_pylist(), ledger["size"].to_pylist(), strict=True)
            rows = (_rows_of(whole[logs / name][:size]) for name, size in read)
            yield _difference(sum(rows, Counter()), _rows(archive.store, day))


def _disturb(whole: dict[Path, bytes], over: threading.Event, rng: random.Random) -> None:
    while not over.wait(0.002):
        path = rng.choice(list(whole))
        aside = path.with_name(f".{path.name}")
        if aside.exists():
            aside.rename(path)
        elif rng.random() < 0.2:
            path.rename(aside)
        else:
            size = path.stat().st_size
            with path.open("ab") as file:
                file.write(whole[path][size : size + rng.randrange(1, 400)])
    for path in whole:
        aside = path.with_name(f".{path.name}")
        if aside.exists():
            aside.rename(path)


def packed_to_burst(campaign: Campaign) -> Toll:
    """A few kilobytes that unpack to a gigabyte, of zeros, of one letter, of empty lines; beside ordinary files."""
    size = 1_000_000_000
    bombs = {"zeros": (b"\0", size), "letters": (b"a", size), "lines": (b"\n", size // 10)}
    if campaign.short:
        del bombs["letters"], bombs["lines"]
    return _beside_ordinary_files(campaign, {name: partial(_bomb, *bomb) for name, bomb in bombs.items()})


def _bomb(unit: bytes, size: int, path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=6) as file:
        for _ in range(0, size, 1 << 24):
            file.write(unit * (1 << 24))


def lines_of_100_megabytes(campaign: Campaign) -> Toll:
    """Lines of 100 MB: of a user agent, of a key, of nothing, without an end."""
    size = 100_000_000

    def agent(path: Path) -> None:
        path.write_bytes(line("ds1/x").encode().replace(b'"test"', b'"' + b"a" * size + b'"'))

    def key(path: Path) -> None:
        path.write_text(line("ds1/" + "k" * size))

    def blank(path: Path) -> None:
        path.write_bytes(b" " * size + b"\n")

    def endless(path: Path) -> None:
        path.write_bytes(b"x" * size)

    makers = {"agent": agent, "key": key, "blank": blank, "endless": endless}
    return _beside_ordinary_files(campaign, makers)


def _beside_ordinary_files(campaign: Campaign, makers: Mapping[str, Callable[[Path], None]]) -> Toll:
    """What comes of ordinary files when such a one lies beside them, in bounded memory."""
    calm = Archive(campaign.folder / "calm", days=1)
    assert calm.run(steps=("dates",)) == 0
    expected = {name: rows for name, rows in calm.contents().items() if not name.startswith("summaries")}
    toll = Toll()
    peak = 0
    for name, make in makers.items():
        archive = Archive(campaign.folder / name, days=1)
        make(archive.folder / "logs" / f"{FIRST}-00-00-00-BBBB")
        child = archive.start(campaign.sabotage, steps=("dates",))
        peak = max(peak, guarded(child, _LIMIT))
        failed = child.end() != 0
        toll += archive.toll(expected, child) + Toll(manual=failed)
    return toll + Toll(seen=f"{', '.join(makers)}: peak {peak / 1e6:,.0f} MB")


def very_many_files(campaign: Campaign) -> Toll:
    """100,000 files of one date."""
    count = 3_000 if campaign.short else 100_000
    archive = Archive(campaign.folder / "many", days=1, files=0)
    folder = archive.folder / "logs" / f"{FIRST:%Y/%m/%d}"
    folder.mkdir(parents=True)
    for number in range(count):
        text = line(
            f"ds{number % 7}/f{number % 100}", second=number % 80_000, host=number % 200, request_id=f"{number:016X}"
        )
        (folder / f"{FIRST}-00-00-00-{number:016X}").write_text(text)
    failed = _run(archive, campaign, ("dates",))
    rows = archive.store.read("extracted_logs", partition(FIRST), columns=["status"]).num_rows
    return Toll(1, max(0, count - rows), max(0, rows - count), archive.leaks(), failed, f"{count:,} files")


def names_that_mean_something(campaign: Campaign) -> Toll:
    """Beside ordinary files: names that a shell would obey, links out of the folder, pipes, sockets, loops. Nothing of it is
    read, followed or obeyed."""
    expected = Archive(campaign.folder / "calm").made()
    archive = Archive(campaign.folder / "odd")
    outside = campaign.folder / "outside"
    outside.mkdir()
    (outside / f"{FIRST}-00-00-00-OUTSIDE").write_text(line("ds0/outside", host=77))
    logs, start = archive.folder / "logs", f"{FIRST}-00-00-00-"
    for number, name in enumerate(_NAMES):
        target = logs if number % 2 else logs / f"{FIRST:%Y/%m/%d}"
        Path(os.fsdecode(os.fsencode(target) + b"/" + start.encode() + name)).write_text(line("ds0/odd", host=78))
    (logs / f"{start}LINK").symlink_to(outside / f"{FIRST}-00-00-00-OUTSIDE")
    (logs / f"{FIRST:%Y/%m/%d}" / f"{start}LINK").symlink_to(outside / f"{FIRST}-00-00-00-OUTSIDE")
    (logs / "2025" / "03" / "09").symlink_to(outside)
    (logs / "loop").symlink_to(logs)
    os.mkfifo(logs / f"{start}PIPE")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(logs)  # the path of a socket is short
        listening.bind(f"{start}SOCK")
        os.chdir(here)
        failed, obeyed = _run_in_a_place(archive, campaign)
    seen = f"{len(_NAMES)} names, links, a loop, a pipe, a socket"
    return archive.toll(expected) + Toll(manual=failed + obeyed, seen=seen)


@dataclass(frozen=True)
class Within:
    """Works in a folder of its own: what a shell makes at a relative path is made there."""

    folder: Path

    def __call__(self) -> None:
        self.folder.mkdir()
        os.chdir(self.folder)


def _run_in_a_place(archive: Archive, campaign: Campaign) -> tuple[int, int]:
    """Whether a run failed, and the number of files where it worked, where nothing belongs, and of those that an order
    left anywhere else."""
    place = archive.folder / _PLACE
    failed = archive.start(campaign.sabotage, Within(place)).end() != 0
    left = {*place.iterdir(), *(path for path in campaign.folder.rglob("*") if path.name == _OBEYED)}
    return int(failed), len(left) + Path(_OBEYED).exists()


_PLACE, _OBEYED = "place", "obeyed"
# Without a blank, which a key cannot hold; and so that they are orders to one who decodes first.
_PLAIN_ORDERS = ("$(>obeyed)", "`>obeyed`", ";>obeyed;", "&>obeyed&", "|tee${IFS}obeyed;", "'$(>obeyed)'")
_ORDERS = (*_PLAIN_ORDERS, *(quote(order, safe="") for order in _PLAIN_ORDERS), "$(touch%20obeyed)", "`touch+obeyed`")
_NAMES = (
    *(order.encode() for order in _ORDERS),
    *(b"$(touch obeyed)", b"`touch obeyed`", b";touch obeyed;", b"|touch obeyed", b"&touch obeyed&"),
    *(b"\ntouch obeyed\n", b"' obeyed '", b'"', b"-f", b"--help", b"\xff\xfe", b"*", b"?", b"\\", b"x y"),
)


def keys_that_mean_something(campaign: Campaign) -> Toll:
    """Object keys that climb out of folders or that a shell would obey, through everything up to the release: as datasets,
    and as paths of files. Every one is counted, and no file is where none belongs."""
    toll = Toll()
    rules: tuple[dict[str, str], ...] = (
        {},
        {"S3LOGX_DATASET_LEVEL": "2"},
        {"S3LOGX_DATASET_REGEX": "(?P<dataset>.*?)/(?P<asset>.+)"},
    )
    for settings in rules[: 1 if campaign.short else 3]:
        folder = campaign.folder / f"keys-{len(settings)}-{toll.tries}"
        archive = Archive(folder / "inside", 1, 0, 0, S3LOGX_LAG_DAYS="0", **settings)
        text = "".join(
            line(key, second=number, host=host, request_id=f"{number:08X}{host:08X}")
            for number, key in enumerate(_KEYS)
            for host in range(1, _CROWD + 1)
        )
        path = archive.folder / "logs" / f"{FIRST}-00-00-00-KEYS"
        path.parent.mkdir()
        path.write_text(text)
        failed, obeyed = _run_in_a_place(archive, campaign)
        requests = (
            archive.store.read("totals", "scope=archive")["total_request_count"].to_pylist() if not failed else [0]
        )
        known = {archive.folder / name for name in ("logs", "home", "tmp", _PLACE)}
        strange = [
            path
            for path in folder.rglob("*")
            if path != archive.folder
            and not path.name.startswith("output-")
            and not any(path == one or path.is_relative_to(one) for one in known)
        ]
        home = sorted(path.name for path in (archive.folder / "home").iterdir() if path.name not in _HOME)
        expected = len(_KEYS) * _CROWD
        lost, more = max(0, expected - requests[0]), max(0, requests[0] - expected)
        wrong = failed + obeyed + len(strange) + len(home)
        toll += Toll(1, lost, more, archive.leaks(), wrong)
    return toll + Toll(seen=f"{len(_KEYS)} keys, {toll.tries} dataset rules")


# How many people ask for each key: as many as a release tells of.
_CROWD = 12
# What belongs into DAGSTER_HOME.
_HOME = (
    ".ready.lock",
    "s3logx",
    "cache",
    "scratch",
    "history",
    "schedules",
    "storage",
    "logs",
    ".telemetry",
    ".logs_queue",
)
_KEYS = (
    *("../../../obeyed", "/obeyed", "..%2F..%2Fobeyed/x", "%2e%2e/%2e%2e/obeyed", "a/../../obeyed", "./obeyed/./x"),
    *(f"{order}/a" for order in _ORDERS),
    *(f"b/{order}" for order in _ORDERS),
    *("a/-rf", "-rf/a", "~/obeyed", "con/nul", "a/b%00c", "a%0a/obeyed%0a", "ds%2F..%2F..%2Fobeyed/x"),
    *("..", "../", "//x//y", "<script>alert(1)</script>/x", "a/<img%20src=x>", "a/'%22>", "=1+1/x"),
    *("a/" + "x" * 900, "archive/x", "unassociated/x"),
)


def _no_equal_files() -> None:
    """Equal files are not looked for, nor equal records."""
    setattr(extractor, "equal_files", lambda store, files: set())  # noqa: B010
    EqualRecords.suspect = lambda self, parts: sum(map(len, parts))  # type: ignore[method-assign]


def _last_line_dropped() -> None:
    """What comes after the last newline is left out, and joins the next file."""
    gawk.RecordFeeder.end_file = lambda self: None  # type: ignore[method-assign]


def _made_once() -> None:
    """A date that is stored is not made again."""
    genuine = TableStore.write_groups

    def write_groups(self, asset, partition, *arguments, **options):  # type: ignore[no-untyped-def]
        if asset != "extracted_logs" or self.record(asset, partition) is None:
            genuine(self, asset, partition, *arguments, **options)

    TableStore.write_groups = write_groups  # type: ignore[method-assign]


def _not_as_listed() -> None:
    """A file is read as it is by then, and nobody asks whether that is what was listed."""
    genuine = log_contents.contents

    def contents(item: LogObject, opened: Callable[[], LocalLogReader], *more: Any) -> Iterator[bytes]:
        reader = opened()
        size = os.fstat(reader._descriptor).st_size
        return genuine(replace(item, size=size), lambda: reader, *more)

    setattr(extractor, "contents", contents)  # noqa: B010
    LocalLogReader.close = lambda self: os.close(self._descriptor)  # type: ignore[method-assign]


def _unpacked_at_once() -> None:
    """A packed file is unpacked as a whole."""
    import zlib

    def feed(self: Any, chunk: bytes) -> Iterator[bytes]:
        yield zlib.decompressobj(wbits=31).decompress(chunk)

    log_contents._Gunzip.feed = feed  # type: ignore[method-assign]
    log_contents._Gunzip.end = lambda self: None  # type: ignore[method-assign]
    log_contents.CHUNK = 1 << 30


def _whole_lines() -> None:
    """A line is handed on however long it is."""
    setattr(gawk, "MAX_RECORD_BYTES", 1 << 60)  # noqa: B010


def some_files_forgotten() -> None:
    """Every hundredth file is not listed."""
    genuine = log_store.LocalLogStore._describe
    seen = iter(range(1 << 60))
    log_store.LocalLogStore._describe = lambda self, path: genuine(self, path) if next(seen) % 100 else None  # type: ignore[method-assign]


def _links_followed() -> None:
    """What a link leads to counts as a file."""
    genuine = os.scandir

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self._entry, self.name, self.path = entry, entry.name, entry.path

        def is_file(self, follow_symlinks: bool = True) -> bool:
            return self._entry.is_file()

        def is_dir(self, follow_symlinks: bool = True) -> bool:
            return self._entry.is_dir(follow_symlinks=False)

        def is_symlink(self) -> bool:
            return False

        def stat(self, follow_symlinks: bool = True) -> os.stat_result:
            return self._entry.stat()

    class Entries:
        def __init__(self, path: Any) -> None:
            self._inner = genuine(path)

        def __enter__(self) -> Iterator[Entry]:
            return map(Entry, self._inner)

        def __exit__(self, *error: object) -> None:
            self._inner.close()

    class Os:
        O_NOFOLLOW = 0
        scandir = Entries

        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

    setattr(log_store, "os", Os())  # noqa: B010


def _scopes_as_they_are() -> None:
    """A dataset's name is the name of its folder."""
    scopes._escaped = lambda character: character


def _to_a_shell(text: str) -> None:
    """Has a shell say it."""
    subprocess.run(["sh", "-c", f"echo {text}"], stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _names_to_a_shell() -> None:
    """The name of each file goes through a shell."""
    genuine = log_names.log_date

    def log_date(name: str) -> date | None:
        _to_a_shell(name)
        return genuine(name)

    setattr(log_store, "log_date", log_date)  # noqa: B010


def _keys_to_a_shell() -> None:
    """Each key goes through a shell before it has a dataset."""
    genuine = datasets._assigned_by_pattern

    def assigned(keys: pa.Array, *arguments: Any) -> datasets.Assignment:
        for key in keys.to_pylist():
            _to_a_shell(key)
        return genuine(keys, *arguments)

    setattr(datasets, "_assigned_by_pattern", assigned)  # noqa: B010


ATTACKS = (
    Attack("input: everything twice", twice, (Break("copies are not looked for", _no_equal_files),)),
    Attack(
        "input: cut at every byte",
        cut_at_every_byte,
        (Break("the end of a file does not end its record", _last_line_dropped),),
    ),
    Attack(
        "input: growing, gone and back while it is read",
        growing,
        (
            Break("a date that is stored is not made again", _made_once),
            Break("files are read as they are by then", _not_as_listed),
        ),
    ),
    Attack("input: packed to burst", packed_to_burst, (Break("files are unpacked as a whole", _unpacked_at_once),)),
    Attack(
        "input: lines of 100 MB", lines_of_100_megabytes, (Break("lines are handed on however long", _whole_lines),)
    ),
    Attack(
        "input: 100,000 files of a date", very_many_files, (Break("some files are forgotten", some_files_forgotten),)
    ),
    Attack(
        "input: names for a shell, links",
        names_that_mean_something,
        (Break("links are followed", _links_followed), Break("names go through a shell", _names_to_a_shell)),
    ),
    Attack(
        "input: keys for a shell, paths",
        keys_that_mean_something,
        (
            Break("dataset names are not escaped", _scopes_as_they_are),
            Break("keys go through a shell", _keys_to_a_shell),
        ),
    ),
)
