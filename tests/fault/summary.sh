#!/bin/sh
# What all fault programs have done together, from the .seen files that they leave in the build folder (record.h). Fails
# if a call that functions.list leaves to them was never made by a scenario. Writes the errors that public functions
# returned to the file "errors" beside them, as lines "function error".
set -eu

folder=$FERRY_BUILD/tests/fault list=$FERRY_SOURCE/tests/fault/functions.list
status=0

for program in $FERRY_FAULT_PROGRAMS; do
	if [ ! -s "$folder/$program.seen" ]; then
		echo "$program has left no .seen file"
		exit 1
	fi
	set -- "$@" "$folder/$program.seen"
done

sed -n 's/^error //p' "$@" | LC_ALL=C sort -u >"$folder/errors"
# Functions that are one kind of call there.
sed -n 's/^call //p' "$@" |
	sed 's/^cachestat$\|^close_range$\|^pidfd_.*/syscall/; s/^malloc$/&\naligned_alloc\ncalloc\nrealloc/' |
	sort -u >"$folder/calls"

sed 's/#.*//' "$list" | while read -r name kind; do
	case $kind in
	fault)
		grep -qx -- "$name" "$folder/calls" || echo "$name: in functions.list, and no scenario makes this call"
		;;
	esac
done >"$folder/not_made"
if [ -s "$folder/not_made" ]; then
	cat "$folder/not_made"
	status=1
fi

awk '
	$1 == "scenario" { scenarios++; calls += $2; runs += $3; pairs += $4; short += $4 > 0 }
	$1 == "part" { runs += $2 }
	$1 == "failure" { failures++ }
	END {
		printf "%d scenarios with two faults at once, %d runs\n", short, pairs
		printf "fault: %d scenarios, %d calls, %d runs, %d failures\n", scenarios, calls, runs, failures
		exit scenarios < 40 || short < 20 || failures > 0
	}' "$@" || status=1
exit $status
