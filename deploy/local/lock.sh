#!/usr/bin/env bash
# Resolves the dependencies anew for every supported Python, with hashes. $1 is the folder with the commands.
set -euo pipefail
bin=$1
"$bin/pip" install --quiet uv
compile() {
    "$bin/uv" pip compile --quiet --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-annotate --no-header --no-config "$@"
}
lock() { compile pyproject.toml "$@"; }
lock --group dev --extra distributed -o requirements-dev.lock
lock -c requirements-dev.lock -o requirements.lock
lock --extra distributed -c requirements-dev.lock -o requirements-distributed.lock
lock --extra bench -c requirements-dev.lock -o requirements-bench.lock
compile --group build -c requirements-dev.lock -o requirements-build.lock
