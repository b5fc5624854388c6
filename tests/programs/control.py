"""Strangers at the control socket: other users, processes that say nothing or something else. The service goes on."""

import contextlib
import os
import pwd
import socket
import unittest

import harness
from supervised import Case

CONFIG = "listen 127.0.0.1:0\nservice www root={root} workers=1\n"


def connect(path):
    stranger = socket.socket(socket.AF_UNIX)
    stranger.settimeout(harness.DEADLINE)
    stranger.connect(str(path))
    return stranger


def run_as_nobody(function):
    """Returns what the function returns, a number below 256, in a process of that user."""
    pid = os.fork()
    if pid == 0:
        status = 255
        with contextlib.suppress(BaseException):
            user = pwd.getpwnam("nobody")
            os.setgroups([])
            os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
            os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
            status = function()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Strangers(Case):
    def strangers(self, proxy, count):
        for _ in range(count):
            self.addCleanup(connect(proxy.control).close)

    def test_200_silent_ones_hold_up_no_proxy_that_takes_over(self):
        proxy = self.start(config=CONFIG)
        proxy.wait_until_ready(1)
        self.strangers(proxy, 200)
        new = harness.Child(proxy.directory, "ferry-proxy", "--config", proxy.config, "--control", proxy.control,
                            "--take-over", proxy.control, emulated=True)
        new.wait_for("listening ")
        self.assertEqual(proxy.wait_for_end(proxy.pid), 0)
        proxy.killed = True
        self.assert_serves(proxy)
        new.stop()

    def test_200_silent_ones_hold_up_no_sigusr2(self):
        proxy = self.start(config=CONFIG)
        proxy.wait_until_ready(1)
        self.strangers(proxy, 200)
        self.assertEqual(proxy.wait_for_end(proxy.upgrade()), 0)
        self.assert_serves(proxy)

    def test_one_that_says_something_else_is_closed_with_a_line(self):
        proxy = self.start(config=CONFIG)
        proxy.wait_until_ready(1)
        for number, line in enumerate((b"GET / HTTP/1.1\r\n\r\n", b"x", b"\0" * 4096), 1):
            with connect(proxy.control) as stranger:
                stranger.sendall(line)
                with contextlib.suppress(ConnectionResetError):
                    self.assertEqual(stranger.recv(1), b"")
            proxy.wait_for("a process at the control socket does not begin a takeover: closed", number)
        self.assert_serves(proxy)
        self.assertEqual(proxy.wait_for_end(proxy.upgrade()), 0)

    def test_one_that_hangs_up_is_nothing(self):
        proxy = self.start(config=CONFIG)
        for _ in range(100):
            connect(proxy.control).close()
        self.assertEqual(proxy.wait_for_end(proxy.upgrade()), 0)
        self.assertNotIn("control socket", proxy.text())


@unittest.skipIf(os.geteuid() != 0, "only root can become another user")
class AnotherUser(Case):
    def start_beside_nobody(self):
        proxy = self.start(config=CONFIG)
        proxy.wait_until_ready(1)
        proxy.directory.chmod(0o755)
        return proxy

    def test_it_cannot_connect(self):
        proxy = self.start_beside_nobody()

        def attack():
            try:
                connect(proxy.control).close()
            except PermissionError:
                return 1
            return 2

        self.assertEqual(run_as_nobody(attack), 1)
        self.assert_serves(proxy)

    def test_it_is_refused_although_the_mode_of_the_file_was_opened(self):
        proxy = self.start_beside_nobody()
        proxy.control.chmod(0o666)

        def attack():
            held = [connect(proxy.control) for _ in range(200)]
            for each in held:
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    each.sendall(b"FRY\1")
                    if each.recv(1) != b"":
                        return 2
            return 1

        self.assertEqual(run_as_nobody(attack), 1)
        proxy.wait_for("a process that wants to replace this one is refused: Permission denied")
        self.assert_serves(proxy)
        self.assertEqual(proxy.wait_for_end(proxy.upgrade()), 0)
        self.assert_serves(proxy)

    def test_it_cannot_replace_or_remove_the_file(self):
        proxy = self.start_beside_nobody()
        inode = proxy.control.stat().st_ino

        def attack():
            refused = 0
            for act in (lambda: os.unlink(proxy.control), lambda: os.rename(proxy.control, f"{proxy.control}.old"),
                        lambda: os.chmod(proxy.control, 0o666), lambda: os.unlink(f"{proxy.control}.lock")):
                try:
                    act()
                except PermissionError:
                    refused += 1
            return refused

        self.assertEqual(run_as_nobody(attack), 4)
        self.assertEqual(proxy.control.stat().st_ino, inode)
        self.assertEqual(proxy.wait_for_end(proxy.upgrade()), 0)


if __name__ == "__main__":
    unittest.main()
