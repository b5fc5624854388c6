#!/bin/sh
# A file of 1 GiB through proxy and worker, built for release: sha256, system calls, memory.
# Usage: large.sh [MIB]
set -eu

cd "$(dirname "$0")/../.."
sh tests/install-packages.sh build test
cmake --preset release >/dev/null
cmake --build --preset release --target handoff_proxy handoff_worker
FERRY_BIN=$PWD/build/release/examples FERRY_LARGE_MIB=${1:-1024} \
	exec /usr/bin/python3 -B tests/e2e/large.py -v
