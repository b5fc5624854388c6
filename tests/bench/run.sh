#!/bin/sh
# Measures ferry beside its peers: installs what is missing (Debian 12), builds the preset release, and runs the cases of
# run.py. Results: build/bench/results.json and plots beside it.
# Usage: run.sh [--quick] [--rounds N] [--case NAME]... [--list]
set -eu
cd "$(dirname "$0")/../.."
sh tests/install-packages.sh build test
sh tests/install-packages.sh bench || echo "$0: peers that are not installed will be missing" >&2
{
	cmake --preset release
	cmake --build --preset release --target bench
} >&2
exec python3 -B tests/bench/run.py --bench build/release/tests/bench --programs build/release/src/programs \
	--out build/bench "$@"
