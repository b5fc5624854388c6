"""The common part of the examples' tests: a directory with a socket in it, and programs beside it."""

import array
import fcntl
import os
import pathlib
import socket
import subprocess
import tempfile
import termios
import unittest

import harness


def listens(path):
    """Between bind(2) and listen(2) the socket file exists, and connect(2) is refused."""
    for line in pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[-1] == os.fspath(path) and int(fields[3], 16) & 0x10000:
            return True
    return False


def listens_on(port):
    """The same of a TCP port of 127.0.0.1."""
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[1] == f"0100007F:{port:04X}":
            return True
    return False


def free_port():
    """A TCP port that was free a moment ago: the caller looks whether it still is."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def sockets_of(pid):
    """The sockets that a process has open, by their names in /proc."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            link = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:  # closed meanwhile
            continue
        if link.startswith("socket:"):
            found.add(link)
    return found


def read_to_end(peer):
    data = b""
    while block := peer.recv(65536):
        data += block
    return data


def unread(peer):
    """The count of bytes that the other end has not read."""
    count = array.array("i", [0])
    fcntl.ioctl(peer, termios.TIOCOUTQ, count)
    return count[0]


def fill(peer, line, limit):
    """Sends the line again and again until the other end has taken nothing for a while. The count of bytes."""
    peer.setblocking(False)
    sent, full = 0, 0
    while full < 200:
        try:
            sent += peer.send(line[sent % len(line):])
            full = 0
        except BlockingIOError:
            full += 1
            harness.time.sleep(0.001)
        if sent > limit:
            raise AssertionError(f"the other end takes more than {limit} bytes")
    peer.settimeout(harness.DEADLINE)
    return sent


class ExampleCase(unittest.TestCase):
    """Each test has a directory, and a path for a socket in it."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="ferry-examples-")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)
        self.path = self.directory / "socket"

    def file(self, name, content):
        path = self.directory / name
        path.write_bytes(content)
        return path

    def child(self, name, *arguments, **options):
        child = harness.Child(self.directory, name, *arguments, emulated=True, **options)
        self.addCleanup(child.kill)
        return child

    def serve(self, name, *arguments, **options):
        """Starts a server at self.path."""
        child = self.child(name, self.path, *arguments, **options)

        def ready():
            if child.process.poll() is not None:
                raise AssertionError(f"{name} ended: {child.text()}")
            return listens(self.path)
        harness.wait_until(ready, "the server")
        return child

    def stop(self, server):
        """SIGTERM ends a server with 0, and nothing of it stays."""
        server.stop()
        self.assertFalse(self.path.exists())
        self.assertFalse(pathlib.Path(f"{self.path}.lock").exists())

    def run_to_end(self, name, *arguments, **options):
        """The exit status, the output, and the error output, of a program that ends by itself."""
        done = subprocess.run(
            [*harness.EMULATOR, harness.BIN / name, *arguments], timeout=harness.DEADLINE, check=False,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
               **options})
        return done.returncode, done.stdout, done.stderr.decode()

    def check_usage(self, name, *wrong):
        for arguments in wrong:
            status, _, error = self.run_to_end(name, *arguments)
            self.assertEqual(status, 2, arguments)
            self.assertIn(f"usage: {name}", error)

    def connect(self):
        peer = socket.socket(socket.AF_UNIX)
        self.addCleanup(peer.close)
        peer.settimeout(harness.DEADLINE)
        peer.connect(os.fspath(self.path))
        return peer

    def count_fds(self, server):
        """The count of its descriptors after a first client, because the first one may open what stays open."""
        with self.connect() as peer:
            peer.shutdown(socket.SHUT_WR)
            read_to_end(peer)
        return server.fds()

    def has_fds(self, server, count):
        harness.wait_until(lambda: server.fds() <= count, "descriptors are closed")

    def listen(self):
        server = socket.socket(socket.AF_UNIX)
        self.addCleanup(server.close)
        server.settimeout(harness.DEADLINE)
        server.bind(os.fspath(self.path))
        server.listen()
        return server

    def has_read(self, peer):
        harness.wait_until(lambda: unread(peer) == 0, "the program reads")
