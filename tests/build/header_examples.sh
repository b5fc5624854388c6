#!/bin/sh
# Each example in the comments of the public headers compiles against the installed library, without a warning.
set -eu

work=$FERRY_WORK

if ! command -v python3 >/dev/null; then
	echo "SKIPPED: no python3"
	exit 77
fi
rm -rf "$work"
mkdir -p "$work"
python3 -B "$FERRY_SOURCE/tests/build/header_examples.py" "$FERRY_SOURCE" "$work"
pc=$(find "$FERRY_PREFIX" -name ferry.pc)
PKG_CONFIG_PATH=${pc%/*}
export PKG_CONFIG_PATH
found=$(pkg-config --cflags ferry-testing)
status=0
count=0
# shellcheck disable=SC2034 # eval reads the name
for file in "$work"/*.c; do
	# eval: pkg-config quotes a path with a space for the shell.
	eval "\"\$FERRY_CC\" \$FERRY_FLAGS -Wall -Wextra -Werror -Wno-unused-function -Wno-unused-parameter \
		-Wno-unused-variable -Wno-unused-but-set-variable -fsyntax-only \"\$file\" $found" || status=1
	count=$((count + 1))
done
echo "$count examples"
[ "$count" -gt 20 ] || status=1
exit "$status"
