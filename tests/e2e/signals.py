"""The programs that speak over a unix socket, ended by a signal while connections stand: the socket's file is
removed, and a sanitizer or valgrind finds nothing that was not freed."""

import array
import fcntl
import os
import pathlib
import socket
import tempfile
import termios
import unittest

import harness


def unread(peer):
    count = array.array("i", [0])
    fcntl.ioctl(peer, termios.TIOCOUTQ, count)
    return count[0]


class Signals(unittest.TestCase):

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)
        self.path = os.fspath(self.directory / "socket")

    def child(self, name, *arguments, **options):
        child = harness.Child(self.directory, name, *arguments, emulated=True, **options)
        self.addCleanup(child.kill)
        return child

    def connect(self):
        def connected():
            peer = socket.socket(socket.AF_UNIX)
            try:
                peer.connect(self.path)
            except OSError:
                peer.close()
                return None
            return peer
        peer = harness.wait_until(connected, "the server")
        self.addCleanup(peer.close)
        peer.settimeout(harness.DEADLINE)
        return peer

    def listen(self):
        server = socket.socket(socket.AF_UNIX)
        self.addCleanup(server.close)
        server.settimeout(harness.DEADLINE)
        server.bind(self.path)
        server.listen(1)
        return server

    def has_read(self, peer):
        harness.wait_until(lambda: unread(peer) == 0, "the program reads")

    def ends(self, child):
        child.stop()
        self.assertFalse(os.path.exists(self.path))

    def test_descriptor_cat_before_the_last_file(self):
        child = self.child("descriptor_cat", "--send", self.path, *[__file__] * 5000)
        peers = [self.connect() for _ in range(3)]
        for peer in peers:
            self.assertEqual(peer.recv(1), b"F")
        self.ends(child)

    def test_descriptor_cat_in_a_message(self):
        server = self.listen()
        child = self.child("descriptor_cat", "--receive", self.path)
        peer, _ = server.accept()
        with peer, open(__file__, "rb") as file:
            socket.send_fds(peer, [b"FRY\1\1\0"], [file.fileno()])
            self.has_read(peer)
            child.stop()


if __name__ == "__main__":
    unittest.main()
