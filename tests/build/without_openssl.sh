#!/bin/sh
# Builds ferry-worker without OpenSSL: it links no TLS library, works, and refuses a certificate with the reason.
set -eu

work=$FERRY_WORK
rm -rf "$work"
mkdir -p "$work"

"$CMAKE" -S "$FERRY_SOURCE" -B "$work/build" -DCMAKE_C_COMPILER="$FERRY_CC" -DCMAKE_BUILD_TYPE=Debug \
	-DCMAKE_C_FLAGS="$FERRY_FLAGS" -DFERRY_BUILD_PROGRAMS=ON -DFERRY_WITH_OPENSSL=OFF >"$work/log"
grep -q 'ferry-worker has no TLS' "$work/log"
"$CMAKE" --build "$work/build" --parallel 2 --target ferry-worker >>"$work/log"

worker=$(find "$work/build" -name ferry-worker -type f -perm -u+x)
if ldd "$worker" | grep -E 'lib(ssl|crypto|gnutls)'; then
	echo "ferry-worker links the above"
	exit 1
fi
"$worker" --check --root "$work"
status=0
"$worker" --check --root "$work" --tls-certificate a --tls-key b 2>"$work/refusal" || status=$?
cat "$work/refusal"
[ "$status" -eq 2 ]
grep -qx 'ferry-worker: --tls-certificate: this ferry-worker is built without OpenSSL' "$work/refusal"
