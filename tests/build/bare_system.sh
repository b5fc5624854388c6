#!/bin/sh
# Makes a bare Debian 12 or Ubuntu 22.04, runs there the installation commands of README.md as they are, and then
# builds and runs what a user would: the program of README.md by pkg-config, and tests/consumer by find_package. Needs
# root, a network, debootstrap, and for Ubuntu ubuntu-keyring. An existing DIR is used again.
# Usage: bare_system.sh bookworm|jammy [DIR]   (DIR: build/bare/SUITE)
set -eu

source=$(cd "$(dirname "$0")/../.." && pwd)
suite=$1
root=${2:-$source/build/bare/$suite}

case $suite in
bookworm) mirror=http://deb.debian.org/debian ;;
jammy) mirror=http://archive.ubuntu.com/ubuntu ;;
*) exit 2 ;;
esac
if ! [ -e "$root/etc/os-release" ]; then
	mkdir -p "$root"
	debootstrap --variant=minbase "$suite" "$root" "$mirror"
fi
cp /etc/resolv.conf "$root/etc/"
# apt-get asks before it installs; here is nobody to answer.
echo 'APT::Get::Assume-Yes "true";' >"$root/etc/apt/apt.conf.d/assume-yes"

rm -rf "$root/ferry"
mkdir "$root/ferry"
(cd "$source" && tar -c --exclude ./build --exclude ./.git .) | tar -x -C "$root/ferry"
awk '/^```sh$/ { block = ""; inside = 1; next }
	/^```/ { if (inside && block ~ /cmake --install build/) { printf "%s", block; found = 1; exit } inside = 0 }
	inside { block = block $0 "\n" }
	END { exit !found }' "$source/README.md" >"$root/ferry/install.sh"
awk '/^```c$/ { inside = 1; next } /^```/ { if (inside) exit } inside' "$source/README.md" >"$root/ferry/readme.c"

in_root()
{
	chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C sh -euc "$1"
}

# shellcheck disable=SC2016 # the shell in the root expands
{
	in_root 'apt-get -q update; cd /ferry; cat install.sh; sh -eux install.sh; cmake --version'
	in_root 'cd /tmp; cc /ferry/readme.c -o readme $(pkg-config --cflags --libs ferry); ./readme'
	in_root 'cd /tmp; rm -rf consumer; cmake -S /ferry/tests/consumer/find_package -B consumer; cmake --build consumer
		for program in consumer_c consumer_cxx consumer_test consumer_names again/consumer_again; do
			./consumer/$program
		done'
	# A static library, and the programs with it.
	in_root 'cd /ferry; cmake -B static -D BUILD_SHARED_LIBS=OFF -D FERRY_BUILD_PROGRAMS=ON
		cmake --build static --parallel 2; cmake --install static --prefix /tmp/static
		cd /tmp; rm -rf consumer; cmake -S /ferry/tests/consumer/find_package -B consumer -D CMAKE_PREFIX_PATH=/tmp/static
		cmake --build consumer; ./consumer/consumer_names; /tmp/static/bin/ferry-proxy --version'
}
echo "bare_system.sh: $suite works"
