"""Amazon S3, and what speaks its protocol: one bucket, listed, read and written, every failure put into our own words.

The session and its credentials are those of dagster-aws's `S3Resource`, so all of AWS's own variables, profiles and
roles work as Dagster users know them. boto3 does the few calls that need its abilities; obstore, which is several times
faster, lists, reads and writes. A service's own error text stays here: it can quote keys, account numbers and signatures.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from threading import Lock
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, InvalidPathError, PreconditionError
from obstore.store import S3Store

from s3logx_assets.adapters.http_gets import Origin
from s3logx_assets.core.aws_signature import GetSigner
from s3logx_assets.core.errors import (
    S3logxError,
    SourceError,
    SourceUnavailable,
    StoreError,
    StoreUnavailable,
    TransientError,
)
from s3logx_assets.core.locations import S3Location

if TYPE_CHECKING:
    from dagster_aws.s3 import S3Resource
    from obstore import GetResult

_PAGE = 1000
_CHUNK = 1 << 20
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
# Waits grow to seconds: a busy service is left alone for a while.
_RETRIES: Any = {
    "max_retries": 8,
    "retry_timeout": timedelta(minutes=2),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=10), "base": 4},
}
# Of an answer that comes in pieces each piece has the time; the whole may take longer.
_TIMES: Any = {"connect_timeout": timedelta(seconds=10), "read_timeout": timedelta(seconds=30), "timeout": "10m"}

# For a request that was cut off: so many, with so many seconds between them.
_TRIES, _PAUSE = 4, 1.0

_CREDENTIALS = "the AWS credentials are refused ({code}); check AWS_ACCESS_KEY_ID, AWS_PROFILE or the role"
# What the service's error codes mean for whoever set the location.
_MEANINGS = {
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": "access is denied; it takes s3:ListBucket on the bucket and {actions} on its objects",
    "InvalidObjectState": "the object is archived (Glacier) and must be restored before it can be read",
    "AllAccessDisabled": "access to the bucket is disabled",
    "RequestTimeTooSkewed": "this machine's clock is too far from the service's; set it right",
    "PermanentRedirect": "the bucket is in another region than AWS_REGION says",
    "AuthorizationHeaderMalformed": "the bucket is in another region than AWS_REGION says",
    **dict.fromkeys(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
        _CREDENTIALS,
    ),
}
_BUSY = ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a listing says of an object; `version` is its ETag."""

    key: str
    size: int
    version: str


class ObjectChanged(Exception):
    """An object is not the one that was listed."""


@dataclass(frozen=True)
class Role:
    """What a bucket is for: the setting that names it, what fails permanently or for now where it does, and what it
    takes."""

    setting: str
    error: type[S3logxError]
    unavailable: type[TransientError]
    actions: str


def source_role(setting: str) -> Role:
    """A bucket that is read."""
    return Role(setting, SourceError, SourceUnavailable, "s3:GetObject")


STORE = Role("S3LOGX_STORE", StoreError, StoreUnavailable, "s3:GetObject, s3:PutObject and s3:DeleteObject")


@dataclass
class Bucket:
    """A bucket in its role. Nothing is asked of the service before it is used. Methods raise the role's errors."""

    location: S3Location
    role: Role
    resource: "S3Resource"
    requester_pays: bool = False
    _opening: Lock = field(default_factory=Lock, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"Bucket({str(self.location)!r})"

    def level(self, prefix: str, after: str = "") -> tuple[list[StoredObject], list[str], bool]:
        """One page of what lies directly below a text that keys begin with, behind the key `after`: the objects, the
        folders' keys (ending in `/`), and whether there is more. Raises SourceError, SourceUnavailable."""
        with self._explained():
            answer = self._listed(Prefix=prefix, Delimiter="/", StartAfter=after, MaxKeys=_PAGE)
            folders = [item["Prefix"] for item in answer.get("CommonPrefixes", ())]
            return _objects(answer), folders, bool(answer["IsTruncated"])

    def levels(self, prefix: str) -> Iterator[tuple[list[StoredObject], list[str]]]:
        """All pages of the same."""
        more, after = True, ""
        while more:
            objects, folders, more = self.level(prefix, after)
            yield objects, folders
            after = behind(objects, folders)

    def scan(self, beginning: str, after: str, end: str = "") -> Iterator[StoredObject]:
        """The objects whose keys begin with a text and come behind `after` and, if it is given, before `end`, in the order of
        their keys. Raises SourceError, SourceUnavailable."""
        tries_left = _RETRIES["max_retries"]
        while True:
            try:
                with self._explained():
                    for page in self._pages(beginning, after):
                        for item in page:
                            if end and item.key >= end:
                                return
                            yield item
                            after = item.key
                    return
            except TransientError:
                # obstore asks again for an object that came in part, not for a page of a listing.
                if not tries_left:
                    raise
                tries_left -= 1

    def _pages(self, beginning: str, after: str) -> Iterator[Iterable[StoredObject]]:
        """Nothing but what begins so is asked for: a policy may allow no more. obstore knows whole folders alone, and
        refuses a page for a single key like `a//b`, so boto3 goes on from there."""
        if not beginning or re.fullmatch("([^/]+/)+", beginning):
            with suppress(InvalidPathError):
                folder = beginning.rstrip("/") or None
                for page in obstore.list(self._store, folder, offset=after or None, chunk_size=_PAGE):
                    yield (StoredObject(item["path"], item["size"], _tag(item["e_tag"])) for item in page)
                    after = max([after, *(item["path"] for item in page)])
                return
        more = True
        while more:
            answer = self._listed(Prefix=beginning, StartAfter=after, MaxKeys=_PAGE)
            objects = _objects(answer)
            yield (item for item in objects if not item.key.endswith("/"))  # a folder's own, which holds nothing
            more, after = bool(objects and answer["IsTruncated"]), behind(objects, ())

    def read(self, wanted: StoredObject) -> bytes:
        """An object as it was listed, whole. Raises FileNotFoundError, ObjectChanged, SourceError, SourceUnavailable."""
        with self._explained():
            return self._got(wanted).bytes().to_bytes()

    def chunks(self, wanted: StoredObject) -> Iterator[bytes]:
        """The same, piece by piece."""
        with self._explained():
            for chunk in self._got(wanted).stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)

    def size_of(self, key: str) -> int | None:
        """How many bytes an object has, None if there is none."""
        with self._explained():
            try:
                return int(obstore.head(self._store, key)["size"])
            except FileNotFoundError:
                return None

    def get(self, key: str) -> tuple[bytes, str]:
        """A small object as it is now, and its tag. Raises FileNotFoundError."""
        with self._explained():
            found = obstore.get(self._store, key)
            return found.bytes().to_bytes(), _tag(found.meta["e_tag"])

    def end(self, key: str, size: int) -> tuple[bytes, int, str]:
        """The last `size` bytes of an object or all of it, its whole size, and its tag. Raises FileNotFoundError."""
        with self._explained():
            try:
                found = obstore.get(self._store, key, options={"range": {"suffix": size}})
                return found.bytes().to_bytes(), found.meta["size"], _tag(found.meta["e_tag"])
            except Exception as error:
                if _code(error) == "InvalidRange":  # of an object without content there is no last byte
                    return b"", 0, ""
                raise

    def range(self, key: str, start: int, end: int, tag: str) -> bytes:
        """Bytes from `start` to before `end` of the object that has this tag. Raises FileNotFoundError, ObjectChanged."""
        with self._explained():
            found = obstore.get(self._store, key, options={"range": (start, end), "if_match": f'"{tag}"'})
            return found.bytes().to_bytes()

    def put(
        self, key: str, content: bytes | IO[bytes], media_type: str | None = None, cache: str | None = None
    ) -> None:
        """Replaces an object, in one step however large it is."""
        attributes: Any = {"Content-Type": media_type, "Cache-Control": cache}
        given = {name: value for name, value in attributes.items() if value is not None}

        def put() -> None:
            if not isinstance(content, bytes):
                content.seek(0)
            obstore.put(self._store, key, content, attributes=given or None)

        self._patiently(put)

    def put_if(self, key: str, content: bytes, tag: str | None) -> str | None:
        """Makes an object if there is none, or replaces the one that has `tag`: the new tag, or None where that is not
        so. What fails on the way may have happened all the same."""
        mode: Any = "create" if tag is None else {"e_tag": f'"{tag}"'}
        with self._explained():
            try:
                return _tag(obstore.put(self._store, key, content, mode=mode)["e_tag"])
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                return None

    def copy(self, key: str, target: str, tag: str | None = None) -> None:
        """Copies an object within the bucket, the one that has `tag` where it is given. Raises FileNotFoundError,
        ObjectChanged."""
        bucket = self.location.bucket
        condition = {} if tag is None else {"CopySourceIfMatch": f'"{tag}"'}
        source = {"Bucket": bucket, "Key": key}

        def copy() -> None:
            try:
                self._client.copy_object(Bucket=bucket, Key=target, CopySource=source, **condition)
            except Exception as error:
                if _code(error) in ("NoSuchKey", "404"):
                    raise FileNotFoundError from None
                if _code(error) in ("PreconditionFailed", "412"):
                    raise ObjectChanged from None
                raise

        self._patiently(copy)

    def remove(self, keys: Sequence[str]) -> None:
        """Removes objects; those that are not there are no error."""
        for start in range(0, len(keys), _PAGE):
            self._patiently(partial(obstore.delete, self._store, list(keys[start : start + _PAGE])))

    def _patiently(self, work: Callable[[], Any]) -> None:
        """Does what may be done twice, again and again while the service is out of reach: obstore repeats what it was
        told not to do, not what it was not told at all."""
        for tries_left in reversed(range(_TRIES)):
            try:
                with self._explained():
                    work()
                return
            except TransientError:
                if not tries_left:
                    raise
                time.sleep(_PAUSE)

    def chunks_of(self, key: str) -> Iterator[bytes]:
        """An object as it is now, piece by piece. Raises FileNotFoundError."""
        with self._explained():
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)

    def requests(self, keys: Sequence[str]) -> tuple[Origin, list[bytes]]:
        """What to send for these objects, and where to, for who speaks plain HTTP. Signed now, and as secret as what it gives
        access to. Raises whatever may go wrong."""
        root = urlsplit(self._root_url)
        region = str(self._store.config["region"])
        signer = GetSigner(root.netloc, region, self._credentials(), datetime.now(UTC), self.requester_pays)
        waits = (_TIMES[name].total_seconds() for name in ("connect_timeout", "read_timeout"))
        return Origin(root.scheme, root.netloc, *waits), [signer.request(root.path + key) for key in keys]

    def _got(self, wanted: StoredObject) -> "GetResult":
        """The beginning of an object."""
        found = obstore.get(self._store, wanted.key)
        if (found.meta["size"], _tag(found.meta["e_tag"])) != (wanted.size, wanted.version):
            raise ObjectChanged
        return found

    def _listed(self, **options: Any) -> Any:
        """An answer of ListObjectsV2 through boto3."""
        payer = {"RequestPayer": "requester"} if self.requester_pays else {}
        return self._client.list_objects_v2(Bucket=self.location.bucket, **options, **payer)

    @cached_property
    def _client(self) -> Any:
        return self.resource.get_client()

    @cached_property
    def _credentials(self) -> Callable[[], Any]:
        return _credentials(self.resource)

    @cached_property
    def _root_url(self) -> str:
        """The URL that keys follow, found out from obstore: there are many ways to address a bucket."""
        url: str = obstore.sign(self._store, "GET", "x", timedelta(seconds=1))
        return url.partition("?")[0].removesuffix("x")

    @property
    def _store(self) -> S3Store:
        with self._opening:  # many threads ask for it first, and it takes a request to make
            return self._opened_store

    @cached_property
    def _opened_store(self) -> S3Store:
        config: Any = {"region": self._region(), "request_payer": self.requester_pays}
        options: Any = dict(_TIMES)
        endpoint = str(self._client.meta.endpoint_url)
        if not re.search(r"\.amazonaws\.com(\.cn)?$", endpoint):
            config["endpoint"] = endpoint
            options["allow_http"] = endpoint.startswith("http://")
        return S3Store(
            self.location.bucket,
            config=config,
            client_options=options,
            retry_config=_RETRIES,
            credential_provider=self._credentials,
        )

    def _region(self) -> str:
        """Where the bucket is: boto3 finds its way there, obstore has to be told. The answer also shows at once whether
        bucket and credentials are good."""
        answer = self._listed(Prefix=self.location.prefix, MaxKeys=1)
        found = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        return str(found or self._client.meta.region_name or "us-east-1").replace("aws-global", "us-east-1")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (S3logxError, ObjectChanged, FileNotFoundError, GeneratorExit):
            raise
        except (TypeError, AttributeError, NameError):
            raise  # a fault of this program, which must not look like the service's
        except PreconditionError:
            raise ObjectChanged from None
        except Exception as error:
            raise self._explanation(error) from None

    def _explanation(self, error: Exception) -> S3logxError:
        """What the failure means. Whatever is not understood may pass."""
        code = _code(error)
        role = self.role
        place = f"{role.setting}: {self.location}"
        if code in _MEANINGS:
            return role.error(f"{place}: {_MEANINGS[code].format(code=code, actions=role.actions)}")
        name = type(error).__name__
        if name in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
            return role.error(f"{place}: there are no AWS credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID, or a role")
        if name in ("UnauthenticatedError", "PermissionDeniedError"):
            return role.error(f"{place}: {_MEANINGS['AccessDenied'].format(actions=role.actions)}")
        if name == "ValueError" and str(error).startswith("Could not parse path"):  # obstore's, of `a//b`
            return role.error(f"{place}: an object whose key has an empty part or odd characters cannot be read")
        if code in _BUSY:
            return role.unavailable(f"{place}: the service is too busy ({code}), also after many tries")
        return role.unavailable(f"{place}: the service cannot be reached, or answers nonsense ({code or name})")


def _credentials(resource: "S3Resource") -> Callable[[], Any]:
    """What obstore asks for the session's credentials, again and again before they expire."""
    import boto3  # type: ignore[import-untyped]
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = boto3.Session(
        aws_access_key_id=resource.aws_access_key_id,
        aws_secret_access_key=resource.aws_secret_access_key,
        aws_session_token=resource.aws_session_token,
        profile_name=resource.profile_name,
        region_name=resource.region_name,
    )
    # Its method alone: obstore would take the session's region from it for the bucket's.
    return Boto3CredentialProvider(session, ttl=timedelta(minutes=5)).__call__


def behind(objects: Sequence[StoredObject], folders: Sequence[str]) -> str:
    """The key that the next page of a level begins behind: of a folder all keys are passed, or it would come again."""
    return max([*(item.key for item in objects), *(folder + "\U0010ffff" for folder in folders)], default="")


def _objects(answer: Any) -> list[StoredObject]:
    """The objects in an answer of ListObjectsV2."""
    return [StoredObject(item["Key"], item["Size"], _tag(item["ETag"])) for item in answer.get("Contents", ())]


def _code(error: Exception) -> str:
    """The service's error code; empty where the failure came before any answer."""
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):
        return str(answer.get("Error", {}).get("Code", ""))
    found = _CODE.search(str(error))
    return found[1] if found else ""


def _tag(tag: str | None) -> str:
    return (tag or "").strip('"')
