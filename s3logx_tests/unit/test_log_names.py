"""Names of log objects: which names are logs, and of which date."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3logx_assets.core.log_names import log_date

UNIQUE = "0123456789ABCDEF"


@pytest.mark.parametrize(
    ("name", "day"),
    [
        (f"2020-01-01-05-06-35-{UNIQUE}", date(2020, 1, 1)),
        (f"2024-02-29-00-00-00-{UNIQUE}", date(2024, 2, 29)),
        (f"2000-02-29-23-59-59-{UNIQUE}", date(2000, 2, 29)),
        (f"2025-12-31-23-59-59-{UNIQUE}", date(2025, 12, 31)),
        ("2025-03-01-00-00-00-A", date(2025, 3, 1)),
        ("2025-03-01-00-00-00-abcdef", date(2025, 3, 1)),
        (f"2025-03-01-00-00-00-{UNIQUE}.gz", date(2025, 3, 1)),
    ],
)
def test_a_log_s_name_tells_its_date(name: str, day: date) -> None:
    assert log_date(name) == day


@pytest.mark.parametrize(
    "name",
    [
        "",
        "2025-03-01",
        "2025-03-01-00-00-00",
        "2025-03-01-00-00-00-",
        "2025-03-01-00-00-00-.gz",
        f"2025-3-1-00-00-00-{UNIQUE}",
        f"25-03-01-00-00-00-{UNIQUE}",
        f"02025-03-01-00-00-00-{UNIQUE}",
        f"2025-02-29-00-00-00-{UNIQUE}",
        f"2100-02-29-00-00-00-{UNIQUE}",
        f"2025-04-31-00-00-00-{UNIQUE}",
        f"2025-00-01-00-00-00-{UNIQUE}",
        f"2025-13-01-00-00-00-{UNIQUE}",
        f"2025-01-00-00-00-00-{UNIQUE}",
        f"2025-01-32-00-00-00-{UNIQUE}",
        f"0000-01-01-00-00-00-{UNIQUE}",
        f"2025-01-01-24-00-00-{UNIQUE}",
        f"2025-01-01-00-60-00-{UNIQUE}",
        f"2025-01-01-00-00-60-{UNIQUE}",
        f"2025/01/01-00-00-00-{UNIQUE}",
        f"folder/2025-01-01-00-00-00-{UNIQUE}",
        f" 2025-01-01-00-00-00-{UNIQUE}",
        f"2025-01-01-00-00-00-{UNIQUE} ",
        f"2025-01-01-00-00-00-{UNIQUE}\n",
        f"2025-01-01-00-00-00-{UNIQUE}\r",
        f"2025-01-01-00-00-00-{UNIQUE}\0",
        f"2025-01-01-00-00-00-{UNIQUE}.tmp",
        f"2025-01-01-00-00-00-{UNIQUE}.gz.part",
        f"2025-01-01-00-00-00-{UNIQUE}.GZ",
        f"2025-01-01-00-00-00-{UNIQUE}~",
        f".2025-01-01-00-00-00-{UNIQUE}.8fA3x",
        f"2025-01-01-00-00-00-{UNIQUE};id",
        f"2025-01-01-00-00-00-$({UNIQUE})",
        f"2025-01-01-00-00-00-a=b{UNIQUE}",
        "2025-01-01-00-00-00-É",
        f"２０２５-01-01-00-00-00-{UNIQUE}",
        f"2025-0\u0661-01-00-00-00-{UNIQUE}",
        "\udcff2025-01-01-00-00-00-A",
    ],
)
def test_every_other_name_is_no_log(name: str) -> None:
    assert log_date(name) is None


@given(st.dates(), st.integers(0, 86_399), st.from_regex("[A-Z0-9]{16}", fullmatch=True))
def test_every_date_of_the_calendar_has_its_name(day: date, second: int, unique: str) -> None:
    clock = str(timedelta(seconds=second)).zfill(8).replace(":", "-")
    assert log_date(f"{day.isoformat()}-{clock}-{unique}") == day


@given(st.text())
def test_no_text_is_an_accident(text: str) -> None:
    assert log_date(text) is None or text[:10] == str(log_date(text))
