#!/bin/sh
# Runs a program that uses each part of the library once where something is missing or scarce: environment.sh NAME PROGRAM
# The names are below. Mounts are those of a namespace that ends with the test. Exit status 77: it cannot be made here.
set -eu

name=$1
program=$2

skip() {
	echo "SKIPPED: $1"
	exit 77
}

# As root of a mount namespace of its own. FERRY_INSIDE: the second call.
if [ -z "${FERRY_INSIDE-}" ]; then
	FERRY_FOLDER=$(mktemp -d)
	trap 'rm -rf "$FERRY_FOLDER"' EXIT
	export FERRY_FOLDER FERRY_INSIDE=1
	case $name in
	no_proc | no_shm | read_only | full_disk | full_inodes)
		user=
		[ "$(id -u)" = 0 ] || user=--map-root-user
		# shellcheck disable=SC2086 # no word, or one
		unshare $user --mount true 2>/dev/null || skip "no mount namespaces"
		# shellcheck disable=SC2086
		unshare $user --mount sh "$0" "$@" || exit $?
		;;
	*) sh "$0" "$@" || exit $? ;;
	esac
	exit 0
fi

folder=$FERRY_FOLDER
case $name in
as_it_is) "$program" "$folder" ;;
files_*) "$program" --files "${name#files_}" "$folder" ;;
heap_*) "$program" --heap "${name#heap_}" "$folder" ;;
no_proc)
	mount -t tmpfs none /proc || skip "/proc cannot be hidden"
	"$program" "$folder"
	;;
no_shm)
	[ -d /dev/shm ] || skip "there is no /dev/shm"
	mount -t tmpfs -o ro,size=4k none /dev/shm || skip "/dev/shm cannot be hidden"
	"$program" "$folder"
	;;
read_only)
	mount -t tmpfs none "$folder"
	mount -o remount,bind,ro / || skip "/ cannot be read-only"
	! touch /ferry-read-only 2>/dev/null || skip "/ is not read-only"
	"$program" "$folder"
	;;
umask)
	umask 0777
	"$program" "$folder"
	;;
empty) env -i "$program" "$folder" ;;
full_disk)
	mount -t tmpfs -o size=16k none "$folder"
	dd if=/dev/zero of="$folder/filler" bs=4k 2>/dev/null || true
	"$program" --scarce "$folder"
	rm "$folder/filler"
	"$program" "$folder"
	;;
full_inodes)
	mount -t tmpfs -o nr_inodes=4 none "$folder"
	number=0
	while touch "$folder/filler$number" 2>/dev/null; do
		number=$((number + 1))
	done
	"$program" --scarce "$folder"
	rm "$folder"/filler*
	"$program" "$folder"
	;;
memory_cgroup)
	group=/sys/fs/cgroup/memory/ferry-test-$$
	limit=memory.limit_in_bytes
	if ! mkdir "$group" 2>/dev/null; then
		group=/sys/fs/cgroup/ferry-test-$$
		limit=memory.max
		mkdir "$group" 2>/dev/null || skip "no memory cgroup can be made"
	fi
	if ! echo 24M 2>/dev/null >"$group/$limit"; then
		rmdir "$group"
		skip "no memory cgroup can be limited"
	fi
	status=0
	sh -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' sh "$group" "$program" "$folder" || status=$?
	rmdir "$group"
	exit "$status"
	;;
*)
	echo "unknown: $name" >&2
	exit 2
	;;
esac
