#!/bin/sh
# Counts the lines and branches of the library that the suite runs, and lists the others. Fails below 95 % and 85 %.
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
