"""The changes that can be made in a C source: found by its tokens, in bodies of functions only.

The operators are those that public tools have in common: conditions (negated, && and || swapped, bounds, !),
arithmetic, constants, results, and statements that are dropped.
"""

import dataclasses
import re

TOKEN = re.compile(r"""
    (?P<skip>\s+|/\*.*?\*/|//[^\n]*|^[ \t]*\#(?:[^\n\\]|\\.)*)
  | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
  | (?P<number>[0-9](?:[\w.]|[eEpP][+-])*)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<sign><<=|>>=|\.\.\.|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|.)
""", re.VERBOSE | re.DOTALL | re.MULTILINE)

SWAPS = {
    "&&": ("||",), "||": ("&&",), "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"),
    "==": ("!=",), "!=": ("==",), "+=": ("-=",), "-=": ("+=",), "++": ("--",), "--": ("++",),
}
NOT_STATEMENTS = {"return", "break", "continue", "goto", "if", "while", "for", "do", "switch", "case", "default",
                  "else", "struct", "enum", "union", "static", "const", "unsigned", "assert", "va_end", "va_start"}


@dataclasses.dataclass(frozen=True)
class Token:
    kind: str
    text: str
    start: int

    @property
    def end(self):
        return self.start + len(self.text)


@dataclasses.dataclass(frozen=True)
class Mutant:
    """The text between two positions of a file is replaced."""
    path: str
    function: int   # which one of the file
    start: int
    end: int
    new: str
    line: int
    name: str       # what stays the same when lines move: path, function, source line, change


def tokens_of(text):
    return [Token(match.lastgroup, match.group(), match.start())
            for match in TOKEN.finditer(text) if match.lastgroup != "skip"]


def bodies(text):
    """The start, the end and the name of each function: its braces stand in the first column."""
    for match in re.finditer(r"^\{\n.*?^\}", text, re.MULTILINE | re.DOTALL):
        head = text[:match.start()].rstrip()
        words = re.findall(r"^[A-Za-z_][^\n]*?(\w+)\(", head, re.MULTILINE)
        if head.endswith(")") and words:
            yield match.start(), match.end(), words[-1]


def closing(tokens, first):
    """The index of the bracket that closes the one at `first`."""
    depth = 0
    for index in range(first, len(tokens)):
        depth += tokens[index].text in ("(", "{", "[")
        depth -= tokens[index].text in (")", "}", "]")
        if depth == 0:
            return index
    return len(tokens) - 1


def conditions(tokens):
    """Conditions that are negated: a comparison alone is left to SWAPS."""
    for index, token in enumerate(tokens[:-1]):
        if token.text in ("if", "while") and tokens[index + 1].text == "(":
            last = closing(tokens, index + 1)
            inside = [each.text for each in tokens[index + 2:last]]
            if inside[0] != "!" and not set(inside) & {"==", "!="} and inside != ["true"]:
                yield tokens[index + 1].end, tokens[last].start, "!({})"


def statement_starts(tokens):
    """The indices of tokens that begin a statement: none in brackets, none in the braces of a value."""
    opened, starts, depth = set(), [], 0
    for index, token in enumerate(tokens[:-1]):
        before = tokens[index - 1].text if index > 0 else ""
        if depth == 0 and index > 0 and (before in (";", "{", "}", "else") or index - 1 in opened):
            starts.append(index)
        if token.text in ("if", "while", "for") and tokens[index + 1].text == "(":
            opened.add(closing(tokens, index + 1))
        value = token.text == "{" and index > 0 and before not in (")", "else", "do", ";", "{", "}", ":")
        value = value or token.text == "{" and before == ")" and tokens[index - 1].end == token.start
        depth += token.text in ("(", "[") or value or depth > 0 and token.text == "{"
        depth -= token.text in (")", "]") or depth > 0 and token.text == "}"
    return starts


def statements(tokens):
    """Calls and assignments, each alone between semicolons, that are dropped."""
    for index in statement_starts(tokens):
        last = index
        while last < len(tokens) and tokens[last].text != ";":
            last = closing(tokens, last) + 1 if tokens[last].text in ("(", "[", "{") else last + 1
        inside = tokens[index:last]
        if not inside or inside[0].text in NOT_STATEMENTS or inside[0].text in ("{", "}", ")"):
            continue
        words = [each.kind == "word" for each in inside[:2]]
        declares = words == [True, True] or (words[0] and len(inside) > 2 and inside[1].text == "*")
        changes = {each.text for each in inside} & {"(", "=", "+=", "-=", "|=", "&=", "++", "--", "*=", "/="}
        unused = [each.text for each in inside[:2]] == ["(", "void"] and len(inside) == 4
        if changes and not declares and not unused and inside[1].text != ":":
            yield inside[0].start, inside[-1].end, ""


def results(tokens):
    """Errors that become 0, and answers that are turned round."""
    for index, token in enumerate(tokens[:-2]):
        if token.text != "return":
            continue
        last = index
        while tokens[last].text != ";":
            last += 1
        inside = [each.text for each in tokens[index + 1:last]]
        turned = {("true",): "false", ("false",): "true"}.get(tuple(inside))
        if not turned and (inside[:1] == ["-"] or inside in (["error"], ["result"], ["status"])):
            turned = "0"
        if turned:
            yield tokens[index + 1].start, tokens[last - 1].end, turned


def signs(tokens):
    for index, token in enumerate(tokens[1:-1], 1):
        before, behind = tokens[index - 1], tokens[index + 1]
        for new in SWAPS.get(token.text, ()):
            yield token.start, token.end, new
        if token.text == "!":
            yield token.start, token.end, ""
        operand = before.kind in ("word", "number") and before.text != "return" or before.text in (")", "]")
        if token.text in ("+", "-") and operand and behind.kind in ("word", "number", "sign"):
            yield token.start, token.end, "-" if token.text == "+" else "+"


def unread(tokens):
    """The indices of constants without a meaning: the last argument of event_active(), which libevent reads for signals
    only, and an index in sizeof()."""
    found = set()
    for index, token in enumerate(tokens[:-1]):
        if token.text == "event_active":
            found.add(closing(tokens, index + 1) - 1)
        elif token.text == "sizeof":
            found.update(range(index + 1, closing(tokens, index + 1)))
    return found


def constants(tokens):
    """One more; 0 and 1 beside a comparison are left to SWAPS."""
    skipped = unread(tokens)
    for index, token in enumerate(tokens[:-1]):
        if index in skipped:
            continue
        around = {tokens[index - 1].text, tokens[index + 1].text}
        small = token.text in ("0", "1")
        if token.kind == "number" and not (small and around & set(SWAPS)):
            yield token.start, token.end, {"0": "1", "1": "0"}.get(token.text, f"({token.text} + 1)")
        elif token.text in ("true", "false") and tokens[index - 1].text not in ("return", "("):
            yield token.start, token.end, "false" if token.text == "true" else "true"


def mutants_of(path, text):
    """Every mutant of a file, in the order of the text."""
    tokens = tokens_of(text)
    found, names = [], {}
    for number, (start, end, function) in enumerate(bodies(text)):
        body = [token for token in tokens if start <= token.start < end]
        changes = [*conditions(body), *statements(body), *results(body), *signs(body), *constants(body)]
        for first, last, new in sorted(set(changes)):
            old = text[first:last]
            new = new.replace("{}", old)
            line_start = text.rindex("\n", 0, first) + 1
            source = text[line_start:text.index("\n", first)].strip()
            shown = " ".join(old.split())
            name = f"{path}: {function}: {source} | {shown} -> {' '.join(new.split()) or 'nothing'}"
            names[name] = names.get(name, 0) + 1
            if names[name] > 1:
                name += f" #{names[name]}"
            found.append(Mutant(path, number, first, last, new + "\n" * (old.count("\n") - new.count("\n")),
                                text.count("\n", 0, first) + 1, name))
    return found
