#!/bin/sh
# Writes tests/abi/libferry.abi anew. docs/api-stability.md has when that is right: never to let a test pass that has
# found a change by mistake. A change of the ABI and the file belong into one commit.
# Usage: renew.sh
set -eu

source=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
FERRY_SOURCE=$source FERRY_WORK=$work FERRY_CC=gcc sh "$source/tests/abi/abi.sh" renew
git -C "$source" diff --stat -- tests/abi/libferry.abi
