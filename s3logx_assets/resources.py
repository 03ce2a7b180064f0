"""The resources, by role, and how they are made from the settings. Making one opens nothing and reads nothing.

What a resource does is its adapter's business; what it is used for the assets'.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

from s3logx_assets.adapters import key_store, memory
from s3logx_assets.adapters.destinations import FolderPlace, Place
from s3logx_assets.adapters.extractor import Extractor
from s3logx_assets.adapters.files import Files
from s3logx_assets.adapters.geolocation import EmbeddedGeolocator, Geolocator, MmdbGeolocator
from s3logx_assets.adapters.git_destination import GitPlace, work_tree
from s3logx_assets.adapters.http import HttpClient
from s3logx_assets.adapters.inventory_reader import Inventory
from s3logx_assets.adapters.ipinfo import IpinfoClient, IpinfoGeolocator
from s3logx_assets.adapters.live_ranges import LiveRanges
from s3logx_assets.adapters.local_files import LocalFiles
from s3logx_assets.adapters.log_store import LocalLogStore, LogStore
from s3logx_assets.adapters.mapping_tables import read_mapping
from s3logx_assets.adapters.opencage import OpenCage
from s3logx_assets.adapters.release_store import LocalReleaseStore, ReleaseStore
from s3logx_assets.adapters.s3 import STORE, Bucket, Role, source_role
from s3logx_assets.adapters.s3_destination import ROLE as PUBLISH_TO
from s3logx_assets.adapters.s3_destination import S3Place
from s3logx_assets.adapters.s3_files import S3Files
from s3logx_assets.adapters.s3_log_store import S3LogStore
from s3logx_assets.adapters.s3_release_store import S3ReleaseStore
from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.core.addresses import exclusion
from s3logx_assets.core.asset_types import DEFAULT, AssetTypes, parse_asset_types
from s3logx_assets.core.datasets import DatasetRule, LevelRule, MappingRule, RegexRule
from s3logx_assets.core.errors import SettingsError
from s3logx_assets.core.locations import S3Location
from s3logx_assets.core.privacy.strict import Rule
from s3logx_assets.core.sealing import Sealer
from s3logx_assets.settings import Settings

_LOG = logging.getLogger(__name__)
_SCRATCH = "scratch"  # below DAGSTER_HOME


@dataclass
class Keyring:
    """The master key's holder: nothing is sealed or unsealed but through it."""

    private: Files
    home: Path
    key: bytes | None

    def __repr__(self) -> str:
        return "Keyring()"

    def secrets(self) -> list[bytes]:
        """The keys that there are now, for who makes sure that they are nowhere else. Raises MasterKeyError."""
        return [*key_store.kept_secrets(self.home), *([] if self.key is None else [self.key])]

    def sealer(self, tell: Callable[[str], None]) -> Sealer:
        """The store's sealer; `tell` hears of a key that had to be made. Nobody sees an address who has none, so from here on
        memory is kept from disk. Raises MasterKeyError."""
        memory.keep_out_of_core_dumps()
        return key_store.open_sealer(self.private, self.home, self.key, tell)


@dataclass
class Rules:
    """The settings that decide what the tables hold."""

    settings: Settings

    @property
    def secrets(self) -> list[bytes]:
        """What the settings and the environment hold that must be nowhere else, but for the master key."""
        of_aws = (os.environ.get(name) for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"))
        given = (self.settings.ipinfo_key, self.settings.opencage_key, *of_aws)
        return [secret.encode() for secret in given if secret]

    @cached_property
    def dataset_rule(self) -> DatasetRule:
        """The rule from object key to dataset. Raises SettingsError."""
        settings = self.settings
        if settings.dataset_regex:
            return RegexRule(settings.dataset_regex, settings.collapse_zarr)
        if settings.dataset_mapping:
            each = settings.dataset_mapping_mode == "each"
            entries = read_mapping(settings.dataset_mapping, settings.home / "cache", each)
            return MappingRule(entries, settings.collapse_zarr)
        return LevelRule(settings.dataset_level, settings.collapse_zarr)

    @cached_property
    def is_excluded(self) -> Callable[[str], bool] | None:
        """What tells the archive's own addresses, as logged; None where there are none."""
        excluded = self.settings.excluded_ips
        return exclusion(excluded) if excluded else None

    @cached_property
    def asset_types(self) -> AssetTypes:
        """The types that the weekly figures are divided by. Raises SettingsError."""
        text = self.settings.asset_types
        return DEFAULT if text is None else parse_asset_types(text)

    @property
    def privacy(self) -> Rule:
        """When a group may be told under policy `strict`."""
        return Rule(self.settings.min_people, self.settings.largest_share, self.settings.coalition_share)

    def cutoff(self, newest: date) -> date:
        """The last event date that counts as complete when `newest` is the newest extracted log date."""
        return newest - timedelta(days=self.settings.lag_days)


def build_resources(settings: Settings) -> dict[str, object]:
    """Every resource of the graph."""
    private = private_files(settings)
    keyring = Keyring(private, settings.home, settings.key)
    return {
        "log_store": build_log_store(settings),
        "private_store": TableStore(private),
        "public_store": build_release_store(settings),
        "geolocator": build_geolocator(settings, keyring),
        "keyring": keyring,
        "rules": Rules(settings),
        "inventory": build_inventory(settings),
        "destination": build_destination(settings),
    }


def private_files(settings: Settings) -> Files:
    """Where the private tables are."""
    if isinstance(settings.store, Path):
        return LocalFiles(settings.store / "private")
    return S3Files(build_bucket(settings.store, STORE), "private/")


def build_release_store(settings: Settings) -> ReleaseStore:
    """Where the releases are."""
    if isinstance(settings.store, Path):
        return LocalReleaseStore(settings.store / "public")
    return S3ReleaseStore(build_bucket(settings.store, STORE), "public/")


def build_destination(settings: Settings) -> Place | None:
    """Where the latest release is served from, if anywhere. Raises SettingsError."""
    place = settings.publish_to
    if place is None:
        return None
    if isinstance(place, S3Location):
        return S3Place(build_bucket(place, PUBLISH_TO))
    if place.exists() and not place.is_dir():
        raise SettingsError(f"S3LOGX_PUBLISH_TO={str(place)!r} is not a folder")
    if work_tree(place):
        return GitPlace(place, settings.publish_push)
    if settings.publish_push:
        raise SettingsError(f"S3LOGX_PUBLISH_PUSH=1 is of use only in a git work tree; {str(place)!r} is none")
    return FolderPlace(place)


def build_log_store(settings: Settings) -> LogStore:
    """The source of log objects."""
    if isinstance(settings.logs, Path):
        return LocalLogStore(settings.logs)
    return S3LogStore(build_bucket(settings.logs, source_role("S3LOGX_LOGS"), settings.requester_pays))


def build_inventory(settings: Settings) -> Inventory | None:
    """The S3 Inventory, where there is one."""
    place, logs = settings.inventory, settings.logs
    if place is None:
        return None
    bucket, prefix = (logs.bucket, logs.prefix) if isinstance(logs, S3Location) else (None, "")
    prefix, scratch = settings.inventory_prefix or prefix, settings.home / _SCRATCH
    if isinstance(place, Path):
        return Inventory(LocalFiles(place), bucket, prefix, "", scratch)
    files = S3Files(build_bucket(place, source_role("S3LOGX_INVENTORY")))
    return Inventory(files, bucket, prefix, place.prefix, scratch)


def build_bucket(location: S3Location, role: Role, requester_pays: bool = False) -> Bucket:
    """A bucket under AWS's own settings."""
    from dagster_aws.s3 import S3Resource  # takes seconds, and who has no bucket needs it never

    return Bucket(location, role, S3Resource(), requester_pays)


def build_geolocator(settings: Settings, keyring: Keyring) -> Geolocator:
    """The source of locations; what it remembers lies in DAGSTER_HOME, so that it serves every store."""
    cache, days = settings.home / "cache", settings.lookup_days
    geocoder = live = None
    if settings.opencage_key is not None:
        geocoder = OpenCage(settings.opencage_key, HttpClient("opencagedata.com", "OPENCAGE_API_KEY"), cache, days)
    if settings.cloud_ranges == "live":
        live = LiveRanges(cache)
    if settings.geo == "ipinfo" and settings.ipinfo_key is not None:
        client = IpinfoClient(settings.ipinfo_key, HttpClient("ipinfo.io", "IPINFO_API_KEY"))
        return IpinfoGeolocator(client, lambda: keyring.sealer(_LOG.info), cache, days, geocoder, live)
    if settings.geo == "mmdb" and settings.mmdb is not None:
        return MmdbGeolocator(settings.mmdb, cache, geocoder, live)
    return EmbeddedGeolocator(cache, geocoder, live)


def build_extractor(log_store: LogStore, sealer: Sealer, rules: Rules) -> Extractor:
    """The extraction engine under these settings."""
    settings = rules.settings
    return Extractor(log_store, sealer.seal, settings.workers, settings.home / _SCRATCH, rules.is_excluded)
