#!/bin/sh
# Each public function has every field of its comment that docs/conventions.md lists, a remedy for each of its errors,
# a task in the reference, and a piece of compiled code that calls it.
set -eu

if ! command -v python3 >/dev/null; then
	echo "SKIPPED: no python3"
	exit 77
fi
exec python3 -B "$FERRY_SOURCE/docs/site/reference.py"
