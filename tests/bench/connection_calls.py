#!/usr/bin/env python3
"""Counts the system calls of ferry-proxy and ferry-worker for a connection with one request, and for a connection with
eleven requests. One client connects at a time: what a busy process does once for several connections counts fully.

    connection_calls.py DIRECTORY_OF_THE_PROGRAMS [CONNECTIONS]

Prints the calls by name, as docs/performance.md has them. Fails when there are more than MOST, apart from waits for
events and from calls that get memory. 77: there is no strace, or it may not trace.
"""

import collections
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

# How often a process waits depends on the order of events.
NOT_COUNTED = {"epoll_wait", "epoll_pwait", "epoll_pwait2", "brk", "mmap", "munmap", "madvise"}
MOST = {("proxy", 1): 9.5, ("proxy", 11): 9.5, ("worker", 1): 18.5, ("worker", 11): 110.5}
WARM = 5
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
            errors = self.process.communicate()[1]
            print(line + errors)
            sys.exit(77 if "ptrace" in errors.lower() else 1)
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


def count(pair, connections, requests):
    """Calls by name for each role."""
    for _ in range(WARM):
        pair.ask(requests)
    before = pair.settle()
    for _ in range(connections):
        pair.ask(requests)
    after = pair.settle()
    calls = {}
    for role, name in roles(after):
        new = after[name][len(before[name]):]
        calls[role] = collections.Counter(match[1] for line in new if (match := CALL.match(line)))
    return calls


def report(role, requests, calls, connections):
    """Whether there are few enough."""
    each = {name: number / connections for name, number in calls.most_common()}
    total = sum(number for name, number in each.items() if name not in NOT_COUNTED)
    print(f"{role}_calls_of_{requests}_requests {total:.2f}")
    for name, number in each.items():
        print(f"  {name} {number:.2f}")
    return total <= MOST.get((role, requests), total)


def main():
    programs, connections = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 40
    if not shutil.which("strace"):
        print("no strace: skipped")
        return 77
    good = True
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(programs, folder)
        try:
            for requests in (1, 11):
                for role, calls in count(pair, connections, requests).items():
                    good &= report(role, requests, calls, connections)
        finally:
            pair.stop()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
