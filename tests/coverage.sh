#!/bin/sh
# Which lines and branches of the library the suite runs: at least 95 % and 85 %. Lists what it does not.
# Usage: coverage.sh
set -eu

cd "$(dirname "$0")/.."
sh tests/install-packages.sh build test lint
build=build/coverage
cmake --preset coverage
cmake --build --preset coverage
find "$build" -name '*.gcda' -delete
ctest --preset coverage -L 'unit|fault|battery'

# report ARGUMENT…
report()
{
	gcovr --root . --filter src/ --exclude src/programs/ "$@" "$build/src"
}
report
report --branches
report --html-details "$build/coverage.html" --print-summary --fail-under-line 95 --fail-under-branch 85
