"""One running gawk: the process, the protocol of `awk/extract.awk`, and nothing of what is done with the rows.

The process reads its standard input alone. When the run that started it dies, however it dies, the pipe closes and
gawk ends at the end of its input. No shell takes part, no file name is passed, nothing is written to disk.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s3logx_assets.core.errors import SettingsError, TransientError
from s3logx_assets.core.log_lines import MAX_RECORD_BYTES, REJECT_REASONS, SKIP_RULES

_PIPE_BYTES = 1 << 20
# Input waits until there is so much of it, in so few pieces (IOV_MAX is 1024): one call passes it on, nothing copies it.
_WAITING_BYTES = 1 << 18
_WAITING_PIECES = 512
# The rows of a batch of files take less, so that an answer seldom makes its buffer grow.
_ANSWER_BYTES = 1 << 22
_COMMAND = b"\x1e"
_REPORT_END = b"\x1e.\n"
# Number, records and extracted; then all rules but `excluded`, which is the caller's.
_CLOSED_COLUMNS = 3 + len(SKIP_RULES) - 1 + len(REJECT_REASONS)


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of a file's records; the counts in the program's order."""

    number: int
    records: int
    extracted: int
    counts: tuple[int, ...]  # blank, operation, status, then the reasons of rejection


@dataclass(frozen=True, slots=True)
class Report:
    """One answer: rows as text, the files closed since the last one, and the first rejected records of a file as
    (file number, record number, reason).

    `closed`: (files, 14) int64, of each file the columns of FileReport in its order. There may be hundreds of files in an
    answer, and to have an object for each takes longer than to read them."""

    rows: memoryview
    closed: NDArray[np.int64]
    rejected: tuple[tuple[int, int, str], ...]

    @property
    def files(self) -> tuple[FileReport, ...]:
        """The closed files one by one."""
        return tuple(
            FileReport(number, records, extracted, tuple(counts))
            for number, records, extracted, *counts in self.closed.tolist()
        )


def program() -> Path:
    """The path of the extraction program: in the installed package, or in the checkout beside it."""
    packaged = Path(str(resources.files("s3logx_assets"))) / "awk" / "extract.awk"
    return packaged if packaged.is_file() else packaged.parents[2] / "awk" / "extract.awk"


def executable() -> str:
    """The path of GNU awk. Raises SettingsError where it is not installed."""
    found = shutil.which("gawk")
    if found is None:
        raise SettingsError("gawk is not installed; install it with `apt-get install gawk` or `brew install gawk`")
    return found


class Gawk:
    """A running extraction program. `feed` and `report` belong to one thread, `reports` to another."""

    def __init__(self) -> None:
        command = [executable(), "--characters-as-bytes", "-f", str(program())]
        # gawk's standard output has the size of a pipe's block otherwise, and that is 4 KiB.
        if (stdbuf := shutil.which("stdbuf")) is not None:
            command = [stdbuf, "-o", "64K", *command]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a message of gawk's could quote a record
            bufsize=0,
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath), "AWKBUFSIZE": str(1 << 18)},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input = self._process.stdin.fileno()
        self._output = self._process.stdout.fileno()
        self._waiting: list[bytes | memoryview] = []
        self._waiting_bytes = 0
        _enlarge(self._input)
        _enlarge(self._output)
        token = secrets.token_hex(16).encode()
        self._command = _COMMAND + token + b" "
        self._write(token + b"\n")

    def open_file(self, number: int) -> None:
        """Closes the file before it; what is fed from now on belongs to file `number`."""
        self._write(self._command + b"%d\n" % number)

    def feed(self, content: bytes | memoryview) -> None:
        """Passes on bytes of the open file, which stay as they are until the next report."""
        self._write(content)

    def report(self) -> None:
        """Asks for a report. Only between two records."""
        self._write(self._command + b"-\n")
        self._flush()

    def end(self) -> None:
        """No more input."""
        self._flush()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def kill(self) -> None:
        """Ends the process now, whatever it is doing."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Gives the pipes back, when no thread uses them any more."""
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was not written has no reader
                pipe.close()  # type: ignore[union-attr]

    def reports(self) -> Iterator[Report]:
        """Every report until the process ends. Raises TransientError if it did not end well."""
        buffer = bytearray(_ANSWER_BYTES)
        filled = 0
        while True:
            if filled == len(buffer):
                buffer.extend(bytes(len(buffer)))
            with memoryview(buffer) as view:
                count = os.readv(self._output, [view[filled:]])
            if not count:
                break
            searched = max(0, filled - len(_REPORT_END) + 1)
            filled += count
            while (end := buffer.find(_REPORT_END, searched, filled)) >= 0:
                yield _parse(bytes(memoryview(buffer)[:end]))
                rest = buffer[end + len(_REPORT_END) : filled]
                filled = len(rest)
                buffer[:filled] = rest
                searched = 0
        status = self._process.wait()
        if status or filled:
            raise TransientError(f"gawk ended with status {status} before its work was done")

    def _write(self, content: bytes | memoryview) -> None:
        self._waiting.append(content)
        self._waiting_bytes += len(content)
        if self._waiting_bytes >= _WAITING_BYTES or len(self._waiting) >= _WAITING_PIECES:
            self._flush()

    def _flush(self) -> None:
        pieces, self._waiting, self._waiting_bytes = self._waiting, [], 0
        try:
            while pieces:
                written = os.writev(self._input, pieces)
                done = 0
                while done < len(pieces) and written >= len(pieces[done]):
                    written -= len(pieces[done])
                    done += 1
                pieces = pieces[done:]
                if written:
                    pieces[0] = memoryview(pieces[0])[written:]
        except BrokenPipeError:
            raise TransientError("gawk ended before its input did") from None


def _parse(answer: bytes) -> Report:
    end = answer.find(_COMMAND)
    rows = memoryview(answer)[: end if end >= 0 else len(answer)]
    closed, rejected = [], []
    for line in answer[len(rows) :].splitlines():
        if line.startswith(b"\x1eC "):
            closed.append(line[3:])
        else:
            _, number, record, reason = line.split(b" ")
            rejected.append((int(number), int(record), reason.decode()))
    counts = np.array(list(map(int, b" ".join(closed).split())), np.int64).reshape(-1, _CLOSED_COLUMNS)
    return Report(rows, counts, tuple(rejected))


def _enlarge(pipe: int) -> None:
    """A bigger pipe where the system has that; a smaller one only costs time."""
    try:
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except (ImportError, AttributeError, OSError):
        return


class RecordFeeder:
    """Passes file contents on to gawk so that every record ends in a newline and none is much over 16 MiB: of a
    longer one the program sees 16 MiB and one byte, and then a control byte unless all of it is blank. That is enough
    to judge it as the whole would be judged."""

    def __init__(self, gawk: Gawk) -> None:
        self._gawk = gawk
        self._open = 0  # bytes of the record that has begun
        self._blank = True  # whether it has been blank so far
        self._return = False  # whether its last byte so far is a carriage return

    def feed(self, chunk: bytes) -> None:
        """A chunk of the open file."""
        first = chunk.find(b"\n")
        head = len(chunk) if first < 0 else first
        if self._open + head > MAX_RECORD_BYTES:
            self._gawk.feed(chunk[: max(0, min(head, MAX_RECORD_BYTES + 1 - self._open))])
            self._begin(chunk[:head])
            if first >= 0:
                self._end_record()
                self.feed(chunk[first + 1 :])
            return
        self._gawk.feed(chunk)
        if first >= 0:
            self._open, self._blank, self._return = 0, True, False
            chunk = chunk[chunk.rfind(b"\n") + 1 :]
        self._begin(chunk)

    @property
    def between_records(self) -> bool:
        """Whether the last byte fed ended a record."""
        return not self._open

    def end_file(self) -> None:
        """Ends the last record, where the file did not."""
        if self._open:
            self._end_record()

    def _begin(self, part: bytes) -> None:
        if not part:
            return
        self._open += len(part)
        # Blanks and tabs, and one carriage return if it is the last byte of all.
        ended = self._return or part[:-1].strip(b" \t") or part[-1:] not in (b" ", b"\t", b"\r")
        self._blank = self._blank and not ended
        self._return = part.endswith(b"\r")

    def _end_record(self) -> None:
        cut = self._open > MAX_RECORD_BYTES and not self._blank
        self._gawk.feed(b"\x01\n" if cut else b"\n")
        self._open, self._blank, self._return = 0, True, False
