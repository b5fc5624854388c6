"""prefork_server: workers and servers that are replaced, and clients that must not notice."""

import os
import pathlib
import signal
import socket
import threading
import unittest

import harness
from example import ExampleCase, free_port, listens_on


def children(pid):
    """Empty also if the process has ended."""
    try:
        return {int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()


def processes_with_argument(text):
    found = set()
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes().split(b"\0"):
                found.add(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return found


def lives(pid):
    return pathlib.Path(f"/proc/{pid}").exists()


class PreforkServer(ExampleCase):

    def start(self):
        while True:
            self.port = free_port()
            self.server = self.child("prefork_server", f"127.0.0.1:{self.port}")
            harness.wait_until(lambda: self.server.process.poll() is not None or listens_on(self.port), "the server")
            if self.server.process.poll() is None:
                break
            self.assertIn("Address already in use", self.server.text())
        self.assertTrue(self.echoes())

    def connect(self):
        peer = socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE)
        self.addCleanup(peer.close)
        return peer

    def echoes(self):
        with self.connect() as peer:
            peer.sendall(b"hello")
            return peer.recv(100) == b"hello"

    def load(self):
        """Clients that connect again and again; those that fail are in the list."""
        self.failures, self.over, self.count = [], threading.Event(), 0

        def run():
            while not self.over.is_set():
                try:
                    if not self.echoes():
                        raise AssertionError("no echo")
                    self.count += 1
                except Exception as error:  # any at all is a client that was lost
                    self.failures.append(error)
                    return
        self.clients = [threading.Thread(target=run) for _ in range(4)]
        for client in self.clients:
            client.start()
        self.addCleanup(self.end_load)

    def end_load(self):
        self.over.set()
        for client in self.clients:
            client.join()

    def wait_for_more(self, more=50):
        wanted = self.count + more
        harness.wait_until(lambda: self.count >= wanted or self.failures, "clients are served")

    def test_workers_are_replaced_under_load(self):
        self.start()
        self.load()
        for _ in range(3):
            old = children(self.server.pid)
            os.kill(self.server.pid, signal.SIGHUP)
            harness.wait_until(lambda: not old & children(self.server.pid), "the old workers are gone")
            self.wait_for_more()
        self.end_load()
        self.assertEqual(self.failures, [])
        self.stop(self.server)

    def test_the_server_replaces_itself_under_load(self):
        self.start()
        self.load()
        old = self.server.pid
        for _ in range(3):
            os.kill(old, signal.SIGUSR2)
            harness.wait_until(lambda: self.is_gone(old), "the old server ends")
            harness.wait_until(lambda: len(self.servers()) == 1, "one server is left")
            self.wait_for_more()
            old, = self.servers()
        self.end_load()
        self.assertEqual(self.failures, [])
        os.kill(old, signal.SIGTERM)
        harness.wait_until(lambda: not lives(old), "the last server ends")

    def servers(self):
        """Without the workers, which have no arguments."""
        return processes_with_argument(f"127.0.0.1:{self.port}")

    def is_gone(self, pid):
        if pid == self.server.pid:
            return self.server.process.poll() is not None
        return not lives(pid)

    def test_sigterm_lets_clients_finish(self):
        self.start()
        peer = self.connect()
        peer.sendall(b"one")
        self.assertEqual(peer.recv(100), b"one")
        os.kill(self.server.pid, signal.SIGTERM)
        harness.wait_until(lambda: not listens_on(self.port), "the port is closed")
        peer.sendall(b"two")
        self.assertEqual(peer.recv(100), b"two")
        peer.close()
        self.assertEqual(self.server.process.wait(harness.DEADLINE), 0, self.server.text())

    def test_wrong_arguments(self):
        self.check_usage("prefork_server", [], ["a", "b"])


if __name__ == "__main__":
    unittest.main()
