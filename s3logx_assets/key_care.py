"""`python -m s3logx_assets key …`: status, rotate, lookup, destroy. For the person who holds the master key.

Rotation makes a new epoch of the private store beside it, `private.next`, every table under the new key, and then
exchanges the two folders (adapters/epochs.py). Until then the old epoch stands, whole and readable, and a rotation that
ended anywhere is taken up by the same command. Nobody else works on the store meanwhile.

Only `lookup --index` ever shows an address, on the standard output, and that is what it is for: lawful requests. No run of
Dagster comes here.
"""

import argparse
import getpass
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3logx_assets.adapters import key_store
from s3logx_assets.adapters.closed_periods import RELEASED_USAGE, read_periods, rows_of, write_period
from s3logx_assets.adapters.epochs import exchange, next_epoch
from s3logx_assets.adapters.files import Files
from s3logx_assets.adapters.local_files import LocalFiles, make_folder, sync_folder
from s3logx_assets.adapters.scope_state import DIGESTS, UPDATE_COMMAND, serialized_groups
from s3logx_assets.adapters.table_store import LOG_DATE, TableStore, partition
from s3logx_assets.core.addresses import pack, unpack
from s3logx_assets.core.digests import table_digest
from s3logx_assets.core.errors import MasterKeyError, SettingsError, StoreError
from s3logx_assets.core.rekeying import (
    network_exchange,
    rekeyed_indexes,
    rekeyed_logs,
    rekeyed_periods,
    rekeyed_regions,
    rekeyed_usage,
)
from s3logx_assets.core.schemas import DAILY_TABLES
from s3logx_assets.core.sealing import Sealer
from s3logx_assets.resources import private_files
from s3logx_assets.settings import Settings

_PROGRESS = "rotation.jsonl"
# A bucket has no way to keep all runs out and to exchange all tables in one step.
_LOCAL_ONLY = {
    "rotate": "stop all runs, copy it to a local folder, rotate it there, and copy private/ back",
    "destroy": "its key is S3LOGX_KEY; remove that from wherever it is set",
}


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `key` and what it does to the command line."""
    key = commands.add_parser("key", help="the master key: status, rotate, lookup, destroy")
    actions = key.add_subparsers(dest="action", required=True)
    actions.add_parser("status", help="where the key comes from, and whether it is the store's")
    actions.add_parser("rotate", help="rewrite the private store under a new key")
    lookup = actions.add_parser("lookup", help="what the store has of one address, read from the standard input")
    lookup.add_argument("--index", type=int, help="instead: print the address of this ip_index")
    destroy = actions.add_parser("destroy", help="destroy the key file, so that no index can be turned back")
    destroy.add_argument("--yes-destroy", metavar="KEY_ID", required=True, help="the id that `key status` shows")


def run(settings: Settings, chosen: argparse.Namespace) -> int:
    """Runs one of the commands; 0 if all is well. Raises S3logxError."""
    if chosen.action == "status":
        return status(settings)
    if not isinstance(settings.store, Path) and chosen.action in _LOCAL_ONLY:
        raise SettingsError(f"S3LOGX_STORE={settings.store} is in a bucket: {_LOCAL_ONLY[chosen.action]}")
    if chosen.action == "rotate":
        return rotate(settings)
    if chosen.action == "destroy":
        return destroy(settings, chosen.yes_destroy)
    return lookup_index(settings, chosen.index) if chosen.index is not None else lookup(settings)


def status(settings: Settings) -> int:
    """Prints where the key comes from, its id, whether it fits, and whether a rotation waits to be ended."""
    private = private_files(settings)
    place = "S3LOGX_KEY" if settings.key else settings.home / key_store.KEY_FILE
    own_id = Sealer(settings.key).key_id if settings.key else key_store.key_file_id(settings.home)
    print(f"key       {place}, key id {own_id or '(none yet)'}")
    print(f"store     {private}, key id {key_store.key_id(private) or '(none yet)'}")
    if isinstance(private, LocalFiles) and (next_epoch(private.root).exists() or private.path(_PROGRESS).exists()):
        print("rotation  begun and not ended; run `python -m s3logx_assets key rotate` again")
    print(f"the key   {key_store.verify(private, settings.home, settings.key)}")
    return 0


def rotate(settings: Settings) -> int:
    """Rewrites the private store under a new key and switches to it. Raises SettingsError, MasterKeyError, StoreBusyError,
    StoreError."""
    store = _present_store(settings)
    with store.alone():
        try:
            _rotate(settings, store)
        except OSError as error:
            raise StoreError(
                f"{error.filename or store.root} cannot be written, read or removed: {error.strerror}. Nothing is lost: "
                "mend that and run `key rotate` again"
            ) from None
    print("The store is under the new key now.")
    if settings.key is None:
        print(f"Back {settings.home / key_store.KEY_FILE} up anew.")
        print("A store elsewhere that was made with the old key needs its backup from now on, as S3LOGX_KEY.")
    elif Sealer(settings.key).key_id != key_store.key_id(store.files):
        print("Set S3LOGX_KEY to what is in S3LOGX_NEW_KEY.")
    print(f"The scopes have to be counted again: {UPDATE_COMMAND}")
    return 0


def _rotate(settings: Settings, store: TableStore) -> None:
    private = store.root
    if not (private / _PROGRESS).exists():  # else an earlier call came as far as the switch
        if (settings.key is None) != (settings.new_key is None):
            raise SettingsError(
                "S3LOGX_KEY and S3LOGX_NEW_KEY are set together or not at all; without them key files are used"
            )
        if settings.key is not None and settings.key == settings.new_key:
            raise SettingsError("S3LOGX_NEW_KEY is the key that the store has already, S3LOGX_KEY")
        known = key_store.key_id(store.files)
        if settings.new_key is None or Sealer(settings.new_key).key_id != known:
            old = key_store.open_sealer(store.files, settings.home, settings.key, lambda text: None)
            new = Sealer(settings.new_key or key_store.next_key(settings.home))
            _make_epoch(store, old, new)
            exchange(private)
            sync_folder(private.parent)
    _end_rotation(settings, private)


def _end_rotation(settings: Settings, private: Path) -> None:
    """What comes after the switch: the key file, and the old epoch's end. Raises MasterKeyError where the new key is not
    at hand, and OSError."""
    if settings.key is None:
        # Puts the next key in the key file's place, if that has not happened yet.
        key_store.open_sealer(LocalFiles(private), settings.home, None, lambda text: None)
    elif key_store.key_id(LocalFiles(private)) not in {
        Sealer(key).key_id for key in (settings.key, settings.new_key) if key
    }:
        raise MasterKeyError(
            f"{private} is under a new key already, and that is neither S3LOGX_KEY nor S3LOGX_NEW_KEY; set one of them to "
            f"it. The tables under the old key are still in {next_epoch(private)}"
        )
    _remove(next_epoch(private))
    (private / _PROGRESS).unlink(missing_ok=True)
    sync_folder(private)


def _make_epoch(store: TableStore, old: Sealer, new: Sealer) -> None:
    """Makes the daily tables of every date in `private.next`; those that an earlier call made of the same are kept."""
    following = TableStore(next_epoch(store.root))
    if key_store.key_id(following.files) != new.key_id:
        _remove(following.root)  # of a rotation to a key that is gone
    make_folder(following.root)
    key_store.begin_epoch(following.files, new)
    days = sorted({day for asset in DAILY_TABLES for day in store.partitions(asset, LOG_DATE)})
    for day in {day for asset in DAILY_TABLES for day in following.partitions(asset, LOG_DATE)} - set(days):
        for asset in DAILY_TABLES:
            _remove(following.root / asset / partition(day))
    done = _progress(following.root)
    with (following.root / _PROGRESS).open("a", encoding="utf-8") as progress:
        for number, day in enumerate(days, start=1):
            sources = {asset: _source(store, asset, day) for asset in DAILY_TABLES}
            if done.get(day) != sources:
                _rekey_date(store, following, day, old, new)
                progress.write(f"\n{json.dumps([day, sources])}")
                progress.flush()
            if number % 100 == 0 or number == len(days):
                print(f"{number} of {len(days)} dates", file=sys.stderr)
        os.fsync(progress.fileno())
    _rekey_periods(store, following, old, new)
    sync_folder(following.root)


def _rekey_periods(store: TableStore, following: TableStore, old: Sealer, new: Sealer) -> None:
    """Makes the closed periods of the releases under the new key: what they told stays as it was, to the byte."""
    _remove(following.root / RELEASED_USAGE)
    periods = read_periods(store)
    if not periods:
        return
    parts = []
    for day in store.partitions("ip_indexes", LOG_DATE):
        found = store.read_whole("ip_indexes", partition(day), columns=["network_index", "sealed_ip"])
        if found is not None:
            parts.append(network_exchange(found[0], old, new))
    exchange = pa.concat_tables([pa.table({"old": pa.array([], pa.int64()), "new": pa.array([], pa.int64())}), *parts])
    exchange = exchange.group_by("old").aggregate([("new", "min")]).rename_columns(["old", "new"])
    for period in periods:
        rows = rekeyed_periods(rows_of(store, period.until), exchange, new)
        write_period(following, replace(period, key_id=new.key_id), rows)


def _progress(folder: Path) -> dict[str, Any]:
    """The sources of each date that is done. A line that was cut off is of a date that is not."""
    done: dict[str, Any] = {}
    path = folder / _PROGRESS
    for line in path.read_text("utf-8", "replace").splitlines() if path.exists() else ():
        with suppress(ValueError):
            day, sources = json.loads(line)
            done[day] = sources
    return done


def _source(store: TableStore, asset: str, day: str) -> list[int] | None:
    """What tells one file of a partition from the next."""
    try:
        found = store.path(asset, partition(day)).stat()
    except FileNotFoundError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def _rekey_date(store: TableStore, following: TableStore, day: str, old: Sealer, new: Sealer) -> None:
    """Makes a date's tables under the new key, as far as there are any, as making them there would have."""
    name = partition(day)
    exchange: pa.Table | None = None
    versions: dict[str, tuple[str, str]] = {}  # of each asset before and after
    for asset in DAILY_TABLES:
        _remove(following.root / asset / name)
        found = store.read_whole(asset, name)
        if found is None:
            continue
        table, record = found
        sections = {}
        if asset == "extracted_logs":
            table = rekeyed_logs(table, old, new)
            record |= {"key_id": new.key_id}
            sections = {"ledger": store.section(asset, name, "ledger")}
        elif asset == "ip_indexes":
            table, exchange = rekeyed_indexes(table, old, new)
        elif asset in ("ip_regions", "daily_usage"):
            if exchange is None:
                raise StoreError(f"ip_indexes has no partition {day}, but {asset} has; materialise it first")
            table = (rekeyed_regions if asset == "ip_regions" else rekeyed_usage)(table, exchange)
        if asset == "daily_usage":
            sections = {DIGESTS: serialized_groups(table)}
        versions[asset] = (record["data_version"], table_digest(table))
        record |= {"data_version": versions[asset][1]}
        if "inputs" in record:
            record["inputs"] = _renewed(record["inputs"], versions)
        following.write(asset, name, table.replace_schema_metadata(None), record, sections)


def _renewed(inputs: Mapping[str, str], versions: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The inputs' versions after, where they were the present ones before; what was out of date stays so."""
    nothing = ("", "")
    return {
        asset: versions[asset][1] if versions.get(asset, nothing)[0] == version else version
        for asset, version in inputs.items()
    }


def _remove(folder: Path) -> None:
    """Removes a folder if it is there. Raises OSError: tables under a key that was given up must not stay unnoticed."""
    if folder.exists():
        shutil.rmtree(folder)


def _present_store(settings: Settings) -> TableStore:
    """The store, which nobody makes by asking for its key. Raises MasterKeyError where there is none."""
    private = private_files(settings)
    places: list[Files] = [private]
    if isinstance(private, LocalFiles):
        places.append(LocalFiles(next_epoch(private.root)))
    if not any(map(key_store.key_id, places)):
        raise MasterKeyError(
            f"{private.uri(key_store.KEY_ID)} is not there: the store has no tables yet, or lost it; see `check`"
        )
    return TableStore(private)


def lookup(settings: Settings) -> int:
    """Prints the indexes of the address on the standard input, and when it asked how often, from ip_indexes alone."""
    text = getpass.getpass("address: ") if sys.stdin.isatty() else sys.stdin.readline()
    try:
        address = np.frombuffer(pack(text.strip()), np.uint8).reshape(1, 16)
    except (OSError, ValueError):
        raise SettingsError("the standard input does not begin with a line that is an address") from None
    with _opened(settings) as (store, sealer):
        ip_index, network_index = (int(index[0]) for index in sealer.unpack_index(sealer.seal(address)))
        print(f"ip_index       {ip_index}\nnetwork_index  {network_index}")
        found = False
        for day, rows in _rows_of(store, ip_index, "request_count"):
            found = True
            print(f"{day}     {rows[0]} requests")
        if not found:
            print("no stored date has a request from there")
    return 0


def lookup_index(settings: Settings, ip_index: int) -> int:
    """Prints the address that an index stands for, which takes the key and a date on which it occurs."""
    if not -(1 << 63) <= ip_index < 1 << 63:
        raise SettingsError("--index must be an index as the tables have it: a signed number of 64 bits")
    with _opened(settings) as (store, sealer):
        for _, sealed in _rows_of(store, ip_index, "sealed_ip"):
            print(unpack(sealer.unseal(np.frombuffer(sealed[0], np.uint8).reshape(1, 16))[0].tobytes()))
            return 0
    raise StoreError("no date of ip_indexes has this index")


def _rows_of(store: TableStore, ip_index: int, column: str) -> Iterator[tuple[str, list[Any]]]:
    """The dates on which a requester occurs, ascending, each with what `column` of ip_indexes has of it."""
    for day in store.partitions("ip_indexes", LOG_DATE):
        found = store.read_whole("ip_indexes", partition(day), columns=["ip_index", column])
        if found is not None:
            values = found[0].filter(pc.equal(found[0]["ip_index"], ip_index))[column].to_pylist()
            if values:
                yield day, values


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[TableStore, Sealer]]:
    """The store and its sealer, which stay each other's meanwhile. Raises MasterKeyError, StoreBusyError."""
    store = _present_store(settings)
    with store.in_use():
        yield store, key_store.open_sealer(store.files, settings.home, settings.key, lambda text: None)


def destroy(settings: Settings, confirmed: str) -> int:
    """Destroys the key file for good. Raises SettingsError unless `confirmed` is the id of the store's key."""
    store = _present_store(settings)
    with store.alone():
        known = key_store.key_id(store.files)
        if confirmed != known:
            raise SettingsError(
                "--yes-destroy is not the id of the store's key; `key status` shows it. Nothing was done"
            )
        # Of a rotation that was not ended both keys go.
        key_ids = {known, key_store.key_id(LocalFiles(next_epoch(store.root)))}
        destroyed, spared = key_store.destroy_key_files(settings.home, key_ids)
    for path in destroyed:
        print(f"destroyed {path}, on {date.today()}")  # noqa: DTZ011 a word to the person at the screen
    for path in spared:
        print(f"left {path} alone: no table of this store is under its key")
    if settings.key is not None:
        print("S3LOGX_KEY is not in reach of this command: remove it from where it is set.")
    elif not destroyed:
        print(f"There was no key file of this store in {settings.home}.")
    print(
        "Copies of the key are not in reach either: backups, snapshots of the file system, other machines. Once all are "
        "gone, no index or sealed address can be turned back by anyone, and the store cannot be continued."
    )
    return 0
