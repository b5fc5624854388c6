#!/bin/sh
# A demo of the programs for a browser: builds them, starts a ferry-proxy on 127.0.0.1, which starts its
# ferry-workers, and runs until Ctrl-C.
set -eu

usage='usage: demo.sh [--port N] [--root DIR] [--workers N]
  --port N     the TCP port on 127.0.0.1; 0 picks a free one (8080)
  --root DIR   what to serve (a page about the way of its own request, and the documentation)
  --workers N  how many worker processes (2)'

fail()
{
	echo "demo.sh: $*" >&2
	exit 1
}

source=$(cd "$(dirname "$0")/.." && pwd)
port=8080
root=
count=2
while [ $# -gt 0 ]; do
	case $1 in
	--help)
		echo "$usage"
		exit 0
		;;
	--port | --root | --workers) ;;
	*)
		echo "$usage" >&2
		exit 2
		;;
	esac
	[ $# -ge 2 ] || fail "$1 needs a value"
	case $1 in
	--port) port=$2 ;;
	--root) root=$2 ;;
	--workers) count=$2 ;;
	esac
	shift 2
done
case $count in
'' | *[!0-9]* | 0*) fail "--workers takes a number from 1 on, not '$count'" ;;
esac
case $port in
'' | *[!0-9]*) fail "--port takes a number, not '$port'" ;;
esac
if [ -n "$root" ]; then
	[ -d "$root" ] || fail "--root: '$root' is not a directory"
	root=$(cd "$root" && pwd)
fi

status=0
dir=
children=

# Ends the children of this script, by their pids, and waits for each.
stop()
{
	trap '' INT TERM HUP
	for pid in $children; do
		kill "$pid" 2>/dev/null || true
	done
	tries=0
	for pid in $children; do
		while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 50 ]; do
			sleep 0.1
			tries=$((tries + 1))
		done
		kill -9 "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	if [ -n "$dir" ]; then
		rm -rf "$dir"
	fi
}
trap 'status=$?; stop; exit "$status"' EXIT
trap 'exit 0' INT TERM
trap 'exit 129' HUP

dir=$(mktemp -d "${TMPDIR:-/tmp}/ferry-demo.XXXXXX")

# The proxy restarts its workers; the demo ends only if the proxy has ended.
all_alive()
{
	for pid in $children; do
		kill -0 "$pid" 2>/dev/null || return 1
	done
}

check_children()
{
	if ! all_alive; then
		cat "$dir"/*.log >&2
		fail 'the proxy has ended'
	fi
}

# wait_for COMMAND…: waits until it succeeds; fails if a child ends, or after half a minute
wait_for()
{
	tries=0
	until "$@"; do
		check_children
		[ "$tries" -lt 300 ] || fail "it does not start: waited for '$*'"
		tries=$((tries + 1))
		sleep 0.1
	done
}

listens()
{
	address=$(sed -n 's/^listening //p' "$dir/proxy.log")
	[ -n "$address" ]
}

workers_are_ready()
{
	[ "$(grep -c ' is ready$' "$dir/proxy.log")" -ge "$count" ]
}

# Sends a request with bash, which every Debian has, unlike a web client.
answers()
{
	line=$(bash -c 'exec 3<>"/dev/tcp/${0%:*}/${0##*:}" && printf "HEAD / HTTP/1.0\r\n\r\n" >&3 &&
		IFS= read -r -t 10 line <&3 && printf "%s" "$line"' "$address" 2>/dev/null) || return 1
	case $line in
	'HTTP/1.1 503 '*) return 1 ;;
	'HTTP/1.1 '*) ;;
	*) return 1 ;;
	esac
}

build()
{
	cd "$source" &&
		cmake -B build/demo -D FERRY_BUILD_PROGRAMS=ON &&
		cmake --build build/demo --parallel "$(nproc)" --target ferry-proxy ferry-worker
}

sh "$source/tests/install-packages.sh" build site || fail 'what is needed to build is not there'
echo 'building'
if ! (build) >"$dir/build.log" 2>&1; then
	cat "$dir/build.log" >&2
	fail 'the build failed'
fi
rm "$dir/build.log"
bin=$source/build/demo/src/programs

: >"$dir/proxy.log"
own=
if [ -z "$root" ]; then
	own=yes
	root=$dir/site
	mkdir "$root"
fi
# --keep 0: a connection between two requests belongs to no worker, and survives each.
"$bin/ferry-proxy" --root "$root" --workers "$count" --port "$port" --admin 127.0.0.1:0 --demo --keep 0 \
	--control "$dir/control.sock" -- --fill index.html --fill way.json >"$dir/proxy.log" 2>&1 &
children=$!
wait_for listens
admin=$(sed -n 's/^admin //p' "$dir/proxy.log")
if [ -n "$own" ]; then
	python3 "$source/docs/site/build.py" --demo "$admin" "$root" || fail 'the pages cannot be made'
fi
wait_for workers_are_ready
wait_for answers
echo "status http://$admin/-/status"
echo "ready http://$address/"

while all_alive; do
	sleep 0.2
done
check_children
