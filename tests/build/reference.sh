#!/bin/sh
# Each public function has every field of its comment that docs/conventions.md lists, a remedy for each of its errors,
# and a task in the reference.
set -eu

if ! command -v python3 >/dev/null; then
	echo "SKIPPED: no python3"
	exit 77
fi
exec python3 -B "$FERRY_SOURCE/docs/site/reference.py"
