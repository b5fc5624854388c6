"""docs/tutorials/broker.md: a broker of descriptors, its client, and a client of Python's socket module."""

import os
import pathlib
import socket
import struct
import time
import unittest

import harness
from tutorial import TutorialCase

STORE, FETCH, REMOVE = 1, 2, 3
EBADF, EINVAL, ENOENT, EDQUOT = 9, 22, 2, 122


def frame(kind, name, fds=0):
    return struct.pack("<3sBHHIHH", b"FRY", 1, kind, 0, len(name), fds, 0) + name


class Broker(TutorialCase):

    name = "broker"

    def ask(self, peer, kind, name, *fds):
        """The status of the answer, and its descriptor."""
        if fds:
            socket.send_fds(peer, [frame(kind, name, len(fds))], fds)
        else:
            peer.sendall(frame(kind, name))
        status, fd = self.answer(peer)
        if fd is not None:
            self.addCleanup(os.close, fd)
        return status, fd

    def answer(self, peer):
        data, fds = b"", []
        while len(data) < 16:
            more, found, _, _ = socket.recv_fds(peer, 16 - len(data), 4)
            if not more:
                return None, None
            data, fds = data + more, fds + found
        _, _, kind, _, length, count, _ = struct.unpack("<3sBHHIHH", data)
        self.assertEqual((length, count), (0, len(fds)))
        return kind, fds[0] if fds else None

    def client(self, *arguments, **options):
        return self.run_to_end("brokerctl", self.path, *arguments, **options)

    def open(self, name, content):
        file = open(self.file(name, content), "rb")
        self.addCleanup(file.close)
        return file

    def test_each_part_of_the_page_is_in_its_program(self):
        self.check_page()

    def test_the_commands_of_the_page(self):
        hosts = pathlib.Path("/etc/hosts").read_bytes()
        self.assertEqual(self.try_it(), hosts + hosts)

    def test_a_descriptor_outlives_the_process_that_stored_it(self):
        server = self.serve("broker")
        self.assertEqual(self.client("store", "a", "b", stdin=self.open("file", b"content\n")), (0, b"", ""))
        os.unlink(self.directory / "file")
        self.assertEqual(self.client("fetch", "b", "a", "a"), (0, b"content\n" * 3, ""))
        self.assertEqual(self.client("remove", "a"), (0, b"", ""))
        self.assertEqual(self.client("fetch", "a", "b"),
                         (1, b"content\n", "brokerctl: a: No such file or directory\n"))
        self.stop(server)

    def test_a_name_that_is_stored_again_has_the_later_descriptor(self):
        server = self.serve("broker")
        fds = self.count_fds(server)
        for content in (b"first", b"second"):
            self.client("store", "name", stdin=self.open(content.decode(), content))
        self.assertEqual(self.client("fetch", "name")[1], b"second")
        self.has_fds(server, fds + 1)
        self.assertEqual(self.client("remove", "name")[0], 0)
        self.has_fds(server, fds)
        self.stop(server)

    def test_a_client_of_pythons_sockets(self):
        server = self.serve("broker")
        peer = self.connect()
        left, right = socket.socketpair()
        self.addCleanup(left.close)
        self.assertEqual(self.ask(peer, STORE, b"pair", right.fileno()), (0, None))
        right.close()
        status, fd = self.ask(peer, FETCH, b"pair")
        self.assertEqual(status, 0)
        os.write(fd, b"through the broker")
        self.assertEqual(left.recv(100), b"through the broker")
        self.stop(server)

    def test_requests_that_are_wrong(self):
        server = self.serve("broker")
        peer = self.connect()
        fds = self.count_fds(server)
        fd = self.open("file", b"").fileno()
        self.assertEqual(self.ask(peer, STORE, b"name"), (EBADF, None))
        self.assertEqual(self.ask(peer, STORE, b"", fd), (EINVAL, None))
        self.assertEqual(self.ask(peer, STORE, b"with\0zero", fd), (EINVAL, None))
        self.assertEqual(self.ask(peer, 7, b"name", fd), (EINVAL, None))
        self.assertEqual(self.ask(peer, FETCH, b"name"), (ENOENT, None))
        self.has_fds(server, fds)
        self.assertEqual(self.ask(peer, FETCH, b"x" * 255), (ENOENT, None))
        peer.sendall(frame(FETCH, b"x" * 256))
        while self.answer(peer) != (None, None):  # the refusal, and the end
            pass
        self.stop(server)

    def test_a_user_has_a_bounded_number_of_names(self):
        server = self.serve("broker")
        peer = self.connect()
        fd = self.open("file", b"").fileno()
        for i in range(64):
            self.assertEqual(self.ask(peer, STORE, f"{i}".encode(), fd), (0, None))
        self.assertEqual(self.ask(peer, STORE, b"more", fd), (EDQUOT, None))
        self.assertEqual(self.ask(peer, STORE, b"0", fd), (0, None))
        self.assertEqual(self.ask(peer, REMOVE, b"1"), (0, None))
        self.assertEqual(self.ask(peer, STORE, b"more", fd), (0, None))
        self.stop(server)

    def test_other_users_have_other_names(self):
        if os.geteuid() != 0:
            self.skipTest("only root can become another user")
        os.chmod(self.directory, 0o755)
        server = self.serve("broker")
        fd = self.open("file", b"").fileno()
        self.assertEqual(self.ask(self.connect(), STORE, b"name", fd), (0, None))
        os.seteuid(65533)
        try:
            peer = self.connect()
        finally:
            os.seteuid(0)
        self.assertEqual(self.ask(peer, FETCH, b"name"), (ENOENT, None))
        self.assertEqual(self.ask(peer, REMOVE, b"name"), (ENOENT, None))
        self.assertEqual(self.ask(self.connect(), FETCH, b"name")[0], 0)
        self.stop(server)

    def test_a_client_that_does_not_read_is_not_read(self):
        server = self.serve("broker")
        peer = self.connect()
        self.assertEqual(self.ask(peer, STORE, b"name", self.open("file", b"").fileno()), (0, None))
        peer.setblocking(False)
        request, sent, full = frame(FETCH, b"name"), 0, 0
        while full < 200:  # until the broker has taken nothing for a while
            try:
                sent += peer.send(request[sent % len(request):])
                full = 0
            except BlockingIOError:
                full += 1
                time.sleep(0.001)
            self.assertLess(sent, 4_000_000)
        peer.settimeout(harness.DEADLINE)
        self.assertEqual(self.client("fetch", "name"), (0, b"", ""))  # others are served meanwhile
        whole, part = divmod(sent, len(request))
        for i in range(whole + (part > 0)):
            if i == whole:  # before, the broker does not take it
                peer.sendall(request[part:])
            status, fd = self.answer(peer)
            self.assertEqual(status, 0)
            os.close(fd)
        self.stop(server)

    def test_many_names_take_one_request_at_a_time(self):
        server = self.serve("broker")
        self.client("store", "name", stdin=self.open("file", b"x"))
        self.assertEqual(self.client("fetch", *["name"] * 3000), (0, b"x" * 3000, ""))
        self.stop(server)

    def test_wrong_arguments(self):
        self.check_usage("broker", ())
        self.check_usage("brokerctl", (), ("x", "store"), ("x", "other", "name"))


if __name__ == "__main__":
    unittest.main()
