"""The model of time and cost: what it was fitted to it gives back, more is more, and the document is what it says."""

import json
from dataclasses import replace

import pytest

from s3logx_tests.bench.scale import (
    DATES,
    DOCUMENT,
    MEASURED,
    Assumptions,
    Model,
    Run,
    distributed_figures,
    document,
    fit,
    month,
    simulate,
)

MODEL = Model(
    a_run=8,
    a_date=0.3,
    an_object=0.0005,
    a_megabyte=0.01,
    a_scopes_run=8,
    a_million_usage_rows=10,
    usage_rows_a_megabyte=5,
    history_kilobytes_a_date=60,
    database_a_date=0.5,
    daemon_a_run=2,
)


def test_a_model_gives_back_what_it_was_fitted_to() -> None:
    def run(dates: int, objects: int, megabytes: float, rows: int) -> Run:
        seconds = 8 + 0.3 * dates + 0.0005 * objects + 0.01 * megabytes
        return Run(dates, objects, megabytes, seconds, 8 + (rows - 500) * 10 / 1e6, rows, 100 + 60 * dates)

    runs = {
        "few dates": run(4, 40, 1, 500),
        "more dates": run(40, 40, 1, 500),
        "more objects": run(4, 4000, 4, 2000),
        "more bytes": run(4, 40, 200, 1_000),
    }
    found = fit(runs, {"database_seconds_a_date": 0.5, "daemon_seconds_a_run": 2})
    assert found == replace(
        MODEL,
        **{name: pytest.approx(getattr(MODEL, name)) for name in MODEL.__dataclass_fields__},  # type: ignore[arg-type]
    )


def test_machines_help_until_what_all_share_is_the_longest() -> None:
    given = Assumptions()
    hours = [simulate(MODEL, given, 10, machines).hours for machines in (1, 2, 10, 200)]
    assert hours == sorted(hours, reverse=True)
    assert hours[0] / hours[1] > 1.8
    shared = (DATES * MODEL.database_a_date / given.database_cores) / 3600
    assert simulate(MODEL, given, 0.001, 200).hours > shared


def test_more_costs_more_and_small_objects_cost_most() -> None:
    given = Assumptions()
    once = [simulate(MODEL, given, terabytes, 10).dollars for terabytes in (1, 10, 100)]
    assert once == sorted(once)
    assert simulate(MODEL, given, 10, 10).bottleneck == "fetching objects"
    large = simulate(MODEL, replace(given, object_kilobytes=1000), 10, 10)
    assert large.hours < simulate(MODEL, given, 10, 10).hours
    assert sum(month(MODEL, given, 100).values()) > sum(month(MODEL, given, 1).values())


def test_the_figures_of_the_distributed_test_are_by_date_and_by_run() -> None:
    measured = {"runs": 4, "processor_seconds": {"PostgreSQL": 20.0, "daemon": 6.0}}
    assert distributed_figures({"measured_dates": 40, "two_workers": measured}) == {
        "database_seconds_a_date": 0.5,
        "daemon_seconds_a_run": 1.5,
    }


def test_the_document_is_made_of_the_measured_figures() -> None:
    assert DOCUMENT.read_text() == document(json.loads(MEASURED.read_text())), "run `make scale`, or without measuring"
