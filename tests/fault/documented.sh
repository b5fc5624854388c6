#!/bin/sh
# The errors that public functions returned to the fault programs against those of their comments: see documented.py.
set -eu

if ! command -v python3 >/dev/null; then
	echo "SKIPPED: no python3"
	exit 77
fi
for program in $FERRY_FAULT_PROGRAMS; do
	set -- "$@" "$FERRY_BUILD/tests/fault/$program.seen"
done
exec python3 -B "$FERRY_SOURCE/tests/fault/documented.py" "$FERRY_SOURCE" "$@"
