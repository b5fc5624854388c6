#!/bin/sh
# Builds libevent 2.2 from SOURCE, a source tree of it, and ferry with that libevent; then runs the unit tests and the
# battery. Needs what tests/install-packages.sh installs for the tests.
# Usage: libevent22.sh SOURCE [DIR [ARGUMENT...]]   (DIR: build/libevent22; the arguments are for ferry's cmake)
set -eu

ferry=$(cd "$(dirname "$0")/../.." && pwd)
source=$1
work=${2:-$ferry/build/libevent22}
if [ $# -gt 2 ]; then
	shift 2
else
	set --
fi
mkdir -p "$work"
work=$(cd "$work" && pwd)

cmake -G Ninja -S "$source" -B "$work/libevent" -D CMAKE_BUILD_TYPE=RelWithDebInfo -D EVENT__LIBRARY_TYPE=SHARED \
	-D EVENT__DISABLE_TESTS=ON -D EVENT__DISABLE_SAMPLES=ON -D EVENT__DISABLE_BENCHMARK=ON \
	-D EVENT__DISABLE_MBEDTLS=ON -D CMAKE_INSTALL_PREFIX="$work/installed"
cmake --build "$work/libevent"
cmake --install "$work/libevent"

cmake -G Ninja -S "$ferry" -B "$work/ferry" -D CMAKE_BUILD_TYPE=Debug -D CMAKE_COMPILE_WARNING_AS_ERROR=ON \
	-D FERRY_BUILD_TESTS=ON -D FERRY_BUILD_PROGRAMS=ON -D FERRY_BUILD_EXAMPLES=ON \
	-D CMAKE_PREFIX_PATH="$work/installed" "$@"
cmake --build "$work/ferry" --target ferry
if ! ldd "$work/ferry/src/libferry.so" | grep -q 'libevent_core-2[.]2'; then
	echo "$0: ferry is not linked with libevent 2.2" >&2
	exit 1
fi
cmake --build "$work/ferry"
ctest --test-dir "$work/ferry" -L 'unit|battery' --output-on-failure
