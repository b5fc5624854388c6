"""The programs serve, replace their workers and themselves, and end, on machines that have less than usual."""

import os
import signal
import subprocess
import sys
import tempfile
import unittest

import harness
import supervised

# Each is a shell's command before the program starts, in a mount namespace of its own.
MACHINES = {
    "no /proc": "mount -t tmpfs none /proc",
    "no /dev/shm": "mount -t tmpfs -o ro,size=4k none /dev/shm",
    "no /run": "mount -t tmpfs -o ro,size=4k none /run",
    "a read-only root": f"mount --bind {tempfile.gettempdir()} {tempfile.gettempdir()} && mount -o remount,bind,ro /",
    "umask 0777": "umask 0777",
    "64 descriptors": "ulimit -n 64",
    "1024 descriptors": "ulimit -n 1024",
    "120 MB of addresses": "ulimit -v 120000",
    "no core, no file above 1 MiB": "ulimit -c 0 && ulimit -f 2048",
}
IN_A_NAMESPACE = ("unshare", "--mount", "--propagation", "private", "sh", "-c")


def machine(command):
    return (*IN_A_NAMESPACE, f'{command} && exec "$@"', "sh")


def has_namespaces():
    return os.geteuid() == 0 and subprocess.run([*machine("mount -t tmpfs none /proc"), "true"], check=False,
                                                stderr=subprocess.DEVNULL).returncode == 0


class BareMachine(unittest.TestCase):
    def start(self, prefix, *arguments):
        proxy = supervised.Proxy(*arguments, prefix=prefix)
        self.addCleanup(proxy.stop)
        return proxy

    def assert_serves(self, proxy):
        with proxy.client() as client:
            for _ in range(20):
                self.assertEqual(client.ask("/").body, b"hello")
        for _ in range(20):
            self.assertEqual(proxy.ask("/").body, b"hello")

    def live(self, prefix):
        """A whole life: requests, new workers, a new proxy."""
        proxy = self.start(prefix)
        proxy.wait_until_ready(2)
        self.assert_serves(proxy)
        with proxy.client() as idle:
            self.assertEqual(idle.ask("/").body, b"hello")
            proxy.signal(signal.SIGHUP)
            proxy.wait_until_ready(4)
            self.assert_serves(proxy)
            old = proxy.upgrade()
            self.assertEqual(proxy.wait_for_end(old), 0)
            self.assertEqual(idle.ask("/").body, b"hello")
        self.assert_serves(proxy)

    def test_the_programs_live_with_less(self):
        for name, command in MACHINES.items():
            with self.subTest(name):
                self.live(machine(command))

    def test_the_programs_live_without_an_environment(self):
        self.live(("env", "-i"))

    def test_an_ordinary_user_with_umask_0777(self):
        self.assertNotEqual(os.geteuid(), 0)
        self.live(("sh", "-c", 'umask 0777 && exec "$@"', "sh"))

    def test_too_few_descriptors_are_named_and_the_proxy_answers(self):
        proxy = self.start(("sh", "-c", 'ulimit -n 16 && exec "$@"', "sh"), "--queue-timeout", "500")
        proxy.wait_for("cannot start .*ferry-worker: Too many open files")
        self.assertEqual(proxy.ask("/").status, 503)


def become_ordinary():
    """Whether this process is, from now on, of a user that is not root and may run the programs."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    return os.access(harness.BIN / "ferry-proxy", os.X_OK)


def has_what_it_needs(arguments):
    if any("ordinary" in argument for argument in arguments):
        return become_ordinary()
    return has_namespaces()


if __name__ == "__main__":
    if not has_what_it_needs(sys.argv):
        print("SKIPPED: no mount namespaces, or no programs that an ordinary user may run")
        sys.exit(77)
    unittest.main()
