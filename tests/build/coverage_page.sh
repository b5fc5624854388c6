#!/bin/sh
# Checks docs/coverage.md: the source of the program has each test, written `program: case`; a header has each
# function of ferry; no cell of a table is empty, and no row is without a test.
set -eu

source=$FERRY_SOURCE work=$FERRY_WORK
page=$source/docs/coverage.md
status=0

complain()
{
	echo "docs/coverage.md: $*"
	status=1
}

# The source of a program's cases: unit.message.threads in tests/unit/message/threads.c.
source_of()
{
	path=$source/tests/$(echo "$1" | tr . /)
	for file in "$path.c" "$path.py"; do
		if [ -f "$file" ]; then
			echo "$file"
			return
		fi
	done
}

# A case in C registers itself at its definition.
has_case()
{
	case $1 in
	*.py) grep -q "def $2(self" "$1" || { grep -q "def $2(" "$1" && [ "$(grep -cw "$2" "$1")" -ge 2 ]; } ;;
	*) grep -Eq "^(TEST|LOOP_TEST|LOOP_TEST_FROM|CASE)\($2[,)]" "$1" ;;
	esac
}

rm -rf "$work"
mkdir -p "$work"

# shellcheck disable=SC2016 # the backticks are the page's
grep -o '`[a-z0-9]*\.[a-z0-9_.-]*: [A-Za-z0-9_]*`' "$page" | tr -d '`' | sort -u >"$work/tests"
while IFS=' ' read -r program name; do
	program=${program%:}
	file=$(source_of "$program")
	if [ -z "$file" ]; then
		complain "there is no program $program"
	elif ! has_case "$file" "$name"; then
		complain "$program has no case $name"
	fi
done <"$work/tests"

sed -n 's/.*[ *]\(ferry_[a-z0-9_]*\)(.*[,;]$/\1/p' "$source"/include/ferry/*.h | sort -u >"$work/functions"
# shellcheck disable=SC2016 # as above
grep -o '`ferry_[a-z0-9_]*()' "$page" | tr -d '`()' | sort -u >"$work/named"
for function in $(comm -23 "$work/named" "$work/functions"); do
	complain "there is no function $function"
done

# The rows of a table, without its head and the line below.
awk -F '|' -v test='`[a-z0-9]+[.][a-z0-9_.-]+: [A-Za-z0-9_]+`' '
	!/^\|/ { row = 0; next }
	row++ < 2 { columns = NF; next }
	NF != columns { print NR ": " NF - 2 " cells, not " columns - 2 ": " $0; next }
	{
		for (i = 2; i < NF; i++)
			if ($i ~ /^[ \t]*$/)
				print NR ": an empty cell: " $0
		if ($(NF - 1) !~ test)
			print NR ": no test: " $0
		rows++
	}
	END { if (rows < 50) print "only " rows + 0 " rows were found" }
' "$page" >"$work/rows"
while IFS= read -r line; do
	complain "$line"
done <"$work/rows"

echo "$(wc -l <"$work/tests") tests, $(wc -l <"$work/named") functions"
exit "$status"
