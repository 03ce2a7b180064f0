"""The log store over a folder: layouts, strays, odd names, links, permissions, and files that change."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import pytest

from s3logx_assets.adapters.log_store import Listing, LocalLogStore
from s3logx_assets.core.errors import LogFileError, SourceError
from s3logx_assets.core.ledger import LogObject
from s3logx_tests import processes

DAY = date(2025, 3, 1)
NEXT = date(2025, 3, 2)
BEFORE = date(2025, 2, 28)


def log_name(day: date = DAY, unique: str = "A1B2C3D4E5F60718", clock: str = "05-06-35") -> str:
    return f"{day.isoformat()}-{clock}-{unique}"


def put(root: Path, *names: str, content: bytes = b"x\n") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def listing(root: Path, day: date = DAY) -> Listing:
    ((listed, found),) = LocalLogStore(root).listings([day])
    assert listed == day
    return found


def names(found: Listing) -> list[str]:
    return [item.name for item in found.objects]


LAYOUTS = {
    "flat": "",
    "flat below a prefix": "logs/access/",
    "date folders": "2025/03/01/",
    "date folders below a prefix": "logs/2025/03/01/",
    "account, region, bucket": "123456789012/us-east-2/examplebucket/2025/03/01/",
    "the same below a prefix": "logs/s3/123456789012/us-east-2/examplebucket/2025/03/01/",
    "flat below a year": "2025/",
    "flat below a month": "2025/03/",
    "flat below a folder like a day": "03/01/",
}


@pytest.mark.parametrize("folder", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_each_layout_is_listed(tmp_path: Path, folder: str) -> None:
    put(tmp_path, folder + log_name(), folder + log_name(unique="B.gz"))
    put(tmp_path, folder.replace("03/01", "03/02") + log_name(NEXT))
    found = listing(tmp_path)
    assert names(found) == [folder + log_name(), folder + log_name(unique="B.gz")]
    assert (found.strays, found.ignored) == (0, 0)
    assert names(listing(tmp_path, NEXT)) == [folder.replace("03/01", "03/02") + log_name(NEXT)]
    assert names(listing(tmp_path, BEFORE)) == []
    assert LocalLogStore(tmp_path).days() == [DAY, NEXT]


def test_layouts_can_be_mixed(tmp_path: Path) -> None:
    wanted = [folder + log_name(unique=f"U{number}") for number, folder in enumerate(LAYOUTS.values())]
    put(tmp_path, *wanted)
    assert names(listing(tmp_path)) == sorted(wanted)
    assert LocalLogStore(tmp_path).days() == [DAY]


def test_many_dates_are_listed_in_the_order_asked_for(tmp_path: Path) -> None:
    days = [DAY + timedelta(days=number) for number in (5, 0, 3, 400)]
    for number, day in enumerate(days):
        put(tmp_path, *[f"{day:%Y/%m/%d}/{log_name(day, f'U{file}')}" for file in range(number)], log_name(day))
    found = list(LocalLogStore(tmp_path).listings([*days, BEFORE]))
    assert [day for day, _ in found] == [*days, BEFORE]
    assert [len(item.objects) for _, item in found] == [1, 2, 3, 4, 0]


def test_objects_are_in_byte_order_of_their_names(tmp_path: Path) -> None:
    folders = ["B", "a", "a-b", "a/b", "é", "\U0001f600", "\ufb00", "Z"]
    put(tmp_path, *(f"{folder}/{log_name()}" for folder in folders), log_name(unique="b"), log_name(unique="B"))
    found = names(listing(tmp_path))
    assert [name.encode() for name in found] == sorted(name.encode() for name in found)
    assert len(found) == len(folders) + 2


def test_size_and_version_are_the_file_s(tmp_path: Path) -> None:
    put(tmp_path, log_name(), content=b"12345")
    os.utime(tmp_path / log_name(), ns=(0, 1_700_000_000_123_456_789))
    assert listing(tmp_path).objects == (LogObject(log_name(), 5, "1700000000123456789"),)


@pytest.mark.parametrize("folder", ["2025/02/28", "2025/03/02"])
def test_a_file_in_the_folder_beside_its_date_s_is_listed_and_reported(tmp_path: Path, folder: str) -> None:
    put(tmp_path, f"{folder}/{log_name()}", f"2025/03/01/{log_name()}")
    found = listing(tmp_path)
    assert names(found) == sorted([f"{folder}/{log_name()}", f"2025/03/01/{log_name()}"])
    assert found.strays == 1
    assert listing(tmp_path, date.fromisoformat(folder.replace("/", "-"))) == Listing((), 0, 0)
    assert LocalLogStore(tmp_path).days() == [DAY]


def test_a_file_in_a_folder_far_from_its_date_s_is_reported_there(tmp_path: Path) -> None:
    """It belongs to no listing, because a date's logs are looked for near the date; it was not mentioned anywhere."""
    put(tmp_path, f"2025/06/30/{log_name()}")
    assert listing(tmp_path) == Listing((), 0, 0)
    assert listing(tmp_path, date(2025, 6, 30)) == Listing((), 1, 0)
    assert LocalLogStore(tmp_path).days() == []


def test_other_names_are_ignored_and_counted(tmp_path: Path) -> None:
    put(tmp_path, "README.md", ".hidden", f".{log_name()}.x1", f"{log_name()}.tmp", "2025-02-30-00-00-00-A", log_name())
    put(tmp_path, "notes/todo.txt", "2025/03/01/index.html", "2025/03/02/a", "2025/03/02/b", "2025/03/c", "2025/d")
    assert listing(tmp_path).ignored == 9
    assert listing(tmp_path, NEXT).ignored == 10
    assert listing(tmp_path, BEFORE).ignored == 8
    assert names(listing(tmp_path)) == [log_name()]


def test_folders_that_only_look_like_dates_do_no_harm(tmp_path: Path) -> None:
    put(tmp_path, "2025/13/99/x", "2025/02/30/" + log_name(BEFORE), "0000/00/00/x", "2025/03/01/deeper/" + log_name())
    (tmp_path / "2025" / "03" / "02").touch()
    (tmp_path / log_name(NEXT)).mkdir()
    assert listing(tmp_path).objects == ()
    assert listing(tmp_path, NEXT).objects == ()
    assert LocalLogStore(tmp_path).days() == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    """`2025/03` was followed where it was a link, because only the last part of a date folder's path was looked at."""
    outside = tmp_path / "outside"
    put(outside, log_name(), "2025/03/01/" + log_name(), "03/01/" + log_name(), "01/" + log_name())
    root = tmp_path / "logs"
    put(root, "b/2025/04/01/x", "c/2025/03/02/x")
    (root / log_name(unique="FILE")).symlink_to(outside / log_name())
    (root / log_name(unique="DANGLING")).symlink_to("nowhere")
    (root / "folder").symlink_to(outside)
    (root / "2025").symlink_to(outside / "2025")
    (root / "b" / "2025" / "03").symlink_to(outside / "03")
    (root / "c" / "2025" / "03" / "01").symlink_to(outside / "01")
    put(root, f"d/2025/03/01/{log_name()}")
    (root / "d/2025/03/01" / log_name(unique="INNER")).symlink_to(outside / log_name())
    (root / "loop").symlink_to(root)
    found = listing(root)
    assert names(found) == [f"d/2025/03/01/{log_name()}"]
    assert found.ignored == 8  # the links: two files, three folders at the top, one a month, one a day, one a file
    assert LocalLogStore(root).days() == [DAY]


def test_a_root_that_is_a_link_is_the_user_s_wish(tmp_path: Path) -> None:
    put(tmp_path / "real", log_name())
    (tmp_path / "link").symlink_to("real")
    assert names(listing(tmp_path / "link")) == [log_name()]


def test_a_link_in_place_of_a_listed_file_is_not_opened(tmp_path: Path) -> None:
    put(tmp_path, log_name(), "secret")
    (item,) = listing(tmp_path).objects
    (tmp_path / log_name()).unlink()
    (tmp_path / log_name()).symlink_to(tmp_path / "secret")
    with pytest.raises(LogFileError, match="cannot be opened"):
        LocalLogStore(tmp_path).open(item)


def test_what_is_no_regular_file_is_ignored(tmp_path: Path) -> None:
    """Opening a named pipe would wait for a writer for ever."""
    os.mkfifo(tmp_path / log_name(unique="PIPE"))
    put(tmp_path, "2025/03/01/" + log_name())
    os.mkfifo(tmp_path / "2025/03/01" / log_name(unique="PIPE"))
    found = listing(tmp_path)
    assert names(found) == ["2025/03/01/" + log_name()]
    assert found.ignored == 2


ODD_FOLDERS = [
    "new\nline",
    'quo"te',
    "it's",
    "semi;colon",
    "$(touch gotcha)",
    "`touch gotcha`",
    "a=b",
    "-rf",
    " blank ",
    "back\\slash",
    "*",
    "%2e%2e",
    "日本語",
    "\x1b[31m",
    "tab\t",
    "x" * 255,
]


@pytest.mark.parametrize("folder", ODD_FOLDERS)
def test_odd_folder_names_are_names_like_any_other(tmp_path: Path, folder: str) -> None:
    put(tmp_path, f"{folder}/{log_name()}", f"{folder}/2025/03/01/{log_name()}", content=b"hello\n")
    store = LocalLogStore(tmp_path)
    found = listing(tmp_path)
    assert names(found) == sorted([f"{folder}/{log_name()}", f"{folder}/2025/03/01/{log_name()}"])
    for item in found.objects:
        reader = store.open(item)
        assert reader.read(100) == b"hello\n"
        reader.close()
    assert sorted(os.listdir(tmp_path)) == [folder]


def test_odd_file_names_are_ignored(tmp_path: Path) -> None:
    odd = [f"{log_name()}{end}" for end in ("\n", ";id", '"', "'", "$(id)", " ", "é", "=1", "\\")]
    put(tmp_path, log_name(), *odd)
    with open(os.fsencode(tmp_path / log_name()) + b"\xff", "xb"):
        pass
    found = listing(tmp_path)
    assert names(found) == [log_name()]
    assert found.ignored == len(odd) + 1


def test_a_folder_name_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    """No ledger can hold it; encoding it failed for all dates, deep in the extraction."""
    folder = os.fsencode(tmp_path) + b"/lat\xe9"
    os.mkdir(folder)
    with open(folder + b"/" + log_name().encode(), "xb"):
        pass
    found = listing(tmp_path)
    assert re.search(r"lat\\xe9.* is not UTF-8", str(found.error))
    assert found.objects == ()
    assert listing(tmp_path, NEXT).objects == ()


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    put(tmp_path, "file")
    for root in (tmp_path / "nowhere", tmp_path / "file"):
        store = LocalLogStore(root)
        with pytest.raises(SourceError, match=f"S3LOGX_LOGS: {root} is not a folder"):
            list(store.listings([DAY]))
        with pytest.raises(SourceError, match=f"S3LOGX_LOGS: {root} is not a folder"):
            store.days()


def test_a_folder_of_something_else_is_named(tmp_path: Path) -> None:
    put(tmp_path, "photo.jpg", "sub/photo-2.jpg", "access.log")
    for look in (lambda: list(LocalLogStore(tmp_path).listings([DAY])), lambda: LocalLogStore(tmp_path).days()):
        with pytest.raises(SourceError, match="holds 3 files and none is named like an access log"):
            look()


def test_an_empty_folder_is_a_source_without_logs_yet(tmp_path: Path) -> None:
    (tmp_path / "123456789012" / "us-east-2").mkdir(parents=True)
    assert listing(tmp_path) == Listing((), 0, 0)
    assert LocalLogStore(tmp_path).days() == []


def test_a_file_that_goes_while_it_is_listed_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole run ended with a FileNotFoundError."""
    put(tmp_path, log_name(unique="A"), log_name(unique="B"))
    describe = LocalLogStore._describe

    def describe_late(store: LocalLogStore, path: str) -> LogObject | None:
        if path.endswith("A"):
            os.unlink(path)
        return describe(store, path)

    monkeypatch.setattr(LocalLogStore, "_describe", describe_late)
    assert names(listing(tmp_path)) == [log_name(unique="B")]


@pytest.mark.parametrize("closed", ["", "2025", "sub"])
def test_a_folder_without_permission_is_named(closed: str) -> None:
    with processes.open_folder() as root:
        put(root, f"2025/03/01/{log_name()}", f"sub/{log_name()}")
        (root / closed).chmod(0)
        with pytest.raises(SourceError, match=f"S3LOGX_LOGS: cannot list {root}.*: Permission denied|is not a folder"):
            processes.as_nobody(processes.list_logs, root, [DAY])
        with pytest.raises(SourceError, match="S3LOGX_LOGS"):
            processes.as_nobody(processes.log_days, root)
        (root / closed).chmod(0o755)
        assert len(processes.as_nobody(processes.list_logs, root, [DAY])[0][1].objects) == 2


def test_a_date_folder_without_permission_fails_its_dates_and_no_other() -> None:
    """It ended the run of all dates."""
    with processes.open_folder() as root:
        far = DAY + timedelta(days=9)
        put(root, f"2025/03/01/{log_name()}", f"{far:%Y/%m/%d}/{log_name(far)}")
        (root / "2025/03/01").chmod(0)
        (_, closed), (_, other) = processes.as_nobody(processes.list_logs, root, [DAY, far])
        assert re.fullmatch(f"S3LOGX_LOGS: cannot list {root}.*/03/01: Permission denied", str(closed.error))
        assert closed.objects == ()
        assert names(other) == [f"{far:%Y/%m/%d}/{log_name(far)}"]
        assert other.error is None


@pytest.mark.parametrize("layout", ["2025/03/01", "sub"])
def test_a_file_that_cannot_be_looked_at_fails_its_date_and_no_other(layout: str) -> None:
    """A folder may be listed and not entered (0444): its first file ended the run of all dates as an "unexpected
    PermissionError" that named no file, at every run."""
    with processes.open_folder() as root:
        far = DAY + timedelta(days=9)
        put(root, f"{layout}/{log_name()}", f"{far:%Y/%m/%d}/{log_name(far)}")
        (root / layout).chmod(0o444)
        (_, closed), (_, other) = processes.as_nobody(processes.list_logs, root, [DAY, far])
        path = root / layout / log_name()
        assert str(closed.error) == f"S3LOGX_LOGS: cannot look at {path}: Permission denied"
        assert closed.objects == ()
        assert names(other) == [f"{far:%Y/%m/%d}/{log_name(far)}"]


def test_a_source_that_cannot_be_looked_at_is_named() -> None:
    with processes.open_folder() as folder:
        put(folder, f"closed/logs/{log_name()}")
        (folder / "closed").chmod(0)
        root = folder / "closed" / "logs"
        with pytest.raises(SourceError, match=f"S3LOGX_LOGS: cannot look at {root}: Permission denied"):
            processes.as_nobody(processes.list_logs, root, [DAY])
        with pytest.raises(SourceError, match=f"S3LOGX_LOGS: cannot look at {root}: Permission denied"):
            processes.as_nobody(processes.log_days, root)


class _Refusing:
    """An entry of a folder on a file system that tells no kinds with the names, and that lost the file meanwhile."""

    def __init__(self, entry: os.DirEntry[str]) -> None:
        self.name, self.path = entry.name, entry.path

    def is_dir(self, follow_symlinks: bool = True) -> bool:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), self.path)

    is_file = is_dir


@pytest.mark.parametrize("layout", ["2025/03/01/", ""])
def test_a_file_system_that_refuses_an_entry_s_kind_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """NFS: whoever lists has to ask for each file then, and a raw "Stale file handle" ended the run."""
    put(tmp_path, f"{layout}{log_name()}", f"2025/03/09/{log_name(DAY + timedelta(days=8))}")
    refused = str(tmp_path / layout / log_name())
    scandir = os.scandir

    @contextmanager
    def scanned(folder: Path) -> Iterator[Iterator[object]]:
        with scandir(folder) as entries:
            yield (_Refusing(entry) if entry.path == refused else entry for entry in entries)

    monkeypatch.setattr(os, "scandir", scanned)
    message = f"S3LOGX_LOGS: cannot look at {refused}: Stale file handle"
    if layout:
        (_, stale), (_, other) = LocalLogStore(tmp_path).listings([DAY, DAY + timedelta(days=8)])
        assert str(stale.error) == message
        assert len(other.objects) == 1
    else:
        with pytest.raises(SourceError, match=re.escape(message)):
            list(LocalLogStore(tmp_path).listings([DAY]))
    with pytest.raises(SourceError, match=re.escape(message)):
        LocalLogStore(tmp_path).days()


def test_a_file_that_cannot_be_looked_at_when_it_is_closed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server had lost it (ESTALE): a raw OSError ended the run of all dates, and the file stayed open."""
    put(tmp_path, log_name())
    (item,) = listing(tmp_path).objects
    reader = LocalLogStore(tmp_path).open(item)
    held = len(os.listdir("/proc/self/fd"))

    def stale(_: int) -> os.stat_result:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", stale)
        with pytest.raises(LogFileError, match=f"log file '{log_name()}' cannot be looked at: Stale file handle"):
            reader.close()
    assert len(os.listdir("/proc/self/fd")) == held - 1


def test_a_file_without_permission_is_listed_and_named_when_opened() -> None:
    with processes.open_folder() as root:
        put(root, log_name())
        (root / log_name()).chmod(0)
        ((_, found),) = processes.as_nobody(processes.list_logs, root, [DAY])
        with pytest.raises(LogFileError, match=f"log file '{log_name()}' cannot be opened: Permission denied"):
            processes.as_nobody(processes.open_log, root, found.objects[0])


def test_a_file_that_is_gone_is_named_when_opened(tmp_path: Path) -> None:
    put(tmp_path, log_name())
    (item,) = listing(tmp_path).objects
    (tmp_path / log_name()).unlink()
    with pytest.raises(LogFileError, match="cannot be opened: No such file"):
        LocalLogStore(tmp_path).open(item)


def test_a_folder_in_place_of_a_file_is_named_when_read(tmp_path: Path) -> None:
    put(tmp_path, log_name())
    (item,) = listing(tmp_path).objects
    (tmp_path / log_name()).unlink()
    (tmp_path / log_name()).mkdir()
    reader = LocalLogStore(tmp_path).open(item)
    with pytest.raises(LogFileError, match="cannot be read: Is a directory"):
        reader.read(1)
    with pytest.raises(LogFileError, match="changed"):
        reader.close()


def _append(path: Path) -> None:
    with open(path, "ab") as stream:
        stream.write(b"more\n")


CHANGES: dict[str, Callable[[Path], None]] = {
    "longer": _append,
    "shorter": lambda path: os.truncate(path, 3),
    "touched": lambda path: os.utime(path, ns=(0, path.stat().st_mtime_ns + 1)),
    "older": lambda path: os.utime(path, ns=(0, 1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("when", ["before it is opened", "while it is read", "after the last byte"])
def test_a_file_that_changed_is_named_when_closed(tmp_path: Path, change: Callable[[Path], None], when: str) -> None:
    put(tmp_path, log_name(), content=b"0123456789" * 10)
    (item,) = listing(tmp_path).objects
    if when == "before it is opened":
        change(tmp_path / log_name())
    reader = LocalLogStore(tmp_path).open(item)
    reader.read(1 if when == "while it is read" else 1000)
    if when != "before it is opened":
        change(tmp_path / log_name())
    with pytest.raises(LogFileError, match=f"log file '{log_name()}' changed while it was read"):
        reader.close()


def test_a_file_replaced_by_another_is_read_as_it_was(tmp_path: Path) -> None:
    put(tmp_path, log_name(), content=b"old\n")
    (item,) = listing(tmp_path).objects
    reader = LocalLogStore(tmp_path).open(item)
    put(tmp_path, "new", content=b"new content\n")
    (tmp_path / "new").rename(tmp_path / log_name())
    assert reader.read(100) == b"old\n"
    reader.close()


def test_a_store_shows_where_it_is(tmp_path: Path) -> None:
    assert repr(LocalLogStore(tmp_path)) == f"LocalLogStore({str(tmp_path)!r})"
