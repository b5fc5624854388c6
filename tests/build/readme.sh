#!/bin/sh
# The first C program in README.md compiles without a warning against the installed library, and runs
# to a good end.
set -eu

readme=$FERRY_SOURCE/README.md work=$FERRY_WORK

rm -rf "$work"
mkdir -p "$work"
awk '/^```c$/ && !seen { inside = seen = 1; next } /^```/ { inside = 0 } inside' "$readme" >"$work/readme.c"
if ! [ -s "$work/readme.c" ]; then
	echo "README.md has no block of C"
	exit 1
fi

pc=$(find "$FERRY_PREFIX" -name ferry.pc)
PKG_CONFIG_PATH=${pc%/*}
export PKG_CONFIG_PATH
# eval: pkg-config quotes a path that has a space for the shell.
eval "\"\$FERRY_CC\" \$FERRY_FLAGS -Wall -Wextra -Wno-unused-parameter -Werror \"\$work/readme.c\" -o \"\$work/readme\" $(pkg-config --cflags --libs ferry)"
LD_LIBRARY_PATH=$(dirname "${pc%/*}")
export LD_LIBRARY_PATH
"$work/readme"
