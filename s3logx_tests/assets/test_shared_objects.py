"""Objects of several datasets, from the logs to a release."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from s3logx_tests.platform import Platform, line

DAY = "2025-03-03"
TABLE = """key,dataset,path
blobs/1,000001,a.nwb
blobs/1,000002,b.nwb
blobs/2,000002,c.mp4
blobs/1,000001,again.nwb
"""


@pytest.mark.parametrize(("mode", "shared"), [("", 0), ("first", 0), ("each", 20)])
def test_a_shared_object_counts_in_each_dataset_and_once_in_the_archive(tmp_path: Path, mode: str, shared: int) -> None:
    table = tmp_path / "mapping.csv"
    table.write_text(TABLE)
    with dg.DagsterInstance.ephemeral() as instance:
        platform = Platform.make(tmp_path, instance)
        platform.environment |= {
            "S3LOGX_DATASET_MAPPING": str(table),
            "S3LOGX_DATASET_MAPPING_MODE": mode,
            "S3LOGX_LAG_DAYS": "0",
        }
        keys = ["blobs/1", "blobs/1", "blobs/2", "elsewhere"]
        platform.log(f"{DAY}-05-00-00-AA", *(line(key, DAY, n, host=n + 1) for n, key in enumerate(keys)))
        assert platform.daily(DAY, DAY).success
        assert platform.update_scopes().success
        assert platform.publish().success

        def read(name: str) -> Any:
            return json.loads((platform.latest / name).read_text())

        sent = {name: each["total_bytes_sent"] for name, each in read("totals.json").items()}
        assert sent == {"000001": 20, "000002": 10 + shared, "unassociated": 10}
        assert read("archive_totals.json")["total_bytes_sent"] == 10 * len(keys)
        by_asset = (platform.latest / "summaries" / "000002" / "by_asset.tsv").read_text()
        assert ("b.nwb" in by_asset, "c.mp4" in by_asset, "again" in by_asset) == (bool(shared), True, False)
