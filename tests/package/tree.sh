# Read by other scripts: a bare system of this machine's release, in a directory of its own.
# shellcheck shell=sh

# make_tree DIR: removes DIR, and makes the system there. debootstrap fills build/bare/RELEASE.tar once, from the mirror
# that this machine's apt has.
make_tree()
{
	if [ "$(id -u)" -ne 0 ]; then
		echo "$0: needs root" >&2
		exit 1
	fi
	if ! command -v debootstrap >/dev/null; then
		echo "$0: no debootstrap: sh tests/install-packages.sh package" >&2
		exit 1
	fi
	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	# shellcheck disable=SC2016 # apt-get expands
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $codename" 'Component: main' |
		head -n 1)
	if [ -z "$mirror" ]; then
		echo "$0: apt has no mirror of $codename" >&2
		exit 1
	fi
	# shellcheck disable=SC2154 # the script that reads this file sets it
	base=$source/build/bare/$codename.tar
	rm -rf "$1"
	mkdir -p "$1" "${base%/*}"
	if ! [ -e "$base" ]; then
		debootstrap --variant=minbase "$codename" "$1" "$mirror"
		# The proxy and the rest by which this machine's apt reaches the mirror, and no languages.
		apt-config dump | grep '^Acquire::\(http\|https\|Check\|Languages\)' >"$1/etc/apt/apt.conf.d/this-machine" || true
		# A system that is thrown away need not survive a crash.
		echo force-unsafe-io >"$1/etc/dpkg/dpkg.cfg.d/unsafe-io"
		tar -c -C "$1" . >"$base.part"
		mv "$base.part" "$base"
	else
		tar -x -f "$base" -C "$1"
	fi
	cp /etc/resolv.conf /etc/hosts "$1/etc/"
	tree=$1
}

# in_tree COMMANDS: runs them there in a shell that ends at the first error. The mounts end with it.
in_tree()
{
	# shellcheck disable=SC2016 # the shell of unshare expands
	unshare --mount --pid --fork --kill-child sh -euc '
		mount -t proc proc "$1/proc"
		mount -t devpts devpts "$1/dev/pts"
		exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive LC_ALL=C \
			sh -euc "$2"' sh "$tree" "$1"
}
