#!/usr/bin/env python3
"""Finds functions, internal headers, test files and examples that are too long, and lines of public headers.

Usage: size.py ROOT
"""
import pathlib
import sys

FUNCTION_MAX = 40   # lines from the opening brace to the closing one, in src/
HEADER_MAX = 150    # lines of an internal header
TEST_MAX = 800      # lines of a test's source
LINE_MAX = 120      # columns of a line of a public header, whose comments clang-format leaves as they are
EXAMPLE_MAX = 149   # lines of an example
LONG_EXAMPLES = {"immortal_chat.c": 181}
PYTHON_MAX = 100    # lines of one in Python, docs/handoff.md promises
SHORT_EXAMPLES = {"message_client.py": 60}  # docs/message.md promises


def functions(lines):
    """The line and the length of each function: its braces stand in the first column."""
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            yield start, number - start + 1
            start = None


def complaints(root):
    for file in sorted(root.glob("src/**/*.[ch]")):
        name = file.relative_to(root)
        lines = file.read_text(encoding="utf-8").splitlines()
        if file.suffix == ".h" and len(lines) > HEADER_MAX:
            yield f"{name}: {len(lines)} lines, not {HEADER_MAX}"
        for start, length in functions(lines):
            if length > FUNCTION_MAX:
                yield f"{name}:{start}: a function of {length} lines, not {FUNCTION_MAX}"
    for file in sorted(root.glob("include/ferry/*.h")):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if len(line) > LINE_MAX:
                yield f"{file.relative_to(root)}:{number}: {len(line)} columns, not {LINE_MAX}"
    for pattern, most in (("tests/**/*.[ch]", TEST_MAX), ("tests/**/*.py", TEST_MAX),
                          ("examples/*.c", EXAMPLE_MAX), ("examples/python/*.py", PYTHON_MAX)):
        for file in sorted(root.glob(pattern)):
            count = len(file.read_text(encoding="utf-8").splitlines())
            allowed = (LONG_EXAMPLES | SHORT_EXAMPLES).get(file.name, most)
            if count > allowed:
                yield f"{file.relative_to(root)}: {count} lines, not {allowed}"


def main():
    found = list(complaints(pathlib.Path(sys.argv[1])))
    print("\n".join(found) if found else "all of it fits")
    sys.exit(1 if found else 0)


main()
