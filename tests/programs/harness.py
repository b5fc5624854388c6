"""Proxy and workers as child processes, and raw HTTP over sockets, for the tests of the programs.

FERRY_BIN is the directory of the programs. FERRY_EMULATOR is a command that runs them, or empty. Workers run
without it: valgrind 3.19 does not know openat2(2), which a worker needs to start. All sockets are on
127.0.0.1 with ports from the kernel, or in a temporary directory. A wait has a deadline that a working
program never reaches; no test passes or fails by the time that something takes.
"""

import contextlib
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import tempfile
import time
import unittest

DEADLINE = int(os.environ.get("FERRY_DEADLINE", "120"))
BIN = pathlib.Path(os.environ["FERRY_BIN"])
EMULATOR = os.environ.get("FERRY_EMULATOR", "").split()  # valgrind
INSTRUMENTED = bool(EMULATOR or os.environ.get("FERRY_INSTRUMENTED"))  # then sizes are not comparable


# The times of a proxy that a busy machine never exceeds, for those that a test does not choose itself.
PATIENCE = {"queue-timeout": "600000", "answer-timeout": "600000", "head-timeout": "600"}


def patience(arguments, configuration=""):
    """The options of a proxy for the times that are neither in its arguments nor in its configuration."""
    return [word for name, time_ in PATIENCE.items()
            if f"--{name}" not in arguments and not re.search(rf"^\s*{name} ", configuration, re.M)
            for word in (f"--{name}", time_)]


def wait_until(condition, what):
    deadline = time.monotonic() + DEADLINE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {DEADLINE} seconds")
        time.sleep(0.02)


def open_files(pid):
    """What the descriptors of a process are: {number: link}. Those that are closed meanwhile are left out."""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
    return found


def many_clients(case, wanted):
    """Raises the descriptor limit of this process for a test case, to the hard limit. Returns the number of clients
    that the limit allows: wanted, or fewer, because proxy and worker have up to two descriptors for each, and spare
    some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    case.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    return min(wanted, hard // 3)


class Child:
    """A program whose output goes to a file: a full pipe never blocks it."""

    def __init__(self, directory, name, *arguments, prefix=(), emulated=False, programs=BIN,
                 **options):
        self.name = name
        self.log = directory / f"{name}-{time.monotonic_ns()}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*prefix, *(EMULATOR if emulated else ()), programs / name, *arguments],
                **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT,
                   **options})
        self.pid = self.process.pid

    def text(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, line):
        def seen():
            if self.process.poll() is not None and line not in self.text():
                raise AssertionError(f"{self.name} ended: {self.text()}")
            return line in self.text()
        wait_until(seen, f"{self.name}: '{line}'")

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory_kib(self, field):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        raise AssertionError(f"no {field}")

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Sends SIGTERM. The program has to exit with 0, which a sanitizer with a report prevents."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        if status != 0:
            raise AssertionError(f"{self.name} ended with {status}: {self.text()}")


class Answer:
    def __init__(self, head, body):
        lines = head.decode("latin-1").split("\r\n")
        self.version, status, self.reason = lines[0].split(" ", 2)
        self.status = int(status)
        self.fields = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            assert name.lower() not in self.fields, f"{name} twice"
            self.fields[name.lower()] = value.strip()
        self.body = body


class Client:
    """A TCP connection for exact bytes of HTTP/1.1."""

    def __init__(self, port, timeout=DEADLINE):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.input = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))

    def read_more(self):
        data = self.socket.recv(65536)
        self.input += data
        return len(data) > 0

    def read_head(self):
        while b"\r\n\r\n" not in self.input:
            if not self.read_more():
                raise AssertionError(f"the connection ended in a head: {self.input!r}")
        head, self.input = self.input.split(b"\r\n\r\n", 1)
        return head

    def read_answer(self, head_only=False):
        answer = Answer(self.read_head(), b"")
        length = int(answer.fields.get("content-length", "0"))
        if head_only or answer.status == 304:
            length = 0
        while len(self.input) < length:
            if not self.read_more():
                raise AssertionError("the connection ended in a body")
        answer.body, self.input = self.input[:length], self.input[length:]
        return answer

    def at_end(self):
        """Waits for the end of the stream; the bytes before it are in self.input."""
        while self.read_more():
            pass
        return True

    def ask(self, target, *fields, method="GET"):
        lines = [f"{method} {target} HTTP/1.1", "Host: test", *fields, "", ""]
        self.send("\r\n".join(lines))
        return self.read_answer(head_only=method == "HEAD")


class Server:
    """A proxy and its workers over a directory of files."""

    def __init__(self, workers=1, proxy=(), worker=(), proxy_prefix=(), worker_prefix=()):
        self.temporary = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        self.directory = pathlib.Path(self.temporary.name)
        self.root = self.directory / "root"
        self.root.mkdir()
        self.socket_path = self.directory / "workers.sock"
        self.worker_options = worker
        self.worker_prefix = worker_prefix
        self.proxy_options = proxy
        self.proxy_prefix = proxy_prefix
        self.proxy = None
        self.port = 0
        self.workers = []
        self.start_proxy()
        for _ in range(workers):
            self.add_worker()

    def start_proxy(self):
        self.proxy = Child(self.directory, "ferry-proxy", "--socket", self.socket_path,
                           "--port", str(self.port), *self.proxy_options, *patience(self.proxy_options),
                           prefix=self.proxy_prefix, emulated=True)
        self.proxy.wait_for("listening ")
        line = next(line for line in self.proxy.text().splitlines()
                    if line.startswith("listening "))
        self.port = int(line.rsplit(":", 1)[1])

    def wait_for_workers(self, total):
        wait_until(lambda: self.proxy.text().count(" is connected") >= total, "workers are here")

    def wait_for_losses(self, total):
        wait_until(lambda: len(re.findall(r"worker default/\d+ .* is disconnected", self.proxy.text()))
                   >= total, "workers are gone")

    def add_worker(self):
        """A worker that keeps its connections, unless the test has chosen otherwise."""
        known = self.proxy.text().count(" is connected")
        worker = Child(self.directory, "ferry-worker", "--socket", self.socket_path,
                       "--root", self.root, "--keep", "86400", "--head-timeout", "600",
                       *self.worker_options, prefix=self.worker_prefix)
        self.workers.append(worker)
        self.wait_for_workers(known + 1)
        return worker

    def client(self):
        return Client(self.port)

    def ask(self, target, *fields, method="GET"):
        with self.client() as client:
            return client.ask(target, *fields, method=method)

    def put(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def stop(self):
        with contextlib.ExitStack() as stack:
            stack.callback(self.temporary.cleanup)
            for child in [*self.workers, self.proxy]:
                stack.callback(self.stop_child, child)
        leftover = self.socket_path.exists()
        if leftover:
            raise AssertionError("the proxy left its socket behind")

    def stop_child(self, child):
        if child.process.returncode != -signal.SIGKILL:
            child.stop()


class ServerCase(unittest.TestCase):
    """One server for all tests of a class. After each test the number of open descriptors is as before."""

    options = {}

    @classmethod
    def setUpClass(cls):
        cls.server = Server(**cls.options)
        cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        # The first answer of a process may open descriptors that the loop keeps.
        children = [self.server.proxy, *self.server.workers]
        before = {child: child.fds() for child in children}

        def settled():
            return all(child.process.poll() is not None or child.fds() <= before[child]
                       for child in children)
        self.addCleanup(wait_until, settled, "descriptors are closed again")
