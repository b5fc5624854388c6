"""docs/tutorials/embed.md: a server on libevent whose log is replaced by a descriptor."""

import os
import socket
import subprocess
import sys
import unittest

import harness
from example import free_port, listens, read_to_end
from tutorial import TutorialCase


class Embed(TutorialCase):

    name = "embed"

    def start(self):
        self.log = self.directory / "words.log"
        while True:
            self.port = free_port()
            self.server = self.child("wordserver", str(self.port), self.log, self.path)
            harness.wait_until(lambda: self.server.process.poll() is not None or listens(self.path), "the server")
            if self.server.process.poll() is None:
                return
            self.assertIn("Address already in use", self.server.text())

    def ask(self, line):
        with socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE) as client:
            client.sendall(line + b"\n")
            return client.makefile("rb").readline()

    def command(self, data, *fds):
        admin = self.connect()
        if fds:
            socket.send_fds(admin, [data], fds)
        else:
            admin.sendall(data)
        return read_to_end(admin)

    def open(self, name, flags=os.O_WRONLY | os.O_CREAT | os.O_APPEND):
        fd = os.open(self.directory / name, flags)
        self.addCleanup(os.close, fd)
        return fd

    def content(self, name):
        return (self.directory / name).read_bytes()

    def test_each_part_of_the_page_is_in_its_program(self):
        self.check_page()

    def test_the_commands_of_the_page(self):
        # A bound socket that does not listen keeps the port from others, but not from one with SO_REUSEADDR.
        with socket.socket() as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            output = self.try_it(_7000=str(held.getsockname()[1]))
        self.assertEqual(output, b"3\nok\n5\n==> words.log <==\none\n\n==> new.log <==\nthree\n")

    def test_lines_go_to_the_log_that_was_set_last(self):
        self.start()
        self.assertEqual(self.ask(b"one"), b"3\n")
        fds = self.server.fds()
        self.assertEqual(self.run_to_end("setlog", self.path, self.directory / "new.log"), (0, b"ok\n", ""))
        self.assertEqual(self.ask(b"three"), b"5\n")
        self.assertEqual(self.command(b"log\n", self.open("newer.log")), b"ok\n")
        self.assertEqual(self.ask(b"thirteen"), b"8\n")
        self.assertEqual(self.content("words.log"), b"one\n")
        self.assertEqual(self.content("new.log"), b"three\n")
        self.assertEqual(self.content("newer.log"), b"thirteen\n")
        self.has_fds(self.server, fds)
        self.stop(self.server)

    def test_an_admin_in_python_as_on_the_page(self):
        self.start()
        os.rename(self.path, self.directory / "admin.sock")
        block, = self.page.blocks("python")
        done = subprocess.run([sys.executable, "-c", block], cwd=self.directory, check=True, capture_output=True,
                              timeout=harness.DEADLINE)
        self.assertEqual(done.stdout, b"ok\n")
        self.assertEqual(self.ask(b"x"), b"1\n")
        self.assertEqual(self.content("python.log"), b"x\n")
        os.rename(self.directory / "admin.sock", self.path)
        self.stop(self.server)

    def test_a_descriptor_and_its_command_come_in_pieces(self):
        self.start()
        admin = self.connect()
        socket.send_fds(admin, [b"l"], [self.open("unused.log")])
        self.has_read(admin)
        socket.send_fds(admin, [b"o"], [self.open("used.log")])
        self.has_read(admin)
        admin.sendall(b"g\n")
        self.assertEqual(read_to_end(admin), b"ok\n")
        self.ask(b"word")
        self.assertEqual(self.content("used.log"), b"word\n")
        self.stop(self.server)

    def test_what_is_no_log_is_refused(self):
        self.start()
        self.ask(b"one")
        fds = self.server.fds()
        self.file("readable", b"")
        pipe = os.pipe()
        self.addCleanup(os.close, pipe[0])
        self.addCleanup(os.close, pipe[1])
        refusal = b"not a file that is open for writing\n"
        self.assertEqual(self.command(b"log\n"), b"no descriptor\n")
        self.assertEqual(self.command(b"log\n", self.open("readable", os.O_RDONLY)), refusal)
        self.assertEqual(self.command(b"log\n", pipe[1]), refusal)
        self.assertEqual(self.command(b"other\n", self.open("x.log")), b"unknown command\n")
        self.assertEqual(self.command(b"x" * 100), b"unknown command\n")
        self.assertEqual(self.run_to_end("setlog", self.path, "/dev/null")[:2], (1, refusal))
        self.ask(b"two")
        self.assertEqual(self.content("words.log"), b"one\ntwo\n")
        self.has_fds(self.server, fds)
        self.stop(self.server)

    def test_only_its_own_user_may_connect(self):
        self.start()
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        status, _, error = self.run_to_end("wordserver", str(free_port()), self.log, self.path)
        self.assertEqual(status, 1)
        self.assertIn("Address already in use", error)
        self.stop(self.server)

    def test_wrong_arguments(self):
        self.check_usage("wordserver", (), ("1", "2"))
        self.check_usage("setlog", (), ("1",))
        status, _, error = self.run_to_end("setlog", self.path, self.directory / "log")
        self.assertEqual(status, 1)
        self.assertIn("No such file", error)


if __name__ == "__main__":
    unittest.main()
