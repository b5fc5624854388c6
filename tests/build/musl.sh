#!/bin/sh
# Builds libevent, ferry and its programs with musl, shared and then static, and builds and runs a user's programs.
# Needs Debian's musl-tools and linux-libc-dev. Without SOURCE, a source tree of libevent with its configure, the
# script downloads Debian's.
# Usage: musl.sh [SOURCE [DIR]]   (DIR: build/musl)
set -eu

ferry=$(cd "$(dirname "$0")/../.." && pwd)
source=${1:-}
work=${2:-$ferry/build/musl}
mkdir -p "$work"
work=$(cd "$work" && pwd)

if [ -z "$source" ]; then
	mkdir -p "$work/lists/partial"
	echo 'deb-src http://deb.debian.org/debian bookworm main' >"$work/sources.list"
	apt_get()
	{
		apt-get -q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- \
			-o Dir::State::lists="$work/lists" "$@"
	}
	apt_get update
	(cd "$work" && apt_get source --download-only libevent)
	source=$work/libevent
	mkdir -p "$source"
	tar -x -f "$work"/libevent_*.orig.tar.gz -C "$source" --strip-components 1
fi

# musl-gcc finds musl's headers only, not the kernel's.
mkdir -p "$work/kernel"
for name in linux asm-generic; do
	ln -sfn "/usr/include/$name" "$work/kernel/$name"
done
ln -sfn "/usr/include/$(gcc -print-multiarch)/asm" "$work/kernel/asm"

for shared in ON OFF; do
	# A program whose ferry and own code have two copies of libevent does not work.
	case $shared in
	ON) libraries='--enable-shared --disable-static' ;;
	OFF) libraries='--disable-shared --enable-static' ;;
	esac
	prefix=$work/installed-$shared
	rm -rf "$prefix" "$work/libevent-$shared" "$work/ferry-$shared"
	mkdir "$work/libevent-$shared"
	(
		cd "$work/libevent-$shared"
		# shellcheck disable=SC2086 # the arguments are words
		"$source/configure" CC=musl-gcc --host="$(uname -m)-linux-musl" --prefix="$prefix" $libraries \
			--disable-openssl --disable-samples --disable-libevent-regress
		make -j 2 install
	)

	PKG_CONFIG_LIBDIR=$prefix/lib/pkgconfig
	export PKG_CONFIG_LIBDIR
	cmake -S "$ferry" -B "$work/ferry-$shared" -D CMAKE_C_COMPILER=musl-gcc -D CMAKE_C_FLAGS="-idirafter $work/kernel" \
		-D BUILD_SHARED_LIBS=$shared -D FERRY_BUILD_PROGRAMS=ON -D CMAKE_INSTALL_PREFIX="$prefix" \
		-D CMAKE_INSTALL_LIBDIR=lib -D CMAKE_INSTALL_RPATH="$prefix/lib"
	cmake --build "$work/ferry-$shared" --parallel 2
	cmake --install "$work/ferry-$shared"
	for program in consumer consumer_test; do
		# shellcheck disable=SC2046 # the flags are words
		musl-gcc "$ferry/tests/consumer/$program.c" -o "$prefix/$program" -Wl,-rpath,"$prefix/lib" \
			$(pkg-config --static --cflags --libs ferry-testing)
		"$prefix/$program"
	done
	"$prefix/bin/ferry-copy" --version
done
echo "musl.sh: ferry works with musl"
