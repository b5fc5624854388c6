#!/bin/sh
# The public functions against the tables of calls that unit tests make in every callback: see call_tables.py.
set -eu

if ! command -v python3 >/dev/null; then
	echo "SKIPPED: no python3"
	exit 77
fi
exec python3 "$FERRY_SOURCE/tests/build/call_tables.py" "$FERRY_SOURCE"
