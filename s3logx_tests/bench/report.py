"""The release of an archive with a thousand datasets over ten years: its pages, tables and descriptions, searched for leaks
and written. There is no peer; what counts is the time, and that the overview stays small."""

import json
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from s3logx_assets.adapters.release_store import LocalReleaseStore
from s3logx_assets.assets.release import Before, compatible_release
from s3logx_assets.assets.share import refuse_leaks
from s3logx_assets.core.schemas import BY_ASSET, BY_DAY_AND_TYPE, BY_REGION, REGION_COORDINATES, REQUESTERS
from s3logx_assets.core.scopes import ARCHIVE
from s3logx_assets.core.summaries import ScopeTables
from s3logx_assets.resources import Rules
from s3logx_assets.settings import Settings
from s3logx_tests.bench.measure import Contestant, Outcome, Round, Step, middle, run_rounds
from s3logx_tests.bench.measurements import Bench, Measured

_DATASETS, _DAYS, _ASSETS, _REGIONS = 1000, 3650, 400, 150
_FIRST = date(2016, 1, 1)


def report(bench: Bench) -> Measured:
    """The whole release, from exact tables to files on disk."""
    folders = [bench.data.root / f"report-{count}" for count in (3, round(_DATASETS * bench.data.scale))]
    for folder in folders:
        folder.mkdir(exist_ok=True)
        (folder / "datasets.json").write_text(folder.name.rpartition("-")[2])
    warm_up, data = folders
    contestants = [Contestant("release", "s3logx_tests.bench.report:release", data)]
    rounds = run_rounds(contestants, bench.rounds, bench.scratch, warm_up, _whatever, bench.tell)
    extra = rounds[0]["release"].outcome.extra
    figures = {
        "report_thousand_datasets_seconds": middle(rounds, "release", lambda sample: sample.seconds),
        "report_peak_mb": middle(rounds, "release", lambda sample: sample.peak_bytes / 1e6),
        "report_overview_kb": extra["overview_bytes"] / 1e3,
        "report_dataset_page_kb": extra["page_bytes"] / 1e3,
        "report_release_mb": extra["bytes"] / 1e6,
    }
    return Measured(f"The release of {data.name.rpartition('-')[2]} datasets", rounds, figures)


def release(data: Path, out: Path) -> Step:
    """`compatible_release`, the search for leaks, and the store."""
    scopes = _scopes(json.loads((data / "datasets.json").read_text()))
    names = [f"US/Region {number}" for number in range(3000)]
    random = np.random.default_rng(1)
    places = [random.uniform(-50, 70, len(names)), random.uniform(-180, 180, len(names))]
    coordinates = pa.table([names, *map(pa.array, places), ["bench"] * len(names)], schema=REGION_COORDINATES)
    environment = {"DAGSTER_HOME": str(out), "S3LOGX_LOGS": str(out), "S3LOGX_FIRST_DATE": str(_FIRST)}
    rules = Rules(Settings.read(environment))

    def step() -> Callable[[], Outcome]:
        made = compatible_release(scopes, coordinates, _FIRST + timedelta(_DAYS), [], rules, Before())
        refuse_leaks(made.files, [bytes(range(32))])
        LocalReleaseStore(out / "public").publish(made.release_id, made.files)
        return lambda: _outcome(made.files)

    return step


def _outcome(files: Mapping[str, bytes]) -> Outcome:
    pages = [len(content) for name, content in files.items() if name.endswith("/index.html")]
    overview = sum(
        len(files[name]) for name in ("index.html", "assets/report.css", "assets/report.js", "assets/world.svg")
    )
    sizes = {"overview_bytes": float(overview), "page_bytes": sum(pages) / len(pages)}
    return Outcome(len(files), extra={**sizes, "bytes": float(sum(map(len, files.values())))})


def _whatever(samples: Round) -> None:
    assert samples, "nobody to agree with"


def _scopes(datasets: int) -> dict[str, ScopeTables]:
    random = np.random.default_rng(7)
    made = {f"ds{number:06}": _tables(random, _DAYS // 3, _ASSETS, _REGIONS) for number in range(datasets)}
    return {ARCHIVE: _tables(random, _DAYS, 0, 3000), **made}


def _tables(random: np.random.Generator, days: int, assets: int, regions: int) -> ScopeTables:
    dates = [_FIRST + timedelta(int(day)) for day in sorted(random.choice(_DAYS, days, replace=False))]
    files = [f"sub-{number:05}/sub-{number:05}_ses-1_ecephys.nwb" for number in range(assets)]
    labels = [f"US/Region {number}" for number in sorted(range(regions), key=str)]
    indexes = np.arange(100)
    return ScopeTables(
        pa.table([dates, ["Neurophysiology"] * days, *_counts(random, days)], schema=BY_DAY_AND_TYPE),
        pa.table([files, *_counts(random, assets)], schema=BY_ASSET),
        pa.table([labels, *_counts(random, regions)], schema=BY_REGION),
        pa.table([indexes, indexes, *_counts(random, indexes.size)], schema=REQUESTERS),
    )


def _counts(random: np.random.Generator, rows: int) -> list[pa.Array]:
    requests = random.integers(1, 500, rows)
    return [pa.array(requests * 12_345), pa.array(requests), pa.array(requests // 2)]
