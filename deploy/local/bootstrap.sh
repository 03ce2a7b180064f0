#!/usr/bin/env bash
# Makes the virtual environment named by $1 from the locked packages, and installs gawk where it is missing.
# Uses sudo only if it has to and can; otherwise says what to install.
set -euo pipefail
venv=$1

. "$(dirname "$0")/system.sh"

find_python() {
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

if ! command -v gawk >/dev/null 2>&1; then
    say "installing gawk"
    apt_install gawk || { command -v brew >/dev/null 2>&1 && brew install gawk >/dev/null; } || {
        say "gawk is missing and could not be installed. Install it as root with 'apt-get install gawk', or with 'brew install gawk'."
        exit 1
    }
fi

python=$(find_python) || {
    say "no Python 3.11, 3.12 or 3.13 found. Install one, or name it: make setup PYTHON=/path/to/python3.12"
    exit 1
}
if [ ! -x "$venv/bin/python" ]; then
    say "making the environment with $("$python" --version)"
    if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
        # Debian ships venv apart from Python.
        rm -rf "$venv"
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        apt_install "python$version-venv" || apt_install python3-venv || {
            say "Python's venv module is missing. Install it as root with 'apt-get install python$version-venv'."
            exit 1
        }
        "$python" -m venv "$venv"
    fi
fi
say "installing the locked packages"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
