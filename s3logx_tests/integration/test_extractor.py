"""The engine over folders: every record accounted for, every trouble named, nothing left running."""

import gzip
import os
import random
import resource
import signal
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from s3logx_assets.adapters import duplicates, extractor, gawk, log_contents, row_runs
from s3logx_assets.adapters.extractor import ExtractedDate, Extractor, FailedDate
from s3logx_assets.adapters.log_store import Listing, LocalLogReader, LocalLogStore, LogReader
from s3logx_assets.core import extraction
from s3logx_assets.core.addresses import exclusion, pack
from s3logx_assets.core.digests import table_digest
from s3logx_assets.core.errors import (
    LogFileError,
    S3logxError,
    SettingsError,
    ShrinkError,
    SourceError,
    StoreError,
    TransientError,
)
from s3logx_assets.core.ledger import LogObject
from s3logx_assets.core.log_lines import MAX_RECORD_BYTES
from s3logx_tests import log_folders, processes
from s3logx_tests.hard_lines import EXCLUDED_SETTING, generate
from s3logx_tests.log_folders import (
    DAY,
    SCRATCH,
    SEALER,
    assert_as_worked_out,
    extract,
    extract_day,
    failure_of_day,
    honest_lines,
    joined,
    ledger_of,
    log_name,
    rows_of,
    table_of,
    write,
)

DAYS = [DAY + timedelta(days=number) for number in range(30)]


def running_gawks(parent: int | None = None) -> list[int]:
    """The process IDs of this process's (or `parent`'s) gawk children that are not dead."""
    found = []
    for entry in os.listdir("/proc"):
        with suppress(OSError, ValueError):
            name, _, rest = Path(f"/proc/{int(entry)}/stat").read_text().partition("(")[2].rpartition(")")
            state, ppid = rest.split()[:2]
            if name in ("gawk", "stdbuf") and int(ppid) == (parent or os.getpid()) and state != "Z":
                found.append(int(entry))
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    threads = threading.active_count()
    descriptors = len(os.listdir("/proc/self/fd"))
    yield
    assert running_gawks() == []
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2, "open files are left"  # two of other processes' pipes


# --------------------------------------------------------------------------- conservation


def hard_files(seed: int, count: int, day: date = DAY) -> dict[str, bytes]:
    """Hard lines over `count` files, some of them gzip."""
    files: dict[str, list[bytes]] = {log_name(number, day): [] for number in range(count)}
    rng = random.Random(seed)
    for line in generate(seed, 1, 0):
        files[rng.choice(sorted(files))].append(line.record)
    return {
        name: gzip.compress(joined(records)) if number % 3 == 1 else joined(records)
        for number, (name, records) in enumerate(files.items())
    }


@pytest.mark.parametrize("workers", [1, 3])
def test_every_record_of_every_file_and_date_is_accounted_for(tmp_path: Path, workers: int) -> None:
    is_excluded = exclusion(EXCLUDED_SETTING)
    by_day = {day: hard_files(number, 5, day) for number, day in enumerate(DAYS[:3])}
    for files in by_day.values():
        write(tmp_path, files)
    outcomes = extract(tmp_path, DAYS[:3], workers, is_excluded)
    for day, files in by_day.items():
        assert_as_worked_out(outcomes[day], files, is_excluded)
        outcome = outcomes[day]
        assert isinstance(outcome, ExtractedDate)
        assert any(counts.get("skipped_excluded") for counts in ledger_of(outcome.ledger).values())


@pytest.mark.parametrize("seed", range(3))
def test_the_same_in_small_pieces(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches, chunks and reports of a few lines each: every border falls somewhere."""
    rng = random.Random(seed)
    monkeypatch.setattr(extractor, "_BATCH_BYTES", rng.choice([1, 3000, 50_000]))
    monkeypatch.setattr(extractor, "_BATCH_FILES", rng.choice([1, 2, 7]))
    monkeypatch.setattr(log_contents, "CHUNK", rng.choice([101, 1000, 30_000]))
    by_day = {day: hard_files(seed * 10 + number, 8, day) for number, day in enumerate(DAYS[:2])}
    repeated = honest_lines(seed, 3)
    for day, files in by_day.items():
        files[log_name(90, day)] = joined(repeated * 2)
        files[log_name(91, day)] = joined(repeated[::-1])
        files[log_name(92, day)] = b""
        write(tmp_path, files)
    outcomes = extract(tmp_path, DAYS[:2], workers=rng.choice([1, 2, 4]))
    for day, files in by_day.items():
        assert_as_worked_out(outcomes[day], files)


@pytest.mark.parametrize("seed", range(6))
def test_a_date_larger_than_memory(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that wait on disk in many sorted runs of small pieces come out as if all had been sorted at once, the duplicate
    ones among them gone; and as often as they are asked for."""
    by_day = {day: hard_files(seed * 10 + number, 8, day) for number, day in enumerate(DAYS[:2])}
    repeated = honest_lines(seed, 40)
    for day, files in by_day.items():
        files[log_name(90, day)] = joined(repeated)
        files[log_name(91, day)] = joined(repeated[::-1] + honest_lines(f"{seed} more", 30))
        files[log_name(92, day)] = joined(repeated)  # the same file again
        files[log_name(93, day)] = joined(repeated[10:] * 3)
        write(tmp_path / "logs", files)

    def is_excluded(text: str) -> bool:
        return text.endswith("7")

    at_once = extract(tmp_path / "logs", DAYS[:2], 2, is_excluded)
    rng = random.Random(seed)
    monkeypatch.setattr(extractor, "_BATCH_BYTES", 3000)
    monkeypatch.setattr(row_runs, "_KEPT", rng.choice([1, 10, 60]))
    monkeypatch.setattr(row_runs, "_PIECE", rng.choice([1, 3, 20]))
    monkeypatch.setattr(row_runs, "_MERGED", rng.choice([1, 50, 100]))
    monkeypatch.setattr(duplicates, "_AT_ONCE", rng.choice([1, 7, 1000]))
    by_part = extract(tmp_path / "logs", DAYS[:2], 2, is_excluded)
    for day, files in by_day.items():
        assert_as_worked_out(by_part[day], files, is_excluded)
        assert table_digest(table_of(by_part[day])) == table_digest(table_of(at_once[day]))
    for outcome in Extractor(LocalLogStore(tmp_path / "logs"), SEALER.seal, 2, SCRATCH).extract(DAYS[:2]):
        assert isinstance(outcome, ExtractedDate)
        assert [table.to_pylist() for table in outcome.tables] == [table.to_pylist() for table in outcome.tables]


@pytest.mark.parametrize("seed", range(3))
def test_tables_come_in_groups(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their borders, and with them the data version, depend on the rows alone: not on what was in memory at once."""
    files = {log_name(number): joined(honest_lines(number, 33)) for number in range(7)}
    write(tmp_path, files)
    monkeypatch.setattr(extraction, "GROUP", 50)
    found = []
    for kept in (1 << 20, 20):
        monkeypatch.setattr(row_runs, "_KEPT", kept)
        monkeypatch.setattr(row_runs, "_PIECE", 7 + seed)
        tables = list(extract_day(tmp_path).tables)
        assert [table.num_rows for table in tables] == [50, 50, 50, 50, 31]
        found.append([table_digest(table) for table in tables])
    assert found[0] == found[1]


def test_a_disk_that_does_not_take_the_rows_of_a_large_date_fails_that_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day, count in ((DAYS[0], 300), (DAYS[1], 30)):
        write(tmp_path / "logs", {log_name(1, day): joined(honest_lines(1, count))})
    monkeypatch.setattr(row_runs, "_KEPT", 100)
    (tmp_path / "scratch").write_text("no folder")
    engine = Extractor(LocalLogStore(tmp_path / "logs"), SEALER.seal, 1, tmp_path / "scratch")
    large, small = engine.extract(DAYS[:2])
    assert isinstance(large, FailedDate)
    assert "cannot hold the rows of a large date: File exists" in str(large.error) or "Not a directory" in str(
        large.error
    )
    assert isinstance(small, ExtractedDate)
    assert small.row_count == 30


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes: it takes what fits, and then nothing, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [1, 5000, 20_000])
def test_a_disk_that_gets_full_in_the_middle_fails_that_date(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the file still had in its buffer was written once more as it was closed, and that error ended the run."""
    for day, count in ((DAYS[0], 3000), (DAYS[1], 30)):
        write(tmp_path / "logs", {log_name(1, day): joined(honest_lines(1, count))})
    monkeypatch.setattr(extractor, "_BATCH_BYTES", 50_000)
    monkeypatch.setattr(row_runs, "_KEPT", 50)
    monkeypatch.setattr(row_runs, "_PIECE", 7)
    engine = Extractor(LocalLogStore(tmp_path / "logs"), SEALER.seal, 1, tmp_path / "scratch")
    with files_end_at(size):
        large, small = engine.extract(DAYS[:2])
    assert isinstance(large, FailedDate)
    assert isinstance(large.error, StoreError)
    assert str(large.error).endswith("cannot hold the rows of a large date: File too large")
    assert isinstance(small, ExtractedDate)
    assert small.row_count == 30


def test_a_date_larger_than_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractor, "_BATCH_BYTES", 1 << 20)
    lines = honest_lines(1, 1000)
    rng = random.Random(2)
    files = {log_name(number): joined(rng.choices(lines, k=3000)) for number in range(3)}
    assert sum(map(len, files.values())) > 3 << 20
    write(tmp_path, files)
    assert_as_worked_out(extract_day(tmp_path, workers=2), files)


# --------------------------------------------------------------------------- what files look like


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\n\n\n",
        b" \t\r\n",
        b"no newline",
        joined(honest_lines(1, 3)),
        joined(honest_lines(1, 3))[:-1],
        joined(honest_lines(1, 3), b"\r\n"),
        joined(honest_lines(1, 3), b"\r\n")[:-1],
        joined(honest_lines(1, 3), b"\n\n"),
        joined(honest_lines(1, 1)) * 2,
        b"\x00" * 5000,
        b"\xff\xfe" + joined(honest_lines(1, 1)),
    ],
    ids=[
        *("empty", "a newline", "newlines", "blanks", "a word", "lines", "no final newline", "CRLF"),
        *("CRLF but the last", "empty lines between", "twice the same", "nuls", "byte order mark"),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_file_is_read_as_it_is(tmp_path: Path, content: bytes, packed: bool) -> None:
    stored = gzip.compress(content) if packed else content
    files = {log_name(1): stored, log_name(2): joined(honest_lines(2, 2))}
    assert_as_worked_out(extract_day(write(tmp_path, files)), files)


def test_files_without_a_final_newline_do_not_run_into_one_another(tmp_path: Path) -> None:
    files = {log_name(number): line for number, line in enumerate(honest_lines(1, 50))}
    outcome = extract_day(write(tmp_path, files))
    assert_as_worked_out(outcome, files)
    assert outcome.row_count == 50


def test_gzip_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    one, two, three, four = (honest_lines(number, 4) for number in range(4))
    files = {
        log_name(1): gzip.compress(joined(one)),
        log_name(2) + ".gz": joined(two),
        log_name(3) + ".gz": gzip.compress(joined(three)),
        log_name(4): gzip.compress(gzip.compress(joined(four))),
    }
    outcome = extract_day(write(tmp_path, files))
    assert_as_worked_out(outcome, files)
    assert outcome.row_count == 12


def test_gzip_of_many_members_is_one_file(tmp_path: Path) -> None:
    content = joined(honest_lines(1, 40))
    cuts = [0, 10, 10, 500, 501, len(content) // 2, len(content)]
    members = [gzip.compress(content[start:end]) for start, end in pairwise(cuts)]
    files = {log_name(1): b"".join(members), log_name(2): gzip.compress(b"") * 3, log_name(3): content}
    outcome = extract_day(write(tmp_path, files))
    assert outcome.row_count == 40
    assert ledger_of(outcome.ledger) == {
        log_name(1): {"records": 40, "extracted": 40},
        log_name(2): {},
        log_name(3): {"records": 40, "duplicate": 40},
    }


@pytest.mark.parametrize("excess", [-1, 0, 1])
@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_gzip_that_unpacks_to_much_more(
    tmp_path: Path, blocks: int, excess: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kilobytes for many: what is unpacked leaves in blocks, and none may be lost at their borders."""
    monkeypatch.setattr(log_contents, "CHUNK", 1 << 16)
    line = honest_lines(1, 1)[0]
    size = blocks * log_contents.CHUNK + excess
    content = (joined([line]) * (size // len(line) + 1))[: size - 1] + b"\n"
    files = {log_name(1): gzip.compress(content, 9)}
    assert len(files[log_name(1)]) < len(content) // 50
    assert_as_worked_out(extract_day(write(tmp_path, files)), files)


GOOD = gzip.compress(joined(honest_lines(1, 200)))
DAMAGED = {
    "cut in half": GOOD[: len(GOOD) // 2],
    "cut by a byte": GOOD[:-1],
    "only the start": GOOD[:2],
    "only the header": GOOD[:10],
    "a byte changed": GOOD[: len(GOOD) // 2] + bytes([GOOD[len(GOOD) // 2] ^ 0x55]) + GOOD[len(GOOD) // 2 + 1 :],
    "checksum changed": GOOD[:-8] + b"\0\0\0\0" + GOOD[-4:],
    "length changed": GOOD[:-4] + b"\0\0\0\0",
    "text behind it": GOOD + b"more\n",
    "second member cut": GOOD + GOOD[:-5],
    "no gzip method": GOOD[:2] + b"\x07" + GOOD[3:],
    "zlib in gzip clothes": b"\x1f\x8b" + zlib.compress(b"x"),
}


@pytest.mark.parametrize("stored", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_gzip_file_fails_its_date_and_is_named(tmp_path: Path, stored: bytes) -> None:
    write(tmp_path, {log_name(1): joined(honest_lines(2, 3)), log_name(2): stored, log_name(1, DAYS[1]): GOOD})
    outcomes = extract(tmp_path, DAYS[:2])
    failed = outcomes[DAY]
    assert isinstance(failed, FailedDate)
    assert isinstance(failed.error, LogFileError)
    assert log_name(2) in str(failed.error)
    assert "gzip" in str(failed.error)
    assert_as_worked_out(outcomes[DAYS[1]], {log_name(1, DAYS[1]): GOOD})


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_record_over_16_mib_is_rejected_alone(tmp_path: Path, packed: bool) -> None:
    one, two = honest_lines(1, 2)
    long = b"x" * (MAX_RECORD_BYTES + 1)
    blank = b" " * (MAX_RECORD_BYTES + 1)
    content = b"\n".join([one, long, blank, two])
    files = {log_name(1): gzip.compress(content, 1) if packed else content, log_name(2): long}
    outcome = extract_day(write(tmp_path, files))
    assert ledger_of(outcome.ledger) == {
        log_name(1): {"records": 4, "extracted": 2, "skipped_blank": 1, "rejected_too_long": 1},
        log_name(2): {"records": 1, "rejected_too_long": 1},
    }
    assert outcome.rejected == ((log_name(1), 2, "too_long"), (log_name(2), 1, "too_long"))


def test_rejected_records_are_named_by_file_and_number_never_by_text(tmp_path: Path) -> None:
    honest = honest_lines(1, 2)
    bad = b"203.0.113.77 is no log line"
    files = {
        log_name(1): joined([honest[0], bad, b"", bad]),
        log_name(2): joined([bad] * 30),
        log_name(3): joined([honest[1].replace(b"REST.GET.OBJECT ", b'REST.GET.OBJECT "'), honest[1]]),
    }
    outcome = extract_day(write(tmp_path, files))
    assert_as_worked_out(outcome, files)
    assert outcome.rejected[:3] == ((log_name(1), 2, "head"), (log_name(1), 4, "head"), (log_name(2), 1, "head"))
    assert len(outcome.rejected) == 20
    assert "203.0.113.77" not in repr(outcome)


def test_a_copy_s_rejected_records_are_not_named_again(tmp_path: Path) -> None:
    files = dict.fromkeys((log_name(1), log_name(2)), b"bad\nworse\n")
    outcome = extract_day(write(tmp_path, files))
    assert_as_worked_out(outcome, files)
    assert outcome.rejected == ((log_name(1), 1, "head"), (log_name(1), 2, "head"))


def test_a_changed_format_keeps_few_rejected_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 20 of each file were kept until the date was through, millions where each of its files had some."""
    kept: list[int] = []
    genuine = extractor._Date.reject

    def counting(entry: extractor._Date, item: tuple[int, int, str]) -> None:
        genuine(entry, item)
        kept.append(len(entry.rejected))

    monkeypatch.setattr(extractor, "_REJECTS_KEPT", 50)
    monkeypatch.setattr(extractor, "_BATCH_FILES", 3)
    monkeypatch.setattr(extractor._Date, "reject", counting)
    files = {log_name(number): b"bad %d\n" % number * 5 for number in range(2, 60)}
    files |= {log_name(1): b"bad\n" * 5, log_name(3): files[log_name(2)]}
    outcome = extract_day(write(tmp_path, files), workers=3)
    assert (len(kept), max(kept)) == (59 * 5, 100)
    first = [log_name(number) for number in (1, 2, 4, 5)]
    assert outcome.rejected == tuple((name, record, "head") for name in first for record in range(1, 6))


# --------------------------------------------------------------------------- duplicates


A, B, C, D = honest_lines("duplicates", 4)
OTHER_AGENT = A.replace(b" HTTP/1.1", b" HTTP/1.0").replace(b" HTTP/2", b" HTTP/1.0") + b"-"
DUPLICATES: dict[str, tuple[list[bytes], int]] = {
    "in one file": ([joined([A, B, A])], 2),
    "in two files": ([joined([A, B]), joined([B, C])], 3),
    "many times": ([joined([A] * 9), joined([B, A] * 3), joined([A])], 2),
    "whole file": ([joined([A, B, b"bad", b""]), joined([A, B, b"bad", b""])], 2),
    "whole file three times": ([joined([A, b"bad"])] * 3, 1),
    "whole file that repeats itself": ([joined([A, A, b"bad"])] * 2, 1),
    "reordered file": ([joined([A, B, C, b"bad"]), joined([C, b"bad", A, B])], 3),
    "longer file": ([joined([A, B]), joined([A, B, C])], 3),
    "file with CRLF": ([joined([A, B]), joined([A, B], b"\r\n")], 2),
    "CR on one of two": ([joined([A, A + b"\r"]), A + b"\r"], 1),
    "file without final newline": ([joined([A, B]), joined([A, B])[:-1]], 2),
    "file packed": ([joined([A, B]), gzip.compress(joined([A, B]))], 2),
    "packed alike": ([gzip.compress(joined([A, B]), mtime=1)] * 2, 2),
    "empty files": ([b"", b"", joined([A])], 1),
    "files of the same blanks": ([b"\n\n", b"\n\n"], 0),
    "one request, two records": ([joined([A, A.replace(b" - ", b" - ", 1), OTHER_AGENT])], 2),
    "same columns, other bytes behind": ([joined([A, A + b"x", A + b"y", A + b"x"])], 3),
    "other key": ([joined([A, A.replace(b"OBJECT ", b"OBJECT x")])], 2),
    "an extracted record and its failed twin": ([joined([A, A + b" ", A, A + b" "])], 1),
    "same start, same length, other end": ([joined([*[A] * 30, B, C]), joined([*[A] * 30, C, B])], 3),
    "all but the last byte": ([joined([B] * 50 + [A + b"x"]), joined([B] * 50 + [A + b"y"])], 3),
}


@pytest.mark.parametrize(("contents", "distinct"), DUPLICATES.values(), ids=DUPLICATES.keys())
@pytest.mark.parametrize("workers", [1, 2])
def test_a_record_counts_once(tmp_path: Path, contents: list[bytes], distinct: int, workers: int) -> None:
    files = {log_name(number): content for number, content in enumerate(contents)}
    outcome = extract_day(write(tmp_path, files), workers=workers)
    assert_as_worked_out(outcome, files)
    assert outcome.row_count == distinct


def test_request_ids_of_other_lengths_hide_no_duplicate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash that finds likely duplicates took another way where one ID of a report was not of the usual length, so
    a record and its copy in the next report were not held against each other."""
    monkeypatch.setattr(extractor, "_BATCH_FILES", 1)
    odd = honest_lines(1, 1, request_id=b"SHORT")[0]
    files = {
        log_name(1): joined([A]),
        log_name(2): joined([A, odd]),
        log_name(3): joined([odd, B]),
        log_name(4): joined([B, C]),
    }
    outcome = extract_day(write(tmp_path, files))
    assert_as_worked_out(outcome, files)
    assert outcome.row_count == 4


def test_copies_in_other_folders_and_under_other_names_count_once(tmp_path: Path) -> None:
    content = joined([A, B])
    files = {
        "2025/03/01/" + log_name(1): content,
        "2025/03/02/" + log_name(1): content,
        "copy/" + log_name(1): content,
        log_name(7) + ".gz": content,
    }
    outcome = extract_day(write(tmp_path, files))
    assert_as_worked_out(outcome, files)
    assert outcome.listing.strays == 1


def test_the_same_record_under_two_dates_counts_under_both(tmp_path: Path) -> None:
    write(tmp_path, {log_name(1): joined([A]), log_name(1, DAYS[1]): joined([A])})
    for outcome in extract(tmp_path, DAYS[:2]).values():
        assert isinstance(outcome, ExtractedDate)
        assert outcome.row_count == 1


def test_an_excluded_record_is_excluded_however_often_it_is_there(tmp_path: Path) -> None:
    own = honest_lines(1, 2, ip=b"198.51.100.7")
    files = {log_name(1): joined([own[0], A, own[0]]), log_name(2): joined([own[0], A, own[1]])}
    is_excluded = exclusion("198.51.100.0/24")
    outcome = extract_day(write(tmp_path, files), is_excluded=is_excluded)
    assert_as_worked_out(outcome, files, is_excluded)
    assert ledger_of(outcome.ledger)[log_name(1)] == {"records": 3, "extracted": 1, "skipped_excluded": 2}


def test_many_random_repetitions(tmp_path: Path) -> None:
    rng = random.Random(5)
    lines = honest_lines(5, 30)
    lines += [line + b"-" for line in lines[:10]] + [b"", b"bad"]
    contents = [joined(rng.choices(lines, k=rng.randrange(12))) for _ in range(40)]
    files = {log_name(number): rng.choice(contents) for number in range(60)}
    outcome = extract_day(write(tmp_path, files), workers=3)
    assert_as_worked_out(outcome, files)
    assert outcome.row_count <= 40


# --------------------------------------------------------------------------- excluded addresses


ADDRESSES = ["198.51.100.7", "198.51.101.7", "2001:db8:ffff::1", "2001:db8:fffe::1", "::ffff:198.51.100.9", "-"]


@pytest.mark.parametrize(
    ("setting", "kept"),
    [
        ("198.51.100.0/24", ["198.51.101.7", "2001:db8:ffff::1", "2001:db8:fffe::1", "-"]),
        (EXCLUDED_SETTING, ["198.51.101.7", "2001:db8:fffe::1", "-"]),
        ("re:^198[.]51[.]", ["2001:db8:ffff::1", "2001:db8:fffe::1", "::ffff:198.51.100.9", "-"]),
        ("re:.", ["-"]),
    ],
)
def test_the_archive_s_own_traffic_is_left_out(tmp_path: Path, setting: str, kept: list[str]) -> None:
    lines = [
        *(honest_lines(text, 3, ip=text.encode())[number] for number in range(3) for text in ADDRESSES),
        *honest_lines(9, 2, ip=b"198.51.100.7", status=b"404"),
    ]
    files = {log_name(1): joined(lines[:10]), log_name(2): joined(lines[10:])}
    is_excluded = exclusion(setting)
    outcome = extract_day(write(tmp_path, files), is_excluded=is_excluded)
    packed = {None if text == "-" else pack(text) for text in kept}
    assert {row[5] for row in rows_of(table_of(outcome))} == packed
    assert outcome.row_count == 3 * len(kept)
    sums = {name: sum(counts.get(name, 0) for counts in ledger_of(outcome.ledger).values()) for name in COUNTED}
    assert sums == {"skipped_excluded": 3 * (len(ADDRESSES) - len(kept)), "skipped_status": 2}


COUNTED = ("skipped_excluded", "skipped_status")


# --------------------------------------------------------------------------- files that cannot be read whole


class Meddler(LocalLogStore):
    """A folder in which something happens to a file when it is opened, or when its first bytes have been read."""

    def __init__(self, root: Path, name: str, when: str, what: Callable[[Path], None], at_opening: int = 1) -> None:
        super().__init__(root)
        self.name, self.when, self.what, self.at_opening = name, when, what, at_opening
        self.openings = 0

    def open(self, item: LogObject) -> LocalLogReader:
        if item.name != self.name:
            return super().open(item)
        self.openings += 1
        meddles = self.openings == self.at_opening
        if meddles and self.when == "before":
            self.what(self.root / item.name)
        return MeddledReader(self.root, item, self.what if meddles and self.when == "reading" else lambda path: None)


class MeddledReader(LocalLogReader):
    """Reads at most 1000 bytes at once, so that there is something left to read after the meddling."""

    def __init__(self, root: Path, item: LogObject, what: Callable[[Path], None]) -> None:
        super().__init__(root, item)
        self.path, self.what = root / item.name, what

    def read(self, size: int) -> bytes:
        received = super().read(min(size, 1000))
        what, self.what = self.what, lambda path: None
        what(self.path)
        return received


def append(path: Path) -> None:
    with open(path, "ab") as stream:
        stream.write(B + b"\n")


def reverse(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


CHANGES: dict[str, Callable[[Path], None]] = {
    "longer": append,
    "shorter": lambda path: os.truncate(path, 1500),
    "empty": lambda path: os.truncate(path, 0),
    "touched": lambda path: os.utime(path, ns=(0, path.stat().st_mtime_ns + 1)),
    "other bytes": reverse,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("when", ["before", "reading"])
def test_a_file_that_changes_fails_its_date_and_is_named(
    tmp_path: Path, change: Callable[[Path], None], when: str
) -> None:
    write(
        tmp_path,
        {log_name(number, day): joined(honest_lines(f"{number}{day}", 9)) for number in range(3) for day in DAYS[:2]},
    )
    time.sleep(0.01)  # a file system's clock ticks slowly
    outcomes = extract(Meddler(tmp_path, log_name(1), when, change), DAYS[:2])
    failed, good = outcomes[DAY], outcomes[DAYS[1]]
    assert isinstance(failed, FailedDate)
    assert isinstance(failed.error, LogFileError)
    assert str(failed.error) == f"log file {log_name(1)!r} changed while it was read"
    assert isinstance(good, ExtractedDate)
    assert good.row_count == 27


@pytest.mark.parametrize("copy", [joined([A, B] * 9), joined([B, A])], ids=["whole copy", "some lines"])
def test_a_file_that_changes_between_two_readings_fails_its_date(tmp_path: Path, copy: bytes) -> None:
    """Duplicates are told by a second look at the files."""
    write(tmp_path, {log_name(1): joined([A, B] * 9), log_name(2): copy})
    time.sleep(0.01)
    error = failure_of_day(Meddler(tmp_path, log_name(2), "before", append, at_opening=2))
    assert isinstance(error, LogFileError)
    assert log_name(2) in str(error)


@pytest.mark.parametrize("at_opening", [1, 2])
def test_a_file_that_vanishes_fails_its_date_and_is_named(tmp_path: Path, at_opening: int) -> None:
    write(tmp_path, {log_name(1): joined([A]), log_name(2): joined([A])})
    error = failure_of_day(Meddler(tmp_path, log_name(2), "before", lambda path: path.unlink(), at_opening))
    assert isinstance(error, LogFileError)
    assert str(error) == f"log file {log_name(2)!r} cannot be opened: No such file or directory"


def test_a_file_without_read_permission_fails_its_date_and_is_named() -> None:
    with processes.open_folder() as root:
        write(root, {log_name(1): joined([A]), log_name(2): joined([B]), log_name(1, DAYS[1]): joined([C])})
        (root / log_name(2)).chmod(0)
        outcomes = processes.as_nobody(extract, root, DAYS[:2])
    failed, good = outcomes[DAY], outcomes[DAYS[1]]
    assert isinstance(failed, FailedDate)
    assert str(failed.error) == f"log file {log_name(2)!r} cannot be opened: Permission denied"
    assert isinstance(good, ExtractedDate)
    assert good.row_count == 1


def test_a_file_that_cannot_be_read_on_fails_its_date(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise LogFileError(f"log file {path.name!r} cannot be read: Input/output error")

    write(tmp_path, {log_name(1): joined(honest_lines(1, 9)), log_name(2): joined([B])})
    assert "Input/output error" in str(failure_of_day(Meddler(tmp_path, log_name(1), "reading", fail)))


def test_no_error_quotes_a_record_or_an_address(tmp_path: Path) -> None:
    line = honest_lines(1, 1, ip=b"203.0.113.77", key=b"secret-key")[0]
    write(tmp_path, {log_name(1): gzip.compress(joined([line] * 50))[:-9], log_name(2): joined([line])})
    error = failure_of_day(tmp_path)
    texts = [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
    assert not [text for text in texts if "203.0.113" in text or "secret-key" in text]


def test_a_source_that_is_none_is_an_error_of_the_whole_run(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not a folder"):
        extract(tmp_path / "nowhere")
    write(tmp_path, {"photo.jpg": b"x"})
    with pytest.raises(SourceError, match="none is named like an access log"):
        extract(tmp_path)


# --------------------------------------------------------------------------- many dates


def test_300_dates_of_two_files(tmp_path: Path) -> None:
    days = [DAY + timedelta(days=number) for number in range(300)]
    by_day = {
        day: {
            f"{day:%Y/%m/%d}/{log_name(number, day)}": joined(honest_lines(f"{day}{number}", 3)) for number in range(2)
        }
        for day in days
    }
    for files in by_day.values():
        write(tmp_path, files)
    outcomes = extract(tmp_path, days, workers=2)
    assert list(outcomes) == days
    for day in days[::20]:
        assert_as_worked_out(outcomes[day], by_day[day])
    assert sum(item.row_count for item in outcomes.values() if isinstance(item, ExtractedDate)) == 1800


def test_a_date_without_files_is_an_empty_table(tmp_path: Path) -> None:
    write(tmp_path, {log_name(1): joined([A])})
    outcomes = extract(tmp_path, [DAYS[3], DAY, DAYS[5]])
    assert_as_worked_out(outcomes[DAYS[3]], {})
    assert_as_worked_out(outcomes[DAYS[5]], {})
    assert_as_worked_out(outcomes[DAY], {log_name(1): joined([A])})


@pytest.mark.parametrize("bad", [0, 11, 29])
@pytest.mark.parametrize("workers", [1, 3])
def test_one_bad_file_stops_its_date_alone(tmp_path: Path, bad: int, workers: int) -> None:
    by_day = {
        day: {log_name(number, day): joined(honest_lines(f"{day}{number}", 2)) for number in range(4)} for day in DAYS
    }
    by_day[DAYS[bad]][log_name(1, DAYS[bad])] = GOOD[:-3]
    for files in by_day.values():
        write(tmp_path, files)
    outcomes = extract(tmp_path, DAYS, workers)
    failed = outcomes.pop(DAYS[bad])
    assert isinstance(failed, FailedDate)
    for day, outcome in outcomes.items():
        assert_as_worked_out(outcome, by_day[day])


def test_a_date_that_cannot_be_listed_fails_alone(tmp_path: Path) -> None:
    """It ended the run of all dates."""
    write(tmp_path, {log_name(1, day): joined(honest_lines(day.day, 2)) for day in DAYS[:3]})

    class Closed(LocalLogStore):
        def listings(self, days: Sequence[date]) -> Iterator[tuple[date, Listing]]:
            for day, listing in super().listings(days):
                yield day, Listing((), error=SourceError("closed")) if day == DAYS[1] else listing

    refused: list[date] = []
    outcomes = Extractor(Closed(tmp_path), SEALER.seal, 2, SCRATCH).extract(
        DAYS[:3], lambda day, _: refused.append(day)
    )
    found = {outcome.day: outcome for outcome in outcomes}
    assert isinstance(found[DAYS[0]], ExtractedDate)
    assert isinstance(found[DAYS[2]], ExtractedDate)
    failed = found[DAYS[1]]
    assert isinstance(failed, FailedDate)
    assert str(failed.error) == "closed"
    assert refused == [DAYS[0], DAYS[2]], "an empty listing must not be taken for logs that are gone"


def test_a_date_is_listed_when_its_turn_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All dates of a backfill were listed before the first byte was read: 25 GB of memory for years of small files."""
    monkeypatch.setattr(extractor, "FILES_AT_ONCE", 7)
    by_day = {
        day: {log_name(number, day): joined(honest_lines(f"{day}{number}", 2)) for number in range(3)} for day in DAYS
    }
    for files in by_day.values():
        write(tmp_path, files)
    listed = 0

    class Counted(LocalLogStore):
        def listings(self, days: Sequence[date]) -> Iterator[tuple[date, Listing]]:
            nonlocal listed
            for each in super().listings(days):
                listed += 1
                yield each

    seen = []
    for outcome in Extractor(Counted(tmp_path), SEALER.seal, 2, SCRATCH).extract(DAYS):
        seen.append(listed)
        assert_as_worked_out(outcome, by_day[outcome.day])
    assert seen == [number // 3 * 3 + 3 for number in range(len(DAYS))], "three dates of three files at a time"


def test_a_source_that_is_lost_on_the_way_ends_the_run_behind_the_dates_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extractor, "FILES_AT_ONCE", 1)
    write(tmp_path, {log_name(1, day): joined(honest_lines(day.day, 2)) for day in DAYS[:3]})

    class Lost(LocalLogStore):
        def listings(self, days: Sequence[date]) -> Iterator[tuple[date, Listing]]:
            for day, listing in super().listings(days):
                if day == DAYS[2]:
                    raise SourceError("gone")
                yield day, listing

    found: list[date] = []
    with pytest.raises(SourceError, match="gone"):
        found.extend(outcome.day for outcome in Extractor(Lost(tmp_path), SEALER.seal, 1, SCRATCH).extract(DAYS[:3]))
    assert found == DAYS[:2]


def test_refused_dates_are_not_read(tmp_path: Path) -> None:
    write(tmp_path, {log_name(1, day): joined(honest_lines(day.day, 2)) for day in DAYS[:5]})
    refused = {DAYS[0], DAYS[3]}
    seen: list[tuple[date, int]] = []
    opened: list[str] = []

    class Watched(LocalLogStore):
        def open(self, item: LogObject) -> LocalLogReader:
            opened.append(item.name)
            return super().open(item)

    def refuse(day: date, listing: Listing) -> ShrinkError | None:
        seen.append((day, len(listing.objects)))
        return ShrinkError(f"not {day}") if day in refused else None

    outcomes = list(Extractor(Watched(tmp_path), SEALER.seal, 2, SCRATCH).extract(DAYS[:5], refuse))
    assert seen == [(day, 1) for day in DAYS[:5]]
    assert {item.day for item in outcomes if isinstance(item, FailedDate)} == refused
    assert {str(item.error) for item in outcomes if isinstance(item, FailedDate)} == {f"not {day}" for day in refused}
    assert sorted(opened) == [log_name(1, day) for day in DAYS[:5] if day not in refused]


@pytest.mark.parametrize("trouble", ["none", "damaged", "refused"])
def test_a_date_comes_out_before_the_last_one_is_read(
    tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A date that failed before its last file was read held back all dates behind it: nothing of them was stored
    before the end of the run, and all their rows stayed in memory."""
    monkeypatch.setattr(extractor, "_BATCH_FILES", 2)
    for day in DAYS:
        write(tmp_path, {log_name(number, day): joined(honest_lines(f"{day}{number}", 2)) for number in range(4)})
    if trouble == "damaged":
        write(tmp_path, {log_name(0): GOOD[:-3]})
    gate = threading.Event()

    class Gated(LocalLogStore):
        def open(self, item: LogObject) -> LocalLogReader:
            if item.name.startswith(DAYS[-1].isoformat()):
                gate.wait()
            return super().open(item)

    def refuse(day: date, listing: Listing) -> ShrinkError | None:
        return ShrinkError("no") if trouble == "refused" and day == DAY else None

    timer = threading.Timer(8, gate.set)
    timer.start()
    outcomes = Extractor(Gated(tmp_path), SEALER.seal, 1, SCRATCH).extract(DAYS, refuse)
    try:
        early = []
        for outcome in outcomes:
            early.append(outcome.day)
            if gate.is_set() or outcome.day == DAYS[20]:
                break
        assert not gate.is_set(), "the first dates came with the last"
        assert early == DAYS[:21]
    finally:
        timer.cancel()
        gate.set()
        outcomes.close()  # type: ignore[attr-defined]
        timer.join()


# --------------------------------------------------------------------------- determinism


def digest(outcome: ExtractedDate) -> str:
    return table_digest(table_of(outcome))


@pytest.mark.parametrize("seed", range(2))
def test_the_table_depends_on_the_set_of_records_alone(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    lines = [line.record for line in generate(seed, 2, 0) if line.expected.kind == "extracted"]
    # Ties in key and time, so that the other columns decide.
    lines += honest_lines(seed, 1, key=b"tie") * 3
    when = {"time": b"01/Mar/2025:00:00:00 +0000", "key": b"tie"}
    for sent in (b"-", b"0", b"5"):
        for size in (b"-", b"0", b"7"):
            for ip in (b"-", b"192.0.2.1", b"192.0.2.2", b"2001:db8::1"):
                for status in (b"200", b"206"):
                    lines += honest_lines(rng.randrange(1 << 60), 1, sent=sent, size=size, ip=ip, status=status, **when)
    digests = set()
    for attempt in range(4):
        rng.shuffle(lines)
        count = rng.choice([1, 2, 30])
        files = {log_name(number): joined(lines[number::count]) for number in range(count)}
        if attempt % 2:
            files[log_name(99)] = gzip.compress(joined(rng.sample(lines, 20)))
        outcome = extract_day(write(tmp_path / str(attempt), files), workers=rng.choice([1, 3]))
        assert_as_worked_out(outcome, files)
        digests.add(digest(outcome))
    assert len(digests) == 1


def test_the_number_of_workers_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractor, "_BATCH_FILES", 2)
    for day in DAYS[:5]:
        write(tmp_path, hard_files(day.day, 7, day))
    one, three = (extract(tmp_path, DAYS[:5], workers) for workers in (1, 3))
    for day in DAYS[:5]:
        first, second = one[day], three[day]
        assert isinstance(first, ExtractedDate)
        assert isinstance(second, ExtractedDate)
        assert digest(first) == digest(second)
        assert first.ledger.equals(second.ledger)
        assert first.rejected == second.rejected


def test_a_date_does_not_depend_on_the_dates_beside_it(tmp_path: Path) -> None:
    for day in DAYS[:3]:
        write(tmp_path, hard_files(day.day, 3, day))
    together = extract(tmp_path, DAYS[:3])
    for day in DAYS[:3]:
        (alone,) = extract(tmp_path, [day]).values()
        other = together[day]
        assert isinstance(alone, ExtractedDate)
        assert isinstance(other, ExtractedDate)
        assert digest(alone) == digest(other)
        assert alone.ledger.equals(other.ledger)


# --------------------------------------------------------------------------- the processes


def many_small_dates(root: Path, size: int = 2000) -> list[date]:
    """So much that it does not fit in pipes and queues."""
    content = joined(honest_lines(1, 1)) * size
    days = [DAY + timedelta(days=number) for number in range(20)]
    for day in days:
        write(root, {log_name(0, day): content + b"x", log_name(1, day): content + b"y"})
    return days


def test_a_caller_that_stops_half_way_leaves_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractor, "_BATCH_FILES", 1)
    days = many_small_dates(tmp_path)
    outcomes = Extractor(LocalLogStore(tmp_path), SEALER.seal, 2, SCRATCH).extract(days)
    assert isinstance(next(outcomes), ExtractedDate)
    assert running_gawks()
    outcomes.close()  # type: ignore[attr-defined]
    assert running_gawks() == []


def test_a_caller_that_fails_half_way_leaves_nothing_running(tmp_path: Path) -> None:
    days = many_small_dates(tmp_path)

    def consume() -> None:
        for _ in Extractor(LocalLogStore(tmp_path), SEALER.seal, 2, SCRATCH).extract(days):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    deadline = time.monotonic() + 10
    while running_gawks() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_caller_that_never_starts_starts_nothing(tmp_path: Path) -> None:
    write(tmp_path, {log_name(1): joined([A])})
    outcomes = Extractor(LocalLogStore(tmp_path), SEALER.seal, 2, SCRATCH).extract([DAY])
    assert running_gawks() == []
    outcomes.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("at", [0, 1, 5])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_killed_gawk_is_a_transient_error(tmp_path: Path, at: int, workers: int) -> None:
    days = many_small_dates(tmp_path, 500)

    class Killing(LocalLogStore):
        opened = 0

        def open(self, item: LogObject) -> LocalLogReader:
            Killing.opened += 1
            if Killing.opened == at + 1:
                for pid in running_gawks():
                    os.kill(pid, signal.SIGKILL)
            return super().open(item)

    done: list[ExtractedDate | FailedDate] = []

    def consume() -> None:
        done.extend(Extractor(Killing(tmp_path), SEALER.seal, workers, SCRATCH).extract(days))

    with pytest.raises(TransientError, match="gawk ended"):
        consume()
    assert not any(isinstance(item, FailedDate) for item in done)


def test_a_run_that_is_killed_leaves_no_gawk(tmp_path: Path) -> None:
    many_small_dates(tmp_path)
    receiver, sender = processes.CONTEXT.Pipe(duplex=False)
    run = processes.CONTEXT.Process(target=hang_in_the_middle, args=(tmp_path, sender))
    run.start()
    sender.close()
    with receiver:
        gawks = receiver.recv()
    assert len(gawks) == 2
    assert all(map(is_running, gawks))
    run.kill()
    run.join()
    run.close()
    deadline = time.monotonic() + 20
    while any(map(is_running, gawks)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(is_running, gawks))


def hang_in_the_middle(root: Path, sender: Connection) -> None:
    """Starts an extraction, tells the processes it runs, and waits to be killed."""
    extractor._BATCH_FILES = 1
    days = [DAY + timedelta(days=number) for number in range(20)]
    outcomes = Extractor(LocalLogStore(root), SEALER.seal, 2, SCRATCH).extract(days)
    next(outcomes)
    sender.send(running_gawks())
    time.sleep(60)


@pytest.mark.parametrize("where", ["open", "read", "refuse"])
def test_a_fault_of_the_program_comes_through_and_leaves_nothing_running(tmp_path: Path, where: str) -> None:
    write(tmp_path, {log_name(number): joined([A]) for number in range(9)})

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    class Faulty(LocalLogStore):
        def open(self, item: LogObject) -> LocalLogReader:
            if where == "open":
                fail()
            return MeddledReader(self.root, item, fail if where == "read" else lambda path: None)

    engine = Extractor(Faulty(tmp_path), SEALER.seal, 2, SCRATCH)
    with pytest.raises(ZeroDivisionError):
        list(engine.extract([DAY], fail) if where == "refuse" else engine.extract([DAY]))


def test_without_gawk_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {log_name(1): joined([A])})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="gawk is not installed; install it with"):
        extract(tmp_path)


def test_a_gawk_that_does_not_work_is_a_transient_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin" / "gawk"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(gawk, "executable", lambda: str(broken))
    with pytest.raises(TransientError, match="gawk ended"):
        extract(write(tmp_path / "logs", {log_name(1): joined([A])}))


def test_rows_that_cannot_be_read_are_an_error_that_quotes_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow's own error shows the row, address and all, and Dagster keeps the texts of exceptions for ever."""
    broken = tmp_path / "bin" / "gawk"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\ncat >/dev/null\nprintf '2025-03-01T00:00:00 203.0.113.77 secret-key\\n\\036.\\n'\n")
    broken.chmod(0o755)
    monkeypatch.setattr(gawk, "executable", lambda: str(broken))
    with pytest.raises(S3logxError) as caught:
        extract(write(tmp_path / "logs", {log_name(1): joined([A])}))
    shown = "".join(traceback.format_exception(caught.value))
    assert "203.0.113.77" not in shown
    assert "secret-key" not in shown


def test_the_environment_of_the_user_does_not_reach_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A locale of UTF-8 or POSIX mode would read other characters than bytes."""
    for name, value in {
        "LC_ALL": "en_US.UTF-8",
        "POSIXLY_CORRECT": "1",
        "AWKPATH": str(tmp_path),
        "GAWK_READ_TIMEOUT": "1",
        "AWKLIBPATH": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    files = hard_files(3, 3)
    assert_as_worked_out(extract_day(write(tmp_path / "logs", files)), files)


# --------------------------------------------------------------------------- another kind of store


class Memory:
    """A log store without files; its readers give a few bytes at a time, as a network does."""

    def __init__(self, files: dict[str, bytes], most: int) -> None:
        self.files, self.most = files, most

    def listings(self, days: object) -> Iterator[tuple[date, Listing]]:
        objects = tuple(LogObject(name, len(self.files[name]), f"etag-{name}") for name in sorted(self.files))
        yield DAY, Listing(objects)

    def days(self) -> list[date]:
        return [DAY]

    def open(self, item: LogObject) -> LogReader:
        return MemoryReader(self.files[item.name], self.most)

    def exists(self, item: LogObject) -> bool:
        return item.name in self.files

    def opening(self, items: Iterable[LogObject]) -> Iterator[Callable[[], LogReader]]:
        return (partial(self.open, item) for item in items)


class MemoryReader:
    def __init__(self, content: bytes, most: int) -> None:
        self.content, self.most = content, most

    def read(self, size: int) -> bytes:
        count = min(size, self.most)
        received, self.content = self.content[:count], self.content[count:]
        return received

    def close(self) -> None:
        pass


@pytest.mark.parametrize("most", [2, 100, 1 << 30])
def test_any_store_will_do(most: int) -> None:
    files = {
        log_name(1): joined([A, B]),
        log_name(2): gzip.compress(joined([B, C])),
        log_name(3): joined([A, B]),
        log_name(4): b"",
        log_name(5): D,
    }
    outcome = extract_day(Memory(files, most))
    assert_as_worked_out(outcome, files)
    assert outcome.ledger["version"].to_pylist() == [f"etag-{log_name(number)}" for number in range(1, 6)]


def test_an_object_that_is_not_what_was_listed_fails_the_date() -> None:
    class Lying(Memory):
        def open(self, item: LogObject) -> LogReader:
            return MemoryReader(self.files[item.name][: -1 if item.name == log_name(1) else None], 1 << 30)

    error = failure_of_day(Lying({log_name(1): joined([A]), log_name(2): joined([B])}, 9))
    assert isinstance(error, LogFileError)
    assert log_name(1) in str(error)


def test_the_helper_s_order_is_the_manual_s() -> None:
    """Key bytes, then time, then the columns in their order, nulls last."""
    rows: list[log_folders.Row] = [
        ("a", 2, 0, None, 200, None),
        ("a", 1, 9, 0, 200, None),
        ("B", 5, 0, 0, 200, None),
        ("é", 0, 0, 0, 200, None),
    ]
    rows += [("a", 2, 0, 5, 200, None), ("a", 2, 0, 5, 200, bytes(16)), ("a", 2, 0, 5, 206, bytes(16))]
    assert log_folders.in_order(rows) == [rows[2], rows[1], rows[5], rows[4], rows[6], rows[0], rows[3]]
