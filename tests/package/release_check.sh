#!/bin/sh
# `release.sh --check` in a small repository: it accepts a version that can be released, and refuses the others.
set -eu

source=$FERRY_SOURCE work=$FERRY_WORK

if ! command -v git >/dev/null; then
	echo "SKIPPED: no git"
	exit 77
fi
rm -rf "$work"
mkdir -p "$work/tests" "$work/include" "$work/docs" "$work/src"
cp "$source/docs/install.md" "$work/docs"
cp -R "$source/src/packaging" "$source/src/ferry.map" "$work/src"
cp "$source/README.md" "$source/SECURITY.md" "$work"
cp -R "$source/include/ferry" "$work/include"
cp -R "$source/tests/abi" "$source/tests/package" "$source/tests/consumer" "$source/tests/release.sh" "$work/tests"
printf '# Changelog\n\n## [Unreleased]\n\n- A change.\n' >"$work/CHANGELOG.md"
cd "$work"
git_here()
{
	git -c user.name=test -c user.email=test@example.org -c commit.gpgsign=false -c core.hooksPath=/dev/null "$@"
}
git_here init -q .
git_here add --all --force
git_here commit -q -m first

# expect 0|1 VERSION TEXT: the status and a part of the output. VERSION may have options before it.
expect()
{
	status=0
	# shellcheck disable=SC2086 # several words
	sh tests/release.sh --check $2 >.git/output 2>&1 || status=1
	if [ "$status" -ne "$1" ] || ! grep -qF -e "$3" .git/output; then
		echo "release.sh --check $2: status $status, not $1, or no '$3' in:"
		cat .git/output
		exit 1
	fi
}

# The addresses of a repository that nobody has published.
expect 1 0.1.0 "SECURITY.md:5:security@ferry.invalid"
expect 1 0.1.0 "src/packaging/debian/control:4:ferry-developers@example.org"
expect 1 0.1.0 "src/packaging/debian/copyright:3:https://example.org/ferry/"
expect 1 0.1.0 "src/packaging/rpm/ferry.spec:10:https://example.org/ferry/"
expect 1 0.1.0 "reach nobody"
expect 0 "--rehearsal 0.1.0" "0.1.0 can be released: 1 changes"
sed -i 's/ferry[.]invalid/ferry.test/' SECURITY.md
expect 1 0.1.0 "the working tree has changes"
git_here commit -q -a -m 'an address for reports'
expect 1 0.1.0 "reach nobody"
grep -rl 'example[.]org' src/packaging | xargs sed -i 's/example[.]org/ferry.test/'
git_here commit -q -a -m 'the other addresses'
expect 0 0.1.0 "0.1.0 can be released: 1 changes"
expect 1 0.1 "usage"
expect 1 0.01.0 "usage"
git_here tag v0.1.0
expect 1 0.1.0 "the tag v0.1.0 exists"
expect 1 0.0.9 "not later than 0.1.0"
expect 0 0.1.10 "since 0.1.0"
echo x >>README.md
expect 1 0.2.0 "the working tree has changes"
git_here checkout -q README.md
echo '<!-- changed -->' >>tests/abi/libferry.abi
git_here commit -q -a -m 'another ABI'
expect 1 0.1.1 "libferry.abi differs from that of 0.1.0"
expect 0 0.2.0 "0.2.0 can be released"
printf '# Changelog\n\n## [Unreleased]\n\n## [0.1.0]\n\n- A change.\n' >CHANGELOG.md
git_here commit -q -a -m 'nothing new'
expect 1 0.2.0 "no change under [Unreleased]"
sed -i 's/find_package(ferry 0[.]1/find_package(ferry 0.7/' README.md
printf '# Changelog\n\n## [Unreleased]\n\n- A change.\n' >CHANGELOG.md
git_here commit -q -a -m 'two versions'
expect 1 0.2.0 "README.md has no"
