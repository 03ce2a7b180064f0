"""A real HTTP server on 127.0.0.1 that answers as it is told and remembers what it was asked.

It stands where a service on the network would, so that the project's own client code runs, sockets and all.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Clock:
    """Seconds since 1970, at which answers are kept; they pass only where a test lets them."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Asked:
    """A request as it came in; of a query each parameter's first value."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What is sent back. `drips`: a byte at a time until somebody hangs up."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    drips: bool = False


def json_answer(value: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


HTML = Answer(200, b"<!DOCTYPE html><title>Down for maintenance</title>", {"Content-Type": "text/html"})
MUTE = Answer(status=0)  # never answers
HANGS_UP = Answer(status=-1)  # closes the connection without a word


class Service:
    """The server: `script` holds an answer, or a function of the request, for each request in turn; the last stays."""

    def __init__(self) -> None:
        self.script: list[Answer | Callable[[Asked], Answer]] = [json_answer({})]
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self.url = ""
        self._lock = threading.Lock()

    def answers(self, *script: Answer | Callable[[Asked], Answer]) -> None:
        """Takes a new script, and forgets what was asked."""
        with self._lock:
            self.script, self.asked = list(script), []

    def take(self, asked: Asked) -> Answer:
        """The answer to a request."""
        with self._lock:
            self.asked.append(asked)
            step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return step if isinstance(step, Answer) else step(asked)


@contextmanager
def running_service() -> Iterator[Service]:
    """A service that listens until the block ends."""
    service = Service()
    server = _Server(("127.0.0.1", 0), _handler(service))
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients hang up as they please; the default is to print it."""


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two packets, which would cost 40 ms an answer

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            answer = service.take(Asked(self.command, parts.path, query, dict(self.headers), body))
            if answer.status <= 0:
                if answer == MUTE:
                    service.closing.wait(30)
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.drips:
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                self._drip()
                return
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            try:
                self.wfile.write(answer.body)
            except OSError:
                self.close_connection = True

        do_POST = do_GET

        def _drip(self) -> None:
            self.close_connection = True
            while not service.closing.wait(0.01):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    return

        def log_message(self, format: str, *args: object) -> None:
            """Stays silent."""

    return Handler
