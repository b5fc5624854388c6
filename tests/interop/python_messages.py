"""examples/python/message_client.py, which is written from docs/message.md alone, beside a server on ferry.

Arguments: the client's file, and the command of the server.
"""

import os
import pathlib
import random
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import unittest.mock

DEADLINE = int(os.environ.get("FERRY_DEADLINE", "120"))
CLIENT, *SERVER = sys.argv[1:]

sys.path.insert(0, os.path.dirname(CLIENT))
from message_client import HEADER, MessageClient  # noqa: E402

ECHO, COUNT, BYE = 1, 2, 3


def memory_file(content):
    fd = os.memfd_create("ferry")
    os.write(fd, content)
    return fd


def content_of(fd):
    content = os.pread(fd, 1000, 0)
    os.close(fd)
    return content


def open_fds():
    return sorted(os.listdir("/proc/self/fd"))


class WithServer(unittest.TestCase):

    def setUp(self):
        self.open_before = open_fds()
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "socket")
        self.server = subprocess.Popen([*SERVER, self.path], stdout=subprocess.PIPE, text=True)
        self.assertEqual(self.server.stdout.readline(), "ready\n")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(self.path)
        self.client = MessageClient(self.socket)

    def tearDown(self):
        self.socket.close()
        self.assertEqual(self.server.wait(DEADLINE), 0)
        self.server.stdout.close()
        self.directory.cleanup()
        self.assertEqual(open_fds(), self.open_before)

    def expect_server_end(self, reason):
        self.socket.close()
        self.assertEqual(self.server.stdout.readline(), reason + "\n")

    def test_messages_come_back_with_their_descriptors(self):
        fds = [memory_file(b"file %d" % i) for i in range(16)]
        for length, count in ((0, 0), (5, 1), (0, 16), (100_000, 3), (1, 0)):
            payload = random.Random(length).randbytes(length)
            self.client.send(ECHO, payload, fds[:count])
            kind, answer, received, lost = self.client.receive()
            self.assertEqual((kind, answer, lost), (ECHO, payload, 0))
            self.assertEqual([content_of(fd) for fd in received], [b"file %d" % i for i in range(count)])
        for fd in fds:
            os.close(fd)
        self.expect_server_end("end")

    def test_many_messages_are_told_apart(self):
        self.client.send(COUNT, b"2000")
        for i in range(2000):
            kind, payload, fds, lost = self.client.receive()
            self.assertEqual((kind, payload, len(fds), lost), (i, bytes(i), i % 3, 0))
            for fd in fds:
                os.close(fd)
        self.expect_server_end("end")

    def test_the_servers_end_is_the_end(self):
        self.client.send(BYE)
        self.assertIsNone(self.client.receive())
        self.expect_server_end("end")

    def test_a_message_over_the_servers_limits_is_refused(self):
        self.client.send(ECHO, b"x", [0] * 17)
        with self.assertRaisesRegex(ConnectionError, "refuses"):
            self.client.receive()
        self.expect_server_end("Protocol error")

    def test_an_answer_over_the_clients_limit_leaves_nothing_open(self):
        fd = memory_file(b"")
        self.client.payload_max = 10
        self.client.send(ECHO, bytes(11), [fd])
        os.close(fd)
        with self.assertRaisesRegex(ConnectionError, "limit"):
            self.client.receive()
        self.socket.close()

    def test_lost_descriptors_are_counted(self):
        fds = [memory_file(b"%d" % i) for i in range(4)]
        self.client.send(ECHO, b"x", fds)
        for fd in fds:
            os.close(fd)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = [os.dup(0), os.dup(0)]
        for fd in free:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, hard))  # two slots are free
        try:
            message = self.client.receive()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.assertEqual((message[1], len(message[2]), message[3]), (b"x", 2, 2))
        self.assertEqual([content_of(fd) for fd in message[2]], [b"0", b"1"])
        self.expect_server_end("end")

    def test_the_program_sends_its_files(self):
        name = pathlib.Path(self.directory.name, "file")
        name.write_bytes(b"content")
        self.socket.close()
        self.server.wait(DEADLINE)
        with subprocess.Popen([*SERVER, self.path], stdout=subprocess.PIPE, text=True) as server:
            self.assertEqual(server.stdout.readline(), "ready\n")
            output = subprocess.run([sys.executable, "-B", CLIENT, self.path, name, name], check=True,
                                    capture_output=True, text=True, timeout=DEADLINE).stdout
            self.assertEqual(server.wait(DEADLINE), 0)
        self.assertEqual([line.split(", [")[0] for line in output.splitlines()],
                         [f"(1, {os.fsencode(name)!r}"] * 2)

    def expect_one_line(self, *arguments, contains):
        end = subprocess.run([sys.executable, "-B", CLIENT, *arguments], capture_output=True, text=True,
                             timeout=DEADLINE)
        self.assertEqual((end.returncode, end.stdout, end.stderr.count("\n")), (1, "", 1), end.stderr)
        self.assertRegex(end.stderr, f"^message_client.py: .*{contains}")

    def test_the_program_has_one_line_for_each_error(self):
        self.socket.close()
        self.server.wait(DEADLINE)
        self.expect_one_line(contains="is missing")
        self.expect_one_line(os.path.join(self.directory.name, "none"), contains="No such file")
        with subprocess.Popen([*SERVER, self.path], stdout=subprocess.PIPE, text=True) as server:
            self.assertEqual(server.stdout.readline(), "ready\n")
            self.expect_one_line(self.path, os.path.join(self.directory.name, "missing"), contains="No such file.*missing")
            self.assertEqual(server.wait(DEADLINE), 0)


class ByHand(unittest.TestCase):
    """Against a peer that sends what it likes."""

    def setUp(self):
        self.open_before = open_fds()
        self.peer, ours = socket.socketpair()
        ours.settimeout(DEADLINE)
        self.client = MessageClient(ours)

    def tearDown(self):
        self.peer.close()
        self.client.socket.close()
        self.assertEqual(open_fds(), self.open_before)

    def test_a_message_may_come_byte_by_byte(self):
        frame = HEADER.pack(b"FRY", 1, 7, 0, 5, 1, 0) + b"hello"

        def put():
            socket.send_fds(self.peer, [frame[:1]], [0])
            for i in range(1, len(frame)):
                self.peer.sendall(frame[i:i + 1])
        thread = threading.Thread(target=put)
        thread.start()
        kind, payload, fds, lost = self.client.receive()
        thread.join()
        self.assertEqual((kind, payload, len(fds), lost), (7, b"hello", 1, 0))
        os.close(fds[0])

    def test_a_peer_may_refuse_a_message_and_go_before_the_call_returns(self):
        def refused(*arguments, send_fds=socket.send_fds):
            sent = send_fds(*arguments)
            self.peer.sendall(HEADER.pack(b"FRY", 1, 0, 1, 0, 0, 0))
            self.peer.shutdown(socket.SHUT_RDWR)
            return sent
        with unittest.mock.patch("socket.send_fds", refused):
            self.client.send(7, b"hello", [0])
        with self.assertRaisesRegex(ConnectionError, "refuses"):
            self.client.receive()

    def expect_error(self, frame, fds, what):
        socket.send_fds(self.peer, [frame], fds)
        self.peer.shutdown(socket.SHUT_WR)
        with self.assertRaisesRegex(ConnectionError, what):
            self.client.receive()

    def test_what_is_no_message_is_refused(self):
        self.expect_error(HEADER.pack(b"FRX", 1, 7, 0, 0, 1, 0), [0], "no message")

    def test_another_version_is_refused(self):
        self.expect_error(HEADER.pack(b"FRY", 2, 7, 0, 0, 0, 0), [], "no message")

    def test_unknown_flags_are_refused(self):
        self.expect_error(HEADER.pack(b"FRY", 1, 7, 2, 0, 0, 0), [], "no message")

    def test_fewer_descriptors_are_refused(self):
        self.expect_error(HEADER.pack(b"FRY", 1, 7, 0, 0, 2, 0), [0], "other descriptors")

    def test_more_descriptors_are_refused(self):
        self.expect_error(HEADER.pack(b"FRY", 1, 7, 0, 0, 0, 0), [0, 0], "other descriptors")

    def test_an_end_in_the_middle_is_an_error(self):
        self.expect_error(HEADER.pack(b"FRY", 1, 7, 0, 5, 1, 0) + b"hell", [0], "middle")

    def test_an_end_in_the_header_is_an_error(self):
        self.expect_error(HEADER.pack(b"FRY", 1, 7, 0, 5, 1, 0)[:9], [0], "middle")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
