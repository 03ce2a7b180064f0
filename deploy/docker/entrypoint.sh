#!/usr/bin/env bash
# Puts the deployment's dagster.yaml, which S3LOGX_DAGSTER_YAML names, where Dagster looks for it, and becomes the command.
set -euo pipefail
umask 077
# The settings may have the key. Fargate and Kubernetes have no setting for this, so it stands here.
ulimit -c 0
if [ -n "${S3LOGX_DAGSTER_YAML:-}" ]; then
    cp "$S3LOGX_DAGSTER_YAML" "$DAGSTER_HOME/dagster.yaml"
fi
exec "$@"
