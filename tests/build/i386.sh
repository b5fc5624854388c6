#!/bin/sh
# Builds ferry, its programs and its tests for i386, with warnings as errors, in a bare Debian 12 as bare_system.sh makes
# it, and runs the unit tests and the battery there. Needs root, a network and debootstrap. If the kernel runs no 32-bit
# programs, qemu's user emulation does.
# Usage: i386.sh [DIR]   (DIR: build/bare/bookworm)
set -eu

source=$(cd "$(dirname "$0")/../.." && pwd)
root=${1:-$source/build/bare/bookworm}

if ! [ -e "$root/etc/os-release" ]; then
	mkdir -p "$root"
	debootstrap --variant=minbase bookworm "$root" http://deb.debian.org/debian
fi
cp /etc/resolv.conf "$root/etc/"
mkdir -p "$root/ferry32"
(cd "$source" && tar -c --exclude ./build --exclude ./.git .) | tar -x -C "$root/ferry32"

# The tests look at /proc, and take terminals from /dev. The mounts end with the command.
# shellcheck disable=SC2016 # the shell of unshare expands
in_root()
{
	unshare --mount sh -euc 'mount -t proc proc "$1/proc"
		mount --rbind /dev "$1/dev"
		exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C sh -euc "$2"
		' sh "$root" "$1"
}

in_root 'dpkg --add-architecture i386; apt-get -q update
	apt-get -q install -y --no-install-recommends cmake ninja-build pkg-config python3 gcc-multilib libc6:i386 \
		libevent-dev:i386 check:i386 qemu-user-static'
if in_root '/lib/ld-linux.so.2 --version' >/dev/null 2>&1; then
	emulator=
else
	emulator=/usr/bin/qemu-i386-static
fi
in_root "cd /ferry32
	export PKG_CONFIG_LIBDIR=/usr/lib/i386-linux-gnu/pkgconfig:/usr/share/pkgconfig
	cmake -G Ninja -B build -D CMAKE_BUILD_TYPE=Debug -D CMAKE_C_FLAGS=-m32 -D FERRY_BUILD_TESTS=ON \
		-D FERRY_BUILD_PROGRAMS=ON -D FERRY_BUILD_EXAMPLES=ON -D CMAKE_COMPILE_WARNING_AS_ERROR=ON \
		-D CMAKE_CROSSCOMPILING_EMULATOR=$emulator
	cmake --build build
	ctest --test-dir build -L 'unit|battery' --output-on-failure"
