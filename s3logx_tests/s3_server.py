"""A real S3 server of the test run's own: SeaweedFS on 127.0.0.1, with keys nobody else has, its data in a folder.

It checks signatures, so that credentials matter, and it does what S3 does with listings, conditions and copies. What
differs: a key's empty segments are dropped (`a//b` becomes `a/b`) and `\\` in a key becomes `/`.
"""

import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3  # type: ignore[import-untyped]
import obstore
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
from obstore.store import S3Store

if TYPE_CHECKING:
    from obstore.store import S3Credential

WEED = Path(sys.executable).parent / "weed"
DEADLINE = 30.0  # seconds; a start takes about one
PARTS = ("s3", "master", "volume", "filer", "admin")
GRPC_OFFSET = 10_000  # SeaweedFS's own; one of its parts takes no other
THREADS = 8

# Asks the kernel to end it with the thread that started it, then becomes the server.
_STARTER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class S3ServerError(Exception):
    """The server did not start."""


@dataclass(frozen=True)
class S3Server:
    """Where the server is, and the keys it accepts."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def environment(self) -> dict[str, str]:
        """The variables by which AWS's libraries, and the platform, find the server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, **options: Any) -> Any:
        """A boto3 client; `options` are botocore's. To be closed."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(**{"s3": {"addressing_style": "path"}, "proxies": {}, **options}),
        )

    def store(self, bucket: str, **options: Any) -> S3Store:
        """An obstore store of a bucket; `options` are obstore's."""
        return S3Store(
            bucket,
            endpoint=self.endpoint,
            region=self.region,
            # Not as plain options, to which obstore adds a session token that it finds in the environment.
            credential_provider=self._credential,
            **{"client_options": {"allow_http": True}, **options},
        )

    def _credential(self) -> "S3Credential":
        return {"access_key_id": self.access_key, "secret_access_key": self.secret_key, "expires_at": None}

    def make_bucket(self, name: str) -> None:
        """A new bucket."""
        with closing(self.client()) as client:
            client.create_bucket(Bucket=name)

    def put(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Many objects at once."""
        store = self.store(bucket)
        # obstore is four times as fast, but has its own mind about some keys.
        plain = [key for key in objects if _is_plain(key)]
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(lambda key: obstore.put(store, key, objects[key], use_multipart=False), plain):
                pass
        if len(plain) < len(objects):
            with closing(self.client(max_pool_connections=THREADS)) as client, ThreadPoolExecutor(THREADS) as pool:
                others = objects.keys() - set(plain)
                for _ in pool.map(lambda key: client.put_object(Bucket=bucket, Key=key, Body=objects[key]), others):
                    pass

    def objects(self, bucket: str, *prefixes: str) -> dict[str, bytes]:
        """All objects whose keys begin with one of these."""
        store = self.store(bucket)
        keys = [item["path"] for prefix in prefixes for batch in obstore.list(store, prefix) for item in batch]
        with ThreadPoolExecutor(THREADS) as pool:
            return dict(zip(keys, pool.map(lambda key: bytes(obstore.get(store, key).bytes()), keys), strict=True))


def _is_plain(key: str) -> bool:
    return key.isprintable() and all(segment not in ("", ".", "..") for segment in key.split("/"))


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A server with its data and its output (`weed.log`) below `folder`, until the block or the calling thread ends.

    The first object of a bucket takes 0.2 seconds, since SeaweedFS then makes a volume, and there are volumes for 500.
    """
    folder.mkdir(exist_ok=True)
    for attempts_left in (2, 1, 0):
        ports = _free_ports()
        server = S3Server(
            f"http://127.0.0.1:{ports['s3']}", f"test{secrets.token_hex(8)}".upper(), secrets.token_urlsafe(30)
        )
        process = _start(folder, ports, server)
        try:
            try:
                _wait(process, server, folder / "weed.log")
            except S3ServerError:
                # The ports were free a moment ago, but somebody may have been quicker.
                if attempts_left == 0 or process.poll() is None:
                    raise
                continue
            yield server
            return
        finally:
            _end(process, ports)


def _free_ports() -> dict[str, int]:
    """For each part of the server a port, such that the one for its gRPC is free too.

    Below the range from which the kernel gives ports to those who ask for any.
    """
    while True:
        first = random.randrange(10_000, 22_000)
        ports = ports_from(first)
        if all(_is_free(port) and _is_free(port + GRPC_OFFSET) for port in ports.values()):
            return ports


def ports_from(first: int) -> dict[str, int]:
    """The ports of a server that has S3 at `first`."""
    return {part: first + number for number, part in enumerate(PARTS)}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _start(folder: Path, ports: Mapping[str, int], server: S3Server) -> subprocess.Popen[bytes]:
    data = tempfile.mkdtemp(prefix="data-", dir=folder)  # not that of another start, since options are kept there
    options = {
        "dir": data,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        **{f"{part}.port": str(port) for part, port in ports.items()},
        **{f"{part}.port.grpc": str(port + GRPC_OFFSET) for part, port in ports.items()},
        # Relative, since paths of sockets are short, and those of temporary folders may not be.
        "s3.localSocket": "s3.sock",
        "filer.localSocket": "filer.sock",
        "s3.autoCreateBucket": "false",  # as S3
        "s3.port.iceberg": "0",
        "s3.port.lance": "0",
        "webdav": "false",
        "admin.ui": "false",
        "master.telemetry": "false",
        # A bucket has a volume of its own: by default they are as large and few as the disk allows.
        "master.volumeSizeLimitMB": "256",
        "volume.max": "500",
    }
    command = [str(WEED), "mini", *(f"-{name}={value}" for name, value in options.items())]
    with (folder / "weed.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-ISc", _STARTER, str(os.getpid()), *command],
            cwd=folder,
            # Nothing of ours: SeaweedFS reads options, and names of buckets to make, from the environment and the home.
            env={
                "HOME": str(folder),
                "TMPDIR": str(folder),
                "AWS_ACCESS_KEY_ID": server.access_key,
                "AWS_SECRET_ACCESS_KEY": server.secret_key,
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # or Ctrl-C would end it before the tests that use it
        )


def _wait(process: subprocess.Popen[bytes], server: S3Server, log: Path) -> None:
    """Until a signed request succeeds, which only our own server can make, as nobody else knows its keys."""
    deadline = time.monotonic() + DEADLINE
    trouble = "no answer"
    with closing(server.client(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=1)) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                trouble = f"it ended with {process.returncode}"
                break
            try:
                client.list_buckets()
                return
            except (BotoCoreError, ClientError) as error:
                trouble = str(error)
            time.sleep(0.02)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise S3ServerError(f"SeaweedFS did not start: {trouble}. The end of its output:\n{tail}")


def _end(process: subprocess.Popen[bytes], ports: Mapping[str, int]) -> None:
    """At once: the orderly way takes two seconds, to save what nobody will read."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    remove_sockets(ports)


def remove_sockets(ports: Mapping[str, int]) -> None:
    """Those that a killed server leaves in /tmp, where it has them whatever it is told."""
    for part, port in ports.items():
        Path(f"/tmp/seaweedfs-{part}-grpc-{port + GRPC_OFFSET}.sock").unlink(missing_ok=True)  # noqa: S108
