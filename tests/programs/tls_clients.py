"""Other programs as clients of ferry-proxy and of a ferry-worker under strace: 100 MiB to each, in both versions of TLS,
and 1 MiB to gnutls-cli, which writes each byte by a call. By sendfile(2) where the kernel has TLS; by OpenSSL elsewhere.
"""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import unittest

import tls_support
from supervised import Case, harness
from tls import HAS_TLS, TlsClient, kernel_has_tls

LARGE, SMALL = 100 << 20, 1 << 20
CUT_OFF = re.compile("unexpected eof|non-properly terminated|errno=|error:")


def request(name):
    return f"GET /{name} HTTP/1.1\r\nHost: one.example\r\nConnection: close\r\n\r\n".encode()


class Running:
    """A client whose request is sent. It ends with the connection, because its standard input does not end before."""

    def __init__(self, command, standard_input):
        self.messages = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.messages)
        self.timer = threading.Timer(harness.DEADLINE, self.process.kill)
        self.timer.start()
        self.process.stdin.write(standard_input)
        self.process.stdin.flush()

    def read_head(self):
        while (line := self.process.stdout.readline()) != b"\r\n":
            if not line:
                raise AssertionError(f"no answer: {self.end()}")

    def read_body(self):
        """Its length and its digest."""
        length, digest = 0, hashlib.sha256()
        while block := self.process.stdout.read(1 << 18):
            length += len(block)
            digest.update(block)
        return length, digest.hexdigest()

    def end(self):
        """Its exit status, and its messages."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        status = self.process.wait()
        self.process.stdout.close()
        self.timer.cancel()
        with self.messages:
            self.messages.seek(0)
            return status, self.messages.read().decode()


@unittest.skipUnless(HAS_TLS, "ferry-worker has no TLS")
@unittest.skipIf(harness.INSTRUMENTED, "LeakSanitizer does not work under strace")
@unittest.skipUnless(shutil.which("strace"), "no strace")
class Clients(Case):
    def setUp(self):
        self.proxy = self.start(config="""
            listen 127.0.0.1:0 tls-passthrough
            service www socket={directory}/www.sock
        """)
        self.certificate, self.key = tls_support.make_certificate(self.proxy.directory, "one", "one.example")
        mebibyte = os.urandom(1 << 20)
        self.digests = {}
        for name, size in (("large", LARGE), ("small", SMALL)):
            content = mebibyte * (size >> 20)
            self.proxy.put(name, content)
            self.digests[name] = (size, hashlib.sha256(content).hexdigest())
        self.trace = self.proxy.directory / "trace"

    def start_worker(self, prefix=()):
        return harness.Child(
            self.proxy.directory, "ferry-worker", "--socket", self.proxy.directory / "www.sock", "--root", self.proxy.root,
            "--tls-certificate", self.certificate, "--tls-key", self.key, "--idle-timeout", "600", "--head-timeout", "600",
            prefix=prefix)

    def start_traced_worker(self):
        worker = self.start_worker(("strace", "-D", "-f", "-qq", "-o", self.trace, "-e",
                                    r"trace=/^(sendfile|sendfile64|shutdown|close|epoll_p?wait)$"))
        self.addCleanup(worker.stop)
        self.proxy.wait_for(r"\) is connected")

    def commands(self):
        """Version and name of each client, the file that it gets, its command and its input."""
        port = self.proxy.port
        for version in ("1.2", "1.3"):
            yield version, "curl", "large", [
                "curl", "-isS", "-N", f"--tlsv{version}", "--tls-max", version, "--cacert", self.certificate,
                "--resolve", f"one.example:{port}:127.0.0.1", "-H", "Connection: close",
                f"https://one.example:{port}/large"], b""
            yield version, "openssl", "large", [
                "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "one.example", "-CAfile",
                self.certificate, "-verify_return_error", "-quiet", f"-tls{version.replace('.', '_')}"], request("large")
            if shutil.which("gnutls-cli"):
                yield version, "gnutls", "small", [
                    "gnutls-cli", "--logfile=/dev/stderr", "--port", str(port), "--sni-hostname=one.example",
                    "--verify-hostname=one.example", f"--x509cafile={self.certificate}",
                    f"--priority=NORMAL:-VERS-ALL:+VERS-TLS{version}", "127.0.0.1"], request("small")

    def sent_by_sendfile(self):
        """Bytes, by all calls so far."""
        return sum(map(int, re.findall(r"sendfile.* = (\d+)$", self.trace.read_text(), re.M)))

    def test_a_file_arrives_whole_and_each_client_sees_a_clean_end(self):
        self.start_traced_worker()
        for version, name, file, command, standard_input in self.commands():
            with self.subTest(client=name, version=version):
                before = self.sent_by_sendfile()
                client = Running(command, standard_input)
                client.read_head()
                self.assertEqual(client.read_body(), self.digests[file])
                status, messages = client.end()
                self.assertEqual(status, 0, messages)
                self.assertNotRegex(messages, CUT_OFF)
                self.assertEqual(self.sent_by_sendfile() - before, self.digests[file][0] if kernel_has_tls() else 0)

    def test_a_client_whose_worker_dies_in_the_answer_sees_no_clean_end(self):
        for version, name, file, command, standard_input in self.commands():
            if file == "small":
                continue  # the sockets may take it whole
            with self.subTest(client=name, version=version):
                worker = self.start_worker()
                self.addCleanup(worker.kill)
                client = Running(command, standard_input)
                client.read_head()
                worker.kill()
                length, _ = client.read_body()
                self.assertLess(length, LARGE)
                status, messages = client.end()
                self.assertTrue(status != 0 or CUT_OFF.search(messages), (status, messages))

    def test_a_connection_whose_client_has_the_last_answer_waits_for_nobody(self):
        """The worker closes it without a wait, although the client stays."""
        self.start_traced_worker()
        client = TlsClient(self.proxy.port, tls_support.client_context(self.certificate))
        self.addCleanup(client.socket.close)
        client.send("GET / HTTP/1.1\r\nHost: one.example\r\nConnection: close\r\n\r\n")
        self.assertEqual(client.read_answer().body, b"hello")
        self.assertTrue(client.at_end())
        closing = r"shutdown\((\d+), SHUT_WR\)(.*?)close\(\1\)"
        [found] = harness.wait_until(lambda: re.findall(closing, self.trace.read_text(), re.S), "the worker closes it")
        self.assertNotRegex(found[1], r"epoll_p?wait\(.*, -?[1-9]\d*(, NULL, 8)?\) +=")


if __name__ == "__main__":
    tls_support.main()
