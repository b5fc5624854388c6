#!/bin/sh
# docs/contents.md has each public header and each page, and the pages that name the version name that of
# include/ferry/version.h.
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

version=$(sed -n 's/^#define FERRY_VERSION "\([0-9]*\.[0-9]*\)\..*/\1/p' include/ferry/version.h)
for page in README.md docs/install.md tests/consumer/find_package/CMakeLists.txt; do
	grep -qF "find_package(ferry $version REQUIRED" "$page" || complain "$page: not version $version"
done
grep -q "^Version $version," README.md || complain "README.md: not version $version"

echo "$count pages and headers, version $version"
exit "$status"
