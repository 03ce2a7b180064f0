"""GETs over connections that stay open, with next to no work for each.

Only the plainest answer counts: status 200 and the very body that is expected, told by its length and ETag. Whatever else
comes, or does not come, is None, and the connection is done with. Why, and what to do about it, is for a real client to
find out; so are redirects, proxies, compression and answers of unknown length.
"""

import re
import socket
import ssl
import time
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_MOST_HEAD = 1 << 16
_HEAD_END = b"\r\n\r\n"
# The fields that say what a body is, and how it comes; the others may be anything.
_FIELDS = re.compile(rb"\r\n(content-(?:length|encoding)|etag|transfer-encoding|connection)[ \t]*:[ \t]*([^\r]*)", re.I)
_WELCOME = {b"content-length", b"etag", b"connection"}
# Servers close connections that nobody uses; S3 is among the patient ones.
_IDLE_SECONDS = 4.0


@dataclass(frozen=True)
class Origin:
    """Where requests go, and how long is waited for it."""

    scheme: str
    host: str  # with the port, unless it is the usual one
    connect_seconds: float
    read_seconds: float

    def prepared(self) -> "Origin":
        """The same, with the trusted certificates read, which takes some time: not every connection is to do that."""
        _ = self._trust
        return self

    def connect(self) -> "Connection":
        """A new connection. Raises OSError, also where the server's certificate is not trusted and where the way leads
        through a proxy."""
        proxies = getproxies()
        if (proxies.get(self.scheme) or proxies.get("all")) and not proxy_bypass(self.host):
            raise OSError("the way leads through a proxy")
        parts = urlsplit(f"//{self.host}")
        name, port = parts.hostname or "", parts.port or (80 if self._trust is None else 443)
        connected = socket.create_connection((name, port), self.connect_seconds)
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._trust is not None:
                connected = self._trust.wrap_socket(connected, server_hostname=name)
            connected.settimeout(self.read_seconds)
        except BaseException:
            connected.close()
            raise
        return Connection(connected)

    @cached_property
    def _trust(self) -> ssl.SSLContext | None:
        return ssl.create_default_context() if self.scheme == "https" else None


class Connection:
    """An open connection, for one request after the other: `ask`, then `answer`."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._used = time.monotonic()

    @property
    def is_fresh(self) -> bool:
        """Whether it is likely to be open still: an answer may have waited for us a long time."""
        return self._socket.fileno() >= 0 and time.monotonic() - self._used < _IDLE_SECONDS

    def ask(self, request: bytes) -> None:
        """Sends a request. A failure shows in the answer."""
        self._used = time.monotonic()
        try:
            self._socket.sendall(request)
        except OSError:
            self.close()

    def answer(self, size: int, tag: str) -> bytes | None:
        """The body of the answer, if it has this size and ETag (without quotes)."""
        try:
            body, stays = self._received(size, tag)
        except OSError:
            body, stays = None, False
        if not stays:
            self.close()
        return body

    def close(self) -> None:
        """Also in the middle of an answer."""
        self._socket.close()

    def _received(self, size: int, tag: str) -> tuple[bytes | None, bool]:
        """The body, and whether the connection can be used again."""
        received = self._socket.recv(size + 2048)
        while (end := received.find(_HEAD_END)) < 0:
            more = self._socket.recv(size + 2048)
            if not more or len(received) > _MOST_HEAD:
                return None, False
            received += more
        fields = {name.lower(): value for name, value in _FIELDS.findall(received, 0, end)}
        if (
            not received.startswith(b"HTTP/1.1 200 ")
            or fields.get(b"content-length") != b"%d" % size
            or fields.get(b"etag", b"").strip(b'"') != tag.encode()
            or not fields.keys() <= _WELCOME
        ):
            return None, False
        start = end + len(_HEAD_END)
        missing = start + size - len(received)
        if missing < 0:
            return None, False
        parts = [received[start:]]
        while missing:
            more = self._socket.recv(missing)
            if not more:
                return None, False
            parts.append(more)
            missing -= len(more)
        return b"".join(parts), fields.get(b"connection", b"").lower() != b"close"
