#!/bin/sh
# The sources against the layers, and the objects of this build against the sources: see layers.py.
set -eu

if ! command -v python3 >/dev/null; then
	echo "SKIPPED: no python3"
	exit 77
fi
exec python3 "$FERRY_SOURCE/tests/build/layers.py" "$FERRY_SOURCE" "$FERRY_BUILD/src/CMakeFiles/ferry_objects.dir"
