"""TLS clients, from ferry-proxy to the end of the answer by ferry-worker with OpenSSL: everything that works without TLS,
both versions, certificates that are read anew, ends and truncations, and which programs link a TLS library.

A worker that is built without OpenSSL refuses the options; the rest counts as skipped.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import unittest
import warnings

import tls_support
from supervised import Case, harness

WORKER = harness.BIN / "ferry-worker"
HAS_TLS = "built without OpenSSL" not in subprocess.run(
    [WORKER, "--socket", "/nonexistent/s", "--root", "/nonexistent", "--tls-certificate", "x", "--tls-key", "x"],
    capture_output=True, text=True, check=False, timeout=harness.DEADLINE).stderr


def kernel_has_tls():
    """Whether the module is loaded: the worker must not be root to load it."""
    try:
        return "tls" in pathlib.Path("/proc/sys/net/ipv4/tcp_available_ulp").read_text().split()
    except OSError:
        return False


class TlsClient(harness.Client):
    """HTTP/1.1 over TLS."""

    def __init__(self, port, context, name="one.example"):
        super().__init__(port)
        self.socket = context.wrap_socket(self.socket, server_hostname=name, suppress_ragged_eofs=False)


class TlsCase(Case):
    def start_tls(self, *arguments, config=None, worker=(), workers=1, names=("one.example",)):
        """A proxy whose own workers have a certificate."""
        directory = self.enterContext(contextlib.closing(Temporary())).path
        self.certificate, self.key = tls_support.make_certificate(directory, "one", *names)
        self.context = tls_support.client_context(self.certificate, protocols=["http/1.1"])
        return self.start(*arguments, config=config or f"""
            listen 127.0.0.1:0 tls-passthrough
            listen 127.0.0.1:0
            service www root={{root}} workers={workers}
            drain-timeout 600
        """, worker=("--tls-certificate", self.certificate, "--tls-key", self.key, *worker))

    def connect(self, proxy, context=None, name="one.example"):
        client = TlsClient(proxy.port, context or self.context, name)
        self.addCleanup(client.socket.close)
        return client


class Temporary:
    def __init__(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        self.path = pathlib.Path(self.temporary.name)
        self.close = self.temporary.cleanup


@unittest.skipUnless(HAS_TLS, "ferry-worker has no TLS")
class Serving(TlsCase):
    """One proxy with one worker for all."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        case = cls()
        cls.addClassCleanup(case.doCleanups)
        cls.proxy = case.start_tls(worker=("--idle-timeout", "600", "--head-timeout", "600"))
        cls.certificate, cls.context = case.certificate, case.context
        cls.proxy.put("page.txt", b"page " * 100)
        cls.proxy.put("large", os.urandom(1 << 20) * 100)
        cls.large = cls.proxy.root / "large"
        cls.proxy.wait_until_ready(1)

    def versions(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = tls_support.client_context(self.certificate)
            context.minimum_version = context.maximum_version = version
            with self.subTest(version.name):
                yield context

    def test_a_file_in_both_versions(self):
        for context in self.versions():
            client = self.connect(self.proxy, context)
            answer = client.ask("/page.txt")
            self.assertEqual((answer.status, answer.body), (200, b"page " * 100))
            self.assertEqual(answer.fields["content-type"], "text/plain; charset=utf-8")

    def test_older_versions_are_refused(self):
        context = tls_support.client_context(self.certificate)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with self.assertRaises(ssl.SSLError) as raised:
            self.connect(self.proxy, context)
        self.assertEqual(raised.exception.reason, "TLSV1_ALERT_PROTOCOL_VERSION")

    def test_a_large_file_arrives_unchanged(self):
        digest = hashlib.sha256(self.large.read_bytes()).hexdigest()
        for context in self.versions():
            client = self.connect(self.proxy, context)
            client.send("GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            client.read_head()
            found = hashlib.sha256(client.input)
            while data := client.socket.recv(1 << 18):
                found.update(data)
            self.assertEqual(found.hexdigest(), digest)

    def test_conditions_ranges_and_heads_work_as_without_tls(self):
        client = self.connect(self.proxy)
        etag = client.ask("/page.txt").fields["etag"]
        self.assertEqual(client.ask("/page.txt", f"If-None-Match: {etag}").status, 304)
        part = client.ask("/page.txt", "Range: bytes=5-8")
        self.assertEqual((part.status, part.body), (206, b"page"))
        self.assertEqual(part.fields["content-range"], "bytes 5-8/500")
        self.assertEqual(client.ask("/page.txt", method="HEAD").fields["content-length"], "500")
        self.assertEqual(client.ask("/large", "Range: bytes=-3").body, self.large.read_bytes()[-3:])
        self.assertEqual(client.ask("/none").status, 404)
        self.assertEqual(client.ask("/", "Content-Length: 3", method="POST").status, 405)
        self.assertTrue(client.at_end())

    def test_requests_may_come_at_once_and_in_pieces(self):
        client = self.connect(self.proxy)
        request = "GET /page.txt HTTP/1.1\r\nHost: a\r\n\r\n"
        client.send(request * 20)
        for _ in range(20):
            self.assertEqual(client.read_answer().body, b"page " * 100)
        for byte in request:
            client.send(byte)
        self.assertEqual(client.read_answer().body, b"page " * 100)

    def test_the_same_worker_serves_a_connection_to_its_end(self):
        client = self.connect(self.proxy)
        before = self.proxy.metric("ferry_service_handoffs_returned_total")
        for _ in range(5):
            self.assertEqual(client.ask("/page.txt").fields["connection"], "keep-alive")
        self.assertEqual(self.proxy.metric("ferry_service_handoffs_returned_total"), before)

    def test_the_end_is_a_close_notify(self):
        client = self.connect(self.proxy)
        client.send("GET /page.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        self.assertEqual(client.read_answer().status, 200)
        self.assertTrue(client.at_end())  # an error without close_notify

    def test_the_end_of_the_client_is_answered(self):
        client = self.connect(self.proxy)
        self.assertEqual(client.ask("/page.txt").status, 200)
        client.socket.unwrap()  # sends close_notify, and waits for the worker's

    def test_a_request_before_the_end_is_answered(self):
        with self.proxy.client() as plain:
            end = tls_support.Pipe(self.context, plain.socket, server_hostname="one.example").handshake()
            end.tls.write(b"GET /page.txt HTTP/1.1\r\nHost: a\r\n\r\n")
            with contextlib.suppress(ssl.SSLWantReadError):
                end.tls.unwrap()
            end.flush()
            plain.socket.shutdown(socket.SHUT_WR)
            received = b""
            while data := plain.socket.recv(65536):
                received += data
            end.incoming.write(received)
            self.assertTrue(end.tls.read(100).startswith(b"HTTP/1.1 200 "))

    def test_http2_alone_is_refused_and_without_alpn_it_is_http1(self):
        with self.assertRaises(ssl.SSLError):
            self.connect(self.proxy, tls_support.client_context(protocols=["h2"]))
        client = self.connect(self.proxy, tls_support.client_context(protocols=["h2", "http/1.1"]))
        self.assertEqual(client.socket.selected_alpn_protocol(), "http/1.1")
        client = self.connect(self.proxy, tls_support.client_context())
        self.assertEqual(client.ask("/page.txt").status, 200)

    def test_no_session_is_resumed(self):
        client = self.connect(self.proxy)
        client.ask("/page.txt")
        self.assertFalse(client.socket.session is not None and client.socket.session.has_ticket)
        self.assertFalse(client.socket.session_reused)

    def test_the_hello_byte_by_byte_and_in_records(self):
        def one_by_one(connection, data):
            for byte in data:
                connection.send(bytes([byte]))

        def split(connection, data):
            connection.sendall(tls_support.in_records(data, 50))
        for change in (one_by_one, split):
            with self.proxy.client() as plain:
                plain.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end = tls_support.Pipe(self.context, plain.socket, change=change, server_hostname="one.example")
                end.handshake()
                end.run(end.tls.write, b"GET /page.txt HTTP/1.0\r\n\r\n")
                self.assertTrue(end.run(end.tls.read, 1000).startswith(b"HTTP/1.1 200 "))

    def test_a_slow_reader_gets_all(self):
        with socket.socket() as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            plain.connect(("127.0.0.1", self.proxy.port))
            with self.context.wrap_socket(plain, server_hostname="one.example") as client:
                client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\nRange: bytes=0-4999999\r\n"
                               b"Connection: close\r\n\r\n")
                received = b""
                while data := client.recv(4096):
                    received += data
        self.assertEqual(received.split(b"\r\n\r\n", 1)[1], self.large.read_bytes()[:5000000])

    def test_clients_that_leave_in_an_answer_leave_nothing_behind(self):
        worker = self.proxy.worker_pids()[0]
        self.connect(self.proxy).ask("/page.txt")
        before = len(os.listdir(f"/proc/{worker}/fd"))
        for reset in (False, True) * 4:
            client = TlsClient(self.proxy.port, self.context)
            client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read_head()
            if reset:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()
        harness.wait_until(lambda: len(os.listdir(f"/proc/{worker}/fd")) <= before, "descriptors are closed again")

    def test_requests_without_tls_have_the_same_workers(self):
        port = self.proxy.addresses("listening")[1][1]
        self.assertEqual(self.proxy.ask("/page.txt", port=port).body, b"page " * 100)


@unittest.skipUnless(HAS_TLS, "ferry-worker has no TLS")
class Counting(TlsCase):
    """Each test has a proxy of its own, because clients of others may still be counted."""

    def start_counting(self):
        proxy = self.start_tls(worker=("--head-timeout", "600"))
        proxy.put("page.txt", b"page")
        proxy.wait_until_ready(1)
        return proxy

    def test_a_truncated_client_is_told_from_one_that_has_ended(self):
        proxy = self.start_counting()

        def truncated():
            return proxy.metric('ferry_service_tls_truncated_total{service="www"}')
        client = self.connect(proxy)
        client.ask("/page.txt")
        client.socket.unwrap()  # the worker has answered the close_notify
        self.assertEqual(truncated(), 0)
        client = self.connect(proxy)
        client.send("GET /page.txt HT")
        port = client.socket.getsockname()[1]
        os.close(client.socket.detach())  # the end of TCP alone
        harness.wait_until(lambda: truncated() == 1, "the truncation is counted")
        proxy.wait_for(rf"127\.0\.0\.1:{port}: the client ended in a request, without a close_notify")

    def test_a_whole_request_before_a_truncation_is_answered(self):
        proxy = self.start_counting()
        for i in range(20):
            client = self.connect(proxy)
            client.send("GET /page.txt HTTP/1.1\r\nHost: one.example\r\nConnection: close\r\n\r\n")
            with socket.socket(fileno=os.dup(client.socket.fileno())) as plain:
                plain.shutdown(socket.SHUT_WR)
            self.assertEqual(client.read_answer().status, 200, i)
        self.assertNotIn("ended in a request", proxy.text())

    def test_garbage_behind_the_hello_fails_the_handshake(self):
        proxy = self.start_counting()
        for garbage in (b"\x16\x03\x03\0\x10" + bytes(16), b"GET / HTTP/1.1\r\n\r\n" * 10, os.urandom(3000), b""):
            with proxy.client() as client:
                client.send(tls_support.client_hello("one.example") + garbage)
                client.socket.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    client.at_end()
        harness.wait_until(lambda: proxy.metric('ferry_service_tls_failed_total{service="www"}') == 4,
                           "failed handshakes are counted")
        proxy.wait_for("the TLS handshake failed: ", 4)
        self.assertEqual(self.connect(proxy).ask("/page.txt").status, 200)

    def test_answers_and_connections_are_counted(self):
        proxy = self.start_counting()
        for _ in range(2):
            self.assertEqual(self.connect(proxy).ask("/page.txt").status, 200)

        def counts():
            text = proxy.admin("/-/metrics").body.decode()
            handshakes = re.findall(r'^ferry_service_tls_connections_total{service="www",by="\w+"} (\d+)$', text, re.M)
            return 'ferry_service_answers_total{service="www",code="200"} 2\n' in text, sum(map(int, handshakes))
        harness.wait_until(lambda: counts() == (True, 2), "both are counted")
        by = "kernel" if kernel_has_tls() else "openssl"
        self.assertEqual(proxy.metric(f'ferry_service_tls_connections_total{{service="www",by="{by}"}}'), 2)
        proxy.wait_for(f"TLS: (the )?{by} encrypts".replace("openssl", "OpenSSL"))
        self.assertIn(b"<dt>TLS by ", proxy.admin("/-/status").body)


@unittest.skipUnless(HAS_TLS, "ferry-worker has no TLS")
class Ending(TlsCase):
    """Ends, timeouts and deaths: each test has programs of its own."""

    def start_small(self, *worker, **options):
        """The last of equal options counts."""
        proxy = self.start_tls(worker=("--idle-timeout", "600", "--head-timeout", "600", *worker), **options)
        proxy.put("page.txt", b"page")
        proxy.put("large", bytes(20 << 20))
        proxy.wait_until_ready(options.get("workers", 1))
        return proxy

    def connect_in_time(self, proxy, *requests):
        """A client whose requests were answered, although the worker's timeouts are short: another one, if the machine was
        too slow for the last."""
        def attempt():
            with contextlib.suppress(OSError, AssertionError):
                client = self.connect(proxy)
                for request in requests:
                    client.send(f"GET {request} HTTP/1.1\r\nHost: a\r\n\r\n")
                    client.read_head()
                return client
            return None
        return harness.wait_until(attempt, "a client is in time")

    def read_large(self, client):
        client.read_head()
        received = len(client.input)
        while data := client.socket.recv(1 << 18):
            received += len(data)
        return received

    def test_an_answer_is_finished_after_sigterm(self):
        proxy = self.start_small()
        client = self.connect(proxy)
        client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        idle = self.connect(proxy)
        self.assertEqual(idle.ask("/page.txt").status, 200)
        harness.wait_until(lambda: client.read_more(), "the answer begins")
        proxy.signal(signal.SIGTERM)
        self.assertTrue(idle.at_end())  # by a close_notify
        self.assertEqual(self.read_large(client), 20 << 20)
        self.assertEqual(proxy.wait_for_end(proxy.pid), 0)

    def test_a_replaced_worker_serves_its_connections_to_the_end(self):
        proxy = self.start_small()
        old = proxy.worker_pids()
        client = self.connect(proxy)
        self.assertEqual(client.ask("/page.txt").status, 200)
        proxy.signal(signal.SIGHUP)
        proxy.wait_until_ready(2)
        self.assertEqual(self.connect(proxy).ask("/page.txt").status, 200)

        def last():
            answer = client.ask("/page.txt")
            self.assertEqual(answer.body, b"page")
            return answer.fields["connection"] == "close"
        harness.wait_until(last, "the last answer")
        self.assertTrue(client.at_end())
        harness.wait_until(lambda: old[0] not in proxy.worker_pids(), "the old worker ends")

    def test_a_killed_worker_loses_nothing_that_was_unclaimed(self):
        proxy = self.start_small()
        for total in (5, 10, 15):
            [worker] = proxy.worker_pids()
            os.kill(worker, signal.SIGSTOP)
            clients = [proxy.client() for _ in range(5)]
            pipes = []
            for client in clients:
                self.addCleanup(client.socket.close)
                pipes.append(tls_support.Pipe(self.context, client.socket, server_hostname="one.example"))
                with contextlib.suppress(ssl.SSLWantReadError):
                    pipes[-1].tls.do_handshake()
                pipes[-1].flush()
            harness.wait_until(lambda: proxy.metric("ferry_proxy_tls_clients_total ") == total,  # noqa: B023
                               "the proxy has routed them")
            os.kill(worker, signal.SIGKILL)
            for pipe in pipes:
                pipe.handshake()
                pipe.run(pipe.tls.write, b"GET /page.txt HTTP/1.0\r\n\r\n")
                answer = pipe.run(pipe.tls.read, 1000)
                self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)

    def test_an_idle_connection_is_closed_by_a_close_notify(self):
        proxy = self.start_small("--idle-timeout", "1")
        for client in (self.connect_in_time(proxy, "/none"), self.connect_in_time(proxy)):
            self.assertTrue(client.at_end())  # an error without close_notify

    def test_a_reader_that_stands_still_is_dropped_without_a_close_notify(self):
        proxy = self.start_small("--idle-timeout", "1")
        client = self.connect_in_time(proxy, "/large")
        [worker] = proxy.worker_pids()
        harness.wait_until(lambda: f"{proxy.root}/large" not in harness.open_files(worker).values(),
                           "the worker has given up")
        with self.assertRaises(OSError):
            while client.read_more():
                pass

    def test_a_slow_handshake_and_a_slow_head_end(self):
        proxy = self.start_small("--head-timeout", "1")
        with proxy.client() as client:
            client.send(tls_support.client_hello("one.example"))
            with contextlib.suppress(ConnectionResetError):
                client.at_end()
        proxy.wait_for("the TLS handshake failed: it took too long")
        client = self.connect_in_time(proxy)
        client.send("GET /page.txt HT")
        self.assertEqual(client.read_answer().status, 408)

    def test_a_file_that_is_cut_ends_the_answer(self):
        proxy = self.start_small()
        client = self.connect(proxy)
        client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read_head()
        os.truncate(proxy.root / "large", 1000)
        with self.assertRaises(OSError):
            while client.read_more():
                pass
        self.assertEqual(self.connect(proxy).ask("/page.txt").status, 200)


@unittest.skipUnless(HAS_TLS, "ferry-worker has no TLS")
class Certificates(TlsCase):
    def start_worker(self, proxy, certificate, key, *options, prefix=()):
        worker = harness.Child(proxy.directory, "ferry-worker", "--socket", proxy.directory / "www.sock", "--root",
                               proxy.root, "--tls-certificate", certificate, "--tls-key", key, *options,
                               prefix=prefix)
        self.addCleanup(worker.stop)
        return worker

    def start_guest_proxy(self):
        return self.start(config="listen 127.0.0.1:0 tls-passthrough\nservice www socket={directory}/www.sock\n")

    def serial(self, proxy, *certificates):
        context = tls_support.client_context(*certificates)
        with contextlib.closing(TlsClient(proxy.port, context).socket) as end:
            return end.getpeercert()["serialNumber"]

    def test_sighup_reads_the_certificate_anew(self):
        proxy = self.start_guest_proxy()
        certificate, key = tls_support.make_certificate(proxy.directory, "one", "one.example")
        worker = self.start_worker(proxy, certificate, key)
        proxy.wait_for(r"\) is connected")
        first = self.serial(proxy, certificate)
        kept = self.connect_to(proxy, certificate)
        self.assertEqual(kept.ask("/").status, 200)
        fresh, fresh_key = tls_support.make_certificate(proxy.directory, "fresh", "one.example")
        # The key alone: the pair does not fit, and the former one stays.
        os.replace(fresh_key, key)
        worker.process.send_signal(signal.SIGHUP)
        worker.wait_for("the certificate and the key stay as they were")
        self.assertIn(f"--tls-key {key}: it is not the key of the first certificate in --tls-certificate",
                      worker.text())
        self.assertEqual(self.serial(proxy, certificate), first)
        os.mkfifo(f"{key}.fifo")
        os.replace(key, fresh_key)
        os.replace(f"{key}.fifo", key)
        worker.process.send_signal(signal.SIGHUP)
        worker.wait_for(f"--tls-key {key}: it is not a regular file")
        os.replace(fresh_key, key)
        os.replace(fresh, certificate)
        worker.process.send_signal(signal.SIGHUP)
        worker.wait_for("the certificate and the key are read anew")
        self.assertNotEqual(self.serial(proxy, certificate), first)
        self.assertEqual(kept.ask("/").status, 200)

    def connect_to(self, proxy, certificate):
        client = TlsClient(proxy.port, tls_support.client_context(certificate))
        self.addCleanup(client.socket.close)
        return client

    def test_two_services_have_certificates_of_their_own(self):
        proxy = self.start(config="""
            listen 127.0.0.1:0 tls-passthrough
            service www socket={directory}/www.sock
            service app socket={directory}/app.sock
            route server-name=one.example www
            route server-name=*.two.example app
        """, prepare=("app",))
        (proxy.directory / "app/index.html").write_bytes(b"app")
        pairs = [tls_support.make_certificate(proxy.directory, name, names)
                 for name, names in (("one", "one.example"), ("two", "a.two.example"))]
        self.start_worker(proxy, *pairs[0])
        self.start_worker(proxy, *pairs[1], "--socket", proxy.directory / "app.sock", "--root",
                          proxy.directory / "app")
        proxy.wait_for(r"\) is connected", 2)
        for name, (certificate, _), body in (("one.example", pairs[0], b"hello"), ("a.two.example", pairs[1], b"app")):
            client = TlsClient(proxy.port, tls_support.client_context(certificate), name)
            self.addCleanup(client.socket.close)
            for _ in range(3):  # with several services it is kept all the same
                answer = client.ask("/")
                self.assertEqual((answer.body, answer.fields["connection"]), (body, "keep-alive"))

    def test_workers_of_the_proxy_have_the_certificate_of_their_service(self):
        directory = self.enterContext(contextlib.closing(Temporary())).path
        pairs = [tls_support.make_certificate(directory, name, names)
                 for name, names in (("one", "one.example"), ("two", "two.example"))]
        proxy = self.start(config=f"""
            listen 127.0.0.1:0 tls-passthrough
            service www root={{root}} workers=1 tls-certificate={pairs[0][0]} tls-key={pairs[0][1]}
            service app root={{directory}}/app workers=1 tls-certificate={pairs[1][0]} tls-key={pairs[1][1]}
            route server-name=one.example www
            tls-default app
        """, prepare=("app",))
        proxy.wait_until_ready(2)
        for name, (certificate, _) in zip(("one.example", "two.example"), pairs):
            client = TlsClient(proxy.port, tls_support.client_context(certificate), name)
            self.addCleanup(client.socket.close)
            self.assertEqual(client.ask("/").status, 200 if name == "one.example" else 403)

    def test_connections_that_cannot_go_back_make_room(self):
        proxy = self.start_guest_proxy()
        certificate, key = tls_support.make_certificate(proxy.directory, "one", "one.example")
        self.start_worker(proxy, certificate, key, "--idle-timeout", "600", prefix=("prlimit", "--nofile=40"))
        proxy.wait_for(r"\) is connected")
        credits = int(proxy.metric("ferry_service_credits"))
        self.assertLess(credits, 20)
        clients = []
        for _ in range(2 * credits):
            clients.append(self.connect_to(proxy, certificate))
            self.assertEqual(clients[-1].ask("/").status, 200)
        # Those that were idle when the last credit went have ended, each by a close_notify.
        self.assertTrue(clients[0].at_end())

    def test_a_worker_without_a_certificate_closes_tls_clients(self):
        proxy = self.start(config="listen 127.0.0.1:0 tls-passthrough\nservice www root={root}\n")
        proxy.wait_until_ready(2)
        with proxy.client() as client:
            client.send(tls_support.client_hello("one.example"))
            with contextlib.suppress(ConnectionResetError):
                client.at_end()
            self.assertEqual(client.input, b"")
        proxy.wait_for("a TLS client, and there is no --tls-certificate")

    def test_other_clients(self):
        proxy = self.start_tls()
        proxy.put("page.txt", b"page " * 5000)
        proxy.wait_until_ready(1)
        to = f"one.example:{proxy.port}:127.0.0.1"
        for version in ("--tlsv1.3", "--tls-max 1.2"):
            done = subprocess.run(["curl", "-sS", *version.split(), "--cacert", self.certificate, "--resolve", to,
                                   f"https://one.example:{proxy.port}/page.txt"], capture_output=True,
                                  check=True, timeout=harness.DEADLINE)
            self.assertEqual(done.stdout, b"page " * 5000)
        done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port}", "-servername", "one.example",
                               "-CAfile", self.certificate, "-verify_return_error", "-quiet", "-ign_eof"],
                              input=b"GET /page.txt HTTP/1.0\r\n\r\n", capture_output=True, check=True,
                              timeout=harness.DEADLINE)
        self.assertTrue(done.stdout.endswith(b"page " * 5000))
        self.assertNotIn(b"unexpected eof", done.stderr)


@unittest.skipUnless(HAS_TLS, "ferry-worker has no TLS")
class Refusals(unittest.TestCase):
    """Errors of certificate and key at the start of a worker."""

    def setUp(self):
        self.directory = self.enterContext(contextlib.closing(Temporary())).path
        self.certificate, self.key = tls_support.make_certificate(self.directory, "one")

    def refused(self, certificate, key, prefix=()):
        done = subprocess.run([*prefix, WORKER, "--socket", self.directory / "no", "--tls-certificate", certificate,
                               "--tls-key", key], cwd=self.directory, capture_output=True, text=True, check=False,
                              timeout=harness.DEADLINE)
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr

    def test_each_error_has_the_option_and_the_path(self):
        _, other = tls_support.make_certificate(self.directory, "other")
        text = self.directory / "text"
        text.write_text("no certificate")
        self.assertIn(f"--tls-certificate {self.directory}/none: No such file or directory",
                      self.refused(self.directory / "none", self.key))
        self.assertIn("--tls-key", self.refused(self.certificate, self.directory / "none"))
        self.assertIn(f"--tls-certificate {text}: ", self.refused(text, self.key))
        self.assertIn(f"--tls-key {text}: ", self.refused(self.certificate, text))
        self.assertIn(f"--tls-key {other}: it is not the key of the first certificate",
                      self.refused(self.certificate, other))

    def test_a_check_opens_the_files_and_needs_no_proxy(self):
        check = [WORKER, "--check", "--access-log", self.directory / "log", "--tls-certificate", self.certificate]
        done = subprocess.run([*check, "--tls-key", self.key], cwd=self.directory, capture_output=True, text=True,
                              check=True, timeout=harness.DEADLINE)
        self.assertEqual((done.stdout, done.stderr), ("the options are valid\n", ""))
        self.assertFalse((self.directory / "log").exists())
        _, other = tls_support.make_certificate(self.directory, "other")
        done = subprocess.run([*check, "--tls-key", other], cwd=self.directory, capture_output=True, text=True,
                              check=False, timeout=harness.DEADLINE)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("it is not the key of the first certificate", done.stderr)

    def test_a_key_that_may_not_be_read(self):
        self.key.chmod(0)
        if os.geteuid() == 0:
            self.certificate.chmod(0o644)
            self.directory.chmod(0o755)
            prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
            if shutil.which(prefix[0]) is None or subprocess.run(
                    [*prefix, "test", "-x", WORKER], check=False).returncode != 0:
                self.skipTest("no other user that may run the worker")
        else:
            prefix = ()
        self.assertIn(f"--tls-key {self.key}: Permission denied", self.refused(self.certificate, self.key, prefix))

    def test_a_key_with_a_passphrase_is_not_asked_for(self):
        locked = self.directory / "locked"
        subprocess.run(["openssl", "pkey", "-in", self.key, "-aes256", "-passout", "pass:x", "-out", locked],
                       check=True, capture_output=True, timeout=harness.DEADLINE)
        self.assertIn(f"--tls-key {locked}: it has a passphrase, and the worker cannot ask for one",
                      self.refused(self.certificate, locked))


class Usage(unittest.TestCase):
    def test_certificate_and_key_need_each_other(self):
        for option in ("--tls-certificate", "--tls-key"):
            done = subprocess.run([WORKER, "--socket", "/none", option, "x"], capture_output=True, text=True,
                                  check=False, timeout=harness.DEADLINE)
            self.assertEqual(done.returncode, 2)
            self.assertIn("--tls-certificate and --tls-key need each other", done.stderr)

    def test_only_the_worker_links_a_tls_library(self):
        """The library has none, in any build."""
        linked = {}
        for program in ("ferry-proxy", "ferry-worker", "ferry-copy"):
            found = subprocess.run(["ldd", harness.BIN / program], capture_output=True, text=True, check=True,
                                   timeout=harness.DEADLINE).stdout
            linked[program] = bool(re.search(r"lib(ssl|crypto|gnutls)", found))
            library = re.search(r"libferry\.so\S* => (.+) \(0x", found)
            if library:
                needed = subprocess.run(["ldd", library.group(1)], capture_output=True, text=True, check=True,
                                        timeout=harness.DEADLINE).stdout
                self.assertNotRegex(needed, r"lib(ssl|gnutls)")
        self.assertEqual(linked, {"ferry-proxy": False, "ferry-worker": HAS_TLS, "ferry-copy": False})


if __name__ == "__main__":
    tls_support.main()
