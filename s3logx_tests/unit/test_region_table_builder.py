"""A database in, a region table out: the walk of the tree, the collapse, the means, the files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from s3logx_assets.adapters import region_table_builder, region_tables
from s3logx_assets.adapters.mmdb import read_region_table
from s3logx_assets.core.addresses import pack_all
from s3logx_assets.core.errors import SettingsError, StoreError
from s3logx_assets.core.region_table import RegionTable
from s3logx_assets.core.regions import classify
from s3logx_tests.mmdb_writer import city, mmdb

OHIO = city("US", "Ohio", 40.0, -83.0)
COLUMBUS = city("US", "Ohio", 39.0, -83.0)
TEXAS = city("US", "Texas", 31.0, -99.0)
BERLIN = city("DE", "State of Berlin", 52.5, 13.4)
BERLIN_TOO = city("DE", "Berlin", 52.5, 13.4)
SINGAPORE = city("SG", "", 1.35, 103.8)

NETWORKS: dict[str, Any] = {
    "8.0.0.0/9": OHIO,
    "8.128.0.0/10": COLUMBUS,
    "8.192.0.0/10": TEXAS,
    "9.0.0.0/8": BERLIN,
    "11.0.0.0/16": SINGAPORE,
    "255.0.0.0/8": TEXAS,
    "2600::/24": OHIO,
    "2600:100::/24": COLUMBUS,
    "2a00::/32": BERLIN_TOO,
    "2a00:1::/64": TEXAS,
    "2a00:1:0:1::/65": OHIO,
    "2a00:1:0:1:8000::/66": TEXAS,
    "2a00:1:0:2::1/128": TEXAS,
    "ff00::/8": SINGAPORE,
}


def table_of(folder: Path, networks: dict[str, Any], **options: Any) -> RegionTable:
    path = folder / "test.mmdb"
    path.write_bytes(mmdb(networks, **options))
    return read_region_table(path, {})


def regions(table: RegionTable, *texts: str) -> list[str]:
    found: list[str] = classify(pack_all(texts), [table.layer()])["region"].to_pylist()
    return found


@pytest.mark.parametrize("record_size", [24, 28, 32])
def test_every_address_keeps_its_region(tmp_path: Path, record_size: int) -> None:
    table = table_of(tmp_path, NETWORKS, record_size=record_size)
    texts = ["7.255.255.255", "8.0.0.0", "8.191.255.255", "8.192.0.0", "9.255.255.255", "11.0.255.255", "11.1.0.0"]
    found = ["unknown", "US/Ohio", "US/Ohio", "US/Texas", "DE/Berlin", "SG", "unknown"]
    assert regions(table, *texts) == found
    texts = ["2600::1", "2600:1ff:ffff::", "2600:200::", "2a00::1", "2a00:1::1", "2a00:1:0:2::9", "2a00:2::"]
    found = ["US/Ohio", "US/Ohio", "unknown", "DE/Berlin", "US/Texas", "US/Texas", "unknown"]
    assert regions(table, *texts) == found


def test_neighbours_are_merged_and_gaps_are_ranges(tmp_path: Path) -> None:
    table = table_of(tmp_path, NETWORKS)
    assert [int(start) >> 24 for start in table.v4.starts] == [0, 8, 8, 9, 10, 11, 11, 255]
    assert table.v4.starts.dtype == np.uint32
    assert table.v6.starts.dtype == np.uint64
    assert table.v4.codes.dtype == table.v6.codes.dtype == np.uint16
    for ranges in (table.v4, table.v6):
        assert ranges.starts[0] == 0
        assert (ranges.starts[1:] > ranges.starts[:-1]).all()
        assert (ranges.codes[1:] != ranges.codes[:-1]).all()


def test_the_ends_of_the_address_space_do_not_wrap(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"0.0.0.0/1": OHIO, "128.0.0.0/1": TEXAS, "8000::/1": TEXAS})
    texts = ["0.0.0.1", "127.255.255.255", "128.0.0.0", "255.255.255.255"]
    assert table.v4.find(pack_all(texts)).tolist() == [2, 2, 3, 3]
    assert table.v6.find(pack_all(["4000::", "8000::", "ffff:ffff:ffff:ffff:ffff::"])).tolist() == [0, 3, 3]


def test_of_a_divided_64_the_shortest_prefix_stands(tmp_path: Path) -> None:
    table = table_of(tmp_path, NETWORKS)
    assert regions(table, "2a00:1:0:1::1", "2a00:1:0:1:8000::1") == ["US/Ohio", "US/Ohio"]


def test_what_carries_an_ipv4_address_is_left_out_of_ipv6(tmp_path: Path) -> None:
    """Tables of MaxMind hang the IPv4 tree at 6to4, Teredo and ::ffff:0:0/96 too, which would multiply the ranges."""
    plain = table_of(tmp_path, NETWORKS)
    aliased = table_of(tmp_path, NETWORKS, aliases=("2002::/16", "2001::/32", "::ffff:0:0/96", "64:ff9b::/96"))
    own = table_of(
        tmp_path, {**NETWORKS, "2002:900::/24": TEXAS, "2001:0:900::/48": TEXAS, "64:ff9b::900:0/112": TEXAS}
    )
    for table in (aliased, own):
        assert table.v6.starts.tolist() == plain.v6.starts.tolist()
        assert regions(table, "2002:0900::1", "2002:800::1") == ["DE/Berlin", "US/Ohio"]


def test_a_database_of_ipv4_alone_or_of_ipv6_alone(tmp_path: Path) -> None:
    four = {prefix: record for prefix, record in NETWORKS.items() if ":" not in prefix}
    table = table_of(tmp_path, four, ip_version=4)
    assert regions(table, "9.1.1.1", "2600::1") == ["DE/State of Berlin", "unknown"]
    table = table_of(tmp_path, {"2600::/24": OHIO})
    assert regions(table, "9.1.1.1", "2600::1") == ["unknown", "US/Ohio"]
    table = table_of(tmp_path, {"::/1": OHIO, "8000::/1": TEXAS})
    assert regions(table, "2600::1") == ["US/Ohio"]


def test_a_region_lies_at_the_mean_of_its_addresses_and_so_does_its_country(tmp_path: Path) -> None:
    rows = {row["label"]: row for row in table_of(tmp_path, NETWORKS).regions.to_pylist()}
    # 2**23 addresses at 40 N, 2**22 at 39 N
    assert rows["US/Ohio"]["latitude"] == pytest.approx(39.667, abs=0.001)
    assert rows["US/Ohio"]["longitude"] == -83
    assert rows["US/Texas"]["latitude"] == 31
    assert rows["SG"]["longitude"] == 103.8
    assert 31 < rows["US"]["latitude"] < 39.7
    assert list(rows) == ["DE", "DE/Berlin", "SG", "US", "US/Ohio", "US/Texas"]
    assert [row["id"] for row in rows.values()] == [1, 2, 3, 4, 5, 6]
    assert rows["SG"]["name"] is None


def test_a_mean_across_the_antimeridian_stays_there(tmp_path: Path) -> None:
    fiji = {"8.0.0.0/9": city("FJ", "Northern", -16.5, 179.0), "8.128.0.0/9": city("FJ", "Northern", -16.5, -179.0)}
    row = table_of(tmp_path, fiji).regions.to_pylist()[1]
    assert abs(row["longitude"]) == pytest.approx(180)
    assert row["latitude"] == pytest.approx(-16.5, abs=0.01)


def test_ipv6_networks_place_a_region_that_has_no_ipv4(tmp_path: Path) -> None:
    networks = {"2600::/24": city("US", "Guam", 13.4, 144.8), "8.0.0.0/8": OHIO, "2601::/24": TEXAS, "9.0.0.0/24": OHIO}
    rows = {row["label"]: row for row in table_of(tmp_path, networks).regions.to_pylist()}
    assert rows["US/Guam"]["longitude"] == 144.8
    assert rows["US"]["latitude"] == 40


@pytest.mark.parametrize(
    ("record", "label", "subdivision"),
    [
        (city("US", "Ohio", 40.0, -83.0, code="OH"), "US/Ohio", "US-OH"),
        ({"country": {"iso_code": "US"}}, "US", None),
        ({"country_code": "us", "state1": "Ohio", "latitude": "40.0", "longitude": "-83.0"}, "US/Ohio", None),
        ({"country": "US", "region": "Ohio", "lat": 40.0, "lng": -83.0}, "US/Ohio", None),
        ({"country_code": "US", "region": "-"}, "US", None),
        (city("US", "  Ohio\tRiver \n", 40.0, -83.0), "US/Ohio River", None),
        ({"country": {"iso_code": "US"}, "location": {"latitude": "north"}}, "US", None),
    ],
)
def test_records_of_several_makers(tmp_path: Path, record: Any, label: str, subdivision: str | None) -> None:
    table = table_of(tmp_path, {"8.0.0.0/8": record})
    found = classify(pack_all(["8.8.8.8"]), [table.layer()]).to_pylist()[0]
    assert found == {"region": label, "method": "geolocation", "subdivision": subdivision}


@pytest.mark.parametrize(
    "record",
    [
        {"country": {"iso_code": "ZZ"}},
        {"country": {}},
        {"continent": {"code": "EU"}},
        {"country_code": "EUR"},
        "text",
        {},
    ],
)
def test_a_record_without_a_country_is_unknown(tmp_path: Path, record: Any) -> None:
    assert regions(table_of(tmp_path, {"8.0.0.0/8": record, "9.0.0.0/8": OHIO}), "8.8.8.8", "9.9.9.9") == [
        "unknown",
        "US/Ohio",
    ]


@pytest.mark.parametrize("damage", ["absent", "empty", "text", "cut", "no countries", "folder"])
def test_an_unreadable_database_is_a_settings_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "test.mmdb"
    whole = mmdb(NETWORKS)
    if damage == "folder":
        path.mkdir()
    elif damage != "absent":
        content = {
            "empty": b"",
            "text": b"no database\n" * 99,
            "cut": whole[: len(whole) // 2],
            "no countries": mmdb({"8.0.0.0/8": {"autonomous_system_number": 15169}}),
        }
        path.write_bytes(content[damage])
    with pytest.raises(SettingsError, match=r"S3LOGX_MMDB: .*test\.mmdb"):
        read_region_table(path, {})


def test_the_builder_writes_files_that_are_read_back_with_their_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "test.mmdb", tmp_path / "out"
    source.write_bytes(mmdb(NETWORKS))
    codes = {
        "US": {
            "US-OH": {"name": "Ohio", "localOtherName": "The Buckeye State (eng)", "type": "State", "parentCode": None}
        },
        "DE": {"DE-BE": {"name": "Berlin", "localOtherName": None, "type": "Land", "parentCode": None}},
        "ID": {
            "ID-PP": {"name": "Papua", "localOtherName": None, "type": "Geographical unit", "parentCode": None},
            "ID-PA": {
                "name": "Papua",
                "localOtherName": "Papua (eng), 'A, b (eng)'",
                "type": "X",
                "parentCode": "ID-PP",
            },
        },
    }
    (tmp_path / "codes.json").write_text(json.dumps(codes))
    arguments = [str(source), str(out), "--source-name", "Test City", "--data-date", "2026-09-01", "--licence", "CC0"]
    arguments += ["--attribution", "by a test", "--url", "https://example.org"]
    assert region_table_builder.main([*arguments, "--subdivisions", str(tmp_path / "codes.json")]) == 0
    assert "8 ranges of IPv4" in capsys.readouterr().out

    table = region_tables.read(out)
    assert table.provenance == ("Test City", "2026-09-01", "CC0", "by a test", "https://example.org")
    labels = dict(zip(table.regions["label"].to_pylist(), table.regions["subdivision"].to_pylist(), strict=True))
    assert labels == {"DE": None, "DE/Berlin": "DE-BE", "SG": None, "US": None, "US/Ohio": "US-OH", "US/Texas": None}
    assert regions(table, "8.8.8.8", "2a00::1") == ["US/Ohio", "DE/Berlin"]
    assert pq.read_table(out / "regions_v4.parquet").column_names == ["start", "region"]
    entries = region_table_builder.read_subdivisions(tmp_path / "codes.json")["ID"]
    assert [(entry.code, entry.first_level) for entry in entries] == [("ID-PA", True)]


def test_the_same_database_gives_the_same_bytes_and_another_another_digest(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, networks in zip(folders, (NETWORKS, NETWORKS, {**NETWORKS, "12.0.0.0/8": OHIO}), strict=True):
        region_tables.write(folder, table_of(tmp_path, networks))
    for name in ("regions.parquet", "regions_v4.parquet", "regions_v6.parquet"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    digests = [region_tables.digest(folder) for folder in folders]
    assert digests[0] == digests[1] != digests[2]


def test_the_builder_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--source-name", "x", "--data-date", "2026-09-01"]
    assert region_table_builder.main([str(tmp_path / "none.mmdb"), str(tmp_path), *given]) == 1
    assert "none.mmdb" in capsys.readouterr().err
    (tmp_path / "codes.json").write_text("[]")
    with pytest.raises(SettingsError, match=r"codes\.json"):
        region_table_builder.read_subdivisions(tmp_path / "codes.json")


@pytest.mark.parametrize("damaged", ["regions.parquet", "regions_v4.parquet", "regions_v6.parquet"])
@pytest.mark.parametrize("how", ["gone", "cut", "other"])
def test_a_damaged_region_table_is_a_store_error(tmp_path: Path, damaged: str, how: str) -> None:
    region_tables.write(tmp_path, table_of(tmp_path, NETWORKS))
    path = tmp_path / damaged
    content = path.read_bytes()
    path.unlink()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "other":
        other = pq.read_table(tmp_path / ("regions_v4.parquet" if damaged == "regions.parquet" else "regions.parquet"))
        pq.write_table(other, path)
    with pytest.raises(StoreError):
        region_tables.read(tmp_path)
