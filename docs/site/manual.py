#!/usr/bin/env python3
"""Writes the manual pages of section 3, one for each public header, and ferry(7), in mdoc(7).

Usage: manual.py OUT    each function has a link to its page besides: OUT/man3/ferry_x.3

They are made of the comments in include/ferry/ (reference.py). Examples are parts of programs that the tests compile.
"""
import pathlib
import re
import sys
import textwrap

import reference
from reference_pages import callers

ROOT = reference.ROOT
WHOLE = "examples/line_echo.c"  # the program of ferry(7)
SYMBOLS = {"…": "\\[u2026]", "µ": "\\[mc]", "—": "\\[em]", "–": "\\[en]", "→": "\\[->]", "×": "\\[mu]", "’": "\\[cq]"}


def escape(text):
    text = text.replace("\\", "\\e")
    return "".join(SYMBOLS.get(character, character if character < "\x7f" else f"\\[u{ord(character):04X}]")
                   for character in text)


def inline(text):
    """A line of a comment, with fonts."""
    parts = []
    for kind, piece in reference.tokens(text):
        shown = escape(piece)
        if kind == "function":
            parts.append(f"\\fB{shown}\\fP()")
        elif kind == "argument":
            parts.append(f"\\fI{shown}\\fP")
        elif kind == "code":
            parts.append(f"\\fB{shown}\\fP")
        else:
            parts.append(re.sub(r"\b(\w+)\(\)", r"\\fB\1\\fP()", shown))
    return "".join(parts)


def prose(text):
    """Lines of text: a sentence begins a line, and no line is longer than 80 bytes."""
    lines = []
    for sentence in re.split(r"(?<=[.!?:;)])\s+(?=[A-Z@`(\"'-])", text):
        lines += textwrap.wrap(inline(sentence), 76, break_long_words=False, break_on_hyphens=False)
    # No line may begin with a control character, and none may end a sentence in its middle.
    return ["\\&" + line if line.startswith((".", "'")) else line for line in lines]


def literal(text):
    lines = [escape(line.replace("\t", "    ")) for line in text.split("\n")]
    return [".Bd -literal -offset Ds"] + ["\\&" + line if line.startswith((".", "'")) else line for line in lines] + [".Ed"]


def blocks(found, first=True):
    lines = []
    for kind, content in found:
        if kind == "text":
            lines += ([] if first else [".Pp"]) + prose(content)
        elif kind == "list":
            lines.append(".Bl -bullet -compact")
            for item in content:
                lines += [".It"] + prose(item)
            lines.append(".El")
        else:
            continue
        first = False
    return lines


def capital(text):
    named = re.match(r"\w+(_\w+|\()", text)  # a name begins with a small letter
    return (text if named else text[:1].upper() + text[1:]) + ("" if text.endswith((".", ":")) else ".")


class Manual:
    def __init__(self):
        self.reference = reference.load()
        page = (ROOT / "src/programs/ferry-worker/ferry-worker.8").read_text(encoding="utf-8")
        self.date = re.search(r"^\.Dd .*$", page, re.M)[0]

    def function(self, entry):
        comment = entry.comment
        lines = [f".Ss {entry.name}()"] + prose(comment.brief) + blocks(comment.blocks, first=comment.goes_on)
        arguments = [(name, text) for _, name, _, text in self.reference.arguments(entry) if text]
        if arguments:
            lines += [".Pp", "Arguments:", ".Bl -tag -width Ds -compact"]
            for name, text in arguments:
                lines += [f".It Fa {name}"] + prose(capital(text))
            lines.append(".El")
        zero = [text for codes, text in comment.results if codes == "0"]
        if comment.returns or zero and zero[0] != "done":
            lines += [".Pp"] + prose("Returns " + (comment.returns or f"0: {zero[0]}") + ".")
        if entry.errors:
            lines += [".Pp", "Errors:", ".Bl -tag -width Ds -compact"]
            for code, condition, origin in entry.errors:
                lines += [".It another" if code == "other" else f".It \\-{code}"] + prose(capital(condition)) + (prose(f"As {origin}().") if origin else [])
            lines.append(".El")
        if comment.callers:
            lines += [".Pp"] + prose("Callers: " + callers(entry)[0].lower() + callers(entry)[1:])
        return lines

    @staticmethod
    def prototype(entry):
        lines = [f'.Ft "{re.sub(r" [*]$", " *", entry.result)}"', f".Fo {entry.name}"]
        inside = entry.declaration[entry.declaration.index("(") + 1:].removesuffix(");")
        parts = [part.strip() for part in re.split(r",(?![^(]*\))", inside)]
        if len(entry.name) + len(parts[0]) > 70:
            parts[0] = "\\:" + parts[0]  # the line may break behind the parenthesis
        lines += [f'.Fa "{part}"' for part in parts]
        return lines + [".Fc"]

    @staticmethod
    def type(entry):
        title = "Limits" if entry.name.endswith("_limits") else entry.name if entry.kind in ("typedef", "macro") else f"{entry.kind} {entry.name}"
        lines = [f".Ss {title}"] + prose(entry.comment.brief) + blocks(entry.comment.blocks, first=entry.comment.goes_on)
        if entry.kind == "typedef":
            lines += literal("\n        ".join(textwrap.wrap(entry.declaration, 66)))
        if entry.members:
            lines += [".Pp", ".Bl -tag -width Ds -compact"]
            for declaration, text in entry.members:
                lines += [".It " + escape(re.sub(r"\((\*\w+)\)\(.*\)", r"(\1)()", declaration))] + prose(capital(text) if text else "")
            lines.append(".El")
        return lines

    def header(self, header):
        name = f"ferry_{header.name}" if header.name != "version" else "ferry_version"
        names = [entry.name for entry in header.functions]
        first = [name] if name not in names else []
        lines = [self.date, f".Dt {name.upper()} 3", ".Os", ".Sh NAME"]
        listed = first + names
        lines += [f".Nm {item} ," for item in listed[:-1]] + [f".Nm {listed[-1]}"]
        lines += [f".Nd {self.one_line(header.brief)}", ".Sh SYNOPSIS", f".In ferry/{header.name}.h"]
        for entry in header.functions:
            lines += self.prototype(entry)
        lines += [".Sh DESCRIPTION"] + (blocks(header.comment.blocks) or prose(header.brief))
        if header.comment.callers:
            lines += [".Pp"] + prose("Callers: " + header.comment.callers[0].lower() + header.comment.callers[1:])
        for entry in header.functions:
            lines += self.function(entry)
        if header.types:
            lines.append(".Sh TYPES")
            for entry in header.types:
                lines += self.type(entry)
        if any(entry.result == "int" for entry in header.functions):
            lines += [".Sh RETURN VALUES"] + prose(
                "A function that can fail returns 0, or a number that its description has; or a negative error, and nothing "
                "has changed then. The variable errno means nothing after a call. See ferry(7).")
        lines += self.example(header) + self.see_also(header)
        return name, lines

    @staticmethod
    def one_line(brief):
        text = inline(re.split(r"(?<=\.)\s", brief)[0].rstrip("."))
        return text[0].lower() + text[1:] if not text.startswith(("PROXY", "TLS")) else text

    def example(self, header):
        found = [self.reference.examples[entry.name] for entry in header.functions
                 if entry.name in self.reference.examples]
        found.sort(key=lambda example: (not example.whole, max(map(len, example.text.split("\n"))) > 88,
                                      example.path.startswith("src/"), len(example.text)))
        whole = [example for example in found if example.text.count("\n") >= 7] or found
        if not whole:
            return []
        return [".Sh EXAMPLES"] + prose(f"A part of {whole[0].path}:") + literal(whole[0].text)

    def see_also(self, header):
        text = str([header.comment.blocks] + [entry.comment.blocks for entry in header.entries])
        others = sorted(set(re.findall(r"ferry/(\w+)\.h", text)) & {other.name for other in self.reference.headers} - {header.name})
        pages = [f"ferry_{name} 3" for name in others] + ["ferry 7"]
        return [".Sh SEE ALSO"] + [f".Xr {page} ," for page in pages[:-1]] + [f".Xr {pages[-1]}"]

    def overview(self):
        lines = [self.date, ".Dt FERRY 7", ".Os", ".Sh NAME", ".Nm ferry",
                 ".Nd libevent bufferevents that carry bytes, file descriptors and files", ".Sh DESCRIPTION"]
        conventions = (ROOT / "docs/conventions.md").read_text(encoding="utf-8").split("\n## ")[0]
        for paragraph in conventions.split("\n\n")[1:]:
            text = " ".join(paragraph.split())
            text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).replace("**", "").strip()
            text = re.sub(r"`(ferry_\w+\(\))`", r"\1", text)
            lines += ([] if lines[-1].startswith(".Sh") else [".Pp"]) + prose(text)
        lines.append(".Sh FUNCTIONS")
        for title, entries in self.reference.groups:
            lines.append(f".Ss {title}")
            lines.append(".Bl -tag -width Ds -compact")
            for entry in entries:
                lines += [f".It Fn {entry.name}"] + prose(entry.comment.brief)
            lines.append(".El")
        text = (ROOT / WHOLE).read_text(encoding="utf-8").rstrip()
        lines += [".Sh EXAMPLES"] + prose(f"{WHOLE}, a whole program:") + literal(text)
        pages = ["ferry-copy 1"] + [f"ferry_{header.name} 3" for header in self.reference.headers] + ["ferry-proxy 8", "ferry-worker 8"]
        lines += [".Sh SEE ALSO"] + [f".Xr {page} ," for page in pages[:-1]] + [f".Xr {pages[-1]}"]
        return lines

    def write(self, out):
        for header in self.reference.headers:
            name, lines = self.header(header)
            store(out / "man3" / f"{name}.3", lines)
            for entry in header.functions:
                if entry.name != name:
                    store(out / "man3" / f"{entry.name}.3", [f".so man3/{name}.3"])
        store(out / "man7" / "ferry.7", self.overview())


def store(file, lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: manual.py OUT")
    Manual().write(pathlib.Path(sys.argv[1]))


if __name__ == "__main__":
    main()
