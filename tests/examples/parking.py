"""parking: clients that are silent most of the time."""

import resource
import socket
import unittest

import harness
from example import ExampleCase, free_port, listens_on, read_to_end


class Parking(ExampleCase):

    def start(self, **arguments):
        while True:
            self.port = free_port()
            server = self.child("parking", f"127.0.0.1:{self.port}", **arguments)
            harness.wait_until(lambda: server.process.poll() is not None or listens_on(self.port),
                               "the server")
            if server.process.poll() is None:
                return server

    def client(self):
        peer = socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE)
        self.addCleanup(peer.close)
        return peer

    def expect(self, peer, answer):
        data = b""
        while len(data) < len(answer):
            block = peer.recv(65536)
            self.assertTrue(block, data)
            data += block
        self.assertEqual(data, answer)

    def test_lines_are_numbered_for_each_client(self):
        server = self.start()
        first, second = self.client(), self.client()
        for number in range(1, 6):
            first.sendall(b"line\n")
            self.expect(first, b"%d line\n" % number)
        second.sendall(b"a\nb\n")
        self.expect(second, b"1 a\n2 b\n")
        server.stop()
        self.assertEqual(server.text(), "")

    def test_a_ping_and_half_a_line(self):
        server = self.start()
        peer = self.client()
        peer.sendall(b"ping\n")
        self.expect(peer, b"pong\n")
        peer.sendall(b"half ")
        other = self.client()
        other.sendall(b"x\n")
        self.expect(other, b"1 x\n")
        peer.sendall(b"a line\n")
        self.expect(peer, b"1 half a line\n")
        server.stop()

    def test_a_line_without_end_is_cut(self):
        server = self.start()
        peer = self.client()
        peer.sendall(b"x" * 5000)
        try:
            self.assertEqual(read_to_end(peer), b"")
        except ConnectionResetError:
            pass
        server.stop()

    def test_clients_that_leave_are_forgotten(self):
        server = self.start()
        peer = self.client()
        peer.sendall(b"x\n")
        self.expect(peer, b"1 x\n")
        before = server.fds()
        for _ in range(100):
            self.client().close()
        peer.sendall(b"y\n")
        self.expect(peer, b"2 y\n")
        self.has_fds(server, before)
        server.stop()

    def test_the_one_that_was_idle_longest_makes_room(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        server = self.start(preexec_fn=limit)
        peers = [self.client() for _ in range(100)]
        peers[-1].sendall(b"x\n")
        self.expect(peers[-1], b"1 x\n")
        self.assertEqual(read_to_end(peers[0]), b"")
        server.stop()

    def test_usage(self):
        self.check_usage("parking", (), ("a",), ("127.0.0.1:x",), ("127.0.0.1:1", "b"))


if __name__ == "__main__":
    unittest.main()
