#!/bin/sh
# What a user's build is: `cmake -B build` configures the library with its manual pages and nothing else, optimised, by
# what CMake 3.22 has; and no preset but those of developers makes a warning an error. tests/build/bookworm.sh and
# jammy.sh make the whole build.
set -eu

source=$FERRY_SOURCE work=$FERRY_WORK
status=0

complain()
{
	echo "$*"
	status=1
}

if ! command -v make >/dev/null; then
	echo "SKIPPED: no make"
	exit 77
fi
rm -rf "$work"
mkdir -p "$work"

"$CMAKE" -G "Unix Makefiles" -S "$source" -B "$work/build" -DCMAKE_C_COMPILER="$FERRY_CC" >"$work/log"
"$CMAKE" --build "$work/build" --target help | sed -n 's/^[.]* \(ferry[^ ]*\|unit[^ ]*\|line_echo\).*/\1/p' |
	sort | tr '\n' ' ' >"$work/targets"
if [ "$(cat "$work/targets")" != "ferry ferry_manual ferry_objects ferry_testing " ]; then
	complain "a user's build has the targets $(cat "$work/targets")"
fi
if ! grep -q '^CMAKE_BUILD_TYPE:STRING=Release$' "$work/build/CMakeCache.txt"; then
	complain "a user's build is not optimised"
fi

# What CMake 3.23 to 3.25 added and this build could want. src/programs is part of a user's build too.
newer='FILE_SET|HEADER_SETS|WARNING_AS_ERROR|block\(|PROPAGATE|OVERRIDE_FIND_PACKAGE|LINK_GROUP:|LINK_LIBRARY:'
if grep -nE "$newer" "$source/CMakeLists.txt" "$source/src/CMakeLists.txt" "$source"/src/cmake/* \
	"$source/src/programs/CMakeLists.txt"; then
	complain "the above is newer than CMake 3.22"
fi

python3 - "$source/CMakePresets.json" >"$work/strict" <<'END'
import json
import sys

presets = {preset["name"]: preset for preset in json.load(open(sys.argv[1]))["configurePresets"]}


def value(name, variable):
    preset = presets[name]
    parent = preset.get("inherits")
    return preset.get("cacheVariables", {}).get(variable, parent and value(parent, variable))


for name, preset in presets.items():
    if not preset.get("hidden") and value(name, "CMAKE_COMPILE_WARNING_AS_ERROR"):
        print(name)
END
if grep -E '^release$' "$work/strict" || ! grep -qx dev "$work/strict"; then
	complain "warnings must be errors in dev, and not in release"
fi
exit "$status"
