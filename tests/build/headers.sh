#!/bin/sh
# Compiles each public header alone, twice in one file, in one of the languages of the users.
# Usage: headers.sh c|c++
set -eu

language=$1
include=$FERRY_SOURCE/include

case $language in
c) compiler=$FERRY_CC standards='c99 c11 c17' ;;
c++) compiler=$FERRY_CXX standards='c++11 c++17 c++20' ;;
*) exit 2 ;;
esac
if [ -z "$compiler" ]; then
	echo "SKIPPED: no $language compiler"
	exit 77
fi

count=0
for header in "$include"/ferry/*.h; do
	name=ferry/${header##*/}
	for standard in $standards; do
		printf '#include "%s"\n#include "%s"\nint not_empty;\n' "$name" "$name" |
			"$compiler" -x "$language" -std="$standard" -Wall -Wextra -Wpedantic -Werror \
				-I "$include" -fsyntax-only - || {
			echo "$name does not compile alone as $standard"
			exit 1
		}
		count=$((count + 1))
	done
done
echo "$count compilations"
[ "$count" -gt 0 ]
