#!/bin/sh
# Runs one tool on ferry's sources. Exit status 77: the tool is not installed.
# Usage: lint.sh format|tidy|cppcheck|analyzer|shell|english|size   (by ctest, in the preset lint)
set -eu

cd "$FERRY_SOURCE"

need()
{
	if ! command -v "$1" >/dev/null; then
		echo "SKIPPED: no $1"
		exit 77
	fi
}

# sources REGEX: prints the files whose path matches, one on a line
sources()
{
	find src include tests examples -type f 2>/dev/null | grep -E "$1" | sort
}

# each COMMAND…: runs it for each line of input; fails after the last if any run failed
each()
{
	failed=0
	while IFS= read -r file; do
		"$@" "$file" </dev/null || failed=1
	done
	return "$failed"
}

# analyze BYTES FILE: gcc finds nothing, and no function has more bytes on the stack; users run the library on their
# threads.
analyze()
{
	# shellcheck disable=SC2046 # pkg-config prints words
	gcc -std=c11 -O1 -fanalyzer -Wstack-usage="$1" -Werror -D_GNU_SOURCE -I src -I include \
		$(pkg-config --cflags libevent_core) -c -o "$FERRY_WORK/object.o" "$2"
}

case $1 in
format)
	need clang-format-14
	sources '[.][ch]$' | each clang-format-14 --dry-run --Werror --style=file
	;;
tidy)
	# One process for each file, so that a finding does not depend on the files before it.
	need clang-tidy-14
	sed -n 's/^ *"file": "\(.*\)",*$/\1/p' "$FERRY_BUILD/compile_commands.json" |
		grep -vF "$FERRY_BUILD/" | sort -u | tr '\n' '\0' |
		xargs -0 -n 1 -P "$(nproc)" clang-tidy-14 --quiet -p "$FERRY_BUILD"
	;;
cppcheck)
	need cppcheck
	sources '^(src|examples)/.*[.]c$' | each cppcheck --quiet --std=c11 --library=posix \
		--enable=warning,performance,portability --inline-suppr --error-exitcode=1 -D_GNU_SOURCE \
		-I src -I include
	;;
analyzer)
	need gcc
	# The output is not /dev/null: as root, gcc removes the output of a failed compilation.
	mkdir -p "$FERRY_WORK"
	failed=0
	sources '^src/.*[.]c$' | grep -v '^src/programs/' | each analyze 20480 || failed=1
	sources '^src/programs/.*[.]c$' | each analyze 73728 || failed=1
	exit "$failed"
	;;
english | size)
	need python3
	exec python3 "tests/lint/$1.py" .
	;;
shell)
	need shellcheck
	{
		sources '[.]sh$'
		echo .ci/run
	} | each shellcheck -x
	;;
*)
	exit 2
	;;
esac
