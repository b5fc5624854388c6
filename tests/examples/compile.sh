#!/bin/sh
# Each example compiles alone, without a warning, against the installed library: by the commands in
# examples/README.md, and as strict C11.
set -eu

readme=$FERRY_SOURCE/examples/README.md work=$FERRY_WORK

rm -rf "$work"
mkdir -p "$work"
cd "$work"
pc=$(find "$FERRY_PREFIX" -name ferry.pc)
PKG_CONFIG_PATH=${pc%/*}
export PKG_CONFIG_PATH

cc()
{
	# shellcheck disable=SC2086 # several options
	"$FERRY_CC" $FERRY_FLAGS $strictness -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror "$@"
}

for file in "$FERRY_SOURCE"/examples/*.c; do
	name=$(basename "$file" .c)
	case $name in
	tls_*)
		if ! pkg-config --exists openssl; then
			echo "$name is skipped: libssl-dev missing"
			continue
		fi
		cp "$FERRY_SOURCE/examples/kernel_tls.h" .
		;;
	esac
	echo "$name"
	cp "$file" .
	# The command for this one, or else the one for all.
	command=$(grep "^cc $name\.c " "$readme" || grep '^cc line_echo\.c ' "$readme")
	for strictness in "" "-std=c11 -D_GNU_SOURCE"; do
		# Twice: pkg-config quotes a path that has a space for the shell.
		eval "eval \"$(echo "$command" | sed "s/line_echo/$name/g")\""
		test -x "$name"
		rm "$name"
	done
	rm "$name.c"
done
