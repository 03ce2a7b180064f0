#!/usr/bin/env bash
# Puts a backup of backup.sh in place, where nothing is yet. The master key is put there by hand, before or after.
#
#   DAGSTER_HOME=… [S3LOGX_STORE=…] deploy/local/restore.sh FOLDER
set -euo pipefail
umask 077
: "${DAGSTER_HOME:?is not set}"
folder=$(cd "${1:?the folder of the backup}" && pwd)
store=${S3LOGX_STORE:-$DAGSTER_HOME/s3logx}
(cd "$folder" && sha256sum --quiet --check SHA256SUMS) || { echo "$folder is no whole backup" >&2; exit 1; }
# All is looked at before anything is put anywhere: half a backup in place would be in the way of the next try.
empty() { [ -z "$(find "$1" -mindepth 1 -not -name 's3logx.key*' -print -quit 2>/dev/null)" ]; }
empty "$DAGSTER_HOME" || { echo "$DAGSTER_HOME is not empty; restore to where nothing is" >&2; exit 1; }
if [ -e "$folder/store.tar" ]; then
    case $store in s3://*) echo "the backup has a folder's store, and S3LOGX_STORE=$store is a bucket" >&2; exit 1 ;; esac
    empty "$store" || { echo "$store is not empty; restore to where nothing is" >&2; exit 1; }
fi
mkdir -p "$DAGSTER_HOME"
tar -C "$DAGSTER_HOME" -xf "$folder/history.tar"
chmod 700 "$DAGSTER_HOME" # whatever it was before
if [ -e "$folder/store.tar" ]; then
    mkdir -p "$store"
    tar -C "$store" -xf "$folder/store.tar"
fi
echo "restored to $DAGSTER_HOME; now put the master key there as s3logx.key (0600), or set S3LOGX_KEY" >&2
