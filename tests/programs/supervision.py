"""The proxy supervises its workers: killed, stopped, replaced and failing ones, under load."""

import contextlib
import os
import signal
import time
import unittest

import harness
from supervised import Case, children

# In milliseconds: a worker that is not stopped greets and claims sooner, also where eight others want the processor.
LATE = "5000"


class Killed(Case):
    def test_a_killed_worker_is_started_again_and_loses_only_what_it_had_claimed(self):
        proxy = self.start(workers=2)
        proxy.wait_until_ready(2)
        load = self.load(proxy)
        killed = set()
        for round_number in range(3):
            load.wait_for_more()
            victim = proxy.worker_pids()[0]
            killed.add(victim)
            os.kill(victim, signal.SIGKILL)
            proxy.wait_until_ready(3 + round_number)
        load.wait_for_more()
        load.stop()
        # A worker may be killed between its claim and its line in the claim log: the proxy has the outcome.
        claimed = {address for pid, _, address in proxy.claims() if pid in killed}
        kept = {address for outcome, pid, _, address, _ in proxy.outcomes()
                if outcome == "kept" and pid in killed}
        for address, what in load.failures:
            self.assertIn(address, claimed | kept, what)
            self.assertNotIn("answered", what)
        self.assertEqual(len(proxy.worker_pids()), 2)
        for pid in killed:
            self.assertIn(f"(pid {pid}) killed by signal 9", proxy.text())

    def test_all_workers_killed_at_once_lose_no_request_that_waits(self):
        proxy = self.start(workers=2)
        proxy.wait_until_ready(2)
        for pid in proxy.worker_pids():
            os.kill(pid, signal.SIGKILL)
        clients = [proxy.client() for _ in range(20)]
        for client in clients:
            client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        for client in clients:
            self.assertEqual(client.read_answer().body, b"hello")
            client.socket.close()

    def test_a_worker_that_cannot_start_is_tried_less_and_less(self):
        started = time.monotonic()
        proxy = self.start("--queue-timeout", "300", "--retry-after", "7", workers=1,
                           worker=("--nothing",))
        for _ in range(2):
            answer = proxy.ask("/")
            self.assertEqual((answer.status, answer.fields["retry-after"]), (503, "7"))
        proxy.wait_for("exited with status 2", 4)
        # Attempts begin after 0, 0.1, 0.3, 0.7 seconds, and so on: never earlier, however slow the machine.
        attempts = proxy.count("exited with status 2")
        self.assertLess(0.1 * (2 ** (min(attempts, 8) - 1) - 1), time.monotonic() - started)
        self.assertEqual(proxy.admin("/-/healthz").status, 503)

    def test_a_worker_whose_user_ends_it_is_replaced(self):
        proxy = self.start(workers=1)
        proxy.wait_until_ready(1)
        self.assert_serves(proxy)
        os.kill(proxy.worker_pids()[0], signal.SIGTERM)
        proxy.wait_until_ready(2)
        self.assert_serves(proxy)


class Stopped(Case):
    def test_a_stopped_worker_is_replaced_and_serves_its_own_when_it_wakes(self):
        proxy = self.start("--answer-timeout", LATE, workers=1)
        proxy.wait_until_ready(1)
        stopped = proxy.worker_pids()[0]
        with proxy.client() as kept, proxy.client() as waiting:
            kept.ask("/")
            os.kill(stopped, signal.SIGSTOP)
            waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            # The new worker answers; the stopped one had not claimed the connection.
            self.assertEqual(waiting.read_answer().body, b"hello")
            proxy.wait_for(rf"\(pid {stopped}\) is disconnected: .*timed out")
            self.assertIn(stopped, children(proxy.pid))
            self.assertEqual([pid for pid, _, _ in proxy.claims()].count(stopped), 1)
            os.kill(stopped, signal.SIGCONT)
            self.assert_is_let_go(kept)
        proxy.wait_for(rf"\(pid {stopped}\) has ended")
        self.assert_serves(proxy)

    def test_a_worker_that_stays_stopped_is_made_to_end_after_its_time(self):
        proxy = self.start("--answer-timeout", LATE, "--drain-timeout", "1", workers=1)
        proxy.wait_until_ready(1)
        stopped = proxy.worker_pids()[0]
        os.kill(stopped, signal.SIGSTOP)
        self.assert_serves(proxy)
        proxy.wait_for(rf"\(pid {stopped}\) has not ended in time")
        proxy.wait_for(rf"\(pid {stopped}\) has ended")
        self.assert_serves(proxy)

    def test_a_worker_that_neither_speaks_nor_ends_is_killed(self):
        proxy = self.start("--start-timeout", "1", "--drain-timeout", "1", workers=1,
                           worker_script="#!/bin/sh\ntrap '' TERM\nexec sleep 1000\n")
        proxy.wait_for("is not ready in time")
        proxy.wait_for("does not end: it is killed")
        proxy.wait_for("killed by signal 9")

    def test_what_a_stopped_worker_was_sent_is_served_by_the_other(self):
        proxy = self.start("--answer-timeout", LATE, workers=2)
        proxy.wait_until_ready(2)
        os.kill(proxy.worker_pids()[0], signal.SIGSTOP)
        load = self.load(proxy)
        load.wait_for_more(100)
        proxy.wait_until_ready(3)
        load.wait_for_more(100)
        load.stop()
        self.assertEqual(load.failures, [])


class Replaced(Case):
    def test_sighup_replaces_all_workers_without_a_failed_request(self):
        proxy = self.start(workers=3)
        proxy.wait_until_ready(3)
        load = self.load(proxy)
        for round_number in range(3):
            load.wait_for_more()
            old = proxy.worker_pids()
            proxy.signal(signal.SIGHUP)
            proxy.wait_for("the workers of default are replaced", round_number + 1)
            harness.wait_until(lambda pids=old: not set(pids) & set(proxy.worker_pids()),
                               "the old workers are gone")
            self.assertEqual(len(proxy.worker_pids()), 3)
        load.wait_for_more()
        load.stop()
        self.assertEqual(load.failures, [])
        self.assertEqual(load.closed, 0)

    def test_an_idle_connection_outlives_the_replacement_of_its_worker(self):
        proxy = self.start(workers=1)
        proxy.wait_until_ready(1)
        with proxy.client() as client:
            self.assertEqual(client.ask("/").fields["connection"], "keep-alive")
            old = proxy.worker_pids()
            proxy.signal(signal.SIGHUP)
            proxy.wait_for("the workers of default are replaced")
            harness.wait_until(lambda: proxy.worker_pids() not in ([], old), "the old worker is gone")
            self.assertEqual(client.ask("/").fields["connection"], "keep-alive")

    def test_new_workers_that_do_not_start_leave_the_old_ones_in_place(self):
        proxy = self.start(workers=2, worker_script=f"""#!/bin/sh
            [ -e "${{0%/*}}/broken" ] && exit 1
            exec "{harness.BIN}/ferry-worker" "$@"
            """)
        proxy.wait_until_ready(2)
        old = proxy.worker_pids()
        broken = proxy.directory / "programs/broken"
        broken.touch()
        proxy.signal(signal.SIGHUP)
        proxy.wait_for("are not replaced")
        # The channel of the worker that failed may end before its process does.
        harness.wait_until(lambda: proxy.worker_pids() == old, "the old workers alone are left")
        self.assert_serves(proxy)
        broken.unlink()
        proxy.signal(signal.SIGHUP)
        proxy.wait_for("the workers of default are replaced")
        self.assert_serves(proxy)

    def test_a_directory_that_is_gone_replaces_no_worker(self):
        proxy = self.start(workers=2)
        proxy.wait_until_ready(2)
        old = proxy.worker_pids()
        proxy.root.rename(proxy.directory / "elsewhere")
        proxy.signal(signal.SIGHUP)
        proxy.wait_for("the configuration stays as it was")
        self.assertEqual(proxy.worker_pids(), old)
        self.assert_serves(proxy)
        (proxy.directory / "elsewhere").rename(proxy.root)

    def test_a_worker_may_be_killed_while_it_is_replaced(self):
        proxy = self.start(workers=2)
        proxy.wait_until_ready(2)
        for round_number in range(5):
            old = proxy.worker_pids()
            proxy.signal(signal.SIGHUP)
            with contextlib.suppress(ProcessLookupError):  # this process may be late
                os.kill(old[round_number % 2], signal.SIGKILL)
            proxy.wait_for("(are replaced|are not replaced)", round_number + 1)
            harness.wait_until(lambda: len(proxy.worker_pids()) == 2, "two workers are there")
            self.assert_serves(proxy)


class Ends(Case):
    def test_sigterm_ends_all_and_leaves_no_process(self):
        proxy = self.start(workers=3)
        proxy.wait_until_ready(3)
        workers = proxy.worker_pids()
        before = len(harness.open_files(proxy.pid))
        with proxy.client() as idle, proxy.client() as silent:
            idle.ask("/")
            # One comes back from its worker, and the other is accepted after a second of silence.
            harness.wait_until(lambda: len(harness.open_files(proxy.pid)) == before + 2, "the proxy has both clients")
            proxy.signal(signal.SIGTERM)
            self.assertTrue(idle.at_end())
            self.assertTrue(silent.at_end())
            self.assertEqual(proxy.wait_for_end(proxy.pid), 0)
        for pid in workers:
            self.assertFalse(os.path.exists(f"/proc/{pid}"))

    def test_an_answer_that_has_begun_is_finished(self):
        proxy = self.start(workers=1)
        size = 64 * 1024 * 1024
        with open(proxy.root / "large", "wb") as file:
            file.truncate(size)
        with proxy.client() as client:
            client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read_head()
            proxy.signal(signal.SIGTERM)
            received = len(client.input)
            while data := client.socket.recv(1 << 20):
                received += len(data)
            self.assertEqual(received, size)
        self.assertEqual(proxy.wait_for_end(proxy.pid), 0)

    def test_workers_of_a_killed_proxy_serve_what_they_have_and_end(self):
        proxy = self.start(workers=2)
        proxy.wait_until_ready(2)
        workers = proxy.worker_pids()
        with proxy.client() as client:
            client.ask("/")
            proxy.kill()
            self.assert_is_let_go(client)
        for pid in workers:
            self.assertEqual(proxy.wait_for_end(pid), 0)
        # The control socket of a killed proxy does not prevent a new one.
        again = harness.Child(proxy.directory, "ferry-proxy", "--root", proxy.root, "--port", "0",
                              "--control", proxy.control, emulated=True)
        again.wait_for("listening ")
        again.stop()

    def test_the_clients_see_the_end_that_their_worker_makes(self):
        """The proxy has no copy of the connection: while it is stopped, the client sees the end."""
        proxy = self.start("--keep", "86400", workers=1)
        proxy.wait_until_ready(1)
        before = proxy.child.fds()
        with proxy.client() as client:
            client.ask("/")
            harness.wait_until(lambda: proxy.child.fds() <= before, "the proxy has no copy")
            proxy.signal(signal.SIGSTOP)
            try:
                client.ask("/", "Connection: close")
                self.assertTrue(client.at_end())
            finally:
                proxy.signal(signal.SIGCONT)


class Descriptors(Case):
    def test_a_worker_is_given_its_channel_and_nothing_else(self):
        proxy = self.start(workers=2)
        proxy.wait_until_ready(2)
        for pid in proxy.worker_pids():
            self.assertRegex(harness.open_files(pid).get(3, ""), "^socket:")
            self.assertFalse(listens_on(pid, proxy.port))

    def test_restarts_and_replacements_leave_no_descriptor_open(self):
        proxy = self.start(workers=2)
        proxy.wait_until_ready(2)
        self.assert_serves(proxy)
        before = proxy.child.fds()
        ready = 2
        for round_number in range(4):
            os.kill(proxy.worker_pids()[0], signal.SIGKILL)
            ready += 1
            proxy.wait_until_ready(ready)
            proxy.signal(signal.SIGHUP)
            ready += 2
            proxy.wait_until_ready(ready)
            harness.wait_until(lambda: len(proxy.worker_pids()) == 2, "two workers are left")
        harness.wait_until(lambda: proxy.child.fds() <= before, "descriptors are closed again")


def listens_on(pid, port):
    with open("/proc/net/tcp", encoding="ascii") as table:
        lines = [line.split() for line in list(table)[1:]]
    listening = {line[9] for line in lines
                 if line[3] == "0A" and int(line[1].split(":")[1], 16) == port}
    return any(link[len("socket:["):-1] in listening for link in harness.open_files(pid).values())


if __name__ == "__main__":
    unittest.main()
