"""The public store in a bucket: what `release_store` is in a folder.

    public/releases/<release id>/…
    public/latest.json      {"release": "<release id>", "path": "releases/<release id>/"}, written last

Objects get the media types that a browser needs. Releases never change, so they may be kept for long; which one is the
latest may not.
"""

import json
import mimetypes
from collections.abc import Mapping

from s3logx_assets.adapters.s3 import Bucket
from s3logx_assets.core.concurrency import mapped
from s3logx_assets.core.data_package import SHA256SUMS
from s3logx_assets.core.errors import StoreError

LATEST = "latest.json"
_AT_ONCE = 16
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".cff": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".parquet": "application/vnd.apache.parquet",
    ".json": "application/json",
    ".tsv": "text/tab-separated-values; charset=utf-8",
}
_FOR_LONG, _NOT_AT_ALL = "public, max-age=31536000, immutable", "no-cache"


class S3ReleaseStore:
    """`ReleaseStore` below a prefix in a bucket."""

    def __init__(self, bucket: Bucket, folder: str = "") -> None:
        self._bucket = bucket
        self._prefix = bucket.location.prefix + folder

    def __repr__(self) -> str:
        return f"S3ReleaseStore({self._place('')!r})"

    def publish(self, release_id: str, files: Mapping[str, bytes]) -> None:
        """See ReleaseStore; the list of checksums is among the files. It comes last: where it is, the release is whole, and
        stays as it is."""
        base = self._key(release_id, "")

        def put(name: str) -> None:
            self._bucket.put(base + name, files[name], media_type(name), _FOR_LONG)

        if self._bucket.size_of(base + SHA256SUMS) is None:
            for _ in mapped(put, files.keys() - {SHA256SUMS}, _AT_ONCE):
                pass
            put(SHA256SUMS)
        latest = json.dumps({"path": f"releases/{release_id}/", "release": release_id}).encode()
        self._bucket.put(self._prefix + LATEST, latest, media_type(LATEST), _NOT_AT_ALL)

    def names(self, release_id: str) -> list[str]:
        """See ReleaseStore."""
        base = self._key(release_id, "")
        return [item.key.removeprefix(base) for item in self._bucket.scan(base, "")]

    def uri(self, release_id: str, name: str = "") -> str:
        """See ReleaseStore."""
        return self._place(f"releases/{release_id}/{name}")

    def latest(self) -> str | None:
        """See ReleaseStore."""
        try:
            return str(json.loads(self._bucket.get(self._prefix + LATEST)[0])["release"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{self._place(LATEST)} is damaged; publish again") from None

    def read(self, release_id: str, name: str) -> bytes:
        """See ReleaseStore."""
        try:
            return self._bucket.get(self._key(release_id, name))[0]
        except FileNotFoundError:
            raise StoreError(f"{self.uri(release_id, name)} is not there") from None

    def _key(self, release_id: str, name: str) -> str:
        return f"{self._prefix}releases/{release_id}/{name}"

    def _place(self, name: str) -> str:
        return f"s3://{self._bucket.location.bucket}/{self._prefix}{name}"


def media_type(name: str) -> str:
    """What a browser must be told of a file, by its name."""
    ending = name[name.rfind(".") :] if "." in name else ""
    if name.endswith("SHA256SUMS"):
        return "text/plain; charset=utf-8"
    return _TYPES.get(ending) or mimetypes.types_map.get(ending) or "application/octet-stream"
