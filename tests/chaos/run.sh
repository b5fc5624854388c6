#!/bin/sh
# Many clients, while workers are killed or proxy and workers are released; tests/README.md explains the output. Builds
# for release, unless FERRY_BIN and FERRY_CHAOS_LOAD are set.
# Usage: run.sh [--seconds N] [--seed N] [--upgrades N | --releases N [--kill-every SECONDS]]
set -eu

cd "$(dirname "$0")/../.."
if [ -z "${FERRY_BIN:-}" ]; then
	sh tests/install-packages.sh build test
	cmake --preset release >/dev/null
	cmake --build --preset release --target ferry-proxy ferry-worker chaos_load
	FERRY_BIN=$PWD/build/release/src/programs
	FERRY_CHAOS_LOAD=$PWD/build/release/tests/chaos/chaos_load
	export FERRY_BIN FERRY_CHAOS_LOAD
fi
exec /usr/bin/python3 -B tests/chaos/chaos.py "$@"
