"""Headless Chromium by the WebDriver protocol, for the tests of pages. Needs chromedriver and chromium.

The browser gets no network but loopback, and a profile in a temporary directory.
"""

import base64
import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request

import harness

MISSING = [name for name in ("chromedriver", "chromium") if shutil.which(name) is None]


def start_driver(stack):
    """Starts chromedriver until `stack` is closed; returns its port. It takes a port that is free for one version of IP,
    and ends if the port is in use for the other."""
    started = re.compile(r"started successfully on port (\d+)")
    for _ in range(20):
        driver = subprocess.Popen(["chromedriver", "--port=0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, text=True)
        port = next((found.group(1) for found in map(started.search, driver.stdout) if found), None)
        if port is not None:
            stack.callback(driver.stdout.close)
            stack.callback(driver.wait)
            stack.callback(driver.terminate)
            return port
        driver.stdout.close()
        driver.wait()
    raise AssertionError("chromedriver does not start")


class Browser:
    """One window. Each page that it loads must leave the console empty; see errors()."""

    def __init__(self):
        with contextlib.ExitStack() as stack:
            self.profile = stack.enter_context(tempfile.TemporaryDirectory(prefix="ferry-browser-"))
            self.base = f"http://127.0.0.1:{start_driver(stack)}"
            options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                                "--hide-scrollbars",
                                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
                                f"--user-data-dir={self.profile}"]}
            capabilities = {"browserName": "chrome", "goog:chromeOptions": options,
                            "goog:loggingPrefs": {"browser": "ALL"}}
            session = self.ask("/session", {"capabilities": {"alwaysMatch": capabilities}})
            self.session = f"/session/{session['sessionId']}"
            stack.callback(self.ask, self.session, method="DELETE")
            self.stack = stack.pop_all()

    def close(self):
        self.stack.close()

    def ask(self, path, body=None, method=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"},
                                         method=method)
        try:
            with urllib.request.urlopen(request, timeout=harness.DEADLINE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()[:300]}") from error

    def tool(self, command, **parameters):
        """A command of the developer tools."""
        return self.ask(f"{self.session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self, width, dark=False, script=True):
        """The width of the window in pixels, and what its user prefers."""
        self.tool("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tool("Emulation.setEmulatedMedia", features=[scheme])
        self.tool("Emulation.setScriptExecutionDisabled", value=not script)

    def open(self, url):
        self.ask(f"{self.session}/url", {"url": url})

    def run(self, script, *arguments):
        return self.ask(f"{self.session}/execute/sync", {"script": script, "args": list(arguments)})

    def element(self, selector):
        found = self.ask(f"{self.session}/element", {"using": "css selector", "value": selector})
        return next(iter(found.values()))

    def click(self, selector):
        self.ask(f"{self.session}/element/{self.element(selector)}/click", {})

    def text(self, selector="body"):
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def frame(self, selector):
        """Looks into a frame from now on; None: the page again."""
        reference = None
        if selector is not None:
            self.run("document.querySelector(arguments[0]).scrollIntoView({behavior: 'instant'})", selector)
            reference = {"element-6066-11e4-a52e-4f735466cecf": self.element(selector)}
        self.ask(f"{self.session}/frame", {"id": reference})

    def errors(self):
        """The lines of the console since the last call."""
        return [entry["message"] for entry in self.ask(f"{self.session}/se/log", {"type": "browser"})]

    def overflow(self):
        """The elements that stick out of the page to the right."""
        return self.run("""
            const width = document.documentElement.clientWidth;
            const scrolls = (e) => e && (getComputedStyle(e).overflowX === "auto" || scrolls(e.parentElement));
            return [...document.querySelectorAll("body *")].filter((e) => !scrolls(e.parentElement)
                && !e.closest("svg") && e.getBoundingClientRect().right > width + 1).map((e) => e.outerHTML.slice(0, 120))""")

    def screenshot(self, file, whole=True):
        picture = self.tool("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(picture["data"]))
