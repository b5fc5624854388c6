#!/bin/busybox sh
# shellcheck shell=dash
# The first process of the guest: mounts this machine's files with a disk at /tmp, and runs ctest. Its last line is
# `ferry: STATUS`. The settings of run.sh are in its environment.
set -u

busybox=/bin/busybox
$busybox mkdir -p /proc /dev /host /disk /root
$busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for _ in 1 2; do # which of two needs the other differs between versions
	for module in /modules/*; do
		insmod "$module" 2>/dev/null
	done
done

mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose host /host ||
	poweroff -f
mount -o bind /host /root
mount -t ext4 /dev/vda /disk
mkdir -m 1777 /disk/tmp
mount -o bind /disk/tmp /root/tmp
mount -o bind /disk/tmp /root/var/tmp
mkdir -p "/root$SOURCE" # if it lies in /tmp
mount -o bind "/host$SOURCE" "/root$SOURCE"
mount -o bind /proc /root/proc
mount -t sysfs sys /root/sys
mount -o bind /dev /root/dev
mkdir -p /dev/pts /dev/shm
ln -s /proc/self/fd /dev/fd
for number in 0:stdin 1:stdout 2:stderr; do # gnutls-cli writes to /dev/stderr
	ln -s "fd/${number%:*}" "/dev/${number#*:}"
done
mount -t devpts -o ptmxmode=666 devpts /root/dev/pts
mount -t tmpfs shm /root/dev/shm
mount -t tmpfs run /root/run
ifconfig lo up
hostname ferry

# ctest writes into its directory.
cp -r /ctest /disk/tmp
uid=$(chroot /root /usr/bin/id -u "$RUN_AS")
gid=$(chroot /root /usr/bin/id -g "$RUN_AS")
chown -R "$uid:$gid" /disk/tmp/ctest
uname -a

if [ -n "$WITH_TLS" ] && ! grep -q tls /proc/sys/net/ipv4/tcp_available_ulp; then
	echo "this kernel has not loaded TLS"
	poweroff -f
fi

cd /root || exit
chroot /root /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp \
	FERRY_DEADLINE=1200 FERRY_MODEL_WALKS=50 \
	/usr/bin/setpriv --reuid "$uid" --regid "$gid" --init-groups \
	/usr/bin/ctest --test-dir /tmp/ctest --parallel 4 -L "$LABELS" -R "$TESTS" --output-on-failure --no-tests=error
echo "ferry: $?"
poweroff -f
