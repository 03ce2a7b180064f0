"""Helpers for tests that put records through the real extraction program."""

from collections.abc import Sequence

from s3logx_assets.adapters.extractor import _PROGRAM_COUNTS
from s3logx_assets.adapters.gawk import Gawk, RecordFeeder, Report
from s3logx_assets.core.extraction import parse_rows

Verdict = tuple[object, ...]


def verdicts(records: Sequence[bytes]) -> list[Verdict]:
    """What the program makes of each record, each as a file of its own: ("extracted", key, second, bytes, size, status,
    address text) or ("skipped_…",) or ("rejected_…",)."""
    gawk = Gawk()
    reports: list[Report] = []
    import threading

    reader = threading.Thread(target=lambda: reports.extend(gawk.reports()))
    reader.start()
    feeder = RecordFeeder(gawk)
    for number, record in enumerate(records):
        gawk.open_file(number)
        feeder.feed(record + b"\n")
        feeder.end_file()
        if number % 200 == 0:
            gawk.open_file(-1)
            gawk.report()
    gawk.open_file(-1)
    gawk.report()
    gawk.end()
    reader.join()
    found: list[Verdict] = []
    for report in reports:
        rows = parse_rows(report.rows).to_pylist()
        for file in report.files:
            assert file.number == len(found)
            assert file.records == 1
            if file.extracted:
                row = rows.pop(0)
                found.append(
                    (
                        "extracted",
                        row["object_key"],
                        int(row["requested_at"].timestamp()),
                        row["bytes_sent"] or 0,
                        row["object_size"],
                        row["status"],
                        row["address"],
                    )
                )
                assert not any(file.counts)
            else:
                (name,) = [name for name, count in zip(_PROGRAM_COUNTS, file.counts, strict=True) if count]
                found.append((name,))
        assert not rows
    return found
