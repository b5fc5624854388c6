"""The pages of the reference: one for each function, one for each header, and the list of all by task."""
import html
import re

import reference

FOLDER = "reference"


def quote(text):
    return html.escape(text, quote=False)


class Pages:
    """`link` makes a path of the site into a link from a page, `source` a file of the repository into a path."""

    def __init__(self, site):
        self.site = site
        self.reference = reference.load()
        self.complaints = list(self.reference.complaints)
        self.guides = {}  # name of a function: pages of docs/ that have it
        self.constants = {}
        for entry in self.reference.types.values():
            if entry.kind == "macro":
                self.constants[entry.name] = entry
            for declaration, _ in entry.members:
                word = declaration.split()[0]
                if word.startswith("FERRY_"):
                    self.constants[word] = entry
        self.paths = {name: f"{FOLDER}/{name}.html" for name in self.reference.functions}

    def header_path(self, name):
        return f"{FOLDER}/{name}.html"

    # ---- text ----

    def to(self, path, target, text):
        return f'<a href="{self.site.relative(path, target)}">{text}</a>'

    def inline(self, path, text):
        """A line of a comment as HTML."""
        parts = []
        for kind, piece in reference.tokens(text):
            shown = quote(piece)
            if kind == "function" and piece in self.paths:
                target = self.paths[piece]
                parts.append(f"<code>{shown}()</code>" if target == path else self.to(path, target, f"<code>{shown}()</code>"))
            elif kind == "function":
                parts.append(f"<code>{shown}()</code>")
            elif kind == "header" and piece[6:-2] in self.headers():
                parts.append(self.to(path, self.header_path(piece[6:-2]), f"<code>{shown}</code>"))
            elif kind == "page" and piece in self.site.pages:
                parts.append(self.to(path, self.site.pages[piece].path, quote(self.site.pages[piece].title)))
            elif kind == "constant" and piece in self.constants:
                entry = self.constants[piece]
                parts.append(self.to(path, f"{self.header_path(entry.header.name)}#{entry.name}", f"<code>{shown}</code>"))
            elif kind == "argument":
                parts.append(f"<var>{shown}</var>")
            elif kind in ("code", "constant", "header", "page"):
                parts.append(f"<code>{shown}</code>")
            else:
                parts.append(re.sub(r"\b((?:struct|enum) (ferry_\w+))", lambda match: self.type_link(path, match), shown))
        return "".join(parts)

    def type_link(self, path, match):
        entry = self.reference.types.get(match[2])
        if entry is None:
            return match[1]
        return self.to(path, f"{self.header_path(entry.header.name)}#{entry.name}", f"<code>{match[1]}</code>")

    def blocks(self, path, found, code=False):
        parts = []
        for kind, content in found:
            if kind == "text":
                parts.append(f"<p>{self.inline(path, content)}</p>")
            elif kind == "list":
                items = "".join(f"<li>{self.inline(path, item)}</li>" for item in content)
                parts.append(f"<ul>{items}</ul>")
            elif code:
                parts.append(f"<pre><code>{quote(content)}</code></pre>")
        return "\n".join(parts)

    def headers(self):
        return {header.name: header for header in self.reference.headers}

    @staticmethod
    def prototype(entry):
        """The declaration, an argument a line if it is long."""
        text = re.sub(r"\*\s+(?=\w+\()", "*", entry.declaration)
        if len(text) <= 72 or entry.kind != "function":
            return text
        head, _, rest = text.partition("(")
        arguments = re.split(r",\s*(?![^(]*\))", rest.removesuffix(");"))
        return head + "(\n        " + ",\n        ".join(arguments) + ");"

    # ---- pages ----

    def function(self, entry):
        path, comment = self.paths[entry.name], entry.comment
        header = self.header_path(entry.header.name)
        parts = [f"<h1>{entry.name}()</h1>", f'<p class="lead">{self.inline(path, comment.brief)}</p>',
                 f"<pre><code>#include &lt;ferry/{entry.header.name}.h&gt;\n\n{quote(self.prototype(entry))}</code></pre>"]
        parts.append(self.blocks(path, comment.blocks))
        arguments = self.reference.arguments(entry)
        if arguments:
            parts.append("<h2 id=arguments>Arguments</h2>\n<dl class=arguments>")
            for kind, name, direction, text in arguments:
                way = {"out": "result", "in,out": "changed"}.get(direction, "")
                shown = text or "see above"
                parts.append(f"<dt><var>{name}</var> <code>{quote(kind if '(*' not in kind else 'a function')}</code>"
                             f"{f' <small>{way}</small>' if way else ''}</dt><dd>{self.inline(path, shown)}</dd>")
            parts.append("</dl>")
        parts.append(self.result(path, entry))
        if entry.errors:
            parts.append("<h2 id=errors>Errors</h2>\n<div class=table tabindex=0><table><thead><tr><th>Error</th>"
                         "<th>Condition</th><th>Remedy</th></tr></thead><tbody>")
            for code, condition, origin in entry.errors:
                shown = "another" if code == "other" else f"-{code}"
                also = f" <small>as {self.inline(path, origin + '()')}</small>" if origin else ""
                parts.append(f"<tr><td><code>{shown}</code></td><td>{self.inline(path, condition)}{also}</td>"
                             f"<td>{self.inline(path, self.reference.advice.get(code, ''))}</td></tr>")
            parts.append("</tbody></table></div>")
        parts.append(f"<h2 id=callers>Callers</h2>\n<p>{self.inline(path, callers(entry))}</p>")
        parts.append(self.example(path, entry))
        parts.append("<h2 id=see-also>See also</h2>\n<ul>")
        for name in self.related(entry):
            parts.append(f"<li>{self.inline(path, name + '()')}: {self.inline(path, self.reference.functions[name].comment.brief)}</li>")
        parts += [f"<li>{self.to(path, page.path, quote(page.title))}</li>" for page in self.guides.get(entry.name, [])[:4]]
        parts.append(f"<li>{self.to(path, header, f'<code>ferry/{entry.header.name}.h</code>')}: "
                     f"{self.inline(path, entry.header.brief)}</li>\n</ul>")
        parts.append(f"<p><small>Since {comment.since}. Defined in {self.to(path, header, 'ferry/' + entry.header.name + '.h')}.</small></p>")
        return f"{entry.name}()", "\n".join(parts)

    def result(self, path, entry):
        comment = entry.comment
        zero = [text for codes, text in comment.results if codes == "0"]
        if comment.returns:
            text = comment.returns
        elif zero:
            text = f"0: {zero[0]}"
        elif entry.result == "void":
            return ""
        elif entry.result == "bool":
            text = "true or false"
        else:
            text = "see above"
        if entry.errors:
            text += "; or a negative error, see below"
        return f"<h2 id=result>Result</h2>\n<p>{self.inline(path, text[0].upper() + text[1:])}.</p>"

    def example(self, path, entry):
        example = self.reference.examples.get(entry.name)
        if example is None:
            return ""
        text = re.sub(rf"\b{entry.name}\b", lambda match: f"<mark>{match[0]}</mark>", quote(example.text))
        source = self.to(path, self.site.place(example.path), f"<code>{example.path}</code>")
        return f"<h2 id=example>Example</h2>\n<pre><code>{text}</code></pre>\n<p><small>From {source}, which is compiled by the tests.</small></p>"

    def related(self, entry):
        """The functions that the comment mentions, and those whose comments mention it."""
        found = []
        comment = entry.comment
        everything = " ".join([comment.text(), comment.returns] + [text for _, text in comment.results]
                              + [text for _, text in comment.params.values()])
        for name in re.findall(r"\bferry_\w+(?=\(\))", everything):
            if name in self.reference.functions and name != entry.name and name not in found:
                found.append(name)
        for other in entry.header.functions:
            if f"{entry.name}()" in other.comment.text() and other.name not in found and other is not entry:
                found.append(other.name)
        return found[:8]

    def list_of(self, path, entries):
        items = "".join(f"<dt>{self.to(path, self.paths[entry.name], f'<code>{entry.name}()</code>')}</dt>"
                        f"<dd>{self.inline(path, entry.comment.brief)}</dd>" for entry in entries)
        return f"<dl class=briefs>{items}</dl>"

    def header(self, header):
        path = self.header_path(header.name)
        parts = [f"<h1>ferry/{header.name}.h</h1>", f'<p class="lead">{self.inline(path, header.brief)}</p>',
                 self.blocks(path, header.comment.blocks, code=True)]
        if header.comment.callers:
            parts.append(f"<h2 id=callers>Callers</h2>\n<p>{self.inline(path, header.comment.callers)}</p>")
        if header.functions:
            parts.append("<h2 id=functions>Functions</h2>\n" + self.list_of(path, header.functions))
        if header.types:
            parts.append("<h2 id=types>Types</h2>")
            parts += [self.type(path, entry) for entry in header.types]
        return f"ferry/{header.name}.h", "\n".join(parts)

    def type(self, path, entry):
        comment = entry.comment
        name = "Limits" if entry.name.endswith("_limits") else f"{entry.kind} {entry.name}"
        name = entry.name if entry.kind in ("typedef", "macro") else name
        parts = [f"<h3 id={entry.name}><code>{name}</code></h3>" if name != "Limits" else f"<h3 id={entry.name}>Limits</h3>"]
        text = comment.blocks
        first = f"{comment.brief} {text[0][1]}" if comment.goes_on else comment.brief
        parts.append(self.blocks(path, [("text", first)] + text[int(comment.goes_on):]))
        if entry.kind in ("typedef", "macro"):
            parts.append(f"<pre><code>{quote(entry.declaration)}</code></pre>")
        if entry.members:
            items = "".join(f"<dt><code>{quote(declaration)}</code></dt><dd>{self.inline(path, text)}</dd>"
                            for declaration, text in entry.members)
            parts.append(f"<dl class=members>{items}</dl>")
        return "\n".join(parts)

    def index(self):
        path = f"{FOLDER}/index.html"
        parts = ["<h1>Reference</h1>",
                 f"<p class=lead>The {len(self.reference.functions)} public functions of ferry, by task. Each has a page with its "
                 "arguments, its errors and an example. The rules that hold for all of them are in "
                 f"{self.inline(path, 'docs/conventions.md')} and {self.inline(path, 'docs/callbacks.md')}.</p>"]
        for title, entries in self.reference.groups:
            anchor = re.sub(r"\W+", "-", title.lower())
            parts.append(f"<h2 id={anchor}>{title}</h2>\n" + self.list_of(path, entries))
        parts.append("<h2 id=headers>Headers</h2>\n<dl class=briefs>")
        for header in self.reference.headers:
            parts.append(f"<dt>{self.to(path, self.header_path(header.name), f'<code>ferry/{header.name}.h</code>')}</dt>"
                         f"<dd>{self.inline(path, header.brief)}</dd>")
        parts.append("</dl>")
        return "Reference", "\n".join(parts)

    def read_guides(self):
        for page in self.site.pages.values():
            if not page.source.startswith("docs/") or "/decisions/" in page.source or page.source.endswith(
                    ("coverage.md", "diagrams.md", "performance.md", "testing.md", "model.md", "conventions.md")):
                continue
            for name in dict.fromkeys(re.findall(r"\bferry_\w+(?=\()", html.unescape(page.body))):
                self.guides.setdefault(name, []).append(page)

    def all(self):
        """(path, title, body, text of the comment, brief) of each page."""
        self.read_guides()
        yield (f"{FOLDER}/index.html", *self.index(), "", "All functions by task.")
        for header in self.reference.headers:
            yield (self.header_path(header.name), *self.header(header), header.comment.text(), header.brief)
        for entry in self.reference.functions.values():
            yield (self.paths[entry.name], *self.function(entry), entry.comment.text(), entry.comment.brief)


def callers(entry):
    """From where a function may be called: its own words replace those of the header, a sentence of the text adds to them."""
    own, general = entry.comment.callers, entry.header.comment.callers
    if not own:
        return general
    return own if not re.match(r"May be called|Legal", own) else f"{general} {own}"
