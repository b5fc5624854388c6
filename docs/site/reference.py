"""Reads the reference out of the comments of the public headers. docs/conventions.md has the form of a comment.

The web pages (reference_pages.py) and the manual pages (manual.py) are made of what load() returns.
"""
import fnmatch
import pathlib
import re
import sys

import examples

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HEADERS = ROOT / "include/ferry"
GROUPS = ROOT / "docs/reference/groups.txt"
ERRORS = ROOT / "docs/errors.md"

COMMENT = re.compile(r"/\*\*(?!<)((?:(?!\*/).)*)\*/[ \t]*\n(?=\S)"
                     r"(?:#define (\w+)([^\n\\]*(?:\\\n[^\n\\]*)*)|([^;{#]*)(\{.*?\n\})?([^;{}#]*;))", re.S)
CODES = re.compile(r"(?:-E[A-Z0-9]+(?:, | and )?)+")
CALLERS = re.compile(r"(May be called|Legal) [^.]*\.")
WORDS = re.compile(r"`(?P<code>[^`]+)`|@[pc] (?P<argument>\w+)|(?P<function>\bferry_\w+)\(\)|"
                   r"(?P<page>\bdocs/[\w/-]+\.md)|(?P<header>\bferry/\w+\.h)|"
                   r"\b(?P<manual>\w+\([1-9]\))|(?P<constant>\bFERRY_\w+|-?\bE[A-Z0-9]{3,}\b)")

# Arguments that a comment need not describe, because they are the same everywhere.
USUAL = {"stats": ("out", "the counters"), "info": ("out", "the properties"),
         "context": ("", "the last argument of each callback"), "cb": ("", "the callback, or NULL for none")}


def tokens(text):
    """The pieces of a line of text, as (kind, text); the kinds are those of WORDS, and "text"."""
    end = 0
    for match in WORDS.finditer(text):
        if match.start() > end:
            yield "text", text[end:match.start()]
        yield match.lastgroup, match[match.lastgroup]
        end = match.end()
    if end < len(text):
        yield "text", text[end:]


def blocks(lines):
    """Paragraphs, lists and code: ("text", line), ("list", lines), ("code", line with newlines)."""
    found = []
    code = None
    for line in lines:
        if line.startswith("@code"):
            code = []
        elif line.startswith("@endcode"):
            found.append(("code", "\n".join(code)))
            code = None
        elif code is not None:
            code.append(line)
        elif not line:
            found.append(None)
        elif line.startswith("- "):
            if found and found[-1] and found[-1][0] == "list":
                found[-1][1].append(line[2:])
            else:
                found.append(("list", [line[2:]]))
        elif found and found[-1] and found[-1][0] == "list":
            found[-1][1][-1] += " " + line.strip()
        elif found and found[-1] and found[-1][0] == "text":
            found[-1] = ("text", found[-1][1] + " " + line.strip())
        else:
            found.append(("text", line.strip()))
    return [block for block in found if block]


def sentences(text):
    return re.split(r"(?<=[.!?])\s+(?=[A-Z@`-]|ferry )", text)


class Comment:
    """A comment, taken apart into the fields that docs/conventions.md lists."""

    def __init__(self, text):
        text = re.sub(r"^[ \t]*\*[ ]?", "", text.strip("\n"), flags=re.M)
        lines = [line.rstrip() if line.startswith((" ", "\t")) else line.strip() for line in text.strip().split("\n")]
        self.params, self.results = {}, []
        self.returns = self.callers = self.since = ""
        plain, current = [], None
        for line in lines:
            match = re.match(r"@(param(?:\[[a-z,]+\])?|retval|return|par|file|brief)(?:\s+(.*)|$)", line)
            if match:
                current = [match[1], match[2]]
                plain.append(current)
            elif not line or not isinstance(current, list):
                current = None
                plain.append(line)
            else:
                current[1] += " " + line.strip()
        self.fields([field for field in plain if isinstance(field, list)])
        self.blocks = blocks([field for field in plain if not isinstance(field, list)])
        self.take_sentences()

    def text(self):
        """The paragraphs."""
        return " ".join([self.brief] + [text for kind, text in self.blocks if kind == "text"])

    def fields(self, found):
        for name, text in found:
            if name.startswith("param"):
                argument, _, rest = text.partition(" ")
                self.params[argument] = (name[6:-1], rest)
            elif name == "retval":
                self.results.append(self.result(text))
            elif name == "return":
                self.returns = text
            elif name == "par" and text.startswith("Callers "):
                self.callers = text[len("Callers "):]
            elif name == "brief":
                self.file_brief = text

    @staticmethod
    def result(text):
        """("0" or "other" or the codes, text)"""
        match = CODES.match(text)
        if match:
            return re.findall(r"E\w+", match[0]), text[match.end():].strip()
        word, _, rest = text.partition(" ")
        return word, rest

    def take_sentences(self):
        """Takes Since and the callers out of the text."""
        left = []
        for kind, text in self.blocks:
            if kind == "text":
                since = re.search(r"Since (\d+\.\d+)\.", text)
                if since:
                    self.since = since[1]
                    text = text.replace(since[0], "").strip()
                called = CALLERS.search(text)
                if called and text.startswith(called[0]) or called and text.endswith(called[0]):
                    self.callers = (self.callers + " " + called[0]).strip()
                    text = text.replace(called[0], "").strip()
            if text:
                left.append((kind, text))
        self.blocks = left
        self.brief = ""
        self.goes_on = False  # the first paragraph has more than the brief
        if left and left[0][0] == "text":
            parts = sentences(left[0][1])
            self.brief = parts[0]
            rest = " ".join(parts[1:])
            self.goes_on = bool(rest)
            self.blocks = ([("text", rest)] if rest else []) + left[1:]


class Entry:
    """A function or a type, with its comment."""

    def __init__(self, header, comment, declaration, body):
        self.header, self.comment = header, comment
        self.declaration = " ".join(re.sub(r"FERRY_EXPORT\b|\bFERRY_PRINTF\([^)]*\)", "", declaration).split()).replace(" ;", ";")
        self.body = body
        typedef = re.match(r"typedef .*?\(\*(\w+)\)", self.declaration)
        tagged = re.match(r"(struct|enum)\s*(\w*)\s*;?$", self.declaration)
        macro = re.match(r"#define (\w+)", self.declaration)
        self.kind = "macro" if macro else "typedef" if typedef else tagged[1] if tagged else "function"
        if macro:
            self.name = macro[1]
        elif typedef or tagged:
            self.name = typedef[1] if typedef else tagged[2] or f"{header.name}_limits"
        else:
            self.name = re.search(r"(ferry_\w+)\(", self.declaration)[1]
        self.arguments = self.parse_arguments() if self.kind in ("function", "typedef") else []
        self.members = members(body) if body else []
        # (code or "other", condition, function whose comment has it or None), by Reference.resolve()
        self.errors = []

    def parse_arguments(self):
        """(type, name) of each."""
        inside = self.declaration[self.declaration.index("(", self.declaration.index(self.name)) + 1:]
        inside = inside.removeprefix("*").strip().rstrip(";").rstrip()
        if self.kind == "typedef":
            inside = inside[inside.index("(") + 1:] if "(" in inside else inside
        inside = inside[:-1]
        found = []
        for part in re.split(r",(?![^(]*\))", inside):
            part = part.strip()
            match = re.match(r"(.*?)(\w+)(\[\w*\])?$", part)
            pointer = re.search(r"\(\*(\w+)\)", part)
            if pointer:
                found.append((part, pointer[1]))
            elif match and part != "void":
                found.append((match[1].strip(), match[2]))
        return found

    @property
    def result(self):
        return self.declaration[:self.declaration.index(self.name)].strip()


def members(body):
    """(declaration, text) of the members of a struct or an enum."""
    found = []
    before, declaration, depth = "", "", 0
    for comment, character in re.findall(r"(/\*(?:(?!\*/).)*\*/)|(.)", body.strip()[1:-1] + ";", re.S):
        text = " ".join(re.sub(r"^[ \t]*\*[ ]?", "", comment[3:-2].lstrip("<"), flags=re.M).split())
        if comment.startswith("/**<") and (found or declaration.strip()):
            if declaration.strip():
                before = text
            else:
                found[-1] = (found[-1][0], text)
        elif comment.startswith("/**"):
            before = text
        elif character in (";", ",") and depth == 0:
            if declaration.strip():
                found.append((" ".join(declaration.split()), before))
                before = ""
            declaration = ""
        elif character:
            depth += (character in "({") - (character in ")}")
            declaration += character
    return found


class Header:
    def __init__(self, file):
        self.name = file.stem
        text = file.read_text(encoding="utf-8")
        self.comment = Comment(re.search(r"/\*\*((?:(?!\*/).)*@file(?:(?!\*/).)*)\*/", text, re.S)[1])
        self.brief = self.comment.file_brief
        if self.comment.goes_on:
            self.comment.blocks[0] = ("text", f"{self.comment.brief} {self.comment.blocks[0][1]}")
        elif self.comment.brief:
            self.comment.blocks.insert(0, ("text", self.comment.brief))
        self.entries = []
        text = re.sub(r"^#(?:if|ifdef|ifndef|else|endif|include)\b.*\n", "", text[text.index("@file"):], flags=re.M)
        text = re.sub(r"^(#define FERRY_\w+ \S+) /\*\*<(.*)\*/$", r"/**\2 Since 0.1. */\n\1", text[text.index("*/") + 2:], flags=re.M)
        for comment, macro, value, declaration, body, rest in COMMENT.findall(text):
            if macro:
                declaration = f"#define {macro}" + ("" if "\n" in value else value)
            self.entries.append(Entry(self, Comment(comment), declaration + (rest if not body else ""), body))
        self.functions = [entry for entry in self.entries if entry.kind == "function"]
        self.types = [entry for entry in self.entries if entry.kind != "function"]


def read_errors():
    """The tables of docs/errors.md: {error or "other": remedy, in the form of a comment}, and the errors that are reasons."""
    advice, reasons = {}, set()
    section = ""
    for line in ERRORS.read_text(encoding="utf-8").splitlines():
        section = line if line.startswith("## ") else section
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        codes = ["other"] if cells[0] == "another" else re.findall(r"-(E[A-Z0-9]+)\b", cells[0])
        if section == "## By number" and codes:
            remedy = re.sub(r"`(ferry_\w+\(\))`", r"\1", cells[2])
            advice.update(dict.fromkeys(codes, re.sub(r"\[[^]]*\]\(([\w/-]+\.md)\)", r"docs/\1", remedy)))
        elif section == "## The reasons of connection_lost":
            reasons.update(codes)
    return advice, reasons


class Reference:
    def __init__(self):
        self.headers = [Header(file) for file in sorted(HEADERS.glob("*.h")) if file.stem not in ("ferry", "export")]
        self.functions = {entry.name: entry for header in self.headers for entry in header.functions}
        self.types = {entry.name: entry for header in self.headers for entry in header.types}
        self.advice, self.reasons = read_errors()
        self.examples = examples.find(ROOT, self.functions)
        self.complaints = []
        for entry in self.functions.values():
            self.resolve(entry, ())
        for entry in self.functions.values():
            self.check(entry)
        self.check_errors()
        self.groups = self.read_groups()

    def complain(self, entry, text):
        self.complaints.append(f"include/ferry/{entry.header.name}.h: {entry.name}(): {text}")

    def resolve(self, entry, path):
        """The errors of a function, those of other functions that it refers to included."""
        if entry.errors or entry.name in path:
            return entry.errors
        found = {}
        for codes, text in entry.comment.results:
            origin = re.match(r"(?:as|the errors of) (ferry_\w+)\(\)(.*)", text)
            there = {}
            if origin:
                if origin[1] not in self.functions:
                    self.complain(entry, f"there is no {origin[1]}()")
                    continue
                there = {error[0]: error for error in self.resolve(self.functions[origin[1]], path + (entry.name,))}
            if codes == "0":
                continue
            if codes == "other" and not origin:
                found["other"] = ("other", text, None)
                continue
            if codes == "other":
                for code, error in there.items():
                    if code not in found:
                        found[code] = (code, error[1], error[2] or origin[1])
                    elif f"{origin[1]}()" not in found[code][1]:
                        found[code] = (code, f"{found[code][1]}; or as {origin[1]}()", found[code][2])
                continue
            if text.startswith("or another"):
                text = re.sub(r"^or another.*?: ", "", text)
                found["other"] = ("other", f"another error of the kernel: {text}", None)
            for code in codes:
                if origin and code not in there:
                    self.complain(entry, f"-{code} as {origin[1]}(), which has no such error")
                condition = there[code][1] + origin[2] if origin and code in there else text
                if code in found:
                    condition = f"{found[code][1]}; {condition}"
                found[code] = (code, condition, origin[1] if origin else None)
        entry.errors = list(found.values())
        return entry.errors

    def arguments(self, entry):
        """(type, name, direction, text) of each argument."""
        like = re.search(r"[Tt]he arguments (?:are those|as those)? ?of (ferry_\w+)\(\)",
                         entry.comment.text())
        there = {}
        if like and like[1] in self.functions:
            there = {name: (direction, text) for _, name, direction, text in self.arguments(self.functions[like[1]])}
        found = []
        for number, (kind, name) in enumerate(entry.arguments):
            direction, text = entry.comment.params.get(name) or there.get(name) or ("", "")
            own = re.match(r"(?:const )?struct ferry_(\w+) \*(\*?)$", kind)
            if not text and number == 0 and own:
                direction, text = "out" if own[2] else "", "the " + own[1].replace("_", " ")
            elif not text:
                direction, text = USUAL.get(name, ("", ""))
            found.append((kind, name, direction, text))
        return found

    def check(self, entry):
        comment = entry.comment
        if not comment.brief:
            self.complain(entry, "no brief")
        if not comment.since:
            self.complain(entry, "no since")
        if not (comment.callers or entry.header.comment.callers):
            self.complain(entry, "no callers: neither its comment nor the header's has them")
        for _, name, _, text in self.arguments(entry):
            if not text and f"@p {name}" not in str(comment.blocks) + comment.brief:
                self.complain(entry, f"nothing about {name}")
        for name in comment.params:
            if name not in [argument for _, argument in entry.arguments]:
                self.complain(entry, f"it has no {name}")
        everything = comment.brief + str(comment.blocks) + comment.returns + str(comment.results)
        if re.search(r"(?:^|\. )-E[A-Z]+(?: also)?: ", comment.text()):
            self.complain(entry, "an error in the text; it should be a @retval")
        if entry.result != "void" and not re.search(r"\b[Rr]eturns\b|^Whether|'0'|@return", everything + (
                "@return" if comment.returns else "")):
            self.complain(entry, "nothing about its result")
        if entry.name not in self.examples:
            self.complain(entry, "no example calls it; write one in examples/reference/")
        for code, condition, _ in entry.errors:
            if code not in self.advice:
                self.complain(entry, f"the first table of docs/errors.md has no -{code}")
            if not condition:
                self.complain(entry, f"-{code} without a condition")

    def check_errors(self):
        """Each error of docs/errors.md is one that a function returns, or a reason there."""
        returned = {error[0] for entry in self.functions.values() for error in entry.errors}
        for code in sorted(set(self.advice) - returned - self.reasons):
            self.complaints.append(f"docs/errors.md: no function documents -{code}")

    def read_groups(self):
        """The tasks, [(title, [functions])], by GROUPS: below a title, names of functions and patterns of names."""
        groups, patterns = [], []
        if not GROUPS.exists():
            return []
        for line in GROUPS.read_text(encoding="utf-8").splitlines():
            if line.startswith("# ") or not line.strip():
                continue
            if line.startswith((" ", "\t")):
                patterns += [(pattern, len(groups) - 1) for pattern in line.split()]
            else:
                groups.append((line.strip(), []))
        exact = {pattern: group for pattern, group in patterns if "*" not in pattern}
        used = set()
        for name, entry in self.functions.items():
            found = [(name, exact[name])] if name in exact else [
                (pattern, group) for pattern, group in patterns if fnmatch.fnmatchcase(name, pattern)][:1]
            if not found:
                self.complain(entry, "in no group of docs/reference/groups.txt")
                continue
            used.add(found[0][0])
            groups[found[0][1]][1].append(entry)
        for pattern, _ in patterns:
            if pattern not in used:
                self.complaints.append(f"docs/reference/groups.txt: {pattern} names no function")
        return groups


def load():
    return Reference()


def main():
    reference = load()
    print("\n".join(reference.complaints + [f"{len(reference.functions)} functions, {len(reference.types)} types"]))
    return 1 if reference.complaints or len(reference.functions) < 200 else 0


if __name__ == "__main__":
    sys.exit(main())
