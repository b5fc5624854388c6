"""line_echo as processes: both ends of it, and each of them beside an end made of sockets."""

import os
import pathlib
import random
import socket
import subprocess
import tempfile
import threading
import unittest

import harness

MIB = 1024 * 1024
LONGEST = 65536
COMPLAINT = b"(a line that is too long)\n"


def listens(path):
    """Between bind(2) and listen(2) the file is there, and nobody listens."""
    for line in pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[-1] == os.fspath(path) and int(fields[3], 16) & 0x10000:
            return True
    return False


class Lines(unittest.TestCase):

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)
        self.path = self.directory / "socket"

    def serve(self):
        child = harness.Child(self.directory, "line_echo", "--listen", self.path, emulated=True)
        self.addCleanup(child.kill)
        harness.wait_until(lambda: listens(self.path), "the server")
        return child

    def ask(self, **options):
        client = subprocess.Popen(
            [*harness.EMULATOR, harness.BIN / "line_echo", "--connect", self.path],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            **{"stdin": subprocess.PIPE, **options})

        def end():
            client.kill()
            client.wait()
            for pipe in (client.stdin, client.stdout, client.stderr):
                if pipe is not None:
                    pipe.close()
        self.addCleanup(end)
        return client

    def echo(self, text):
        client = self.ask()
        out, error = client.communicate(text, harness.DEADLINE)
        self.assertEqual(client.returncode, 0, error)
        return out

    def connect(self):
        peer = socket.socket(socket.AF_UNIX)
        self.addCleanup(peer.close)
        peer.settimeout(harness.DEADLINE)
        peer.connect(os.fspath(self.path))
        return peer

    def read_all(self, peer):
        data = b""
        while block := peer.recv(65536):
            data += block
        return data

    def test_lines_come_back(self):
        server = self.serve()
        self.assertEqual(self.echo(b"one\ntwo\n\nthr\0ee\n"), b"one\ntwo\n\nthr\0ee\n")
        self.assertEqual(self.echo(b""), b"")
        self.assertEqual(self.echo(b"no end"), b"no end\n")
        server.stop()

    def test_each_line_comes_back_by_itself(self):
        server = self.serve()
        client = self.ask()
        for i in range(100):
            line = b"line %d\n" % i
            client.stdin.write(line)
            client.stdin.flush()
            self.assertEqual(client.stdout.readline(), line)
        client.stdin.close()
        self.assertEqual(client.wait(harness.DEADLINE), 0)
        server.stop()

    def test_lines_of_a_file_come_back(self):
        server = self.serve()
        source = random.Random(1)
        text = b"".join(source.randbytes(source.randrange(2000)).replace(b"\n", b"") + b"\n"
                        for _ in range(4000))
        file = self.directory / "text"
        file.write_bytes(text)
        with open(file, "rb") as stdin:
            client = self.ask(stdin=stdin)
            out, error = client.communicate(timeout=harness.DEADLINE)
        self.assertEqual(client.returncode, 0, error)
        self.assertTrue(out == text, "other lines")
        server.stop()

    def test_many_clients_at_once(self):
        server = self.serve()
        before = server.fds()
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
        harness.wait_until(lambda: server.fds() == before, "descriptors to be closed")
        server.stop()

    def test_any_packets_make_the_same_lines(self):
        server = self.serve()
        for size in (1, 2, 3, 7):
            peer = self.connect()
            text = b"one\ntwo\n\nlast"
            for at in range(0, len(text), size):
                peer.sendall(text[at:at + size])
            peer.shutdown(socket.SHUT_WR)
            self.assertEqual(self.read_all(peer), text + b"\n")
        server.stop()

    def test_a_line_that_is_too_long_is_skipped(self):
        server = self.serve()
        peer = self.connect()

        def send():
            peer.sendall(b"x" * LONGEST + b"\n")
            peer.sendall(b"x" * (3 * MIB) + b"\nshort\n")
            peer.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send)
        sender.start()
        answer = self.read_all(peer)
        sender.join()
        self.assertTrue(answer == b"x" * LONGEST + b"\n" + COMPLAINT + b"short\n", len(answer))
        server.stop()

    def test_a_client_that_does_not_read_is_not_read_from(self):
        server = self.serve()
        peer = self.connect()
        peer.setblocking(False)
        line = b"x" * 999 + b"\n"
        sent, full = 0, 0
        # The server's input and output, and the kernel's: then no more is taken, however long one asks.
        while full < 200:
            try:
                sent += peer.send(line[sent % len(line):])
                full = 0
            except BlockingIOError:
                full += 1
                harness.time.sleep(0.001)
            self.assertLess(sent, 64 * MIB)
        peer.settimeout(harness.DEADLINE)
        peer.shutdown(socket.SHUT_WR)
        answer = self.read_all(peer)
        self.assertEqual(len(answer), sent + (1 if sent % len(line) else 0))
        server.stop()

    def test_the_client_beside_a_server_of_sockets(self):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.settimeout(harness.DEADLINE)
            listener.bind(os.fspath(self.path))
            listener.listen()
            client = self.ask()
            client.stdin.write(b"hello\nlast")
            client.stdin.close()
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(harness.DEADLINE)
                self.assertEqual(self.read_all(peer), b"hello\nlast\n")
                peer.sendall(b"one\r\ntw")
                peer.sendall(b"o")
            self.assertEqual(client.stdout.read(), b"one\r\ntwo\n")
            self.assertEqual(client.wait(harness.DEADLINE), 0)

    def test_the_client_says_that_the_server_has_gone(self):
        server = self.serve()
        client = self.ask()
        client.stdin.write(b"one\n")
        client.stdin.flush()
        self.assertEqual(client.stdout.readline(), b"one\n")
        server.stop()
        self.assertEqual(client.wait(harness.DEADLINE), 1)
        self.assertIn(b"the other end has gone", client.stderr.read())

    def test_nobody_there(self):
        client = self.ask()
        _, error = client.communicate(b"", harness.DEADLINE)
        self.assertEqual(client.returncode, 1)
        self.assertIn(b"No such file", error)

    def test_wrong_usage(self):
        client = subprocess.run([*harness.EMULATOR, harness.BIN / "line_echo"],
                                capture_output=True, timeout=harness.DEADLINE, check=False)
        self.assertEqual(client.returncode, 2)
        self.assertIn(b"usage", client.stderr)


if __name__ == "__main__":
    unittest.main()
