#!/usr/bin/env python3
"""Counts sentences that open with a question word, and sentences with the verbs of speech.

The subject of a sentence is a thing that has a name in the code. A sentence that opens with `what`, `who`,
`whoever`, `where`, `how`, `that` or `so` hides the subject, and a thing cannot `tell` or `say`. Fewer than 2 %
and 1 % of the sentences may do so.

Usage: english.py ROOT [--list] [PATH...]   with --list: each such sentence, with its place
"""
import pathlib
import re
import sys

FOLDERS = ("src", "include", "examples", "tests", "docs")
ROOT_FILES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
SKIPPED = ("tests/fuzz/corpus",)
OPENERS = re.compile(r"^(what|who|whoever|where|how|that|so)\b", re.I)
SPEECH = re.compile(r"\b(tell|tells|told|telling|say|says|said|saying)\b", re.I)
OPENERS_MAX, SPEECH_MAX = 2.0, 1.0


def of_c(text):
    """The text of each comment, with the number of its first line."""
    for match in re.finditer(r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/|//[^\n]*', text, re.S):
        comment = match.group()
        if comment.startswith('"'):
            continue
        body = comment[2:-2] if comment.startswith("/*") else comment[2:]
        body = re.sub(r"@code.*?@endcode", "", body, flags=re.S)
        body = re.sub(r"^[ \t]*\*+<?", "", body, flags=re.M).lstrip("*<!")
        body = re.sub(r"@(param|retval|file|brief)\b", "\n\n", body)
        body = re.sub(r"@\w+", "", body)
        yield text.count("\n", 0, match.start()) + 1, body


def of_hash(text):
    """Runs of lines that are comments, in shell, Python and CMake; and Python's docstrings."""
    run, first = [], 0
    for number, line in enumerate(text.split("\n") + [""], 1):
        found = re.match(r"\s*#(?!!)\s?(.*)", line)
        if found:
            first = first if run else number
            run.append(found.group(1))
        elif run:
            yield first, "\n".join(run)
            run = []
    for match in re.finditer(r'"""(.*?)"""', text, re.S):
        yield text.count("\n", 0, match.start()) + 1, match.group(1)


def of_markdown(text):
    """Paragraphs, list items and table cells; not code."""
    blank = lambda found: "\n" * found.group().count("\n")
    text = re.sub(r"^```.*?^```", blank, text, flags=re.S | re.M)
    block, first = [], 0
    for number, line in enumerate(text.split("\n") + [""], 1):
        starts = re.match(r"\s*(?:[-*+]|\d+[.)])\s+|\s*\||\s*#+\s+|\s*>", line)
        if (not line.strip() or starts) and block:
            yield first, "\n".join(block)
            block = []
        if line.lstrip().startswith("|"):
            for cell in line.strip().strip("|").split("|"):
                yield number, cell
        elif line.strip():
            first = first if block else number
            block.append(re.sub(r"^\s*(?:[-*+]|\d+[.)]|#+|>)\s+", "", line))


READERS = {".c": of_c, ".h": of_c, ".cpp": of_c, ".pml": of_c, ".md": of_markdown, ".sh": of_hash,
           ".py": of_hash, ".cmake": of_hash, ".txt": of_hash, ".list": of_hash, ".conf": of_hash}


def sentences(body):
    """The sentences of a piece of text; code in backticks counts as one word."""
    for paragraph in re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.)\s+|\n\s*(?=-E[A-Z]+)", body):
        paragraph = re.sub(r"`[^`]*`", "`", paragraph)
        paragraph = re.sub(r"\s+", " ", paragraph).strip()
        for sentence in re.split(r"(?<=[.!?])\s+(?=[^a-z])", paragraph):
            if len(re.findall(r"[A-Za-z]{2,}", sentence)) >= 3:
                yield sentence.lstrip("*_-+([\"'")


def files(root, wanted):
    paths = [root / path for path in wanted] or \
        [root / name for name in FOLDERS] + [root / name for name in ROOT_FILES]
    for path in paths:
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in found:
            relative = file.relative_to(root).as_posix()
            if file.is_file() and file.suffix in READERS and not relative.startswith(SKIPPED):
                yield relative, file


def main():
    arguments = [word for word in sys.argv[1:] if word != "--list"]
    root = pathlib.Path(arguments[0])
    listing = "--list" in sys.argv
    total = openers = speech = 0
    for name, file in files(root, arguments[1:]):
        for line, body in READERS[file.suffix](file.read_text(encoding="utf-8")):
            for sentence in sentences(body):
                total += 1
                opens = bool(OPENERS.search(sentence))
                speaks = bool(SPEECH.search(sentence))
                openers += opens
                speech += speaks
                if listing and (opens or speaks):
                    print(f"{name}:{line}: {sentence[:160]}")
    if total == 0:
        sys.exit("no sentence was found")
    shares = 100 * openers / total, 100 * speech / total
    print(f"{total} sentences; {openers} open with what, who, where, how, that or so: {shares[0]:.1f} %"
          f" (under {OPENERS_MAX}); {speech} tell or say: {shares[1]:.1f} % (under {SPEECH_MAX})")
    if shares[0] >= OPENERS_MAX or shares[1] >= SPEECH_MAX:
        sys.exit(1)


main()
