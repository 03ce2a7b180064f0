"""The geolocators on well-known addresses, their coordinates, versions, caches and errors."""

import csv
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s3logx_assets.adapters import cloud_ranges, region_tables
from s3logx_assets.adapters.geolocation import EmbeddedGeolocator, Geolocator, MmdbGeolocator
from s3logx_assets.core.addresses import pack_all
from s3logx_assets.core.errors import SettingsError
from s3logx_assets.core.regions import ANSWERS, METHODS, country_of
from s3logx_assets.core.schemas import REGION_COORDINATES
from s3logx_tests.mmdb_writer import city, mmdb

# What these are is public knowledge (operators' documentation, registries); regions below the country only where the
# place of the institution is beyond doubt. The short IPv6 ones are the allocations of research networks.
CLOUDS = """
140.82.112.3 GitHub
140.82.121.4 GitHub
185.199.108.133 GitHub
192.30.255.112 GitHub
20.205.243.166 GitHub
2606:50c0:8000::153 GitHub
2a0a:a440::1 GitHub
52.219.96.1 AWS/us-east-2
3.16.0.1 AWS/us-east-2
52.216.0.1 AWS/us-east-1
54.231.0.1 AWS/us-east-1
52.218.200.1 AWS/us-west-2
35.180.0.1 AWS/eu-west-3
3.120.0.1 AWS/eu-central-1
13.54.0.1 AWS/ap-southeast-2
13.112.0.1 AWS/ap-northeast-1
18.228.0.1 AWS/sa-east-1
205.251.192.1 AWS/GLOBAL
2600:1f18::1 AWS/us-east-1
2600:1f16::1 AWS/us-east-2
2600:1f14::1 AWS/us-west-2
2a05:d018::1 AWS/eu-west-1
2a05:d014::1 AWS/eu-central-1
2406:da14::1 AWS/ap-northeast-1
35.192.0.1 GCP/us-central1
104.196.0.1 GCP/us-east1
34.80.0.1 GCP/asia-east1
35.240.0.1 GCP/europe-west1
34.65.0.1 GCP/europe-west6
2600:1f1c::1 AWS/us-west-1
2600:1f11::1 AWS/ca-central-1
2600:1f1e::1 AWS/sa-east-1
2a05:d01c::1 AWS/eu-west-2
2a05:d012::1 AWS/eu-west-3
2a05:d016::1 AWS/eu-north-1
2406:da1a::1 AWS/ap-south-1
2406:da18::1 AWS/ap-southeast-1
2406:da1c::1 AWS/ap-southeast-2
2406:da12::1 AWS/ap-northeast-2
2600:1900:4000::1 GCP/us-central1
2600:1900:4010::1 GCP/europe-west1
2600:1900:4020::1 GCP/us-east1
13.64.0.1 Azure/westus
20.42.0.1 Azure/eastus
51.140.0.1 Azure/uksouth
13.75.0.1 Azure/eastasia
140.238.64.1 Oracle/uk-london-1
116.202.0.1 Hetzner
2a01:4f8::1 Hetzner
2a01:4f9::1 Hetzner
2001:41d0::1 OVHcloud
51.68.0.1 OVHcloud
104.16.132.229 Cloudflare
2606:4700:4700::1111 Cloudflare
"""

PLACES = """
8.8.8.8 US/California
9.9.9.9 US
2620:fe::fe US
208.67.222.222 US/California
1.1.1.1 AU
77.88.8.8 RU
2a02:6b8::feed:ff RU
168.126.63.1 KR
80.67.169.12 FR
2001:910:800::12 FR
130.59.31.248 CH
91.239.100.100 DK
18.9.22.69 US/Massachusetts
128.30.2.1 US/Massachusetts
171.64.1.1 US/California
128.32.1.1 US/California
131.215.1.1 US/California
128.103.1.1 US/Massachusetts
130.132.1.1 US/Connecticut
128.112.128.15 US/New Jersey
152.3.1.1 US/North Carolina
141.211.1.1 US/Michigan
128.148.1.1 US/Rhode Island
128.95.120.1 US/Washington
156.40.1.1 US/Maryland
131.111.8.42 GB/England
129.67.1.1 GB/England
129.215.1.1 GB/Scotland
129.132.1.1 CH/Zurich
2001:67c:10ec::1 CH/Zurich
128.178.1.1 CH/Vaud
131.159.0.1 DE/Bavaria
137.226.1.1 DE/North Rhine-Westphalia
2a00:8a60::1 DE/North Rhine-Westphalia
129.104.1.1 FR
130.237.28.40 SE/Stockholm
2001:6b0:1::1 SE/Stockholm
129.240.1.1 NO/Oslo
128.214.1.1 FI/Uusimaa
145.18.1.1 NL/North Holland
193.0.6.139 NL/North Holland
2001:67c:2e8:22::c100:68b NL/North Holland
134.58.1.1 BE/Flanders
147.32.1.1 CZ/Prague
133.11.0.1 JP/Tokyo
2001:200::1 JP
166.111.4.100 CN/Beijing
2001:da8::1 CN
147.46.1.1 KR/Seoul
140.112.1.1 TW
137.132.1.1 SG
129.78.1.1 AU/New South Wales
130.216.1.1 NZ/Auckland
137.82.1.1 CA/British Columbia
128.100.1.1 CA/Ontario
132.216.177.160 CA/Quebec
143.107.1.1 BR/São Paulo
132.248.10.7 MX/Mexico City
137.158.1.1 ZA/Western Cape
132.64.1.1 IL
2620:119:35::35 US
2001:468::1 US
2607:f140::1 US/California
2607:f6d0::1 US/California
2603:4000::1 US/Massachusetts
2001:620::1 CH
2001:630::1 GB
2001:638::1 DE
2001:610::1 NL
2001:660::1 FR
2001:700::1 NO
2001:708::1 FI
2001:718::1 CZ
2001:738::1 HU
2001:760::1 IT
2001:720::1 ES
2001:690::1 PT
2001:6a8::1 BE
2001:628::1 AT
2001:648::1 GR
2001:770::1 IE
2001:878::1 DK
2001:388::1 AU
2001:12f0::1 BR
2001:2f8::1 JP
2001:320::1 KR
2001:288::1 TW
2001:250::1 CN
"""


def lines(text: str) -> list[tuple[str, str]]:
    return [(address, label) for address, _, label in (line.partition(" ") for line in text.strip().splitlines())]


def test_the_known_addresses_are_many_and_of_both_families() -> None:
    addresses = [address for address, _ in lines(CLOUDS) + lines(PLACES)]
    assert len(set(addresses)) == len(addresses) >= 130
    assert sum(":" in address for address in addresses) >= 50


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def embedded(cache: Path) -> EmbeddedGeolocator:
    return EmbeddedGeolocator(cache)


def found(geolocator: Geolocator, *texts: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = geolocator.regions(pack_all(texts)).to_pylist()
    return rows


def test_addresses_of_clouds_have_the_clouds_label(embedded: EmbeddedGeolocator) -> None:
    addresses, labels = zip(*lines(CLOUDS), strict=True)
    rows = found(embedded, *addresses)
    assert [(text, row["region"]) for text, row in zip(addresses, rows, strict=True)] == lines(CLOUDS)
    assert {row["method"] for row in rows} == {"cloud"}
    assert len(labels) >= 30


def test_resolvers_and_universities_lie_where_they_are(embedded: EmbeddedGeolocator) -> None:
    addresses, labels = zip(*lines(PLACES), strict=True)
    rows = found(embedded, *addresses)
    for text, label, row in zip(addresses, labels, rows, strict=True):
        region = row["region"] if "/" in label else country_of(row["region"])
        assert (text, region, row["method"]) == (text, label, "geolocation")
    assert len(labels) >= 50


def test_regions_carry_their_subdivision_code(embedded: EmbeddedGeolocator) -> None:
    rows = found(embedded, "8.8.8.8", "131.159.0.1", "129.215.1.1", "140.82.112.3", "10.0.0.1")
    assert [row["subdivision"] for row in rows] == ["US-CA", "DE-BY", "GB-SCT", None, None]


def test_exits_of_tor_and_private_relays_are_vpns(embedded: EmbeddedGeolocator) -> None:
    rows = found(embedded, "185.220.101.1", "171.25.193.20", "172.224.226.1")
    assert [(row["region"], row["method"]) for row in rows] == [("VPN", "vpn")] * 3


def test_carried_addresses_bogons_and_nothing(embedded: EmbeddedGeolocator) -> None:
    rows = found(
        embedded, "::ffff:8.8.8.8", "2002:808:808::1", "64:ff9b::808:808", "2002:a00:1::1", "192.0.2.1", "2001:db8::1"
    )
    assert [row["region"] for row in rows] == ["US/California"] * 3 + ["bogon"] * 3
    assert {row["method"] for row in found(embedded, "198.51.100.1", "fe80::1")} == {"bogon"}
    empty = embedded.regions(np.zeros((0, 16), np.uint8))
    assert empty.num_rows == 0
    assert empty.schema.equals(ANSWERS)


def test_every_label_that_can_be_answered_has_a_coordinate(embedded: EmbeddedGeolocator) -> None:
    table = _answers(embedded)
    without = {"VPN", "unknown"}
    located = embedded.coordinates(sorted({*table["region"], "bogon", "undetermined", "missing", "internal"}))
    assert set(table["region"]) - set(located["region"].to_pylist()) == without
    assert set(table["method"]) <= set(METHODS)
    assert located.schema.equals(REGION_COORDINATES)
    labels = located["region"].to_pylist()
    assert labels == sorted(labels, key=str.encode)
    assert all(-90 <= latitude <= 90 for latitude in located["latitude"].to_pylist())
    assert all(-180 <= longitude <= 180 for longitude in located["longitude"].to_pylist())
    assert len(set(table["region"])) > 3500


def test_the_list_of_cloud_regions_is_sorted_whole_and_not_larger_than_needed(embedded: EmbeddedGeolocator) -> None:
    path = Path(cloud_ranges.__file__).parents[1] / "data" / "cloud_regions.csv"
    with path.open(encoding="utf-8") as stream:
        labels = [row["label"] for row in csv.DictReader(stream)]
    assert labels == sorted(set(labels), key=str.encode)
    assert set(labels) == {
        label for label, method in zip(*_answers(embedded).values(), strict=True) if method == "cloud"
    }


def test_every_region_name_is_clean_and_every_code_belongs_to_its_country(embedded: EmbeddedGeolocator) -> None:
    table = embedded._table().regions.to_pylist()
    for row in table:
        assert row["label"] == (f"{row['country']}/{row['name']}" if row["name"] else row["country"])
        assert country_of(row["label"]) == row["country"]
        assert row["label"].isprintable()
        assert row["subdivision"] is None or row["subdivision"].startswith(f"{row['country']}-")
    codes = [row["subdivision"] for row in table if row["subdivision"]]
    assert len(codes) == len(set(codes)), "two spellings of one region"
    assert len(codes) > 0.8 * sum(row["name"] is not None for row in table)


def test_coordinates_of_some_regions(embedded: EmbeddedGeolocator) -> None:
    labels = [
        "US/California",
        "DE/Berlin",
        "AWS/us-east-2",
        "US/Nowhere at all",
        "GitHub",
        "FR",
        "XX/Y",
        "VPN",
        "FR",
        "AWS/x",
    ]
    rows = {row["region"]: row for row in embedded.coordinates(labels).to_pylist()}
    assert list(rows) == ["AWS/us-east-2", "DE/Berlin", "FR", "GitHub", "US/California", "US/Nowhere at all"]
    assert rows["DE/Berlin"]["latitude"] == pytest.approx(52.5, abs=0.2)
    assert rows["DE/Berlin"]["longitude"] == pytest.approx(13.4, abs=0.2)
    assert rows["US/California"]["latitude"] == pytest.approx(36, abs=2)
    assert rows["US/California"]["source"] == "DB-IP City Lite"
    assert rows["US/Nowhere at all"]["source"] == "DB-IP City Lite, country"
    assert (rows["AWS/us-east-2"]["latitude"], rows["AWS/us-east-2"]["source"]) == (39.9612, "cloud regions")
    assert embedded.coordinates([]).schema.equals(REGION_COORDINATES)


def test_the_sources_are_named_with_licence_and_date(embedded: EmbeddedGeolocator) -> None:
    first, *others = embedded.attribution
    assert (first.name, first.url, first.licence) == ("IP Geolocation by DB-IP", "https://db-ip.com", "CC BY 4.0")
    assert first.text == f"IP Geolocation by DB-IP (CC BY 4.0, {first.data_date})"
    for each in (first, *others):
        assert len(each.data_date) == 10
        assert each.url.startswith("https://")
        assert each.licence


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, embedded: EmbeddedGeolocator) -> list[pa.Table]:
    """Each making of the ranges from the packages, which then takes no time: three ranges."""
    tables: list[pa.Table] = []
    starts = [bytes(16), pack_all(["0.0.0.0"]).tobytes(), pack_all(["140.82.112.0"]).tobytes()]  # noqa: S104

    def make() -> pa.Table:
        columns = {"start": pa.array(starts, pa.binary(16)), "region": [None, None, "GitHub"]}
        tables.append(
            pa.table(columns).replace_schema_metadata(dict.fromkeys(("cloudip_date", "iporigin_date"), "2026-09-01"))
        )
        return tables[-1]

    monkeypatch.setattr(cloud_ranges, "_made", make)
    return tables


def test_ranges_are_cached_under_their_version_and_a_damaged_cache_is_made_anew(
    tmp_path: Path, made: list[pa.Table]
) -> None:
    for _ in range(2):
        assert found(EmbeddedGeolocator(tmp_path), "140.82.112.3")[0]["region"] == "GitHub"
    assert len(made) == 1
    path = tmp_path / f"cloud-ranges-{cloud_ranges.data_version()}.parquet"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", content[:-4] + b"none"):
        path.write_bytes(damaged)
        assert found(EmbeddedGeolocator(tmp_path), "140.82.112.3")[0]["region"] == "GitHub"
        assert path.read_bytes() == content
    pq.write_table(pa.table({"other": [1]}), path)
    assert found(EmbeddedGeolocator(tmp_path), "140.82.112.3")[0]["region"] == "GitHub"
    assert len(made) == 5


def test_a_cache_is_not_needed(tmp_path: Path, made: list[pa.Table]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    for cache_folder in (None, blocked / "cache"):
        assert found(EmbeddedGeolocator(cache_folder), "140.82.112.3")[0]["region"] == "GitHub"
    assert len(made) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_nothing_is_read_before_the_first_question(tmp_path: Path) -> None:
    MmdbGeolocator(tmp_path / "none.mmdb", tmp_path / "cache")
    EmbeddedGeolocator(tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


NETWORKS = {
    "8.0.0.0/8": city("US", "Ohio", 40.0, -83.0),
    "9.0.0.0/8": city("RU", "Moscow", 55.8, 37.6),
    "11.0.0.0/8": city("RU", "Moscow Oblast", 55.9, 37.0),
    "52.219.96.0/20": city("FR", "Brittany", 48.0, -3.0),
    "12.0.0.0/8": {"country": {"iso_code": "FR"}, "subdivisions": [{"names": {"en": "Normandy"}}]},
    "2a00::/16": city("US", "Ohio", 40.0, -83.0),
}


@pytest.fixture
def mmdb_path(tmp_path: Path) -> Path:
    path = tmp_path / "mine.mmdb"
    path.write_bytes(mmdb(NETWORKS, kind="DBIP-City"))
    return path


def test_an_mmdb_gives_countries_and_regions_and_clouds_come_first(mmdb_path: Path, cache: Path) -> None:
    geolocator = MmdbGeolocator(mmdb_path, cache)
    rows = found(geolocator, "8.8.8.8", "2a00::1", "9.9.9.9", "11.1.1.1", "52.219.96.1", "13.0.0.1", "10.1.1.1")
    assert [row["region"] for row in rows] == [
        *("US/Ohio", "US/Ohio", "RU/Moscow", "RU/Moscow Oblast", "AWS/us-east-2", "unknown", "bogon")
    ]
    assert [row["subdivision"] for row in rows[:4]] == ["US-OH", "US-OH", "RU-MOW", "RU-MOS"]


def test_coordinates_come_from_the_mmdb_then_from_the_packaged_table(mmdb_path: Path, cache: Path) -> None:
    geolocator = MmdbGeolocator(mmdb_path, cache)
    rows = {
        row["region"]: row for row in geolocator.coordinates(["US/Ohio", "FR/Normandy", "AWS/us-east-2"]).to_pylist()
    }
    assert rows["US/Ohio"] == {"region": "US/Ohio", "latitude": 40.0, "longitude": -83.0, "source": "DBIP-City"}
    assert rows["FR/Normandy"]["source"] == "DB-IP City Lite"
    assert rows["FR/Normandy"]["latitude"] == pytest.approx(49.1, abs=0.5)
    assert rows["AWS/us-east-2"]["source"] == "cloud regions"
    names = [each.name for each in geolocator.attribution]
    assert names[0] == "IP Geolocation by DB-IP"
    assert geolocator.attribution[0].data_date == "2026-09-01"
    assert len(names) == 4


def test_an_mmdb_is_collapsed_once_and_cached_by_its_content(mmdb_path: Path, cache: Path, tmp_path: Path) -> None:
    own = tmp_path / "cache"
    own.mkdir()
    os.link(next(cache.glob("cloud-ranges-*")), own / next(cache.glob("cloud-ranges-*")).name)
    first = MmdbGeolocator(mmdb_path, own)
    expected = found(first, "8.8.8.8", "12.1.1.1")
    folder = next(own.glob("mmdb-*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = MmdbGeolocator(mmdb_path, own)
    assert found(again, "8.8.8.8", "12.1.1.1") == expected
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    (folder / "regions_v4.parquet").write_bytes(b"damaged")
    assert found(MmdbGeolocator(mmdb_path, own), "8.8.8.8", "12.1.1.1") == expected

    mmdb_path.write_bytes(mmdb({**NETWORKS, "8.0.0.0/8": city("US", "Utah", 40.0, -111.0)}))
    changed = MmdbGeolocator(mmdb_path, own)
    assert found(changed, "8.8.8.8")[0]["region"] == "US/Utah"
    assert changed.data_version != first.data_version == again.data_version
    [kept] = own.glob("mmdb-*")
    assert kept != folder
    assert list(own.glob("cloud-ranges-*"))


def test_a_table_that_another_process_forgets_while_it_is_read_is_made_anew(
    mmdb_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines may have two databases for some minutes of an update."""
    expected = found(MmdbGeolocator(mmdb_path, cache), "8.8.8.8")
    genuine = region_tables._metadata

    def forgotten(folder: Path) -> dict[str, str]:
        metadata = genuine(folder)
        if folder.parent == cache:
            shutil.rmtree(folder)
        return metadata

    monkeypatch.setattr(region_tables, "_metadata", forgotten)
    assert found(MmdbGeolocator(mmdb_path, cache), "8.8.8.8") == expected
    monkeypatch.undo()
    assert list(cache.glob("mmdb-*"))


def test_data_versions_are_stable_and_tell_sources_apart(
    embedded: EmbeddedGeolocator, mmdb_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {embedded.data_version, MmdbGeolocator(mmdb_path).data_version}
    assert len(versions) == 2
    assert EmbeddedGeolocator().data_version == embedded.data_version
    monkeypatch.setattr(cloud_ranges, "version", lambda package: f"{package} 9.9")
    assert EmbeddedGeolocator().data_version not in versions


@pytest.mark.parametrize("content", [None, b"", b"not a database"])
def test_an_unreadable_mmdb_is_a_settings_error(tmp_path: Path, cache: Path, content: bytes | None) -> None:
    path = tmp_path / "mine.mmdb"
    if content is not None:
        path.write_bytes(content)
    geolocator = MmdbGeolocator(path, cache)
    with pytest.raises(SettingsError, match=r"S3LOGX_MMDB: .*mine\.mmdb"):
        geolocator.regions(pack_all(["8.8.8.8"]))
    with pytest.raises(SettingsError, match="S3LOGX_MMDB"):
        geolocator.coordinates(["US"])


def _answers(geolocator: EmbeddedGeolocator) -> dict[str, list[str]]:
    """Every answer that the geolocator's layers hold."""
    tables = [layer.answers for layer in geolocator._layers]
    return {name: [value for table in tables for value in table[name].to_pylist()] for name in ("region", "method")}
