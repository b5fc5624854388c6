"""send_file and receive_file beside each other, and beside ends made of sockets."""

import os
import random
import resource
import signal
import socket
import unittest

import harness
from example import ExampleCase, free_port, listens_on, read_to_end

MIB = 1024 * 1024


class FileCase(ExampleCase):

    def setUp(self):
        super().setUp()
        self.target = self.directory / "target"
        self.part = self.directory / "target.part"


class SendFile(FileCase):

    def send(self, file):
        """A server of the file, and its port."""
        while True:
            port = free_port()
            server = self.child("send_file", f"127.0.0.1:{port}", file)
            harness.wait_until(lambda: server.process.poll() is not None or listens_on(port), "the server")
            if "Address already in use" not in server.text():
                return server, port

    def download(self, port):
        return self.run_to_end("receive_file", f"127.0.0.1:{port}", self.target)

    def client(self, port):
        peer = socket.create_connection(("127.0.0.1", port), harness.DEADLINE)
        self.addCleanup(peer.close)
        return peer

    def test_files_of_all_sizes(self):
        for size in (0, 1, 15, 16384, 100_000, 20 * MIB):
            content = random.Random(size).randbytes(size)
            server, port = self.send(self.file("file", content))
            self.assertEqual(self.download(port), (0, b"", ""))
            self.assertTrue(self.target.read_bytes() == content, size)
            self.assertFalse(self.part.exists())
            server.stop()

    def test_the_line_and_the_bytes(self):
        server, port = self.send(self.file("file", b"content"))
        self.assertEqual(read_to_end(self.client(port)), b"7\ncontent")
        server.stop()

    def test_a_server_sends_the_file_as_it_is_when_a_client_connects(self):
        file = self.file("file", b"one")
        server, port = self.send(file)
        self.assertEqual(read_to_end(self.client(port)), b"3\none")
        file.write_bytes(b"another")
        self.assertEqual(read_to_end(self.client(port)), b"7\nanother")
        file.unlink()
        with self.assertRaises(ConnectionResetError):
            read_to_end(self.client(port))
        server.wait_for("file: No such file or directory")
        server.stop()

    def test_many_clients_at_once_and_one_that_leaves(self):
        content = random.Random(1).randbytes(4 * MIB)
        server, port = self.send(self.file("file", content))
        with self.client(port) as peer:
            self.assertEqual(peer.recv(1), b"4")
            before = server.fds()
        peers = [self.client(port) for _ in range(10)]
        self.client(port).close()
        for peer in peers:
            self.assertTrue(read_to_end(peer) == b"%d\n" % len(content) + content)
        self.has_fds(server, before)
        server.stop()

    def test_a_file_that_gets_shorter_is_no_file_for_the_client(self):
        file = self.file("file", b"x" * 40 * MIB)
        server, port = self.send(file)
        peer = self.client(port)
        self.assertEqual(peer.recv(1), b"4")
        os.truncate(file, MIB)
        with self.assertRaises(ConnectionResetError):
            read_to_end(peer)
        server.wait_for("Input/output error after ")
        server.stop()

    def test_a_signal_lets_a_transfer_end(self):
        content = random.Random(2).randbytes(20 * MIB)
        server, port = self.send(self.file("file", content))
        peer = self.client(port)
        head = peer.recv(1)
        server.process.send_signal(signal.SIGINT)
        harness.wait_until(lambda: not listens_on(port), "the listener is closed")
        self.assertIsNone(server.process.poll())
        self.assertTrue(head + read_to_end(peer) == b"%d\n" % len(content) + content)
        self.assertEqual(server.process.wait(harness.DEADLINE), 0, server.text())

    def test_a_second_signal_does_not(self):
        server, port = self.send(self.file("file", b"x" * 40 * MIB))
        self.assertEqual(self.client(port).recv(1), b"4")
        server.process.send_signal(signal.SIGTERM)
        harness.wait_until(lambda: not listens_on(port), "the listener is closed")
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(harness.DEADLINE), -signal.SIGTERM)

    def test_addresses_that_are_none(self):
        for address in ("", "localhost:1", "127.0.0.1:x", "/a/path"):
            for name in ("send_file", "receive_file"):
                status, _, error = self.run_to_end(name, address, self.target)
                self.assertEqual(status, 1, address)
                self.assertIn("Invalid argument", error)

    def test_an_address_in_use(self):
        server, port = self.send(self.file("file", b"x"))
        status, _, error = self.run_to_end("send_file", f"127.0.0.1:{port}", self.target)
        self.assertEqual(status, 1)
        self.assertIn("Address already in use", error)
        server.stop()

    def test_usage(self):
        self.check_usage("send_file", (), ("a",), ("a", "b", "c"))
        self.check_usage("receive_file", (), ("a",), ("a", "b", "c"))


class ReceiveFile(FileCase):

    def receive(self, *pieces, **options):
        """The result of the receiver beside a server that sends the pieces, each alone."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(harness.DEADLINE)
            child = self.child("receive_file", f"127.0.0.1:{server.getsockname()[1]}", self.target,
                               **options)
            peer, _ = server.accept()
            with peer:
                peer.settimeout(harness.DEADLINE)
                for piece in pieces:
                    peer.sendall(piece)
                    self.has_read(peer)
        return child.process.wait(harness.DEADLINE), child.text()

    def check_failed(self, result, message):
        status, error = result
        self.assertEqual(status, 1)
        self.assertIn(message, error)
        self.assertFalse(self.target.exists())
        self.assertFalse(self.part.exists())

    def test_byte_by_byte(self):
        self.assertEqual(self.receive(*[b"%c" % byte for byte in b"4\nabcd"]), (0, ""))
        self.assertEqual(self.target.read_bytes(), b"abcd")

    def test_an_existing_file_is_replaced_at_the_end(self):
        self.target.write_bytes(b"old")
        status, error = self.receive(b"4\nab")
        self.assertEqual((status, self.target.read_bytes()), (1, b"old"))
        self.assertIn("ended before the end of the file", error)
        self.assertEqual(self.receive(b"4\nab", b"cd"), (0, ""))
        self.assertEqual(self.target.read_bytes(), b"abcd")

    def test_an_early_end(self):
        for pieces in ((), (b"4",), (b"4\n",), (b"4\nabc",)):
            self.check_failed(self.receive(*pieces), "the server ended before the end of the file")

    def test_lines_that_are_no_size(self):
        for line in (b"", b"-1", b"+1", b" 1", b"x", b"1 ", b"0x10", b"1\0", b"1" * 20):
            self.check_failed(self.receive(line + b"\nx"), "Protocol error")

    def test_a_disk_that_is_full(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # and Python ignores SIGXFSZ
        self.check_failed(self.receive(b"2000\n" + b"x" * 2000, preexec_fn=limit,
                                       restore_signals=False), "File too large")

    def test_a_link_in_place_of_the_part_is_not_followed(self):
        outside = self.file("outside", b"")
        self.part.symlink_to(outside)
        status, error = self.receive(b"4\nabcd")
        self.assertEqual(status, 1)
        self.assertIn("Too many levels of symbolic links", error)
        self.assertEqual(outside.read_bytes(), b"")

    def test_a_directory_that_is_missing(self):
        self.target = self.directory / "none" / "target"
        self.assertIn("No such file or directory", self.receive(b"4\nabcd")[1])

    def test_nobody_listens(self):
        status, _, error = self.run_to_end("receive_file", "127.0.0.1:1", self.target)
        self.assertEqual(status, 1)
        self.assertIn("Connection refused", error)


if __name__ == "__main__":
    unittest.main()
