#!/bin/sh
# Hostile peers attack a server, each kind for a minute; docs/security.md has the table.
# Usage: run.sh [--seconds N] [--attack NAME] [--list]
set -eu
cd "$(dirname "$0")/../.."
sh tests/install-packages.sh build test
cmake --preset release >/dev/null
cmake --build --preset release --target hostile_server >&2
exec /usr/bin/python3 -B tests/hostile/hostile.py --server build/release/tests/hostile/hostile_server "$@"
