"""Coordinates from opencagedata.com: the real client against a server of the test's own that speaks like it."""

import logging
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s3logx_assets.adapters.geolocation import Coordinate, EmbeddedGeolocator
from s3logx_assets.adapters.http import HttpClient, Limits
from s3logx_assets.adapters.opencage import OpenCage, point_of
from s3logx_tests.http_service import HANGS_UP, HTML, MUTE, Answer, Asked, Clock, Service, json_answer, running_service

KEY = "0123456789abcdef"
DAY = 86_400


def result(lat: object, lng: object, country: str = "us", kind: str = "state") -> dict[str, object]:
    """An answer as the service gives it."""
    components = {"ISO_3166-1_alpha-2": country.upper(), "country_code": country, "_type": kind}
    found = {"components": components, "confidence": 1, "formatted": "Somewhere", "geometry": {"lat": lat, "lng": lng}}
    return {"results": [found], "status": {"code": 200, "message": "OK"}, "total_results": 1}


NOTHING = {"results": [], "status": {"code": 200, "message": "OK"}, "total_results": 0}


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as running:
        running.answers(json_answer(result(44.05, -120.123449)))
        yield running


def opencage(
    service: Service, cache: Path, clock: Callable[[], float] | None = None, limits: Limits | None = None
) -> OpenCage:
    http = HttpClient("opencagedata.com", "OPENCAGE_API_KEY", limits, sleep=lambda seconds: None)
    return OpenCage(KEY, http, cache, 90, f"{service.url}/geocode/v1/json", clock or Clock())


def test_a_region_is_asked_for_once_within_its_country(service: Service, tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(2):
        assert opencage(service, tmp_path, clock).locate(["US/Jefferson"]) == {
            "US/Jefferson": Coordinate(44.05, -120.1234, "opencage")
        }
    (asked,) = service.asked
    assert (asked.method, asked.path) == ("GET", "/geocode/v1/json")
    assert asked.query == {
        "q": "Jefferson, US",
        "key": KEY,
        "countrycode": "us",
        "limit": "1",
        "no_annotations": "1",
        "no_record": "1",
    }
    clock.now += 91 * DAY
    opencage(service, tmp_path, clock).locate(["US/Jefferson"])
    assert len(service.asked) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_only_regions_of_countries_are_asked_for(service: Service, tmp_path: Path) -> None:
    labels = ["US", "AWS/us-east-9", "GCP/moon", "GitHub", "VPN", "bogon", "unknown", "undetermined", "missing", "US/"]
    assert opencage(service, tmp_path).locate(labels) == {}
    assert opencage(service, tmp_path).locate([]) == {}
    assert service.asked == []


@pytest.mark.parametrize(
    "answer", [NOTHING, result(38.0, -97.0, kind="country"), result(48.0, 2.0, country="fr")], ids=["", "country", "fr"]
)
def test_what_is_not_found_is_remembered_too(service: Service, tmp_path: Path, answer: object) -> None:
    service.answers(json_answer(answer))
    for _ in range(2):
        assert opencage(service, tmp_path).locate(["US/Jefferson"]) == {}
    assert len(service.asked) == 1


FAILURES: dict[str, Answer] = {
    "429": Answer(429),
    "503": Answer(503),
    "out of quota": json_answer({"results": [], "status": {"code": 402, "message": "quota exceeded"}}, 402),
    "wrong key": json_answer({"results": [], "status": {"code": 401, "message": "invalid API key"}}, 401),
    "disabled key": Answer(403),
    "html": HTML,
    "hangs up": HANGS_UP,
    "silent": MUTE,
    "empty object": json_answer({}),
    "list": json_answer([]),
    "results of a wrong type": json_answer({"results": {"geometry": {}}}),
    "a result of a wrong type": json_answer({"results": ["Jefferson"]}),
    "no geometry": json_answer({"results": [{"components": {"country_code": "us"}}]}),
    "text": json_answer(result("44.05", -120.0)),
    "switch": json_answer(result(True, False)),
    "not a number": json_answer(result(float("nan"), 0.0)),
    "infinite": json_answer(result(0.0, float("inf"))),
    "beyond the pole": json_answer(result(91.0, 0.0)),
    "beyond the date line": json_answer(result(0.0, -180.5)),
    "huge": json_answer(result(10**400, 0.0)),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_gives_nothing_ends_the_asking_and_is_not_kept(
    service: Service, tmp_path: Path, failure: str, whole_log: pytest.LogCaptureFixture
) -> None:
    service.answers(FAILURES[failure])
    geocoder = opencage(service, tmp_path, limits=Limits(attempts=2, read_seconds=0.05))
    assert geocoder.locate(["US/Jefferson", "US/Lincoln"]) == {}
    requests = len(service.asked)
    assert requests <= 2
    assert geocoder.locate(["US/Jefferson"]) == {}
    assert len(service.asked) == requests
    warnings = [record.getMessage() for record in whole_log.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("opencagedata.com ")
    assert ("OPENCAGE_API_KEY" in warnings[0]) == ("key" in failure)
    assert KEY not in whole_log.text + repr(geocoder)
    service.answers(json_answer(result(44.05, -120.0)))
    assert len(opencage(service, tmp_path).locate(["US/Jefferson"])) == 1


def test_what_was_found_before_a_failure_is_given_and_an_aged_answer_stands_in(
    service: Service, tmp_path: Path
) -> None:
    clock = Clock()
    opencage(service, tmp_path, clock).locate(["US/Aged"])
    clock.now += 91 * DAY
    service.answers(json_answer(result(1.0, 2.0)), Answer(402))
    found = opencage(service, tmp_path, clock).locate(["US/Jefferson", "US/Lincoln", "US/Aged"])
    assert sorted(found) == ["US/Aged", "US/Jefferson"]


def test_a_point_on_the_edge_is_a_point() -> None:
    assert point_of(result(-90, 180), "US") == (-90.0, 180.0)


def test_a_packaged_coordinate_comes_first_and_the_country_last(service: Service, tmp_path: Path) -> None:
    def knows_jefferson(asked: Asked) -> Answer:
        return json_answer(result(44.05, -120.0) if asked.query["q"] == "Jefferson, US" else NOTHING)

    service.answers(knows_jefferson)
    geolocator = EmbeddedGeolocator(tmp_path, opencage(service, tmp_path))
    labels = ["US/California", "US/Jefferson", "US/Nowhere", "AWS/us-east-2", "AWS/x", "VPN", "US"]
    rows = {row["region"]: row["source"] for row in geolocator.coordinates(labels).to_pylist()}
    assert rows == {
        "AWS/us-east-2": "cloud regions",
        "US": "DB-IP City Lite",
        "US/California": "DB-IP City Lite",
        "US/Jefferson": "opencage",
        "US/Nowhere": "DB-IP City Lite, country",
    }
    assert sorted(asked.query["q"] for asked in service.asked) == ["Jefferson, US", "Nowhere, US"]
    assert geolocator.data_version != EmbeddedGeolocator(tmp_path).data_version


def test_while_it_is_down_the_country_stands_in(service: Service, tmp_path: Path) -> None:
    service.answers(Answer(500))
    (row,) = EmbeddedGeolocator(tmp_path, opencage(service, tmp_path)).coordinates(["US/Jefferson"]).to_pylist()
    assert row["source"] == "DB-IP City Lite, country"
