#!/bin/sh
# Everything at once, for hours; tests/README.md explains the output. Beside it, tests/chaos releases the proxy and its
# workers again and again. Builds for release, unless FERRY_SOAK, FERRY_BIN and FERRY_CHAOS_LOAD are set.
# Usage: run.sh [--hours N | --minutes N | --steps N] [--seed N]
#        --steps: so many steps, and no releases, to repeat a failure
set -eu

usage()
{
	echo "usage: sh tests/soak/run.sh [--hours N | --minutes N | --steps N] [--seed N]" >&2
	exit 2
}

minutes=2
steps=
seed=$(date +%s)
while [ $# -gt 1 ]; do
	case $1 in
	--hours) minutes=$(($2 * 60)) ;;
	--minutes) minutes=$2 ;;
	--steps) steps=$2 ;;
	--seed) seed=$2 ;;
	*) usage ;;
	esac
	shift 2
done
[ $# -eq 0 ] || usage

cd "$(dirname "$0")/../.."
if [ -z "${FERRY_SOAK:-}" ]; then
	sh tests/install-packages.sh build test
	cmake --preset release >/dev/null
	cmake --build --preset release --target ferry-proxy ferry-worker chaos_load soak.short
	FERRY_SOAK=$PWD/build/release/tests/soak/soak.short
	FERRY_BIN=$PWD/build/release/src/programs
	FERRY_CHAOS_LOAD=$PWD/build/release/tests/chaos/chaos_load
	export FERRY_BIN FERRY_CHAOS_LOAD
fi

export FERRY_TEST_SEED="$seed"
if [ -n "$steps" ]; then
	FERRY_SOAK_STEPS=$steps CK_TIMEOUT_MULTIPLIER=1000 exec "$FERRY_SOAK"
fi

work=$(mktemp -d)
chaos=
clean()
{
	rm -f "$work/running"
	[ -z "$chaos" ] || wait "$chaos" || :
	rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

# Every second run kills workers, too. Ends with its first failure, which $work/failed has.
release_again_and_again()
{
	n=0
	while [ -e "$work/running" ]; do
		n=$((n + 1))
		set -- --releases 4 --seed $((seed + n))
		[ $((n % 2)) -eq 1 ] || set -- "$@" --kill-every 0.2
		if ! /usr/bin/python3 -B tests/chaos/chaos.py "$@" >"$work/chaos" 2>&1; then
			{ cat "$work/chaos" && echo "to repeat: sh tests/chaos/run.sh $*"; } >"$work/failed"
			return
		fi
		sed -n 's/^releases //p' "$work/chaos" >>"$work/releases"
	done
}

: >"$work/running"
: >"$work/releases"
release_again_and_again &
chaos=$!
# The summary is printed at the end, with the releases. Without a summary the soak has failed. A process of check's for
# the test could not report a duration above 35 minutes, which does not fit into its message.
{ FERRY_SOAK_SECONDS=$((minutes * 60)) CK_FORK=no "$FERRY_SOAK" 2>&1 || :; } |
	sed -u -e "/^soak: /{w $work/summary" -e 'd}'
rm -f "$work/running"
wait "$chaos"
chaos=
releases=$(awk '{ sum += $1 } END { print sum + 0 }' "$work/releases")
failures=0
if [ ! -s "$work/summary" ]; then
	failures=1
	echo "soak: failed; seed $seed" >"$work/summary"
fi
if [ -e "$work/failed" ]; then
	failures=$((failures + 1))
	cat "$work/failed"
fi
sed "s/, rss/, releases $releases, rss/; s/, 0 failures/, $failures failures/" "$work/summary"
[ "$failures" -eq 0 ]
