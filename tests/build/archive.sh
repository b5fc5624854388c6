#!/bin/sh
# Checks the static libraries of build.consumer.add_subdirectory: every global symbol begins with `ferry_`, and the
# names that tests/consumer/consumer_names.c defines are local symbols of the libraries.
set -eu

source=$FERRY_SOURCE archives=$FERRY_ARCHIVES work=$FERRY_WORK

rm -rf "$work"
mkdir -p "$work"
if ! [ -e "$archives/libferry.a" ]; then
	echo "SKIPPED: no C++ compiler, and so no static library was built"
	exit 77
fi

status=0
for archive in "$archives/libferry.a" "$archives/libferry_testing.a"; do
	# Names with two underscores belong to the compiler: sanitizers and gcov have some.
	nm --defined-only --extern-only "$archive" | sed -n 's/^[0-9a-f]* [A-Za-z] //p' |
		sed '/^__/d' | sort -u >"$work/global"
	if ! grep -q '^ferry_' "$work/global"; then
		echo "$archive: no function was found"
		status=1
	fi
	if grep -v '^ferry_' "$work/global"; then
		echo "$archive: the above can be seen by programs"
		status=1
	fi
	echo "${archive##*/}: $(wc -l <"$work/global") symbols"
done

sed -n 's/^TAKE_NAME(\(.*\))$/\1/p' "$source/tests/consumer/consumer_names.c" | sort >"$work/taken"
nm "$archives/libferry.a" | sed -n 's/^[0-9a-f]* t //p' | sort -u >"$work/local"
if ! [ -s "$work/taken" ]; then
	echo "consumer_names.c takes no names"
	status=1
fi
if comm -23 "$work/taken" "$work/local" | grep .; then
	echo "consumer_names.c takes the above, which are no longer functions of ferry"
	status=1
fi
exit "$status"
