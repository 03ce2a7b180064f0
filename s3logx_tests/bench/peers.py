"""The peers: polars, DuckDB and chdb as a competent user would have them do this job, and `cat FILES | wc -l`.

Each engine reads the files with its own reader, on all cores, as whole lines; drops the lines without the operation's
name; takes the fields from the others with one regular expression; and writes the columns of `extracted_logs`, in their
types and order, sorted by all of them, to one Parquet file (zstd, synced to disk). Of several readers and several ways
to write the expression, each uses the fastest that gave exactly this project's rows. What they need not do: seal
addresses, look for duplicates, account for every record and file, refuse a forged line.

The engines are imported inside the functions: each only in the process that runs it.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from s3logx_tests.bench.measure import Outcome, Step

# What stands in real logs: a requester may be missing, which doubles a blank, and a request URI may hold raw quotes,
# so that only one with a blank behind it ends the URI. Anchored, and no longer than the last column needs.
_HEAD = r"^[^ ]+ [^ ]+ \[([^\]]+)\] ([^ ]+)"
_REST = r'([^ ]+) (?:"[^"]*"(?:[^ ][^"]*")*|-) (2[0-9][0-9]) [^ ]+ ([0-9]+|-) ([0-9]+|-) '
_RECORD = _HEAD + r"  ?(?:[^ ]+ )?[^ ]+ REST\.GET\.OBJECT " + _REST
_FIELDS = ("time", "address", "object_key", "status", "bytes_sent", "object_size")
_COLUMNS = ("object_key", "requested_at", "bytes_sent", "object_size", "status", "address")
_GET = " REST.GET.OBJECT "


def polars(logs: Path, out: Path) -> Step:
    """Lines by the reader that is made for them, at once: with many files that takes half the time of a lazy scan."""
    import polars as pl

    def fields(lines: Any) -> Any:
        line = pl.col("line")
        return lines.filter(line.str.contains(_GET, literal=True)).select(
            line.str.extract_groups(_RECORD).struct.rename_fields(list(_FIELDS)).struct.unnest()
        )

    return _polars(logs, out, fields)


def polars_split(logs: Path, out: Path) -> Step:
    """The same, but each line is cut at the operation's name and two expressions read the halves. Each has a single
    way to match, which the regex engine rewards; more than most would think of, and so not counted as a peer."""
    import polars as pl

    def fields(lines: Any) -> Any:
        head = pl.col("line").struct.field("field_0").str
        rest = pl.col("line").struct.field("field_1").str
        halves = lines.select(pl.col("line").str.splitn(_GET, 2)).filter(~rest.len_bytes().is_null())
        return halves.select(
            head.extract_groups(_HEAD + r" [^ ]* [^ ]+(?: [^ ]+)?$")
            .struct.rename_fields(list(_FIELDS[:2]))
            .struct.unnest(),
            rest.extract_groups("^" + _REST).struct.rename_fields(list(_FIELDS[2:])).struct.unnest(),
        )

    return _polars(logs, out, fields)


def _polars(logs: Path, out: Path, fields: Callable[[Any], Any]) -> Step:
    import polars as pl

    def run(table: Path) -> None:
        (
            fields(pl.read_lines(logs / "*").lazy())
            .filter(pl.col("object_key").is_not_null())
            .select(
                "object_key",
                pl.col("time").str.to_datetime("%d/%b/%Y:%H:%M:%S %z", time_unit="ms").alias("requested_at"),
                pl.col("bytes_sent").replace("-", "0").cast(pl.Int64),
                pl.col("object_size").replace("-", None).cast(pl.Int64),
                pl.col("status").cast(pl.Int16),
                pl.col("address").replace("-", None),
            )
            .sort(_COLUMNS, nulls_last=True)
            .sink_parquet(table, compression="zstd")
        )

    return _writing(out, run)


def duckdb(logs: Path, out: Path) -> Step:
    """Lines by the CSV reader with a separator that does not occur."""
    import duckdb as engine

    reader = (
        f"read_csv('{logs}/*', columns = {{'line': 'VARCHAR'}}, auto_detect = false, header = false,"
        f" delim = '\x01', quote = '', escape = '', strict_mode = false)"
    )

    def run(table: Path) -> None:
        with engine.connect() as connection:
            connection.execute("SET preserve_insertion_order = false")
            connection.execute(f"""
                COPY (
                    SELECT f.object_key AS object_key,
                        strptime(f.time, '%d/%b/%Y:%H:%M:%S +0000') AS requested_at,
                        CASE f.bytes_sent WHEN '-' THEN 0 ELSE f.bytes_sent::BIGINT END AS bytes_sent,
                        nullif(f.object_size, '-')::BIGINT AS object_size,
                        f.status::SMALLINT AS status,
                        nullif(f.address, '-') AS address
                    FROM (
                        SELECT regexp_extract(line, '{_RECORD}', {list(_FIELDS)}) AS f
                        FROM {reader} WHERE contains(line, '{_GET}')
                    )
                    WHERE f.object_key <> ''
                    ORDER BY ALL NULLS LAST
                ) TO '{table}' (FORMAT parquet, COMPRESSION zstd)
            """)  # noqa: S608 the only names in it are our own

    return _writing(out, run)


def chdb(logs: Path, out: Path) -> Step:
    """Lines by the format that is made for them."""
    import chdb as engine

    record = _RECORD.replace("\\", "\\\\")

    def run(table: Path) -> None:
        engine.query(f"""
            SELECT f[3] AS object_key,
                parseDateTime(f[1], '%d/%b/%Y:%H:%i:%S +0000', 'UTC') AS requested_at,
                toInt64OrZero(f[5]) AS bytes_sent,
                toInt64OrNull(f[6]) AS object_size,
                toInt16(f[4]) AS status,
                nullIf(f[2], '-') AS address
            FROM (
                SELECT extractGroups(line, '{record}') AS f
                FROM file('{logs}/*', LineAsString, 'line String') WHERE position(line, '{_GET}') > 0
            )
            WHERE notEmpty(f)
            ORDER BY {", ".join(f"{column} ASC NULLS LAST" for column in _COLUMNS)}
            INTO OUTFILE '{table}' FORMAT Parquet
            SETTINGS output_format_parquet_compression_method = 'zstd', output_format_parquet_string_as_string = 1
        """)  # noqa: S608 the only names in it are our own

    return _writing(out, run)


def _writing(out: Path, run: Callable[[Path], None]) -> Step:
    """The step of an engine that writes one Parquet file, which then is put on disk."""
    table = out / "rows.parquet"

    def step() -> Callable[[], Outcome]:
        run(table)
        descriptor = os.open(table, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        return lambda: Outcome(_rows(table), str(table), {"stored_bytes": table.stat().st_size})

    return step


def _rows(table: Path) -> int:
    import pyarrow.parquet as pq

    metadata: Any = pq.read_metadata(table)
    return int(metadata.num_rows)


def cat_wc(logs: Path, out: Path) -> Step:
    """The least that any program must do: open every file and look for its line ends. The list of files is given."""
    names = out / "names"
    names.write_bytes(b"".join(b"%s\0" % os.fsencode(path) for path in sorted(logs.rglob("*")) if path.is_file()))

    def step() -> Callable[[], Outcome]:
        with names.open("rb") as listing:
            cat = subprocess.Popen(["xargs", "-0", "cat"], stdin=listing, stdout=subprocess.PIPE)
            lines = int(subprocess.check_output(["wc", "-l"], stdin=cat.stdout))
            if cat.wait():
                raise RuntimeError("cat failed")
        return lambda: Outcome(lines)

    return step
