"""The routes of requests: by host and path, past full queues, and with the client's address."""

import contextlib
import os
import signal
import socket
import struct
import unittest

import harness
from supervised import Case

V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


class Routes(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        case = cls()
        cls.addClassCleanup(case.doCleanups)
        cls.proxy = case.start(config="""
            listen 127.0.0.1:0
            service www root={root} workers=1
            service files root={directory}/files workers=1
            service blog root={directory}/blog workers=1 choice=by-client
            route host=files.example.org files
            route host=*.blog.example.org blog
            route path=/files files
            default www
        """, prepare=("files", "files/files", "blog"))
        for name in ("files", "blog"):
            (cls.proxy.directory / name / "index.html").write_text(name)
        (cls.proxy.directory / "files/files/x.txt").write_text("below files")

    def get(self, host, target):
        with self.proxy.client() as client:
            client.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
            answer = client.read_answer()
            return answer.status, answer.body.decode()

    def test_the_host_decides(self):
        self.assertEqual(self.get("files.example.org", "/"), (200, "files"))
        self.assertEqual(self.get("FILES.example.org:8080", "/"), (200, "files"))
        self.assertEqual(self.get("a.blog.example.org", "/"), (200, "blog"))
        self.assertEqual(self.get("blog.example.org", "/"), (200, "hello"))
        self.assertEqual(self.get("other", "http://files.example.org/"), (200, "files"))

    def test_the_path_decides(self):
        self.assertEqual(self.get("any", "/files/x.txt"), (200, "below files"))
        self.assertEqual(self.get("any", "//%66iles/x.txt"), (200, "below files"))
        self.assertEqual(self.get("any", "/filesystem")[0], 404)

    def test_each_request_of_a_connection_has_a_route_of_its_own(self):
        wanted = (("any", "/", "hello"), ("any", "/files/x.txt", "below files"),
                  ("files.example.org", "/", "files"), ("a.blog.example.org", "/", "blog"))
        with self.proxy.client() as client:
            for host, target, body in wanted * 20:
                client.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
                answer = client.read_answer()
                self.assertEqual((answer.status, answer.body.decode()), (200, body))
                self.assertEqual(answer.fields["connection"], "keep-alive")

    def test_pipelined_requests_go_to_their_own_services_in_order(self):
        hosts = ("any", "files.example.org", "a.blog.example.org") * 20
        bodies = {"any": "hello", "files.example.org": "files", "a.blog.example.org": "blog"}
        with self.proxy.client() as client:
            client.send("".join(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n" for host in hosts))
            client.socket.shutdown(socket.SHUT_WR)
            for host in hosts:
                self.assertEqual(client.read_answer().body.decode(), bodies[host])
            self.assertTrue(client.at_end())

    def test_the_rest_goes_to_the_default(self):
        self.assertEqual(self.get("any", "/"), (200, "hello"))

    def test_a_path_that_programs_understand_differently_is_400(self):
        for target in ("/x/../files/", "/a%2Fb", "/%"):
            self.assertEqual(self.get("any", target)[0], 400, target)

    def test_the_admin_address_shows_what_was_done(self):
        self.get("files.example.org", "/")
        metrics = self.proxy.admin("/-/metrics")
        self.assertEqual(metrics.fields["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        self.assertGreater(self.proxy.metric('ferry_service_handoffs_claimed_total{service="files"}'), 0)
        page = self.proxy.admin("/-/status")
        self.assertTrue(page.fields["content-type"].startswith("text/html"))
        for words in ("www", "files", "blog", *map(str, self.proxy.worker_pids())):
            self.assertIn(words, page.body.decode())
        self.assertEqual(self.proxy.admin("/-/healthz").status, 200)
        self.assertEqual(self.proxy.admin("/").status, 404)
        self.assertEqual(self.get("any", "/-/status")[0], 404)  # not on an address for clients


class Balanced(Case):
    """Behind a load balancer that passes the address of a client on."""

    def setUp(self):
        self.proxy = self.start(config="""
            listen 127.0.0.1:0 proxy-protocol
            listen 127.0.0.1:0
            service www root={root} workers=1
        """)
        self.proxy.wait_for("(?m)^listening ", 2)

    def ask(self, header, request=b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"):
        with self.proxy.client() as client:
            client.send(header + request)
            self.assertEqual(client.read_answer().body, b"hello")
            return client.socket.getsockname()

    def logged(self, total):
        """The clients in the access log, which has a line once the answer has been sent."""
        def lines():
            path = self.proxy.access_log
            return path.read_text().splitlines() if path.exists() else []
        harness.wait_until(lambda: len(lines()) >= total, f"{total} lines")
        return [line.split(" ")[0] for line in lines()]

    def test_version_1(self):
        self.ask(b"PROXY TCP4 203.0.113.7 198.51.100.1 50412 80\r\n")
        self.ask(b"PROXY TCP6 2001:db8::7 2001:db8::1 50413 80\r\n")
        self.assertEqual(self.logged(2), ["203.0.113.7:50412", "[2001:db8::7]:50413"])
        self.assertEqual([client for _, _, client in self.proxy.claims()], self.logged(2))

    def test_version_2(self):
        addresses = socket.inet_aton("203.0.113.9") + socket.inet_aton("198.51.100.1")
        tlv = b"\x04\x00\x03abc"
        payload = addresses + struct.pack("!HH", 40000, 80) + tlv
        self.ask(V2_SIGNATURE + struct.pack("!BBH", 0x21, 0x11, len(payload)) + payload)
        self.assertEqual(self.logged(1), ["203.0.113.9:40000"])

    def test_a_health_check_of_the_balancer_has_its_own_address(self):
        host, port = self.ask(V2_SIGNATURE + struct.pack("!BBH", 0x20, 0, 0))
        self.assertEqual(self.logged(1), [f"{host}:{port}"])
        host, port = self.ask(b"PROXY UNKNOWN\r\n")
        self.assertEqual(self.logged(2)[1:], [f"{host}:{port}"])

    def test_the_header_may_come_byte_by_byte(self):
        with self.proxy.client() as client:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in b"PROXY TCP4 203.0.113.7 198.51.100.1 1 80\r\nGET / HTTP/1.0\r\n\r\n":
                client.send(bytes([byte]))
            self.assertEqual(client.read_answer().body, b"hello")
        self.assertEqual(self.logged(1), ["203.0.113.7:1"])

    def test_without_a_header_the_connection_is_closed(self):
        for bad in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"PROXY TCP4 300.0.0.1 1.1.1.1 1 2\r\n"):
            with self.proxy.client() as client:
                client.send(bad)
                with contextlib.suppress(ConnectionResetError):
                    client.at_end()
                self.assertEqual(client.input, b"")
        self.assertEqual(self.proxy.metric('ferry_proxy_refusals_total{reason="bad_proxy_header"}'), 2)

    def test_other_addresses_do_not_believe_a_header(self):
        port = self.proxy.addresses("listening")[1][1]
        with self.proxy.client(port) as client:
            client.send(b"PROXY TCP4 203.0.113.7 198.51.100.1 1 80\r\nGET / HTTP/1.0\r\n\r\n")
            self.assertEqual(client.read_answer().status, 400)
        with self.proxy.client(port) as client:
            self.assertEqual(client.ask("/").body, b"hello")
            host, port = client.socket.getsockname()
        self.assertEqual(self.logged(1), [f"{host}:{port}"])


class Sticky(Case):
    def test_by_client_gives_the_same_worker_to_the_same_address(self):
        proxy = self.start(config="""
            listen 127.0.0.1:0 proxy-protocol
            service www root={root} workers=4 choice=by-client
        """)
        proxy.wait_until_ready(4)
        for number in range(120):
            with proxy.client() as client:
                client.send(f"PROXY TCP4 203.0.113.{number % 40} 198.51.100.1 {number + 1} 80\r\n"
                            "GET / HTTP/1.0\r\n\r\n")
                self.assertEqual(client.read_answer().status, 200)
        workers = {}
        for pid, _, address in proxy.claims():
            workers.setdefault(address.split(":")[0], set()).add(pid)
        self.assertEqual(len(workers), 40)
        self.assertTrue(all(len(pids) == 1 for pids in workers.values()), workers)
        self.assertGreater(len(set.union(*workers.values())), 1)


class Full(Case):
    def test_a_thousand_clients_without_a_worker_are_all_answered_in_bounded_memory(self):
        count = harness.many_clients(self, 1000)
        proxy = self.start("--queue", "100", "--queue-timeout", "200", "--max-clients", "200",
                           "--retry-after", "3",
                           config="listen 127.0.0.1:0\nservice www socket={directory}/w.sock\n")
        before = proxy.child.memory_kib("VmRSS")
        fds = proxy.child.fds()
        with contextlib.ExitStack() as stack:
            # All requests are there before it reads the first: they come faster than the queue expires.
            proxy.signal(signal.SIGSTOP)
            clients = [stack.enter_context(proxy.client()) for _ in range(count)]
            for client in clients:
                client.send("GET / HTTP/1.1\r\nHost: a\r\nX: " + "x" * 2000 + "\r\n\r\n")
            proxy.signal(signal.SIGCONT)
            most = 0
            for client in clients:
                answer = client.read_answer()
                most = max(most, proxy.child.fds())
                self.assertEqual((answer.status, answer.fields["retry-after"]), (503, "3"))
                client.socket.close()
        self.assertLess(most, fds + 450)
        self.assertIn("accepting is paused: no queue has room", proxy.text())
        self.assertIn("accepting resumes", proxy.text())
        grown = proxy.child.memory_kib("VmHWM") - before
        print(f"{grown} KiB more for {count} clients without a worker", flush=True)
        if not harness.INSTRUMENTED:
            self.assertLess(grown, 4096)
        harness.wait_until(lambda: proxy.child.fds() <= fds, "descriptors are closed again")
        outcomes = proxy.outcomes()
        self.assertGreaterEqual(len(outcomes), 100)
        for outcome, pid, _, _, reason in outcomes:
            self.assertEqual((outcome, pid, reason), ("expired", 0, -110))

    def test_those_that_wait_are_served_when_a_worker_comes(self):
        proxy = self.start(config="listen 127.0.0.1:0\nservice www socket={directory}/w.sock\n")
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(proxy.client()) for _ in range(100)]
            for client in clients:
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            worker = harness.Child(proxy.directory, "ferry-worker", "--socket",
                                   proxy.directory / "w.sock", "--root", proxy.root)
            self.addCleanup(worker.stop)
            for client in clients:
                self.assertEqual(client.read_answer().body, b"hello")

    def test_a_full_queue_answers_at_once_when_other_services_have_room(self):
        proxy = self.start("--queue", "1", "--queue-timeout", "60000", config="""
            listen 127.0.0.1:0
            service none socket={directory}/w.sock
            service www root={root} workers=1
            route path=/files www
            default none
        """)
        proxy.put("files/index.html", b"files")
        with proxy.client() as waiting:
            waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            proxy.wait_for("the queue of none is full")
            answer = proxy.ask("/", method="HEAD")
            self.assertEqual((answer.status, answer.fields["retry-after"]), (503, "1"))
            self.assertEqual(proxy.ask("/files/").body, b"files")
            self.assertEqual(proxy.metric('ferry_proxy_refusals_total{reason="queue_full"}'), 1)


class Configuration(Case):
    def refused(self, text, *words):
        with self.subTest(text):
            path = self.proxy.directory / "bad.conf"
            path.write_text(text.format(root=self.proxy.root))
            child = harness.Child(self.proxy.directory, "ferry-proxy", "--config", path,
                                  emulated=True)
            self.assertEqual(child.process.wait(harness.DEADLINE), 2)
            for word in words:
                self.assertIn(word, child.text())
            self.assertEqual(len(child.text().splitlines()), 1)

    def test_what_is_wrong_is_said_with_its_line(self):
        self.proxy = self.start(workers=1)
        self.refused("listen 127.0.0.1:0\n\nlisten nowhere\nservice www root={root}\n",
                     "bad.conf:3: ", "nowhere")
        self.refused("listen 127.0.0.1:0\nservice www root=/none/at/all\n", "bad.conf:2: ", "/none/at/all")
        self.refused("listen 127.0.0.1:0\nservice www root={root}\nroute path=/x wwww\n",
                     "bad.conf:3: ", "wwww")
        self.refused("# comment\nqueue 0\n", "bad.conf:2: ", "'0'")
        self.refused("listen 127.0.0.1:0\nserve www\n", "bad.conf:2: ", "serve")

    def test_check_says_that_all_is_well(self):
        self.proxy = self.start(workers=1)
        path = self.proxy.directory / "good.conf"
        path.write_text(f"listen 127.0.0.1:0\nservice www root={self.proxy.root}\n")
        child = harness.Child(self.proxy.directory, "ferry-proxy", "--check", "--config", path,
                              emulated=True)
        self.assertEqual(child.process.wait(harness.DEADLINE), 0)

    def test_the_example_configuration_is_well(self):
        self.proxy = self.start(workers=1)
        source = os.environ["FERRY_SOURCE"]
        child = harness.Child(self.proxy.directory, "ferry-proxy", "--check", "--config",
                              "src/programs/ferry-proxy/ferry-proxy.conf", cwd=source, emulated=True)
        self.assertEqual(child.process.wait(harness.DEADLINE), 0, child.text())


if __name__ == "__main__":
    unittest.main()
