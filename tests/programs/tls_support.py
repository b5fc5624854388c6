"""TLS for the tests of the programs: certificates made with the openssl command, clients of Python's ssl module whose
bytes a test may cut and change, and a worker in plain Python that does the handshake with the bytes of the handoff.
"""

import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import unittest

import harness

sys.path.insert(0, os.fspath(pathlib.Path(os.environ["FERRY_SOURCE"]) / "examples/python"))
import worker  # noqa: E402


def make_certificate(directory, name, *names):
    """A key, and a certificate that it has signed itself for DNS names. Returns the paths of both."""
    key, certificate = directory / f"{name}.key", directory / f"{name}.pem"
    alternatives = ",".join(f"DNS:{entry}" for entry in names or (name,))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-subj", f"/CN={name}", "-addext", f"subjectAltName={alternatives}", "-days", "30",
                    "-keyout", key, "-out", certificate],
                   stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=harness.DEADLINE)
    return certificate, key


def client_context(*certificates, protocols=()):
    """Trusts these certificates; without one, any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = bool(certificates)
    context.verify_mode = ssl.CERT_REQUIRED if certificates else ssl.CERT_NONE
    for certificate in certificates:
        context.load_verify_locations(certificate)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def client_hello(name=None, context=None):
    """The first bytes of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = (context or client_context()).wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def in_records(hello, size):
    """A ClientHello of one record as records of `size` bytes."""
    message = hello[5:]
    return b"".join(hello[:3] + len(piece).to_bytes(2, "big") + piece
                    for piece in (message[at:at + size] for at in range(0, len(message), size)))


class Pipe:
    """An end of TLS over a socket, through memory: the test may change what is sent first, and both sides can be
    driven with bytes that came otherwise."""

    def __init__(self, context, connection, data=b"", change=None, **options):
        self.socket, self.change = connection, change
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **options)
        self.incoming.write(data)

    def flush(self):
        data = self.outgoing.read()
        if data and self.change:
            self.change, change = None, self.change
            change(self.socket, data)
        elif data:
            self.socket.sendall(data)

    def run(self, call, *arguments):
        while True:
            try:
                result = call(*arguments)
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = self.socket.recv(65536)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()

    def handshake(self):
        self.run(self.tls.do_handshake)
        return self


class TlsWorker(worker.Worker):
    """Answers each client with one line: its own name, the server name and the protocol that the client asked for."""

    def __init__(self, path, name, certificate, key):
        end = socket.socket(socket.AF_UNIX)
        end.connect(os.fspath(path))
        self.name, self.asked, self.hellos = name, None, []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.context.sni_callback = self.asks
        super().__init__(end)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def asks(self, _, name, __):
        self.asked = name

    def take(self, payload, fds):
        fixed = worker.FIXED.unpack_from(payload)
        number, length = fixed[0], fixed[8]
        hello = payload[len(payload) - length:]
        self.channel.send(worker.CLAIM, worker.ANSWER.pack(number, self.epoch, 0, 0))
        self.hellos.append(hello)
        with socket.socket(fileno=fds.pop()) as client:
            client.settimeout(harness.DEADLINE)
            try:
                end = Pipe(self.context, client, hello, server_side=True).handshake()
                end.run(end.tls.write, f"{self.name} {self.asked} {end.tls.selected_alpn_protocol()}\n".encode())
            except OSError:
                pass
        self.channel.send(worker.DONE, worker.ANSWER.pack(number, self.epoch, 0, 0))

    def join(self):
        """Its channel has ended."""
        self.thread.join(harness.DEADLINE)


def main():
    """Runs the cases of the program. The exit status is 77 if one was skipped, or if there is no openssl."""
    if shutil.which("openssl") is None:
        print("no openssl")
        sys.exit(77)
    program = unittest.main(exit=False)
    if not program.result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if program.result.skipped else 0)
