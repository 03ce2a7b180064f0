"""Settings: defaults, legal and illegal values, messages that help, and secrets that stay secret."""

import base64
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from datetime import date
from pathlib import Path

import pytest

from s3logx_assets.core.errors import PermanentError, SettingsError
from s3logx_assets.core.locations import S3Location
from s3logx_assets.settings import Settings, _variable

KEY = bytes(range(200, 232))
KEY_TEXT = base64.b64encode(KEY).decode()
REQUIRED = {"DAGSTER_HOME": "/srv/dagster", "S3LOGX_LOGS": "/srv/logs", "S3LOGX_FIRST_DATE": "2020-01-01"}


def read(**changes: str) -> Settings:
    return Settings.read({**REQUIRED, **changes})


def refusal(environment: Mapping[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.read(environment)
    assert isinstance(caught.value, PermanentError)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_the_defaults_are_those_of_the_manual() -> None:
    assert read() == Settings(
        home=Path("/srv/dagster"),
        logs=Path("/srv/logs"),
        first_date=date(2020, 1, 1),
        store=Path("/srv/dagster/s3logx"),
        key=None,
        excluded_ips=None,
        dataset_level=1,
        dataset_regex=None,
        dataset_mapping=None,
        dataset_mapping_mode="first",
        collapse_zarr=True,
        asset_types=None,
        policy="strict",
        min_people=10,
        largest_share=0.5,
        coalition_share=0.9,
        release_period="week",
        threshold=50,
        rounding=20,
        lag_days=2,
        partitions_per_run=0,
        workers=os.cpu_count() or 1,
        allow_shrink=False,
        geo="embedded",
        mmdb=None,
        ipinfo_key=None,
        opencage_key=None,
        lookup_days=90,
        cloud_ranges="packaged",
        rejected_share=0.01,
        requester_pays=False,
    )


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("DAGSTER_HOME", "/d", "home", Path("/d")),
        ("S3LOGX_LOGS", "/logs with blank/é", "logs", Path("/logs with blank/é")),
        ("S3LOGX_LOGS", "/logs/", "logs", Path("/logs")),
        ("S3LOGX_LOGS", "s3://my.logs-1", "logs", S3Location("my.logs-1")),
        ("S3LOGX_LOGS", "s3://logs/", "logs", S3Location("logs")),
        ("S3LOGX_LOGS", "s3://logs/s3/access", "logs", S3Location("logs", "s3/access/")),
        ("S3LOGX_LOGS", "s3://logs/s3/access/", "logs", S3Location("logs", "s3/access/")),
        ("S3LOGX_LOGS", "s3://logs/s3/access-", "logs", S3Location("logs", "s3/access-")),
        ("S3LOGX_REQUESTER_PAYS", "1", "requester_pays", True),
        ("S3LOGX_STORE", "/store", "store", Path("/store")),
        ("S3LOGX_FIRST_DATE", "2024-02-29", "first_date", date(2024, 2, 29)),
        ("S3LOGX_FIRST_DATE", " 2024-02-29\n", "first_date", date(2024, 2, 29)),
        ("S3LOGX_KEY", KEY_TEXT, "key", KEY),
        ("S3LOGX_KEY", f" {KEY_TEXT}\n", "key", KEY),
        ("S3LOGX_EXCLUDED_IPS", "198.51.100.0/24, 2001:db8::/32", "excluded_ips", "198.51.100.0/24, 2001:db8::/32"),
        ("S3LOGX_EXCLUDED_IPS", "203.0.113.7", "excluded_ips", "203.0.113.7"),
        ("S3LOGX_EXCLUDED_IPS", "re:^198[.]51[.]", "excluded_ips", "re:^198[.]51[.]"),
        ("S3LOGX_EXCLUDED_IPS", "  ", "excluded_ips", None),
        ("S3LOGX_DATASET_LEVEL", "3", "dataset_level", 3),
        ("S3LOGX_DATASET_REGEX", "(?P<dataset>ds)/(?P<asset>.+)", "dataset_regex", "(?P<dataset>ds)/(?P<asset>.+)"),
        ("S3LOGX_COLLAPSE_ZARR", "0", "collapse_zarr", False),
        ("S3LOGX_COLLAPSE_ZARR", "1", "collapse_zarr", True),
        ("S3LOGX_POLICY", "compatible", "policy", "compatible"),
        ("S3LOGX_MIN_PEOPLE", "5", "min_people", 5),
        ("S3LOGX_LARGEST_SHARE", "0.7", "largest_share", 0.7),
        ("S3LOGX_COALITION_SHARE", "1", "coalition_share", 1.0),
        ("S3LOGX_RELEASE_PERIOD", "month", "release_period", "month"),
        ("S3LOGX_THRESHOLD", "1", "threshold", 1),
        ("S3LOGX_THRESHOLD", "100", "threshold", 100),
        ("S3LOGX_ROUNDING", "1", "rounding", 1),
        ("S3LOGX_LAG_DAYS", "0", "lag_days", 0),
        ("S3LOGX_PARTITIONS_PER_RUN", "30", "partitions_per_run", 30),
        ("S3LOGX_WORKERS", "1", "workers", 1),
        ("S3LOGX_ALLOW_SHRINK", "1", "allow_shrink", True),
        ("S3LOGX_GEO", "embedded", "geo", "embedded"),
        ("IPINFO_API_KEY", " 0a1b2c3d4e5f ", "ipinfo_key", "0a1b2c3d4e5f"),
        ("OPENCAGE_API_KEY", "0123456789abcdef", "opencage_key", "0123456789abcdef"),
        ("S3LOGX_LOOKUP_DAYS", "1", "lookup_days", 1),
        ("S3LOGX_CLOUD_RANGES", "live", "cloud_ranges", "live"),
        ("S3LOGX_REJECTED_SHARE", "0", "rejected_share", 0.0),
        ("S3LOGX_REJECTED_SHARE", "1", "rejected_share", 1.0),
        ("S3LOGX_REJECTED_SHARE", "0.5", "rejected_share", 0.5),
        ("S3LOGX_FRESH_DAYS", "0", "fresh_days", 0),
        ("S3LOGX_ARCHIVE_NAME", " Ärchive <1> & more ", "archive_name", "Ärchive <1> & more"),
        ("S3LOGX_SITE_URL", "https://usage.example.org/x/", "site_url", "https://usage.example.org/x"),
        ("S3LOGX_SITE_URL", "http://localhost:8000", "site_url", "http://localhost:8000"),
        ("S3LOGX_LICENCE", "CC-BY-4.0", "licence", "CC-BY-4.0"),
        ("S3LOGX_EXECUTOR", "multiprocess", "executor", "multiprocess"),
        ("S3LOGX_ALERT_WEBHOOK", "https://chat.example/hooks/x", "alert_webhook", "https://chat.example/hooks/x"),
        ("S3LOGX_ALERT_WEBHOOK", "http://127.0.0.1:9000/x", "alert_webhook", "http://127.0.0.1:9000/x"),
        ("S3LOGX_SOURCE_URL", "https://git.example.org/a/blob/v1/", "source_url", "https://git.example.org/a/blob/v1"),
    ],
)
def test_a_legal_value_is_taken(name: str, text: str, field: str, value: object) -> None:
    changed = read(**{name: text})
    assert getattr(changed, field) == value
    derived = {field} | ({"store"} if field == "home" else set())
    unchanged = {item.name for item in fields(Settings)} - derived
    assert all(getattr(changed, item) == getattr(read(), item) for item in unchanged)


@pytest.mark.parametrize(
    ("name", "text", "legal"),
    [
        ("DAGSTER_HOME", "relative/home", "absolute path"),
        *(
            ("S3LOGX_LOGS", text, "the path of a folder, or s3://bucket/prefix")
            for text in ("gs://bucket", "s3://", "s3://B", "s3://a_b/c", "s3://bucket//x", "s3://bucket/../x/")
        ),
        ("S3LOGX_STORE", "https://host/store", "the path of a folder, or s3://bucket/prefix"),
        ("S3LOGX_FIRST_DATE", "yesterday", "YYYY-MM-DD"),
        ("S3LOGX_FIRST_DATE", "2023-02-29", "YYYY-MM-DD"),
        ("S3LOGX_FIRST_DATE", "2024-13-01", "YYYY-MM-DD"),
        ("S3LOGX_FIRST_DATE", "20240101", "YYYY-MM-DD"),
        ("S3LOGX_FIRST_DATE", "2024-W01-1", "YYYY-MM-DD"),
        ("S3LOGX_FIRST_DATE", "01/02/2024", "YYYY-MM-DD"),
        ("S3LOGX_FIRST_DATE", "2024-01-01T00:00", "YYYY-MM-DD"),
        ("S3LOGX_DATASET_LEVEL", "0", "a whole number from 1"),
        ("S3LOGX_DATASET_LEVEL", "-1", "a whole number from 1"),
        ("S3LOGX_DATASET_LEVEL", "1.5", "a whole number from 1"),
        ("S3LOGX_DATASET_LEVEL", "two", "a whole number from 1"),
        ("S3LOGX_DATASET_LEVEL", "101", "a whole number from 1"),
        ("S3LOGX_DATASET_REGEX", "(?P<dataset>ds[0-9]+)/(", "`dataset` and `asset`"),
        ("S3LOGX_DATASET_REGEX", "(?P<dataset>ds[0-9]+)/.+", "`dataset` and `asset`"),
        ("S3LOGX_DATASET_REGEX", "(?=a)(?P<dataset>a)/(?P<asset>b)", "`dataset` and `asset`"),
        ("S3LOGX_DATASET_LEVEL", "1_0", "such as 1 for ds000001/"),
        ("S3LOGX_DATASET_MAPPING", "/no/such/mapping.csv", "is not a file; it must be a table, such as /srv/"),
        ("S3LOGX_DATASET_MAPPING_MODE", "all", "first or each"),
        ("S3LOGX_ASSET_TYPES", "/no/such/types.json", "such as Video=.mp4,.avi"),
        ("S3LOGX_COLLAPSE_ZARR", "yes", "0 or 1"),
        ("S3LOGX_COLLAPSE_ZARR", "2", "0 or 1"),
        ("S3LOGX_POLICY", "Compatible", "compatible"),
        ("S3LOGX_POLICY", "none", "compatible"),
        ("S3LOGX_RELEASE_PERIOD", "year", "day or week or month"),
        ("S3LOGX_MIN_PEOPLE", "1", "a whole number from 2"),
        ("S3LOGX_LARGEST_SHARE", "1.5", "a share from 0 to 1"),
        ("S3LOGX_COALITION_SHARE", "0.5", "at least 1/10 and 9/10"),
        ("S3LOGX_THRESHOLD", "0", "a whole number from 1"),
        ("S3LOGX_THRESHOLD", "5_0", "a whole number from 1"),
        ("S3LOGX_THRESHOLD", "+50", "a whole number from 1"),
        ("S3LOGX_THRESHOLD", "\u0665\u0660", "a whole number from 1"),
        ("S3LOGX_THRESHOLD", "9" * 5000, "a whole number from 1"),
        ("S3LOGX_ROUNDING", "0", "a whole number from 1"),
        ("S3LOGX_LAG_DAYS", "-2", "a whole number from 0"),
        ("S3LOGX_PARTITIONS_PER_RUN", "all", "a whole number from 0"),
        ("S3LOGX_WORKERS", "0", "a whole number from 1"),
        ("S3LOGX_ALLOW_SHRINK", "true", "0 or 1"),
        ("S3LOGX_GEO", "geolite", "embedded or mmdb or ipinfo"),
        ("S3LOGX_LOOKUP_DAYS", "0", "a whole number from 1"),
        ("S3LOGX_CLOUD_RANGES", "fresh", "packaged or live"),
        ("S3LOGX_MMDB", "/no/such.mmdb", "is not a file"),
        ("S3LOGX_REJECTED_SHARE", "1.01", "a share from 0 to 1"),
        ("S3LOGX_REJECTED_SHARE", "-0.1", "a share from 0 to 1"),
        ("S3LOGX_REJECTED_SHARE", "nan", "a share from 0 to 1"),
        ("S3LOGX_REJECTED_SHARE", "inf", "a share from 0 to 1"),
        ("S3LOGX_REJECTED_SHARE", "1 %", "a share from 0 to 1"),
        ("S3LOGX_FRESH_DAYS", "1.5", "a whole number from 0"),
        ("S3LOGX_ARCHIVE_NAME", "x" * 201, "one line of at most 200 characters"),
        *(
            ("S3LOGX_SITE_URL", text, "a web address with a name")
            for text in ("usage.example.org", "ftp://x", "https://a@b.org", "https://b.org/?q", "https://192.0.2.1/x")
        ),
        ("S3LOGX_LICENCE", "CC BY 4.0", "an SPDX licence identifier"),
        ("S3LOGX_SOURCE_URL", "git@git.example.org:a", "the web address below which the sources are read"),
        ("S3LOGX_EXECUTOR", "dask", "in_process or multiprocess or celery"),
        ("S3LOGX_CELERY_CONFIG", "/no/such/celery.yaml", "is not a file; it must be the path of a YAML file"),
        *(
            ("S3LOGX_ALERT_EMAIL", text, "e-mail addresses, divided by commas")
            for text in ("someone", "a@b.example;c@d.example", "a@b.example,")
        ),
    ],
)
def test_an_illegal_value_is_refused_with_setting_value_and_what_is_legal(name: str, text: str, legal: str) -> None:
    message = refusal({**REQUIRED, name: text})
    assert name in message
    assert text in message
    assert legal in message


@pytest.mark.parametrize("name", sorted(REQUIRED))
@pytest.mark.parametrize("text", [None, "", "  "])
def test_a_required_setting_that_is_missing_or_empty_is_asked_for(name: str, text: str | None) -> None:
    environment = {key: value for key, value in REQUIRED.items() if key != name}
    if text is not None:
        environment[name] = text
    message = refusal(environment)
    assert f"{name} is not set" in message
    assert "must be" in message


@pytest.mark.parametrize(
    "name",
    [_variable(item.name) for item in fields(Settings) if item.name not in ("home", "logs", "first_date")],
)
def test_an_empty_optional_setting_is_as_if_not_there(name: str) -> None:
    assert read(**{name: ""}) == read()


def test_relative_folders_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = read(S3LOGX_LOGS="logs", S3LOGX_STORE="store")
    assert (settings.logs, settings.store) == (tmp_path / "logs", tmp_path / "store")


def test_files_of_settings_must_be_files(tmp_path: Path) -> None:
    table = tmp_path / "table.parquet"
    table.touch()
    assert read(S3LOGX_DATASET_MAPPING=str(table)).dataset_mapping == table
    assert read(S3LOGX_GEO="mmdb", S3LOGX_MMDB=str(table)).mmdb == table
    assert str(tmp_path) in refusal({**REQUIRED, "S3LOGX_MMDB": str(tmp_path)})


def test_settings_that_need_or_exclude_each_other(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.touch()
    assert "S3LOGX_MMDB" in refusal({**REQUIRED, "S3LOGX_GEO": "mmdb"})
    both = {"S3LOGX_DATASET_REGEX": "(?P<dataset>a)/(?P<asset>b)", "S3LOGX_DATASET_MAPPING": str(table)}
    message = refusal({**REQUIRED, **both})
    assert all(name in message for name in both)


def test_a_store_in_a_bucket_is_a_folder_and_has_its_key_from_the_environment() -> None:
    """A key file would be another one on each machine."""
    environment = {**REQUIRED, "S3LOGX_STORE": "s3://bucket/archive"}
    assert refusal(environment).startswith("S3LOGX_KEY is not set; with S3LOGX_STORE in a bucket it must be base64")
    assert Settings.read({**environment, "S3LOGX_KEY": KEY_TEXT}).store == S3Location("bucket", "archive/")
    assert "s3://bucket/prefix" in refusal({**environment, "S3LOGX_STORE": "s3://bucket/archive-"})


def test_a_mapping_table_has_one_of_the_known_endings(tmp_path: Path) -> None:
    for ending in ("parquet", "csv", "json", "CSV.GZ", "json.gz"):
        table = tmp_path / f"table.{ending}"
        table.touch()
        assert read(S3LOGX_DATASET_MAPPING=str(table)).dataset_mapping == table
    for name in ("table", "table.tsv", "table.parquet.gz", "table.csv.bz2", "csv"):
        table = tmp_path / name
        table.touch()
        message = refusal({**REQUIRED, "S3LOGX_DATASET_MAPPING": str(table)})
        assert all(part in message for part in ("S3LOGX_DATASET_MAPPING", repr(name), ".csv.gz"))


@pytest.mark.parametrize("mode", ["first", "each"])
def test_the_mode_of_a_mapping_needs_a_mapping(tmp_path: Path, mode: str) -> None:
    table = tmp_path / "table.csv"
    table.touch()
    chosen = {"S3LOGX_DATASET_MAPPING_MODE": mode}
    assert read(**chosen, S3LOGX_DATASET_MAPPING=str(table)).dataset_mapping_mode == mode
    message = refusal({**REQUIRED, **chosen})
    assert f"S3LOGX_DATASET_MAPPING_MODE={mode}" in message
    assert "such as /srv/mapping.parquet" in message


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(KEY[:31]).decode(),
        base64.b64encode(KEY + b"x").decode(),
        KEY.hex(),
        KEY_TEXT[:-1],
        KEY_TEXT[:-2] + "*=",
        "sécret" + KEY_TEXT,
        "hunter2",
    ],
    ids=["31 bytes", "33 bytes", "hex", "no padding", "not base64", "not ascii", "a word"],
)
def test_a_malformed_key_is_refused_without_being_shown(text: str) -> None:
    message = refusal({**REQUIRED, "S3LOGX_KEY": text})
    assert "S3LOGX_KEY" in message
    assert "base64 of 32 bytes" in message
    assert text not in message
    assert text[:6] not in message


def test_the_choice_of_ipinfo_needs_its_key() -> None:
    message = refusal({**REQUIRED, "S3LOGX_GEO": "ipinfo"})
    assert "IPINFO_API_KEY is not set" in message
    assert read(S3LOGX_GEO="ipinfo", IPINFO_API_KEY="abc").geo == "ipinfo"


@pytest.mark.parametrize("name", ["IPINFO_API_KEY", "OPENCAGE_API_KEY"])
@pytest.mark.parametrize("text", ["two words", "line\nfeed: x", "schlüssel", "x" * 201, "nul\0nul"])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(name: str, text: str) -> None:
    message = refusal({**REQUIRED, name: text})
    assert name in message
    assert text not in message


def test_services_are_asked_only_where_one_is_chosen(tmp_path: Path) -> None:
    assert not read().asks_services
    assert not read(IPINFO_API_KEY="abc").asks_services
    assert not read(S3LOGX_CLOUD_RANGES="live").asks_services
    assert read(S3LOGX_GEO="ipinfo", IPINFO_API_KEY="abc").asks_services
    assert read(OPENCAGE_API_KEY="abc").asks_services


@pytest.mark.parametrize(
    "text",
    [
        "203.0.113.7/24",
        "203.0.113.7/33",
        "203.0.113.7,",
        "203.0.113.7 198.51.100.1",
        "203.0.113.300",
        "re:(203[.]0",
        "re:(?P=203.0.113.7)",
        "re:203.0.113.7{99999999999999999999}",
    ],
)
def test_malformed_exclusions_are_refused_without_quoting_addresses(text: str) -> None:
    message = refusal({**REQUIRED, "S3LOGX_EXCLUDED_IPS": text})
    assert "S3LOGX_EXCLUDED_IPS" in message
    assert "CIDR" in message
    assert "re:" in message
    assert "203.0" not in message
    assert "203[.]0" not in message


@pytest.mark.parametrize("text", ["re:", "re:.*", "re:x?", "re:^"])
def test_a_regular_expression_that_excludes_everyone_is_refused(text: str) -> None:
    """`re:` and nothing more, easily typed, would turn every download into the archive's own."""
    assert "exclude everything" in refusal({**REQUIRED, "S3LOGX_EXCLUDED_IPS": text})


def test_workers_and_their_configuration_are_chosen_together(tmp_path: Path) -> None:
    path = tmp_path / "celery.yaml"
    path.touch()
    assert read(S3LOGX_EXECUTOR="celery", S3LOGX_CELERY_CONFIG=str(path)).celery_config == path
    for half in ({"S3LOGX_EXECUTOR": "celery"}, {"S3LOGX_CELERY_CONFIG": str(path)}):
        message = refusal({**REQUIRED, **half})
        assert "S3LOGX_EXECUTOR=celery and S3LOGX_CELERY_CONFIG" in message


SMTP = "smtps://alerts%40archive.example:t0ken@mail.example:465"


def test_e_mail_needs_recipients_and_a_server() -> None:
    found = read(S3LOGX_ALERT_EMAIL="a@archive.example, b@archive.example", S3LOGX_ALERT_SMTP=SMTP)
    assert found.alert_email == ("a@archive.example", "b@archive.example")
    assert dict(found.shown())["S3LOGX_ALERT_EMAIL"] == "a@archive.example, b@archive.example"
    assert dict(read().shown())["S3LOGX_ALERT_EMAIL"] == "-"
    for half in ({"S3LOGX_ALERT_EMAIL": "a@archive.example"}, {"S3LOGX_ALERT_SMTP": SMTP}):
        message = refusal({**REQUIRED, **half})
        assert all(name in message for name in ("S3LOGX_ALERT_EMAIL", "S3LOGX_ALERT_SMTP"))
        assert "t0ken" not in message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("S3LOGX_ALERT_WEBHOOK", "http://chat.example/hooks/t0ken"),
        ("S3LOGX_ALERT_WEBHOOK", "https:///t0ken"),
        ("S3LOGX_ALERT_WEBHOOK", "https://chat.example/t0ken with blanks"),
        ("S3LOGX_ALERT_SMTP", "https://alerts%40archive.example:t0ken@mail.example:465"),
        ("S3LOGX_ALERT_SMTP", "smtps://alerts:t0ken@mail.example:465"),
        ("S3LOGX_ALERT_SMTP", "smtps://alerts%40archive.example:t0ken@mail.example"),
        ("S3LOGX_ALERT_SMTP", "smtps://alerts%40archive.example:t0ken@mail.example:port"),
        ("S3LOGX_ALERT_SMTP", "smtps://t0ken%40archive.example@mail.example:465"),
        ("S3LOGX_ALERT_SMTP", "smtps://t0ken%40archive.example:@mail.example:465"),
    ],
)
def test_a_way_to_tell_somebody_that_cannot_be_one_is_refused_without_being_shown(name: str, text: str) -> None:
    message = refusal({**REQUIRED, name: text})
    assert message.startswith(f"{name}=(not shown) is not legal; it must be ")
    assert "t0ken" not in message


def test_secrets_are_in_no_representation() -> None:
    keys = {
        "IPINFO_API_KEY": "t0ken-of-ipinfo",
        "OPENCAGE_API_KEY": "t0ken-of-opencage",
        "S3LOGX_ALERT_WEBHOOK": "https://chat.example/t0ken",
        "S3LOGX_ALERT_SMTP": SMTP,
    }
    more = {**keys, "S3LOGX_ALERT_EMAIL": "a@archive.example"}
    settings = read(S3LOGX_KEY=KEY_TEXT, S3LOGX_EXCLUDED_IPS="203.0.113.7,198.51.100.0/24", **more)
    for text in (repr(settings), str(settings), f"{settings}", str(settings.shown())):
        assert KEY_TEXT not in text
        assert KEY.hex() not in text
        assert repr(KEY)[2:-1] not in text
        assert "203.0.113.7" not in text
        assert "t0ken" not in text
    shown = dict(settings.shown())
    assert {shown[name] for name in keys} == {"(set)"}
    assert shown["S3LOGX_KEY"] == "(set)"
    assert shown["S3LOGX_EXCLUDED_IPS"] == "(set)"


def test_another_setting_s_error_does_not_show_the_key() -> None:
    message = refusal({**REQUIRED, "S3LOGX_KEY": KEY_TEXT, "S3LOGX_WORKERS": "none"})
    assert KEY_TEXT not in message


def test_every_setting_is_shown_under_its_variable() -> None:
    shown = dict(read(S3LOGX_THRESHOLD="70").shown())
    own = {"home": "DAGSTER_HOME", "ipinfo_key": "IPINFO_API_KEY", "opencage_key": "OPENCAGE_API_KEY"}
    assert list(shown) == [own.get(item.name, f"S3LOGX_{item.name.upper()}") for item in fields(Settings)]
    assert shown["DAGSTER_HOME"] == "/srv/dagster"
    assert shown["S3LOGX_FIRST_DATE"] == "2020-01-01"
    assert shown["S3LOGX_THRESHOLD"] == "70"
    assert shown["S3LOGX_KEY"] == "-"
    assert shown["S3LOGX_EXCLUDED_IPS"] == "-"


def test_settings_do_not_change_and_travel_whole() -> None:
    settings = read(S3LOGX_KEY=KEY_TEXT)
    with pytest.raises(FrozenInstanceError):
        settings.workers = 2  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 our own bytes


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("S3LOGX_") or name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)
    for name, text in REQUIRED.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("S3LOGX_LAG_DAYS", "9")
    assert Settings.read() == read(S3LOGX_LAG_DAYS="9")


def test_nothing_is_read_on_import() -> None:
    """The environment below is illegal throughout; importing must not notice, and reading must."""
    code = (
        "import s3logx_assets.settings as module\n"
        "try:\n    module.Settings.read()\n"
        "except module.SettingsError as error:\n    print('read:', error)"
    )
    illegal = {"DAGSTER_HOME": "relative", "S3LOGX_KEY": "wrong", "S3LOGX_WORKERS": "-"}
    answer = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **illegal}, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("read: DAGSTER_HOME")


def test_the_archives_name_is_one_line() -> None:
    with pytest.raises(SettingsError, match=r"S3LOGX_ARCHIVE_NAME='two.*lines' is not legal; it must be one line"):
        Settings.read({**REQUIRED, "S3LOGX_ARCHIVE_NAME": "two\nlines"})
