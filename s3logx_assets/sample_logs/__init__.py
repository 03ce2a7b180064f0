"""Sample logs: a seeded generator of realistic S3 server access logs.

For trying the project out (`make run`), for tests and for benchmarks. It belongs to none of the
three layers and nothing of the pipeline may depend on it.

    python -m s3logx_assets.sample_logs OUT_FOLDER [options]
"""

from s3logx_assets.sample_logs.folder import addresses_in, ensure, generate
from s3logx_assets.sample_logs.hard import HARD_VERDICTS
from s3logx_assets.sample_logs.spec import (
    LAYOUTS,
    SAMPLE_FIRST_DATE,
    UPSTREAM_BENCHMARK,
    Layout,
    SampleSpec,
    SampleSummary,
)

__all__ = [
    "HARD_VERDICTS",
    "LAYOUTS",
    "SAMPLE_FIRST_DATE",
    "UPSTREAM_BENCHMARK",
    "Layout",
    "SampleSpec",
    "SampleSummary",
    "addresses_in",
    "ensure",
    "generate",
]
