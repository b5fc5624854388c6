#!/bin/sh
# All files that repeat the version have that of include/ferry/version.h. A copy of them takes another version by
# `version.py set`; a copy in which one file was left out is noticed.
set -eu

source=$FERRY_SOURCE work=$FERRY_WORK

python3 -B "$source/tests/package/version.py" check "$source"
for version in 0.0.9 0.2.0 1.0.0; do
	rm -rf "$work"
	mkdir -p "$work/include" "$work/docs" "$work/src"
	cp "$source/docs/install.md" "$work/docs"
	cp -R "$source/src/packaging" "$source/src/ferry.map" "$work/src"
	cp "$source/README.md" "$source/CHANGELOG.md" "$work"
	cp -R "$source/include/ferry" "$work/include"
	python3 -B "$source/tests/package/version.py" set "$version" "$work"
	[ "$(python3 -B "$source/tests/package/version.py" get "$work")" = "$version" ]
	grep -q "^## \[$version\] - 20" "$work/CHANGELOG.md"
done
cp "$source/README.md" "$work"
if python3 -B "$source/tests/package/version.py" check "$work" >"$work/complaints"; then
	echo "a README.md of another version was not noticed"
	exit 1
fi
grep -q '^README.md has no .find_package(ferry 1.0 REQUIRED)' "$work/complaints"
