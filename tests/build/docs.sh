#!/bin/sh
# The reference is made without a warning: every public function, argument and error is described.
set -eu

FERRY_VERSION=tested FERRY_DOCS=$FERRY_WORK

if [ -z "$FERRY_DOXYGEN" ]; then
	echo "SKIPPED: no doxygen"
	exit 77
fi
mkdir -p "$FERRY_DOCS"
export FERRY_VERSION FERRY_DOCS
cd "$FERRY_SOURCE"
# Without this word doxygen does not warn about undocumented functions of a header.
if grep -L '@file' include/ferry/*.h | grep .; then
	echo "no @file in the above"
	exit 1
fi
"$FERRY_DOXYGEN" Doxyfile
[ -e "$FERRY_DOCS/html/index.html" ]
