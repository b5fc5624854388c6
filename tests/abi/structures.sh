#!/bin/sh
# Each structure of the public headers begins with its size or ends with reserved members, and the table of
# docs/api-stability.md lists it, and no other one. ferry::testing is no part of the ABI.
set -eu

source=$FERRY_SOURCE work=$FERRY_WORK

rm -rf "$work"
mkdir -p "$work"
find "$source/include/ferry" -name '*.h' ! -name testing.h -exec awk '
	/^(struct|union) .*[{]$/ { name = $2; first = ""; last = ""; next }
	name == "" || /^[ \t]*([*]|\/[*])/ { next }
	/^}/ {
		print name, (first ~ /^\tsize_t size;/ || last ~ /reserved(\[[0-9]+\]|[)])/) ? "grows" : "does-not-grow"
		name = ""
		next
	}
	/;/ { if (first == "") first = $0; last = $0 }' {} + | sort >"$work/structures"
cut -d ' ' -f 1 "$work/structures" >"$work/headers"
sed -n '/^| kind | structures |/,/^$/p' "$source/docs/api-stability.md" | grep -o '\<ferry_[a-z_]*' | sort >"$work/page"

status=0
if ! [ -s "$work/headers" ]; then
	echo "no structure was found in the headers"
	status=1
fi
if grep does-not-grow "$work/structures"; then
	echo "these have neither 'size_t size' as first member nor a reserved member as last one"
	status=1
fi
if ! diff -u "$work/headers" "$work/page"; then
	echo "the headers (-) and the table of docs/api-stability.md (+) do not name the same structures"
	status=1
fi
echo "$(wc -l <"$work/headers") structures"
exit "$status"
