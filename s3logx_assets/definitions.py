"""The whole graph in one screen.

log_inventory   (where an S3 Inventory is configured)
      :
extracted_logs -> ip_indexes -> ip_regions -> region_coordinates
      |                |            |                 |
      +----------------+-----> daily_usage            |
                                    |                 |
                                summaries -> totals   |
                                    |           |     |
                                    +-------> publication -> shared_release   (where S3LOGX_PUBLISH_TO is set)
"""

import warnings
from collections.abc import Callable, Mapping

import dagster as dg

from s3logx_assets.alerts import build_alerts
from s3logx_assets.assets.addresses import IP_INDEXES_ASSET, IP_REGIONS_ASSET, REGION_COORDINATES_ASSET
from s3logx_assets.assets.daily import build_daily_assets
from s3logx_assets.assets.extract import EXTRACTED_LOGS
from s3logx_assets.assets.inventory import build_inventory_asset, make_snapshot
from s3logx_assets.assets.publish import build_release, publication
from s3logx_assets.assets.share import build_share
from s3logx_assets.assets.statistics import build_statistics
from s3logx_assets.assets.summaries import build_scope_assets, make_scopes, update_scopes
from s3logx_assets.assets.usage import DAILY_USAGE_ASSET
from s3logx_assets.automation import build_automation
from s3logx_assets.code_references import code_references
from s3logx_assets.executors import build_executor
from s3logx_assets.freshness import freshness_policy
from s3logx_assets.partitions import backfill_policy, log_dates
from s3logx_assets.resources import build_resources
from s3logx_assets.settings import Settings
from s3logx_assets.storage import RefusingIOManager

# Partitioned checks, backfill policies and owners are what Dagster calls beta or preview; it says so at every use.
for _category in (dg.BetaWarning, dg.PreviewWarning):
    warnings.simplefilter("ignore", _category)

# In the order in which a date goes through them.
DAILY_ASSETS = (EXTRACTED_LOGS, IP_INDEXES_ASSET, IP_REGIONS_ASSET, REGION_COORDINATES_ASSET, DAILY_USAGE_ASSET)
OWNERS = ["team:archive-data"]
# Shared by all runs that ask services on the network. How many at a time is the instance's setting.
POOL = "geolocation"
# What makes each asset, for whoever wants to read it.
CODE: dict[str, Callable[..., object]] = {
    "log_inventory": make_snapshot,
    **{asset.spec.key.to_user_string(): asset.code for asset in DAILY_ASSETS},
    "summaries": make_scopes,
    "totals": make_scopes,
    "publication": build_release,
    "shared_release": build_share,
    "statistics": build_statistics,
}
_DATES = "All daily assets of a date or more; what `dagster job backfill` takes."


def build_defs(settings: Settings, overrides: Mapping[str, object] | None = None) -> dg.Definitions:
    """The code location under these settings; `overrides` replaces resources by name."""
    policy = backfill_policy(settings.partitions_per_run)
    pool = POOL if settings.asks_services else None
    daily = build_daily_assets(DAILY_ASSETS, log_dates(settings.first_date), policy, pool)
    assets = [daily, build_scope_assets(policy), publication, build_statistics(settings.inventory is not None)]
    if settings.inventory is not None:
        assets.insert(0, build_inventory_asset())
    if settings.publish_to is not None:
        assets.append(build_share())
    sensors, schedules = build_automation(settings, daily)

    def described(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        return spec.replace_attributes(
            owners=OWNERS,
            freshness_policy=freshness_policy(name, settings.fresh_days),
            metadata={**spec.metadata, **code_references(CODE[name], name, settings.source_url)},
        )

    return dg.Definitions(
        assets=[asset.map_asset_specs(described) for asset in assets],
        jobs=[update_scopes, dg.define_asset_job("daily_dates", [*daily.keys], description=_DATES)],
        sensors=[*sensors, *build_alerts(settings)],
        schedules=schedules,
        resources={**build_resources(settings), "io_manager": RefusingIOManager(), **(overrides or {})},
        executor=build_executor(settings),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads: the graph under the settings of the environment."""
    return build_defs(Settings.read())
