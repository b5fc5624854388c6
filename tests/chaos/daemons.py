"""The proxy and its workers for the harness: their options, and the format of their output.

- a worker appends a line to the claim log for each connection that it claims:
  claim PID ATTEMPT ADDRESS:PORT;
- the proxy appends a line to the outcome log for the outcome of each handoff:
  outcome done|rejected|expired|kept PID-OR-0 ATTEMPT ADDRESS:PORT REASON;
  and one for each connection that a worker has returned, with the word "returned";
- the proxy prints "listening ADDRESS:PORT" once it serves, and "admin ADDRESS:PORT" for its metrics;
- after SIGUSR2 the proxy starts its successor, and ends once that serves and its own clients are handed off.
"""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import urllib.request

import processes

WORKERS = 4
BIN = pathlib.Path(os.environ["FERRY_BIN"])
# Longer than any pause of the run: no client is refused.
QUEUE_SECONDS = 30
# Shorter than many of the stops of a worker, which is then fenced.
ANSWER_SECONDS = 0.5
# Longer than any pause of a busy machine: a worker that nobody stops is never fenced.
PATIENT_ANSWER_SECONDS = 60


class Daemons:
    """A proxy that starts its workers, and its own successor."""

    def __init__(self, directory, patient=False, keep=True):
        """patient: no living worker is fenced. keep: workers keep a connection that is idle for a while."""
        self.answer_seconds = PATIENT_ANSWER_SECONDS if patient else ANSWER_SECONDS
        self.keep = () if keep else ("--keep", 0)
        self.on_tend = None
        self.directory = directory
        self.root = directory / "root"
        self.claim_log = directory / "claims"
        self.outcome_log = directory / "outcomes"
        self.output = directory / "output"
        for path in (self.claim_log, self.outcome_log, self.output):
            path.touch()

    def spawn(self, name, *arguments):
        with open(self.output, "ab") as output:
            processes.spawn(BIN / name, *arguments, stdout=output, stderr=subprocess.STDOUT,
                            cwd=self.directory)

    def text(self):
        return self.output.read_text(errors="replace")

    def printed(self, word):
        """The last text that the proxy has printed after a word, or None."""
        found = re.findall(rf"^{word} (\S+)$", self.text(), re.MULTILINE)
        return found[-1] if found else None

    def wait_for_proxy(self):
        address = processes.wait_until(lambda: self.printed("listening"), "the proxy listens")
        self.port = int(address.rsplit(":", 1)[1])

    def worker_pids(self):
        return processes.by_name("ferry-worker")

    def proxy_pids(self):
        return processes.by_name("ferry-proxy")

    def wait_for_workers(self):
        def all_there():
            self.tend()
            return len(self.worker_pids()) == WORKERS
        processes.wait_until(all_there, "all workers are there")

    def tend(self):
        """Housekeeping, and what else is due; to be called from time to time."""
        processes.reap()
        if self.on_tend is not None:
            self.on_tend()

    def stop(self):
        """Ends all proxies with SIGTERM; fails if a process does not end."""
        left = self.proxy_pids()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                processes.Process(pid).send(signal.SIGTERM)

        def gone():
            self.tend()
            return not self.proxy_pids() and not self.worker_pids()
        processes.wait_until(gone, "proxy and workers end")
        processes.reap()  # the last ones, if they have ended since tend()

    def start(self):
        self.spawn("ferry-proxy", "--port", 0, "--root", self.root, "--workers", WORKERS,
                   "--admin", "127.0.0.1:0", "--control", self.directory / "control",
                   "--queue-timeout", QUEUE_SECONDS * 1000,
                   "--answer-timeout", int(self.answer_seconds * 1000), *self.keep,
                   "--outcome-log", self.outcome_log, "--", "--claim-log", self.claim_log)
        self.wait_for_proxy()
        self.wait_for_workers()

    def metric(self, name):
        url = f"http://{self.printed('admin')}/-/metrics"
        with urllib.request.urlopen(url, timeout=processes.DEADLINE) as answer:
            text = answer.read().decode()
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.MULTILINE)
        if not found:
            raise AssertionError(f"no {name} among the metrics:\n{text}")
        return sum(int(float(number)) for number in found)

    def retried(self):
        return self.metric("ferry_service_handoffs_retried_total")

    def replace_workers(self):
        old = set(self.worker_pids())
        for pid in self.proxy_pids():
            processes.Process(pid).send(signal.SIGHUP)

        def replaced():
            workers = self.worker_pids()
            if len(workers) == WORKERS and not old & set(workers):
                return True
            self.tend()  # which may kill one
            return False
        processes.wait_until(replaced, "the old workers have ended, and new ones serve")

    def upgrade(self):
        old = self.proxy_pids()
        listening = self.text().count("listening ")
        for pid in old:
            processes.Process(pid).send(signal.SIGUSR2)

        def replaced():
            self.tend()
            return (self.text().count("listening ") > listening and
                    not set(old) & set(self.proxy_pids()) and len(self.proxy_pids()) == 1)
        processes.wait_until(replaced, "the old proxy has ended, and a new one serves")
