"""handoff: a dispatcher and its workers, beside clients made of sockets."""

import os
import signal
import socket
import unittest

import harness
from example import ExampleCase, free_port, listens_on, read_to_end, sockets_of


class Handoff(ExampleCase):

    def start(self):
        """The dispatcher, and the process ids of its workers."""
        while True:
            self.port = free_port()
            server = self.child("handoff", f"127.0.0.1:{self.port}")
            harness.wait_until(lambda: server.process.poll() is not None or listens_on(self.port),
                               "the dispatcher")
            if "Address already in use" not in server.text():
                return server, self.workers(server)

    def workers(self, server):
        with open(f"/proc/{server.pid}/task/{server.pid}/children", encoding="ascii") as children:
            pids = [int(pid) for pid in children.read().split()]
        return [pid for pid in pids if self.state(pid) != "Z"]

    def state(self, pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                return stat.read().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return "Z"

    def client(self):
        peer = socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE)
        self.addCleanup(peer.close)
        return peer

    def ask(self):
        """The worker that serves a client."""
        answer = read_to_end(self.client())
        self.assertRegex(answer, rb"^worker \d+\n$")
        return int(answer.split()[1])

    def both_serve(self, workers):
        """One of them may start later than the other."""
        self.assertEqual(len(workers), 2)
        served = set()

        def asked():
            served.add(self.ask())
            return len(served) == 2
        harness.wait_until(asked, "both serve")
        self.assertEqual(served, set(workers))

    def test_both_workers_serve(self):
        server, workers = self.start()
        self.both_serve(workers)
        server.stop()
        harness.wait_until(lambda: all(self.state(pid) == "Z" for pid in workers), "the workers end")

    def test_many_clients_at_once(self):
        server, workers = self.start()
        self.ask()
        before = server.fds()
        peers = [self.client() for _ in range(200)]
        for peer in peers:
            self.assertIn(int(read_to_end(peer).split()[1]), workers)
        self.has_fds(server, before)
        server.stop()
        self.assertEqual(server.text(), "")

    def test_workers_share_nothing_with_the_dispatcher_but_their_channel(self):
        server, workers = self.start()
        self.ask()
        harness.wait_until(lambda: all(len(sockets_of(pid)) == 1 for pid in workers),
                           "the connection is closed")
        first, second = map(sockets_of, workers)
        self.assertEqual(len(first | second), 2)
        self.assertFalse((first | second) & sockets_of(server.pid))
        server.stop()

    def test_a_worker_that_dies_leaves_its_work_to_the_other(self):
        server, (dead, alive) = self.start()
        os.kill(dead, signal.SIGKILL)
        self.assertEqual({self.ask() for _ in range(20)}, {alive})
        server.stop()

    def test_what_a_stopped_worker_has_not_claimed_goes_to_the_other(self):
        server, (stopped, alive) = self.start()
        os.kill(stopped, signal.SIGSTOP)
        peers = [self.client() for _ in range(20)]
        answers = [read_to_end(peer) for peer in peers]  # some of them when the worker is overdue
        os.kill(stopped, signal.SIGCONT)
        self.assertEqual(answers, [b"worker %d\n" % alive] * 20)
        server.stop()

    def test_without_workers_connections_are_closed_after_a_while(self):
        server, workers = self.start()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        self.assertEqual(read_to_end(self.client()), b"")
        server.wait_for("connection: Connection timed out")
        server.stop()

    def test_a_client_that_has_gone_ends_no_worker(self):
        server, workers = self.start()
        for _ in range(50):
            self.client().close()
        self.both_serve(workers)
        server.stop()

    def test_an_interrupt_of_the_whole_group_ends_it_well(self):
        while True:
            self.port = free_port()
            server = self.child("handoff", f"127.0.0.1:{self.port}", start_new_session=True)
            harness.wait_until(lambda: server.process.poll() is not None or listens_on(self.port),
                               "the dispatcher")
            if server.process.poll() is None:
                break
        self.ask()
        os.killpg(server.pid, signal.SIGINT)
        self.assertEqual(server.process.wait(harness.DEADLINE), 0, server.text())

    def test_a_dispatcher_that_is_killed_takes_its_workers_along(self):
        server, workers = self.start()
        server.kill()
        harness.wait_until(lambda: all(self.state(pid) == "Z" for pid in workers), "the workers end")

    def test_an_address_in_use(self):
        server, _ = self.start()
        status, _, error = self.run_to_end("handoff", f"127.0.0.1:{self.port}")
        self.assertEqual(status, 1)
        self.assertIn("Address already in use", error)
        server.stop()

    def test_usage(self):
        self.check_usage("handoff", (), ("a",), ("127.0.0.1:x",), ("127.0.0.1:1", "b"))


if __name__ == "__main__":
    unittest.main()
