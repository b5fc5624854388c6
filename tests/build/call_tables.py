#!/usr/bin/env python3
"""Checks that every public function is called in callbacks, by a test.

The files of tests that include every_call.h have tables of calls, each of which is made in each callback. A public
function that no table reaches, through the functions of its file, must stand in EXCEPTIONS with the reason; one that
is reached must not.

Usage: call_tables.py ROOT
"""
import pathlib
import re
import sys

EXCEPTIONS = {
    "ferry_log_set_cb": "a setting of the process; the callback for log lines may call nothing of ferry",
    "ferry_version": "returns a constant",
}


def functions(text):
    """The bodies of the functions of a file, by name."""
    pattern = re.compile(r"^[a-z][^\n;=(]*?\b(\w+)\([^;{]*\)\n\{\n(.*?)^\}", re.M | re.S)
    return {found[1]: found[2] for found in pattern.finditer(text)}


def reached(text):
    """The words in the functions of the tables of calls, and in the functions that these name."""
    bodies = functions(text)
    seen = set()
    pending = set()
    for table in re.findall(r"struct every_call \w+\[\] = \{(.*?)^\};", text, re.M | re.S):
        pending |= set(re.findall(r"\", (\w+)\}", table))
    while pending:
        word = pending.pop()
        seen.add(word)
        if word in bodies:
            pending |= set(re.findall(r"\w+", re.sub(r'"[^"]*"', "", bodies[word]))) - seen
    return seen


def main(root):
    public = set(re.findall(r"^\s(ferry_\w+);", (root / "src/ferry.map").read_text(encoding="utf-8"), re.M))
    called = set()
    files = 0
    for file in sorted((root / "tests").rglob("*.c")):
        text = file.read_text(encoding="utf-8")
        if '#include "every_call.h"' in text:
            called |= reached(text)
            files += 1
    missing = sorted(public - called - set(EXCEPTIONS))
    needless = sorted(set(EXCEPTIONS) & called | set(EXCEPTIONS) - public)
    for name in missing:
        print(f"{name}() is in no table of calls (tests/unit/*/every_call.c), and no exception")
    for name in needless:
        print(f"{name}() is called, or is not public: it needs no exception")
    print(f"{len(public & called)} of {len(public)} public functions in {files} files")
    return 1 if missing or needless or not public or not files else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
