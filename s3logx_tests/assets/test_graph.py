"""The graph as it is known outside: a change here is a change to the contract."""

import re
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

from s3logx_assets.assets import extract
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


def test_every_column_is_described_and_every_asset_leads_to_its_code(tmp_path: Path) -> None:
    graph = repository(tmp_path, S3LOGX_INVENTORY=str(tmp_path / "inventory")).asset_graph
    tables = 0
    for key in graph.get_all_asset_keys():
        metadata = graph.get(key).metadata
        schema = metadata.get("dagster/column_schema")
        if schema is not None:
            tables += 1
            assert all(column.description for column in schema.columns), key
        (reference, *_) = metadata["dagster/code_references"].value.code_references
        assert isinstance(reference, dg.LocalFileCodeReference)
        assert reference.label is not None
        assert reference.file_path.endswith(reference.label)
        lines = Path(reference.file_path).read_text().splitlines()
        assert lines[(reference.line_number or 0) - 1].startswith(("def ", "@"))
    assert tables == len(GRAPH) + 1 - 2  # all but the statistics and the publication


def test_code_is_linked_where_the_sources_are_read_and_tells_no_path_of_the_machine(tmp_path: Path) -> None:
    graph = repository(tmp_path, S3LOGX_SOURCE_URL="https://git.example.org/a/blob/v1/").asset_graph
    found = graph.get(dg.AssetKey("extracted_logs")).metadata["dagster/code_references"].value.code_references
    assert [type(each) for each in found] == [dg.UrlCodeReference] * 2
    assert re.fullmatch(r"https://git\.example\.org/a/blob/v1/s3logx_assets/assets/extract\.py#L[0-9]+", found[0].url)
    assert found[1].url == "https://git.example.org/a/blob/v1/awk/extract.awk#L1"
    everything = [graph.get(key).metadata["dagster/code_references"] for key in graph.get_all_asset_keys()]
    assert str(Path(extract.__file__).parents[2]) not in str(everything)


@pytest.mark.parametrize(("days", "windows"), [("3", (3.0, 1.5)), ("0", None), ("9" * 18, (10_000.0, 5_000.0))])
def test_what_hangs_on_news_is_overdue_without_and_schedules_always(
    tmp_path: Path, days: str, windows: tuple[float, float] | None
) -> None:
    graph = repository(tmp_path, S3LOGX_FRESH_DAYS=days).asset_graph
    found = {}
    for name in GRAPH:
        policy = graph.get(dg.AssetKey(name)).freshness_policy
        if policy is not None:
            assert isinstance(policy, TimeWindowFreshnessPolicy)
            every = (policy.fail_window, policy.warn_window)
            found[name] = tuple(each.to_timedelta() / timedelta(days=1) for each in every if each is not None)
    by_news = dict.fromkeys(("extracted_logs", "daily_usage", "totals"), windows) if windows else {}
    assert found == {"statistics": (2.0,), "publication": (14.0,), **by_news}


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
        "withstands_attack",
    }
    assert "update_scopes" in found.job_names
    sensors = {sensor.name: sensor.default_status for sensor in found.sensor_defs}
    assert sensors == dict.fromkeys(
        ("new_log_files_sensor", "stale_scopes_sensor", "dead_runs_sensor", "steps_follow"),
        dg.DefaultSensorStatus.RUNNING,
    )
    running, stopped = dg.DefaultScheduleStatus.RUNNING, dg.DefaultScheduleStatus.STOPPED
    assert {item.name: (item.cron_schedule, item.default_status) for item in found.schedule_defs} == {
        "weekly_publication": ("0 6 * * *", running),
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
