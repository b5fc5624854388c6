#!/bin/sh
# Changes one thing at a time in a copy of src/, and runs the tests that run the changed function. Lists the changes
# that no test notices. Exit status 1: fewer than --wanted percent were noticed.
# Usage: run.sh [--mutants N] [--seed S] [--path GLOB]... [--wanted PERCENT] [--preset NAME] [--jobs N]
#        [--labels REGEX] [--tests REGEX] [--list]
# tests/README.md explains the options.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
exec python3 -B "$here/mutation.py" "$@"
