#!/bin/sh
# Prepares a release: writes the version into include/ferry/version.h and the files that repeat it, and the heading
# into CHANGELOG.md, and runs every check that there is. Neither commits nor tags nor publishes: it prints the commands.
# Hours. As root, in a clean working tree whose CHANGELOG.md has changes under [Unreleased].
# Usage: release.sh [--check] [--rehearsal] X.Y.Z
#   --check      only looks whether X.Y.Z can be released from this tree
#   --rehearsal  accepts the addresses that stand for those of a publisher, and prints no commands
set -eu

cd "$(dirname "$0")/.."

fail()
{
	echo "release.sh: $*" >&2
	exit 1
}

only_check=false
rehearsal=false
while :; do
	case ${1:-} in
	--check) only_check=true ;;
	--rehearsal) rehearsal=true ;;
	*) break ;;
	esac
	shift
done
version=${1:-}
echo "$version" | grep -Eqx '(0|[1-9][0-9]*)([.](0|[1-9][0-9]*)){2}' ||
	fail "usage: release.sh [--check] [--rehearsal] X.Y.Z"

[ -z "$(git status --porcelain)" ] || fail "the working tree has changes"
if git rev-parse -q --verify "refs/tags/v$version" >/dev/null; then
	fail "the tag v$version exists"
fi
last=$(git tag --list 'v*' | sed 's/^v//' | sort -V | tail -n 1)
if [ -n "$last" ] && [ "$(printf '%s\n%s\n' "$last" "$version" | sort -V | tail -n 1)" != "$version" ]; then
	fail "$version is not later than $last"
fi
changes=$(awk '/^## / { inside = $0 == "## [Unreleased]" } inside && /^- /' CHANGELOG.md | wc -l)
[ "$changes" -gt 0 ] || fail "CHANGELOG.md has no change under [Unreleased]"
# Within a SONAME the ABI of the last release stays.
if [ -n "$last" ] && [ "${last%.*}" = "${version%.*}" ] && ! git diff --quiet "v$last" -- tests/abi/libferry.abi; then
	fail "tests/abi/libferry.abi differs from that of $last, and the minor version is the same"
fi
python3 -B tests/package/version.py check
# Whoever publishes ferry has addresses of their own: for reports, of the maintainer, of the sources.
placeholders=$(grep -Hno -e '[a-z@]*ferry[.]invalid' SECURITY.md || true
	grep -rno -e '[a-z:/@-]*example[.]org[a-z/]*' src/packaging || true)
if [ -n "$placeholders" ]; then
	echo "$placeholders" >&2
	[ "$rehearsal" = true ] || fail "the addresses above reach nobody: set those of the publisher, or say --rehearsal"
fi
echo "release.sh: $version can be released: $changes changes${last:+ since $last}"
[ "$only_check" = false ] || exit 0

[ "$(id -u)" -eq 0 ] || fail "the tests of the packages need root"
sh tests/install-packages.sh build site test lint bench package
python3 -B tests/package/version.py set "$version"

step()
{
	echo
	echo "== $*"
	"$@" || fail "'$*' has failed. 'git checkout . && git clean -fd src/packaging' takes the version back"
}
step .ci/run
for preset in tsan valgrind release fuzz; do
	step sh tests/run.sh "$preset"
done
step sh tests/package/build.sh
step sh tests/package/run.sh
step sh tests/package/recipes.sh build
step sh tests/consumer/newcomer.sh

if [ "$rehearsal" = true ]; then
	echo "release.sh: the rehearsal of $version has passed everything"
	exit 0
fi
cat <<END

release.sh: $version has passed everything. The heading of CHANGELOG.md and the version are written. Next:
    git add --all && git commit -m 'release $version' && git tag -s v$version -m 'ferry $version'
END
