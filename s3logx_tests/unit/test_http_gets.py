"""Plain GETs: the very answer that is expected, however it comes in, or nothing."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from s3logx_assets.adapters.http_gets import Connection, Origin

BODY = b"line\n" * 1000
HEAD = b'HTTP/1.1 200 OK\r\nETag: "ab-1"\r\nContent-Length: 5000\r\n'


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection, and the server's end of it."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0.2)
    with closing(Connection(ours)) as connection, theirs:
        yield connection, theirs


def answered(ends: tuple[Connection, socket.socket], answer: bytes, tag: str = "ab-1") -> bytes | None:
    connection, server = ends
    server.sendall(answer)
    return connection.answer(len(BODY), tag)


def test_one_request_after_the_other(ends: tuple[Connection, socket.socket]) -> None:
    connection, server = ends
    for _ in range(3):
        connection.ask(b"GET / HTTP/1.1\r\n\r\n")
        assert server.recv(100) == b"GET / HTTP/1.1\r\n\r\n"
        assert answered(ends, HEAD + b"\r\n" + BODY) == BODY
        assert connection.is_fresh


@pytest.mark.parametrize("size", [1, 7, 60, 4000])
def test_an_answer_comes_in_any_pieces(ends: tuple[Connection, socket.socket], size: int) -> None:
    connection, server = ends
    answer = HEAD.lower().replace(b"http", b"HTTP") + b"Server: x\r\n\r\n" + BODY

    def send() -> None:
        for start in range(0, len(answer), size):
            server.sendall(answer[start : start + size])

    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    thread = threading.Thread(target=send)
    thread.start()
    assert connection.answer(len(BODY), "ab-1") == BODY
    thread.join()


def test_a_connection_that_is_to_be_closed_is_closed(ends: tuple[Connection, socket.socket]) -> None:
    assert answered(ends, HEAD + b"Connection: Close\r\n\r\n" + BODY) == BODY
    assert not ends[0].is_fresh


@pytest.mark.parametrize(
    "answer",
    [
        HEAD.replace(b"200 OK", b"206 Partial Content") + b"\r\n" + BODY,
        HEAD.replace(b"200 OK", b"404 Not Found") + b"\r\n" + BODY,
        HEAD.replace(b"1.1", b"1.0") + b"\r\n" + BODY,
        HEAD.replace(b"ab-1", b"ab-2") + b"\r\n" + BODY,
        HEAD.replace(b"ETag", b"E-Tag") + b"\r\n" + BODY,
        HEAD.replace(b"5000", b"4999") + b"\r\n" + BODY,
        HEAD.replace(b"Content-Length", b"Length") + b"\r\n" + BODY,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + BODY,
        HEAD + b"Content-Encoding: gzip\r\n\r\n" + BODY,
        HEAD + b"\r\n" + BODY + b"more",
        HEAD + b"\r\n" + BODY[:-1],
        HEAD,
        b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"\r\n" + BODY,
        b"x" * 100_000,
    ],
)
def test_any_other_answer_is_none(ends: tuple[Connection, socket.socket], answer: bytes) -> None:
    assert answered(ends, answer) is None
    assert not ends[0].is_fresh


def test_a_connection_that_is_lost_is_no_answer(ends: tuple[Connection, socket.socket]) -> None:
    connection, server = ends
    server.sendall(HEAD)
    server.close()
    assert connection.answer(len(BODY), "ab-1") is None
    connection.ask(b"GET / HTTP/1.1\r\n\r\n")
    assert connection.answer(len(BODY), "ab-1") is None


def test_where_a_proxy_is_set_there_is_no_direct_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        origin = Origin("http", f"127.0.0.1:{server.getsockname()[1]}", 1, 1)
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(OSError, match="proxy"):
            origin.connect()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        origin.connect().close()


def certificate(folder: Path, name: str) -> Path:
    """A certificate, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.mark.parametrize(
    ("name", "trusted", "good"), [("localhost", True, True), ("localhost", False, False), ("other", True, False)]
)
def test_only_a_certificate_that_is_trusted_and_of_the_host_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trusted: bool, good: bool
) -> None:
    path = certificate(tmp_path, name)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with socket.create_server(("localhost", 0)) as server:
        received: list[bytes] = []

        def serve() -> None:
            connected, _ = server.accept()
            with connected:
                try:
                    with context.wrap_socket(connected, server_side=True) as wrapped:
                        received.append(wrapped.recv(1000))
                        wrapped.sendall(HEAD + b"\r\n" + BODY)
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        origin = Origin("https", f"localhost:{server.getsockname()[1]}", 5, 5)
        if good:
            with closing(origin.connect()) as connection:
                connection.ask(b"GET / HTTP/1.1\r\n\r\n")
                assert connection.answer(len(BODY), "ab-1") == BODY
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                origin.connect()
        thread.join()
        assert bool(received) == good
