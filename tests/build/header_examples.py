"""Writes a file of C for each example (@code) in the comments of the public headers, with the declarations that it leaves
out before it (header_examples.given). Definitions of an example stay at the top, its statements become a function.

Usage: header_examples.py ROOT DIRECTORY
"""
import pathlib
import re
import sys

ROOT, OUT = map(pathlib.Path, sys.argv[1:])


def read_given():
    """{name of a header, or "all": declarations}"""
    text = (ROOT / "tests/build/header_examples.given").read_text(encoding="utf-8")
    parts = re.split(r"^== (\w+)\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def examples(text):
    """The lines of each example. "@code{.unparsed}" is a drawing."""
    for block in re.findall(r"^ \* @code\n(.*?)^ \* @endcode$", text, re.M | re.S):
        yield [re.sub(r"^ \*(?: |$)", "", line) for line in block.splitlines()]


def split(lines):
    """The definitions, which begin with "static", and the statements."""
    definitions, statements = [], []
    depth, inside = 0, False
    for line in lines:
        inside = inside or line.startswith("static ")
        (definitions if inside else statements).append(line)
        code = re.sub(r'"[^"]*"|//.*', "", line).rstrip()
        depth += code.count("{") - code.count("}")
        inside = inside and not (depth == 0 and code.endswith((";", "}")))
    return definitions, statements


def main():
    given, used = read_given(), {"all"}
    for header in sorted((ROOT / "include/ferry").glob("*.h")):
        for number, lines in enumerate(examples(header.read_text(encoding="utf-8")), 1):
            if header.stem not in given:
                sys.exit(f"header_examples.given has no {header.stem}")
            used.add(header.stem)
            definitions, statements = split(lines)
            (OUT / f"{header.stem}-{number}.c").write_text("\n".join(
                [given["all"], given[header.stem], *definitions, "void example(void);", "void example(void)", "{",
                 *statements, "}", ""]), encoding="utf-8")
    if used != set(given):
        sys.exit(f"header_examples.given: no header needs {', '.join(set(given) - used)}")


main()
