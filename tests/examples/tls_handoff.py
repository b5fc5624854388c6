"""tls_handoff: a file over TLS, from a worker without a TLS library, beside the client of Python's ssl."""

import os
import shutil
import socket
import ssl
import subprocess
import unittest

import harness
from example import ExampleCase, free_port, listens_on

TCP_ULP = 31
IGNORE_UNEXPECTED_EOF = 1 << 7  # of OpenSSL 3; not in the module of each version


def kernel_has_tls():
    with socket.create_server(("127.0.0.1", 0)) as server, \
            socket.create_connection(server.getsockname()) as peer:
        try:
            peer.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        except OSError:
            return False
        return True


@unittest.skipUnless(shutil.which("openssl"), "openssl is not installed")
class TlsHandoff(ExampleCase):

    def setUp(self):
        super().setUp()
        self.certificate, self.key = self.directory / "certificate", self.directory / "key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
                        "-keyout", self.key, "-out", self.certificate], check=True, capture_output=True)
        self.content = os.urandom(1000000)
        self.start(self.file("content", self.content))

    def start(self, file):
        while True:
            self.port = free_port()
            self.server = self.child("tls_handoff", f"127.0.0.1:{self.port}", self.certificate, self.key, file)
            harness.wait_until(lambda: self.server.process.poll() is not None or listens_on(self.port), "the server")
            if "Address already in use" not in self.server.text():
                return

    def client(self):
        context = ssl.create_default_context(cafile=self.certificate)
        context.options &= ~IGNORE_UNEXPECTED_EOF  # an end without close_notify is an error
        plain = socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE)
        client = context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
        self.addCleanup(client.close)
        return client

    def test_a_file_arrives_and_ends_with_close_notify(self):
        if not kernel_has_tls():
            self.skipTest("this kernel has no TLS, or has not loaded it")
        for _ in range(2):
            client, received = self.client(), bytearray()
            while block := client.recv(65536):
                received += block
            self.assertEqual(received, self.content)

    def test_a_client_gets_nothing_if_the_kernel_has_no_keys(self):
        if kernel_has_tls():
            self.skipTest("this kernel has TLS")
        with self.assertRaises(ssl.SSLError):
            self.client().recv(1)
        harness.wait_until(lambda: "Protocol wrong type" in self.server.text(), "the reason")


if __name__ == "__main__":
    unittest.main()
