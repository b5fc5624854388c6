#!/bin/sh
# Builds the Debian packages of src/packaging/debian and their source package: twice, the second time in another
# directory and under another umask, time zone and home. Both builds must give the same files. lintian must find neither
# an error nor a warning, and the binaries must be hardened.
# Needs the packages of `install-packages.sh build package`, and neither root nor a network.
# Usage: build.sh [--quick] [DIR]   (DIR: build/package, which gets the packages; --quick: one build, without checks)
set -eu

source=$(cd "$(dirname "$0")/../.." && pwd)
quick=false
if [ "${1:-}" = --quick ]; then
	quick=true
	shift
fi
out=${1:-$source/build/package}

for tool in dpkg-buildpackage dh lintian cmark-gfm; do
	if ! command -v "$tool" >/dev/null; then
		echo "$0: no $tool: sh tests/install-packages.sh build package" >&2
		exit 1
	fi
done
version=$(sed -n 's/^#define FERRY_VERSION "\([0-9.]*\)".*/\1/p' "$source/include/ferry/version.h")
# All files in the packages have the time of the last change.
time=${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct 2>/dev/null || stat -c %Y "$source/CHANGELOG.md")}

# Debian's own revisions, from -1 on, are later ones.
write_changelog()
{
	echo "ferry ($version-0ferry1) unstable; urgency=medium"
	echo
	echo "  * Version $version; see changelog.gz."
	echo
	echo " -- $(sed -n 's/^Maintainer: //p' "$source/src/packaging/debian/control")  $(LC_ALL=C date -u -d "@$time" '+%a, %d %b %Y %H:%M:%S +0000')"
}

# The source package's archive of the sources as they are now.
make_archive()
{
	mkdir -p "$out/ferry-$version"
	(cd "$source" && tar -c --exclude ./build --exclude ./.git .) | tar -x -C "$out/ferry-$version"
	chmod -R u+w,go=rX "$out/ferry-$version"
	tar -c --sort=name --mtime="@$time" --owner=0 --group=0 --numeric-owner -C "$out" "ferry-$version" |
		xz >"$out/ferry_$version.orig.tar.xz"
	rm -rf "$out/ferry-$version"
}

# build DIR: all packages, from the archive.
build()
{
	mkdir -p "$1"
	[ "$1" = "$out" ] || cp "$out/ferry_$version.orig.tar.xz" "$1"
	tar -x -f "$1/ferry_$version.orig.tar.xz" -C "$1"
	cp -R "$1/ferry-$version/src/packaging/debian" "$1/ferry-$version/debian"
	write_changelog >"$1/ferry-$version/debian/changelog"
	chmod -R u+w,go=rX "$1/ferry-$version"
	echo "building in $1"
	if ! (cd "$1/ferry-$version" && dpkg-buildpackage -us -uc) >"$1/log" 2>&1; then
		tail -n 40 "$1/log"
		echo "$0: dpkg-buildpackage has failed; $1/log has all" >&2
		exit 1
	fi
}

# What the compiler and the linker were asked for, and what the files have.
check_hardening()
{
	case $(dpkg --print-architecture) in
	amd64) branches=-fcf-protection property='IBT, SHSTK' ;;
	arm64) branches=-mbranch-protection=standard property=BTI ;;
	*) branches='' property='' ;;
	esac
	for flag in -fstack-protector-strong -D_FORTIFY_SOURCE=3 $branches; do
		if grep -e ' -c .*[.]c$' "$out/log" | grep -v -e "$flag" || ! grep -q -e "$flag" "$out/log"; then
			echo "compiled without $flag"
			return 1
		fi
	done
	# The linker drops the mark where the start files of libc do not have it.
	marked=$out/ferry-$version/build/shared/src/CMakeFiles/ferry_objects.dir/version.c.o
	if ! readelf -n "$marked" | grep -q "$property"; then
		echo "$marked has no $property"
		return 1
	fi
	if ! readelf -n "$(cc -print-file-name=crti.o)" | grep -q "$property"; then
		property=
	fi
	rm -rf "$out/root"
	for package in "$out"/*.deb; do
		dpkg-deb -x "$package" "$out/root"
	done
	for file in "$out"/root/usr/lib/*/libferry.so.*.*.* "$out"/root/usr/bin/*; do
		readelf -W -d -l -n "$file" >"$out/elf"
		for mark in BIND_NOW GNU_RELRO "$property"; do
			if ! grep -q "$mark" "$out/elf"; then
				echo "$file has no $mark"
				return 1
			fi
		done
		if ! readelf -W --dyn-syms "$file" | grep -q __stack_chk_fail; then
			echo "$file has no stack protector"
			return 1
		fi
	done
}

rm -rf "$out"
make_archive
build "$out"
if [ "$quick" = true ]; then
	exit
fi
(
	umask 027
	HOME=/nonexistent TZ=Pacific/Chatham LC_ALL=C.UTF-8
	export HOME TZ LC_ALL
	build "$out/again/in-another-directory"
)
for file in "$out"/*.deb "$out"/*.tar.* "$out"/*.dsc; do
	cmp "$file" "$out/again/in-another-directory/${file##*/}"
done
echo "both builds gave the same files"
lintian --fail-on error,warning --tag-display-limit 0 "$out"/*.changes
check_hardening
ls -l "$out"/*.deb
