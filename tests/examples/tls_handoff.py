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


# Those of the kernel, by version.
CIPHERS = {
    "-tls1_2": ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"),
    "-tls1_3": ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"),
}


@unittest.skipUnless(shutil.which("openssl"), "openssl is not installed")
class TlsHandoff(ExampleCase):
    program = "tls_handoff"

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
            self.server = self.child(self.program, f"127.0.0.1:{self.port}", self.certificate, self.key, file)
            harness.wait_until(lambda: self.server.process.poll() is not None or listens_on(self.port), "the server")
            if "Address already in use" not in self.server.text():
                return

    def client(self, version=ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=self.certificate)
        context.options &= ~IGNORE_UNEXPECTED_EOF  # an end without close_notify is an error
        context.minimum_version = context.maximum_version = version
        plain = socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE)
        client = context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
        self.addCleanup(client.close)
        return client

    def test_a_file_arrives_and_ends_with_close_notify(self):
        if not kernel_has_tls():
            self.skipTest("this kernel has no TLS, or has not loaded it")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3) * 2:
            client, received = self.client(version), bytearray()
            client.sendall(b"the file, please")
            while block := client.recv(65536):
                received += block
            self.assertEqual(received, self.content)

    def test_each_cipher_of_the_kernel(self):
        if not kernel_has_tls():
            self.skipTest("this kernel has no TLS, or has not loaded it")
        for version, ciphers in CIPHERS.items():
            for cipher in ciphers:
                with self.subTest(cipher=cipher):
                    option = "-cipher" if version == "-tls1_2" else "-ciphersuites"
                    done = subprocess.run(["openssl", "s_client", "-quiet", version, option, cipher, "-CAfile",
                                           self.certificate, "-connect", f"127.0.0.1:{self.port}"], input=b"\n",
                                          capture_output=True, check=True, timeout=harness.DEADLINE)
                    self.assertEqual(done.stdout, self.content)
                    self.assertNotIn(b"unexpected eof", done.stderr)

    def test_a_client_gets_nothing_if_the_kernel_has_no_keys(self):
        if kernel_has_tls():
            self.skipTest("this kernel has TLS")
        with self.assertRaises((ssl.SSLError, ConnectionResetError)):
            self.client().recv(1)
        harness.wait_until(lambda: "Protocol wrong type" in self.server.text(), "the reason")


if __name__ == "__main__":
    unittest.main()
