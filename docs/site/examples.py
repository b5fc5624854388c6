"""Finds a piece of compiled C for each public function: in examples/, examples/reference/ or src/programs/."""
import re

SOURCES = ("examples/*.c", "examples/reference/*.c", "src/programs/**/*.c")  # the first that has a call is taken
LINES_MAX = 34  # of a function that is shown whole
AROUND = 7      # lines before and after the call in a longer one


class Example:
    def __init__(self, path, line, text, whole):
        self.path, self.line, self.text, self.whole = path, line, text, whole


def functions(text):
    """(line, lines) of each definition, with the comment before it."""
    lines = text.split("\n")
    for end, line in enumerate(lines):
        if line != "}":
            continue
        opening = max((number for number in range(end) if lines[number] == "{"), default=None)
        if opening is None:
            continue
        start = opening
        while start > 0 and lines[start - 1] and lines[start - 1] not in ("}", "};"):
            start -= 1
        yield start, lines[start:end + 1]


def excerpt(path, start, lines, name):
    """A function, or the part of it around the call."""
    if len(lines) <= LINES_MAX:
        return Example(path, start + 1, "\n".join(lines), True)
    at = next(number for number, line in enumerate(lines) if f"{name}(" in line)
    opening = lines.index("{")
    first, last = max(at - AROUND, opening + 1), min(at + AROUND, len(lines) - 1)
    part = lines[opening - 1:opening + 1] if first > opening + 1 else lines[:opening + 1]
    part = part + (["\t…"] if first > opening + 1 else []) + lines[first:last + 1]
    return Example(path, start + 1, "\n".join(part + (["\t…", "}"] if last < len(lines) - 1 else [])), False)


def find(root, names):
    """{name: Example}; the shortest function of the first source that has a call."""
    found = {}
    for pattern in SOURCES:
        best = {}
        for file in sorted(root.glob(pattern)):
            path = file.relative_to(root).as_posix()
            for start, lines in functions(file.read_text(encoding="utf-8")):
                for name in set(re.findall(r"\b(ferry_\w+)\(", "\n".join(lines))) & set(names) - set(found):
                    if name not in best or len(lines) < len(best[name][2]):
                        best[name] = (path, start, lines)
        for name, (path, start, lines) in best.items():
            found[name] = excerpt(path, start, lines, name)
    return found
