"""A platform over sample logs, with the regions of the embedded tables: what pages and pictures are made of."""

from pathlib import Path

import dagster as dg

from s3logx_assets.resources import build_resources
from s3logx_assets.sample_logs import SampleSpec, generate
from s3logx_tests.platform import Platform


def sampled_platform(folder: Path, instance: dg.DagsterInstance, spec: SampleSpec, **settings: str) -> Platform:
    """All assets made over generated logs, the release too, on the days that have logs."""
    platform = Platform.make(folder, instance, S3LOGX_FIRST_DATE=spec.first_date.isoformat(), **settings)
    summary = generate(spec, folder / "logs", force=True)
    platform.geolocator = build_resources(platform.settings)["geolocator"]  # type: ignore[assignment]
    assert platform.daily(str(spec.first_date), str(summary.last_date)).success
    assert platform.update_scopes().success
    assert platform.publish().success
    return platform
