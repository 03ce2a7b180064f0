"""The settings: every `S3LOGX_*` variable, and the keys of services, read once, validated, and explained when wrong.

Only this module knows the variables' names and legal values. It reads the environment when asked to, never on
import, opens nothing and keeps secrets out of every representation.
"""

import base64
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from s3logx_assets.core.addresses import exclusion
from s3logx_assets.core.asset_types import parse_asset_types
from s3logx_assets.core.datasets import LEVEL_HELP, LevelRule, RegexRule
from s3logx_assets.core.errors import SettingsError
from s3logx_assets.core.locations import Location, S3Location, parse_location
from s3logx_assets.core.mapping_entries import file_kind
from s3logx_assets.core.privacy.strict import Rule
from s3logx_assets.core.sealing import MASTER_KEY_BYTES

T = TypeVar("T")

# Variables with names of their own, by field.
_OWN_NAMES = {"home": "DAGSTER_HOME", "ipinfo_key": "IPINFO_API_KEY", "opencage_key": "OPENCAGE_API_KEY"}
_INVENTORY = "the folder of an S3 Inventory's snapshots: a path, or s3://bucket/prefix/source-bucket/configuration"
_PUBLISH_TO = "the path of a folder or of a git work tree, or s3://bucket/prefix"
_SOURCE = "the web address below which the sources are read, such as https://git.example.org/archive/s3logx/blob/main"
_SITE = "a web address with a name, such as https://usage.example.org"
_WEBHOOK = "a web address that takes JSON by POST, https://…, or http://127.0.0.1:… on this machine"
_EMAIL = "e-mail addresses, divided by commas"
_SMTP = (
    "smtps://user:password@host:465 or smtp://user:password@host:587 (STARTTLS), the user being the sender's address"
)
_CELERY = "the path of a YAML file such as deploy/celery/celery.yaml"
# A webhook's address is what lets others write there.
_SECRETS = ("key", "new_key", "excluded_ips", "ipinfo_key", "opencage_key", "alert_webhook", "alert_smtp")
_EMAIL_ADDRESS = re.compile(r"[A-Za-z0-9._%+\-]{1,64}@[A-Za-z0-9.\-]{1,250}")
EXECUTORS = ("in_process", "multiprocess", "celery")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Build with `Settings.read`; the fields are in the order of the README's table."""

    home: Path
    logs: Location
    first_date: date
    store: Location
    key: bytes | None = field(default=None, repr=False)
    new_key: bytes | None = field(default=None, repr=False)
    excluded_ips: str | None = field(default=None, repr=False)
    dataset_level: int = 1
    dataset_regex: str | None = None
    dataset_mapping: Path | None = None
    dataset_mapping_mode: str = "first"
    collapse_zarr: bool = True
    asset_types: str | None = None
    policy: str = "strict"
    min_people: int = 10
    largest_share: float = 0.5
    coalition_share: float = 0.9
    release_period: str = "week"
    threshold: int = 50
    rounding: int = 20
    lag_days: int = 2
    partitions_per_run: int = 0
    workers: int = 1
    allow_shrink: bool = False
    geo: str = "embedded"
    mmdb: Path | None = None
    ipinfo_key: str | None = field(default=None, repr=False)
    opencage_key: str | None = field(default=None, repr=False)
    lookup_days: int = 90
    cloud_ranges: str = "packaged"
    rejected_share: float = 0.01
    requester_pays: bool = False
    inventory: Location | None = None
    inventory_prefix: str | None = None
    trailing_dates: int = 7
    archive_name: str | None = None
    site_url: str | None = None
    licence: str | None = None
    publish_to: Location | None = None
    publish_push: bool = False
    fresh_days: int = 3
    source_url: str | None = None
    executor: str = "in_process"
    celery_config: Path | None = None
    alert_webhook: str | None = field(default=None, repr=False)
    alert_email: tuple[str, ...] = ()
    alert_smtp: str | None = field(default=None, repr=False)

    @staticmethod
    def read(environment: Mapping[str, str] | None = None) -> "Settings":
        """The settings of `environment` (default: the process's). Raises SettingsError."""
        env = os.environ if environment is None else environment
        home = _home(env)
        settings = Settings(
            home=home,
            logs=_location(env, "S3LOGX_LOGS"),
            first_date=_first_date(env),
            store=_store(env, home / "s3logx"),
            key=_key(env, "S3LOGX_KEY"),
            new_key=_key(env, "S3LOGX_NEW_KEY"),
            excluded_ips=_excluded(env),
            dataset_level=_level(env),
            dataset_regex=env.get("S3LOGX_DATASET_REGEX") or None,
            dataset_mapping=_file(env, "S3LOGX_DATASET_MAPPING", "a table, such as /srv/mapping.parquet"),
            dataset_mapping_mode=_choice(env, "S3LOGX_DATASET_MAPPING_MODE", "first", ("first", "each")),
            collapse_zarr=_switch(env, "S3LOGX_COLLAPSE_ZARR", True),
            asset_types=_asset_types(env),
            policy=_choice(env, "S3LOGX_POLICY", "strict", ("strict", "compatible")),
            min_people=_count(env, "S3LOGX_MIN_PEOPLE", 10, least=2),
            largest_share=_share(env, "S3LOGX_LARGEST_SHARE", 0.5),
            coalition_share=_share(env, "S3LOGX_COALITION_SHARE", 0.9),
            release_period=_choice(env, "S3LOGX_RELEASE_PERIOD", "week", ("day", "week", "month")),
            threshold=_count(env, "S3LOGX_THRESHOLD", 50, least=1),
            rounding=_count(env, "S3LOGX_ROUNDING", 20, least=1),
            lag_days=_count(env, "S3LOGX_LAG_DAYS", 2),
            partitions_per_run=_count(env, "S3LOGX_PARTITIONS_PER_RUN", 0),
            workers=_count(env, "S3LOGX_WORKERS", os.cpu_count() or 1, least=1),
            allow_shrink=_switch(env, "S3LOGX_ALLOW_SHRINK", False),
            geo=_choice(env, "S3LOGX_GEO", "embedded", ("embedded", "mmdb", "ipinfo")),
            mmdb=_file(env, "S3LOGX_MMDB", "an MMDB file, such as /srv/city.mmdb"),
            ipinfo_key=_service_key(env, "IPINFO_API_KEY"),
            opencage_key=_service_key(env, "OPENCAGE_API_KEY"),
            lookup_days=_count(env, "S3LOGX_LOOKUP_DAYS", 90, least=1),
            cloud_ranges=_choice(env, "S3LOGX_CLOUD_RANGES", "packaged", ("packaged", "live")),
            rejected_share=_share(env, "S3LOGX_REJECTED_SHARE", 0.01),
            requester_pays=_switch(env, "S3LOGX_REQUESTER_PAYS", False),
            inventory=_parse(env, "S3LOGX_INVENTORY", _INVENTORY, parse_location),
            inventory_prefix=env.get("S3LOGX_INVENTORY_PREFIX", "").strip() or None,
            trailing_dates=_count(env, "S3LOGX_TRAILING_DATES", 7),
            archive_name=_parse(env, "S3LOGX_ARCHIVE_NAME", "one line of at most 200 characters", _one_line),
            site_url=_parse(env, "S3LOGX_SITE_URL", _SITE, _named_address),
            licence=_parse(env, "S3LOGX_LICENCE", "an SPDX licence identifier, such as CC0-1.0", _spdx),
            publish_to=_parse(env, "S3LOGX_PUBLISH_TO", _PUBLISH_TO, parse_location),
            publish_push=_switch(env, "S3LOGX_PUBLISH_PUSH", False),
            fresh_days=_count(env, "S3LOGX_FRESH_DAYS", 3),
            source_url=_parse(env, "S3LOGX_SOURCE_URL", _SOURCE, _web_address),
            executor=_choice(env, "S3LOGX_EXECUTOR", "in_process", EXECUTORS),
            celery_config=_file(env, "S3LOGX_CELERY_CONFIG", _CELERY),
            alert_webhook=_parse(env, "S3LOGX_ALERT_WEBHOOK", _WEBHOOK, _webhook, secret=True),
            alert_email=_parse(env, "S3LOGX_ALERT_EMAIL", _EMAIL, _emails) or (),
            alert_smtp=_parse(env, "S3LOGX_ALERT_SMTP", _SMTP, _smtp, secret=True),
        )
        if isinstance(settings.store, S3Location) and settings.key is None:
            raise SettingsError(
                "S3LOGX_KEY is not set; with S3LOGX_STORE in a bucket it must be base64 of 32 bytes (for example from "
                "`openssl rand -base64 32`), the same on every machine"
            )
        if isinstance(settings.inventory, S3Location) and not settings.inventory.is_folder:
            raise SettingsError(f"S3LOGX_INVENTORY={settings.inventory} is not legal; it must be {_INVENTORY}")
        if settings.inventory_prefix is not None and (
            settings.inventory is None or not isinstance(settings.logs, Path)
        ):
            raise SettingsError(
                "S3LOGX_INVENTORY_PREFIX is of use only where S3LOGX_INVENTORY is set and S3LOGX_LOGS is a local copy; "
                "else S3LOGX_LOGS has the prefix"
            )
        _check_destination(settings)
        try:
            Rule(settings.min_people, settings.largest_share, settings.coalition_share)
        except ValueError:
            raise SettingsError(
                f"S3LOGX_LARGEST_SHARE={settings.largest_share:g} and S3LOGX_COALITION_SHARE={settings.coalition_share:g} are "
                f"not legal for S3LOGX_MIN_PEOPLE={settings.min_people}; they must be at least 1/{settings.min_people} and "
                f"{settings.min_people - 1}/{settings.min_people}, else no group could keep to them"
            ) from None
        if settings.geo == "mmdb" and settings.mmdb is None:
            raise SettingsError("S3LOGX_MMDB is not set; S3LOGX_GEO=mmdb needs the path of an MMDB file")
        if settings.geo == "ipinfo" and settings.ipinfo_key is None:
            raise SettingsError("IPINFO_API_KEY is not set; S3LOGX_GEO=ipinfo needs the key of an ipinfo.io account")
        if settings.dataset_regex and settings.dataset_mapping:
            raise SettingsError("S3LOGX_DATASET_REGEX and S3LOGX_DATASET_MAPPING are both set; only one can decide")
        if env.get("S3LOGX_DATASET_MAPPING_MODE", "").strip() and settings.dataset_mapping is None:
            raise SettingsError(
                f"S3LOGX_DATASET_MAPPING_MODE={settings.dataset_mapping_mode} is of no use without "
                "S3LOGX_DATASET_MAPPING, the path of a table, such as /srv/mapping.parquet"
            )
        if settings.dataset_mapping is not None:
            file_kind(settings.dataset_mapping.name)
        if (settings.executor == "celery") != (settings.celery_config is not None):
            raise SettingsError(
                f"S3LOGX_EXECUTOR=celery and S3LOGX_CELERY_CONFIG, {_CELERY}, are set together or not at all"
            )
        if bool(settings.alert_email) != (settings.alert_smtp is not None):
            raise SettingsError(
                f"S3LOGX_ALERT_EMAIL, {_EMAIL}, and S3LOGX_ALERT_SMTP, {_SMTP}, are set together or not at all"
            )
        if settings.asset_types is not None:
            parse_asset_types(settings.asset_types)
        if settings.dataset_regex:
            RegexRule(settings.dataset_regex)
        return settings

    @property
    def asks_services(self) -> bool:
        """Whether lookups go to a service on the network, which can be down and whose answers age."""
        return self.geo == "ipinfo" or self.opencage_key is not None

    def shown(self) -> list[tuple[str, str]]:
        """(variable, value) of every setting, secrets masked."""
        return [(_variable(item.name), self._masked(item.name)) for item in fields(self)]

    def _masked(self, name: str) -> str:
        value = getattr(self, name)
        if value is None:
            return "-"
        if name in _SECRETS:
            return "(set)"
        return ", ".join(value) or "-" if isinstance(value, tuple) else str(value)


def _variable(name: str) -> str:
    return _OWN_NAMES.get(name, f"S3LOGX_{name.upper()}")


def _parse(env: Mapping[str, str], name: str, legal: str, parse: Callable[[str], T], secret: bool = False) -> T | None:
    text = env.get(name, "").strip()
    if not text:
        return None
    try:
        return parse(text)
    except ValueError:
        value = "(not shown)" if secret else repr(text)
        raise SettingsError(f"{name}={value} is not legal; it must be {legal}") from None


def _home(env: Mapping[str, str]) -> Path:
    home = _parse(env, "DAGSTER_HOME", "an absolute path", Path)
    if home is None or not home.is_absolute():
        value = " is not set" if home is None else f"={str(home)!r} is not legal"
        raise SettingsError(f"DAGSTER_HOME{value}; it must be the absolute path of the folder of Dagster's history")
    return home


def _store(env: Mapping[str, str], default: Path) -> Location:
    def parse(text: str) -> Location:
        location = parse_location(text)
        if isinstance(location, S3Location) and not location.is_folder:
            raise ValueError
        return location

    return _parse(env, "S3LOGX_STORE", "the path of a folder, or s3://bucket/prefix", parse) or default.absolute()


def _location(env: Mapping[str, str], name: str) -> Location:
    legal = "the path of a folder, or s3://bucket/prefix"
    location = _parse(env, name, legal, parse_location)
    if location is None:
        raise SettingsError(f"{name} is not set; it must be {legal}")
    return location


def _first_date(env: Mapping[str, str]) -> date:
    def parse(text: str) -> date:
        first = date.fromisoformat(text)
        if first.isoformat() != text:  # Python knows other forms of ISO 8601 too
            raise ValueError
        return first

    first = _parse(env, "S3LOGX_FIRST_DATE", "a date, YYYY-MM-DD", parse)
    if first is None:
        raise SettingsError("S3LOGX_FIRST_DATE is not set; it must be the date of the oldest logs, YYYY-MM-DD")
    return first


def _key(env: Mapping[str, str], name: str) -> bytes | None:
    def parse(text: str) -> bytes:
        key = base64.b64decode(text, validate=True)
        if len(key) != MASTER_KEY_BYTES:
            raise ValueError
        return key

    return _parse(env, name, "base64 of 32 bytes (for example from `openssl rand -base64 32`)", parse, secret=True)


def _check_destination(settings: Settings) -> None:
    target, store = settings.publish_to, settings.store
    wrong = f"S3LOGX_PUBLISH_TO={target} is not legal; it must be {_PUBLISH_TO}"
    if isinstance(target, S3Location):
        beside = True
        if isinstance(store, S3Location) and target.bucket == store.bucket:
            own = tuple(f"{store.prefix}{folder}/" for folder in ("private", "public"))
            beside = not target.prefix.startswith(own) and not store.prefix.startswith(target.prefix)
        if not target.is_folder or not beside:
            raise SettingsError(f"{wrong}, outside the store and not around it")
    elif target is not None:
        real = target.resolve()
        if isinstance(store, Path) and (real.is_relative_to(store.resolve()) or store.resolve().is_relative_to(real)):
            raise SettingsError(f"{wrong}, outside the store and not around it")
        if settings.home.resolve().is_relative_to(real):
            raise SettingsError(f"{wrong}, not DAGSTER_HOME and not around it: the key may lie there")
    if settings.publish_push and not isinstance(target, Path):
        raise SettingsError("S3LOGX_PUBLISH_PUSH=1 is of use only where S3LOGX_PUBLISH_TO is a git work tree")


def _one_line(text: str) -> str:
    if len(text) > 200 or not text.isprintable():
        raise ValueError
    return text


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    plain = re.fullmatch(r"https?://[A-Za-z0-9.\-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~%/\-]*)?", text)
    if plain is None or not parts.hostname:
        raise ValueError
    return text.rstrip("/")


def _named_address(text: str) -> str:
    """A release with a numeric address in it would be held back."""
    address = _web_address(text)
    if re.fullmatch("[0-9.]+", urlsplit(address).hostname or ""):
        raise ValueError
    return address


def _webhook(text: str) -> str:
    """What is told of a failed run goes out encrypted, or stays on this machine."""
    parts = urlsplit(text)
    at_home = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not re.fullmatch("[!-~]{1,2000}", text) or not parts.hostname or not (parts.scheme == "https" or at_home):
        raise ValueError
    return text


def _emails(text: str) -> tuple[str, ...]:
    found = tuple(each.strip() for each in text.split(","))
    if not all(_EMAIL_ADDRESS.fullmatch(each) for each in found):
        raise ValueError
    return found


def _smtp(text: str) -> str:
    parts = urlsplit(text)
    known = parts.scheme in ("smtp", "smtps") and parts.hostname and parts.port and not parts.path
    if not re.fullmatch("[!-~]{1,2000}", text) or not known or not parts.password:
        raise ValueError
    if not _EMAIL_ADDRESS.fullmatch(unquote(parts.username or "")):
        raise ValueError
    return text


def _spdx(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}", text):
        raise ValueError
    return text


def _service_key(env: Mapping[str, str], name: str) -> str | None:
    def parse(text: str) -> str:
        if not re.fullmatch("[!-~]{1,200}", text):  # it goes into a header or a query
            raise ValueError
        return text

    return _parse(env, name, "an API key: visible ASCII characters without blanks", parse, secret=True)


def _excluded(env: Mapping[str, str]) -> str | None:
    text = env.get("S3LOGX_EXCLUDED_IPS", "").strip() or None
    exclusion(text)
    return text


def _asset_types(env: Mapping[str, str]) -> str | None:
    """The setting's own text, or that of the JSON file whose path it is."""
    text = env.get("S3LOGX_ASSET_TYPES", "").strip() or None
    if text is None or "=" in text or text.startswith("{"):
        return text
    example = "Video=.mp4,.avi;Tables=.csv"
    legal = f"names with their suffixes, such as {example}, or the path of a JSON file, such as /srv/types.json"
    try:
        content = Path(text).read_text("utf-8-sig").strip()
    except (OSError, ValueError):
        content = ""
    if not content.startswith("{"):  # of a wrong file nothing must get into an error
        raise SettingsError(f"S3LOGX_ASSET_TYPES={text!r} is not a JSON file; it must be {legal}")
    return content


def _level(env: Mapping[str, str]) -> int:
    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,18}", text):
            raise ValueError
        return LevelRule(int(text)).level

    return _parse(env, "S3LOGX_DATASET_LEVEL", LEVEL_HELP, parse) or 1


def _file(env: Mapping[str, str], name: str, legal: str) -> Path | None:
    path = _parse(env, name, legal, Path)
    if path is not None and not path.is_file():
        raise SettingsError(f"{name}={str(path)!r} is not a file; it must be {legal}")
    return path


def _count(env: Mapping[str, str], name: str, default: int, least: int = 0) -> int:
    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,18}", text) or int(text) < least:
            raise ValueError
        return int(text)

    number = _parse(env, name, f"a whole number from {least}", parse)
    return default if number is None else number


def _share(env: Mapping[str, str], name: str, default: float) -> float:
    def parse(text: str) -> float:
        share = float(text)
        if not 0 <= share <= 1:
            raise ValueError
        return share

    share = _parse(env, name, "a share from 0 to 1", parse)
    return default if share is None else share


def _switch(env: Mapping[str, str], name: str, default: bool) -> bool:
    return _choice(env, name, "1" if default else "0", ("0", "1")) == "1"


def _choice(env: Mapping[str, str], name: str, default: str, legal: tuple[str, ...]) -> str:
    def parse(text: str) -> str:
        if text not in legal:
            raise ValueError
        return text

    return _parse(env, name, " or ".join(legal), parse) or default
