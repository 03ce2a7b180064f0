"""The caches of lookups: what is kept for how long, for whom, in what form, and beside whom."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from s3logx_assets.adapters.lookup_cache import Lookup, LookupCache, SealedLookupCache
from s3logx_assets.core.sealing import Sealer
from s3logx_tests.http_service import Clock

DAY = 86_400
KEY = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "lookups.sqlite"


def sealed(path: Path, clock: Clock | None = None, key: bytes = KEY) -> SealedLookupCache:
    return SealedLookupCache(path, 90, Sealer(key), clock or Clock())


def test_answers_are_kept_by_key(path: Path) -> None:
    cache = sealed(path)
    assert cache.get([1, -(2**63)]) == {}
    cache.put({1: ["US", "California"], -(2**63): ["", ""], 2**63 - 1: ["GB", "Ynys Môn"]})
    assert cache.get([1, -(2**63), 5]) == {1: Lookup(["US", "California"], True), -(2**63): Lookup(["", ""], True)}
    cache.put({1: ["US", "Nevada"]})
    assert sealed(path).get([1, 2**63 - 1]) == {
        1: Lookup(["US", "Nevada"], True),
        2**63 - 1: Lookup(["GB", "Ynys Môn"], True),
    }
    texts: LookupCache[str] = LookupCache(path.with_name("texts.sqlite"), 90)
    texts.put({"DE/Saarland": [49.4, 7.0], "1": []})
    assert texts.get(["DE/Saarland", "1", "2"]) == {"DE/Saarland": Lookup([49.4, 7.0], True), "1": Lookup([], True)}


def test_an_answer_ages_stands_in_for_a_while_and_is_forgotten(path: Path) -> None:
    clock = Clock()
    sealed(path, clock).put({1: ["US", ""]})
    clock.now += 90 * DAY - 1
    assert sealed(path, clock).get([1]) == {1: Lookup(["US", ""], True)}
    clock.now += 2
    assert sealed(path, clock).get([1]) == {1: Lookup(["US", ""], False)}
    clock.now += 90 * DAY
    sealed(path, clock).put({2: ["", ""]})
    assert sealed(path, clock).get([1]) == {}


def test_an_answer_from_the_future_is_not_fresh_for_ever(path: Path) -> None:
    clock = Clock()
    clock.now += 1000 * DAY
    sealed(path, clock).put({1: ["US", ""]})
    assert sealed(path).get([1]) == {1: Lookup(["US", ""], False)}


def test_nothing_is_in_clear_and_nothing_is_readable_by_others(path: Path) -> None:
    sealed(path).put({index: ["US", "California"] for index in range(50)})
    assert {entry.name for entry in path.parent.iterdir()} == {"lookups.sqlite", "lookups.lock"}
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    content = path.read_bytes()
    for text in (b"California", b"alif", KEY, KEY.hex().encode()):
        assert text not in content


def test_neither_equal_answers_nor_their_length_show(path: Path) -> None:
    sealed(path).put({1: ["US", "Ohio"], 2: ["US", "Ohio"], 3: ["TR", "Kahramanmaraş"], 4: ["", ""]})
    rows = dict(sqlite3.connect(path).execute("SELECT key, answer FROM lookups").fetchall())
    assert len(set(rows.values())) == 4
    assert len({len(answer) for answer in rows.values()}) == 1


def test_an_answer_that_was_moved_to_another_index_is_none(path: Path) -> None:
    cache = sealed(path)
    cache.put({1: ["US", "Ohio"], 2: ["FR", "Corsica"]})
    with sqlite3.connect(path) as database:
        database.execute("UPDATE lookups SET answer = (SELECT answer FROM lookups WHERE key = 1) WHERE key = 2")
    assert cache.get([1, 2]) == {1: Lookup(["US", "Ohio"], True)}


@pytest.mark.parametrize("content", [b"", b"x", b"short", bytes(40)], ids=len)
def test_an_answer_that_is_damaged_is_none(path: Path, content: bytes) -> None:
    cache = sealed(path)
    cache.put({1: ["US", "Ohio"], 2: ["FR", "Corsica"]})
    with sqlite3.connect(path) as database:
        database.execute("UPDATE lookups SET answer = ? WHERE key = 2", (content,))
    assert cache.get([1, 2]) == {1: Lookup(["US", "Ohio"], True)}


def test_another_key_s_cache_is_made_anew(path: Path) -> None:
    sealed(path).put({1: ["US", "Ohio"]})
    other = sealed(path, key=bytes(32))
    assert other.get([1]) == {}
    other.put({1: ["FR", "Corsica"]})
    assert other.get([1]) == {1: Lookup(["FR", "Corsica"], True)}
    assert sealed(path).get([1]) == {}


@pytest.mark.parametrize("damage", ["garbage", "half", "middle", "other tables", "other format"])
def test_a_damaged_cache_is_made_anew(path: Path, damage: str) -> None:
    cache = sealed(path)
    cache.put({index: ["US", "Ohio"] for index in range(2000)})
    content = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(b"not a database" * 1000)
    elif damage == "half":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "middle":
        path.write_bytes(content[:8192] + b"\xee" * (len(content) - 8192))
    else:
        with sqlite3.connect(path) as database:
            if damage == "other tables":
                database.execute("ALTER TABLE lookups RENAME TO others")
            else:
                database.execute("PRAGMA user_version = 7")
    cache.get([1, 1999])
    cache.put({1: ["FR", "Corsica"]})
    assert cache.get([1]) == {1: Lookup(["FR", "Corsica"], True)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_cache_that_cannot_be_used_is_told_of_once_and_gone_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    for path in (blocked / "lookups.sqlite", tmp_path):
        caplog.clear()
        cache = sealed(path)
        for _ in range(2):
            cache.put({1: ["US", "Ohio"]})
            assert cache.get([1]) == {}
        assert len(caplog.records) == 1
        assert "cannot be used" in caplog.text
    assert blocked.read_text() == "no folder"


_WRITER = """
import sys
from pathlib import Path
from s3logx_assets.adapters.lookup_cache import SealedLookupCache
from s3logx_assets.core.sealing import Sealer

cache = SealedLookupCache(Path(sys.argv[1]), 90, Sealer(bytes(range(32))))
first = int(sys.argv[2])
sys.stdin.read(1)
for index in range(first, first + 50):
    cache.put({index: ["US", str(index)], 0: ["US", "all"]})
    assert index in cache.get([index])
"""


def test_two_processes_and_threads_share_one_cache(path: Path) -> None:
    command = [sys.executable, "-c", _WRITER, str(path)]
    writers = [
        subprocess.Popen([*command, str(first)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})
        for first in (1000, 2000)
    ]
    cache = SealedLookupCache(path, 90, Sealer(KEY))

    def write(first: int) -> None:
        for index in range(first, first + 25):
            cache.put({index: ["US", "thread"]})

    threads = [threading.Thread(target=write, args=(first,)) for first in (3000, 4000)]
    for thread in threads:
        thread.start()
    errors = [writer.communicate(b"x", timeout=60)[1] for writer in writers]
    for thread in threads:
        thread.join()
    assert [writer.returncode for writer in writers] == [0, 0], errors
    wanted = [0, *range(1000, 1050), *range(2000, 2050), *range(3000, 3025), *range(4000, 4025)]
    found = cache.get(wanted)
    assert sorted(found) == wanted
    assert found[1049].answer == ["US", "1049"]


def test_a_write_that_is_killed_loses_nothing_that_was_kept(path: Path) -> None:
    cache = SealedLookupCache(path, 90, Sealer(KEY))
    cache.put({1: ["US", "Ohio"]})
    code = _WRITER.replace('"US", str(index)', '"US", "x" * 200_000')
    writer = subprocess.Popen([sys.executable, "-c", code, str(path), "1000"], stdin=subprocess.PIPE)
    assert writer.stdin is not None
    writer.stdin.write(b"x")
    writer.stdin.close()
    before = path.stat().st_size
    while path.stat().st_size < before + 1_000_000 and writer.poll() is None:
        time.sleep(0.001)
    writer.kill()
    writer.wait()
    assert cache.get([1]) == {1: Lookup(["US", "Ohio"], True)}
    cache.put({2: ["FR", ""]})
    assert cache.get([2]) == {2: Lookup(["FR", ""], True)}
