"""`statistics`: how far the archive has come, as figures that Dagster plots over time: what is listed, what of it is
extracted, who asked by class of address. It stores nothing; all of it can be told from the tables at any time.

It also lists today's date in the source, and fails where that cannot be done. Sensors that cannot list ask for nothing, and
no run fails; without a run that does, nobody would be told that the archive stands still.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa

from s3logx_assets.adapters.log_store import LogStore
from s3logx_assets.adapters.table_store import LOG_DATE, TableStore, partition
from s3logx_assets.assets.extract import KEY as EXTRACTED_LOGS
from s3logx_assets.assets.inventory import compared, dates_of, newest_stored, rows_of
from s3logx_assets.core.address_classes import all_missing, classes_of, count_classes
from s3logx_assets.core.charts import bytes_text
from s3logx_assets.core.errors import StoreError
from s3logx_assets.core.ledger import LogObject
from s3logx_assets.core.locations import S3Location
from s3logx_assets.metadata import markdown_table
from s3logx_assets.pictures import Entry, chart, share_chart, text_bars, text_plot
from s3logx_assets.resources import Rules
from s3logx_assets.retries import POLICY, told

KEY = "statistics"
COMPLETION, PRESENCE = "completion", "listed_files_exist"
_SAMPLE = 100
_SHOWN = 10
_MONTHS = 60


@dataclass
class Completion:
    """What the newest snapshot of the inventory lists, and how much of it is extracted as it is."""

    snapshot: str
    files: int = 0
    size: int = 0
    new: int = 0
    changed: int = 0
    vanished: int = 0
    dates_behind: list[date] = field(default_factory=list)
    dates: list[tuple[date, int, int]] = field(default_factory=list)  # files extracted, files listed

    @property
    def months(self) -> dict[str, list[int]]:
        """Files extracted and listed of each month."""
        found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for day, extracted, listed in self.dates:
            month = found[f"{day:%Y-%m}"]
            month[0] += extracted
            month[1] += listed
        return dict(found)

    def chart(self) -> Entry:
        """The share that is extracted, over time."""
        if not self.dates:
            return {}
        days, extracted, listed = zip(*self.dates, strict=True)
        counts = (np.array(extracted), np.array(listed))
        return share_chart("completeness_chart", pa.array(days), *counts, "Listed log files that are extracted")

    @property
    def share(self) -> float:
        """The share of the listed files that are extracted as they are."""
        return 1 - (self.new + self.changed) / self.files if self.files else 1.0


def extracted_figures(store: TableStore) -> dict[str, Any]:
    """Dates, files, bytes, lines and rows of all that is extracted, and the files over the dates, in which a gap shows."""
    days = store.partitions(EXTRACTED_LOGS, LOG_DATE)
    found = zip(days, store.records(EXTRACTED_LOGS, map(partition, days)), strict=True)
    counts = {date.fromisoformat(day): record["counts"] for day, (_, record) in found if record is not None}
    sums = {
        name: sum(of_day[name] for of_day in counts.values()) for name in ("files", "bytes", "records", "extracted")
    }
    figures: dict[str, Any] = {
        "in_short": f"{sums['files']:,} log files of {len(counts):,} dates, {bytes_text(sums['bytes'])}, with "
        f"{sums['records']:,} records, of which {sums['extracted']:,} are extracted",
        "extracted_dates": len(counts),
        "extracted_files": sums["files"],
        "extracted_bytes": sums["bytes"],
        "records": sums["records"],
        "rows": sums["extracted"],
    }
    if counts:
        dates, files = pa.array(counts, pa.date32()), np.array([of_day["files"] for of_day in counts.values()])
        figures |= {
            "files_by_date": text_plot(dates, files),
            **chart("files_chart", dates, files, "Log files extracted"),
        }
    return figures


def address_figures(store: TableStore) -> dict[str, int]:
    """How many requesters there are of each class of address."""

    def found(day: str) -> Any:
        try:
            return classes_of(store.read("ip_regions", partition(day), columns=["ip_index", "region", "method"]))
        except StoreError:  # not made, or damaged
            return all_missing(store.read("ip_indexes", partition(day), columns=["ip_index"])["ip_index"].to_numpy())

    counts = count_classes(store.each(found, store.partitions("ip_indexes", LOG_DATE)))
    return {"requesters": sum(counts.values()), **{f"requesters_{name}": count for name, count in counts.items()}}


def completion_of(store: TableStore, first: date, with_etags: bool) -> Completion | None:
    """How much of the newest stored snapshot, from the date `first` on, is extracted; None without one."""
    snapshot = newest_stored(store)
    if snapshot is None:
        return None
    dates, of_snapshot = dates_of(store, snapshot)
    found = Completion(snapshot)
    rows = [row for row in dates.to_pylist() if row["log_date"] >= first]
    for row, _, news in compared(store, snapshot, of_snapshot, rows, with_etags):
        found.files += row["files"]
        found.size += row["bytes"]
        found.new += news.new
        found.changed += news.changed
        found.vanished += news.vanished
        if news.new or news.changed:
            found.dates_behind.append(row["log_date"])
        found.dates.append((row["log_date"], row["files"] - news.new - news.changed, row["files"]))
    return found


def sample_of(store: TableStore, snapshot: str, size: int = _SAMPLE) -> list[LogObject]:
    """Some of a snapshot's log objects, of as many dates, always the same ones."""
    dates, _ = dates_of(store, snapshot)
    chance = random.Random(snapshot)  # noqa: S311 anyone may foresee it
    rows = dates.to_pylist()
    chosen = chance.sample(rows, min(len(rows), _SHOWN))

    def of_date(row: Mapping[str, Any]) -> Iterator[LogObject]:
        listed = rows_of(store, snapshot, row).select(["name", "size", "version"])
        places = sorted(chance.sample(range(listed.num_rows), min(listed.num_rows, size // len(chosen))))
        return (LogObject(**each) for each in listed.take(places).to_pylist())

    return list(islice((item for row in chosen for item in of_date(row)), size))


def refuse_unlistable(store: LogStore, day: date) -> None:
    """Raises SourceError or SourceUnavailable where a date of the source cannot be listed. It may have no log files."""
    for _, listing in store.listings([day]):
        if listing.error is not None:
            raise listing.error


def plot(months: Mapping[str, Sequence[int]]) -> str:
    """Markdown: for each of the last months two bars, the files that are listed and the share that is extracted."""
    shown = dict(sorted(months.items())[-_MONTHS:])
    most = max((listed for _, listed in shown.values()), default=0)
    listed = text_bars([count for _, count in shown.values()])
    share = "".join(text_bars([extracted], count) for extracted, count in shown.values())
    first, last = next(iter(shown), ""), next(reversed(shown), "")
    return f"`{listed}` files listed\n\n`{share}` share extracted\n\n{first} to {last}, a bar per month, the highest {most} files"


def build_statistics(with_inventory: bool) -> dg.AssetsDefinition:
    """The asset `statistics`, with its checks where there is an inventory."""
    specs = [
        dg.AssetCheckSpec(COMPLETION, asset=KEY, description="All files that the inventory lists are extracted."),
        dg.AssetCheckSpec(PRESENCE, asset=KEY, description="A sample of the listed files is in the source still."),
    ]

    @dg.asset(
        name=KEY,
        deps=[
            dg.AssetDep("extracted_logs", partition_mapping=dg.AllPartitionMapping()),
            dg.AssetDep("ip_regions", partition_mapping=dg.AllPartitionMapping()),
            *([dg.AssetDep("log_inventory", partition_mapping=dg.AllPartitionMapping())] if with_inventory else []),
        ],
        group_name="summaries",
        kinds={"python"},
        check_specs=specs if with_inventory else [],
        retry_policy=POLICY,
        description="How far the archive has come: what is listed, extracted, and who asked by class of address.",
    )
    def statistics(
        private_store: dg.ResourceParam[TableStore],
        log_store: dg.ResourceParam[LogStore],
        rules: dg.ResourceParam[Rules],
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        settings = rules.settings
        with told(), private_store.in_use():
            refuse_unlistable(log_store, datetime.now(UTC).date())
            metadata: dict[str, Any] = {**extracted_figures(private_store), **address_figures(private_store)}
            found = None
            if with_inventory:
                found = completion_of(private_store, settings.first_date, isinstance(settings.logs, S3Location))
            if found is None:
                return dg.MaterializeResult(metadata=metadata, check_results=_not_yet() if with_inventory else [])
            sample = sample_of(private_store, found.snapshot)
            present = sum(private_store.each(log_store.exists, sample))
            metadata |= {
                "snapshot": found.snapshot,
                "listed_files": found.files,
                "listed_bytes": found.size,
                "files_not_extracted": found.new,
                "files_changed": found.changed,
                "files_vanished": found.vanished,
                "dates_behind": len(found.dates_behind),
                "share_extracted": round(found.share, 6),
                "by_month": dg.MetadataValue.md(plot(found.months)),
            }
            metadata |= found.chart()
            if found.dates_behind:
                shown = [(day,) for day in found.dates_behind[:_SHOWN]]
                metadata["first_dates_behind"] = dg.MetadataValue.md(markdown_table(("log date",), shown))
            return dg.MaterializeResult(metadata=metadata, check_results=_checked(found, len(sample), present))

    return statistics


def _checked(found: Completion, asked: int, present: int) -> list[dg.AssetCheckResult]:
    warn = dg.AssetCheckSeverity.WARN
    behind = {"files_not_extracted": found.new, "files_changed": found.changed, "files_vanished": found.vanished}
    return [
        dg.AssetCheckResult(
            check_name=COMPLETION,
            passed=not (found.new or found.changed),
            severity=warn,
            metadata={**behind, "dates_behind": len(found.dates_behind), "share_extracted": round(found.share, 6)},
        ),
        dg.AssetCheckResult(
            check_name=PRESENCE,
            passed=asked == present,
            severity=warn,
            metadata={"asked": asked, "present": present},
        ),
    ]


def _not_yet() -> list[dg.AssetCheckResult]:
    """Nothing is listed yet, so nothing is behind."""
    return _checked(Completion(""), 0, 0)
