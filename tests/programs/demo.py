"""examples/demo.sh starts, serves, and leaves no process, no socket and no directory.

FERRY_DEMO is the script. It builds in build/demo, as for a user.
"""

import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.request

import harness

DEMO = os.environ["FERRY_DEMO"]


class Demo:
    """The script in a process group of its own, as a terminal starts it."""

    def __init__(self, case, *arguments):
        self.directory = pathlib.Path(case.directory)
        self.mark = f"FERRY_DEMO_RUN={os.getpid()}.{id(self)}"
        name, value = self.mark.split("=")
        self.output = case.directory / f"{value}.out"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                ["sh", DEMO, *arguments], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
                # A shell cannot trap a signal that was ignored when the shell started.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                env={**os.environ, name: value, "TMPDIR": str(case.temporary)})
        case.addCleanup(self.process.wait)
        case.addCleanup(self.process.terminate)

    def text(self):
        return self.output.read_text(errors="replace")

    def url(self):
        def ready():
            return self.process.poll() is not None or "ready " in self.text()
        # A build from nothing takes as long as the machine needs; ctest has a limit for all.
        while self.process.poll() is None and "status " not in self.text():
            time.sleep(0.1)
        harness.wait_until(ready, "ready")
        lines = [line for line in self.text().splitlines() if line.startswith("ready ")]
        assert lines, self.text()
        return lines[0].split(" ", 1)[1]

    def processes(self):
        """The living processes of the demo, found by a mark in their environment: {pid: name}."""
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if self.mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "comm").read_text().strip()
            except OSError:
                continue  # it has ended, or belongs to another user
        return found


class DemoCase(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)
        self.temporary = self.directory / "tmp"
        self.root = self.directory / "root"
        self.temporary.mkdir()
        self.root.mkdir()
        (self.root / "index.html").write_text("through the demo")

    def start(self, *arguments):
        return Demo(self, "--port", "0", "--root", self.root, *arguments)

    def assert_page(self, url):
        with urllib.request.urlopen(url, timeout=harness.DEADLINE) as page:
            self.assertEqual(page.read(), b"through the demo")

    def assert_nothing_left(self, demo):
        # If the proxy needs more than five seconds to end, the script kills it, and the workers end after the script.
        harness.wait_until(lambda: not demo.processes(), "nothing is left")
        self.assertEqual(list(self.temporary.iterdir()), [])

    def test_it_serves_until_a_signal_and_leaves_nothing(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            for kill in (os.kill, os.killpg):  # Ctrl-C signals the whole process group
                with self.subTest(number, kill=kill):
                    demo = self.start()
                    self.assert_page(demo.url())
                    names = sorted(demo.processes().values())
                    self.assertEqual(names.count("ferry-worker"), 2)
                    self.assertEqual(names.count("ferry-proxy"), 1)
                    kill(demo.process.pid, number)
                    self.assertEqual(demo.process.wait(harness.DEADLINE), 0)
                    self.assert_nothing_left(demo)

    def test_a_signal_while_it_builds_leaves_nothing(self):
        demo = self.start()
        harness.wait_until(lambda: "building" in demo.text(), "building")
        demo.process.send_signal(signal.SIGTERM)
        self.assertEqual(demo.process.wait(harness.DEADLINE), 0)
        self.assert_nothing_left(demo)

    def test_a_worker_that_ends_is_started_again(self):
        demo = self.start("--workers", "1")
        self.assert_page(demo.url())
        victim = next(pid for pid, comm in demo.processes().items() if comm == "ferry-worker")
        os.kill(victim, signal.SIGKILL)
        self.assert_page(demo.url())
        self.assertIsNone(demo.process.poll())

    def test_a_proxy_that_ends_ends_it(self):
        demo = self.start("--workers", "1")
        self.assert_page(demo.url())
        victim = next(pid for pid, comm in demo.processes().items() if comm == "ferry-proxy")
        os.kill(victim, signal.SIGKILL)
        self.assertEqual(demo.process.wait(harness.DEADLINE), 1)
        self.assertIn("the proxy has ended", demo.text())
        self.assert_nothing_left(demo)

    def test_it_shows_where_its_status_is(self):
        demo = self.start()
        demo.url()
        line = next(line for line in demo.text().splitlines() if line.startswith("status "))
        with urllib.request.urlopen(line.split(" ", 1)[1], timeout=harness.DEADLINE) as page:
            self.assertIn("default", page.read().decode())

    def test_a_port_that_is_taken_is_said(self):
        first = self.start()
        port = first.url().rstrip("/").rsplit(":", 1)[1]
        before = list(self.temporary.iterdir())
        second = Demo(self, "--port", port)
        self.assertEqual(second.process.wait(harness.DEADLINE), 1)
        self.assertIn("Address already in use", second.text())
        self.assertEqual(second.processes(), {})
        self.assertEqual(list(self.temporary.iterdir()), before)

    def test_its_own_pages_are_the_default(self):
        demo = Demo(self, "--port", "0", "--workers", "1")
        with urllib.request.urlopen(demo.url(), timeout=harness.DEADLINE) as page:
            text = page.read().decode()
        self.assertIn("<title>ferry</title>", text)
        self.assertNotIn("{{", text)
        for link in text.split('href="')[1:]:
            if link.startswith("http:"):
                continue  # the status page
            with urllib.request.urlopen(demo.url() + link.split('"')[0],
                                        timeout=harness.DEADLINE) as page:
                self.assertEqual(page.status, 200)

    def test_bad_options_are_refused(self):
        for arguments in (("--port",), ("--port", "x"), ("--port", "70000"), ("--workers", "0"),
                          ("--workers", "x"), ("--root", "/nonexistent"), ("--nothing",), ("x",)):
            with self.subTest(arguments):
                demo = Demo(self, *arguments)
                self.assertIn(demo.process.wait(harness.DEADLINE), (1, 2))
                self.assertNotEqual(demo.text(), "")
                self.assert_nothing_left(demo)


if __name__ == "__main__":
    unittest.main()
