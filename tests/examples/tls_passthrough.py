"""tls_passthrough: the same clients as those of tls_handoff, whose handshake the worker makes."""

import contextlib
import socket
import unittest

import harness
import tls_handoff


class TlsPassthrough(tls_handoff.TlsHandoff):
    program = "tls_passthrough"

    def test_the_dispatcher_reads_the_server_name(self):
        with contextlib.suppress(OSError):  # where the kernel has no TLS
            self.client()
        self.server.wait_for("localhost")

    def test_a_client_without_tls_is_refused(self):
        with socket.create_connection(("127.0.0.1", self.port), harness.DEADLINE) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with self.assertRaises(ConnectionResetError):
                client.recv(1)


if __name__ == "__main__":
    unittest.main()
