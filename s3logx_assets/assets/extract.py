"""`extracted_logs`: from the log objects of a date to its successful GETs and their ledger."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date
from typing import Any, cast

import dagster as dg
import pyarrow as pa

from s3logx_assets import checks
from s3logx_assets.adapters.extractor import ExtractedDate, bare
from s3logx_assets.adapters.log_store import Listing
from s3logx_assets.adapters.table_store import TableStore, partition
from s3logx_assets.assets.daily import CheckOutcome, DailyAsset, Made, Tools
from s3logx_assets.core import ledger as ledgers
from s3logx_assets.core.concurrency import ahead
from s3logx_assets.core.digests import combined, table_digest
from s3logx_assets.core.errors import ConservationError, S3logxError, ShrinkError, StoreBusyError, StoreError
from s3logx_assets.core.extraction import GROUP
from s3logx_assets.core.schemas import EXTRACTED_LOGS as SCHEMA
from s3logx_assets.metadata import column_schema, markdown_table, table_metadata
from s3logx_assets.pictures import meter
from s3logx_assets.resources import build_extractor

KEY = "extracted_logs"
_SHOWN = 10
_SMALL_LEDGER = 1 << 16


def ledger_of(store: TableStore, day: date) -> pa.Table:
    """The ledger of an extracted date, schema LEDGER. Raises StoreError where there is none or it is damaged."""
    content = store.section(KEY, partition(day), "ledger")
    try:
        return pa.ipc.open_file(content).read_all()
    except (OSError, pa.ArrowException):
        raise StoreError(f"the ledger of {day} cannot be read; materialise {KEY} again") from None


def _stream(tools: Tools, days: Sequence[date]) -> Iterator[tuple[date, Made | S3logxError]]:
    extractor = build_extractor(tools.log_store, tools.sealer, tools.rules)
    seen: dict[date, str] = {}
    for outcome in extractor.extract(days, _refuse_to_shrink(tools, seen)):
        if not isinstance(outcome, ExtractedDate):
            yield outcome.day, outcome.error
            continue
        try:
            made: Made | S3logxError = _store(tools, outcome, seen.pop(outcome.day, None))
        except S3logxError as error:
            made = bare(error)
        yield outcome.day, made


def _refuse_to_shrink(tools: Tools, seen: dict[date, str]) -> Callable[[date, Listing], S3logxError | None]:
    """History is not destroyed by an empty listing: logs expire, listings can be cut short. `seen` gets the digest of the
    listing that each date was stored from at that time, empty where there is none."""

    def refuse(day: date, listing: Listing) -> S3logxError | None:
        record: dict[str, Any] | None = {}
        seen[day] = ""
        try:
            record = tools.private_store.record(KEY, partition(day))
            seen[day] = record["listing"] if record else ""
            if (
                record is None
                or tools.rules.settings.allow_shrink
                or record["listing"] == ledgers.listing_digest(listing.objects)
            ):
                return None
            names = ledger_of(tools.private_store, day)["name"].to_pylist()
        except StoreError as damage:
            return _refuse_less(tools, day, listing, record or {}, damage)
        gone = set(names) - {item.name for item in listing.objects}
        if not gone:
            return None
        return ShrinkError(
            f"{len(gone)} log files of {day} that were extracted earlier are no longer in the source; the old "
            "partition stands. Set S3LOGX_ALLOW_SHRINK=1 to extract the date without them"
        )

    return refuse


def _refuse_less(
    tools: Tools, day: date, listing: Listing, record: Mapping[str, Any], damage: StoreError
) -> S3logxError | None:
    """A damaged date is extracted anew, unless the source has fewer log files than it had, or none where that is unknown."""
    listed = len(listing.objects)
    may_shrink = tools.rules.settings.allow_shrink
    if not may_shrink and listed < (int(record["counts"]["files"]) if record else 1):
        return ShrinkError(
            f"{damage}. But the source has {listed} log files of {day}, which may be fewer than were extracted earlier: bring "
            "the file back from a backup, or set S3LOGX_ALLOW_SHRINK=1 to extract the date from what there is"
        )
    tools.log(f"{day}: {KEY} is damaged; it is made anew from the {listed} log files in the source")
    return None


def _refuse_to_overwrite(store: TableStore, day: date, *known: str) -> None:
    """Raises StoreBusyError where a date is stored from a listing that is none of the `known`: files that came after
    this run's listing would be lost, and no later one shows them as gone."""
    try:
        record = store.record(KEY, partition(day))
    except StoreError:
        return  # it was damaged before, or is worth no more
    if record is not None and record["listing"] not in known:
        raise StoreBusyError(f"{day} was extracted meanwhile by another run, from other log files; run again")


def _store(tools: Tools, done: ExtractedDate, seen: str | None) -> Made:
    """Stores a date that was stored from the listing `seen` when this run began with it, None where nobody looked."""
    store, place = tools.private_store, partition(done.day)
    counts = ledgers.sum_of(done.ledger)
    listing = ledgers.listing_digest(done.listing.objects)
    digests: list[str] = []
    stored = 0
    latest: pa.Table

    def passing() -> Iterator[pa.Table]:
        nonlocal stored, latest
        for latest in done.tables:
            stored += latest.num_rows
            digests.append(table_digest(latest))
            yield latest

    def tables() -> Iterable[pa.Table]:
        return [latest] if len(digests) == 1 else store.groups(KEY, place, encoded=["object_key"])

    def record() -> dict[str, Any]:
        if not checks.conservation(subject()).passed:
            raise ConservationError(f"{done.day}: the counts of the log files do not add up; the old partition stands")
        if seen is not None:
            _refuse_to_overwrite(store, done.day, seen, listing)
        return {
            "data_version": combined(digests),
            "listing": listing,
            "counts": counts,
            "key_id": tools.sealer.key_id,
        }

    def subject() -> checks.Subject:
        return checks.Subject(done.day, tables, stored, done.ledger, done.listing)

    # A table of several groups keeps two cores busy: one makes the next group and its digest, one writes.
    groups = ahead(passing()) if done.row_count > GROUP else passing()
    # Where the store fails, the thread that is a group ahead ends here, before the rows are let go of.
    with closing(cast(Generator[pa.Table, None, None], groups)):
        store.write_groups(KEY, place, SCHEMA, groups, record, {"ledger": _serialized(done.ledger)})
    return Made(combined(digests), _metadata(done, counts, store.uri(KEY, place)), _evaluate(tools, subject()))


def _serialized(ledger: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    # To compress a column costs more than a small ledger's bytes.
    compression = "zstd" if ledger.nbytes > _SMALL_LEDGER else None
    with pa.ipc.new_file(sink, ledger.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(ledger)
    return bytes(sink.getvalue().to_pybytes())


def _metadata(done: ExtractedDate, counts: dict[str, int], uri: str) -> dict[str, Any]:
    files, records, extracted, duplicate = (counts[name] for name in ("files", "records", "extracted", "duplicate"))
    skipped, rejected = _reasons(counts, "skipped_"), _reasons(counts, "rejected_")
    left_out = {"skipped": sum(skipped.values()), "rejected": sum(rejected.values())}
    metadata: dict[str, Any] = {
        "in_short": f"{files:,} log files with {records:,} records: {extracted:,} extracted, {left_out['skipped']:,} skipped, "
        f"{left_out['rejected']:,} rejected, {duplicate:,} duplicates",
        **table_metadata(done.row_count, uri),
        **{name: counts[name] for name in ("files", "bytes", "records", "extracted", "duplicate")},
        **left_out,
        "rejected_share": round(left_out["rejected"] / records, 6) if records else 0.0,
        "stray_files": done.listing.strays,
        "ignored_files": done.listing.ignored,
        # Each reason by itself, so that Dagster plots it over the dates: a new one is a new form of records.
        **{f"rejected_{reason}": count for reason, count in rejected.items()},
    }
    for name, reasons in (("skipped_by_rule", skipped), ("rejected_by_reason", rejected)):
        if reasons:
            metadata[name] = dg.MetadataValue.md(_counted(reasons))
    if done.rejected:
        rows = [(name, record, reason) for name, record, reason in done.rejected[:_SHOWN]]
        metadata["first_rejected"] = dg.MetadataValue.md(markdown_table(("log file", "record", "reason"), rows))
    return metadata


def _reasons(counts: dict[str, int], start: str) -> dict[str, int]:
    found = {name.removeprefix(start): count for name, count in counts.items() if count and name.startswith(start)}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _counted(reasons: dict[str, int]) -> str:
    most = max(reasons.values())
    return markdown_table(("reason", "records", ""), ((name, n, meter(n, most)) for name, n in reasons.items()))


def _check(tools: Tools, day: date) -> tuple[CheckOutcome, ...]:
    """The checks of a date as it is stored, against the source as it is now."""
    ((_, listing),) = tools.log_store.listings([day])
    if listing.error is not None:
        raise listing.error
    store, place = tools.private_store, partition(day)
    rows = sum(table.num_rows for table in store.groups(KEY, place, columns=["status"]))
    ledger = ledger_of(store, day)
    return _evaluate(
        tools, checks.Subject(day, lambda: store.groups(KEY, place, encoded=["object_key"]), rows, ledger, listing)
    )


def _evaluate(tools: Tools, subject: checks.Subject) -> tuple[CheckOutcome, ...]:
    settings = tools.rules.settings
    return checks.evaluate(
        subject,
        tools.private_store,
        tools.log_store,
        tools.sealer,
        settings.first_date,
        settings.rejected_share,
        tools.rules.is_excluded,
    )


EXTRACTED_LOGS = DailyAsset(
    spec=dg.AssetSpec(
        KEY,
        group_name="extract",
        kinds={"gawk", "parquet"},
        metadata=column_schema(SCHEMA),
        description="One row per successful GET of a log date, addresses sealed, and the ledger of its log files.",
    ),
    stream=_stream,
    checks=checks.SPECS,
    check=_check,
)
