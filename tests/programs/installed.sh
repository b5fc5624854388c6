#!/bin/sh
# The usage of the installed programs, which run with the installed library. By ctest, after build.install.
set -eu

FERRY_BIN=$FERRY_PREFIX/bin
export FERRY_BIN
for program in ferry-proxy ferry-worker ferry-copy; do
	# ldd prints no line for a static library. The path may have a space.
	library=$(ldd "$FERRY_BIN/$program" | sed -n 's/.*libferry.* => \(.*\) (0x.*/\1/p')
	case $(readlink -f "${library:-$FERRY_PREFIX}") in
	"$(readlink -f "$FERRY_PREFIX")"*) ;;
	*)
		echo "$program runs with $library"
		exit 1
		;;
	esac
done
for file in share/man/man8/ferry-proxy.8 share/man/man5/ferry-proxy.conf.5 share/man/man8/ferry-worker.8 \
	share/man/man1/ferry-copy.1 lib/systemd/system/ferry-proxy.service \
	lib/systemd/system/ferry-proxy.socket lib/tmpfiles.d/ferry.conf; do
	if [ ! -s "$FERRY_PREFIX/$file" ]; then
		echo "$file is not installed"
		exit 1
	fi
done
exec /usr/bin/python3 -B "$FERRY_SOURCE/tests/programs/usage.py" -v
