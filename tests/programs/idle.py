"""Clients between two requests: the proxy parks them, and no worker is tied up."""

import contextlib
import os
import signal
import socket
import unittest

import harness
from supervised import Case


class Idle(Case):
    """The workers keep no connection: it is back in the proxy right after each answer."""

    def clients(self, proxy, count):
        clients = contextlib.ExitStack()
        self.addCleanup(clients.close)
        return [clients.enter_context(proxy.client()) for _ in range(count)]

    def keepers(self, proxy, count):
        """Clients, each with one answer and an open connection."""
        clients = self.clients(proxy, count)
        for client in clients:
            self.assertEqual(client.ask("/").body, b"hello")
        return clients

    def wait_until_idle(self, proxy, count):
        harness.wait_until(lambda: proxy.metric("ferry_proxy_idle ") == count, "they idle")

    def test_a_connection_is_parked_between_its_requests(self):
        proxy = self.start("--keep", "0", "--idle-timeout", "600")
        clients = self.keepers(proxy, 30)
        for rounds in range(1, 5):
            self.wait_until_idle(proxy, 30)
            self.assertEqual(proxy.metric("ferry_proxy_clients "), 0)
            if rounds == 4:
                break
            for client in clients:
                self.assertEqual(client.ask("/").body, b"hello")
        self.assertGreaterEqual(proxy.metric("ferry_proxy_idle_woken_total"), 90)
        for client in clients:
            client.socket.close()
        self.wait_until_idle(proxy, 0)
        self.assertEqual(proxy.metric("ferry_proxy_idle_ended_total"), 30)

    def test_a_request_in_pieces_is_read_anew(self):
        proxy = self.start("--keep", "0")
        with proxy.client() as client:
            for _ in range(3):
                client.ask("/")
                self.wait_until_idle(proxy, 1)
                client.send("GET / HT")
                harness.wait_until(lambda: proxy.metric("ferry_proxy_clients ") == 1, "it is read")
                client.send("TP/1.1\r\nHost: a\r\n\r\n")
                self.assertEqual(client.read_answer().body, b"hello")

    def test_an_idle_client_is_closed_after_its_timeout(self):
        proxy = self.start("--keep", "0", "--idle-timeout", "1")
        with proxy.client() as client:
            client.ask("/")
            self.assertTrue(client.at_end())
            self.assertEqual(client.input, b"")
        self.assertEqual(proxy.metric("ferry_proxy_idle_expired_total"), 1)

    def test_idle_clients_make_room_for_those_in_the_backlog(self):
        """No client waits until another one's timeout."""
        proxy = self.start("--keep", "0", "--max-clients", "20", "--idle-timeout", "86400")
        clients = self.keepers(proxy, 60)
        harness.wait_until(lambda: proxy.metric("ferry_proxy_idle ") +
                           proxy.metric("ferry_proxy_idle_evicted_total") == 60, "the others leave")
        self.assertLessEqual(proxy.metric("ferry_proxy_idle "), 20)
        self.assertEqual(proxy.metric("ferry_proxy_idle_ended_total"), 0)
        self.assertEqual(clients[-1].ask("/").body, b"hello")

    def test_idle_clients_take_no_credit_of_a_worker(self):
        proxy = self.start("--keep", "0", workers=1)
        clients = self.keepers(proxy, 100)
        self.wait_until_idle(proxy, 100)
        self.assertEqual(proxy.metric("ferry_worker_handoffs_outstanding{"), 0)
        for client in clients:
            self.assertEqual(client.ask("/").body, b"hello")

    def test_a_client_that_resets_while_it_idles_is_forgotten(self):
        proxy = self.start("--keep", "0")
        client, = self.keepers(proxy, 1)
        self.wait_until_idle(proxy, 1)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.socket.close()
        self.wait_until_idle(proxy, 0)
        self.assertEqual(proxy.metric("ferry_proxy_idle_ended_total"), 1)

    def test_idle_clients_wait_for_room_in_a_queue(self):
        """As new ones wait in the backlog: a burst is no reason for a 503."""
        proxy = self.start("--keep", "0", "--queue", "5", "--queue-timeout", "600000",
                           "--answer-timeout", "600000", workers=1)
        proxy.wait_until_ready(1)
        clients = self.keepers(proxy, 400)
        self.wait_until_idle(proxy, 400)
        os.kill(proxy.worker_pids()[0], signal.SIGSTOP)
        for client in clients:
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        proxy.wait_for("the queue of default is full")
        harness.wait_until(lambda: proxy.metric("ferry_proxy_idle ") +
                           proxy.metric("ferry_proxy_clients ") == 0, "all requests are read")
        # Each is with the stopped worker, in the queue, or waits for room there.
        places = ("ferry_proxy_waiting ", "ferry_service_queue_length{", "ferry_service_handoffs_outstanding{")
        self.assertEqual(sum(proxy.metric(name) for name in places), 400)
        self.assertGreater(proxy.metric("ferry_proxy_waiting "), 0)
        os.kill(proxy.worker_pids()[0], signal.SIGCONT)
        for client in clients:
            self.assertEqual(client.read_answer().body, b"hello")
        self.assertEqual(proxy.metric("ferry_proxy_waiting "), 0)

    def test_a_client_that_has_waited_for_room_too_long_gets_503(self):
        proxy = self.start("--keep", "0", "--queue", "5", "--queue-timeout", "300",
                           "--answer-timeout", "600000", workers=1)
        proxy.wait_until_ready(1)
        clients = self.keepers(proxy, 400)
        self.wait_until_idle(proxy, 400)
        worker = proxy.worker_pids()[0]
        os.kill(worker, signal.SIGSTOP)
        self.addCleanup(os.kill, worker, signal.SIGCONT)
        for client in clients:
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        expired = 'ferry_proxy_refusals_total{reason="expired"}'
        harness.wait_until(lambda: proxy.metric(expired) > 5, "some have waited too long")
        os.kill(worker, signal.SIGCONT)
        answers = [client.read_answer().status for client in clients]
        self.assertEqual({200, 503}, set(answers))
        self.assertEqual(proxy.metric(expired), answers.count(503))
        self.assertEqual(proxy.metric("ferry_proxy_idle_expired_total"), 0)

    def test_what_workers_return_is_counted(self):
        proxy = self.start("--keep", "0", workers=1)
        client, = self.keepers(proxy, 1)
        self.wait_until_idle(proxy, 1)
        client.ask("/")
        self.wait_until_idle(proxy, 1)
        for who in ("ferry_service_handoffs", "ferry_worker_handoffs"):
            self.assertEqual(proxy.metric(f"{who}_claimed_total"), 2)
            self.assertEqual(proxy.metric(f"{who}_returned_total"), 2)
            self.assertEqual(proxy.metric(f"{who}_done_total"), 0)


class Stranded(Case):
    """Each request has its own route, and the proxy is killed: no worker answers for another service."""

    SIZE = 6 * 1024 * 1024  # more than the sockets hold

    def setUp(self):
        self.proxy = self.start("--answer-timeout", "600000", prepare=("other",), config="""
            listen 127.0.0.1:0
            service www socket={directory}/workers.sock
            service other root={directory}/other workers=1
            route host=other other
        """)
        self.proxy.put("large", b"x" * self.SIZE)
        self.guest = harness.Child(self.proxy.directory, "ferry-worker", "--socket",
                                   self.proxy.directory / "workers.sock", "--root", self.proxy.root)
        self.addCleanup(self.guest.stop)
        self.proxy.wait_for("is connected")

    def begin(self, following=""):
        """A client that has read the head of a large answer, and has sent the following request with the first one."""
        client = self.proxy.client()
        self.addCleanup(client.socket.close)
        client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n" + following)
        self.assertIn(b"keep-alive", client.read_head())
        return client

    def read_rest(self, client):
        left = self.SIZE - len(client.input)
        client.input = b""
        while left > 0:
            left -= len(client.socket.recv(min(left, 1 << 20)))

    def kill(self):
        for pid in self.proxy.worker_pids():
            os.kill(pid, signal.SIGKILL)
        self.proxy.kill()
        self.guest.wait_for("the proxy is disconnected")

    def assert_is_let_go(self, client):
        with contextlib.suppress(OSError):
            client.send("GET / HTTP/1.1\r\nHost: other\r\n\r\n")
        try:
            self.assertTrue(client.at_end())
        except ConnectionResetError:
            pass
        self.assertEqual(client.input, b"")

    def test_in_the_middle_of_an_answer(self):
        client = self.begin()
        self.kill()
        self.read_rest(client)
        self.assert_is_let_go(client)

    def test_a_request_that_has_come_already_is_misdirected(self):
        """The client learns that it can repeat the request elsewhere (RFC 9110, 15.5.20), whatever its method is."""
        for request, method in (("GET / HTTP/1.1\r\nHost: other\r\n\r\n", "GET"),
                                ("POST / HTTP/1.1\r\nHost: other\r\nContent-Length: 3\r\n\r\nabc", "POST"),
                                ("HEAD / HTTP/1.1\r\nHost: other\r\n\r\n", "HEAD")):
            with self.subTest(method):
                self.setUp()
                client = self.begin(request)
                self.kill()
                self.read_rest(client)
                answer = client.read_answer(head_only=method == "HEAD")
                self.assertEqual((answer.status, answer.fields["connection"]), (421, "close"))
                client.socket.shutdown(socket.SHUT_WR)
                self.assertTrue(client.at_end())
                self.assertEqual(client.input, b"")

    def test_in_the_middle_of_a_return(self):
        """The proxy stands still, so that its channel is full of returned connections, and others wait behind."""
        with open("/proc/sys/net/core/wmem_default", encoding="ascii") as file:
            count = harness.many_clients(self, int(file.read()) // 600)
        clients = [self.begin() for _ in range(count)]
        self.proxy.signal(signal.SIGSTOP)
        for client in clients:
            self.read_rest(client)
        self.kill()
        for client in clients:
            self.assert_is_let_go(client)


if __name__ == "__main__":
    unittest.main()
