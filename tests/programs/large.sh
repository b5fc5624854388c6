#!/bin/sh
# A file of 1 GiB through proxy and worker, built for release: sha256, system calls, memory.
# Usage: large.sh [MIB]
set -eu

cd "$(dirname "$0")/../.."
sh tests/install-packages.sh build test
cmake --preset release >/dev/null
cmake --build --preset release --target ferry-proxy ferry-worker
FERRY_BIN=$PWD/build/release/src/programs FERRY_LARGE_MIB=${1:-1024} \
	exec /usr/bin/python3 -B tests/programs/large.py -v
