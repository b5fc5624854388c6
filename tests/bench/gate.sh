#!/bin/sh
# Counts the instructions and system calls of single operations in the preset release, and compares them with
# instructions.json and system_calls.json; gate.py has the rules.
# Usage: gate.sh [instructions|system_calls [--record]]
set -eu
cd "$(dirname "$0")/../.."
sh tests/install-packages.sh build test lint
{
	cmake --preset release
	cmake --build --preset release --target bench
} >&2
if [ $# -eq 0 ]; then
	exec ctest --preset release -L gate -V
fi
exec python3 -B tests/bench/gate.py "$@" --bench build/release/tests/bench --programs build/release/src/programs \
	--compiler "$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' build/release/CMakeCache.txt)"
