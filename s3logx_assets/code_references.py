"""Which code makes an asset, for the link in the Dagster UI.

Dagster opens a local file in the editor of whoever looks, which is right on one's own machine and in a checkout as in an
installed package. Elsewhere S3LOGX_SOURCE_URL names the page below which the sources are read, and no path of a
machine is told.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from s3logx_assets.adapters.gawk import program

_PACKAGE = Path(__file__).parent


def code_references(code: Callable[..., object], asset: str, source_url: str | None) -> dict[str, Any]:
    """Metadata of an asset's definition: the function that makes it, and of `extracted_logs` the gawk program too."""
    source = inspect.getsourcefile(code)
    assert source is not None, "functions of this package are in its files"
    path = Path(source)
    line = inspect.getsourcelines(code)[1]
    name = path.relative_to(_PACKAGE.parent).as_posix()
    references = [_reference(path, name, line, source_url)]
    if asset == "extracted_logs":
        references.append(_reference(program(), "awk/extract.awk", 1, source_url))
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=references)}


def _reference(
    path: Path, name: str, line: int, source_url: str | None
) -> dg.LocalFileCodeReference | dg.UrlCodeReference:
    if source_url is None:
        return dg.LocalFileCodeReference(file_path=str(path), line_number=line, label=name)
    return dg.UrlCodeReference(url=f"{source_url}/{name}#L{line}", label=name)
