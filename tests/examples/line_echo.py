"""line_echo beside clients made of sockets."""

import random
import socket
import threading
import unittest

from example import ExampleCase, fill, read_to_end

MIB = 1024 * 1024
LONGEST = 65536
COMPLAINT = b"(the line is too long)\n"


class LineEcho(ExampleCase):

    def echo(self, text):
        """The answer to a client that reads while it sends."""
        peer = self.connect()

        def send():
            peer.sendall(text)
            peer.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send)
        sender.start()
        answer = read_to_end(peer)
        sender.join()
        return answer

    def test_lines_come_back(self):
        server = self.serve("line_echo")
        self.assertEqual(self.echo(b"one\ntwo\n\nthr\0ee\n"), b"one\ntwo\n\nthr\0ee\n")
        self.assertEqual(self.echo(b""), b"")
        self.assertEqual(self.echo(b"no end"), b"no end\n")
        self.stop(server)

    def test_each_line_comes_back_by_itself(self):
        server = self.serve("line_echo")
        peer = self.connect()
        lines = peer.makefile("rb")
        for i in range(100):
            line = b"line %d\n" % i
            peer.sendall(line)
            self.assertEqual(lines.readline(), line)
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual(lines.read(), b"")
        self.stop(server)

    def test_many_lines_of_any_bytes_come_back(self):
        server = self.serve("line_echo")
        source = random.Random(1)
        text = b"".join(source.randbytes(source.randrange(2000)).replace(b"\n", b"") + b"\n"
                        for _ in range(4000))
        self.assertTrue(self.echo(text) == text, "other lines")
        self.stop(server)

    def test_many_clients_at_once(self):
        server = self.serve("line_echo")
        before = self.count_fds(server)
        texts = [b"".join(b"client %d line %d\n" % (i, j) for j in range(500)) for i in range(8)]
        answers = {}

        def run(i):
            answers[i] = self.echo(texts[i])
        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(texts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([answers.get(i) for i in range(len(texts))], texts)
        self.has_fds(server, before)
        self.stop(server)

    def test_any_packets_make_the_same_lines(self):
        server = self.serve("line_echo")
        for size in (1, 2, 3, 7):
            peer = self.connect()
            text = b"one\ntwo\n\nlast"
            for at in range(0, len(text), size):
                peer.sendall(text[at:at + size])
            peer.shutdown(socket.SHUT_WR)
            self.assertEqual(read_to_end(peer), text + b"\n")
        self.stop(server)

    def test_a_line_that_is_too_long_is_skipped(self):
        server = self.serve("line_echo")
        peer = self.connect()

        def send():
            peer.sendall(b"x" * LONGEST + b"\n")
            peer.sendall(b"x" * (3 * MIB) + b"\nshort\n")
            peer.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send)
        sender.start()
        answer = read_to_end(peer)
        sender.join()
        self.assertTrue(answer == b"x" * LONGEST + b"\n" + COMPLAINT + b"short\n", len(answer))
        self.stop(server)

    def test_a_client_that_does_not_read_is_not_read_from(self):
        server = self.serve("line_echo")
        peer = self.connect()
        line = b"x" * 999 + b"\n"
        # The server's input and output, and the kernel's, are all that has room.
        sent = fill(peer, line, 64 * MIB)
        peer.shutdown(socket.SHUT_WR)
        answer = read_to_end(peer)
        self.assertEqual(len(answer), sent + (1 if sent % len(line) else 0))
        self.stop(server)

    def test_a_signal_ends_the_server_in_the_middle_of_lines(self):
        server = self.serve("line_echo")
        peers = [self.connect() for _ in range(3)]
        for peer in peers:
            peer.sendall(b"a line\nand half of")
            self.assertEqual(peer.recv(7), b"a line\n")
        self.stop(server)

    def test_the_lock_lets_one_server_in_and_a_successor_of_a_killed_one(self):
        server = self.serve("line_echo")
        status, _, error = self.run_to_end("line_echo", self.path)
        self.assertEqual(status, 1)
        self.assertIn(f"{self.path}: Address already in use", error)
        server.kill()
        self.assertTrue(self.path.exists())
        server = self.serve("line_echo")
        self.assertEqual(self.echo(b"one\n"), b"one\n")
        self.stop(server)

    def test_a_path_that_cannot_be(self):
        status, _, error = self.run_to_end("line_echo", self.directory / "none" / "socket")
        self.assertEqual(status, 1)
        self.assertIn("No such file or directory", error)

    def test_usage(self):
        self.check_usage("line_echo", (), ("a", "b"))


if __name__ == "__main__":
    unittest.main()
