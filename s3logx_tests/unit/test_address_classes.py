"""Requesters by class: each once, by what its newest date says."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3logx_assets.core import address_classes
from s3logx_assets.core.address_classes import CLASSES, all_missing, class_of, classes_of, count_classes
from s3logx_assets.core.schemas import IP_REGIONS

LABELS = [
    ("US/California", "geolocation", "determined"),
    ("FR", "ipinfo", "determined"),
    ("AWS/us-east-2", "cloud", "cloud"),
    ("GCP/us-central1", "cloud", "cloud"),
    ("GitHub", "cloud", "GitHub"),
    ("VPN", "vpn", "VPN"),
    ("bogon", "bogon", "bogon"),
    ("unknown", "none", "unknown"),
    ("undetermined", "none", "undetermined"),
]


@pytest.mark.parametrize(("label", "method", "name"), LABELS)
def test_a_label_has_its_class(label: str, method: str, name: str) -> None:
    assert class_of(label, method) == name


def regions(rows: list[tuple[int, int]]) -> pa.Table:
    found = [dict(zip(IP_REGIONS.names, (index, *LABELS[number][:2], None), strict=True)) for index, number in rows]
    return pa.Table.from_pylist(found, schema=IP_REGIONS)


dates = st.lists(st.dictionaries(st.integers(-5, 5), st.integers(0, len(LABELS) - 1)), max_size=6)


@given(dates, st.integers(0, 6), st.integers(1, 8))
def test_each_requester_counts_once_by_its_newest_date(days: list[dict[int, int]], missing: int, pending: int) -> None:
    latest: dict[int, str] = {}
    parts = []
    for number, day in enumerate(days):
        if number == missing:
            parts.append(all_missing(np.array(sorted(day), np.int64)))
            latest |= dict.fromkeys(day, "missing")
        else:
            parts.append(classes_of(regions(sorted(day.items()))))
            latest |= {index: LABELS[label][2] for index, label in day.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(address_classes, "_PENDING", pending)
        counts = count_classes(parts)
    assert counts == {name: list(latest.values()).count(name) for name in CLASSES}
