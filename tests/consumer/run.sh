#!/bin/sh
# Builds and runs a user's programs, in C and in C++, in one of the ways in which users find ferry.
# Usage: run.sh find_package|pkg_config|add_subdirectory
set -eu

way=$1
here=$FERRY_SOURCE/tests/consumer work=$FERRY_WORK

if [ -z "$FERRY_CXX" ]; then
	echo "SKIPPED: no C++ compiler"
	exit 77
fi
rm -rf "$work"
mkdir -p "$work"

# configure_and_build SOURCE BUILD [ARGUMENT…]
configure_and_build()
{
	source=$1 build=$2
	shift 2
	# shellcheck disable=SC2153 # both come from the environment
	"$CMAKE" -S "$source" -B "$build" -DCMAKE_BUILD_TYPE=Debug \
		-DCMAKE_C_COMPILER="$FERRY_CC" -DCMAKE_CXX_COMPILER="$FERRY_CXX" \
		-DCMAKE_C_FLAGS="$FERRY_FLAGS" -DCMAKE_CXX_FLAGS="$FERRY_FLAGS" \
		-DCMAKE_EXE_LINKER_FLAGS="$FERRY_FLAGS" "$@"
	"$CMAKE" --build "$build" --parallel 2
}

case $way in
find_package)
	configure_and_build "$here/find_package" "$work/build" -DCMAKE_PREFIX_PATH="$FERRY_PREFIX"
	"$work/build/consumer_c"
	"$work/build/consumer_cxx"
	"$work/build/consumer_test"
	"$work/build/consumer_names"
	"$work/build/again/consumer_again"
	;;
pkg_config)
	pc=$(find "$FERRY_PREFIX" -name ferry.pc)
	PKG_CONFIG_PATH=${pc%/*}
	LD_LIBRARY_PATH=$(dirname "${pc%/*}")
	export PKG_CONFIG_PATH LD_LIBRARY_PATH
	# eval: pkg-config quotes a path that has a space for the shell.
	found=$(pkg-config --cflags --libs ferry)
	eval "\"\$FERRY_CC\" \$FERRY_FLAGS \"\$here/consumer.c\" -o \"\$work/consumer_c\" $found"
	eval "\"\$FERRY_CXX\" \$FERRY_FLAGS \"\$here/consumer.cpp\" -o \"\$work/consumer_cxx\" $found"
	found=$(pkg-config --cflags --libs ferry-testing)
	eval "\"\$FERRY_CC\" \$FERRY_FLAGS \"\$here/consumer_test.c\" -o \"\$work/consumer_test\" $found"
	"$work/consumer_c"
	"$work/consumer_cxx"
	"$work/consumer_test"
	;;
add_subdirectory)
	# ferry is a static library here, which is also installed and found again. Users' generator is that of make.
	configure_and_build "$here/add_subdirectory" "$work/build" -DFERRY_SOURCE="$FERRY_SOURCE" \
		-G "Unix Makefiles" -DFERRY_INSTALL=ON -DCMAKE_INSTALL_PREFIX="$work/installed"
	"$work/build/consumer_c"
	"$work/build/consumer_cxx"
	"$work/build/consumer_test"
	"$work/build/consumer_names"
	"$CMAKE" --install "$work/build"
	configure_and_build "$here/find_package" "$work/again" -DCMAKE_PREFIX_PATH="$work/installed"
	"$work/again/consumer_c"
	"$work/again/consumer_names"
	;;
*)
	exit 2
	;;
esac
