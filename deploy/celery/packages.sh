#!/usr/bin/env bash
# Installs PostgreSQL and Redis from the system's packages where they are missing. Uses sudo only if it has to and can;
# otherwise says what to install.
set -euo pipefail
. "$(dirname "$0")/../local/system.sh"

have_postgres() { compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || command -v initdb >/dev/null 2>&1; }
have_redis() { command -v redis-server >/dev/null 2>&1; }

if have_postgres && have_redis; then exit 0; fi
say "installing PostgreSQL and Redis"
apt_install postgresql redis-server || true
if ! have_postgres || ! have_redis; then
    say "PostgreSQL or Redis is missing and could not be installed. Install them as root with
'apt-get install postgresql redis-server'."
    exit 1
fi
