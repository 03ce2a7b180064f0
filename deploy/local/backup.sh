#!/usr/bin/env bash
# A backup of one machine into a new folder: Dagster's history, and the store where that is a folder too. The master key is
# not in it: it is kept apart; nor are logs that lie below DAGSTER_HOME. Not while the UI or a run is at work.
#
#   DAGSTER_HOME=… [S3LOGX_STORE=…] [S3LOGX_LOGS=…] deploy/local/backup.sh FOLDER
set -euo pipefail
umask 077
: "${DAGSTER_HOME:?is not set}"
folder=${1:?the folder to make}
store=${S3LOGX_STORE:-$DAGSTER_HOME/s3logx}
home=$(cd "$DAGSTER_HOME" && pwd -P)
[ ! -d "$store" ] || store=$(cd "$store" && pwd -P)
case $home/ in "$store"/*)
    echo "$store holds DAGSTER_HOME, and so the master key: keep them apart, and back up then" >&2
    exit 1
    ;;
esac
# The key under the names that it has while it is written, too: a process that was killed leaves it there.
left_out=('./s3logx.key*' './.*s3logx.key*' ./s3logx ./scratch ./cache ./.ui.lock)
for place in "$store" "${S3LOGX_LOGS:-}"; do
    [ -d "$place" ] || continue # in a bucket, or not at all
    place=$(cd "$place" && pwd -P)
    case $place in "$home"/*) left_out+=("./${place#"$home"/}") ;; esac
done
mkdir "$folder"
# As ui.sh does, so that neither begins while the other is at work.
exec 9>"$DAGSTER_HOME/.ui.lock"
flock -n 9 || { rmdir "$folder"; echo "the UI is at work over $DAGSTER_HOME; stop it first" >&2; exit 1; }
tar -C "$home" "${left_out[@]/#/--exclude=}" -cf "$folder/history.tar" .
case $store in
s3://*) echo "the store is in a bucket; copy that with its own tools" >&2 ;;
*) tar -C "$store" -cf "$folder/store.tar" . ;;
esac
# Last, so that a backup that was cut short cannot be taken for one.
(cd "$folder" && sha256sum ./*.tar >SHA256SUMS)
echo "backed up to $folder, without the master key: keep that apart" >&2
