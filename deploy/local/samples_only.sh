#!/usr/bin/env bash
# Without S3LOGX_LOGS `make run` and `make ui` are over the sample logs. A DAGSTER_HOME or a store in a folder that was given from outside
# may be an archive's own: the samples' usage would be told with it, and under `strict` never be taken back. What was begun with
# the samples has a mark.
set -euo pipefail
umask 077
: "${DAGSTER_HOME:?is not set}"
mark=$DAGSTER_HOME/.samples
store=${S3LOGX_STORE:-$DAGSTER_HOME/s3logx}
if [ ! -e "$mark" ] && [ -d "$store/private/extracted_logs" ]; then
    echo "$store has usage already, and S3LOGX_LOGS is not set: the sample logs would go among it. Set S3LOGX_LOGS to where its logs are" >&2
    exit 1
fi
mkdir -p "$DAGSTER_HOME"
touch "$mark"
