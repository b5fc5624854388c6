"""The pages for people, in headless Chromium: the status page, the demo's page with its button, the documentation.

Each page is looked at 1280 and 400 pixels wide, in light and dark. Nothing sticks out, and the console stays empty.
FERRY_SCREENSHOTS is a directory for the pictures; without it they go into a temporary one.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.request

import browser
import harness

SOURCE = pathlib.Path(os.environ["FERRY_SOURCE"])
LOOKS = [(1280, False), (1280, True), (400, False), (400, True)]


class PagesCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        cls.addClassCleanup(temporary.cleanup)
        cls.directory = pathlib.Path(temporary.name)
        cls.pictures = pathlib.Path(os.environ.get("FERRY_SCREENSHOTS", cls.directory / "pictures"))
        cls.pictures.mkdir(exist_ok=True)
        cls.site = cls.directory / "site"
        cls.site.mkdir()
        cls.proxy = harness.Child(cls.directory, "ferry-proxy", "--root", cls.site, "--workers", "2", "--port", "0",
                                  "--admin", "127.0.0.1:0", "--demo", "--keep", "0", "--", "--fill", "index.html",
                                  "--fill", "way.json", emulated=True)
        cls.addClassCleanup(cls.proxy.stop)
        cls.proxy.wait_for("listening ")
        harness.wait_until(lambda: cls.proxy.text().count(" is ready") >= 2, "workers")
        cls.admin, cls.address = (re.search(f"^{name} (.*)", cls.proxy.text(), re.M).group(1)
                                  for name in ("admin", "listening"))
        subprocess.run([sys.executable, SOURCE / "docs/site/build.py", "--demo", cls.admin, cls.site], check=True)
        cls.browser = browser.Browser()
        cls.addClassCleanup(cls.browser.close)

    def show(self, url, name, look, script=True, whole=True):
        width, dark = look
        self.browser.look(width, dark, script)
        self.browser.open(url)
        self.check(name, look, whole)

    def check(self, name, look, whole=True):
        width, dark = look
        self.browser.screenshot(self.pictures / f"{name}-{width}-{'dark' if dark else 'light'}.png", whole)
        self.assertEqual(self.browser.errors(), [])
        self.assertEqual(self.browser.overflow(), [])

    def numbers(self):
        return [int(number) for number in re.findall(r"\d+", self.browser.text("#verdict"))]

    def wait_for_answers(self, count):
        """Until so many more have come. Returns the number of the lost ones."""
        answered, before = (self.numbers() + [0, 0])[:2]
        harness.wait_until(lambda: self.numbers() and self.numbers()[0] >= answered + count, "answers")
        return self.numbers()[1] - before

    def workers(self):
        """The processes that the status page has."""
        with urllib.request.urlopen(f"http://{self.admin}/-/status", timeout=harness.DEADLINE) as page:
            return re.findall(r"<dt>Process</dt><dd>(\d+)</dd></div>\n<div><dt>Generation", page.read().decode())

    def press(self):
        """Kills a worker by the button in the frame. Returns how many connections were cut so far."""
        self.browser.frame("iframe")
        self.browser.click("button")
        harness.wait_until(lambda: "was killed" in self.browser.text(), "the frame shows it")
        cut = int(re.search(r"Cut in an answer\s+(\d+)", self.browser.text()).group(1))
        self.browser.frame(None)
        return cut


class Demo(PagesCase):
    def test_the_page_shows_the_way_of_its_request(self):
        self.show(f"http://{self.address}/", "demo", (1280, False))
        text = self.browser.text("main")
        self.assertIn(f"Process {self.proxy.pid} accepted", text)
        worker = re.search(r"Process (\d+) claimed it at [\d:.]+ UTC and answered its request 1", text).group(1)
        self.assertIn(worker, self.workers())
        self.assertIn(f"from process {worker} straight", text)
        self.assertRegex(text, r"asked from 127\.0\.0\.1:\d+")
        self.assertRegex(text, r"handoff\s+\d+\s+attempt 1")
        self.assertNotIn("{{", self.browser.run("return document.documentElement.outerHTML"))

    def test_a_worker_is_killed_and_nothing_is_lost(self):
        for look in LOOKS:
            with self.subTest(look):
                self.show(f"http://{self.address}/", "demo-before", look)
                self.wait_for_answers(5)
                before = set(self.workers())
                cut = self.press()
                lost = self.wait_for_answers(10)
                self.assertLessEqual(lost, cut)  # a request whose worker was killed in the middle of the answer
                harness.wait_until(lambda: len(set(self.workers()) - before) == 1, "another worker")
                self.check("demo-after", look)

    def test_without_script_the_page_is_complete(self):
        self.show(f"http://{self.address}/", "demo-plain", (400, False), script=False)
        with urllib.request.urlopen(f"http://{self.address}/", timeout=harness.DEADLINE) as page:
            text = page.read().decode()
            self.assertEqual(page.headers["Cache-Control"], "no-store")
        self.assertIn(f'<span class="number">{self.proxy.pid}</span>', text)
        self.assertIn("<noscript>", text)
        self.assertNotIn("{{", text)
        before = set(self.workers())
        self.press()
        harness.wait_until(lambda: len(set(self.workers()) - before) == 1, "another worker")

    def test_a_page_elsewhere_cannot_show_the_button(self):
        """The address of the demo is in no policy but that of its own listeners."""
        with urllib.request.urlopen(f"http://{self.admin}/-/demo", timeout=harness.DEADLINE) as page:
            policy = page.headers["Content-Security-Policy"]
        port = self.address.rsplit(":", 1)[1]
        self.assertTrue(policy.endswith(f"frame-ancestors 'self' http://{self.address} http://localhost:{port}"))


class Status(PagesCase):
    def test_it_is_well_made(self):
        for look in LOOKS:
            with self.subTest(look):
                self.show(f"http://{self.admin}/-/status", "status", look)
        self.assertEqual(self.browser.run("return document.querySelectorAll('.graph').length"), 6)
        self.assertEqual(self.browser.run("return document.querySelectorAll('.card .ready').length"), 2)

    def test_it_keeps_itself_up_to_date(self):
        self.browser.look(1280)
        self.browser.open(f"http://{self.admin}/-/status")
        self.browser.run("document.querySelector('details').open = true; document.querySelector('.table').focus();"
                         "window.same = true")
        before = self.browser.text("time")
        harness.wait_until(lambda: self.browser.text("time") != before, "another time")
        self.assertEqual(self.browser.run("return [window.same, document.querySelector('details').open,"
                                          "document.activeElement.className]"), [True, True, "table"])
        self.assertEqual(self.browser.errors(), [])

    def test_without_script_it_has_its_curves(self):
        harness.wait_until(lambda: "<polyline" in self.page("/-/status"), "two samples")
        self.show(f"http://{self.admin}/-/status", "status-plain", (400, True), script=False)
        self.assertIn('http-equiv="refresh"', self.page("/-/status"))

    def page(self, path):
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=harness.DEADLINE) as page:
            return page.read().decode()


class Documentation(PagesCase):
    def check(self, name, look, whole=True):
        super().check(name, look, whole)
        self.assertEqual(self.browser.run("""return [...document.querySelectorAll(".doc main :is(p, dd, li)")]
            .filter((e) => e.offsetParent && e.textContent.length > 20 && e.clientWidth < 120).map((e) => e.textContent)"""), [],
                         "text in a column of a few letters")

    def test_each_page_fits_and_has_its_links(self):
        """build.py fails if a link leads nowhere. Of the functions' pages, which are made alike, every twentieth."""
        pages = sorted(self.site.rglob("*.html"))
        functions = [page for page in pages if page.stem.startswith("ferry_")]
        self.assertGreater(len(functions), 200)
        shown = [page for page in pages if page not in functions] + functions[::20]
        for number, page in enumerate(shown):
            path = page.relative_to(self.site)
            with self.subTest(path):
                self.show(f"http://{self.address}/{path}", f"page-{path.stem}", LOOKS[number % 4], whole=False)
                self.assertEqual(self.browser.run("""return [...document.querySelectorAll("[src], link[href]")]
                    .map((e) => new URL(e.src || e.href)).filter((u) => u.hostname !== "127.0.0.1").length"""), 0)

    def test_the_reference_in_each_look(self):
        for look in LOOKS:
            for path in ("reference/index", "reference/transport", "reference/ferry_transport_send_file", "diagrams"):
                with self.subTest(look, path=path):
                    self.show(f"http://{self.address}/{path}.html", path.replace("/", "-"), look,
                              whole=path == "diagrams")  # the others are too long for one picture

    def test_each_function_and_each_page_is_a_link(self):
        """Also in tables; and a page is linked by its title, not by the name of its file."""
        self.browser.look(1280)
        self.browser.open(f"http://{self.address}/closing.html")
        self.assertEqual(self.browser.run("""return [...document.querySelectorAll("main td code")]
            .map((e) => e.closest("a") ? "" : e.textContent).filter((text) => /^ferry_\\w+\\(\\)$/.test(text))"""), [])
        self.assertEqual(self.browser.run("""return [...document.querySelectorAll("main a")]
            .map((e) => e.textContent).filter((text) => text.endsWith(".md"))"""), [])

    def find(self, text):
        """The titles that a search finds."""
        self.browser.run("""const input = document.getElementById("search");
            input.value = arguments[0]; input.dispatchEvent(new Event("input"))""", text)
        harness.wait_until(lambda: self.browser.run("""const list = document.getElementById("found");
            return !list.hidden && list.dataset.query === arguments[0]""", text), "the search has an answer")
        return self.browser.run("""return [...document.querySelectorAll("#found a")].map((e) => e.firstChild.data)""")

    def look_something_up(self, url):
        self.browser.look(400)
        self.browser.open(url)
        self.assertEqual(self.find("ferry_transport_send_fd")[0], "ferry_transport_send_fd()")
        self.assertIn("The fence", self.find("fence shutdown"))
        self.assertEqual(self.find("EMFILE")[0], "-EMFILE")
        self.assertIn("ferry_listener_set_pass_rights()", self.find("passing descriptors"))  # by words of comments, inflected
        self.assertIn("ferry/file_producer.h", self.find("sendfile"))
        self.assertEqual(self.find("no-such-word-here"), [])
        self.find("handoff_new")
        self.check("search", (400, False), whole=False)
        self.browser.run("document.querySelector('#found a').click()")
        harness.wait_until(lambda: self.browser.text("h1") == "ferry_handoff_new()", "the page that was found")
        self.assertEqual(self.browser.errors(), [])

    def test_the_search_finds_functions_and_headings(self):
        self.look_something_up(f"http://{self.address}/reference/index.html")

    def test_the_search_works_from_files(self):
        self.look_something_up((self.site / "reference/index.html").as_uri())

    def test_the_switch_overrules_what_the_user_prefers(self):
        paper = "return getComputedStyle(document.body).backgroundColor"
        self.browser.look(1280, True)
        self.browser.open(f"http://{self.address}/reference/index.html")
        dark = self.browser.run(paper)
        self.browser.click("#theme")
        light = self.browser.run(paper)
        self.assertNotEqual(light, dark)
        self.browser.open(f"http://{self.address}/handoff.html")  # the choice holds on every page
        self.assertEqual(self.browser.run(paper), light)
        self.check("switched", (1280, True), whole=False)
        self.browser.click("#theme")
        self.assertEqual(self.browser.run(paper), dark)
        self.browser.run("localStorage.clear()")

    def test_a_site_without_demo_has_the_readme_first(self):
        out = self.directory / "plain"
        subprocess.run([sys.executable, SOURCE / "docs/site/build.py", out], check=True)
        self.assertIn("<h1 id=\"ferry\">ferry</h1>", (out / "index.html").read_text())
        self.assertFalse((out / "way.json").exists())


if __name__ == "__main__":
    if browser.MISSING:
        print(f"SKIPPED: no {', '.join(browser.MISSING)}")
        sys.exit(77)
    unittest.main()
