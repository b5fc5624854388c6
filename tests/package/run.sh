#!/bin/sh
# Installs the Debian packages in a bare system: first those of the version before, which are built on the spot, then
# those of this version, by an upgrade. Builds users' programs with them by pkg-config, CMake and the static library, runs
# these and ferry's programs, and purges everything: not one file may be left.
# Needs root, a network, and the packages of `install-packages.sh build package`. Minutes.
# Usage: run.sh [DIR]   (DIR: build/package, where build.sh has put the packages; it is run if there are none)
set -eu

source=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-$source/build/package}
tree= # make_tree sets it
# shellcheck source=tests/package/tree.sh
. "$source/tests/package/tree.sh"

version=$(python3 -B "$source/tests/package/version.py" get)
before=0.0.9

if ! ls "$out"/libferry-dev_"$version"-*.deb >/dev/null 2>&1; then
	sh "$source/tests/package/build.sh" "$out"
fi
# The code is that of today. Nothing of it is measured: it need not be optimised.
if ! ls "$out"/before/libferry-dev_"$before"-*.deb >/dev/null 2>&1; then
	rm -rf "$out/before"
	mkdir -p "$out/before/source"
	(cd "$source" && tar -c --exclude ./build --exclude ./.git .) | tar -x -C "$out/before/source"
	python3 -B "$source/tests/package/version.py" set "$before" "$out/before/source"
	DEB_BUILD_OPTIONS='noopt nodbgsym' sh "$out/before/source/tests/package/build.sh" --quick "$out/before/packages"
	mv "$out"/before/packages/*.deb "$out/before"
	rm -rf "$out/before/packages" "$out/before/source"
fi

make_tree "$out/tree"
mkdir -p "$tree/opt/packages" "$tree/opt/ferry"
cp -R "$source/tests/consumer" "$source/README.md" "$tree/opt/ferry"
echo 'deb [trusted=yes] file:/opt/packages ./' >"$tree/etc/apt/sources.list.d/ferry.list"

# publish DIR: the packages of DIR, and those before, are in the repository of the system.
publish()
{
	cp "$1"/*.deb "$tree/opt/packages"
	(cd "$tree/opt/packages" && dpkg-scanpackages --multiversion . 2>/dev/null >Packages)
	in_tree 'apt-get -q -q update'
}

# All files of the system but those of dpkg and apt themselves, of logs, and of this test.
list_files()
{
	(cd "$tree" && find . -xdev \( -path ./proc -o -path ./dev -o -path ./opt -o -path ./tmp -o -path ./var/lib/dpkg \
		-o -path ./var/lib/apt -o -path ./var/cache -o -path ./var/log -o -path ./etc/ld.so.cache \) -prune -o -print |
		sort)
}

install='apt-get -q -y install --no-install-recommends'
publish "$out/before"
in_tree "$install g++ make cmake pkg-config"
list_files >"$out/files.before"

echo "== the version before"
in_tree "$install libferry-dev ferry-programs ferry-doc
	cd /tmp
	cc /opt/ferry/consumer/consumer.c -o before \$(pkg-config --cflags --libs ferry)
	./before | grep 'ferry $before '
	ferry-proxy --version | grep -F '$before'"

echo "== the upgrade"
publish "$out"
in_tree "apt-get -q -y dist-upgrade
	ferry-proxy --version | grep -F '$version'
	ldconfig -p | grep -F libferry.so.${before%.*}
	/tmp/before | grep 'ferry $before '   # its library is still there, beside the new one
	apt-get -q -y autoremove --purge
	if ldconfig -p | grep -F libferry.so.${before%.*}; then exit 1; fi"

echo "== users' programs"
# shellcheck disable=SC2016 # the shell in the system expands
in_tree 'cd /tmp
	awk "/^\`\`\`c\$/ { inside = 1; next } /^\`\`\`/ { if (inside) exit } inside" /opt/ferry/README.md >readme.c
	cc readme.c -o readme $(pkg-config --cflags --libs ferry)
	./readme | grep "written through a received descriptor"
	cc /opt/ferry/consumer/consumer.c -o shared $(pkg-config --cflags --libs ferry)
	ldd shared | grep libferry.so
	./shared
	cc /opt/ferry/consumer/consumer.c -o static $(pkg-config --cflags ferry) \
		-Wl,-Bstatic $(pkg-config --static --libs ferry) -Wl,-Bdynamic
	if ldd static | grep -e libferry -e libevent; then exit 1; fi
	./static
	c++ /opt/ferry/consumer/consumer.cpp -o cxx $(pkg-config --cflags --libs ferry)
	./cxx
	cc /opt/ferry/consumer/consumer_test.c -o testing $(pkg-config --cflags --libs ferry-testing)
	./testing
	cmake -S /opt/ferry/consumer/find_package -B consumer
	cmake --build consumer
	for program in consumer_c consumer_cxx consumer_test consumer_names again/consumer_again; do
		./consumer/$program
	done'

echo "== ferry's programs"
# shellcheck disable=SC2016
in_tree 'cd /tmp
	mkdir received
	head -c 5000000 /dev/urandom >large
	ferry-copy receive --listen unix:/tmp/copy.sock received &
	while ! [ -S copy.sock ]; do sleep 0.1; done
	ferry-copy send unix:/tmp/copy.sock large
	wait
	cmp large received/large
	test -e /usr/share/doc/ferry-programs/examples/ferry-proxy.conf
	ferry-worker --version
	test -e /usr/share/doc/ferry-doc/html/index.html'

echo "== the purge"
in_tree "apt-get -q -y purge 'libferry*' ferry-programs ferry-doc
	apt-get -q -y autoremove --purge"
list_files >"$out/files.after"
diff -u "$out/files.before" "$out/files.after"
echo "run.sh: version $before, the upgrade to $version, users' programs and the purge work"
