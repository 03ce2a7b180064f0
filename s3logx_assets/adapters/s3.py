"""Amazon S3, and what speaks its protocol: one bucket, listed and read, with every failure put into our own words.

The session and its credentials are those of dagster-aws's `S3Resource`, so all of AWS's own variables, profiles and
roles work as Dagster users know them. boto3 does the few calls that need its abilities; obstore, which is several times
faster, lists and reads. A service's own error text stays here: it can quote keys, account numbers and signatures.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import obstore
from obstore.store import S3Store

from s3logx_assets.adapters.objects import StoredObject
from s3logx_assets.core.errors import S3logxError, SourceError, SourceUnavailable
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

_CREDENTIALS = "the AWS credentials are refused ({code}); check AWS_ACCESS_KEY_ID, AWS_PROFILE or the role"
# What the service's error codes mean for whoever set the location.
_MEANINGS = {
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": "access is denied; it takes s3:ListBucket on the bucket and s3:GetObject on its objects",
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


class ObjectChanged(Exception):
    """An object is not the one that was listed."""


@dataclass
class Bucket:
    """A bucket that a setting names. Nothing is asked of the service before it is used."""

    location: S3Location
    setting: str
    resource: "S3Resource"
    requester_pays: bool = False

    def __repr__(self) -> str:
        return f"Bucket({str(self.location)!r})"

    def level(self, prefix: str, after: str = "") -> tuple[list[StoredObject], list[str], bool]:
        """One page of what lies directly below a text that keys begin with, behind the key `after`: the objects, named by
        their keys, the folders' keys (ending in `/`), and whether there is more. Raises SourceError, SourceUnavailable."""
        with self._explained():
            payer = {"RequestPayer": "requester"} if self.requester_pays else {}
            answer = self._client.list_objects_v2(
                Bucket=self.location.bucket, Prefix=prefix, Delimiter="/", StartAfter=after, MaxKeys=_PAGE, **payer
            )
            objects = [
                StoredObject(item["Key"], item["Size"], _tag(item["ETag"]), item["LastModified"])
                for item in answer.get("Contents", ())
            ]
            folders = [item["Prefix"] for item in answer.get("CommonPrefixes", ())]
            return objects, folders, bool(answer["IsTruncated"])

    def levels(self, prefix: str) -> Iterator[tuple[list[StoredObject], list[str]]]:
        """All pages of the same."""
        more, after = True, ""
        while more:
            objects, folders, more = self.level(prefix, after)
            yield objects, folders
            after = behind(objects, folders)

    def scan(self, folder: str, after: str, end: str = "") -> Iterator[StoredObject]:
        """The objects below `folder` (empty, or ending in `/`) whose keys come behind `after` and, if it is given, before
        `end`; names are whole keys, in their order. Raises SourceError, SourceUnavailable."""
        tries_left = _RETRIES["max_retries"]
        while True:
            try:
                with self._explained():
                    pages = obstore.list(
                        self._store, folder.rstrip("/") or None, offset=after or None, chunk_size=_PAGE
                    )
                    for page in pages:
                        for item in page:
                            if end and item["path"] >= end:
                                return
                            yield StoredObject(item["path"], item["size"], _tag(item["e_tag"]), item["last_modified"])
                            after = item["path"]
                    return
            except SourceUnavailable:
                # obstore asks again for an object that came in part, not for a page of a listing.
                if not tries_left:
                    raise
                tries_left -= 1

    def get(self, key: str, expected: StoredObject | None = None) -> "GetResult":
        """The object, of which only the beginning has come. Raises FileNotFoundError, ObjectChanged where it is not the
        `expected` one, SourceError, SourceUnavailable."""
        with self._explained():
            found = obstore.get(self._store, key)
            if expected is not None and (found.meta["size"], _tag(found.meta["e_tag"])) != (
                expected.size,
                expected.version,
            ):
                raise ObjectChanged
            return found

    def read(self, key: str, expected: StoredObject | None = None) -> bytes:
        """The same, whole."""
        found = self.get(key, expected)
        with self._explained():
            return found.bytes().to_bytes()

    def chunks(self, key: str, expected: StoredObject | None = None) -> Iterator[bytes]:
        """The same, piece by piece."""
        found = self.get(key, expected)
        with self._explained():
            for chunk in found.stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)

    @cached_property
    def _client(self) -> Any:
        return self.resource.get_client()

    @cached_property
    def _store(self) -> S3Store:
        region = self._region()
        config: Any = {"region": region, "request_payer": self.requester_pays}
        options: Any = dict(_TIMES)
        endpoint = str(self._client.meta.endpoint_url)
        if not re.search(r"\.amazonaws\.com(\.cn)?$", endpoint):
            config["endpoint"] = endpoint
            options["allow_http"] = endpoint.startswith("http://")
        credentials: Any = None
        if self.resource.use_unsigned_session:
            config["skip_signature"] = True
        else:
            credentials = _Credentials(self.resource)
        return S3Store(
            self.location.bucket,
            config=config,
            client_options=options,
            retry_config=_RETRIES,
            credential_provider=credentials,
        )

    def _region(self) -> str:
        """Where the bucket is: boto3 finds its way there, obstore has to be told. The answer also shows at once whether
        bucket and credentials are good."""
        payer = {"RequestPayer": "requester"} if self.requester_pays else {}
        answer = self._client.list_objects_v2(
            Bucket=self.location.bucket, Prefix=self.location.prefix, MaxKeys=1, **payer
        )
        found = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        return str(found or self._client.meta.region_name or "us-east-1").replace("aws-global", "us-east-1")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (S3logxError, ObjectChanged, FileNotFoundError, GeneratorExit):
            raise
        except Exception as error:
            raise self._explanation(error) from None

    def _explanation(self, error: Exception) -> S3logxError:
        """What the failure means. Whatever is not understood may pass."""
        code = _code(error)
        place = f"{self.setting}: {self.location}"
        if code in _MEANINGS:
            return SourceError(f"{place}: {_MEANINGS[code].format(code=code)}")
        name = type(error).__name__
        if name in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
            return SourceError(
                f"{place}: there are no AWS credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID, or a role"
            )
        if name in ("UnauthenticatedError", "PermissionDeniedError"):
            return SourceError(f"{place}: {_MEANINGS['AccessDenied']}")
        if code in _BUSY:
            return SourceUnavailable(f"{place}: the service is too busy ({code}), also after many tries")
        return SourceUnavailable(f"{place}: the service cannot be reached, or answers nonsense ({code or name})")


class S3Objects:
    """The objects of a bucket whose keys begin with the location's prefix."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self._prefix = bucket.location.prefix

    def __repr__(self) -> str:
        return f"S3Objects({str(self.bucket.location)!r})"

    def folders(self, prefix: str = "") -> list[str]:
        above = self._prefix + prefix
        pages = self.bucket.levels(above)
        return sorted(folder.removeprefix(above).rstrip("/") for _, folders in pages for folder in folders)

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        above = self._prefix + prefix
        for item in self.bucket.scan(above.rpartition("/")[0], ""):
            if item.name.startswith(above):
                yield replace(item, name=item.name.removeprefix(self._prefix))

    def read(self, name: str) -> bytes:
        return self.bucket.read(self._prefix + name)

    def chunks(self, name: str) -> Iterator[bytes]:
        return self.bucket.chunks(self._prefix + name)


class _Credentials:
    """The session's credentials for obstore, asked for anew before they expire."""

    def __init__(self, resource: "S3Resource") -> None:
        import boto3  # type: ignore[import-untyped]

        session = boto3.Session(
            aws_access_key_id=resource.aws_access_key_id,
            aws_secret_access_key=resource.aws_secret_access_key,
            aws_session_token=resource.aws_session_token,
            profile_name=resource.profile_name,
            region_name=resource.region_name,
        )
        from obstore.auth.boto3 import Boto3CredentialProvider

        self._ask: Callable[[], Any] = Boto3CredentialProvider(session, ttl=timedelta(minutes=5))

    def __call__(self) -> Any:
        return self._ask()


def behind(objects: Sequence[StoredObject], folders: Sequence[str]) -> str:
    """The key that the next page of a level begins behind: of a folder all keys are passed, or it would come again."""
    return max([*(item.name for item in objects), *(folder + "\U0010ffff" for folder in folders)], default="")


def _code(error: Exception) -> str:
    """The service's error code; empty where the failure came before any answer."""
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):
        return str(answer.get("Error", {}).get("Code", ""))
    found = _CODE.search(str(error))
    return found[1] if found else ""


def _tag(tag: str | None) -> str:
    return (tag or "").strip('"')
