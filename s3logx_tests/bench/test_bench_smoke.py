"""The benchmark harness itself, without the peers: the project as a contestant, the rounds, the ratios."""

from pathlib import Path

import pytest

from s3logx_tests.bench.data import BenchData
from s3logx_tests.bench.extraction import extract
from s3logx_tests.bench.measure import Contestant, Outcome, Round, Sample, middle, ratio, run_rounds
from s3logx_tests.bench.measurements import agree
from s3logx_tests.bench.report import release

_CAT = "s3logx_tests.bench.peers:cat_wc"


def _sample(seconds: float, outcome: Outcome | None = None) -> Sample:
    return Sample(seconds, 2 * seconds, 3_000_000, 1_000_000, outcome or Outcome(7))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> BenchData:
    return BenchData(tmp_path_factory.mktemp("bench"), 0.002)


def test_ratios_are_medians_of_each_rounds_own_ratio() -> None:
    rounds: list[Round] = [
        {"us": _sample(ours), "them": _sample(theirs)} for ours, theirs in ((1.0, 2.0), (10.0, 30.0), (2.0, 8.0))
    ]
    assert ratio(rounds, "them", "us") == 3.0
    assert middle(rounds, "us", lambda sample: sample.cpu_seconds) == 4.0


def test_the_engine_extracts_the_same_rows_from_large_small_and_sparse_files(data: BenchData, tmp_path: Path) -> None:
    outcomes = {}
    for name in ("large", "small", "sparse"):
        (tmp_path / name).mkdir()
        outcomes[name] = extract(data.logs(name), tmp_path / name)()()
    rows = {outcome.rows for outcome in outcomes.values()}
    assert len(rows) == 1
    assert rows.pop() > 500
    assert outcomes["small"].extra["files"] == 40
    assert outcomes["sparse"].table is None  # several dates, several tables


def test_every_contestant_runs_once_a_round_in_a_process_of_its_own(data: BenchData, tmp_path: Path) -> None:
    logs = data.logs("large")
    told: list[str] = []
    seen: list[Round] = []
    rounds = run_rounds(
        [Contestant("one", _CAT, logs), Contestant("two", _CAT, logs)],
        2,
        tmp_path / "scratch",
        data.logs("warm-up"),
        seen.append,
        told.append,
    )
    assert seen == rounds[:1]
    assert [line.split()[2] for line in told] == ["one", "two", "two", "one"]
    lines = sum(path.read_bytes().count(b"\n") for path in logs.iterdir())
    for sample in (sample for samples in rounds for sample in samples.values()):
        assert sample.outcome.rows == lines
        assert sample.seconds > 0
        assert sample.peak_bytes >= sample.idle_bytes > 1_000_000
    assert len(list((tmp_path / "scratch").iterdir())) == 4, "each has a folder of its own, which stays"


def test_a_contestant_that_fails_is_an_error(data: BenchData, tmp_path: Path) -> None:
    broken = Contestant("broken", "s3logx_tests.bench.peers:absent", data.logs("large"))
    with pytest.raises(RuntimeError, match="broken failed:"):
        run_rounds([broken], 1, tmp_path, data.logs("warm-up"), agree)


def test_rows_that_differ_are_an_error() -> None:
    with pytest.raises(AssertionError, match="them has 6 rows, us has 7"):
        agree({"us": _sample(1.0), "them": _sample(1.0, Outcome(6))})


def test_the_release_of_many_datasets_is_whole(tmp_path: Path) -> None:
    """What `make bench` measures: every file of a small one is there, and nothing in it is held back."""
    (tmp_path / "datasets.json").write_text("3")
    outcome = release(tmp_path, tmp_path)()()
    assert outcome.rows == 3 * 11 + 21
    assert 0 < outcome.extra["page_bytes"] < outcome.extra["overview_bytes"] < 1_000_000
