#!/usr/bin/env bash
# Materialises every asset over the logs of S3LOGX_LOGS, in three commands that work the same by hand, and prints the
# result. $1 is the folder with the commands.
set -euo pipefail
bin=$1
ulimit -c 0 # the settings may have the key
module=s3logx_assets.definitions
here=$(dirname "$0")

"$bin/python" -m s3logx_assets.dagster_home "$here/dagster.yaml"
log=$DAGSTER_HOME/run.log
: >"$log"

step() {
    printf '%-34s' "$1" >&2
    shift
    if "$@" >>"$log" 2>&1; then echo "done" >&2; else
        echo "FAILED" >&2
        grep -oE '[0-9]+ of [0-9]+ dates failed:.*|Error: .*|events\.Failure: .*|s3logx_assets\.core\.errors\.[A-Za-z]+: .*' "$log" | tail -3 >&2
        echo "all of it: $log" >&2
        exit 1
    fi
}

"$bin/python" -m s3logx_assets check >>"$log" 2>&1 || { "$bin/python" -m s3logx_assets check; exit 1; }
range=$("$bin/python" -m s3logx_assets range)
step "dates $range" "$bin/dagster" asset materialize -m "$module" --partition-range "$range" \
    --select extracted_logs,ip_indexes,ip_regions,region_coordinates,daily_usage
step "scopes" "$bin/dagster" job execute -m "$module" -j update_scopes
step "publication" "$bin/dagster" asset materialize -m "$module" --select "publication*"
echo >&2
exec "$bin/python" -m s3logx_assets report
