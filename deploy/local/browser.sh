#!/usr/bin/env bash
# Installs Chromium where no browser is that the tests can drive, and fonts for its pictures. Uses sudo only if it has to
# and can; otherwise says what to install.
set -euo pipefail
. "$(dirname "$0")/system.sh"

if [ -n "${CHROMIUM:-}" ]; then exit 0; fi
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
say "installing chromium"
apt_install chromium fonts-dejavu-core fonts-liberation || {
    say "Chromium is missing and could not be installed. Install it as root with 'apt-get install chromium', or name the
program: make test CHROMIUM=/path/to/chromium"
    exit 1
}
