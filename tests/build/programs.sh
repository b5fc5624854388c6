#!/bin/sh
# Compiles each block of C that is a whole program, in a page or in all pages of a directory, against the installed
# library without a warning, and runs it; it must exit with 0. At least one such block must exist.
# Usage: programs.sh README.md|docs   (by ctest)
set -eu

pages=$FERRY_SOURCE/$1 work=$FERRY_WORK

rm -rf "$work"
mkdir -p "$work"
find "$pages" -name '*.md' -exec awk -v work="$work" '
	FNR == 1 { page = FILENAME; gsub(/.*\/|[.]md$/, "", page); block = 0 }
	/^```c$/ { inside = 1; block++; next }
	/^```/ { inside = 0 }
	inside { print > (work "/" page "-" block ".c") }' {} +
find "$work" -name '*.c' ! -exec grep -q '^int main(' {} \; -exec rm {} +

pc=$(find "$FERRY_PREFIX" -name ferry.pc)
PKG_CONFIG_PATH=${pc%/*}
LD_LIBRARY_PATH=$(dirname "${pc%/*}")
export PKG_CONFIG_PATH LD_LIBRARY_PATH
libraries=$(pkg-config --cflags --libs ferry)
count=0
for program in "$work"/*.c; do
	[ -e "$program" ] || break
	echo "${program##*/}"
	# eval: pkg-config quotes a path with a space for the shell.
	eval "\"\$FERRY_CC\" \$FERRY_FLAGS -Wall -Wextra -Wno-unused-parameter -Werror \"\$program\" -o \"\${program%.c}\" $libraries"
	"${program%.c}"
	count=$((count + 1))
done
if [ "$count" -eq 0 ]; then
	echo "$1 has no program in C"
	exit 1
fi
