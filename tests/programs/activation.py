"""Socket activation: the tests play systemd, which listens, and passes the sockets to each proxy that it starts."""

import os
import re
import signal
import socket
import sys
import tempfile
import unittest

import harness
from supervised import Case, children

# argv: the descriptors with commas between them, and the program. Becomes the program, with the descriptors from 3 on.
LAUNCHER = """
import fcntl, os, sys
passed = [int(fd) for fd in sys.argv[1].split(",")]
kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in passed]
for fd in passed:
    os.close(fd)
for number, fd in enumerate(kept, 3):
    os.dup2(fd, number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
"""

CONFIG = """
    listen systemd:www
    listen systemd:unix
    listen systemd:www
    service www root={root} workers=2
"""


def passing(*sockets):
    """Options of a child that gets sockets, each with a name."""
    fds = [each.fileno() for _, each in sockets]
    return {"prefix": (sys.executable, "-c", LAUNCHER, ",".join(map(str, fds))), "pass_fds": fds,
            "env": {**os.environ, "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(name for name, _ in sockets)}}


def count_descriptors(pid, each):
    """The number of descriptors that a process has of a socket."""
    wanted = f"socket:[{os.fstat(each.fileno()).st_ino}]"
    return list(harness.open_files(pid).values()).count(wanted)


class Activation(Case):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        self.addCleanup(directory.cleanup)
        self.path = f"{directory.name}/www.sock"
        self.first, self.second = (self.listen(socket.AF_INET, ("127.0.0.1", 0)) for _ in range(2))
        self.unix = self.listen(socket.AF_UNIX, self.path)
        self.sockets = (("www", self.first), ("www", self.second), ("unix", self.unix))

    def listen(self, family, address):
        listening = socket.socket(family)
        self.addCleanup(listening.close)
        listening.bind(address)
        listening.listen(128)
        return listening

    def start_activated(self, *arguments, config=CONFIG, sockets=None, **options):
        return self.start(*arguments, config=config, **passing(*(sockets or self.sockets)), **options)

    def run_to_the_end(self, config, sockets):
        """The status and the lines of a proxy that does not start."""
        directory = self.start(workers=1).directory
        file = directory / "other.conf"
        file.write_text(config.format(root=directory / "root"))
        child = harness.Child(directory, "ferry-proxy", "--config", file, emulated=True, **passing(*sockets))
        return child.process.wait(harness.DEADLINE), child.text()

    def assert_answers(self):
        for each in (self.first, self.second, self.unix):
            with socket.socket(each.family) as client:
                client.settimeout(harness.DEADLINE)
                client.connect(each.getsockname())
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda c=client: c.recv(4096), b""))
                self.assertTrue(answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"hello"), answer)

    def assert_has_each_once(self, pid):
        for each in (self.first, self.second, self.unix):
            self.assertEqual(count_descriptors(pid, each), 1)
            for worker in children(pid):
                self.assertEqual(count_descriptors(worker, each), 0)

    def test_each_line_listens_on_a_socket_of_its_name(self):
        proxy = self.start_activated()
        self.assertEqual([port for _, port in proxy.addresses("listening")],
                         [each.getsockname()[1] for each in (self.first, self.second)])
        self.assertIn(f"listening unix:{self.path}", proxy.text())
        proxy.wait_until_ready(2)
        self.assert_answers()
        self.assert_has_each_once(proxy.pid)
        for worker in proxy.worker_pids():
            with open(f"/proc/{worker}/environ", "rb") as environment:
                self.assertNotIn(b"LISTEN_", environment.read())

    def test_upgrades_hand_the_sockets_on_and_take_none_twice(self):
        proxy = self.start_activated()
        proxy.wait_until_ready(2)
        load = self.load(proxy, threads=4)
        for _ in range(2):
            load.wait_for_more(50)
            proxy.signal(signal.SIGUSR2)
            proxy.generations += 1
            proxy.wait_for(r"(?m)^listening unix:", proxy.generations)
            old, proxy.pid = proxy.pid, int(re.findall(r"the new proxy \(pid (\d+)\) is started", proxy.text())[-1])
            self.assertEqual(proxy.wait_for_end(old), 0)
            self.assert_answers()
            self.assert_has_each_once(proxy.pid)
        load.wait_for_more(50)
        load.stop()
        self.assertEqual(load.failures, [])

    def test_a_proxy_that_ends_leaves_the_sockets_to_the_service_manager(self):
        for end in (signal.SIGTERM, signal.SIGKILL):
            proxy = self.start_activated()
            proxy.wait_until_ready(2)
            proxy.signal(end)
            proxy.wait_for_end(proxy.pid)
            proxy.killed = True
            self.assertTrue(os.path.exists(self.path))
            # A client that comes now waits for the next proxy.
            waiting = harness.Client(self.first.getsockname()[1])
            self.addCleanup(waiting.socket.close)
            waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            following = self.start_activated()
            self.assertEqual(waiting.read_answer().body, b"hello")
            self.assert_answers()
            following.signal(signal.SIGTERM)
            self.assertEqual(following.wait_for_end(following.pid), 0)
            following.killed = True

    def test_by_hand_the_predecessor_has_the_sockets(self):
        proxy = self.start_activated()
        new = harness.Child(proxy.directory, "ferry-proxy", "--config", proxy.config, "--control", proxy.control,
                            "--take-over", proxy.control, emulated=True, **passing(*self.sockets))
        new.wait_for("listening unix:")
        self.assertEqual(proxy.wait_for_end(proxy.pid), 0)
        proxy.killed = True
        self.assert_has_each_once(new.pid)
        self.assert_answers()
        new.stop()
        self.assertTrue(os.path.exists(self.path))

    def test_a_socket_that_no_line_has_is_closed_with_a_line(self):
        proxy = self.start_activated(config="""
            listen systemd:www
            service www root={root} workers=1
        """)
        proxy.wait_for("unix: closed, because the configuration does not have it")
        self.assertEqual(count_descriptors(proxy.pid, self.unix), 0)
        self.assertIn("systemd:www: nobody listens on more than 1 of the sockets of this name", proxy.text())

    def test_a_socket_that_was_not_passed_is_named(self):
        status, lines = self.run_to_the_end(CONFIG, (("www", self.first), ("unix", self.unix)))
        self.assertEqual(status, 1)
        self.assertIn("systemd:www: the service manager has passed fewer than 2 sockets of this name", lines)

    def test_a_datagram_socket_is_refused(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(("127.0.0.1", 0))
            status, lines = self.run_to_the_end("listen systemd:www\nservice www root={root}\n", (("www", datagrams),))
        self.assertEqual(status, 1)
        self.assertIn("systemd:www: not a listening stream socket", lines)

    def test_what_is_no_socket_is_refused(self):
        with open(os.devnull, "rb") as null:
            status, lines = self.run_to_the_end("listen systemd:www\nservice www root={root}\n", (("www", null),))
        self.assertEqual(status, 1)
        self.assertIn("LISTEN_FDS: Socket operation on non-socket", lines)


if __name__ == "__main__":
    unittest.main()
