"""Hostile peers attack a server while an honest one is served; docs/security.md has the table.

    hostile.py --server PROGRAM [--seconds N] [--attack NAME] [--list]

A line for each attack: what the attackers have done, the most memory and descriptors that the server had, and how long
the honest client waited for its answers. Exit status 1: the honest client had no answer or a wrong one, the server has
ended, has taken more memory than its limits allow, or has more descriptors afterwards than before.
"""

import argparse
import array
import contextlib
import multiprocessing
import os
import pathlib
import random
import resource
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time

HEADER = struct.Struct("<3sBHHIHH")
PAYLOAD_MAX = 64 * 1024
# For each connection: what one message may take, the replies that wait, and some for the connection itself.
KIB_EACH = 64 + 4 * 64 + 64
ANSWER_SECONDS = 60


def frame(payload=b"", fds=0, kind=1, length=None, flags=0, magic=b"FRY", version=1):
    return HEADER.pack(magic, version, kind, flags, len(payload) if length is None else length, fds, 0) + payload


def send(peer, data, fds=()):
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    return peer.sendmsg([data], ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class Attack:
    """One connection of an attacker. step() does something that does not block; OSError: connect again."""

    connections = 16

    def __init__(self, peer, spare):
        peer.setblocking(False)
        self.peer = peer
        self.spare = spare  # descriptors to send
        self.pending = b""
        self.sent = 0

    def drain(self):
        """Replies are read, so that only what the attack is about stands still."""
        with contextlib.suppress(BlockingIOError):
            while self.peer.recv(1 << 20, socket.MSG_DONTWAIT):
                pass

    def push(self, data, fds=()):
        """Sends the message, or goes on with the one that was begun."""
        if not self.pending:
            done = send(self.peer, data, fds)
            self.pending = data[done:]
        else:
            self.pending = self.pending[send(self.peer, self.pending):]
        self.sent += 1


class ManyDescriptors(Attack):
    """messages of one byte with 253 descriptors each"""

    def step(self):
        self.drain()
        self.push(frame(b"x", 253), self.spare * 253)


class DescriptorsWithEachByte(Attack):
    """253 descriptors with every byte, of a message that declares 253"""

    def step(self):
        data = frame(b"x" * 1000, 253)
        send(self.peer, data[self.sent:self.sent + 1], self.spare * 253)
        self.sent += 1


class Undeclared(Attack):
    """descriptors that no message declares"""

    def step(self):
        self.push(frame(b"x" * 100), self.spare * random.choice((1, 2, 253)))


class Announced(Attack):
    """messages of the largest size, of which only the header comes"""

    connections = 500

    def step(self):
        if self.sent == 0:
            self.push(frame(length=PAYLOAD_MAX))
        time.sleep(0.0005)


class AlmostAll(Attack):
    """messages of the largest size without their last byte"""

    connections = 200

    def step(self):
        if self.sent == 0 or self.pending:
            self.push(frame(b"x" * (PAYLOAD_MAX - 1), length=PAYLOAD_MAX))
        time.sleep(0.0005)


class Limits(Attack):
    """sizes and numbers at every limit, one below and one over"""

    sizes = (0, 1, PAYLOAD_MAX - 1, PAYLOAD_MAX, PAYLOAD_MAX + 1, 2**31 - 1, 2**31, 2**32 - 1)
    numbers = (0, 1, 252, 253, 254, 65535)

    def step(self):
        self.drain()
        size, number = random.choice(self.sizes), random.choice(self.numbers)
        self.push(frame(b"x" * min(size, 2 * PAYLOAD_MAX), number, length=size), self.spare * min(number, 253))


class NeverReads(Attack):
    """requests without end, and no reply is read"""

    connections = 100

    def step(self):
        self.push(frame(b"x" * PAYLOAD_MAX))


class OneByte(Attack):
    """one byte a second"""

    connections = 500
    due = 0.0

    def step(self):
        if time.monotonic() >= self.due:
            self.due = time.monotonic() + 1
            data = frame(b"x" * 100)
            self.push(data[self.sent % len(data):][:1])
        time.sleep(0.0005)


class Noise(Attack):
    """random bytes, and messages with one field wrong"""

    def step(self):
        self.drain()
        wrong = random.choice(({"magic": b"FRX"}, {"version": 2}, {"flags": 2}, {"flags": 1}, {"kind": 9}, None))
        data = random.randbytes(64) if wrong is None else frame(b"x", **wrong)
        self.push(data, self.spare * random.choice((0, 0, 1)))


class Itself(Attack):
    """the connection, and pairs that are in each other, sent over itself"""

    def step(self):
        self.drain()
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        send(ends[0], b"x", [ends[1].fileno(), self.peer.fileno()])
        fds = [self.peer.fileno(), ends[0].fileno(), ends[1].fileno()]
        try:
            self.push(frame(b"x", 3), fds)
        finally:
            for end in ends:
                end.close()


class Forged(Attack):
    """credentials of other processes and users"""

    def step(self):
        self.drain()
        credentials = struct.pack("3i", random.choice((1, os.getpid())), random.choice((0, os.getuid(), 12345)), 0)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)]
        with contextlib.suppress(PermissionError, ProcessLookupError):
            self.peer.sendmsg([frame(b"x")], ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        self.sent += 1


class Hasty(Attack):
    """connections that end at once, in the middle of a message"""

    def step(self):
        if self.sent == 0:
            self.push(frame(b"x" * 100)[:random.randrange(117)], self.spare * random.randrange(3))
        else:
            raise ConnectionResetError


class Crowd(Attack):
    """a thousand connections, each with one of these"""

    connections = 1000

    def __init__(self, peer, spare):
        super().__init__(peer, spare)
        kind = random.choice([each for each in ATTACKS.values() if each is not Crowd])
        self.one = kind(peer, spare)

    def step(self):
        self.one.step()


ATTACKS = {each.__name__: each for each in (
    ManyDescriptors, DescriptorsWithEachByte, Undeclared, Announced, AlmostAll, Limits, NeverReads, OneByte, Noise,
    Itself, Forged, Hasty, Crowd)}


def connect(path):
    peer = socket.socket(socket.AF_UNIX)
    # A timeout of Python's makes the socket non-blocking, and a full backlog then refuses.
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", ANSWER_SECONDS, 0))
    peer.connect(str(path))
    peer.settimeout(ANSWER_SECONDS)
    return peer


def attack(name, path, running, steps, losses):
    """A process with all connections of an attack."""
    spare = [os.open("/dev/null", os.O_RDONLY)]
    kind, peers = ATTACKS[name], []
    random.seed(1)
    while running.value:
        while len(peers) < kind.connections and running.value:
            with contextlib.suppress(OSError):
                peers.append(kind(connect(path), spare))
        for index, peer in enumerate(peers):
            try:
                peer.step()
                steps.value += 1
            except BlockingIOError:
                pass
            except OSError:
                losses.value += 1
                peer.peer.close()
                with contextlib.suppress(OSError):
                    peers[index] = kind(connect(path), spare)
            if not running.value:
                break


def ask(peer, number):
    payload = struct.pack("<I", number) * 25
    expected = frame(payload)
    with open("/dev/null", "rb") as file:
        start = time.monotonic()
        peer.sendmsg([frame(payload, 1)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))])
        answer = b""
        while len(answer) < len(expected):
            data = peer.recv(len(expected) - len(answer))
            if not data:
                raise ConnectionError("the connection has ended")
            answer += data
    if answer != expected:
        raise ValueError("a wrong answer")
    return time.monotonic() - start


def be_honest(path, running, results):
    """A new connection for each hundred requests."""
    times, failure = [], None
    try:
        while running.value:
            with connect(path) as peer:
                for number in range(100):
                    times.append(ask(peer, number))
                    if not running.value:
                        break
                    time.sleep(0.002)
    except (OSError, ValueError) as error:
        failure = f"honest request {len(times)}: {error}"
    results.put((times, failure))


class Server:
    def __init__(self, program, path):
        self.process = subprocess.Popen([program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"
        self.memory, self.fds = self.look()

    def look(self):
        """KiB and descriptors now."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        return memory, len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def settle(self):
        """The descriptors that are left when all have gone."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while self.look()[1] > self.fds and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.look()[1]

    def stop(self):
        self.process.stdin.close()
        return self.process.wait(ANSWER_SECONDS)


def judge(kind, server, most, left, failure):
    failures = [failure] if failure else []
    if most[0] > server.memory + kind.connections * KIB_EACH + 16 * 1024:
        failures.append(f"{most[0]} KiB of memory")
    if left > server.fds:
        failures.append(f"{left} descriptors left, {server.fds} before")
    return failures


def percentile(times, part):
    return sorted(times)[min(len(times) - 1, int(len(times) * part))] * 1000


def run(name, program, seconds):
    """One attack on a new server. Returns the failures."""
    kind = ATTACKS[name]
    running, steps, losses = (multiprocessing.Value(code, value, lock=False)
                              for code, value in (("i", 1), ("q", 0), ("q", 0)))
    results = multiprocessing.Queue()
    most = (0, 0)
    with tempfile.TemporaryDirectory(prefix="ferry-hostile-") as directory:
        path = pathlib.Path(directory) / "s"
        server = Server(program, path)
        helpers = [multiprocessing.Process(target=attack, args=(name, path, running, steps, losses)),
                   multiprocessing.Process(target=be_honest, args=(path, running, results))]
        for helper in helpers:
            helper.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and server.process.poll() is None:
            most = tuple(map(max, most, server.look()))
            select.select([], [], [], 0.02)
        running.value = 0
        times, failure = results.get()
        for helper in helpers:
            helper.join()
        failures = judge(kind, server, most, server.settle(), failure)
        if server.stop() != 0:
            failures.append("the server has failed")
    waits = " ".join(f"{percentile(times, part):.2f}" for part in (0.5, 0.99, 1)) if times else "-"
    print(f"{name:24} {kind.connections:5} connections {steps.value:9} steps {losses.value:8} ended  "
          f"{most[0]:7} KiB {most[1]:5} fds  {len(times):6} answers, ms p50 p99 max {waits}", flush=True)
    for failure in failures:
        print(f"  FAILED: {failure}")
    return failures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--attack", choices=ATTACKS)
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        for name, kind in ATTACKS.items():
            print(f"{name:24} {kind.__doc__}")
        return 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    failures = [failure for name in ([arguments.attack] if arguments.attack else ATTACKS)
                for failure in run(name, arguments.server, arguments.seconds)]
    print(f"hostile: {1 if arguments.attack else len(ATTACKS)} attacks, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
