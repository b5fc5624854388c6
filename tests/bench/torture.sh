#!/bin/sh
# What clients notice while workers are killed and servers released: torture.py has the rules.
# Usage: torture.sh [--quick] [--server NAME]...
set -eu
cd "$(dirname "$0")/../.."
sh tests/install-packages.sh build test
sh tests/install-packages.sh bench || echo "$0: servers that are not installed will be missing" >&2
{
	cmake --preset release
	cmake --build --preset release --target bench
} >&2
exec python3 -B tests/bench/torture.py --bench build/release/tests/bench --programs build/release/src/programs \
	--out build/bench "$@"
