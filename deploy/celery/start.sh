#!/usr/bin/env bash
# One part of the platform, in the foreground, for a terminal or for systemd:
#
#   start.sh code-location   once, on the head machine: the graph, and the processes of the runs
#   start.sh daemon          once, on the head machine: queue, sensors, schedules, backfills
#   start.sh webserver       on the head machine: the UI, on 127.0.0.1 alone
#   start.sh worker          on every machine that is to work, as often as it has cores to spare
#   start.sh COMMAND…        anything else: that command under the same settings, such as `start.sh dagster run list`
#
# Reads the files that S3LOGX_ENV names (divided by colons), else takes the environment as it is.
set -euo pipefail
umask 077
ulimit -c 0 # all of them have the key
here=$(cd "$(dirname "$0")" && pwd)
bin=${S3LOGX_BIN:-$(cd "$here/../.." && pwd)/.venv/bin}
IFS=: read -r -a files <<<"${S3LOGX_ENV:-}"
for file in ${files[@]+"${files[@]}"}; do
    set -a
    . "$file"
    set +a
done
: "${DAGSTER_HOME:?is not set; see deploy/README.md}"
export PATH="$bin:$PATH" DAGSTER_HOME DAGSTER_DISABLE_TELEMETRY=1
export S3LOGX_EXECUTOR=celery S3LOGX_CELERY_CONFIG="${S3LOGX_CELERY_CONFIG:-$here/celery.yaml}"
export S3LOGX_CODE_PORT="${S3LOGX_CODE_PORT:-4000}"
# Over ten years in a bucket a sensor's tick may take more than Dagster's 60 seconds; one that is cut off begins anew.
export DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS="${DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS:-300}"
mkdir -p "$DAGSTER_HOME"
# The instance's configuration belongs to the installation: a copy that was changed by hand stays.
[ -e "$DAGSTER_HOME/dagster.yaml" ] || cp "$here/dagster.yaml" "$DAGSTER_HOME/dagster.yaml"

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$S3LOGX_CODE_PORT") 2>/dev/null; }

# Who asks the code location before it listens gives it up after a while, and would have to be told to look again.
wait_for_code_location() {
    for _ in $(seq 600); do
        if listens; then return; fi
        sleep 0.5
    done
    echo "the code location does not listen on 127.0.0.1:$S3LOGX_CODE_PORT; start it first" >&2
    exit 1
}

case ${1:-} in
code-location)
    if listens; then
        echo "something listens on 127.0.0.1:$S3LOGX_CODE_PORT already" >&2
        exit 1
    fi
    # Runs are processes of the code location: those of an earlier one are dead, and nothing else ever says so.
    python -m s3logx_assets.dead_runs
    exec dagster api grpc --host 127.0.0.1 --port "$S3LOGX_CODE_PORT" \
        --module-name s3logx_assets.definitions --location-name s3logx_assets
    ;;
daemon)
    wait_for_code_location
    exec dagster-daemon run -w "$here/workspace.yaml"
    ;;
webserver)
    wait_for_code_location
    exec dagster-webserver --host 127.0.0.1 --port "${PORT:-3000}" -w "$here/workspace.yaml"
    ;;
worker)
    # What earlier starts made of celery.yaml for their children: it holds the broker's password, and is of no use any more.
    find "$DAGSTER_HOME/dagster_celery" -mindepth 2 -maxdepth 2 -mmin +5 -exec rm -r {} + 2>/dev/null || true
    exec dagster-celery worker start -A dagster_celery.app -q dagster -y "$S3LOGX_CELERY_CONFIG" \
        ${S3LOGX_WORKER_NAME:+-n "$S3LOGX_WORKER_NAME"} -- --concurrency 1 --without-gossip --without-mingle
    ;;
"") sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
*) exec "$@" ;;
esac
