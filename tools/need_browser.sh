#!/usr/bin/env bash
# The tests drive a real browser. Find Chromium, or install it where that can be done without asking.
set -euo pipefail

found() { [ -n "${CHROMIUM:-}" ] || command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null; }

if ! found && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing Chromium ..."
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1 || true
fi
found || {
    echo "The tests need Chromium. Install it (on Debian: sudo apt-get install chromium)," >&2
    echo "or name the program of an installed one: CHROMIUM=/path/to/chrome make test" >&2
    exit 1
}
