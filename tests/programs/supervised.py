"""A proxy that starts its workers, and clients that send requests during kills and replacements."""

import contextlib
import ctypes
import os
import pathlib
import random
import re
import signal
import socket
import stat
import tempfile
import threading
import time
import unittest

import harness

PR_SET_CHILD_SUBREAPER = 36

# A proxy that has taken over is a child of its predecessor. When that ends, the new proxy becomes a child
# of this process, which can wait for it.
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid):
    """The living children of a process: {pid: name}."""
    found = {}
    with contextlib.suppress(OSError):
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                fields = pathlib.Path(f"/proc/{child}/stat").read_text()
                if fields.rsplit(")", 1)[1].split()[0] != "Z":
                    found[int(child)] = fields[fields.index("(") + 1:fields.rindex(")")]
    return found


def parent(pid):
    """The process id of its parent; 0 if it has ended."""
    with contextlib.suppress(OSError):
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return 0


class Proxy:
    """ferry-proxy and its workers, over a directory of files or with a configuration."""

    def __init__(self, *arguments, workers=2, config=None, worker=(), prepare=(),
                 worker_script=None, **options):
        self.temporary = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        self.directory = pathlib.Path(self.temporary.name)
        self.root = self.directory / "root"
        self.root.mkdir()
        self.put("index.html", b"hello")
        for name in prepare:
            (self.directory / name).mkdir(parents=True)
        self.control = self.directory / "control.sock"
        self.access_log = self.directory / "access.log"
        self.claim_log = self.directory / "claim.log"
        self.outcome_log = self.directory / "outcome.log"
        programs = harness.BIN
        if worker_script is not None:
            programs = self.directory / "programs"
            self.install(programs, worker_script)
        if config is None:
            source = ("--root", self.root, "--workers", str(workers), "--port", "0")
        else:
            self.config = self.directory / "ferry-proxy.conf"
            self.configure(config)
            source = ("--config", self.config)
        self.child = harness.Child(
            self.directory, "ferry-proxy", *source, "--control", self.control,
            "--admin", "127.0.0.1:0", "--outcome-log", self.outcome_log, *arguments,
            *harness.patience(arguments, config or ""),
            "--", "--access-log", self.access_log, "--claim-log", self.claim_log, *worker,
            emulated=True, programs=programs, **options)
        self.pid = self.child.pid
        self.generations = 1
        self.killed = False
        self.child.wait_for("listening ")

    @staticmethod
    def install(programs, worker_script):
        """Installs the proxy, and a script in the place of the worker."""
        programs.mkdir()
        (programs / "ferry-proxy").symlink_to(harness.BIN / "ferry-proxy")
        worker = programs / "ferry-worker"
        worker.write_text(worker_script)
        worker.chmod(0o755)

    def configure(self, text):
        self.config.write_text(text.format(root=self.root, directory=self.directory))

    def put(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def text(self):
        return self.child.text()

    def addresses(self, what):
        """All addresses that were printed; each proxy prints its own."""
        return [(host, int(port)) for host, port in
                re.findall(rf"^{what} (.*):(\d+)$", self.text(), re.M)]

    @property
    def port(self):
        return self.addresses("listening")[0][1]

    def client(self, port=None):
        return harness.Client(port or self.port)

    def ask(self, target, *fields, method="GET", port=None):
        with self.client(port) as client:
            return client.ask(target, *fields, method=method)

    def admin(self, target):
        with harness.Client(self.addresses("admin")[-1][1]) as client:
            client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            client.at_end()
            head, body = client.input.split(b"\r\n\r\n", 1)
            return harness.Answer(head, body)

    def metric(self, line):
        """The value of the one line of /-/metrics with this start."""
        text = self.admin("/-/metrics").body.decode()
        found = [entry.rsplit(" ", 1)[1] for entry in text.splitlines() if entry.startswith(line)]
        assert len(found) == 1, (line, found)
        return float(found[0])

    def worker_pids(self):
        return sorted(pid for pid, name in children(self.pid).items()
                      if name == "ferry-worker")

    def count(self, words):
        return len(re.findall(words, self.text()))

    def wait_for(self, words, total=1):
        try:
            harness.wait_until(lambda: self.count(words) >= total or self.has_ended(),
                               f"'{words}', {total} times")
        finally:
            assert self.count(words) >= total, self.text()

    def wait_until_ready(self, total):
        self.wait_for(r"\) is ready", total)

    def has_ended(self):
        return not pathlib.Path(f"/proc/{self.pid}").exists() or self.child.process.poll() is not None \
            and self.pid == self.child.pid

    def signal(self, number):
        os.kill(self.pid, number)

    def upgrade(self):
        """Sends SIGUSR2, and waits until the new proxy serves. Returns the old pid, which may still run."""
        old = self.pid
        listens = len(self.addresses("listening")) // self.generations
        self.signal(signal.SIGUSR2)
        self.wait_for("has taken over", self.generations)
        self.generations += 1
        self.wait_for(r"(?m)^listening ", self.generations * listens)
        self.pid = int(re.findall(r"the new proxy \(pid (\d+)\) is started", self.text())[-1])
        return old

    def wait_for_end(self, pid):
        """Returns the exit status."""
        if pid == self.child.pid:
            return self.child.process.wait(harness.DEADLINE)
        deadline = time.monotonic() + harness.DEADLINE
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        raise AssertionError(f"process {pid} does not end: {self.text()}")

    def reports(self):
        """The lines of sanitizers, of all processes."""
        return [line for line in self.text().splitlines()
                if re.search(r"Sanitizer|runtime error:|==\d+==", line)]

    def kill(self):
        self.child.kill()
        self.killed = True

    def stop(self):
        try:
            if self.killed:
                return
            if self.pid != self.child.pid:  # its parent waits for it, as long as that is there
                harness.wait_until(lambda: self.has_ended() or parent(self.pid) == os.getpid(), "the old proxy ends")
            if not self.has_ended():
                self.signal(signal.SIGTERM)
            status = self.wait_for_end(self.pid)
            assert status == 0, f"ended with {status}: {self.text()}"
            assert not self.reports(), self.text()
            assert not self.control.exists(), "the control socket was left behind"
        finally:
            self.temporary.cleanup()

    def claims(self):
        """The claims of the workers: a list of (pid, attempt, address)."""
        if not self.claim_log.exists():
            return []
        lines = [line.split() for line in self.claim_log.read_text().splitlines()]
        return [(int(pid), int(attempt), address) for _, pid, attempt, address in lines]

    def outcomes(self):
        """The outcomes at the proxy: a list of (outcome, pid, attempt, address, reason)."""
        lines = [line.split() for line in self.outcome_log.read_text().splitlines()]
        return [(outcome, int(pid), int(attempt), address, int(reason))
                for _, outcome, pid, attempt, address, reason in lines]


class Load:
    """Clients in threads, until stop(). Half of them make a connection for each request. The others keep a
    connection as long as the answers allow, with pauses between the requests."""

    def __init__(self, proxy, threads=8):
        self.proxy = proxy
        self.port = proxy.port
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.served = 0
        self.kept = 0      # answers after the first one on a connection
        self.closed = 0    # answers that ended a connection which the client would have kept
        self.failures = []  # (address of the client, the error)
        self.threads = [threading.Thread(target=self.run, args=(index % 2 == 1,))
                        for index in range(threads)]
        for thread in self.threads:
            thread.start()

    def one_request(self, client, first, keep):
        answer = client.ask("/", *(() if keep else ("Connection: close",)))
        if answer.status != 200 or answer.body != b"hello":
            raise AssertionError(f"answered {answer.status}")
        closes = answer.fields["connection"] == "close"
        with self.lock:
            self.served += 1
            self.kept += not first
            self.closed += keep and closes
        return not closes

    def connection(self, keep):
        address = None
        try:
            with harness.Client(self.port) as client:
                host, port = client.socket.getsockname()
                address = f"{host}:{port}"
                first = True
                while self.one_request(client, first, keep) and not self.stopping.is_set():
                    first = False
                    time.sleep(random.choice((0, 0, 0.001, 0.05)))
        except (OSError, AssertionError) as error:
            with self.lock:
                self.failures.append((address, repr(error)))

    def run(self, keep):
        while not self.stopping.is_set():
            self.connection(keep)

    def wait_for_more(self, count=200):
        """Waits until each kind of client has `count` more answers."""
        with self.lock:
            served, kept = self.served + count, self.kept + count
        harness.wait_until(lambda: self.served >= served and self.kept >= kept or self.failures,
                           "requests are served")

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


class Case(unittest.TestCase):
    def start(self, *arguments, **options):
        proxy = Proxy(*arguments, **options)
        self.addCleanup(proxy.stop)
        return proxy

    def load(self, proxy, **options):
        load = Load(proxy, **options)
        self.addCleanup(load.stop)
        return load

    def assert_serves(self, proxy):
        self.assertEqual(proxy.ask("/").body, b"hello")

    def assert_is_let_go(self, client):
        """Checks that each request is answered, up to an answer with Connection: close."""
        def last():
            answer = client.ask("/")
            self.assertEqual(answer.body, b"hello")
            return answer.fields["connection"] == "close"
        harness.wait_until(last, "the last answer")
        self.assertTrue(client.at_end())

    def assert_owners_only(self, path):
        mode = os.stat(path).st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(mode & 0o777, 0o600)


__all__ = ["Case", "Load", "Proxy", "children", "harness", "signal", "socket"]
