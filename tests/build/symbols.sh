#!/bin/sh
# Checks that the public headers, the version script and the shared library have the same functions, that a program
# can take the address of each, and that the header of a function has the name of the function's type: line.h
# declares ferry_line_stream_send(). The SONAME is that of the version, in the library, ferry.map and README.md.
set -eu

source=$FERRY_SOURCE library=$FERRY_LIBRARY work=$FERRY_WORK

rm -rf "$work"
mkdir -p "$work"

for header in "$source"/include/ferry/*.h; do
	printf '#include "ferry/%s"\n' "${header##*/}"
done >"$work/all.h"

# A declaration is one line once the preprocessor has been over it and all is split at ';'.
"$FERRY_CC" -E -P -x c -I "$source/include" "$work/all.h" | tr '\n' ' ' | tr ';' '\n' |
	sed -n 's/.*visibility *("default").*[ *]\(ferry_[a-z0-9_]*\) *(.*/\1/p' | sort -u >"$work/headers"
sed -n 's/^[[:space:]]*\(ferry_[a-z0-9_]*\);.*/\1/p' "$source/src/ferry.map" | sort >"$work/map"
nm -D --defined-only "$library" | sed -n 's/.* [A-Z] \([^@]*\)@@FERRY_[0-9.]*$/\1/p' | sort >"$work/library"
nm -D --defined-only "$library" | sed -n '/ A FERRY_[0-9.]*$/d; /@@FERRY_[0-9.]*$/d; p' >"$work/stray"

status=0
compare()
{
	if ! diff -u "$work/$1" "$work/$2"; then
		echo "the $1 (-) and the $2 (+) do not name the same functions"
		status=1
	fi
}
if ! [ -s "$work/headers" ]; then
	echo "no declaration was found in the headers"
	status=1
fi
compare headers map
compare headers library

version=$(sed -n 's/^#define FERRY_VERSION "\([0-9.]*\)".*/\1/p' "$source/include/ferry/version.h")
case $version in
0.*) soname=libferry.so.${version%.*} ;;
*) soname=libferry.so.${version%%.*} ;;
esac
if ! readelf -d "$library" | grep -qF "[$soname]"; then
	echo "the SONAME of the library is not $soname"
	status=1
fi
for file in src/ferry.map README.md; do
	if ! grep -qF "$soname" "$source/$file"; then
		echo "$file does not name $soname"
		status=1
	fi
done
if ! grep -qF "FERRY_${version%.*} {" "$source/src/ferry.map"; then
	echo "ferry.map has no node FERRY_${version%.*}"
	status=1
fi

# The types that have a header. The longest one that the name of a function begins with decides.
for header in "$source"/include/ferry/*.h; do
	header=${header##*/}
	echo "${header%.h}"
done >"$work/types"
for header in "$source"/include/ferry/*.h; do
	declared_in=${header##*/}
	tr '\n' ' ' <"$header" | tr ';' '\n' | sed -n 's/.*FERRY_EXPORT.*[ *]ferry_\([a-z0-9_]*\) *(.*/\1/p' |
		while IFS= read -r name; do
			echo "$name ${declared_in%.h}"
		done
done >"$work/declared"
if ! awk 'NR == FNR { types[$1]; next }
	{
		best = ""
		for (type in types)
			if (($1 == type || index($1, type "_") == 1) && length(type) > length(best))
				best = type
		if (best != $2) {
			print "ferry_" $1 "() is declared in " $2 ".h, not in " (best == "" ? "a header of its type" : best ".h")
			wrong = 1
		}
		count++
	}
	END { exit wrong || count == 0 }' "$work/types" "$work/declared"; then
	status=1
fi
if [ -s "$work/stray" ]; then
	echo "symbols without a version:"
	cat "$work/stray"
	status=1
fi
[ "$status" -eq 0 ] || exit "$status"

{
	cat "$work/all.h"
	echo 'static void (*volatile functions[])(void) = {'
	sed 's/.*/\t(void (*)(void))&,/' "$work/library"
	echo '};'
	echo 'int main(void)'
	echo '{'
	echo '	for (unsigned int i = 0; i < sizeof(functions) / sizeof(*functions); i++)'
	echo '		if (functions[i] == 0)'
	echo '			return 1;'
	echo '	return 0;'
	echo '}'
} >"$work/touch.c"
# shellcheck disable=SC2086 # the flags are words
"$FERRY_CC" $FERRY_FLAGS -Wall -Wextra -Werror -I "$source/include" "$work/touch.c" -o "$work/touch" "$library" \
	-Wl,-rpath,"${library%/*}"
"$work/touch"
echo "$(wc -l <"$work/library") functions"
