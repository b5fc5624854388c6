"""takeover: processes that replace each other, and clients that must not notice."""

import contextlib
import os
import signal
import socket
import threading
import unittest

import harness
from example import ExampleCase, read_to_end, sockets_of


class Takeover(ExampleCase):

    def start(self):
        """Starts a server, and waits until it alone accepts and can be replaced."""
        server = self.child("takeover", self.path)

        def ready():
            if server.process.poll() is not None:
                raise AssertionError(f"the server ended: {server.text()}")
            return self.meets(server)
        harness.wait_until(ready, "the server")
        return server

    def meets(self, server):
        """Whether it listens on the abstract socket: its descriptor is the one in /proc/net/unix."""
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as table:
            inodes = [line.split()[6] for line in table if line.rstrip().endswith(f"@takeover:{self.path}")
                      and int(line.split()[3], 16) & 0x10000]
        return any(f"socket:[{inode}]" in sockets_of(server.pid) for inode in inodes)

    def ask(self):
        answer = read_to_end(self.connect())
        self.assertRegex(answer, rb"^process \d+\n$")
        return int(answer.split()[1])

    def ended(self, server):
        self.assertEqual(server.process.wait(harness.DEADLINE), 0, server.text())

    def test_a_server_alone(self):
        server = self.start()
        self.assertEqual({self.ask() for _ in range(10)}, {server.pid})
        self.stop(server)

    def test_each_replaces_the_one_before(self):
        server = self.start()
        for _ in range(5):
            old, server = server, self.start()
            self.ended(old)
            self.assertEqual(self.ask(), server.pid)
            self.assertEqual(server.text(), "")
        self.stop(server)

    def test_no_client_is_refused_meanwhile(self):
        server = self.start()
        pids, failures, over = set(), [], threading.Event()

        def ask():
            while not over.is_set():
                try:
                    with socket.socket(socket.AF_UNIX) as peer:
                        peer.settimeout(harness.DEADLINE)
                        peer.connect(os.fspath(self.path))
                        pids.add(int(read_to_end(peer).split()[1]))
                except Exception as error:  # any at all is a client that was lost
                    failures.append(error)
                    return
        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        servers = [server]
        for _ in range(5):
            servers.append(self.start())
            self.ended(servers[-2])
        harness.wait_until(lambda: servers[-1].pid in pids or failures, "the last server serves")
        over.set()
        for client in clients:
            client.join()
        self.assertEqual(failures, [])
        self.assertTrue(pids <= {server.pid for server in servers})
        self.stop(servers[-1])

    def test_a_client_in_the_backlog_is_served_by_the_new_one(self):
        server = self.start()
        server.process.send_signal(signal.SIGSTOP)
        peer = self.connect()  # in the backlog
        new = self.child("takeover", self.path)
        server.process.send_signal(signal.SIGCONT)
        self.ended(server)
        self.assertIn(int(read_to_end(peer).split()[1]), (server.pid, new.pid))
        harness.wait_until(lambda: self.meets(new), "the new server")
        self.stop(new)

    def test_a_new_process_that_dies_changes_nothing(self):
        server = self.start()
        server.process.send_signal(signal.SIGSTOP)
        new = self.child("takeover", self.path)
        harness.wait_until(lambda: len(os.listdir(f"/proc/{new.pid}/fd")) > 6, "the connection")
        new.kill()
        server.process.send_signal(signal.SIGCONT)
        self.assertEqual(self.ask(), server.pid)
        self.stop(server)

    def test_a_stranger_at_the_meeting_place_changes_nothing(self):
        server = self.start()
        for data in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(1000)):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(harness.DEADLINE)
                peer.connect(f"\0takeover:{self.path}")
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):  # the server has not read all
                    read_to_end(peer)
            self.assertEqual(self.ask(), server.pid)
        self.stop(server)

    def test_a_successor_of_a_killed_server(self):
        server = self.start()
        server.kill()
        self.assertTrue(self.path.exists())
        server = self.start()
        self.assertEqual(self.ask(), server.pid)
        self.stop(server)

    def test_a_path_that_cannot_be(self):
        status, _, error = self.run_to_end("takeover", self.directory / "none" / "socket")
        self.assertEqual(status, 1)
        self.assertIn("No such file or directory", error)
        status, _, error = self.run_to_end("takeover", "x" * 150)
        self.assertEqual(status, 1)
        self.assertIn("File name too long", error)

    def test_usage(self):
        self.check_usage("takeover", (), ("a", "b"))


if __name__ == "__main__":
    unittest.main()
