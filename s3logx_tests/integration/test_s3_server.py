"""The test run's own S3 server, and the proxy that injects faults: what other tests take for granted about them."""

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import obstore
import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PermissionDeniedError,
    PreconditionError,
)

from s3logx_tests import s3_server as s3_server_module
from s3logx_tests.s3_faults import Fault, FaultProxy, faulty
from s3logx_tests.s3_server import S3Server, S3ServerError, ports_from, remove_sockets, s3_server

BODY = bytes(range(256)) * 100
NO_RETRIES = {"max_retries": 0}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s3")


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[S3Server]:
    """A server with a bucket of a few objects."""
    with s3_server(folder) as server:
        server.make_bucket("bucket")
        server.put("bucket", {"object": BODY})
        yield server


@pytest.fixture(scope="session")
def anonymous_url(server: S3Server) -> str:
    """The object's path with a signature in the query, for clients that know nothing of S3."""
    with closing(server.client()) as client:
        url = urlsplit(client.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "object"}))
    return f"{url.path}?{url.query}"


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultProxy]:
    with faulty(server) as proxy:
        yield proxy


def plain(server: S3Server) -> http.client.HTTPConnection:
    """A plain HTTP client."""
    return http.client.HTTPConnection(urlsplit(server.endpoint).netloc, timeout=5)


def processes_of(folder: Path) -> list[int]:
    """Processes that were told of a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"weed\0mini" in command and str(folder).encode() in command:
            found.append(int(path.parent.name))
    return found


def listening_addresses(process: int) -> set[str]:
    """The addresses at which a process takes TCP connections, as hexadecimal digits in the kernel's order."""
    links = []
    for path in Path(f"/proc/{process}/fd").iterdir():
        try:
            links.append(os.readlink(path))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            (
                _,
                local,
                _,
                state,
                *_,
            ) = fields = row.split()
            if state == "0A" and f"socket:[{fields[9]}]" in links:
                found.add(local.split(":")[0])
    return found


def wait_until_gone(folder: Path, port: int) -> None:
    """Fails if the server of a folder still runs, or still has its port, after a while."""
    deadline = time.monotonic() + 10
    while processes_of(folder) or is_open(port):
        assert time.monotonic() < deadline, "the server outlives its user"
        time.sleep(0.02)


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def test_objects_are_kept(server: S3Server) -> None:
    objects = {f"kept/{number}": b"%d" % number * number for number in range(50)}
    server.put("bucket", objects)
    store = server.store("bucket")
    assert {key: bytes(obstore.get(store, key).bytes()) for key in objects} == objects


def test_keys_are_kept_as_they_are(server: S3Server) -> None:
    server.make_bucket("odd-keys")
    keys = ["a", "dir/", "p%20q", "tab\ttab", "ü ~#%?&+=*[1]{2}|^`<>\"'.tsv", "x/y=z/…"]
    server.put("odd-keys", dict.fromkeys(keys, b"x"))
    with closing(server.client()) as client:
        assert [item["Key"] for item in client.list_objects_v2(Bucket="odd-keys")["Contents"]] == sorted(keys)


def test_listing_by_prefix_and_delimiter(server: S3Server) -> None:
    server.put("bucket", dict.fromkeys(["list/a", "list/b/1", "list/b/2", "list/c/1", "listing"], b"x"))
    with closing(server.client()) as client:
        answer = client.list_objects_v2(Bucket="bucket", Prefix="list/", Delimiter="/")
    assert [item["Key"] for item in answer["Contents"]] == ["list/a"]
    assert [item["Prefix"] for item in answer["CommonPrefixes"]] == ["list/b/", "list/c/"]
    listed = obstore.list_with_delimiter(server.store("bucket"), "list")
    assert [item["path"] for item in listed["objects"]] == ["list/a"]
    assert listed["common_prefixes"] == ["list/b", "list/c"]


def test_listing_is_in_order_over_pages(server: S3Server) -> None:
    keys = sorted(f"pages/{number:04}" for number in range(1100))
    server.put("bucket", dict.fromkeys(keys, b"x"))
    store = server.store("bucket")
    assert [item["path"] for page in obstore.list(store, "pages") for item in page] == keys
    after = obstore.list(store, "pages", offset="pages/1050").collect()
    assert [item["path"] for item in after] == keys[1051:]


def test_missing_bucket(server: S3Server) -> None:
    with closing(server.client()) as client:
        for call in (client.list_objects_v2, client.head_bucket):
            with pytest.raises(ClientError, match=r"NoSuchBucket|404"):
                call(Bucket="missing")
        with pytest.raises(ClientError, match="NoSuchBucket"):
            client.put_object(Bucket="missing", Key="object", Body=BODY)


def test_conditional_writes(server: S3Server) -> None:
    store = server.store("bucket")
    first = obstore.put(store, "condition", b"1", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "condition", b"2", mode="create")
    obstore.put(store, "condition", b"3", mode={"e_tag": first["e_tag"]})
    with pytest.raises(PreconditionError):
        obstore.put(store, "condition", b"4", mode={"e_tag": first["e_tag"]})
    assert obstore.get(store, "condition").bytes() == b"3"


def test_of_many_creators_one_wins(server: S3Server) -> None:
    store = server.store("bucket")

    def create(number: int) -> bool:
        try:
            obstore.put(store, "race", b"%d" % number, mode="create")
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(create, range(16))) == 1


def test_copy_and_e_tag(server: S3Server) -> None:
    store = server.store("bucket")
    obstore.copy(store, "object", "copies/object")
    assert obstore.get(store, "copies/object").bytes() == BODY
    (listed,) = obstore.list(store, "copies").collect()
    assert listed["e_tag"] == obstore.get(store, "copies/object").meta["e_tag"]
    assert listed["e_tag"] is not None


@pytest.mark.parametrize(
    ("wrong", "code"),
    [({"secret_key": "wrong"}, "SignatureDoesNotMatch"), ({"access_key": "WRONG"}, "InvalidAccessKeyId")],
)
def test_wrong_credentials_are_refused(server: S3Server, wrong: dict[str, str], code: str) -> None:
    stranger = replace(server, **wrong)
    with closing(stranger.client()) as client, pytest.raises(ClientError, match=code):
        client.get_object(Bucket="bucket", Key="object")
    with pytest.raises(PermissionDeniedError):
        obstore.get(stranger.store("bucket"), "object")


def test_no_credentials_are_refused(server: S3Server) -> None:
    with closing(plain(server)) as connection:
        for path in ("/", "/bucket", "/bucket/object"):
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.status == 403
            assert b"<Code>AccessDenied</Code>" in answer.read()


def test_only_this_machine_can_reach_it(server: S3Server, folder: Path) -> None:
    (process,) = processes_of(folder)
    assert listening_addresses(process) == {"0100007F"}


def test_environment_is_all_that_boto3_needs(server: S3Server) -> None:
    program = "import boto3; print(boto3.client('s3').get_object(Bucket='bucket', Key='object')['ContentLength'])"
    done = subprocess.run(
        [sys.executable, "-c", program], env=server.environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(len(BODY))


def test_gone_after_the_block(tmp_path: Path) -> None:
    before = set(Path("/tmp").glob("seaweedfs-*.sock"))  # noqa: S108
    with s3_server(tmp_path) as server:
        assert processes_of(tmp_path)
    assert not processes_of(tmp_path)
    with closing(plain(server)) as connection, pytest.raises(ConnectionRefusedError):
        connection.connect()
    assert set(Path("/tmp").glob("seaweedfs-*.sock")) <= before  # noqa: S108


def test_gone_after_the_user_was_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from s3logx_tests.s3_server import s3_server\n"
        "with s3_server(Path(sys.argv[1])) as server: print(server.endpoint, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as user:
        try:
            assert user.stdout is not None
            port = urlsplit(user.stdout.readline().strip()).port
            assert port is not None
            assert is_open(port)
            assert processes_of(tmp_path)
        finally:
            user.send_signal(signal.SIGKILL)
    wait_until_gone(tmp_path, port)
    remove_sockets(ports_from(port))


def test_failed_start_tells_the_servers_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {**s3_server_module._free_ports(), "master": taken.getsockname()[1]}
        monkeypatch.setattr(s3_server_module, "_free_ports", lambda: ports)
        with pytest.raises(S3ServerError, match=r"(?s)did not start: it ended with \d.*not available"):
            s3_server(tmp_path).__enter__()
    assert not processes_of(tmp_path)


def test_proxy_passes_everything_on(server: S3Server, proxy: FaultProxy) -> None:
    """Both clients, all the methods, bodies and none: as if it were not there."""
    assert proxy.server == replace(server, endpoint=proxy.server.endpoint)
    assert proxy.server.endpoint != server.endpoint
    store = proxy.server.store("bucket")
    obstore.put(store, "proxied", BODY)
    assert obstore.get(store, "proxied").bytes() == BODY
    assert obstore.head(store, "proxied")["size"] == len(BODY)
    assert obstore.get_range(store, "proxied", start=10, length=20) == BODY[10:30]
    assert [item["path"] for item in obstore.list(store, "object").collect()] == []
    obstore.copy(store, "proxied", "copy of proxied")
    obstore.delete(store, ["proxied", "copy of proxied"])
    with closing(proxy.server.client()) as client:
        client.put_object(Bucket="bucket", Key="proxied ü", Body=BODY)
        assert client.get_object(Bucket="bucket", Key="proxied ü")["Body"].read() == BODY
        client.delete_object(Bucket="bucket", Key="proxied ü")
        with pytest.raises(ClientError, match="NoSuchKey"):
            client.get_object(Bucket="bucket", Key="proxied ü")
    with pytest.raises(PermissionDeniedError):
        obstore.get(replace(proxy.server, secret_key="wrong").store("bucket"), "object")
    assert ("PUT", "/bucket/proxied") in proxy.requests
    assert {method for method, _ in proxy.requests} == {"GET", "HEAD", "PUT", "POST", "DELETE"}


def test_proxy_keeps_connections(proxy: FaultProxy, anonymous_url: str) -> None:
    """The signature is for the server's own Host, which the proxy leaves alone."""
    with closing(plain(proxy.server)) as connection:
        for _ in range(3):
            assert ask(connection, anonymous_url, proxy) == (200, BODY)
            assert connection.sock is not None
    assert proxy.requests == [("GET", anonymous_url)] * 3


def ask(connection: http.client.HTTPConnection, path: str, proxy: FaultProxy, method: str = "GET") -> tuple[int, bytes]:
    """Status and body, for a path signed for the real server."""
    connection.request(method, path, headers={"Host": urlsplit(proxy.upstream.endpoint).netloc})
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault.SLOW_DOWN, 503, "SlowDown"),
        (Fault.INTERNAL_ERROR, 500, "InternalError"),
        (Fault.NOT_FOUND, 404, "NoSuchKey"),
        (Fault.SKEWED, 403, "RequestTimeTooSkewed"),
        (Fault.ACCESS_DENIED, 403, "AccessDenied"),
    ],
)
def test_refusals(proxy: FaultProxy, anonymous_url: str, fault: Fault, status: int, code: str) -> None:
    proxy.inject(fault)
    with closing(plain(proxy.server)) as connection:
        refused, text = ask(connection, anonymous_url, proxy)
        assert refused == status
        assert f"<Code>{code}</Code>".encode() in text
        assert ask(connection, anonymous_url, proxy) == (200, BODY)
    proxy.inject(fault)
    with closing(proxy.server.client(retries={"total_max_attempts": 1})) as client:
        with pytest.raises(ClientError) as caught:
            client.get_object(Bucket="bucket", Key="object")
        assert caught.value.response["Error"]["Code"] == code
        assert client.get_object(Bucket="bucket", Key="object")["Body"].read() == BODY


def test_refusal_of_a_head_has_no_body(proxy: FaultProxy) -> None:
    proxy.inject(Fault.SLOW_DOWN, method="HEAD")
    with closing(plain(proxy.server)) as connection:
        assert ask(connection, "/bucket/object", proxy, "HEAD") == (503, b"")
        assert ask(connection, "/bucket/object", proxy, "HEAD") == (403, b"")


def test_reset(proxy: FaultProxy, anonymous_url: str) -> None:
    proxy.inject(Fault.RESET)
    with closing(plain(proxy.server)) as connection:
        with pytest.raises(ConnectionResetError):
            ask(connection, anonymous_url, proxy)
        connection.close()
        assert ask(connection, anonymous_url, proxy) == (200, BODY)


def test_cut_body(proxy: FaultProxy, anonymous_url: str) -> None:
    proxy.inject(Fault.CUT_BODY)
    with closing(plain(proxy.server)) as connection:
        with pytest.raises(http.client.IncompleteRead) as caught:
            ask(connection, anonymous_url, proxy)
        assert caught.value.partial == BODY[: len(BODY) // 2]
        assert caught.value.expected == len(BODY) - len(BODY) // 2
        connection.close()
        assert ask(connection, anonymous_url, proxy) == (200, BODY)


def test_hang(proxy: FaultProxy, anonymous_url: str) -> None:
    proxy.inject(Fault.HANG)
    with closing(plain(proxy.server)) as connection:
        connection.timeout = 0.3
        connection.request("GET", anonymous_url, headers={"Host": urlsplit(proxy.upstream.endpoint).netloc})
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Content-Length")) == (200, str(len(BODY)))
        with pytest.raises(TimeoutError):
            answer.read(1)
        answer.close()
        connection.close()
        assert ask(connection, anonymous_url, proxy) == (200, BODY)


def test_which_requests_a_fault_is_for(proxy: FaultProxy) -> None:
    store = proxy.server.store("bucket", retry_config=NO_RETRIES)
    proxy.inject(Fault.NOT_FOUND, "some path", times=2)
    proxy.inject(Fault.ACCESS_DENIED, method="PUT", times=-1)
    obstore.put(proxy.upstream.store("bucket"), "some path", b"x")
    assert obstore.get(store, "object").bytes() == BODY
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            obstore.get(store, "some path")
    assert obstore.get(store, "some path").bytes() == b"x"
    for _ in range(3):
        with pytest.raises(PermissionDeniedError):
            obstore.put(store, "some path", b"y")
    proxy.clear()
    assert proxy.requests == []
    obstore.put(store, "some path", b"y")
    assert obstore.get(store, "some path").bytes() == b"y"


def test_obstore_retries_what_passes_by_itself(proxy: FaultProxy) -> None:
    """What the platform relies on: a fault that passes is not noticed, also in the middle of a body."""
    store = proxy.server.store("bucket", retry_config={"backoff": {"init_backoff": timedelta(milliseconds=1)}})
    for fault in (Fault.SLOW_DOWN, Fault.INTERNAL_ERROR, Fault.RESET, Fault.CUT_BODY):
        proxy.clear()
        proxy.inject(fault)
        assert obstore.get(store, "object").bytes() == BODY, fault
        assert proxy.requests == [("GET", "/bucket/object")] * 2, fault


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.CUT_BODY, Fault.HANG])
def test_obstore_gives_up(proxy: FaultProxy, fault: Fault) -> None:
    proxy.inject(fault, times=-1)
    options = {"allow_http": True, "timeout": timedelta(milliseconds=300)}
    store = proxy.server.store("bucket", client_options=options, retry_config=NO_RETRIES)
    with pytest.raises(GenericError):
        obstore.get(store, "object").bytes()


def test_many_clients_at_once(proxy: FaultProxy) -> None:
    proxy.inject(Fault.SLOW_DOWN, times=20)
    proxy.inject(Fault.CUT_BODY, times=20)
    store = proxy.server.store("bucket", retry_config={"backoff": {"init_backoff": timedelta(milliseconds=1)}})

    async def get() -> bytes:
        return bytes(await (await obstore.get_async(store, "object")).bytes_async())

    async def get_all() -> list[bytes]:
        return await asyncio.gather(*(get() for _ in range(50)))

    assert asyncio.run(get_all()) == [BODY] * 50
    assert len(proxy.requests) == 90


def test_proxy_ends_with_clients_still_there(server: S3Server) -> None:
    threads = threading.active_count()
    with faulty(server) as proxy:
        proxy.inject(Fault.HANG, times=-1)
        idle = plain(proxy.server)
        idle.connect()
        store = proxy.server.store("bucket", retry_config=NO_RETRIES)
        with ThreadPoolExecutor(4) as pool:
            hanging = [pool.submit(lambda: obstore.get(store, "object").bytes()) for _ in range(4)]
            while len(proxy.requests) < 4:
                time.sleep(0.01)
            proxy.close()
            for future in hanging:
                with pytest.raises(BaseError):
                    future.result(10)
    idle.close()
    assert threading.active_count() == threads
