"""Faults that a real S3 server cannot be asked for: a proxy in front of it that passes everything on, unless told.

Requests reach the server as they were signed, Host header and all; answers come back whole, with a Content-Length.
"""

import http.client
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from s3logx_tests.s3_server import S3Server


@dataclass(frozen=True)
class _Refusal:
    """An answer of S3 that is an error."""

    status: int
    code: str
    message: str

    def body(self, path: str) -> bytes:
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{self.code}</Code><Message>{self.message}</Message>'
            f"<Resource>{urlsplit(path).path}</Resource><RequestId>0123456789ABCDEF</RequestId></Error>"
        ).encode()


class Fault(Enum):
    """What happens to a request; those with a status are answered without asking the server."""

    SLOW_DOWN = _Refusal(503, "SlowDown", "Please reduce your request rate.")
    INTERNAL_ERROR = _Refusal(500, "InternalError", "We encountered an internal error. Please try again.")
    NOT_FOUND = _Refusal(404, "NoSuchKey", "The specified key does not exist.")
    SKEWED = _Refusal(
        403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."
    )
    ACCESS_DENIED = _Refusal(403, "AccessDenied", "Access Denied")
    RESET = "reset"  # the connection, before any byte of an answer
    CUT_BODY = "cut body"  # the true head, half of the body, the connection's end
    HANG = "hang"  # the true head, then nothing until the client or the proxy goes


@dataclass
class _Order:
    """A fault for the next `times` requests that match; -1: for all."""

    fault: Fault
    path_contains: str
    method: str
    times: int

    def matches(self, method: str, path: str) -> bool:
        wanted = self.path_contains
        return self.times != 0 and method == self.method and (wanted in path or wanted in unquote(path))


class FaultProxy:
    """The proxy: `server` is the real one under the proxy's address, `requests` all it was asked, in order."""

    def __init__(self, upstream: S3Server) -> None:
        self.upstream = upstream
        self.server = upstream
        self.requests: list[tuple[str, str]] = []
        self._orders: list[_Order] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closing = False

    def inject(self, fault: Fault, path_contains: str = "", method: str = "GET", times: int = 1) -> None:
        """The fault for the next requests whose path with query, as sent or decoded, contains the text; -1: for all.

        Of several that match, the one that was injected first goes first.
        """
        with self._lock:
            self._orders.append(_Order(fault, path_contains, method, times))

    def clear(self) -> None:
        """Forgets the faults that are still to come, and the requests."""
        with self._lock:
            self._orders.clear()
            self.requests.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """Notes a request; its fault."""
        with self._lock:
            self.requests.append((method, path))
            order = next((order for order in self._orders if order.matches(method, path)), None)
            if order is None:
                return None
            if order.times > 0:
                order.times -= 1
            return order.fault

    def opened(self, connection: socket.socket) -> None:
        """Of a connection to either side, which has to end with the proxy."""
        with self._lock:
            self._open.add(connection)
            if self._closing:
                _shut(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def close(self) -> None:
        """Wakes whoever waits for the other side."""
        with self._lock:
            self._closing = True
            for connection in self._open:
                _shut(connection)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def faulty(server: S3Server) -> Iterator[FaultProxy]:
    """A proxy in front of `server` until the block ends."""
    proxy = FaultProxy(server)
    listener = _Listener(("127.0.0.1", 0), _handler(proxy))
    proxy.server = replace(server, endpoint=f"http://127.0.0.1:{listener.server_address[1]}")
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        thread.join()
        proxy.close()
        listener.server_close()  # waits for the threads of the connections


class _Listener(ThreadingHTTPServer):
    daemon_threads = False  # they are waited for
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients hang up as they please; anything else is printed."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


# What is between two neighbours only, and not signed (RFC 9110, 7.6.1); Expect is answered here.
_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}


@dataclass(frozen=True)
class _Answer:
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    upstream = urlsplit(proxy.upstream.endpoint)

    class Handler(BaseHTTPRequestHandler):
        """One client's connection, with a connection to the server of its own."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # head and body in one packet where they fit

        def setup(self) -> None:
            super().setup()
            self.client = self.connection
            self.server_connection: http.client.HTTPConnection | None = None
            proxy.opened(self.client)

        def finish(self) -> None:
            self._drop_server_connection()
            proxy.closed(self.client)
            with suppress(OSError):
                super().finish()

        def pass_on(self) -> None:
            """One request."""
            body = self._body()
            fault = proxy.take(self.command, self.path)
            if fault is Fault.RESET:
                self._reset()
                return
            if fault is not None and isinstance(fault.value, _Refusal):
                text = fault.value.body(self.path)
                headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))]
                self._send(_Answer(fault.value.status, "", headers, text))
                return
            try:
                answer = self._ask(body)
            except (OSError, http.client.HTTPException) as error:
                text = f"The server behind the proxy: {error!r}".encode()
                answer = _Answer(502, "", [("Content-Length", str(len(text)))], text)
            if fault is Fault.CUT_BODY:
                self._send(replace(answer, body=answer.body[: len(answer.body) // 2]))
                self.close_connection = True
            elif fault is Fault.HANG:
                self._send(replace(answer, body=b""))
                self.close_connection = True
                while self.client.recv(1024):
                    pass
            else:
                self._send(answer)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(chunks)

        def _ask(self, body: bytes) -> _Answer:
            """The server's answer; once more if it has closed a connection that was idle."""
            if self.server_connection is not None:
                try:
                    return self._exchange(self.server_connection, body)
                except (OSError, http.client.HTTPException):
                    self._drop_server_connection()
            self.server_connection = http.client.HTTPConnection(str(upstream.hostname), upstream.port, timeout=60)
            self.server_connection.connect()
            self.server_connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            proxy.opened(self.server_connection.sock)
            return self._exchange(self.server_connection, body)

        def _exchange(self, connection: http.client.HTTPConnection, body: bytes) -> _Answer:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            chunked = "Transfer-Encoding" in self.headers
            for name, value in self.headers.items():
                if name.lower() not in _HOP:
                    connection.putheader(name, value)
            if chunked:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            content = answer.read()
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
            if answer.getheader("Content-Length") is None and answer.status not in (204, 304):
                headers.append(("Content-Length", str(len(content))))
            if answer.will_close:
                self._drop_server_connection()
            return _Answer(answer.status, answer.reason, headers, content)

        def _drop_server_connection(self) -> None:
            if self.server_connection is not None:
                if self.server_connection.sock is not None:
                    proxy.closed(self.server_connection.sock)
                self.server_connection.close()
                self.server_connection = None

        def _send(self, answer: _Answer) -> None:
            self.send_response_only(answer.status, answer.reason or None)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
            self.wfile.flush()

        def _reset(self) -> None:
            """Closes with RST: what is not yet sent, and the farewell, are dropped."""
            self.close_connection = True
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Taken out of Python's hands, since it would say goodbye first, and keeps it open for `rfile`.
            proxy.closed(self.client)
            socket.close(self.client.detach())

        def log_message(self, format: str, *args: Any) -> None:
            """Stays silent."""

    return Handler
