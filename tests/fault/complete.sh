#!/bin/sh
# Every function that the library needs from outside is in functions.list, so that nothing new comes
# in without somebody having thought of its failure; and nothing is in the list twice, or that is not needed.
set -eu

source=$FERRY_SOURCE library=$FERRY_LIBRARY work=$FERRY_WORK

rm -rf "$work"
mkdir -p "$work"
case $FERRY_FLAGS in
*-fsanitize*)
	echo "SKIPPED: sanitizers bring functions of their own"
	exit 77
	;;
esac

# Weak ones (w) are the compiler's own; so are those for coverage and for stack protection.
nm -D --undefined-only "$library" | sed -n 's/.* U \([^@]*\).*/\1/p' |
	sed '/^__gcov_/d; /^__stack_chk_fail$/d; s/^__\(.*\)_chk$/\1/' | sort -u >"$work/needed"
sed 's/#.*//; /^[[:space:]]*$/d' "$source/tests/fault/functions.list" >"$work/list"

status=0
while read -r name; do
	found=no
	while read -r pattern kind; do
		# shellcheck disable=SC2254 # it is a pattern
		case $name in
		$pattern)
			found=$kind
			echo "$pattern" >>"$work/used"
			break
			;;
		esac
	done <"$work/list"
	case $found in
	no)
		echo "$name: the library needs it, and functions.list does not say what its failure does"
		status=1
		;;
	untested) echo "$name: can fail, and no test has it fail yet" ;;
	esac
done <"$work/needed"

cut -d ' ' -f 1 "$work/list" | sort | uniq -d | sed 's/$/: twice in functions.list/' >"$work/twice"
if [ -s "$work/twice" ]; then
	cat "$work/twice"
	status=1
fi

sort -u "$work/used" >"$work/used.sorted"
while read -r pattern kind; do
	# Compilers put their own code in place of some that never fail, and of those that read what was
	# passed there are two sets.
	if [ "$kind" != never ] && [ "$kind" != passed ] && ! grep -Fqx -- "$pattern" "$work/used.sorted"; then
		echo "$pattern: in functions.list, and the library does not need it"
		status=1
	fi
done <"$work/list"
exit $status
