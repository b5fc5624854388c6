#!/bin/sh
# docs/contents.md has each public header and each page.
set -eu

status=0
complain()
{
	echo "$*"
	status=1
}

cd "$FERRY_SOURCE"
count=0
for file in include/ferry/*.h docs/*.md docs/tutorials/*.md; do
	case $file in
	*/ferry.h | */export.h | */version.h | docs/contents.md) continue ;;
	include/*) link=../$file ;;
	*) link=${file#docs/} ;;
	esac
	grep -qF "($link)" docs/contents.md || complain "docs/contents.md: no link to $file"
	count=$((count + 1))
done

echo "$count pages and headers"
[ "$count" -gt 50 ] || complain "too few"
exit "$status"
