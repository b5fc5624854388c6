"""ferry-proxy in front of TLS workers: a client's ClientHello has the route, and nothing else of the client is read.
The workers of these tests are in plain Python, and do the handshake with the bytes of the handoff.
"""

import shutil
import socket
import ssl
import sys
import unittest

import tls_support
from supervised import Case, harness

TWO = """
    listen 127.0.0.1:0 tls-passthrough
    listen 127.0.0.1:0 tls-passthrough proxy-protocol from=127.0.0.0/8
    listen 127.0.0.1:0
    service one socket={directory}/one.sock
    service two socket={directory}/two.sock
    service nobody socket={directory}/nobody.sock
    route server-name=one.example one
    route server-name=*.two.example two
    route server-name=both.example alpn=h2 one
    route server-name=both.example alpn=http/1.1 two
    route server-name=nobody.example nobody
"""


class Passthrough(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        case = cls()
        cls.addClassCleanup(case.doCleanups)
        cls.proxy = case.start("--queue-timeout", "200", config=TWO)
        cls.certificates, cls.workers = {}, {}
        for name, names in (("one", ("one.example", "both.example")), ("two", ("a.two.example", "both.example"))):
            cls.certificates[name], key = tls_support.make_certificate(cls.proxy.directory, name, *names)
            worker = tls_support.TlsWorker(cls.proxy.directory / f"{name}.sock", name, cls.certificates[name], key)
            cls.workers[name] = worker
            cls.addClassCleanup(worker.join)  # cleanups run in the reverse order
        # The workers end with their channels, which end with the proxy.
        cls.addClassCleanup(cls.end_channels)
        cls.proxy.wait_for(r"\) is connected", 2)

    @classmethod
    def end_channels(cls):
        for worker in cls.workers.values():
            worker.channel.socket.shutdown(socket.SHUT_RDWR)

    def connect(self, listener=0):
        client = self.proxy.client(self.proxy.addresses("listening")[listener][1])
        self.addCleanup(client.socket.close)
        return client.socket

    def ask(self, name, *protocols, first=b"", change=None, listener=0):
        context = tls_support.client_context(*self.certificates.values(), protocols=protocols)
        connection = self.connect(listener)
        connection.sendall(first)
        end = tls_support.Pipe(context, connection, change=change, server_hostname=name).handshake()
        return end.run(end.tls.read, 1000).decode()

    def refusals(self, reason):
        return self.proxy.metric(f'ferry_proxy_refusals_total{{reason="{reason}"}}')

    def received(self, data, listener=0):
        """All that comes for these bytes."""
        connection = self.connect(listener)
        connection.sendall(data)
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer

    def check_alert(self, reason, name, *protocols):
        context = tls_support.client_context(protocols=protocols)
        with self.assertRaises(ssl.SSLError) as raised:
            tls_support.Pipe(context, self.connect(), server_hostname=name).handshake()
        self.assertEqual(raised.exception.reason, reason)

    # ---- routes ----

    def test_the_server_name_decides(self):
        self.assertEqual(self.ask("one.example"), "one one.example None\n")
        self.assertEqual(self.ask("ONE.example"), "one ONE.example None\n")
        self.assertEqual(self.ask("a.two.example"), "two a.two.example None\n")

    def test_the_protocol_decides(self):
        self.assertEqual(self.ask("both.example", "h2", "http/1.1"), "one both.example h2\n")
        self.assertEqual(self.ask("both.example", "http/1.1"), "two both.example http/1.1\n")

    def test_a_routed_client_is_counted(self):
        before = self.proxy.metric("ferry_proxy_tls_clients_total ")
        self.ask("one.example")
        self.assertEqual(self.proxy.metric("ferry_proxy_tls_clients_total "), before + 1)
        self.assertIn(b"<dt>TLS clients</dt>", self.proxy.admin("/-/status").body)

    def test_the_hello_may_come_byte_by_byte(self):
        def one_by_one(connection, data):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in data:
                connection.send(bytes([byte]))
        self.assertEqual(self.ask("one.example", change=one_by_one), "one one.example None\n")

    def test_the_hello_may_have_several_records(self):
        def split(connection, data):
            connection.sendall(tls_support.in_records(data, 37))
        self.assertEqual(self.ask("one.example", change=split), "one one.example None\n")
        self.assertGreater(self.workers["one"].hellos[-1].count(b"\x16\x03\x01\0\x25"), 5)

    def test_the_worker_gets_the_bytes_that_the_client_has_sent(self):
        sent = []

        def remember(connection, data):
            sent.append(data)
            connection.sendall(data)
        self.ask("one.example", change=remember)
        self.assertEqual(self.workers["one"].hellos[-1], sent[0])

    def test_a_proxy_header_precedes_the_hello(self):
        header = b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n"
        self.assertEqual(self.ask("one.example", first=header, listener=1), "one one.example None\n")
        before = self.refusals("bad_proxy_header")
        self.assertEqual(self.received(tls_support.client_hello("one.example"), listener=1), b"")
        self.assertEqual(self.refusals("bad_proxy_header"), before + 1)

    # ---- refusals ----

    def test_an_unknown_name_gets_an_alert(self):
        before = self.refusals("no_tls_route")
        self.check_alert("TLSV1_UNRECOGNIZED_NAME", "unknown.example")
        self.check_alert("TLSV1_UNRECOGNIZED_NAME", None)
        hello = tls_support.client_hello("both.example", tls_support.client_context(protocols=["h3"]))
        self.assertEqual(self.received(hello), bytes([21, 3, 3, 0, 2, 2, 120]))  # no_application_protocol
        self.assertEqual(self.refusals("no_tls_route"), before + 3)
        self.proxy.wait_for(r"127\.0\.0\.1:\d+: no route for the server name 'unknown\.example'")

    def test_without_a_worker_the_client_gets_an_alert(self):
        before = self.refusals("expired")
        self.check_alert("TLSV1_ALERT_INTERNAL_ERROR", "nobody.example")
        self.assertEqual(self.refusals("expired"), before + 1)

    def test_http_without_tls_is_answered_400(self):
        before = self.refusals("bad_client_hello")
        answer = self.received(b"GET / HTTP/1.1\r\nHost: one.example\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
        self.assertIn(b"this address is for TLS", answer)
        self.assertEqual(self.refusals("bad_client_hello"), before + 1)

    def test_tls_without_passthrough_is_a_bad_request(self):
        answer = self.received(tls_support.client_hello("one.example"), listener=2)
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)

    def test_what_begins_like_tls_and_is_malformed_gets_an_alert(self):
        hello = tls_support.client_hello("one.example")
        alert = bytes([21, 3, 3, 0, 2, 2, 50])
        before = self.refusals("bad_client_hello")
        for data in (b"\x16\x03\x01\0\x05\x02\0\0\x01\0", hello[:5] + b"\x0b" + hello[6:],
                     b"\x16\x03\x01\x40\0\x01\0\x40\0", b"\x16\x03\x03" + bytes(range(100, 255))):
            with self.subTest(data[:9]):
                self.assertEqual(self.received(data), alert)
        self.assertEqual(self.refusals("bad_client_hello"), before + 4)

    def test_a_client_that_ends_early_is_gone(self):
        hello = tls_support.client_hello("one.example")
        before = self.proxy.metric("ferry_proxy_clients_gone_total ")
        for length in (0, 1, 5, 6, len(hello) - 1):
            connection = self.connect()
            connection.sendall(hello[:length])
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(connection.recv(100), b"")
        self.assertEqual(self.proxy.metric("ferry_proxy_clients_gone_total "), before + 5)


class Slow(Case):
    def test_a_hello_that_does_not_come_is_closed_without_an_answer(self):
        proxy = self.start(config="""
            listen 127.0.0.1:0 tls-passthrough
            service one socket={directory}/one.sock
            head-timeout 1
        """)
        hello = tls_support.client_hello("one.example")
        for length in (0, 1, len(hello) - 1):
            with proxy.client() as client:
                client.send(hello[:length])
                self.assertTrue(client.at_end())
                self.assertEqual(client.input, b"")
        self.assertEqual(proxy.metric('ferry_proxy_refusals_total{reason="too_slow"}'), 3)


if __name__ == "__main__":
    if shutil.which("openssl") is None:
        print("no openssl")
        sys.exit(77)
    unittest.main()
