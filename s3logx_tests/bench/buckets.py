"""The small log files in a bucket of a real S3 server on this machine: the extraction of them all, against boto3 with 16
threads that only fetches them. The server takes its share of the cores from both."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from s3logx_tests.bench.extraction import extract
from s3logx_tests.bench.measure import Contestant, Outcome, Round, Step, middle, ratio, run_rounds
from s3logx_tests.bench.measurements import Bench, Measured

_MODULE = "s3logx_tests.bench.buckets"
_BUCKET = "bench-logs"
_THREADS = 16
_OBJECTS_AT_ONCE = 500


def s3(bench: Bench) -> Measured:
    """20,000 objects, fetched and extracted, against boto3's fetch."""
    logs, warm_up = bench.data.logs("small"), bench.data.logs("warm-up")
    contestants = [Contestant(name, f"{_MODULE}:{name}", logs) for name in ("s3logx_s3", "boto3")]
    with _served([logs, warm_up]):
        rounds = run_rounds(contestants, bench.rounds, bench.scratch, warm_up, _same_files, bench.tell)
    objects = rounds[0]["boto3"].outcome.extra["files"]
    figures = {
        "s3_fetch_vs_boto3": ratio(rounds, "boto3", "s3logx_s3"),
        "s3_peak_mb": middle(rounds, "s3logx_s3", lambda sample: sample.peak_bytes / 1e6),
    }
    rates = ", ".join(
        f"{name} {objects / middle(rounds, name, lambda sample: sample.seconds):,.0f}"
        for name in ("s3logx_s3", "boto3")
    )
    return Measured(f"{objects:,.0f} objects of a bucket", rounds, figures, [f"Objects a second: {rates}."])


def s3logx_s3(logs: Path, out: Path) -> Step:
    """This project: the whole step, from the listing to the table."""
    return extract(logs, out, f"s3://{_BUCKET}/{logs.name}/")


def boto3(logs: Path, out: Path) -> Step:
    """The fetch alone, of objects whose names are known."""
    import boto3 as aws  # type: ignore[import-untyped]
    from botocore.config import Config  # type: ignore[import-untyped]

    keys = [f"{logs.name}/{path.relative_to(logs)}" for path in sorted(logs.rglob("*")) if path.is_file()]
    client = aws.client("s3", config=Config(max_pool_connections=_THREADS))

    def fetch(key: str) -> int:
        return len(client.get_object(Bucket=_BUCKET, Key=key)["Body"].read())

    def step() -> Callable[[], Outcome]:
        with ThreadPoolExecutor(_THREADS) as pool:
            received = sum(pool.map(fetch, keys))
        return lambda: Outcome(received, extra={"files": len(keys)})

    return step


@contextmanager
def _served(folders: list[Path]) -> Iterator[None]:
    """A server with these folders in a bucket, which this process's children find in their environment."""
    from s3logx_tests.s3_server import s3_server

    with TemporaryDirectory() as folder, s3_server(Path(folder) / "server") as server:
        server.make_bucket(_BUCKET)
        for root in folders:
            paths = [path for path in root.rglob("*") if path.is_file()]
            for start in range(0, len(paths), _OBJECTS_AT_ONCE):
                some = paths[start : start + _OBJECTS_AT_ONCE]
                server.put(_BUCKET, {f"{root.name}/{path.relative_to(root)}": path.read_bytes() for path in some})
        with mock.patch.dict(os.environ, server.environment()):
            yield


def _same_files(samples: Round) -> None:
    files = {sample.outcome.extra["files"] for sample in samples.values()}
    assert len(files) == 1, "not all read the same objects"
