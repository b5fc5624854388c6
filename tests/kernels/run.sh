#!/bin/sh
# Boots Debian's own kernels in qemu, and runs tests there with ctest, as root and as an ordinary user. The guest has
# the files of this machine, read-only, and a disk of its own at /tmp. Needs Debian 12 with what
# `install-packages.sh kernels` installs, and a build with the tests. The kernels are downloaded to build/kernels, once.
# Usage: run.sh [tls] [VERSION...]   (5.10 6.1 6.12; with tls, 6.1 6.12)
# With tls, the kernels have TLS, and the tests that need it run: a test that is skipped is a failure.
# Environment: BUILD (build/dev), LABELS and TESTS (ctest's -L and -R: 'unit|battery' and all), USERS ('root nobody'),
# ACCEL (tcg; kvm is faster where it boots them); with tls, OPENSSL=3.5: the examples with TLS alone, with OpenSSL and
# libc of Debian 13
set -eu

here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
build=$(cd "$source" && cd "${BUILD:-build/dev}" && pwd)
work=$source/build/kernels
mkdir -p "$work"
cd "$work"
tls=
if [ "${1-}" = tls ]; then
	shift
	tls=yes
	[ $# -gt 0 ] || set -- 6.1 6.12
	LABELS=${LABELS:-.}
	[ -z "${OPENSSL-}" ] || TESTS=${TESTS:-examples.tls}
	TESTS=${TESTS:-kernel_tls|examples.tls|programs.(tls|passthrough)}
	USERS=${USERS:-nobody}
fi
[ $# -gt 0 ] || set -- 5.10 6.1 6.12

# Debian 11 has Linux 5.10: the same archives under its name, with lists of their own.
apt()
{
	command=$1
	shift
	"$command" -qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=- \
		-o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root "$@"
}

# suite NAME: of Debian, for apt.
suite()
{
	mkdir -p lists/partial cache/archives/partial
	# shellcheck disable=SC2016 # apt expands
	apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Origin: Debian' | sort -u |
		sed -n "s/\(.*\) bookworm\(-security\)\{0,1\}\$/\1 $1\2/p" |
		sed 's,.*,deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] & main,' >sources.list
	apt apt-get update
}

# Downloads and unpacks OpenSSL 3.5 with the libraries that it needs, if that is not done.
openssl_3_5()
{
	[ ! -e openssl ] || return 0
	suite trixie
	apt apt-get download libc6 libssl3t64 libzstd1 zlib1g
	for file in *.deb; do
		dpkg-deb --extract "$file" openssl.unpacked
		rm "$file"
	done
	mv openssl.unpacked openssl
}

# kernel VERSION: downloads and unpacks it, if that is not done.
kernel()
{
	[ ! -e "$1/boot" ] || return 0
	case $1 in
	5.10) suite bullseye && meta=linux-image-amd64 ;;
	6.1) suite bookworm && meta=linux-image-amd64 ;;
	*) suite bookworm && meta=linux-image-$1-amd64 ;;
	esac
	package=$(apt apt-cache depends "$meta" | sed -n 's/.*Depends: *//p')
	apt apt-get download "$package"
	[ -e busybox/bin ] || apt apt-get download busybox-static
	for file in *.deb; do
		case $file in
		linux-*) dpkg-deb --extract "$file" "$1.unpacked" ;;
		*) dpkg-deb --extract "$file" busybox ;;
		esac
		rm "$file"
	done
	mv "$1.unpacked" "$1"
}

# initramfs VERSION: busybox, the modules for the disk and for this machine's files, the lists of tests, init.sh.
initramfs()
{
	rm -rf root
	mkdir -p root/bin root/modules root/ctest
	cp busybox/bin/busybox root/bin/
	cp "$here/init.sh" root/init
	chmod +x root/init
	(cd "$build" && find . -name CTestTestfile.cmake -exec cp --parents {} "$work/root/ctest" \;)
	find root/ctest -type f -exec sed -i 's/ TIMEOUT "[0-9]*"/ TIMEOUT "3600"/' {} +
	if [ -n "${OPENSSL-}" ]; then
		libraries=$work/openssl/usr/lib/x86_64-linux-gnu
		find root/ctest -type f -exec \
			sed -i "s,FERRY_EMULATOR=,&$libraries/ld-linux-x86-64.so.2 --library-path $libraries," {} +
	fi
	number=10
	# The last line has TLS, and its ciphers.
	for module in virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk crc16 \
			crc32c_generic libcrc32c mbcache jbd2 ext4 netfs fscache 9pnet 9pnet_virtio 9p \
			crypto_null gf128mul ghash-generic ctr gcm ccm libchacha libpoly1305 chacha_generic poly1305_generic \
			chacha20poly1305 tls; do
		number=$((number + 1))
		file=$(find "$1/lib/modules" -name "$module.ko" -o -name "$module.ko.xz")
		case $file in
		'') ;; # in the kernel itself, or not in this version
		*.xz) xz -dc "$file" >"root/modules/$number-$module.ko" ;;
		*) cp "$file" "root/modules/$number-$module.ko" ;;
		esac
	done
	(cd root && find . | ../busybox/bin/busybox cpio -H newc -o 2>/dev/null | gzip -1) >initramfs
}

# boot VERSION SETTING...: the kernel passes the settings to init.sh. Without no_timer_check, Linux 5.10 finds no timer
# in the emulator.
boot()
{
	version=$1
	shift
	qemu-system-x86_64 -accel "${ACCEL:-tcg}" -smp 2 -m 3G -nodefaults -display none -no-reboot -serial stdio \
		-kernel "$version"/boot/vmlinuz-* -initrd initramfs \
		-drive file=disk,format=raw,if=virtio,cache=unsafe \
		-virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
		-append "console=ttyS0 panic=-1 no_timer_check quiet loglevel=1 $*" </dev/null | sed -u 's/\r$//'
}

if [ "${OPENSSL-}" = 3.5 ]; then
	openssl_3_5
fi
passed=0 failed=0
for version in "$@"; do
	kernel "$version"
	initramfs "$version"
	for user in ${USERS:-root nobody}; do
		rm -f disk
		truncate -s 8G disk
		mkfs.ext4 -q -F disk
		echo "== Linux $version, $user"
		boot "$version" "BUILD=$build SOURCE=$source RUN_AS=$user" \
			"LABELS=${LABELS:-unit|battery} TESTS=${TESTS:-.} WITH_TLS=$tls" | tee output
		if grep -qx 'ferry: 0' output && ! { [ -n "$tls" ] && grep -q 'Skipped' output; }; then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
		fi
	done
done
rm -f disk
echo "kernels: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
