"""The service survives misbehaving clients, workers and kernels, or recovers."""

import contextlib
import os
import random
import resource
import signal
import socket
import struct
import time
import unittest

import harness

REQUEST = b"GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n"


def reset(client):
    """Closes a socket with a reset."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


def has_open(pid, path):
    return str(path) in harness.open_files(pid).values()


class Case(unittest.TestCase):
    def start(self, **options):
        server = harness.Server(**options)
        self.addCleanup(server.stop)
        server.put("index.html", b"hello")
        return server

    def assert_serves(self, server):
        self.assertEqual(server.ask("/").body, b"hello")

    def settle(self, server, children_fds):
        harness.wait_until(
            lambda: all(child.fds() <= count for child, count in children_fds.items()),
            "descriptors are closed again")
        self.assert_serves(server)


class Deadlines(Case):
    def test_a_slow_head_is_408_at_the_proxy(self):
        server = self.start(proxy=("--head-timeout", "1"))
        with server.client() as client:
            client.send("GET / HT")
            answer = client.read_answer()
            self.assertEqual((answer.status, answer.fields["connection"]), (408, "close"))
            client.socket.shutdown(socket.SHUT_WR)
            self.assertTrue(client.at_end())

    def test_bytes_do_not_put_the_deadline_off(self):
        server = self.start(proxy=("--head-timeout", "1"))
        with server.client() as client:
            client.send("GET / HTTP/1.1\r\nX: ")
            client.socket.settimeout(0.05)
            while True:
                try:
                    client.read_more()
                    break
                except socket.timeout:
                    client.send("x")
            client.socket.settimeout(harness.DEADLINE)
            self.assertEqual(client.read_answer().status, 408)

    def test_who_says_nothing_is_told_nothing(self):
        server = self.start(proxy=("--head-timeout", "1"))
        with server.client() as client:
            self.assertTrue(client.at_end())
            self.assertEqual(client.input, b"")

    def test_a_slow_head_is_408_at_the_worker_too(self):
        server = self.start(worker=("--head-timeout", "1"))
        with server.client() as client:
            client.ask("/")
            client.send("GET / HT")
            self.assertEqual(client.read_answer().status, 408)

    def test_an_idle_connection_ends(self):
        server = self.start(worker=("--idle-timeout", "1"))
        with server.client() as client:
            client.ask("/")
            self.assertTrue(client.at_end())
            self.assertEqual(client.input, b"")

    def test_a_refused_client_that_stays_is_let_go(self):
        server = self.start()
        with server.client() as at_proxy, server.client() as at_worker:
            at_worker.ask("/")
            fds = {server.proxy: server.proxy.fds() - 1}
            for client in (at_proxy, at_worker):
                client.send("\0")
                self.assertEqual(client.read_answer().status, 400)
            harness.wait_until(lambda: server.proxy.fds() <= max(fds.values()) + 1, "let go")


class Workers(Case):
    def test_without_workers_it_is_503_until_one_is_there(self):
        server = self.start(workers=0, proxy=("--queue-timeout", "500"))
        for _ in range(2):
            answer = server.ask("/")
            self.assertEqual((answer.status, answer.fields["retry-after"]), (503, "1"))
            worker = server.add_worker()
            self.assert_serves(server)
            worker.kill()
            server.wait_for_losses(len(server.workers))
        self.assertEqual(server.ask("/").status, 503)
        server.add_worker()
        self.assert_serves(server)

    def test_the_others_serve_when_one_is_killed(self):
        server = self.start(workers=2)
        with server.client() as one, server.client() as two:
            one.ask("/")
            two.ask("/")
            server.workers[0].kill()
            server.wait_for_losses(1)
            alive = 0
            for client in (one, two):
                with contextlib.suppress(AssertionError, OSError):
                    alive += client.ask("/").body == b"hello"
            self.assertEqual(alive, 1)
            for _ in range(20):
                self.assert_serves(server)

    def test_workers_outlive_the_proxy_and_find_the_next_one(self):
        server = self.start(workers=2)
        with server.client() as client:
            client.ask("/")
            server.proxy.stop()
            self.assertEqual(client.ask("/").body, b"hello")
            server.start_proxy()
            server.wait_for_workers(2)
            self.assert_serves(server)
            self.assertEqual(client.ask("/").body, b"hello")

    def test_what_a_worker_that_stands_still_was_sent_goes_to_another(self):
        server = self.start(workers=1, proxy=("--answer-timeout", "1000"))
        server.workers[0].process.send_signal(signal.SIGSTOP)
        self.addCleanup(server.workers[0].process.send_signal, signal.SIGCONT)
        with contextlib.ExitStack() as stack:
            # More than the channel takes: over 2000 bytes for each in the kernel, and the queue of ferry.
            with open("/proc/sys/net/core/wmem_default", encoding="ascii") as file:
                count = harness.many_clients(self, int(file.read()) // 2000 + 200)
            waiting = [stack.enter_context(server.client()) for _ in range(count)]
            for client in waiting:
                client.send(REQUEST[:-2] + b"X: " + b"x" * 2000 + b"\r\n\r\n")
            server.add_worker()
            for client in waiting:
                self.assertEqual(client.read_answer().body, b"hello")
            server.wait_for_losses(1)
            server.workers[0].process.send_signal(signal.SIGCONT)
            server.wait_for_workers(3)  # it connects again, as a new worker
            self.assert_serves(server)

    def test_a_worker_without_descriptors_comes_back(self):
        server = self.start(workers=1, proxy=("--queue-timeout", "500"))
        worker = server.workers[0]
        self.assert_serves(server)
        limit = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, limit[1]))
        answer = server.ask("/")
        self.assertEqual((answer.status, answer.fields["retry-after"]), (503, "1"))
        other = server.add_worker()
        self.assert_serves(server)
        other.kill()
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, limit)
        harness.wait_until(lambda: server.ask("/").status == 200, "the first one serves again")


class Clients(Case):
    def test_a_client_may_close_at_any_byte(self):
        server = self.start(workers=1)
        self.assert_serves(server)
        fds = {child: child.fds() for child in (server.proxy, *server.workers)}
        for end in (harness.Client.__exit__, lambda client: reset(client)):
            for length in range(len(REQUEST) + 1):
                client = server.client()
                client.send(REQUEST[:length])
                end(client)
        self.settle(server, fds)

    def test_a_client_may_close_at_any_byte_of_its_second_request(self):
        server = self.start(workers=1)
        fds = {child: child.fds() for child in (server.proxy, *server.workers)}
        for length in range(len(REQUEST) + 1):
            client = server.client()
            client.ask("/")
            client.send(REQUEST[:length])
            if length % 2:
                reset(client)
            else:
                client.socket.close()
        self.settle(server, fds)

    def test_a_client_may_go_in_the_middle_of_a_file(self):
        server = self.start(workers=1)
        with open(server.root / "large", "wb") as file:
            file.truncate(256 * 1024 * 1024)
        fds = {child: child.fds() for child in (server.proxy, *server.workers)}
        for index in range(20):
            client = server.client()
            client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read_head()
            if index % 2:
                reset(client)
            else:
                client.socket.close()
        self.settle(server, fds)

    def test_a_client_that_stops_reading_is_let_go(self):
        server = self.start(workers=1, worker=("--idle-timeout", "1"))
        with open(server.root / "large", "wb") as file:
            file.truncate(256 * 1024 * 1024)
        fds = {child: child.fds() for child in (server.proxy, *server.workers)}
        with server.client() as client:
            client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read_head()
            self.settle(server, fds)

    def check_slow_reader(self, timeout):
        """Whether the worker keeps a client that always reads something, for three times the timeout. None: this machine
        has stood still meanwhile. The small window makes room for each kilobyte."""
        server = self.start(workers=1, worker=("--idle-timeout", str(timeout)))
        with open(server.root / "large", "wb") as file:
            file.truncate(256 * 1024 * 1024)
        worker, pauses = server.workers[0], []
        with server.client() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read_head()
            begin = last = time.monotonic()
            while last < begin + 3 * timeout and has_open(worker.pid, server.root / "large"):
                time.sleep(0.1)
                client.socket.recv(1024)
                pauses.append(time.monotonic() - last)
                last += pauses[-1]
            kept = has_open(worker.pid, server.root / "large")
        return kept if max(pauses) < timeout / 4 else None

    def test_a_client_that_reads_slowly_is_kept(self):
        results = (self.check_slow_reader(timeout) for timeout in (2, 8, 32))
        self.assertTrue(next((result for result in results if result is not None), False))

    def test_no_mutation_of_requests_breaks_anything(self):
        seed = int(os.environ.get("FERRY_TEST_SEED", random.randrange(2 ** 32)))
        print(f"FERRY_TEST_SEED={seed}", flush=True)
        generator = random.Random(seed)
        server = self.start(workers=1)
        fds = {child: child.fds() for child in (server.proxy, *server.workers)}
        words = (b"GET", b"HEAD", b"POST", b" ", b"/", b"/%2e%2e/", b"/index.html", b"HTTP/1.1",
                 b"HTTP/1.0", b"\r\n", b"\n", b"\0", b"Host: a", b"Range: bytes=", b"0-1", b"-",
                 b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Connection: close", b":",
                 b"If-None-Match: ", b'"x"', b"\xff" * 9000)
        for round_number in range(400):
            client = server.client()
            client.socket.settimeout(0.01)
            with contextlib.suppress(OSError):
                for _ in range(generator.randrange(3)):
                    client.send(REQUEST)
                request = bytearray(REQUEST)
                for _ in range(generator.randrange(1, 4)):
                    at = generator.randrange(len(request))
                    request[at:at + generator.randrange(3)] = generator.choice(words)
                client.send(bytes(request))
                client.read_more()
            if round_number % 3:
                client.socket.close()
            else:
                reset(client)
        self.settle(server, fds)

    def test_1000_idle_connections_at_the_proxy(self):
        server = self.start(workers=1, proxy=("--head-timeout", "600"))
        count = harness.many_clients(self, 1000)
        half = count // 2
        fds = server.proxy.fds()
        with contextlib.ExitStack() as stack:
            idle = [stack.enter_context(server.client()) for _ in range(count)]
            for client in idle[:half]:
                client.send(REQUEST[:7])
            harness.wait_until(lambda: server.proxy.fds() >= fds + count, "all are accepted")
            self.assert_serves(server)
            for client in idle[:half]:
                client.send(REQUEST[7:])
            for client in idle[:half]:
                self.assertEqual(client.read_answer().body, b"hello")
        harness.wait_until(lambda: server.proxy.fds() <= fds, "all are closed")

    def test_1000_idle_connections_at_a_worker(self):
        server = self.start(workers=1, worker=("--idle-timeout", "600"))
        count = harness.many_clients(self, 1000)
        worker = server.workers[0]
        self.assert_serves(server)
        before = worker.memory_kib("VmRSS")
        with contextlib.ExitStack() as stack:
            idle = [stack.enter_context(server.client()) for _ in range(count)]
            for client in idle:
                self.assertEqual(client.ask("/").body, b"hello")
            self.assert_serves(server)
            grown = worker.memory_kib("VmRSS") - before
            print(f"{grown / count:.2f} KiB of resident memory for an idle client", flush=True)
            if not harness.INSTRUMENTED:
                self.assertLess(grown / count, 8)
            for client in idle:
                self.assertEqual(client.ask("/").body, b"hello")

    def test_without_descriptors_clients_wait_in_the_backlog(self):
        server = self.start(workers=1)
        limit = resource.prlimit(server.proxy.pid, resource.RLIMIT_NOFILE)
        with contextlib.ExitStack() as stack:
            resource.prlimit(server.proxy.pid, resource.RLIMIT_NOFILE,
                             (server.proxy.fds(), limit[1]))
            waiting = [stack.enter_context(server.client()) for _ in range(10)]
            for client in waiting:
                client.send(REQUEST)
            server.proxy.wait_for("accepting is paused")
            resource.prlimit(server.proxy.pid, resource.RLIMIT_NOFILE, limit)
            for client in waiting:
                self.assertEqual(client.read_answer().body, b"hello")

    def test_beyond_its_own_bound_clients_wait_in_the_backlog(self):
        server = self.start(workers=1, proxy_prefix=("sh", "-c", 'ulimit -n 80; exec "$@"', "sh"))
        with contextlib.ExitStack() as stack:
            idle = [stack.enter_context(server.client()) for _ in range(100)]
            for client in reversed(idle):
                client.send(REQUEST)
            for client in idle:
                self.assertEqual(client.read_answer().body, b"hello")


class Programs(Case):
    def run_program(self, name, *arguments):
        child = harness.Child(self.directory, name, *arguments)
        return child.process.wait(harness.DEADLINE), child.text()

    def setUp(self):
        server = self.start(workers=0)
        self.server = server
        self.directory = server.directory

    def test_help_is_shown(self):
        for name in ("ferry-proxy", "ferry-worker"):
            status, text = self.run_program(name, "--help")
            self.assertEqual(status, 0)
            self.assertTrue(text.startswith(f"usage: {name}"))

    def test_bad_options_are_named(self):
        for name, arguments, words in (
                ("ferry-proxy", (), "--socket is missing"),
                ("ferry-proxy", ("--socket", "x", "--port", "65536"), "--port"),
                ("ferry-proxy", ("--socket", "x", "--port", "-1"), "--port"),
                ("ferry-proxy", ("--socket", "x", "--port", ""), "--port"),
                ("ferry-proxy", ("--socket", "x", "--head-timeout", "0"), "--head-timeout"),
                ("ferry-proxy", ("--socket", "x", "--address", "localhost"), "--address"),
                ("ferry-proxy", ("--socket", "x", "y"), "'y'"),
                ("ferry-worker", (), "--socket is missing"),
                ("ferry-worker", ("--socket", "x", "--idle-timeout", "1s"), "--idle-timeout"),
                ("ferry-worker", ("--nothing",), "--nothing")):
            with self.subTest(name, arguments=arguments):
                status, text = self.run_program(name, *arguments)
                self.assertEqual(status, 2)
                self.assertIn(words, text)

    def test_what_cannot_be_had_is_said(self):
        for name, arguments, words in (
                ("ferry-proxy", ("--socket", self.server.socket_path, "--port", "0"),
                 "another process listens there"),
                ("ferry-proxy", ("--socket", self.directory / "s", "--port",
                                   str(self.server.port)), "Address already in use"),
                ("ferry-proxy", ("--socket", self.directory / "none/s"), "No such file"),
                ("ferry-worker", ("--socket", "x", "--root", self.directory / "none"),
                 "No such file"),
                ("ferry-worker", ("--socket", "x", "--root", __file__), "Not a directory")):
            with self.subTest(name, arguments=arguments):
                status, text = self.run_program(name, *arguments)
                self.assertEqual(status, 1)
                self.assertIn(words, text)

    def test_the_workers_socket_is_for_the_owner_only(self):
        self.assertEqual(os.stat(self.server.socket_path).st_mode & 0o777, 0o600)

    def test_ipv6_is_served_too(self):
        path = self.directory / "six"
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            self.skipTest("no IPv6 on the loopback")
        proxy = harness.Child(self.directory, "ferry-proxy", "--socket", path, "--address", "::1",
                              "--port", "0")
        self.addCleanup(proxy.stop)
        proxy.wait_for("listening [::1]:")
        port = int(proxy.text().split("]:")[1].split()[0])
        with socket.create_connection(("::1", port), harness.DEADLINE) as client:
            client.sendall(REQUEST)
            self.assertIn(b" 503 ", client.recv(100))


if __name__ == "__main__":
    unittest.main()
