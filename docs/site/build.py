#!/usr/bin/env python3
"""Renders the documentation as a static site. Needs cmark-gfm, and no network.

Usage: build.py [--demo ADMIN] OUT

OUT is a directory, which must not exist or be empty. Each page of docs/ and each of the other texts below becomes an
HTML page; links to other files of the repository lead to copies of these. A link that leads nowhere is an error. The
reference is made of the comments in include/ferry/ (reference.py), and diagrams of the blocks of code in the
languages "sequence" and "states" (diagrams.py).

--demo: the start page is that of examples/demo.sh. ADMIN is the address of the proxy's admin, "127.0.0.1:8081".
"""
import argparse
import html
import json
import pathlib
import posixpath
import re
import shutil
import subprocess
import sys

import diagrams
import reference_pages

SITE = pathlib.Path(__file__).resolve().parent
ROOT = SITE.parent.parent
LOOKS = ROOT / "src/programs/ferry-proxy/page"  # the status page has the same

# The groups of the navigation. Pages of docs/ that are in none of them come last. Reference has no file in docs/.
GROUPS = {
    "Start": ["README.md", "docs/install.md", "docs/guide.md", "docs/contents.md", "examples/README.md",
              "docs/coming-from.md"],
    "Tutorials": ["docs/tutorials/embed.md", "docs/tutorials/broker.md", "docs/tutorials/daemon.md"],
    "Concerns": ["docs/ownership.md", "docs/back-pressure.md", "docs/closing.md", "docs/limits.md", "docs/errors.md",
                 "docs/callbacks.md", "docs/conventions.md", "docs/api-stability.md", "docs/threads.md", "docs/fork.md", "docs/security.md",
                 "docs/troubleshooting.md"],
    "Streams": ["docs/diagrams.md", "docs/transport.md", "docs/files.md", "docs/line.md", "docs/message.md",
                "docs/descriptor.md", "docs/channel.md", "docs/relay.md"],
    "Daemons": ["docs/handoff.md", "docs/supervisor.md", "docs/upgrade.md", "docs/parking.md", "docs/tls.md", "docs/proxy_protocol.md",
                "docs/programs.md", "docs/metrics.md", "docs/fleet.md"],
    "Reference": [],
    "Project": ["CONTRIBUTING.md", "docs/testing.md", "tests/README.md", "docs/performance.md", "docs/model.md",
                "docs/coverage.md", "CHANGELOG.md", "SECURITY.md"],
    "More": [],
    "Decisions": [],
}


def sources():
    """The groups with all their pages, as paths below the root."""
    groups = {name: list(pages) for name, pages in GROUPS.items()}
    known = {page for pages in groups.values() for page in pages}
    for file in sorted(ROOT.glob("docs/**/*.md")):
        page = file.relative_to(ROOT).as_posix()
        if page not in known:
            groups["Decisions" if page.startswith("docs/decisions/") else "More"].append(page)
    return {name: [page for page in pages if (ROOT / page).exists()] for name, pages in groups.items()}


def home(page):
    """The path of a page in the site."""
    if page == "examples/README.md":
        return "examples.html"
    return re.sub(r"^docs/", "", page)[:-len(".md")].replace("README", "readme") + ".html"


class Page:
    def __init__(self, source):
        self.source = source
        self.path = home(source)
        self.body = subprocess.run(
            ["cmark-gfm", "--extension", "table", "--extension", "autolink", ROOT / source],
            check=True, text=True, capture_output=True).stdout
        self.ids = set()
        self.body = re.sub(r"<h([1-6])>(.*?)</h\1>", self.add_id, self.body, flags=re.S)
        self.body = re.sub(r'<pre><code class="language-(sequence|states)">(.*?)</code></pre>',
                           lambda match: diagrams.draw(match[1], html.unescape(match[2])), self.body, flags=re.S)
        # No line ends between the sign and the name of an error.
        self.body = re.sub(r">[^<]+<", lambda match: re.sub(r"(?<![\w-])-E[A-Z0-9]{2,}\b", r"<span class=error>\g<0></span>", match[0]),
                           self.body)
        # A wide table scrolls by itself.
        self.body = self.body.replace("<table>", '<div class="table" tabindex="0"><table>')
        self.body = self.body.replace("</table>", "</table></div>")
        title = re.search(r"<h1[^>]*>(.*?)</h1>", self.body, re.S)
        self.title = re.sub(r"<[^>]+>", "", title.group(1)) if title else source

    def add_id(self, match):
        level, content = match.groups()
        words = html.unescape(re.sub(r"<[^>]+>", "", content)).lower()
        name = base = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
        number = 0
        while name in self.ids:
            number += 1
            name = f"{base}-{number}"
        self.ids.add(name)
        return f'<h{level} id="{name}">{content}</h{level}>'


def words_of(body):
    """The different words of a text in HTML, without its code."""
    text = html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<pre>.*?</pre>", " ", body, flags=re.S))).lower()
    return " ".join(sorted(set(re.findall(r"[a-z_][\w.-]{2,}", text))))


class Generated:
    """A page of the reference."""

    def __init__(self, path, title, body, comment, brief):
        self.path, self.title, self.body, self.comment, self.brief = path, title, body, comment, brief


class Site:
    def __init__(self, out):
        self.out = out
        self.groups = {name: [Page(page) for page in pages] for name, pages in sources().items()}
        self.pages = {page.source: page for pages in self.groups.values() for page in pages}
        self.complaints = []
        self.template = (SITE / "page.html").read_text(encoding="utf-8")
        pages = reference_pages.Pages(self)
        self.functions = pages.paths
        self.advice = pages.reference.advice
        self.generated = [Generated(*page) for page in pages.all()]
        self.complaints += pages.complaints
        # The navigation has the headers. Their functions are on their pages.
        self.groups["Reference"] = [page for page in self.generated if not page.title.endswith("()")]

    def write(self, path, text):
        file = self.out / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def copy(self, target):
        """A file or a directory of the repository, which is no page. Returns its path in the site."""
        file = ROOT / target
        if file.is_dir():
            path = f"source/{target}/index.html"
            entries = [entry.relative_to(ROOT).as_posix() for entry in sorted(file.iterdir()) if entry.is_file()]
            links = [f'<li><a href="{self.relative(path, self.place(entry))}">{html.escape(entry)}</a></li>'
                     for entry in entries]
            content = f"<h1>{html.escape(target)}/</h1>\n<ul>\n" + "\n".join(links) + "\n</ul>\n"
            self.write_page(path, target, content)
            return path
        path = f"source/{target}" if file.suffix == ".svg" else f"source/{target}.txt"
        (self.out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, self.out / path)
        return path

    def place(self, target):
        return self.pages[target].path if target in self.pages else self.copy(target)

    @staticmethod
    def relative(path, to):
        return posixpath.relpath(to, posixpath.dirname(path) or ".")

    def link(self, page, href):
        """The link of a page in the site."""
        if re.match(r"[a-z]+:", href):
            return href
        target, _, fragment = html.unescape(href).partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page.source), target)) if target else page.source
        for name in (target, f"{target}/README.md"):
            if name in self.pages:
                if fragment and fragment not in self.pages[name].ids:
                    self.complaints.append(f"{page.source}: {href}: no such heading")
                to = self.relative(page.path, self.pages[name].path)
                return html.escape(to + (f"#{fragment}" if fragment else ""))
        if target.startswith("..") or not (ROOT / target).exists():
            self.complaints.append(f"{page.source}: {href}: no such file")
            return href
        return html.escape(self.relative(page.path, self.place(target)))

    def navigation(self, path):
        parts = []
        for name, pages in self.groups.items():
            if not pages:
                continue
            links = [f'<li><a href="{self.relative(path, page.path)}"'
                     f'{" aria-current=page" if page.path == path else ""}>{html.escape(page.title)}</a></li>'
                     for page in pages]
            closed = name in ("Decisions", "Reference")
            is_open = not closed or any(page.path == path for page in pages) or (
                name == "Reference" and path.startswith("reference/"))
            parts.append(f'<details{" open" if is_open else ""}><summary>{name}</summary>\n<ul>\n'
                         + "\n".join(links) + "\n</ul>\n</details>")
        return "\n".join(parts)

    def write_page(self, path, title, content):
        values = {"title": html.escape(title), "root": self.relative(path, ".").rstrip("/") + "/",
                  "navigation": self.navigation(path), "content": content}
        self.write(path, re.sub(r"\{\{(\w+)\}\}", lambda match: values[match.group(1)], self.template))

    def write_demo(self, admin):
        groups = []
        for name, pages in self.groups.items():
            links = "".join(f'<li><a href="{page.path}">{html.escape(page.title)}</a></li>' for page in pages)
            if name == "Reference":
                links = "".join(f'<li><a href="{page.path}">{page.title}</a></li>' for page in pages[:1])
            if pages and name != "Decisions":
                groups.append(f'<section class="card"><h3>{name}</h3><ul>{links}</ul></section>')
        text = (SITE / "demo.html").read_text(encoding="utf-8")
        self.write("index.html", text.replace("{{admin}}", html.escape(admin)).replace("{{groups}}", "\n".join(groups)))
        for name in ("demo.js", "way.json"):
            shutil.copyfile(SITE / name, self.out / name)

    def link_functions(self, path, body):
        """The names of functions in a page as links to the reference."""
        def link(match):
            name = match[2]
            if match[1] or name not in self.functions:
                return match[0]
            return f'<a href="{self.relative(path, self.functions[name])}">{match[0]}</a>'
        return re.sub(r"(<a [^>]*>)?<code>(ferry_\w+)\(\)</code>", link, body)

    def link_titles(self, page):
        """A link whose text is the name of its file gets the title of the page in its place."""
        def title(match):
            href, text = match.groups()
            path = html.unescape(href).partition("#")[0]
            found = self.pages.get(posixpath.normpath(posixpath.join(posixpath.dirname(page.source), path)))
            names = (path.replace("../", ""), posixpath.basename(path))
            return match[0] if found is None or text not in names else f'<a href="{href}">{found.title}</a>'
        return re.sub(r'<a href="([^"]*)">([^<]*)</a>', title, page.body)

    def write_index(self):
        """The index of the search: for each page its title, its address and its words; for pages of docs/ each section."""
        entries = [[page.title, page.path, page.brief.replace("@p ", "").replace("`", ""), words_of(html.escape(page.comment))]
                   for page in self.generated]
        entries += [["-" + code, "errors.html#by-number", remedy.replace("`", ""), ""] for code, remedy in self.advice.items()
                    if code != "other"]
        for page in self.pages.values():
            brief = "Decision" if "/decisions/" in page.source else ""
            parts = re.split(r'<h[1-3] id="([^"]+)">(.*?)</h[1-3]>', page.body, flags=re.S)
            for anchor, title, text in zip(parts[1::3], parts[2::3], parts[3::3]):
                words = words_of(title + " " + text)
                title = html.unescape(re.sub(r"<[^>]+>", "", title))
                entries.append([title, f"{page.path}#{anchor}", brief or (page.title if page.title != title else ""), words])
        self.write("search-index.js", "ferryIndex = " + json.dumps(entries, ensure_ascii=False, separators=(",", ":")) + ";\n")

    def write_styles(self):
        """The colours of style.css again, for the switch that overrules the user's preference."""
        text = (LOOKS / "style.css").read_text(encoding="utf-8")
        light = re.search(r"^:root \{\n(.*?)^\}", text, re.M | re.S)[1].replace("color-scheme: light dark", "color-scheme: light")
        dark = re.search(r"prefers-color-scheme: dark\) \{\n\t:root \{\n(.*?)\t\}", text, re.S)[1]
        own = (SITE / "site.css").read_text(encoding="utf-8")
        self.write("style.css", text)
        self.write("site.css", f"{own}\n:root[data-theme=light] {{\n{light}}}\n"
                               f":root[data-theme=dark] {{\n\tcolor-scheme: dark;\n{dark}}}\n")

    def check_links(self):
        """Each link to a page or a file of the site leads somewhere."""
        ids = {}
        for file in sorted(self.out.rglob("*.html")):
            text = file.read_text(encoding="utf-8")
            ids[file] = set(re.findall(r'\bid="?([^\s">]+)', text)), re.findall(r'\b(?:href|src)="([^"]*)"', text)
        for file, (_, links) in ids.items():
            for href in links:
                if re.match(r"[a-z]+:", href):
                    continue
                path, _, fragment = html.unescape(href).partition("#")
                target = pathlib.Path(posixpath.normpath(file.parent / path)) if path else file
                if not target.is_file():
                    self.complaints.append(f"{file.relative_to(self.out)}: {href}: no such file")
                elif fragment and target in ids and fragment not in ids[target][0]:
                    self.complaints.append(f"{file.relative_to(self.out)}: {href}: no such place")

    def build(self, admin):
        for page in self.generated:
            self.write_page(page.path, page.title, page.body)
        for page in self.pages.values():
            body = re.sub(r'(?:(?<=<a href=")|(?<=<img src="))[^"]*', lambda match, page=page: self.link(page, match.group()), self.link_titles(page))
            self.write_page(page.path, page.title, self.link_functions(page.path, body))
            if page.source == "README.md" and admin is None:
                self.write_page("index.html", page.title, self.link_functions("index.html", body))
        if admin is not None:
            self.write_demo(admin)
        self.write_index()
        self.write_styles()
        for file in (LOOKS / "icon.svg", SITE / "site.js"):
            shutil.copyfile(file, self.out / file.name)
        self.check_links()
        return self.complaints


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--demo", metavar="ADMIN")
    parser.add_argument("out", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if any(arguments.out.iterdir()):
        sys.exit(f"build.py: {arguments.out} is not empty")
    complaints = Site(arguments.out).build(arguments.demo)
    print("\n".join(complaints), end="\n" if complaints else "", file=sys.stderr)
    sys.exit(1 if complaints else 0)


main()
