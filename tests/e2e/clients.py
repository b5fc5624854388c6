"""Clients of the fleet. Each connection has an IPv4 address of its own, and each request a number of its own in its
query: the logs of all machines can be joined. No client repeats a request."""

import dataclasses
import itertools
import random
import socket
import threading
import time

import machines
from machines import harness

# (Host, path, the start of the body): one site must never answer for another.
PAGES = (("www.example.org", "/page", b"the page of www"),
         ("media.example.org", "/page", b"the page of media"),
         ("www.example.org", "/media/page", b"the media page of www"),
         ("www.example.org", "/large", b"large file of www"))
LARGE = 200_000
DOWNLOAD = 32 * 1024 * 1024
PATTERN = random.Random(1).randbytes(1024 * 1024 - 1)


def contents():
    """The files in /srv."""
    return {"/srv/www/page": b"the page of www",
            "/srv/media/page": b"the page of media",
            "/srv/media/media/page": b"the media page of www",
            "/srv/www/large": b"large file of www".ljust(LARGE, b"."),
            "/srv/media/download": (PATTERN * 33)[:DOWNLOAD]}


@dataclasses.dataclass
class Request:
    number: int
    address: str
    error: str = ""  # empty: it was answered, with the right bytes


class Numbers:
    """Addresses for connections and numbers for requests; and a record of all requests."""

    def __init__(self):
        self.lock = threading.Lock()
        self.addresses = itertools.count(256)
        self.numbers = itertools.count(1)
        self.requests = []

    def address(self):
        with self.lock:
            number = next(self.addresses)
        return f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"

    def request(self, address):
        with self.lock:
            request = Request(next(self.numbers), address)
            self.requests.append(request)
        return request

    def failures(self):
        return [request for request in self.requests if request.error]


class Client(harness.Client):
    """A connection to the balancer."""

    def __init__(self, numbers, buffer=None):
        self.numbers = numbers
        self.address = numbers.address()
        self.input = b""
        self.socket = socket.socket()
        self.socket.settimeout(harness.DEADLINE)
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.bind((self.address, 0))
        self.socket.connect((machines.BALANCER, 80))

    def begin(self, host, path, close):
        request = self.numbers.request(self.address)
        self.send(f"GET {path}?n={request.number} HTTP/1.1\r\nHost: {host}\r\n"
                  f"{'Connection: close' + chr(13) + chr(10) if close else ''}\r\n")
        return request


class Load:
    """Clients in threads, until stop(). Half of them make a connection for each request; the others keep one for a
    number of requests, to all sites in turn."""

    def __init__(self, numbers, threads=6):
        self.numbers = numbers
        self.stopping = threading.Event()
        self.served = 0
        self.crashes = []
        self.threads = [threading.Thread(target=self.run, args=(index,), daemon=True) for index in range(threads)]
        for thread in self.threads:
            thread.start()

    def one_request(self, client, page, close):
        host, path, body = page
        request = client.begin(host, path, close)
        try:
            answer = client.read_answer()
            if answer.status != 200 or not answer.body.startswith(body) or \
                    len(answer.body) != (LARGE if path == "/large" else len(body)):
                request.error = f"answered {answer.status}, {answer.body[:100]}"
        except (OSError, AssertionError) as error:
            request.error = repr(error)
        if request.error:
            return False
        with self.numbers.lock:
            self.served += 1
        return answer.fields.get("connection") != "close"

    def connection(self, dice, keep):
        with Client(self.numbers) as client:
            for _ in range(dice.randrange(2, 30) if keep else 1):
                if not self.one_request(client, dice.choice(PAGES), not keep) or self.stopping.is_set():
                    return
                if keep:
                    time.sleep(dice.choice((0, 0, 0.001, 0.02)))

    def run(self, index):
        dice = random.Random(index)
        try:
            while not self.stopping.is_set():
                self.connection(dice, index % 2 == 1)
        except Exception as error:  # pylint: disable=broad-except
            self.crashes.append(repr(error))  # a connection to the balancer failed: not the fleet's fault, but a fault

    def wait_for_more(self, count=300):
        wanted = self.served + count
        harness.wait_until(lambda: self.served >= wanted or self.crashes, f"{count} more requests")
        assert not self.crashes, self.crashes

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


class Download(threading.Thread):
    """A client that reads a large file slowly, until it may hurry."""

    def __init__(self, numbers):
        super().__init__(daemon=True)
        self.client = Client(numbers, buffer=65536)
        self.hurry = threading.Event()
        self.received = 0
        self.request = self.client.begin("media.example.org", "/download", True)
        self.start()

    def read(self):
        answer = harness.Answer(self.client.read_head(), b"")
        assert answer.status == 200 and int(answer.fields["content-length"]) == DOWNLOAD, answer.status
        data = self.client.input
        while self.received < DOWNLOAD:
            at = self.received % len(PATTERN)
            assert (PATTERN + PATTERN)[at:at + len(data)] == data, f"a wrong byte after {self.received}"
            self.received += len(data)
            self.hurry.wait(0.05)
            if self.received < DOWNLOAD:
                data = self.client.socket.recv(16384)
                assert data, f"the end after {self.received} bytes"

    def run(self):
        try:
            self.read()
        except (OSError, AssertionError) as error:
            self.request.error = repr(error)
        self.client.socket.close()
