"""docs/tutorials/daemon.md: workers and servers that are replaced, and clients that must not notice."""

import os
import signal
import socket
import unittest

import harness
from example import free_port, listens_on
from prefork_server import children, lives, processes_with_argument
from tutorial import TutorialCase


class Client:
    """A client with a name, whose connection lasts."""

    def __init__(self, case, name):
        self.name = name
        self.socket = socket.create_connection(("127.0.0.1", case.port), harness.DEADLINE)
        case.addCleanup(self.socket.close)
        self.lines = self.socket.makefile("rb")
        case.addCleanup(self.lines.close)
        self.socket.sendall(name.encode() + b"\n")

    def ask(self, line):
        """The process that has answered."""
        self.socket.sendall(line.encode() + b"\n")
        who, _, rest = self.lines.readline().decode().partition(": ")
        name, _, pid = who.rpartition("@")
        if (name, rest) != (self.name, line + "\n"):
            raise AssertionError(f"{self.name}: '{who}: {rest}'")
        return int(pid)


class Daemon(TutorialCase):

    name = "daemon"

    def start(self):
        while True:
            self.port = free_port()
            self.server = self.child("echod", f"127.0.0.1:{self.port}")
            harness.wait_until(lambda: self.server.process.poll() is not None or self.serves(), "the server")
            if self.server.process.poll() is None:
                self.addCleanup(self.check_log)
                return
            self.assertIn("Address already in use", self.server.text())

    def check_log(self):
        """All processes write to it, the workers and the successors too."""
        self.assertNotIn("Sanitizer", self.server.text())

    def serves(self):
        """Clients of another program that has the port are none of this one."""
        if not listens_on(self.port):
            return False
        return Client(self, "first").ask("line") in children(self.server.pid)

    def servers(self):
        """Without the workers, which have no arguments."""
        return processes_with_argument(f"127.0.0.1:{self.port}")

    def workers(self):
        return {worker for server in self.servers() for worker in children(server)}

    def is_gone(self, pid):
        if pid == self.server.pid:
            return self.server.process.poll() is not None
        return not lives(pid)

    def replaced(self, pid, signal_number):
        """Sends a signal to the server, and waits until no worker of before is left. The server that is there then."""
        old = self.workers()
        os.kill(pid, signal_number)
        harness.wait_until(lambda: not any(lives(worker) for worker in old), "the old workers end")
        if signal_number == signal.SIGUSR2:
            harness.wait_until(lambda: self.is_gone(pid), "the old server ends")
        harness.wait_until(lambda: len(self.workers()) == 2 and len(self.servers()) == 1, "two workers serve")
        new, = self.servers()
        return new

    def end(self, pid):
        os.kill(pid, signal.SIGTERM)
        harness.wait_until(lambda: self.is_gone(pid) and not self.workers(), "all of it ends")

    def test_each_part_of_the_page_is_in_its_program(self):
        self.check_page()

    def test_clients_stay_while_workers_are_replaced(self):
        self.start()
        clients = [Client(self, f"client {i}") for i in range(10)]
        before = {client.ask("one") for client in clients}
        self.assertEqual(self.replaced(self.server.pid, signal.SIGHUP), self.server.pid)
        after = {client.ask("two") for client in clients}
        self.assertTrue(before.isdisjoint(after), (before, after))
        self.stop(self.server)

    def test_clients_stay_while_the_server_is_replaced(self):
        self.start()
        clients = [Client(self, f"client {i}") for i in range(10)]
        for client in clients:
            client.ask("one")
        clients[0].socket.sendall(b"half a ")  # a line that is not whole travels
        newcomer = socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE)
        self.addCleanup(newcomer.close)
        newcomer.sendall(b"half a ")
        pid = self.server.pid
        for _ in range(3):
            new = self.replaced(pid, signal.SIGUSR2)
            self.assertNotEqual(new, pid)
            pid = new
        clients[0].socket.sendall(b"line\n")
        self.assertEqual(clients[0].lines.readline().partition(b": ")[2], b"half a line\n")
        for client in clients:
            self.assertIn(client.ask("two"), self.workers())
        newcomer.sendall(b"name\nhello\n")
        self.assertRegex(newcomer.makefile("rb").readline(), rb"^half a name@\d+: hello\n$")
        self.end(pid)
        self.assertEqual(self.server.process.wait(harness.DEADLINE), 0, self.server.text())

    def test_a_worker_that_is_killed_takes_its_own_clients_only(self):
        self.start()
        clients = [Client(self, f"client {i}") for i in range(10)]
        served = {client: client.ask("one") for client in clients}
        killed = served[clients[0]]
        os.kill(killed, signal.SIGKILL)
        harness.wait_until(lambda: len(self.workers() - {killed}) == 2, "another worker is started")
        for client, worker in served.items():
            if worker == killed:
                self.assertEqual(client.lines.readline(), b"")
            else:
                self.assertEqual(client.ask("two"), worker)
        self.assertNotEqual(Client(self, "later").ask("line"), killed)
        self.stop(self.server)

    def test_a_first_line_that_is_no_name(self):
        self.start()
        for line in (b"\n", b"x" * 64, b"x" * 64 + b"\n", b"zero\0\n", b"\xff\n"):
            with socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE) as peer:
                peer.sendall(line)
                try:
                    self.assertEqual(peer.recv(100), b"", line)
                except ConnectionResetError:
                    pass
        self.assertEqual(len(Client(self, "x" * 63).name), 63)
        self.stop(self.server)

    def test_wrong_arguments(self):
        self.check_usage("echod", (), ("a", "b"))
        status, _, error = self.run_to_end("echod", "no address")
        self.assertEqual(status, 1)
        self.assertIn("no address: Invalid argument", error)


if __name__ == "__main__":
    unittest.main()
