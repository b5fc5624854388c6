"""A proxy takes over from another, by SIGUSR2 or by hand: no request fails, and nothing is left over."""

import contextlib
import os
import re
import shlex
import signal
import time
import unittest

import harness
from supervised import Case, children


class Upgraded(Case):
    def test_sigusr2_replaces_the_proxy_under_load_without_a_failed_request(self):
        proxy = self.start(workers=2)
        proxy.wait_until_ready(2)
        load = self.load(proxy, threads=8)
        seen = {proxy.pid}
        for _ in range(3):
            load.wait_for_more()
            old = proxy.upgrade()
            load.wait_for_more()
            self.assertEqual(proxy.wait_for_end(old), 0)
            self.assertNotIn(proxy.pid, seen)
            seen.add(proxy.pid)
            self.assert_owners_only(proxy.control)
        load.stop()
        self.assertEqual(load.failures, [])
        self.assertEqual(load.closed, 0)
        ports = {port for _, port in proxy.addresses("listening")}
        self.assertEqual(len(ports), 1)
        self.assertEqual(proxy.metric("ferry_proxy_upgrades_total "), 3)

    def test_an_idle_connection_outlives_the_proxy_and_its_worker(self):
        proxy = self.start(workers=1)
        with contextlib.ExitStack() as stack:
            idle = [stack.enter_context(proxy.client()) for _ in range(100)]
            for _ in range(3):
                for client in idle:
                    answer = client.ask("/")
                    self.assertEqual((answer.body, answer.fields["connection"]), (b"hello", "keep-alive"))
                self.assertEqual(proxy.wait_for_end(proxy.upgrade()), 0)
            for client in idle:
                self.assertEqual(client.ask("/").body, b"hello")

    def test_a_head_that_has_begun_is_served_by_the_old_proxy(self):
        proxy = self.start(workers=1)
        with proxy.client() as begun, proxy.client() as silent:
            begun.send("GET / HTTP/1.1\r\nHo")
            harness.wait_until(lambda: proxy.metric("ferry_proxy_clients ") >= 2, "both are accepted")
            old = proxy.upgrade()
            for client, rest in ((begun, "st: a\r\n\r\n"),
                                 (silent, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")):
                client.send(rest)
                self.assertEqual(client.read_answer().body, b"hello")
        self.assertEqual(proxy.wait_for_end(old), 0)

    def test_upgrades_leave_no_descriptor_open(self):
        proxy = self.start(workers=2)
        proxy.wait_until_ready(2)
        self.assert_serves(proxy)
        self.assertEqual(proxy.wait_for_end(proxy.upgrade()), 0)
        before = count_fds(proxy.pid)
        for _ in range(4):
            self.assertEqual(proxy.wait_for_end(proxy.upgrade()), 0)
            self.assert_serves(proxy)
        harness.wait_until(lambda: count_fds(proxy.pid) <= before + 1, "as many as at first")

    def test_the_new_proxy_reads_the_configuration_again(self):
        proxy = self.start(config="""
            listen 127.0.0.1:0
            service www root={root} workers=1
        """)
        proxy.wait_until_ready(1)
        (proxy.directory / "other").mkdir()
        (proxy.directory / "other/index.html").write_bytes(b"other")
        proxy.configure("""
            listen 127.0.0.1:0
            listen 127.0.0.1:0
            service www root={root} workers=3
            service other root={directory}/other workers=1
            route host=other other
        """)
        old_port = proxy.port
        proxy.signal(signal.SIGUSR2)
        proxy.wait_for("(?m)^listening ", 3)
        proxy.generations = 2
        old = proxy.pid
        proxy.pid = int(proxy.text().split("the new proxy (pid ")[1].split(")")[0])
        ports = [port for _, port in proxy.addresses("listening")[1:]]
        self.assertEqual(ports[0], old_port)
        self.assertNotEqual(ports[1], old_port)
        for port in ports:
            with proxy.client(port) as client:
                client.send("GET / HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n")
                self.assertEqual(client.read_answer().body, b"other")
            self.assertEqual(proxy.ask("/", port=port).body, b"hello")
        self.assertEqual(proxy.wait_for_end(old), 0)

    def test_what_the_new_configuration_has_not_is_no_longer_listened_on(self):
        proxy = self.start(config="""
            listen 127.0.0.1:0
            listen unix:{directory}/second.sock
            service www root={root} workers=1
        """)
        proxy.wait_for("(?m)^listening ", 2)
        self.assertTrue((proxy.directory / "second.sock").exists())
        proxy.configure("listen 127.0.0.1:0\nservice www root={root} workers=1\n")
        old = proxy.pid
        proxy.signal(signal.SIGUSR2)
        proxy.wait_for("(?m)^listening ", 3)
        proxy.pid = int(proxy.text().split("the new proxy (pid ")[1].split(")")[0])
        self.assertEqual(proxy.wait_for_end(old), 0)
        self.assertFalse((proxy.directory / "second.sock").exists())
        self.assert_serves(proxy)


class Idle(Case):
    """Idle connections, while the processes come and go in an unusual order."""

    SIZE = 16 * 1024 * 1024

    def idle(self, proxy, count):
        clients = contextlib.ExitStack()
        self.addCleanup(clients.close)
        idle = [clients.enter_context(proxy.client()) for _ in range(count)]
        for client in idle:
            self.assertEqual(client.ask("/").body, b"hello")
        harness.wait_until(lambda: proxy.metric("ferry_proxy_idle ") == count, "they idle")
        return idle

    def slow(self, proxy):
        """A client that has read the head of a large answer."""
        proxy.put("large", b"x" * self.SIZE)
        client = proxy.client()
        self.addCleanup(client.socket.close)
        client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read_head()
        return client

    def read_rest(self, client):
        while len(client.input) < self.SIZE:
            self.assertTrue(client.read_more())
        self.assertEqual(client.input, b"x" * self.SIZE)
        client.input = b""

    def test_what_a_killed_proxy_was_to_get_goes_to_the_next_one(self):
        proxy = self.start("--keep", "0", workers=1)
        client = self.slow(proxy)
        first = proxy.upgrade()
        second = proxy.upgrade()
        os.kill(second, signal.SIGKILL)
        self.read_rest(client)
        self.assertEqual(client.ask("/").body, b"hello")
        self.assertEqual(proxy.wait_for_end(first), 0)

    CONFIG = ("listen 127.0.0.1:0\nkeep 0\ndrain-timeout {drain}\nidle-timeout {idle}\n"
              "service www root={{root}} workers=1\n")

    def config(self, drain=600, idle=86400):
        return self.CONFIG.format(drain=drain, idle=idle)

    def test_a_stopped_predecessor_keeps_no_proxy_alive(self):
        """What it still has goes to the newest proxy once it runs again."""
        proxy = self.start(config=self.config())
        client = self.slow(proxy)
        proxy.configure(self.config(drain=1))
        first = proxy.upgrade()
        os.kill(first, signal.SIGSTOP)
        self.addCleanup(signal_if_there, first, signal.SIGCONT)
        second = proxy.upgrade()
        harness.wait_until(lambda: has_ended(second), "it ends; its parent is stopped")
        os.kill(first, signal.SIGCONT)
        self.read_rest(client)
        self.assertEqual(client.ask("/").body, b"hello")
        self.assertEqual(proxy.wait_for_end(first), 0)

    def test_an_idle_connection_takes_its_age_along(self):
        """Twice: the second proxy adds its own time. A new attempt is for a machine that stands still meanwhile."""
        proxy = self.start(config=self.config())
        for timeout in (2, 4, 8, 16):
            client, = self.idle(proxy, 1)
            time.sleep(timeout * 0.6)
            self.assertEqual(proxy.wait_for_end(proxy.upgrade()), 0)
            time.sleep(timeout * 0.6)
            proxy.configure(self.config(idle=timeout))
            begun = time.monotonic()
            proxy.upgrade()
            self.assertTrue(client.at_end())
            if time.monotonic() < begun + timeout / 4:
                self.assertEqual(proxy.metric("ferry_proxy_idle_expired_total"), 1)
                return
            proxy.configure(self.config())
            proxy.upgrade()
        self.fail("its timeout began anew")

    def test_a_killed_proxy_is_started_again_while_the_old_one_is_there(self):
        proxy = self.start("--keep", "0", workers=1)
        client = self.slow(proxy)
        first = proxy.pid
        proxy.upgrade()
        load = self.load(proxy)
        os.kill(proxy.pid, signal.SIGKILL)
        again = harness.wait_until(lambda: re.search(r"is started again: (\d+)", proxy.text()), "it is started")
        proxy.pid = int(again[1])
        proxy.wait_for("(?m)^listening ", 3)
        self.read_rest(client)
        self.assertEqual(client.ask("/").body, b"hello")
        self.assertEqual(proxy.wait_for_end(first), 0)
        load.wait_for_more(50)
        load.stop()
        self.assertEqual([failure for failure in load.failures if "refused" in str(failure)], [])

    def test_what_nobody_would_take_is_closed(self):
        proxy = self.start("--keep", "0", workers=1)
        client = self.slow(proxy)
        first = proxy.pid
        proxy.upgrade()
        proxy.signal(signal.SIGTERM)
        harness.wait_until(lambda: has_ended(proxy.pid), "the new proxy ends")
        self.read_rest(client)
        self.assertTrue(client.at_end())
        self.assertEqual(client.input, b"")
        self.assertEqual(proxy.wait_for_end(first), 0)
        proxy.killed = True

    def test_without_a_control_socket_idle_connections_outlive_the_proxy(self):
        proxy = self.start(workers=1)  # only for its directory
        other = harness.Child(proxy.directory, "ferry-proxy", "--root", proxy.root, "--port", "0",
                              "--keep", "0", emulated=True)
        self.addCleanup(other.kill)
        other.wait_for("listening ")
        with harness.Client(int(other.text().split("listening 127.0.0.1:")[1].split()[0])) as client:
            self.assertEqual(client.ask("/").body, b"hello")
            other.process.send_signal(signal.SIGUSR2)
            other.wait_for("is started")
            new = int(re.search(r"the new proxy \(pid (\d+)\)", other.text())[1])
            self.addCleanup(os.kill, new, signal.SIGTERM)
            self.assertEqual(other.process.wait(harness.DEADLINE), 0)
            self.assertEqual(client.ask("/").body, b"hello")

    def test_sigterm_closes_idle_connections_at_once(self):
        proxy = self.start("--keep", "0", workers=1)
        idle = self.idle(proxy, 5)
        client = self.slow(proxy)
        proxy.signal(signal.SIGTERM)
        for each in idle:
            self.assertTrue(each.at_end())
            self.assertEqual(each.input, b"")
        self.assertFalse(proxy.has_ended())
        self.read_rest(client)


class Refused(Case):
    def test_a_bad_configuration_leaves_the_old_proxy_serving(self):
        proxy = self.start(config="listen 127.0.0.1:0\nservice www root={root} workers=1\n")
        proxy.wait_until_ready(1)
        proxy.configure("listen 127.0.0.1:0\nservice www root={root} workers=zero\n")
        proxy.signal(signal.SIGUSR2)
        proxy.wait_for(r"the new proxy \(pid \d+\) exited with status 2: this one continues")
        self.assertIn("ferry-proxy.conf:2: ", proxy.text())
        self.assert_serves(proxy)
        proxy.configure("listen 127.0.0.1:0\nservice www root={root} workers=2\n")
        self.assertEqual(proxy.wait_for_end(proxy.upgrade()), 0)
        self.assert_serves(proxy)

    def test_a_new_proxy_that_dies_before_it_accepts_changes_nothing(self):
        # Once the file exists, new workers send no hello until their proxy has ended: a proxy that takes
        # over waits for them.
        proxy = self.start(workers=1, worker_script=(
            '#!/bin/sh\n'
            '[ ! -e "${0%/*}/dumb" ] || while kill -0 $PPID 2>/dev/null; do sleep 0.1; done\n'
            f'exec {shlex.quote(str(harness.BIN))}/ferry-worker "$@"\n'))
        proxy.wait_until_ready(1)
        load = self.load(proxy)
        (proxy.directory / "programs/dumb").touch()
        for round_number in range(3):
            load.wait_for_more(50)
            proxy.signal(signal.SIGUSR2)
            proxy.wait_for(r"the new proxy \(pid \d+\) is started", round_number + 1)
            new = int(proxy.text().rsplit("the new proxy (pid ", 1)[1].split(")")[0])
            harness.wait_until(lambda pid=new: children(pid), "it has the sockets, and starts a worker")
            os.kill(new, signal.SIGKILL)
            proxy.wait_for(r"killed by signal 9, Killed: this one continues", round_number + 1)
            proxy.wait_for("no proxy has taken over, this one continues", round_number + 1)
        load.wait_for_more(50)
        (proxy.directory / "programs/dumb").unlink()
        self.assertEqual(proxy.wait_for_end(proxy.upgrade()), 0)
        load.wait_for_more(50)
        load.stop()
        self.assertEqual(load.failures, [])


class ByHand(Case):
    def test_take_over_asks_the_proxy_behind_the_path(self):
        proxy = self.start(workers=1)
        proxy.wait_until_ready(1)
        load = self.load(proxy)
        load.wait_for_more(50)
        new = harness.Child(proxy.directory, "ferry-proxy", "--root", proxy.root, "--workers", "1",
                            "--port", "0", "--control", proxy.control, "--take-over", proxy.control,
                            emulated=True)
        new.wait_for("listening ")
        self.assertEqual(proxy.wait_for_end(proxy.pid), 0)
        load.wait_for_more(50)
        load.stop()
        self.assertEqual(load.failures, [])
        self.assertTrue(proxy.control.exists())
        new.stop()
        self.assertFalse(proxy.control.exists())
        proxy.killed = True

    def test_nobody_behind_the_path_is_said(self):
        proxy = self.start(workers=1)
        path = proxy.directory / "none.sock"
        new = harness.Child(proxy.directory, "ferry-proxy", "--root", proxy.root, "--port", "0",
                            "--take-over", path, emulated=True)
        self.assertEqual(new.process.wait(harness.DEADLINE), 1)
        self.assertIn(f"--take-over {path}: No such file", new.text())
        self.assert_serves(proxy)

    def test_workers_that_others_start_go_to_the_new_proxy(self):
        proxy = self.start(config="listen 127.0.0.1:0\nservice www socket={directory}/workers.sock\n")
        worker = harness.Child(proxy.directory, "ferry-worker", "--socket",
                               proxy.directory / "workers.sock", "--root", proxy.root)
        self.addCleanup(worker.stop)
        proxy.wait_for("is connected")
        with proxy.client() as client:
            client.ask("/")
            old = proxy.upgrade()
            self.assertEqual(proxy.wait_for_end(old), 0)
            self.assertEqual(client.ask("/").body, b"hello")
        proxy.wait_for("is connected", 2)
        self.assert_serves(proxy)
        self.assert_owners_only(proxy.directory / "workers.sock")


def signal_if_there(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def has_ended(pid):
    """Whether a process has ended, also one that its parent has not waited for."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def count_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


if __name__ == "__main__":
    unittest.main()
