"""From a specification to log files: which lines go to which file, under which name.

File names and layouts are those that Amazon S3 writes: `YYYY-MM-DD-hh-mm-ss-<16 hex digits>`, flat
or below date folders. What the lines say is the business of `traffic`, `lines` and `hard`.
"""

import gzip
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import IO, Final

import numpy as np
import numpy.typing as npt

from s3logx_assets.sample_logs.clients import ACCOUNT, BUCKET, BUCKET_REGION, Kind
from s3logx_assets.sample_logs.hard import (
    DUPLICATE_LINE,
    HARD_VERDICTS,
    Verdict,
    Victim,
    make_hard_line,
)
from s3logx_assets.sample_logs.lines import FAILED_GETS, SUCCESSFUL_GETS, split_ends
from s3logx_assets.sample_logs.randomness import Pieces, make_rng
from s3logx_assets.sample_logs.spec import SampleSpec, SampleSummary
from s3logx_assets.sample_logs.traffic import Chunk, Traffic, day_weights

_TYPICAL_LINE_BYTES: Final = 580
_GZIP_EVERY: Final = 40
_UNENDED_EVERY: Final = 150


def _share_out(total: int, weights: npt.ArrayLike) -> list[int]:
    """`total` whole things in proportion to `weights`: rounded running sums, so none is lost."""
    steps = np.cumsum(weights) / np.sum(weights)
    shares: list[int] = np.diff(np.rint(steps * total).astype(np.int64), prepend=0).tolist()
    return shares


def _lines_of_day(spec: SampleSpec) -> list[int]:
    weights = day_weights(spec.first_date, spec.days, spec.seed)
    if spec.total_bytes is None:
        return _share_out(spec.lines, weights)
    # Learn the length of a line from a first chunk, as if all came on one day.
    guess = max(1, spec.total_bytes // _TYPICAL_LINE_BYTES)
    pilot = Traffic(spec.seed, spec.first_date, [guess], spec.datasets, late=not spec.plain)
    parts = next(pilot.chunks(0)).parts
    typical = sum(map(len, parts.ravel().tolist())) / len(parts)
    return _share_out(max(1, round(spec.total_bytes / typical)), weights)


class SampleWriter:
    """One generation into one folder; counts while it writes."""

    def __init__(self, spec: SampleSpec, out: Path) -> None:
        self._spec = spec
        self._out = out
        self._lines = _lines_of_day(spec)
        self._traffic = Traffic(spec.seed, spec.first_date, self._lines, spec.datasets, late=not spec.plain)
        self._files = self._files_of_day()
        self._hard = {} if spec.plain else self._place_hard_lines()
        self._folders: set[Path] = set()
        self._bytes = 0
        self._file_number = 0
        self._dates: list[date] = []
        self._kinds = np.zeros(len(Kind), dtype=np.int64)
        self._hard_counts: Counter[str] = Counter()
        self._odd_files: Counter[str] = Counter()
        self._duplicates = 0

    def write(self) -> SampleSummary:
        first_line = 0
        for day, lines in enumerate(self._lines):
            if lines:
                self._write_day(day, first_line)
            first_line += lines
        verdicts = self._count_verdicts()
        return SampleSummary(
            files=self._file_number + self._odd_files["duplicate"],
            lines=sum(verdicts.values()),
            bytes=self._bytes,
            first_date=self._dates[0],
            last_date=self._dates[-1],
            verdicts=verdicts,
            hard=dict(self._hard_counts),
            odd_files=dict(self._odd_files),
        )

    def _files_of_day(self) -> list[int]:
        if self._spec.files_per_day is not None:
            files = [self._spec.files_per_day] * self._spec.days
        else:
            files = _share_out(self._spec.files, self._lines)
        # A date with lines has a file, and S3 writes no empty one.
        return [min(max(1, n), lines) for n, lines in zip(files, self._lines, strict=True)]

    def _place_hard_lines(self) -> dict[int, str]:
        """Number of a line in the whole stream -> the hard line that takes its place."""
        names = list(HARD_VERDICTS)
        total = sum(self._lines)
        count = len(names) * max(1, total // 20_000)
        shares = (np.arange(count) + make_rng(self._spec.seed, 5).random(count)) / count
        places = (shares * total).astype(np.int64).tolist()
        return {place: names[i % len(names)] for i, place in enumerate(places)}

    def _write_day(self, day: int, first_line: int) -> None:
        lines, files = self._lines[day], self._files[day]
        ends = [lines * (number + 1) // files for number in range(files)]
        rng = make_rng(self._spec.seed, 6, day)
        delivered = self._traffic.seconds_at(np.array(ends) / lines)
        seconds = (delivered + 60 + (rng.random(files) * 1_400).astype(np.int64)).tolist()
        tokens = rng.bytes(8 * files).hex().upper()
        rows = _Rows(self._chunks(day, first_line))
        start = 0
        for number, end in enumerate(ends):
            log_date = self._date_of_file(day)
            name = _file_name(log_date, seconds[number], tokens[16 * number : 16 * number + 16])
            self._write_file(log_date, name, rows.take(end - start), end - start)
            start = end

    def _date_of_file(self, day: int) -> date:
        if self._spec.file_days is not None:
            day = self._file_number * self._spec.file_days // sum(self._files)
        log_date = self._spec.first_date + timedelta(days=day)
        if not self._dates or self._dates[-1] != log_date:
            self._dates.append(log_date)
        return log_date

    def _chunks(self, day: int, first_line: int) -> Iterator[Pieces]:
        for chunk in self._traffic.chunks(day):
            kinds = chunk.requests.kinds
            is_ordinary = np.ones(len(kinds), dtype=np.bool_)
            for row in range(len(kinds)) if self._hard else ():
                name = self._hard.get(first_line + chunk.start + row)
                if name is not None and self._harden(chunk, row, name, is_ordinary):
                    is_ordinary[row] = False
                    self._hard_counts[name] += 1
            self._kinds += np.bincount(kinds[is_ordinary], minlength=len(Kind))
            yield chunk.parts

    def _harden(self, chunk: Chunk, row: int, name: str, is_ordinary: npt.NDArray[np.bool_]) -> bool:
        """Put the hard line in the place of `row`; False if there is nothing to make it of."""
        if name == DUPLICATE_LINE:
            downloads = (chunk.requests.kinds[:row] == Kind.OK) & is_ordinary[:row]
            if not downloads.any():
                return False
            chunk.parts[row] = chunk.parts[np.flatnonzero(downloads)[-1]]
            return True
        catalogue, number = self._traffic.catalogue, int(chunk.requests.keys[row])
        head, tail = split_ends(chunk.parts[row])
        size = int(catalogue.sizes[number])
        victim = Victim(head, catalogue.keys[number], catalogue.paths[number], size, tail)
        chunk.parts[row] = b""
        chunk.parts[row, 0] = make_hard_line(name, victim)
        return True

    def _write_file(self, log_date: date, name: str, content: Iterator[bytes], lines: int) -> None:
        number = self._file_number
        self._file_number += 1
        path = self._path_of(log_date, name, number)
        is_gzip = not self._spec.plain and number % _GZIP_EVERY == 7
        is_unended = not self._spec.plain and number % _UNENDED_EVERY == 11
        with path.open("wb") as raw:
            if is_gzip:
                with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                    _write_all(packed, content, unended=False)
                self._odd_files["gzip"] += 1
            elif _write_all(raw, content, is_unended):
                self._odd_files["unended"] += 1
        self._finish(path)
        if not self._spec.plain and number == sum(self._files) // 2:
            self._duplicate_file(path, log_date, lines)

    def _duplicate_file(self, path: Path, log_date: date, lines: int) -> None:
        """S3 now and then delivers a file twice, under two names."""
        copy = path.with_name(path.name[:20] + path.name[-16:][::-1])
        copy.write_bytes(path.read_bytes())
        self._finish(copy)
        self._odd_files["duplicate"] += 1
        self._duplicates += lines

    def _path_of(self, log_date: date, name: str, number: int) -> Path:
        layout = self._spec.layout
        if layout == "mixed":
            layout = ("flat", "date", "account")[number % 3]
        folder = self._out
        if layout == "account":
            folder = folder / ACCOUNT.decode() / BUCKET_REGION.decode() / BUCKET.decode()
        if layout != "flat":
            folder = folder / f"{log_date.year:04d}/{log_date.month:02d}/{log_date.day:02d}"
        if folder not in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)
        return folder / name

    def _finish(self, path: Path) -> None:
        delivered = datetime.strptime(path.name[:19], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
        os.utime(path, (delivered.timestamp(), delivered.timestamp()))
        self._bytes += path.stat().st_size

    def _count_verdicts(self) -> dict[str, int]:
        verdicts: Counter[Verdict] = Counter()
        for kind, count in zip(Kind, self._kinds.tolist(), strict=True):
            if kind in SUCCESSFUL_GETS:
                verdicts["extracted"] += count
            elif kind in FAILED_GETS:
                verdicts["skipped: status"] += count
            else:
                verdicts["skipped: operation"] += count
        for name, count in self._hard_counts.items():
            verdicts[HARD_VERDICTS[name]] += count
        verdicts["duplicate"] += self._duplicates
        return {verdict: count for verdict, count in sorted(verdicts.items()) if count}


class _Rows:
    """Chunks of line parts, taken off in runs that need not end where a chunk ends."""

    def __init__(self, chunks: Iterator[Pieces]) -> None:
        self._chunks = chunks
        self._rows: Pieces = np.empty((0, 0), dtype=object)
        self._used = 0

    def take(self, count: int) -> Iterator[bytes]:
        """The next `count` lines, in blocks."""
        while count:
            if self._used == len(self._rows):
                self._rows, self._used = next(self._chunks), 0
            run = min(count, len(self._rows) - self._used)
            yield b"".join(self._rows[self._used : self._used + run].ravel().tolist())
            self._used += run
            count -= run


def _write_all(target: IO[bytes] | gzip.GzipFile, blocks: Iterator[bytes], unended: bool) -> bool:
    """Write the blocks, on request without the last newline; whether that one was left out."""
    held = b""
    for block in blocks:
        target.write(held)
        held = block
    # A final blank line would vanish with its newline.
    leave_out = unended and held.endswith(b"\n") and held != b"\n" and not held.endswith(b"\n\n")
    target.write(held[:-1] if leave_out else held)
    return leave_out


def _file_name(log_date: date, second: int, token: str) -> str:
    clock = time(second // 3600, second // 60 % 60, second % 60)
    return f"{log_date.isoformat()}-{clock.strftime('%H-%M-%S')}-{token}"
