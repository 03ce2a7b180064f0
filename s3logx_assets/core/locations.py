"""Where things lie: a local folder, or a bucket and a prefix of its keys. How they are reached does not belong here."""

import re
from dataclasses import dataclass
from pathlib import Path

# Amazon S3 User Guide, "General purpose bucket naming rules".
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SCHEME = "s3://"


@dataclass(frozen=True, slots=True)
class S3Location:
    """A bucket, and what the keys in it begin with.

    A prefix that ends in a letter or a digit names a folder, as people write it, and gets its slash; one that ends in
    another character, such as `access-`, is taken as it is: the target prefix of an access log may be any text.
    """

    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.prefix}"

    @property
    def is_folder(self) -> bool:
        """Whether the prefix is a whole number of parts."""
        return not self.prefix or self.prefix.endswith("/")


Location = Path | S3Location


def parse_location(text: str) -> Location:
    """A folder's path, made absolute, or `s3://bucket/prefix`. Raises ValueError for another scheme, an impossible bucket
    name, or a prefix with an empty or a relative part."""
    if not text.startswith(_SCHEME):
        if "://" in text:
            raise ValueError("unknown scheme")
        return Path(text).absolute()
    bucket, _, prefix = text.removeprefix(_SCHEME).partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError("not the name of a bucket")
    if prefix[-1:].isalnum():
        prefix += "/"
    if any(part in ("", ".", "..") for part in prefix.split("/")[:-1]):
        raise ValueError("an empty or relative part in a prefix")
    return S3Location(bucket, prefix)
