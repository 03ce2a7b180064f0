"""`shared_release`: the latest release brought to where it is served from (`S3LOGX_PUBLISH_TO`).

It reads the public store alone, and looks through every byte before it lets go of any. One run at a time is at it: of two
that brought different releases the place would have some files of each. How a place is kept is told in `destinations`, what
is looked for in `leaks`.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from s3logx_assets.adapters.destinations import Place, send
from s3logx_assets.adapters.release_store import ReleaseStore
from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.core.concurrency import mapped
from s3logx_assets.core.data_package import SHA256SUMS, sha256sums
from s3logx_assets.core.errors import ReleaseError
from s3logx_assets.core.leaks import Finding, Scan, names_in, names_of_changes
from s3logx_assets.core.scopes import dataset_of
from s3logx_assets.resources import Keyring, Rules
from s3logx_assets.retries import POLICY, told

KEY = "shared_release"
_SHOWN = 10
_AT_ONCE = 16


def refuse_leaks(files: Mapping[str, bytes], secrets: Sequence[bytes]) -> int:
    """Looks through a release, every byte. Returns how many texts that look like addresses are names of the archive's own
    datasets and files. Raises ReleaseError with the places, never the texts, of what must not be in it."""
    scopes = {name.split("/")[1] for name in files if name.startswith("summaries/")}
    # Datasets that are no longer in the release stand in its history for good, and nowhere else.
    of_history = names_of_changes(files.get("changes.json", b""))
    names_of = dict.fromkeys(("changes.json", "CHANGELOG.md"), of_history)
    scan = Scan(secrets, names_in(files, [*scopes, *map(_name, scopes)]), names_of)
    found = list(chain.from_iterable(_findings(scan, files, name, content) for name, content in files.items()))
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ReleaseError(
            "the release is held back, since something in it must not leave: "
            + "; ".join(map(str, found[:_SHOWN]))
            + more
        )
    return scan.names_like_addresses


def _name(scope: str) -> str:
    try:
        return dataset_of(scope)
    except ValueError:
        return scope


def _findings(scan: Scan, files: Mapping[str, bytes], name: str, content: bytes) -> Iterable[Finding]:
    yield from scan.findings(name, content)
    if name.endswith(".parquet"):
        try:
            table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)  # many, and small
        except (pa.ArrowException, OSError):
            raise ReleaseError(f"{name} of the release is damaged; materialise publication anew") from None
        metadata = chain.from_iterable((table.schema.metadata or {}).items())
        texts = chain(table.column_names, (text.decode(errors="replace") for text in metadata))
        cells = chain.from_iterable(
            column.to_pylist() for column in table.columns if not pa.types.is_primitive(column.type)
        )
        others = files.get(name.removesuffix("parquet") + "tsv", b"").partition(b"\n")[0].decode(errors="replace")
        columns = next(csv.reader([others], delimiter="\t"), [])
        shown = (str(text) for text in chain(texts, cells) if text)
        yield from scan.findings_in_table(name, table.column_names, columns, shown)


def _whole(store: ReleaseStore, release_id: str) -> dict[str, bytes]:
    """All files of a release."""
    names = store.names(release_id)
    return dict(zip(names, mapped(lambda name: store.read(release_id, name), names, _AT_ONCE), strict=True))


def _refuse_damaged(files: Mapping[str, bytes], place: str) -> None:
    """Raises ReleaseError where the files are not those that were released. Without it, one that went missing from the
    store would be taken away from its readers too."""
    released = {name: content for name, content in files.items() if name != SHA256SUMS}
    if files.get(SHA256SUMS) != sha256sums(released):
        raise ReleaseError(
            f"the release is not as it was published: files are missing, changed or added; remove {place} and "
            "materialise publication anew"
        )


def build_share() -> dg.AssetsDefinition:
    """The asset, for a graph with a destination."""

    @dg.asset(
        name=KEY,
        deps=["publication"],
        group_name="publish",
        kinds={"html"},
        retry_policy=POLICY,
        description="The latest release at the place that it is served from; only what changed is sent.",
    )
    def shared_release(
        private_store: dg.ResourceParam[TableStore],
        public_store: dg.ResourceParam[ReleaseStore],
        destination: dg.ResourceParam[Place],
        keyring: dg.ResourceParam[Keyring],
        rules: dg.ResourceParam[Rules],
    ) -> dg.MaterializeResult[None]:
        with told(), private_store.locked(KEY) as confirm:
            latest = public_store.latest()
            if latest is None:
                raise ReleaseError("there is no release yet; materialise publication first")
            files = _whole(public_store, latest)
            own_names = refuse_leaks(files, [*keyring.secrets(), *rules.secrets])
            _refuse_damaged(files, public_store.uri(latest))
            sent = send(destination, latest, files)
            confirm()  # or this run was thought dead, and another one was at it too
        return dg.MaterializeResult(
            metadata={
                "in_short": f"{sent.written:,} files written, {sent.unchanged:,} as they were, {sent.removed:,} removed",
                "release": latest,
                "place": str(destination),
                "files_written": sent.written,
                "files_unchanged": sent.unchanged,
                "files_removed": sent.removed,
                "bytes_written": sent.bytes_written,
                "names_like_addresses": own_names,
            }
        )

    return shared_release
