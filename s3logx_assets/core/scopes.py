"""Scope names: what a dataset is called as a folder, a partition key and a part of a link.

A scope is a dataset or the whole archive. Only names live here; what a scope holds does not.

The escape is the percent-encoding of RFC 3986 over UTF-8 with a smaller safe alphabet, so that a
name is safe as a folder, in a hive path and as a partition key (where `...` would mean a range).
"""

import re
from hashlib import sha256
from urllib.parse import unquote_to_bytes

ARCHIVE = "archive"
UNASSOCIATED = "unassociated"

MAX_SCOPE_BYTES = 200
_SHORTENED_BYTES = 120
_SHORTENED_MARK = "%~"

# A dot is safe unless it leads the name (hidden files, `.`) or follows another (`..`, ranges).
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]|^\.|(?<=\.)\.")


def scope_of(dataset: str) -> str:
    """The scope of a dataset: ASCII, 1 to 200 bytes of `[A-Za-z0-9._%~-]`, distinct per dataset.

    Every byte outside `[A-Za-z0-9._-]`, a leading dot and a dot after a dot become `%XX`; the
    dataset `archive` becomes `%61rchive`. `dataset_of` is the inverse, with one exception: a
    result over 200 bytes is cut to at most 120, and `%~` and the SHA-256 of the dataset's name
    are appended. That form alone cannot be reversed.

    Raises ValueError for an empty name and for text that is not valid Unicode.
    """
    if not dataset:
        raise ValueError("a dataset has a name")
    if dataset == ARCHIVE:
        return "%61rchive"
    scope = _UNSAFE.sub(lambda match: _escaped(match[0]), dataset)
    if len(scope) <= MAX_SCOPE_BYTES:
        return scope
    head = re.sub(r"%.?$", "", scope[:_SHORTENED_BYTES])
    return head + _SHORTENED_MARK + sha256(dataset.encode()).hexdigest()


def dataset_of(scope: str) -> str:
    """The dataset of a scope.

    Raises ValueError for the archive, for shortened scopes, and for what `scope_of` never returns.
    """
    if scope == ARCHIVE:
        raise ValueError("the archive is no dataset")
    if _SHORTENED_MARK in scope:
        raise ValueError("a shortened scope does not tell its dataset")
    dataset = unquote_to_bytes(scope).decode()
    if scope_of(dataset) != scope:
        raise ValueError("not the name of a scope")
    return dataset


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
