"""The closed periods of policy `strict`: what was taken of the usage, and what may be told of it, once and for all.

    private/released_usage/period=YYYY-MM-DD/part-0.parquet   a period, by its last day

The rows (schemas.RELEASED_USAGE) are all usage that the period took, told or still waiting; a section holds the cells that may be
told, so that both commit in one step. A period is never written again. Without these files nobody could say any more what was
told already, so they belong into the backup with the key. What a period takes and tells is `assets.periods`' business.
"""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa
import pyarrow.ipc

from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.core.digests import table_digest, text_digest
from s3logx_assets.core.errors import StoreBusyError, StoreError

RELEASED_USAGE = "released_usage"
PERIOD = "period"
_CELLS = "cells"


@dataclass(frozen=True)
class Period:
    """A closed period. `days`: the data version of each log date that it took rows of, or looked at; `people`: how many people
    each scope has had up to its end, in steps; `left_out`: late requests that it could not tell from what
    is called otherwise now. `key_id`: of the key that its pseudonyms are of. `digest` stands for what it told and for all periods
    before it; who does not know `salt` cannot try out what that may have been."""

    until: date
    cells: pa.Table = field(repr=False)
    days: Mapping[str, str] = field(repr=False)
    people: Mapping[str, int] = field(repr=False)
    rule: Mapping[str, float]
    left_out: int
    key_id: str
    salt: str = field(repr=False)
    digest: str


def digest_of(
    before: str, until: date, cells: pa.Table, people: Mapping[str, int], rule: Mapping[str, float], salt: str
) -> str:
    """What stands for a period after those that `before` stands for."""
    told = (table_digest(cells), *(json.dumps(each, sort_keys=True) for each in (people, rule)))
    return text_digest(salt, before, until.isoformat(), *told)


def read_periods(store: TableStore) -> list[Period]:
    """All closed periods, the oldest first. Raises StoreError where one is damaged, or missing between others."""
    # By the files: a writer that died has left a folder and closed nothing.
    periods = list(store.each(lambda until: _read(store, until), sorted(store.tags(RELEASED_USAGE, PERIOD))))
    before = ""
    for period in periods:
        if digest_of(before, period.until, period.cells, period.people, period.rule, period.salt) != period.digest:
            raise StoreError(
                f"{store.uri(RELEASED_USAGE, _place(period.until))} does not follow the period before it: one is missing or "
                "damaged; bring private/released_usage back from the backup"
            )
        before = period.digest
    return periods


def refuse_other_key(periods: Iterable[Period], key_id: str) -> None:
    """Raises StoreError where the pseudonyms of a period are of another key."""
    for period in periods:
        if period.key_id != key_id:
            raise StoreError(
                f"private/{RELEASED_USAGE} up to {period.until} is of another master key than the store: it is from before a "
                "rotation. Bring back one from after it"
            )


def rows_of(store: TableStore, until: date, columns: list[str] | None = None) -> pa.Table:
    """RELEASED_USAGE of a period. Raises StoreError."""
    return store.read(RELEASED_USAGE, _place(until), columns=columns)


def write_period(store: TableStore, period: Period, rows: pa.Table) -> None:
    """Closes a period for good. Raises StoreError, and StoreBusyError where another run has closed it: what a run that was
    thought dead makes of it must not take the place of what has been told by now."""
    record = {
        "data_version": table_digest(rows),
        "days": dict(period.days),
        "people": dict(period.people),
        "rule": dict(period.rule),
        "left_out": period.left_out,
        "key_id": period.key_id,
        "salt": period.salt,
        "digest": period.digest,
    }
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, period.cells.schema) as writer:
        writer.write_table(period.cells)
    place = _place(period.until)
    if not store.add(RELEASED_USAGE, place, rows, record, {_CELLS: sink.getvalue()}):
        raise StoreBusyError(f"{store.uri(RELEASED_USAGE, place)} was made by another run meanwhile; run again")


def _read(store: TableStore, until: str) -> Period:
    place = f"{PERIOD}={until}"
    try:
        record = store.record(RELEASED_USAGE, place) or {}
        cells = pa.ipc.open_stream(store.section(RELEASED_USAGE, place, _CELLS)).read_all()
    except (StoreError, pa.ArrowException):
        uri = store.uri(RELEASED_USAGE, place)
        raise StoreError(
            f"{uri} is not there or damaged; bring it back from the backup, or remove it if no release tells of it (privacy.json)"
        ) from None
    names = ("days", "people", "rule", "left_out", "key_id", "salt", "digest")
    try:
        return Period(date.fromisoformat(until), cells, *(record[name] for name in names))
    except KeyError:
        raise StoreError(
            f"{store.uri(RELEASED_USAGE, place)} was written by an earlier version of this program, under a weaker policy. Who means "
            f"to begin anew removes private/{RELEASED_USAGE} and public/, and knows that copies of the old releases can be compared "
            "with the new ones"
        ) from None


def _place(until: date) -> str:
    return f"{PERIOD}={until}"
