#!/bin/sh
# Compares the types of the public functions with tests/abi/libferry.abi, by abidiff. What is read is not the library but
# a pointer to each function, compiled with the public headers alone: there, opaque structures are opaque, and the build
# of the library does not matter. build.symbols compares the functions with those of the library. A function that was
# added passes; one that was removed, and a type that has changed, fail. Without abigail-tools, and on another
# architecture than that of libferry.abi, the test is skipped.
# Usage: abi.sh [renew]   (by ctest; or by renew.sh: writes libferry.abi)
set -eu

source=$FERRY_SOURCE work=$FERRY_WORK
baseline=$source/tests/abi/libferry.abi

if ! command -v abidw >/dev/null; then
	echo "SKIPPED: no abidw and abidiff (abigail-tools)"
	exit 77
fi
rm -rf "$work"
mkdir -p "$work"
{
	echo '#include <ferry/ferry.h>'
	sed -n 's/^\t\(ferry_[a-z0-9_]*\);$/__typeof__(\1) *pointer_to_\1;/p' "$source/src/ferry.map"
} >"$work/functions.c"
# write_abi INCLUDE FILE
write_abi()
{
	# shellcheck disable=SC2046 # pkg-config prints words
	"$FERRY_CC" -g -fPIC -shared -I "$1" $(pkg-config --cflags libevent_core) "$work/functions.c" -o "$work/functions.so"
	abidw --no-show-locs --no-corpus-path --no-comp-dir-path --no-elf-needed --no-parameter-names --type-id-style hash \
		--out-file "$2" "$work/functions.so"
}
write_abi "$source/include" "$work/libferry.abi"
grep -q "<var-decl name='pointer_to_ferry_version'" "$work/libferry.abi"

if [ "${1:-}" = renew ]; then
	cp "$work/libferry.abi" "$baseline"
	exit
fi
architecture()
{
	grep -o "architecture='[^']*'" "$1"
}
if [ "$(architecture "$baseline")" != "$(architecture "$work/libferry.abi")" ]; then
	echo "SKIPPED: libferry.abi has $(architecture "$baseline")"
	exit 77
fi
status=0
abidiff --no-added-syms "$baseline" "$work/libferry.abi" || status=$?
if [ "$status" -ne 0 ]; then
	echo "The ABI has changed (abidiff's status is $status). docs/api-stability.md has what may change when, and how each"
	echo "structure grows. If the change is meant: sh tests/abi/renew.sh, and commit tests/abi/libferry.abi with it."
	exit 1
fi
# A counter less in a structure would be noticed.
mkdir "$work/changed"
cp -R "$source/include/ferry" "$work/changed"
sed -i '/uint64_t bytes_sent;/d' "$work/changed/ferry/transport.h"
write_abi "$work/changed" "$work/changed.abi"
if abidiff --no-added-syms "$work/libferry.abi" "$work/changed.abi" >/dev/null; then
	echo "abidiff does not notice that struct ferry_transport_stats has lost a member"
	exit 1
fi
echo "the ABI is that of tests/abi/libferry.abi; added functions are compatible"
