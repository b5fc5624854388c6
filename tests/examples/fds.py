"""send_fd, receive_fd and fd_in_a_bufferevent beside each other, and beside ends made of sockets.
tests/interop/twisted_examples.py has the first two beside Twisted."""

import os
import signal
import socket
import subprocess
import unittest

import harness
from example import ExampleCase, read_to_end

CONTENT = b"".join(b"%d " % i for i in range(1000))


class SendFd(ExampleCase):

    def test_receive_fd_shows_the_file(self):
        file = self.file("content", CONTENT)
        server = self.serve("send_fd", file)
        for _ in range(3):
            self.assertEqual(self.run_to_end("receive_fd", self.path),
                             (0, b"path: %s\n%s\n" % (os.fsencode(file), CONTENT[:80]), ""))
        self.stop(server)

    def test_fd_in_a_bufferevent_shows_its_size(self):
        file = self.file("content", CONTENT)
        server = self.serve("send_fd", file)
        shown = b"a file of %d bytes\nits line: %s\n" % (len(CONTENT), os.fsencode(file))
        self.assertEqual(self.run_to_end("fd_in_a_bufferevent", self.path), (0, shown, ""))
        self.stop(server)

    def test_the_descriptor_is_there_when_its_first_byte_is(self):
        file = self.file("content", CONTENT)
        server = self.serve("send_fd", file)
        peer = self.connect()
        data, fds, _, _ = socket.recv_fds(peer, 1, 10)
        self.assertEqual((data, len(fds)), (os.fsencode(file)[:1], 1))
        with open(fds[0], "rb") as received:
            self.assertEqual(received.read(), CONTENT)
        self.assertEqual(data + read_to_end(peer), os.fsencode(file) + b"\r\n")
        self.stop(server)

    def test_a_file_that_is_missing_is_sent_to_nobody(self):
        file = self.directory / "missing"
        server = self.serve("send_fd", file)
        before = self.count_fds(server)
        self.assertEqual(read_to_end(self.connect()), b"")
        server.wait_for(f"{file}: No such file or directory")
        file.write_bytes(CONTENT)
        status, shown, _ = self.run_to_end("receive_fd", self.path)
        self.assertEqual((status, shown[-81:-1]), (0, CONTENT[:80]))
        self.has_fds(server, before)
        self.stop(server)

    def test_a_signal_ends_it_with_a_client_that_does_not_read(self):
        server = self.serve("send_fd", self.file("content", CONTENT))
        peers = [self.connect() for _ in range(3)]
        server.process.send_signal(signal.SIGINT)
        self.assertEqual(server.process.wait(harness.DEADLINE), 0, server.text())
        self.assertFalse(self.path.exists())
        for peer in peers:
            peer.close()

    def test_usage(self):
        self.check_usage("send_fd", (), ("a",), ("a", "b", "c"))


class Receiver:
    """The cases that both receivers share; `name` is the program."""

    def serve_fds(self, *messages, **options):
        """The result of the receiver beside a server that sends messages: bytes and descriptors."""
        server = self.listen()
        receiver = subprocess.Popen([*harness.EMULATOR, harness.BIN / self.name, self.path],
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        peer, _ = server.accept()
        with peer:
            for data, fds in messages:
                socket.send_fds(peer, [data], fds)
                self.has_read(peer)
        output, error = receiver.communicate(timeout=harness.DEADLINE)
        return receiver.returncode, output, error.decode()

    def test_nobody_there(self):
        status, output, error = self.run_to_end(self.name, self.path)
        self.assertEqual((status, output), (1, b""))
        self.assertIn("No such file or directory", error)

    def test_a_connection_without_a_line(self):
        self.assertEqual(self.serve_fds(), (0, b"", ""))

    def test_a_line_in_pieces(self):
        with open(self.file("content", CONTENT), "rb") as file:
            status, output, error = self.serve_fds((b"x", [file.fileno()]), (b"y", []), (b"\r\n", []))
        self.assertEqual((status, error), (0, ""))
        self.assertIn(b"xy\n", output)

    def test_usage(self):
        self.check_usage(self.name, (), ("a", "b"))


class ReceiveFd(Receiver, ExampleCase):

    name = "receive_fd"

    def test_descriptors_that_come_before_their_lines(self):
        files = [open(self.file(f"{i}", b"%d" % i), "rb") for i in range(3)]
        result = self.serve_fds((b"a", [file.fileno() for file in files]), (b"\r\nb\r\nc\r\n", []))
        for file in files:
            file.close()
        self.assertEqual(result, (0, b"path: a\n0\npath: b\n1\npath: c\n2\n", ""))

    def test_a_line_without_a_descriptor(self):
        status, output, error = self.serve_fds((b"a\r\n", []))
        self.assertEqual((status, output), (1, b""))
        self.assertIn("a line without a descriptor", error)

    def test_descriptors_without_lines(self):
        with open(__file__, "rb") as file:
            status, _, error = self.serve_fds((b"a", [file.fileno()] * 65))
        self.assertEqual(status, 1)
        self.assertIn("descriptors without lines", error)

    def test_too_long_a_line(self):
        status, _, error = self.serve_fds((b"a" * 16385, []))
        self.assertEqual(status, 1)
        self.assertIn("Message too long", error)

    def test_a_descriptor_that_cannot_be_read(self):
        with open(self.directory / "output", "wb") as file:
            status, output, error = self.serve_fds((b"a\r\n", [file.fileno()]))
        self.assertEqual((status, output), (1, b""))
        self.assertIn("Bad file descriptor", error)


class FdInABufferevent(Receiver, ExampleCase):

    name = "fd_in_a_bufferevent"

    def test_descriptors_and_lines_in_their_order(self):
        files = [open(self.file(f"{i}", b"x" * i), "rb") for i in range(3)]
        result = self.serve_fds((b"a\r\n", [files[0].fileno()]),
                                (b"b\r\n", [file.fileno() for file in files[1:]]))
        for file in files:
            file.close()
        self.assertEqual(result, (0, b"a file of 0 bytes\nits line: a\n"
                                     b"a file of 1 bytes\na file of 2 bytes\nits line: b\n", ""))

    def test_too_long_a_line(self):
        status, _, error = self.serve_fds((b"a" * 4097, []))
        self.assertEqual(status, 1)
        self.assertIn("too long", error)


if __name__ == "__main__":
    unittest.main()
