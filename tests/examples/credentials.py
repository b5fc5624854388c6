"""credentials beside clients of several users, as far as the test may be any."""

import os
import socket
import subprocess
import sys
import unittest

import harness
from example import ExampleCase, read_to_end

NOBODY = 65534
SCRIPT = """
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
sys.stdout.write(peer.makefile().read())
"""


class Credentials(ExampleCase):

    def setUp(self):
        super().setUp()
        self.directory.chmod(0o755)

    def connect_as(self, uid):
        """The bytes that a client of that user reads."""
        done = subprocess.run([sys.executable, "-c", SCRIPT, self.path], user=uid, check=True,
                              capture_output=True, timeout=harness.DEADLINE)
        return done.stdout.decode()

    def test_an_allowed_user_is_greeted(self):
        server = self.serve("credentials", str(os.geteuid()))
        greeting = f"process {os.getpid()}, user {os.geteuid()}, group {os.getegid()}\n"
        for _ in range(20):
            self.assertEqual(read_to_end(self.connect()).decode(), greeting)
        self.stop(server)

    def test_others_are_refused_and_root_is_no_exception(self):
        server = self.serve("credentials", str(os.geteuid() + 1))
        self.assertEqual(read_to_end(self.connect()), b"")
        server.wait_for(f" {os.geteuid()} ")
        self.stop(server)

    @unittest.skipUnless(os.geteuid() == 0, "not root")
    def test_several_users(self):
        server = self.serve("credentials", "1", "2")
        for uid in (1, 2):
            self.assertRegex(self.connect_as(uid), f"^process [0-9]+, user {uid}, group [0-9]+\n$")
        for uid in (0, 3):
            self.assertEqual(self.connect_as(uid), "")
        self.stop(server)

    def test_ten_connections_of_one_user(self):
        server = self.serve("credentials", str(os.geteuid()))
        before = self.count_fds(server)
        peers = [self.connect() for _ in range(30)]
        for peer in peers:
            data = read_to_end(peer)
            self.assertTrue(data == b"" or data.startswith(b"process "))
        self.has_fds(server, before)
        self.stop(server)

    def test_descriptors_are_refused_or_closed(self):
        server = self.serve("credentials", str(os.geteuid()))
        before = self.count_fds(server)
        peer = self.connect()
        try:
            with open(__file__, "rb") as file:
                socket.send_fds(peer, [b"x"], [file.fileno()] * 10)
        except (PermissionError, BrokenPipeError):
            pass  # Linux 6.16 refuses them; or the greeting was faster
        self.has_fds(server, before)
        self.stop(server)

    def test_a_second_server_is_refused(self):
        server = self.serve("credentials", "0")
        status, _, error = self.run_to_end("credentials", self.path, "0")
        self.assertEqual(status, 1)
        self.assertIn("Address already in use", error)
        server.kill()
        self.stop(self.serve("credentials", "0"))

    def test_users_that_are_none(self):
        for user in ("root", "", "-1", "4294967295", "12x"):
            status, _, error = self.run_to_end("credentials", self.path, user)
            self.assertEqual(status, 1)
            self.assertIn(f"{user}: not a user id", error)
            self.assertFalse(self.path.exists())

    def test_usage(self):
        self.check_usage("credentials", (), ("a",))


if __name__ == "__main__":
    unittest.main()
