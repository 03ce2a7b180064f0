"""A whole platform in a temporary folder, for tests of the graph: settings, an instance, runs in this process.

The regions come from a stand-in where a test is not about them, so that these tests do not load the embedded tables.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
from dagster._core.definitions.schedule_definition import ScheduleExecutionData
from dagster._core.definitions.sensor_definition import SensorExecutionData

from s3logx_assets.adapters.geolocation import Geolocator
from s3logx_assets.adapters.release_store import LocalReleaseStore
from s3logx_assets.adapters.table_store import TableStore
from s3logx_assets.core.addresses import AddressBlock
from s3logx_assets.core.schemas import REGION_COORDINATES
from s3logx_assets.definitions import build_defs
from s3logx_assets.resources import build_release_store, build_resources, private_files
from s3logx_assets.settings import Settings

DAILY = ("extracted_logs", "ip_indexes", "ip_regions", "region_coordinates", "daily_usage")
OWNER = "8787a3c41bf7ce0d54359d9348ad5b08e16bd5bb8ae5aa4e1508b435773a066e"


class EvenOddGeolocator:
    """Region by the parity of the last byte."""

    data_version = "even-odd"
    attribution = ()

    def regions(self, addresses: AddressBlock) -> pa.Table:
        """AA/Even or BB/Odd."""
        labels = np.where(addresses[:, 15] % 2 == 0, "AA/Even", "BB/Odd").tolist()
        nothing = pa.nulls(len(labels), pa.string())
        texts = pa.array(labels, pa.string())
        method = pa.array(["geolocation"] * len(labels), pa.string())
        return pa.table({"region": texts, "method": method, "subdivision": nothing})

    def coordinates(self, labels: Sequence[str]) -> pa.Table:
        """Somewhere."""
        rows = [{"region": label, "latitude": 1.5, "longitude": -2.5, "source": "test"} for label in sorted(labels)]
        return pa.Table.from_pylist(rows, schema=REGION_COORDINATES)


def line(
    key: str, day: str = "2025-03-01", second: int = 0, status: int = 200, sent: int = 10, host: int = 1, **more: str
) -> str:
    """One log line of event date `day` from the address 192.0.2.`host`."""
    when = date.fromisoformat(day).strftime("%d/%b/%Y")
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    request_id = more.get(
        "request_id", hashlib.sha256(repr((key, day, second, status, sent, host)).encode()).hexdigest()[:16].upper()
    )
    return (
        f"{OWNER} examplebucket [{when}:{clock} +0000] {more.get('ip', f'192.0.2.{host}')} - {request_id} REST.GET.OBJECT {key} "
        f'"GET /{key} HTTP/1.1" {status} - {sent} 100 5 4 "-" "test" - hostid= - TLS_AES_128_GCM_SHA256 - '
        "examplebucket.s3.amazonaws.com TLSv1.3 - -\n"
    )


class Configured:
    """Whatever has the settings of an environment."""

    environment: dict[str, str]

    @property
    def settings(self) -> Settings:
        return Settings.read(self.environment)

    @property
    def store(self) -> TableStore:
        """The private store."""
        return TableStore(private_files(self.settings))


@dataclass
class Platform(Configured):
    """Folders, settings and an instance of one test."""

    folder: Path
    instance: dg.DagsterInstance
    environment: dict[str, str]
    geolocator: Geolocator = field(default_factory=EvenOddGeolocator)
    cursors: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def make(folder: Path, instance: dg.DagsterInstance, **settings: str) -> "Platform":
        """With `settings` beside the folders; logs start on 2025-03-01. A release shows exact figures of single requests, as far as
        policy `compatible` does: most tests know what they put in."""
        (folder / "logs").mkdir()
        environment = {
            "DAGSTER_HOME": str(folder / "home"),
            "S3LOGX_LOGS": str(folder / "logs"),
            "S3LOGX_FIRST_DATE": "2025-03-01",
            "S3LOGX_WORKERS": "1",
            "S3LOGX_POLICY": "compatible",
            **settings,
        }
        return Platform(folder, instance, environment)

    @property
    def latest(self) -> Path:
        """The latest release of a local store."""
        store = build_release_store(self.settings)
        assert isinstance(store, LocalReleaseStore)
        return store.link

    def log(self, name: str, *lines: str) -> Path:
        """Writes a log file, `name` beginning with its date."""
        path = self.folder / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))
        return path

    def daily(self, first: str, last: str, selection: Sequence[str] = DAILY) -> dg.ExecuteInProcessResult:
        """Materialises daily assets over a range of dates, in this process."""
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return self._job().execute_in_process(
            instance=self.instance,
            tags=tags,
            asset_selection=[dg.AssetKey(name) for name in selection],
            raise_on_error=False,
        )

    def update_scopes(self) -> dg.ExecuteInProcessResult:
        """Runs the job that updates the scopes."""
        job = self.definitions().get_job_def("update_scopes")
        return job.execute_in_process(instance=self.instance, raise_on_error=False)

    def scope(self, name: str) -> dg.ExecuteInProcessResult:
        """Materialises the summary and the totals of one scope, as from the UI."""
        return self._job().execute_in_process(
            instance=self.instance,
            partition_key=name,
            asset_selection=[dg.AssetKey("summaries"), dg.AssetKey("totals")],
            raise_on_error=False,
        )

    def materialize(self, asset: str, partition: str | None = None) -> dg.ExecuteInProcessResult:
        """Materialises one asset, as from the UI."""
        return self._job().execute_in_process(
            instance=self.instance,
            partition_key=partition,
            asset_selection=[dg.AssetKey(asset)],
            raise_on_error=False,
        )

    def start_run(self, first: str, last: str) -> dg.DagsterRun:
        """A run over a range of dates that is under way, though nothing runs."""
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return self.instance.create_run_for_job(
            self._job(),
            tags=tags,
            asset_selection=frozenset(map(dg.AssetKey, DAILY)),
            status=dg.DagsterRunStatus.STARTED,
        )

    def start_job(self, name: str, tags: Mapping[str, str] | None = None) -> dg.DagsterRun:
        """A run of a job that is about to begin, for good."""
        return self.instance.create_run_for_job(self.definitions().get_job_def(name), tags=tags)

    def start_scope(self, name: str) -> dg.DagsterRun:
        """A run of one scope's summary that is under way, though nothing runs."""
        return self.instance.create_run_for_job(
            self._job(),
            tags={"dagster/partition": name},
            asset_selection=frozenset([dg.AssetKey("summaries")]),
            status=dg.DagsterRunStatus.STARTED,
        )

    def publish(self) -> dg.ExecuteInProcessResult:
        """Materialises the publication."""
        return self._job().execute_in_process(
            instance=self.instance, asset_selection=[dg.AssetKey("publication")], raise_on_error=False
        )

    def tick(self, name: str) -> Sequence[dg.RunRequest] | str:
        """What a sensor or schedule asks for now, or why it asks for nothing. Sensors go on from their cursors."""
        repository = self.definitions().get_repository_def()
        every = build_resources(self.settings)
        found: SensorExecutionData | ScheduleExecutionData
        if repository.has_sensor_def(name):
            sensor = repository.get_sensor_def(name)
            resources = {each: every[each] for each in sensor.required_resource_keys}
            with dg.build_sensor_context(
                self.instance, cursor=self.cursors.get(name), resources=resources, repository_def=repository
            ) as context:
                if self.instance.is_persistent:  # as the daemon gives it; partitions that are asked for need it
                    context._instance_ref = self.instance.get_ref()
                found = sensor.evaluate_tick(context)
            for event in found.asset_events:
                self.instance.report_runless_asset_event(event)
            # As the daemon does: an empty cursor does not replace one that is there.
            self.cursors[name] = found.cursor or self.cursors.get(name, "")
            for request in found.dynamic_partitions_requests or ():
                self.instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
        else:
            schedule = repository.get_schedule_def(name)
            resources = {each: every[each] for each in schedule.required_resource_keys}
            with dg.build_schedule_context(
                self.instance, resources=resources, repository_def=repository
            ) as schedule_context:
                found = schedule.evaluate_tick(schedule_context)
        return list(found.run_requests or ()) or str(found.skip_message)

    def materialized(self, asset: str) -> set[str]:
        """The partitions that the event log has."""
        return self.instance.get_materialized_partitions(dg.AssetKey(asset))

    def definitions(self) -> dg.Definitions:
        """The graph, with this platform's geolocator."""
        return build_defs(self.settings, {"geolocator": self.geolocator})

    def _job(self) -> dg.JobDefinition:
        return self.definitions().resolve_implicit_global_asset_job_def()


def failure_text(result: dg.ExecuteInProcessResult) -> str:
    """What a failed run says."""
    (event, *_) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    assert data.error is not None
    return str((data.error.cause or data.error).message)
