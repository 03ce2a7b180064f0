"""What can be asked of the sample log generator, and what it tells of its work."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal, get_args

from s3logx_assets.core.errors import SettingsError

SAMPLE_FIRST_DATE: Final = date(2025, 3, 1)
Layout = Literal["flat", "date", "account", "mixed"]
LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)

# Changes whenever the same options give other bytes than before.
SAMPLE_FORMAT: Final = 1

_MOST_DAYS: Final = 36_500


@dataclass(frozen=True)
class SampleSpec:
    """What to generate; equal specifications give equal folders, byte for byte.

    `lines` is the total, unless `total_bytes` asks for about that many bytes instead. `files` is
    the total, unless `files_per_day` is given. `plain` leaves out hard lines, lagging events, gzip,
    duplicates and missing final newlines: then the stream of lines depends on `seed`,
    `first_date`, `days`, `lines` or `total_bytes`, and `datasets` alone, and the other fields only
    share it out. `file_days` (plain, one day of events) spreads the files over that many dates.
    """

    seed: int = 1
    first_date: date = SAMPLE_FIRST_DATE
    days: int = 14
    lines: int = 60_000
    total_bytes: int | None = None
    files: int = 600
    files_per_day: int | None = None
    file_days: int | None = None
    layout: Layout = "mixed"
    plain: bool = False
    datasets: int = 30

    def __post_init__(self) -> None:
        for name in ("days", "lines", "total_bytes", "files", "files_per_day", "file_days"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"sample logs: {name} is {value}, must be 1 or more")
        for name in ("days", "file_days"):
            if (getattr(self, name) or 0) > _MOST_DAYS:
                raise SettingsError(f"sample logs: {name} must be {_MOST_DAYS} or less")
        if not 1971 <= self.first_date.year <= 9000:
            raise SettingsError("sample logs: the year of first_date must be 1971 to 9000")
        if self.datasets < 5:
            raise SettingsError(f"sample logs: datasets is {self.datasets}, must be 5 or more")
        if self.seed < 0:
            raise SettingsError(f"sample logs: seed is {self.seed}, must be 0 or more")
        if self.layout not in LAYOUTS:
            raise SettingsError(f"sample logs: layout is {self.layout!r}, must be one of {', '.join(LAYOUTS)}")
        if self.file_days is not None and not (self.plain and self.days == 1):
            raise SettingsError("sample logs: file_days needs plain and a single day of events")


# The shape of the benchmark data of the upstream tool (many tiny files over many dates), with times
# that exist.
UPSTREAM_BENCHMARK: Final = SampleSpec(
    first_date=date(2019, 1, 1),
    days=2_016,
    total_bytes=79_000_000,
    files=21_264,
    layout="date",
    plain=True,
)


@dataclass(frozen=True)
class SampleSummary:
    """What was generated.

    `verdicts` counts what a careful reader makes of the lines, by rule; they sum to `lines`. `hard`
    counts the hard lines by kind, `odd_files` the files that are gzip, a duplicate, or unended.
    """

    files: int
    lines: int
    bytes: int
    first_date: date
    last_date: date
    verdicts: Mapping[str, int]
    hard: Mapping[str, int]
    odd_files: Mapping[str, int]
