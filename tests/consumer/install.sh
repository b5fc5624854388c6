#!/bin/sh
# Installs the build into a prefix of its own, which was not known when it was configured.
set -eu

rm -rf "$FERRY_PREFIX"
"$CMAKE" --install "$FERRY_BUILD" --prefix "$FERRY_PREFIX"
