#!/bin/sh
# Compiles each block of C in a page, or in all pages of a directory, against the installed library without a warning.
# One that is a whole program is run, and must exit with 0; at least one such block must exist. The declarations that a
# part of a program needs stand before it, in a comment "<!-- given:" that the page does not show. If they end in an
# open function, the block is in its body.
# The programs of docs/tutorials have arguments and peers: tests/examples/tutorial_*.py.
# Usage: programs.sh README.md|docs   (by ctest)
set -eu

pages=$FERRY_SOURCE/$1 work=$FERRY_WORK

rm -rf "$work"
mkdir -p "$work"
find "$pages" -name tutorials -prune -o -name '*.md' -exec awk -v work="$work" '
	function write_block() {
		name = work "/" page "-" ++count
		if (block ~ /(^|\n)int main\(/)
			print block > (name ".c")
		else
			print includes given block (given ~ /\n{\n/ ? "}" : "") > (name ".part.c")
	}
	BEGIN {
		headers = "stdio.h stdlib.h string.h unistd.h event2/buffer.h event2/bufferevent.h event2/event.h ferry/ferry.h"
		number = split(headers, each, " ")
		for (i = 1; i <= number; i++)
			includes = includes "#include <" each[i] ">\n"
	}
	FNR == 1 { page = FILENAME; gsub(/.*\/|[.]md$/, "", page); count = 0 }
	/^<!-- given:$/ { in_given = 1; given = ""; next }
	in_given && /^-->$/ { in_given = 0; next }
	in_given { given = given $0 "\n"; next }
	/^```c$/ { inside = 1; block = ""; next }
	/^```/ { if (inside) write_block(); inside = 0; given = "" }
	inside { block = block $0 "\n" }' {} +

pc=$(find "$FERRY_PREFIX" -name ferry.pc)
PKG_CONFIG_PATH=${pc%/*}
LD_LIBRARY_PATH=$(dirname "${pc%/*}")
export PKG_CONFIG_PATH LD_LIBRARY_PATH
count=0

# compile PKG_CONFIG_OPTION FILE OPTION…: eval, because pkg-config quotes a path with a space for the shell.
compile()
{
	# shellcheck disable=SC2086 # several options
	found=$(pkg-config $1 ferry)
	shift
	echo "${1##*/}"
	eval "\"\$FERRY_CC\" \$FERRY_FLAGS -Wall -Wextra -Werror \"\$@\" $found"
}

for program in "$work"/*.c; do
	[ -e "$program" ] || break
	case $program in
	*.part.c)
		if grep -q '<openssl/' "$program" && ! pkg-config --exists openssl; then
			echo "${program##*/} is skipped: libssl-dev missing"
			continue
		fi
		compile --cflags "$program" -fsyntax-only -Wno-unused-function -Wno-unused-parameter -Wno-unused-variable
		;;
	*)
		compile "--cflags --libs" "$program" -o "${program%.c}"
		"${program%.c}"
		count=$((count + 1))
		;;
	esac
done
if [ "$count" -eq 0 ]; then
	echo "$1 has no program in C"
	exit 1
fi
