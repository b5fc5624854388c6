"""The metrics of answers: each is counted once, in the proxy's memory, whatever becomes of the worker.

promtool checks all of them.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import pathlib
import unittest
import urllib.request

import harness


class Metrics(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)
        for name in ("one", "two"):
            root = self.directory / name
            root.mkdir()
            (root / "file").write_bytes(b"x" * 100000)
        conf = self.directory / "conf"
        conf.write_text(f"listen 127.0.0.1:0\nadmin 127.0.0.1:0\nservice one root={self.directory}/one workers=2\n"
                        f"service two root={self.directory}/two workers=1\n"
                        f"service guests socket={self.directory}/guests.sock\n"
                        "route host=two two\nroute host=guests guests\nqueue-timeout 60000\n")
        self.conf = conf
        self.start()

    def start(self, **options):
        self.proxy = harness.Child(self.directory, "ferry-proxy", "--config", self.conf, emulated=True, **options)
        self.addCleanup(self.proxy.stop)
        self.proxy.wait_for("listening ")
        self.port = int(re.search(r"^listening .*:(\d+)$", self.proxy.text(), re.M).group(1))
        self.admin = re.search(r"^admin (.*)$", self.proxy.text(), re.M).group(1)

    def text(self):
        with urllib.request.urlopen(f"http://{self.admin}/-/metrics", timeout=harness.DEADLINE) as page:
            return page.read().decode()

    def value(self, key):
        found = re.search(rf"^{re.escape(key)} (\S+)$", self.text(), re.M)
        return float(found.group(1)) if found else None

    def ask(self, target, *fields, host="one", method="GET"):
        with harness.Client(self.port) as client:
            client.send("\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]))
            return client.read_answer(head_only=method == "HEAD")

    def answers(self, service):
        found = re.findall(rf'^ferry_service_answers_total{{service="{service}",code="(\w+)"}} (\d+)$',
                           self.text(), re.M)
        return {code: int(count) for code, count in found}

    def workers(self, service):
        pids = re.findall(rf"worker {service}-\d+ \(pid (\d+)\) is ready", self.proxy.text())
        return [int(pid) for pid in pids]

    def test_each_answer_is_counted(self):
        etag = self.ask("/file").fields["etag"]
        self.ask("/file", f"If-None-Match: {etag}")
        self.ask("/file", "Range: bytes=0-9")
        self.ask("/file", method="HEAD")
        self.ask("/nothing")
        self.ask("/file", method="DELETE")
        with harness.Client(self.port) as client:  # three on one connection
            for _ in range(3):
                client.send("GET /file HTTP/1.1\r\nHost: two\r\n\r\n")
                self.assertEqual(client.read_answer().status, 200)
        expected = {"200": 2, "206": 1, "304": 1, "404": 1, "405": 1}
        harness.wait_until(lambda: self.answers("one") == expected, "the answers of one")
        harness.wait_until(lambda: self.answers("two") == {"200": 3}, "the answers of two")
        self.assertEqual(self.answers("guests"), {})
        self.assertEqual(self.value('ferry_service_answer_duration_seconds_count{service="one"}'), 6)
        self.assertEqual(self.value('ferry_service_answer_duration_seconds_bucket{service="one",le="+Inf"}'), 6)
        self.assertGreater(self.value('ferry_service_answer_duration_seconds_sum{service="one"}'), 0)
        self.assertGreater(self.value('ferry_service_answer_bytes_total{service="two"}'), 300000)
        self.assertLess(self.value('ferry_service_answer_bytes_total{service="two"}'), 302000)
        self.assertIsNone(self.value('ferry_service_answer_bytes_total{service="guests"}'))

    def test_a_killed_worker_takes_no_count_with_it(self):
        for _ in range(5):
            self.ask("/file", host="two")
        harness.wait_until(lambda: self.answers("two") == {"200": 5}, "five")
        os.kill(self.workers("two")[-1], signal.SIGKILL)
        harness.wait_until(lambda: len(self.workers("two")) == 2, "another worker")
        self.assertEqual(self.answers("two"), {"200": 5})
        self.ask("/file", host="two")
        harness.wait_until(lambda: self.answers("two") == {"200": 6}, "six")

    def test_an_answer_that_the_client_cuts_has_the_bytes_that_were_sent(self):
        (self.directory / "two/large").write_bytes(b"y" * 64 * 1024 * 1024)
        with harness.Client(self.port) as client:
            client.send("GET /large HTTP/1.1\r\nHost: two\r\n\r\n")
            client.read_head()
        harness.wait_until(lambda: self.answers("two") == {"200": 1}, "it is counted")
        self.assertLess(self.value('ferry_service_answer_bytes_total{service="two"}'), 64 * 1024 * 1024)

    def test_each_metric_is_described_and_the_reverse(self):
        page = (pathlib.Path(os.environ["FERRY_SOURCE"]) / "docs/metrics.md").read_text()
        described = re.findall(r"^\| `(ferry_\w+)` \| \w+ \|", page, re.M)
        for name, worker in re.findall(r"^\| `ferry_service_(\w+)` \| \w+ \| (yes|) ?\|", page, re.M):
            described += [f"ferry_worker_{name}"] if worker else []
        self.assertEqual(sorted(described), sorted(re.findall(r"^# TYPE (\w+)", self.text(), re.M)))

    @unittest.skipIf(harness.INSTRUMENTED, "the proxy runs under another tracer, or LeakSanitizer does not")
    def test_without_memory_to_share_the_answers_are_not_counted(self):
        self.proxy.stop()
        self.start(prefix=("strace", "-D", "-qq", "-o", "/dev/null", "-e", "trace=memfd_create", "-e",
                           "inject=memfd_create:error=EPERM"))
        self.assertIn("the answers of one are not counted: Operation not permitted", self.proxy.text())
        self.assertEqual(self.ask("/file").status, 200)
        self.assertEqual(self.answers("one"), {})
        self.assertIsNone(self.value('ferry_service_answer_bytes_total{service="one"}'))

    @unittest.skipIf(shutil.which("promtool") is None, "no promtool")
    def test_promtool_has_no_complaint(self):
        self.ask("/file")
        harness.wait_until(lambda: self.answers("one"), "an answer")
        done = subprocess.run(["promtool", "check", "metrics"], input=self.text(), capture_output=True, text=True,
                              timeout=harness.DEADLINE, check=False)
        self.assertEqual((done.stdout + done.stderr, done.returncode), ("", 0))

    @unittest.skipIf(shutil.which("promtool") is None, "no promtool")
    def test_promtool_accepts_the_alerts(self):
        page = (pathlib.Path(os.environ["FERRY_SOURCE"]) / "docs/metrics.md").read_text()
        rules = self.directory / "rules.yaml"
        rules.write_text(re.search(r"```yaml\n(.*?)```", page, re.S).group(1))
        done = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True,
                              timeout=harness.DEADLINE, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        names = set(re.findall(r"ferry_\w+", rules.read_text()))
        known = set(re.findall(r"^# TYPE (\w+)", self.text(), re.M))
        self.assertEqual({name.removesuffix("_bucket") for name in names} - known, set())


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    missing = any(reason.startswith("no ") for _, reason in result.skipped)
    sys.exit(1 if not result.wasSuccessful() else 77 if missing else 0)
