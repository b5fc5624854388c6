#!/bin/sh
# The recipes of src/packaging for RPM, Meson, vcpkg and Conan, as far as they can be checked without a network: they are
# parsed by their own tools, where these are installed, and build the library. Debian has neither vcpkg nor Conan: their
# recipes run with stand-ins for what they call (portfile_run.cmake, conanfile_run.py).
# Usage: recipes.sh [build]   (by ctest; with `build`, by release.sh: also builds by all four)
set -eu

source=${FERRY_SOURCE:-$(cd "$(dirname "$0")/../.." && pwd)}
work=${FERRY_WORK:-$source/build/recipes}
packaging=$source/src/packaging
build=${1:-}

rm -rf "$work"
mkdir -p "$work/pycache"
version=$(python3 -B "$source/tests/package/version.py" get "$source")

# Conan and vcpkg: the syntax, and that the files that they name exist.
PYTHONPYCACHEPREFIX=$work/pycache python3 -m py_compile "$packaging/conan/conanfile.py" \
	"$packaging/conan/test_package/conanfile.py"
python3 -c 'import json, sys; assert json.load(open(sys.argv[1]))["name"] == "ferry"' "$packaging/vcpkg/vcpkg.json"
for file in vcpkg/portfile.cmake conan/conanfile.py; do
	grep -qF FERRY_WITH_SYSTEMD "$packaging/$file"
done
grep -qF 'set(FERRY_WITH_SYSTEMD ' "$source/CMakeLists.txt"
echo "Conan and vcpkg: parsed"
if [ "$build" = build ]; then
	PYTHONPYCACHEPREFIX=$work/pycache python3 "$source/tests/package/conanfile_run.py" "$packaging/conan/conanfile.py" \
		"$work/conan" >"$work/conan.log" 2>&1 || {
		tail -n 30 "$work/conan.log"
		exit 1
	}
	grep -qx "Conan: ferry $version, with libevent/.*" "$work/conan.log"
	FERRY_SOURCE=$source cmake -D WORK="$work/vcpkg" -P "$source/tests/package/portfile_run.cmake" >"$work/vcpkg.log" 2>&1 || {
		tail -n 30 "$work/vcpkg.log"
		exit 1
	}
	echo "Conan and vcpkg: built"
fi

tools=0
if command -v rpmspec >/dev/null; then
	tools=$((tools + 1))
	rpmspec -P "$packaging/rpm/ferry.spec" >"$work/ferry.spec"
	grep -q "^Version: $version\$" "$work/ferry.spec"
	[ "$(rpmspec -q --qf '%{name}\n' "$packaging/rpm/ferry.spec" | grep -v debug | sort | tr '\n' ' ')" = \
		"ferry ferry-devel ferry-programs ferry-static " ]
	echo "RPM: rpmspec reads ferry.spec"
fi
if command -v rpmlint >/dev/null; then
	rpmlint "$packaging/rpm/ferry.spec"
fi
if [ "$build" = build ] && command -v rpmbuild >/dev/null; then
	mkdir -p "$work/rpm/SOURCES"
	(cd "$source" && tar -c --exclude ./build --exclude ./.git --transform "s,^[.],ferry-$version," .) |
		gzip >"$work/rpm/SOURCES/ferry-$version.tar.gz"
	# The packages and macros that it needs are those of another distribution.
	rpmbuild -bb --nodeps --define "_topdir $work/rpm" --define '_lib lib' --define '_libdir /usr/lib' \
		--define '_unitdir /usr/lib/systemd/system' \
		--define '_tmpfilesdir /usr/lib/tmpfiles.d' "$packaging/rpm/ferry.spec" >"$work/rpm.log" 2>&1 || {
		tail -n 30 "$work/rpm.log"
		exit 1
	}
	find "$work/rpm/RPMS" -name '*.rpm'
fi

if command -v meson >/dev/null; then
	tools=$((tools + 1))
	mkdir -p "$work/meson/subprojects/packagefiles/ferry"
	cp "$packaging/meson/ferry.wrap" "$work/meson/subprojects"
	cp "$packaging/meson/meson.build" "$work/meson/subprojects/packagefiles/ferry"
	mkdir -p "$work/meson/subprojects/ferry-$version/src"
	cp "$source/LICENSE" "$work/meson/subprojects/ferry-$version"
	cp -R "$source/include" "$work/meson/subprojects/ferry-$version"
	(cd "$source/src" && tar -c --exclude ./programs --exclude ./packaging .) |
		tar -x -C "$work/meson/subprojects/ferry-$version/src"
	cp "$source/tests/consumer/consumer.c" "$work/meson"
	cat >"$work/meson/meson.build" <<'END'
project('consumer', 'c')
executable('consumer', 'consumer.c', dependencies: dependency('ferry'))
END
	# meson applies the directory of patches only to what it has unpacked.
	cp "$packaging/meson/meson.build" "$work/meson/subprojects/ferry-$version"
	meson setup "$work/meson/build" "$work/meson" >"$work/meson.log" || {
		cat "$work/meson.log"
		exit 1
	}
	listed=$(meson introspect --targets "$work/meson/build" | python3 -c 'import json, sys
print(sum(len(part["sources"]) for target in json.load(sys.stdin) if target["name"] == "ferry"
          for part in target["target_sources"] if part.get("language") == "c"))')
	[ "$listed" -eq "$(sed -n '/^add_library(ferry_objects/,/^)/p' "$source/src/CMakeLists.txt" | grep -c '[.]c$')" ]
	echo "Meson: $listed sources"
	if [ "$build" = build ]; then
		meson compile -C "$work/meson/build" -j 2
		"$work/meson/build/consumer"
	fi
fi
if [ "$tools" -lt 2 ]; then
	echo "SKIPPED: rpmspec (rpm) or meson is not installed; the rest has passed"
	exit 77
fi
