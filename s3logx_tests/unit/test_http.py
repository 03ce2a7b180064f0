"""The HTTP client against a real server: patience, bounds, and what is never told."""

import logging
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from s3logx_assets.adapters.http import HttpClient, Limits, parsed
from s3logx_assets.core.errors import PermanentError, ServiceError, ServiceUnavailable, TransientError
from s3logx_tests.http_service import HANGS_UP, HTML, MUTE, Answer, Service, json_answer, running_service

SECRET = "k3y-that-nobody-may-see"
ADDRESS = "8.8.8.8"


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as running:
        yield running


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def client(
    clock: Clock | None = None, limits: Limits | None = None, jitter: Callable[[], float] = lambda: 1
) -> HttpClient:
    clock = clock or Clock()
    return HttpClient("example.org", "EXAMPLE_API_KEY", limits, clock.sleep, clock, jitter)


def ask(asking: HttpClient, service: Service, url: str = "") -> object:
    query = {"key": SECRET}
    return asking.ask("POST", url or f"{service.url}/path", parsed, query=query, content=[ADDRESS])


def failure(
    asking: HttpClient, service: Service, kind: type[Exception] = ServiceUnavailable, url: str = ""
) -> Exception:
    with pytest.raises(kind) as caught:
        ask(asking, service, url)
    return caught.value


def test_an_answer_is_read_and_the_question_is_sent_whole(service: Service) -> None:
    service.answers(json_answer({"a": [1, None]}))
    assert ask(client(), service) == {"a": [1, None]}
    (asked,) = service.asked
    assert (asked.method, asked.path, asked.query, asked.content) == ("POST", "/path", {"key": SECRET}, [ADDRESS])
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("bad", [Answer(429), Answer(408), Answer(500), Answer(503), HTML, HANGS_UP, Answer(200)])
def test_a_passing_failure_is_asked_again(service: Service, bad: Answer) -> None:
    clock = Clock()
    service.answers(bad, bad, json_answer("ok"))
    assert ask(client(clock), service) == "ok"
    assert len(service.asked) == 3
    assert clock.slept == [1.0, 2.0]


def test_waits_grow_and_are_spread(service: Service) -> None:
    clock = Clock()
    service.answers(Answer(500))
    failure(client(clock, jitter=lambda: 0), service)
    assert clock.slept == [0.5, 1.0, 2.0]


def test_what_the_server_asks_to_wait_is_waited_within_bounds(service: Service) -> None:
    clock = Clock()
    service.answers(
        Answer(429, headers={"Retry-After": "7"}), Answer(503, headers={"Retry-After": "soon"}), json_answer(1)
    )
    assert ask(client(clock), service) == 1
    assert clock.slept == [7.0, 2.0]

    # A date counts from the date of the answer itself, which the server adds: no clock of ours is asked.
    for seconds, least, most in ((30, 25, 31), (-30, 0, 0)):
        clock = Clock()
        when = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
        service.answers(Answer(429, headers={"Retry-After": when}), json_answer(2))
        assert ask(client(clock), service) == 2
        assert least <= clock.slept[0] <= most

    for wait in ("3600", "999999999"):
        clock = Clock()
        service.answers(Answer(429, headers={"Retry-After": wait}), json_answer(3))
        failure(client(clock), service)
        assert (len(service.asked), clock.slept) == (1, [])


def test_a_failure_that_stays_ends_in_an_error_and_a_pause(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    asking = client(clock, Limits(pause_seconds=600))
    service.answers(Answer(500))
    error = failure(asking, service)
    assert isinstance(error, TransientError)
    assert str(error) == "example.org does not answer (HTTP 500)"
    assert len(service.asked) == 4
    for _ in range(3):
        assert "not asked" in str(failure(asking, service))
    assert len(service.asked) == 4
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["example.org does not answer (HTTP 500); it is not asked again for 10 minutes"]
    clock.now += 601
    service.answers(json_answer("back"))
    assert ask(asking, service) == "back"


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_never_tried_again(service: Service, status: int, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    asking = client(clock)
    service.answers(Answer(status), json_answer(1))
    for _ in range(3):
        error = failure(asking, service, ServiceError)
        assert isinstance(error, PermanentError)
        assert "EXAMPLE_API_KEY" in str(error)
        clock.now += 10_000
    assert (len(service.asked), clock.slept) == (1, [])
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


@pytest.mark.parametrize("status", [204, 301, 307, 400, 404, 405])
def test_other_refusals_are_permanent_and_redirections_not_followed(service: Service, status: int) -> None:
    service.answers(Answer(status, headers={"Location": f"{service.url}/elsewhere"}))
    error = failure(client(), service, ServiceError)
    assert "KEY" not in str(error)
    assert [asked.path for asked in service.asked] == ["/path"]


def test_redirections_are_followed_where_wanted(service: Service) -> None:
    service.answers(Answer(302, headers={"Location": "/elsewhere"}), json_answer(1))
    assert client().ask("GET", f"{service.url}/path", parsed, redirects=True) == 1
    assert [asked.path for asked in service.asked] == ["/path", "/elsewhere"]
    service.answers(Answer(302, headers={"Location": "/round"}))
    with pytest.raises(ServiceUnavailable, match="TooManyRedirects"):
        client(limits=Limits(attempts=1)).ask("GET", service.url, parsed, redirects=True)


def test_an_empty_purse_is_not_asked_again(service: Service) -> None:
    clock = Clock()
    service.answers(Answer(402))
    assert "out of quota" in str(failure(client(clock), service))
    assert (len(service.asked), clock.slept) == (1, [])


def test_a_silent_server_costs_the_timeouts(service: Service) -> None:
    service.answers(MUTE)
    began = time.monotonic()
    error = failure(client(limits=Limits(attempts=2, read_seconds=0.05)), service)
    assert time.monotonic() - began < 5
    assert "Timeout" in str(error)
    assert len(service.asked) == 2


def test_a_server_that_drips_is_left_at_the_deadline(service: Service) -> None:
    """A byte in time, every time: no single read ever times out."""
    service.answers(Answer(drips=True))
    limits = Limits(read_seconds=5, total_seconds=0.2)
    asking = HttpClient("example.org", limits=limits)
    began = time.monotonic()
    assert "too slowly" in str(failure(asking, service))
    assert 0.2 <= time.monotonic() - began < 3


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(ServiceUnavailable, match="cannot be reached"):
            ask(client(), Service(), url)


def test_a_body_that_is_too_large_is_not_read_to_its_end(service: Service) -> None:
    service.answers(Answer(body=b"[" + b"1," * 40_000 + b"1]"))
    assert "more than 1000 bytes" in str(failure(client(limits=Limits(body_bytes=1000)), service))
    assert len(service.asked) == 1
    assert len(ask(client(limits=Limits(body_bytes=100_000)), service)) == 40_001  # type: ignore[arg-type]


def test_compressed_bodies_are_not_unpacked(service: Service) -> None:
    service.answers(Answer(body=b"\x1f\x8b not asked for", headers={"Content-Encoding": "gzip"}))
    assert "no sense" in str(failure(client(), service))


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b"9" * 5000], ids=len)
def test_what_is_no_json_makes_no_sense(service: Service, body: bytes) -> None:
    service.answers(Answer(body=body))
    error = failure(client(), service)
    assert str(error) == "example.org gives an answer that makes no sense"


def test_the_deadline_holds_for_all_attempts_together(service: Service) -> None:
    clock = Clock()
    service.answers(Answer(429, headers={"Retry-After": "40"}))
    failure(client(clock, Limits(attempts=100, total_seconds=100)), service)
    assert clock.slept == [40.0, 40.0]


def test_no_error_and_no_log_holds_a_key_an_address_or_an_answer(
    service: Service, whole_log: pytest.LogCaptureFixture
) -> None:
    script = [Answer(401), Answer(500), Answer(302, headers={"Location": f"/?{ADDRESS}"}), HTML, HANGS_UP, MUTE]
    for answer in script:
        service.answers(answer)
        error = failure(client(limits=Limits(attempts=2, read_seconds=0.05)), service, Exception)
        assert error.__cause__ is None
        assert error.__context__ is None
        text = "".join(traceback.format_exception(error)) + repr(error)
        for private in (SECRET, ADDRESS, "maintenance"):
            assert private not in text
    failure(client(limits=Limits(attempts=1)), service, Exception, url=f"http://127.0.0.1:1/{ADDRESS}")
    told = "".join(f"{record.getMessage()} {record.args}" for record in whole_log.records)
    assert "POST" in told, "the log of urllib3 is on, so that its silence means something"
    assert SECRET not in told


def test_credentials_of_a_netrc_do_not_replace_the_key(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("default login someone password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    service.answers(json_answer(1))
    client().ask("GET", service.url, parsed, headers={"Authorization": f"Bearer {SECRET}"})
    assert service.asked[0].headers["Authorization"] == f"Bearer {SECRET}"
