#!/bin/sh
# Installs missing packages, configures, builds and runs all tests. The exit status is that of the first
# step that fails, else ctest's.
# Usage: run.sh [PRESET]   (dev; see CMakePresets.json)
set -eu

cd "$(dirname "$0")/.."
sh tests/install-packages.sh build test
exec cmake --workflow --preset "${1:-dev}"
