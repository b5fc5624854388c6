"""The system calls of ferry-proxy and ferry-worker for a connection with one request, and for each further request on it,
for gate.py. One client connects at a time: what a busy process does once for several connections counts fully. The head
is there when the proxy accepts.
"""

import collections
import os
import re
import signal
import socket
import subprocess
import tempfile
import time

# How often a process waits depends on the order of events.
NOT_COUNTED = {"epoll_wait", "epoll_pwait", "epoll_pwait2", "brk", "mmap", "munmap", "madvise"}
WARM = 5
CONNECTIONS = 40
FURTHER = 10  # requests
CALL = re.compile(r"^(\w+)\(")
BODY = b"x" * 1024


class Pair:
    """A proxy with one worker, both traced."""

    def __init__(self, programs, folder):
        self.folder = folder
        root = os.path.join(folder, "www")
        os.mkdir(root)
        with open(os.path.join(root, "file.txt"), "wb") as file:
            file.write(BODY)
        command = ["strace", "-ff", "-qq", "-o", os.path.join(folder, "trace"), "--",
                   os.path.join(programs, "ferry-proxy"), "--root", root, "--workers", "1", "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening "):
            raise RuntimeError(line + self.process.communicate()[1])
        self.address = ("127.0.0.1", int(line.rpartition(":")[2]))
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True)
        self.proxy = int(children.stdout.split()[0])

    def traces(self):
        """The lines of each process so far."""
        found = {}
        for name in sorted(os.listdir(self.folder)):
            if name.startswith("trace."):
                with open(os.path.join(self.folder, name), errors="replace") as file:
                    found[name] = file.read().splitlines()
        return found

    def connect(self, head):
        """Connects and sends the first head while the proxy is stopped: it is there when the proxy accepts."""
        os.kill(self.proxy, signal.SIGSTOP)
        client = socket.create_connection(self.address)
        client.sendall(head)
        os.kill(self.proxy, signal.SIGCONT)
        return client

    def ask(self, requests):
        head = b"GET /file.txt HTTP/1.1\r\nHost: localhost\r\n"
        heads = [head + b"\r\n"] * (requests - 1) + [head + b"Connection: close\r\n\r\n"]
        with self.connect(heads[0]) as client, client.makefile("rb") as answer:
            for number in range(requests):
                if number > 0:
                    client.sendall(heads[number])
                assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
                while answer.readline() != b"\r\n":
                    pass
                assert answer.read(len(BODY)) == BODY
            assert answer.read() == b""

    def settle(self):
        """Until both processes wait, with the whole trace written."""
        before, same = None, 0
        while same < 5:
            now = self.traces()
            same = same + 1 if now == before else 0
            before = now
            time.sleep(0.05)
        return before

    def stop(self):
        os.kill(self.proxy, signal.SIGTERM)
        self.process.communicate(timeout=60)


def roles(traces):
    """The proxy is the process that accepts, and the worker the one that opens the file."""
    for name, lines in traces.items():
        if any(line.startswith("accept4(") for line in lines):
            yield "proxy", name
        elif any("file.txt" in line and "openat2(" in line for line in lines):
            yield "worker", name


def count(pair, requests):
    """Calls by name for each role, for a connection with so many requests."""
    for _ in range(WARM):
        pair.ask(requests)
    before = pair.settle()
    for _ in range(CONNECTIONS):
        pair.ask(requests)
    after = pair.settle()
    calls = {}
    for role, name in roles(after):
        new = after[name][len(before[name]):]
        found = collections.Counter(match[1] for line in new if (match := CALL.match(line)))
        calls[role] = {call: number / CONNECTIONS for call, number in found.items() if call not in NOT_COUNTED}
    return calls


def rounded(calls):
    """What a process does now and then only, such as a look for a second client, is left out."""
    return {call: round(number) for call, number in sorted(calls.items()) if round(number)}


def measure(programs, folder):
    """The figures of the gate. The proxy does nothing for a further request."""
    pair = Pair(programs, folder)
    try:
        one, more = count(pair, 1), count(pair, 1 + FURTHER)
    finally:
        pair.stop()
    further = collections.Counter(more["worker"])
    further.update(more["proxy"])
    further.subtract(one["worker"])
    further.subtract(one["proxy"])
    return {"kept_request": rounded({call: number / FURTHER for call, number in further.items()}),
            "connection_in_proxy": rounded(one["proxy"]), "connection_in_worker": rounded(one["worker"])}
