#!/bin/sh
# Installs the Debian packages that building or testing ferry needs, if they are missing. If none is missing, it
# starts no package manager.
# Usage: install-packages.sh build|site|test|lint|bench|package|kernels…
#   build    for the library, the programs and the examples
#   site     for the documentation as web pages
#   test     for the presets, and their tests
#   lint     clang, valgrind and the other tools of developers of ferry
#   bench    for tests/bench/run.sh, and the servers and loops that it compares
#   package  for tests/package/build.sh, tests/package/run.sh and tests/consumer/newcomer.sh
#   kernels  for tests/kernels/run.sh
set -eu

wanted=
for group in "$@"; do
	case $group in
	build) packages='gcc libc6-dev make cmake pkg-config libevent-dev' ;;
	site) packages='python3 cmark-gfm' ;;
	test) packages='ninja-build g++ check python3 python3-twisted curl spin strace libsystemd-dev libuv1-dev libssl-dev openssl
		gnutls-bin 		haproxy nginx-light iproute2 cmark-gfm chromium chromium-driver prometheus
		mandoc man-db logrotate systemd openssh-client openssh-server dbus
		python3-dbus python3-gi weston
		abigail-tools meson rpm' ;;
	lint) packages='clang libclang-rt-14-dev clang-format clang-tidy cppcheck doxygen gcovr shellcheck valgrind' ;;
	bench) packages='python3 python3-twisted libuv1-dev haproxy nginx-light nodejs gnuplot-nox strace valgrind' ;;
	package) packages='build-essential debhelper cmark-gfm libssl-dev python3 lintian debootstrap' ;;
	kernels) packages='qemu-system-x86 e2fsprogs xz-utils debian-archive-keyring' ;;
	*)
		echo "$0: '$group' is not one of build, site, test, lint, bench, package, kernels" >&2
		exit 2
		;;
	esac
	wanted="$wanted $packages"
done
if [ -z "$wanted" ]; then
	echo "usage: $0 build|site|test|lint|bench|package|kernels..." >&2
	exit 2
fi

if ! command -v dpkg-query >/dev/null; then
	echo "$0: not a Debian system; what is needed there is called:$wanted" >&2
	exit 1
fi
# shellcheck disable=SC2086 # the names are words; dpkg fails for names that it does not know
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $wanted 2>/dev/null || true)
missing=
for package in $wanted; do
	case "
$installed
" in
	*"
$package installed
"*) ;;
	*) missing="$missing $package" ;;
	esac
done
if [ -z "$missing" ]; then
	exit 0
fi
echo "installing:$missing"

if [ "$(id -u)" -eq 0 ]; then
	as_root=
elif ! command -v sudo >/dev/null; then
	echo "$0: install these packages as root, there is no sudo here: apt-get install$missing" >&2
	exit 1
elif [ -t 0 ]; then
	as_root=sudo
else
	as_root='sudo -n' # no terminal: sudo cannot ask for a password
fi

# apt waits for its lock and retries a download. Then the loop starts again from the update, because a mirror may
# change between the list and the package.
apt_get()
{
	# shellcheck disable=SC2086 # as_root is words
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 \
		-o Acquire::Retries=3 "$@" </dev/null
}
for attempt in 1 2 3; do
	# shellcheck disable=SC2086 # the names are words
	if apt_get update && apt_get install -y --no-install-recommends $missing; then
		exit 0
	fi
	echo "$0: attempt $attempt failed" >&2
	sleep $((attempt * 5))
done
echo "$0: could not install:$missing" >&2
exit 1
