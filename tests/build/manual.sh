#!/bin/sh
# The manual pages of sections 3 and 7, as the build makes them: mandoc and groff have no complaint, and each public
# function has a page.
set -eu

work=$FERRY_WORK/man

for tool in python3 mandoc groff; do
	if ! command -v "$tool" >/dev/null; then
		echo "SKIPPED: no $tool"
		exit 77
	fi
done
rm -rf "$work"
python3 -B "$FERRY_SOURCE/docs/site/manual.py" "$work"

status=0
count=0
complain()
{
	echo "$*"
	status=1
}

for page in "$work"/man[37]/*; do
	if [ "$(head -c 4 "$page")" = '.so ' ]; then
		[ -f "$work/$(sed 's/^.so //' "$page")" ] || complain "$page leads nowhere"
		continue
	fi
	# The pages are not installed, where mandoc looks for those that a page names.
	mandoc -T lint "$page" | grep -v 'referenced manual not found: Xr ferry' && complain "mandoc: $page"
	groff -ww -mdoc -Tutf8 -z "$page" 2>&1 | grep . && complain "groff: $page"
	count=$((count + 1))
done

# The functions, by another way than the pages.
sed -n 's/^\t*\(ferry_[a-z0-9_]*\);$/\1/p' "$FERRY_SOURCE/src/ferry.map" >"$FERRY_WORK/functions"
while read -r name; do
	[ -s "$work/man3/$name.3" ] || complain "$name has no page"
done <"$FERRY_WORK/functions"

echo "$count pages, $(wc -l <"$FERRY_WORK/functions") functions"
[ "$count" -gt 20 ] && [ -s "$FERRY_WORK/functions" ] || status=1
exit "$status"
