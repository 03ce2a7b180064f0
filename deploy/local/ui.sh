#!/usr/bin/env bash
# The Dagster UI with its daemon, on this machine only. $1 is the folder with the commands.
set -euo pipefail
bin=$1
ulimit -c 0 # UI, daemon and code location have the settings, and the key may be one
"$bin/python" -m s3logx_assets.dagster_home "$(dirname "$0")/dagster.yaml"
# Two daemons on one history would double every request.
exec 9>"$DAGSTER_HOME/.ui.lock"
flock -n 9 || { echo "the UI is already running over $DAGSTER_HOME" >&2; exit 1; }
"$bin/python" -m s3logx_assets.dead_runs
# Over ten years in a bucket a sensor's tick may take more than Dagster's 60 seconds; one that is cut off begins anew.
export DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS="${DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS:-300}"
exec "$bin/dagster" dev -w workspace.yaml --host 127.0.0.1 --port "${PORT:-3000}"
