"""The latest release in a bucket that is served as a web site: what `destinations` is in a folder."""

from collections.abc import Iterable, Mapping

from s3logx_assets.adapters.destinations import MANIFEST, in_words
from s3logx_assets.adapters.s3 import Bucket, Role
from s3logx_assets.adapters.s3_release_store import media_type
from s3logx_assets.core.errors import StoreError, StoreUnavailable

ROLE = Role("S3LOGX_PUBLISH_TO", StoreError, StoreUnavailable, "s3:GetObject, s3:PutObject and s3:DeleteObject")
# The names stay and their content does not: a reader's copy is used again only after asking, so that no page shows the
# figures of another release than its neighbours.
_CACHE = "no-cache"


class S3Place:
    """`Place` below a prefix of a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._prefix = bucket.location.prefix

    def __str__(self) -> str:
        return str(self._bucket.location)

    def manifest(self) -> bytes | None:
        """See Place."""
        try:
            return self._bucket.get(self._prefix + MANIFEST)[0]
        except FileNotFoundError:
            return None

    def trial(self) -> str:
        """See Place."""
        return in_words(self.manifest())

    def found(self, files: Mapping[str, bytes]) -> dict[str, bool]:
        """See Place. Tells by the size in the listing; the manifest knows the content."""
        listed = ((item.key.removeprefix(self._prefix), item.size) for item in self._bucket.scan(self._prefix, ""))
        return {name: size == len(files[name]) for name, size in listed if name in files}

    def put(self, name: str, content: bytes) -> None:
        """See Place."""
        self._bucket.put(self._prefix + name, content, media_type(name), _CACHE)

    def remove(self, name: str) -> None:
        """See Place."""
        self._bucket.remove([self._prefix + name])

    def finish(self, release_id: str, names: Iterable[str]) -> None:
        """See Place: every object was whole when it was put."""
