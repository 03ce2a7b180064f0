#!/usr/bin/env bash
# PostgreSQL and Redis of this platform's own on the head machine, their data, configuration and passwords below a folder.
#
#   services.sh start FOLDER    makes what is missing, starts both, writes FOLDER/services.env for `set -a; . …`
#   services.sh stop FOLDER
#   services.sh alive FOLDER    whether both still run
#   services.sh backup FOLDER FILE     Dagster's history as a dump of PostgreSQL, 0600
#   services.sh restore FOLDER FILE    puts it into a database that has no history yet
#
# They listen on S3LOGX_LISTEN, by default 127.0.0.1; with workers elsewhere that is the head machine's address in a private
# network, and S3LOGX_WORKERS_NETWORK its range, such as 198.51.100.0/24. Ports: S3LOGX_PG_PORT, S3LOGX_REDIS_PORT.
# Root starts each as the user that its package made.
set -euo pipefail
umask 077
. "$(dirname "$0")/../local/system.sh"
action=${1:-} folder=${2:-}
[ -n "$folder" ] || { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
listen=${S3LOGX_LISTEN:-127.0.0.1}
env_file=$folder/services.env

# Of the version that the data are of: a newer one, which an upgrade of the system brings beside it, cannot read them.
version=$(cat "$folder/postgres/PG_VERSION" 2>/dev/null) || version='*'
programs=$(compgen -G "/usr/lib/postgresql/$version/bin/initdb" | sort -V | tail -1) || programs=$(command -v initdb) || programs=
programs=$(dirname "$programs")

# as USER COMMAND…: as that user if we are root, else as we are.
as() {
    local user=$1
    shift
    if [ "$(id -u)" = 0 ]; then (cd / && runuser -u "$user" -- "$@"); else "$@"; fi
}

own() { if [ "$(id -u)" = 0 ]; then chown -R "$1:" "$2"; fi; }

secret() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

# What PostgreSQL keeps of a password, made here with one round where it would make 4,096. The rounds slow down who guesses
# a word; nobody guesses 24 random bytes, and Dagster opens a connection for nearly every event, 5 ms of processor time each.
verifier() {
    python3 -c '
import base64, hashlib, hmac, os, sys

def text(value): return base64.b64encode(value).decode()

salt = os.urandom(16)
salted = hashlib.pbkdf2_hmac("sha256", sys.stdin.buffer.read(), salt, 1)
client, server = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
print(f"SCRAM-SHA-256$1:{text(salt)}${text(hashlib.sha256(client).digest())}:{text(server)}", end="")'
}

make_postgres() {
    local data=$folder/postgres
    mkdir -p "$data"
    printf '%s' "$S3LOGX_PG_PASSWORD" | verifier >"$folder/.password"
    own postgres "$data"
    own postgres "$folder/.password"
    as postgres "$programs/initdb" -D "$data" -U "$S3LOGX_PG_USER" --pwfile="$folder/.password" -A scram-sha-256 \
        -E UTF8 --locale=C.UTF-8 >/dev/null
    rm "$folder/.password"
    cat >>"$data/postgresql.conf" <<CONF
listen_addresses = '$listen'
port = $S3LOGX_PG_PORT
unix_socket_directories = ''
max_connections = 200
password_encryption = scram-sha-256
CONF
    [ -z "${S3LOGX_WORKERS_NETWORK:-}" ] || echo "host all all $S3LOGX_WORKERS_NETWORK scram-sha-256" >>"$data/pg_hba.conf"
}

make_redis() {
    mkdir -p "$folder/redis"
    cat >"$folder/redis/redis.conf" <<CONF
bind $listen
port $S3LOGX_REDIS_PORT
requirepass $S3LOGX_REDIS_PASSWORD
daemonize yes
dir $folder/redis
pidfile $folder/redis/redis.pid
logfile $folder/redis/redis.log
# What is queued outlives a restart; what does not fit is refused, not thrown away.
appendonly yes
maxmemory-policy noeviction
CONF
    own redis "$folder/redis"
}

start() {
    # Nothing but zeros, dots, colons and stars is every address that there is.
    case $listen in *[!0.:*]*) ;; *) say "S3LOGX_LISTEN=$listen would let everybody in; name one address"; exit 2 ;; esac
    [ -x "$programs/pg_ctl" ] || { say "PostgreSQL's server (version $version) is missing; deploy/celery/packages.sh installs one"; exit 1; }
    if [ ! -e "$env_file" ]; then
        S3LOGX_PG_PASSWORD=$(secret) S3LOGX_REDIS_PASSWORD=$(secret) S3LOGX_PG_USER=s3logx
        S3LOGX_PG_PORT=${S3LOGX_PG_PORT:-15432} S3LOGX_REDIS_PORT=${S3LOGX_REDIS_PORT:-16379}
        # The users of the packages must find their folders.
        chmod 711 "$folder"
        make_postgres
        make_redis
        # Last, since from now on all is made.
        cat >"$env_file.new" <<CONF
S3LOGX_PG_HOST=$listen
S3LOGX_PG_PORT=$S3LOGX_PG_PORT
S3LOGX_PG_DATABASE=dagster
S3LOGX_PG_USER=$S3LOGX_PG_USER
S3LOGX_PG_PASSWORD=$S3LOGX_PG_PASSWORD
S3LOGX_BROKER_URL=redis://:$S3LOGX_REDIS_PASSWORD@$listen:$S3LOGX_REDIS_PORT/0
S3LOGX_RESULT_URL=redis://:$S3LOGX_REDIS_PASSWORD@$listen:$S3LOGX_REDIS_PORT/1
CONF
        mv "$env_file.new" "$env_file"
    fi
    load
    postgres_runs ||
        as postgres "$programs/pg_ctl" -D "$folder/postgres" -w -t 600 -l "$folder/postgres/server.log" start >/dev/null
    psql -d postgres -tAc "select 1 from pg_database where datname = '$PGDATABASE'" | grep -q 1 ||
        createdb "$PGDATABASE"
    [ -n "$(redis_answer)" ] || as redis redis-server "$folder/redis/redis.conf"
    wait_for_redis || { say "Redis did not start; see $folder/redis/redis.log"; exit 1; }
    say "PostgreSQL on $listen:$PGPORT and Redis on $listen:$redis_port; their passwords are in $env_file"
}

load() {
    [ -e "$env_file" ] || { say "$env_file is not there; 'services.sh start $folder' makes it"; exit 1; }
    set -a
    . "$env_file"
    set +a
    export PGHOST=$S3LOGX_PG_HOST PGPORT=$S3LOGX_PG_PORT PGUSER=$S3LOGX_PG_USER PGPASSWORD=$S3LOGX_PG_PASSWORD
    export PGDATABASE=$S3LOGX_PG_DATABASE
    redis_port=$(sed -n 's/^port //p' "$folder/redis/redis.conf")
    REDISCLI_AUTH=$(sed -n 's/^requirepass //p' "$folder/redis/redis.conf")
    export REDISCLI_AUTH
}

postgres_runs() { as postgres "$programs/pg_ctl" -D "$folder/postgres" status >/dev/null; }

redis_answer() { redis-cli -h "$S3LOGX_PG_HOST" -p "$redis_port" ping 2>/dev/null || true; }

redis_runs() { [ "$(redis_answer)" = PONG ]; }

# For ten seconds, but for as long as it says that it reads its queue.
wait_for_redis() {
    local left=100 answer
    while [ "$left" -gt 0 ]; do
        answer=$(redis_answer)
        case $answer in
        PONG) return 0 ;;
        LOADING*) ;;
        *) left=$((left - 1)) ;;
        esac
        sleep 0.1
    done
    return 1
}

stop() {
    load
    if redis_runs; then redis-cli -h "$S3LOGX_PG_HOST" -p "$redis_port" shutdown save >/dev/null 2>&1 || true; fi
    if postgres_runs; then
        as postgres "$programs/pg_ctl" -D "$folder/postgres" -w -m fast stop >/dev/null
    fi
}

# One that is at work, or reads what it had written, is alive: PostgreSQL by its process, and Redis, which answers in any state,
# by an answer.
alive() {
    load
    postgres_runs && [ -n "$(redis_answer)" ]
}

case $action in
start) start ;;
stop) stop ;;
alive) alive ;;
backup)
    load
    pg_dump --format=custom --no-owner --file="$3.new"
    mv "$3.new" "$3"
    ;;
restore)
    load
    tables=$(psql -tAc "select count(*) from information_schema.tables where table_schema = 'public'")
    [ "$tables" = 0 ] || { say "the database has $tables tables already; restore into a new one"; exit 1; }
    pg_restore --no-owner --exit-on-error --dbname="$PGDATABASE" "$3"
    ;;
*) say "services.sh start, stop, alive, backup or restore"; exit 2 ;;
esac
