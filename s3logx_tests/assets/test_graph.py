"""The graph as it is known outside: a change here is a change to the contract."""

from pathlib import Path

import dagster as dg
import pytest

from s3logx_assets.core.errors import SettingsError
from s3logx_assets.definitions import build_defs
from s3logx_assets.settings import Settings

GRAPH = {
    # asset: (group, dependencies, partitions)
    "extracted_logs": ("extract", set(), "daily"),
    "ip_indexes": ("addresses", {"extracted_logs"}, "daily"),
    "ip_regions": ("addresses", {"ip_indexes"}, "daily"),
    "region_coordinates": ("addresses", {"ip_regions"}, "daily"),
    "daily_usage": ("usage", {"extracted_logs", "ip_indexes", "ip_regions"}, "daily"),
    "summaries": ("summaries", {"daily_usage"}, "scope"),
    "totals": ("summaries", {"summaries"}, "scope"),
    "publication": ("publish", {"summaries", "totals", "region_coordinates"}, None),
    "statistics": ("summaries", {"extracted_logs", "ip_regions"}, None),
}


def test_an_inventory_brings_its_asset_sensors_and_checks(tmp_path: Path) -> None:
    found = repository(tmp_path, S3LOGX_INVENTORY=str(tmp_path / "inventory"))
    node = found.asset_graph.get(dg.AssetKey("log_inventory"))
    assert node.group_name == "sources"
    assert isinstance(node.partitions_def, dg.DynamicPartitionsDefinition)
    sensors = {sensor.name for sensor in found.sensor_defs}
    assert {"inventory_manifest_sensor", "inventory_files_sensor"} < sensors
    checks = {key.name for key in found.asset_graph.asset_check_keys if key.asset_key == dg.AssetKey("statistics")}
    assert checks == {"completion", "listed_files_exist"}


def settings(tmp_path: Path, **more: str) -> Settings:
    home = {"DAGSTER_HOME": str(tmp_path), "S3LOGX_LOGS": str(tmp_path), "S3LOGX_FIRST_DATE": "2025-03-01"}
    return Settings.read({**home, **more})


def repository(tmp_path: Path, **more: str) -> dg.RepositoryDefinition:
    return build_defs(settings(tmp_path, **more)).get_repository_def()


def test_assets_groups_dependencies_and_partitions(tmp_path: Path) -> None:
    graph = repository(tmp_path).asset_graph
    found = {}
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        kind = {dg.DailyPartitionsDefinition: "daily", dg.DynamicPartitionsDefinition: "scope"}
        partitions = kind[type(node.partitions_def)] if node.partitions_def else None
        found[key.to_user_string()] = (
            node.group_name,
            {parent.to_user_string() for parent in node.parent_keys},
            partitions,
        )
    assert found == GRAPH


def test_every_asset_is_described_owned_and_has_its_kinds(tmp_path: Path) -> None:
    graph = repository(tmp_path).asset_graph
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert node.owners == ["team:archive-data"], key
        assert node.kinds, key


def test_checks_jobs_sensors_and_schedules(tmp_path: Path) -> None:
    found = repository(tmp_path)
    assert {key.name for key in found.asset_graph.asset_check_keys} == {
        "conservation",
        "rejected_share",
        "downloads_logic",
        "timestamps",
        "duplicates_across_dates",
        "reference_agreement",
        "completeness",
        "coordinates_known",
    }
    assert "update_scopes" in found.job_names
    sensors = {sensor.name: sensor.default_status for sensor in found.sensor_defs}
    assert sensors == dict.fromkeys(
        ("new_log_files_sensor", "stale_scopes_sensor", "steps_follow"), dg.DefaultSensorStatus.RUNNING
    )
    running, stopped = dg.DefaultScheduleStatus.RUNNING, dg.DefaultScheduleStatus.STOPPED
    assert {item.name: (item.cron_schedule, item.default_status) for item in found.schedule_defs} == {
        "weekly_publication": ("0 6 * * 1", running),
        "daily_statistics": ("0 3 * * *", running),
        "daily_update": ("0 2 * * *", stopped),
        "daily_scopes": ("0 5 * * *", stopped),
    }


def test_dates_begin_at_the_setting_and_include_today(tmp_path: Path) -> None:
    node = repository(tmp_path).asset_graph.get(dg.AssetKey("extracted_logs"))
    assert isinstance(node.partitions_def, dg.DailyPartitionsDefinition)
    assert node.partitions_def.get_first_partition_key() == "2025-03-01"
    assert node.partitions_def.end_offset == 1
    assert node.partitions_def.timezone == "UTC"


@pytest.mark.parametrize(
    ("setting", "policy"), [("0", dg.BackfillPolicy.single_run()), ("30", dg.BackfillPolicy.multi_run(30))]
)
def test_a_backfill_is_one_run_unless_the_setting_spreads_it(
    tmp_path: Path, setting: str, policy: dg.BackfillPolicy
) -> None:
    graph = repository(tmp_path, S3LOGX_PARTITIONS_PER_RUN=setting).asset_graph
    for name, (_, _, partitions) in GRAPH.items():
        if partitions:
            assert graph.get(dg.AssetKey(name)).backfill_policy == policy


def test_a_wrong_setting_is_named_when_the_graph_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from s3logx_assets.definitions import defs

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("S3LOGX_LOGS", str(tmp_path))
    monkeypatch.setenv("S3LOGX_FIRST_DATE", "yesterday")
    with pytest.raises(SettingsError, match="S3LOGX_FIRST_DATE='yesterday'"):
        defs()
