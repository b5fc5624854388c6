"""A dispatcher that follows a script, and the worker that it judges.

The worker is a process. It gets one end of a socketpair, the channel, as an inherited descriptor, whose number is the
last argument of its command. It serves lines, as examples/python/worker.py does: it answers each line of a client with
a number, a space and the line. The number counts the lines of the connection, and is the blob of a RETURN in decimal
digits; with an empty blob the count begins. After its answer to the line `move`, and on RECALL, it returns the
connection, if the channel's version has RETURN; on RECALL when its turn comes in the time that the message states.
"""

import array
import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import termios
import time
import types

DEADLINE = int(os.environ.get("FERRY_DEADLINE", "60"))
HELLO, HANDOFF, CLAIM, LOST, REJECT, DONE, CREDITS, DRAIN, RETURN, RECALL = range(1, 11)
NAMES = "- HELLO HANDOFF CLAIM LOST REJECT DONE CREDITS DRAIN RETURN RECALL".split()
HEADER = struct.Struct("<4sHHIHH")
FIXED = struct.Struct("<QQQQBBHIII")
ANSWER = struct.Struct("<QQiI")
MAGIC = b"FRY\1"
EPOCH = 0x1122334455667788
SO_COOKIE = 57
SOCKET = 12


class Failure(Exception):
    """The worker did other than the page demands."""


def demand(condition, seen):
    if not condition:
        raise Failure(seen)


def shorten(data):
    return repr(data) if data is None or len(data) < 40 else f"{data[:20]!r}... of {len(data)} bytes"


def name_of(kind):
    return NAMES[kind] if 0 < kind < len(NAMES) else f"a message of type {kind}"


def cookie_of(end):
    return struct.unpack("=Q", end.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0]


def queued(end, request):
    count = array.array("i", [0])
    fcntl.ioctl(end, request, count)
    return count[0]


def wait_until(condition, what):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        demand(time.monotonic() < deadline, f"{what}: not within {DEADLINE} s")
        time.sleep(0.002)


def frame(kind, payload=b"", count=0):
    return HEADER.pack(MAGIC, kind, 0, len(payload), count, 0) + payload


class Client:
    """A connection: the client's end, and the server's end, which is handed off."""

    def __init__(self):
        self.end, self.server = socket.socketpair()
        self.end.settimeout(DEADLINE)
        self.cookie = cookie_of(self.server)
        self.input = b""

    def send(self, text):
        try:
            self.end.sendall(text)
        except ConnectionError as error:
            raise Failure("the worker has closed a connection that it must serve") from error

    def ask(self, text):
        self.send(text)
        return self.line()

    def line(self):
        """The next line of the worker. b"": the end. None: the end, and what the client had sent was not read."""
        try:
            while b"\n" not in self.input:
                data = self.end.recv(65536)
                if not data:
                    demand(not self.input, f"half a line, and the end: {self.input!r}")
                    return b""
                self.input += data
        except ConnectionResetError:
            return None
        except TimeoutError as error:
            raise Failure(f"the client gets no answer within {DEADLINE} s") from error
        line, _, self.input = self.input.partition(b"\n")
        return line

    def expect(self, line, after):
        got = self.line()
        demand(got == line, f"the client gets {shorten(got)} after {after}, not {shorten(line)}")

    def close(self):
        self.end.close()
        self.server.close()


class Dispatcher:
    """The script's end of the channel."""

    def __init__(self, command, small=False):
        self.socket, end = socket.socketpair()
        self.socket.settimeout(DEADLINE)
        if small:  # a few messages fill the channel
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self.process = subprocess.Popen([*command, str(end.fileno())], pass_fds=[end.fileno()],
                                        stdin=subprocess.DEVNULL)
        end.close()
        self.clients, self.ids, self.hello, self.credits = [], 0, None, None

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.socket.close()
        for client in self.clients:
            client.close()

    # ---- sending ----

    def write(self, data, fds=()):
        """One sendmsg()."""
        demand(socket.send_fds(self.socket, [data], fds) == len(data) if fds else self.socket.sendall(data) is None,
               "the channel does not take a message")

    def send_hello(self, low=1, high=2, more=b""):
        self.write(frame(HELLO, struct.pack("<HHIQQ", low, high, 0, EPOCH, 0) + more))

    def client(self):
        client = Client()
        self.clients.append(client)
        return client

    def new_id(self):
        self.ids += 1
        return 0x100000000 + self.ids

    def handoff(self, client, *, count=1, name=b"lines", blob=b"", data=b"", cookie=None, device=0, kind=SOCKET):
        """A frame of HANDOFF. client.id is its id."""
        client.id = self.new_id()
        fixed = FIXED.pack(client.id, EPOCH, client.cookie if cookie is None else cookie, device, kind, 1, len(name),
                           len(blob), len(data), 0)
        return frame(HANDOFF, fixed + name + b"\0" + blob + data, count)

    def hand_off(self, client=None, keep=False, **fields):
        """Hands a connection off. The script's own copy is closed, unless it keeps it."""
        client = client or self.client()
        self.write(self.handoff(client, **fields), [client.server.fileno()])
        if not keep:
            client.server.close()
        return client

    def fence(self):
        """From now on the kernel takes nothing from the worker."""
        self.socket.shutdown(socket.SHUT_RD)

    def is_read(self):
        wait_until(lambda: queued(self.socket, termios.TIOCOUTQ) == 0 or self.process.poll() is not None,
                   "the worker reads its channel")

    # ---- receiving ----

    def read_bytes(self, length):
        data, fds = b"", []
        while len(data) < length:
            try:
                part, got, _, _ = socket.recv_fds(self.socket, length - len(data), 16)
            except TimeoutError as error:
                raise Failure(f"no message within {DEADLINE} s") from error
            except ConnectionResetError:
                part, got = b"", []
            demand(not got or not data, "descriptors come behind the first byte of a frame")
            fds += got
            if not part:
                demand(not data, "the channel ends inside of a frame")
                return None, []
            data += part
        return data, fds

    def read_any(self):
        """The next frame, or None at the end of the channel."""
        header, fds = self.read_bytes(HEADER.size)
        if header is None:
            return None
        magic, kind, flags, length, count, zero = HEADER.unpack(header)
        demand((magic, zero) == (MAGIC, 0) and (flags == 0 or (flags == 1 and length == count == 0)),
               f"the header {header.hex(' ')}")
        demand(count == len(fds), f"{len(fds)} descriptors with a frame that declares {count}")
        payload = self.read_bytes(length)[0] if length > 0 else b""
        demand(payload is not None, "the channel ends inside of a frame")
        if kind == CREDITS and flags == 0:
            demand(length >= 8 and payload[4:8] == bytes(4), f"CREDITS with {payload.hex(' ')}")
            self.credits = struct.unpack_from("<I", payload)[0]
        return types.SimpleNamespace(kind=kind, flags=flags, payload=payload, fds=[Taken(fd) for fd in fds])

    def read(self):
        """The next frame but CREDITS, which may come at any time."""
        while True:
            got = self.read_any()
            demand(got is not None, "the worker ends the channel")
            if got.kind != CREDITS:
                return got

    def expect(self, kind, client):
        """The next frame is this answer about this handoff."""
        got = self.read()
        demand(got.kind == kind, f"{name_of(got.kind)}, not {name_of(kind)}")
        demand(len(got.payload) >= ANSWER.size, f"{name_of(kind)} of {len(got.payload)} bytes")
        number, epoch, reason, zero = ANSWER.unpack_from(got.payload)
        demand((number, epoch, zero) == (client.id, EPOCH, 0),
               f"{name_of(kind)} with id {number:#x}, epoch {epoch:#x}, zero {zero}: not {client.id:#x}, {EPOCH:#x}, 0")
        demand(kind == REJECT or reason == 0, f"{name_of(kind)} with the reason {reason}")
        return reason

    def expect_end(self):
        """The worker ends the channel, and sends nothing before but a refusal or CREDITS."""
        while (got := self.read_any()) is not None:
            demand(got.flags == 1 or got.kind == CREDITS, f"{name_of(got.kind)}, not the end of the channel")

    def expect_return(self, client):
        """The worker's RETURN: an object with the fields, the blob, the bytes and the descriptor."""
        got = self.read()
        demand(got.kind == RETURN, f"{name_of(got.kind)}, not RETURN")
        demand(len(got.fds) == 1, f"RETURN with {len(got.fds)} descriptors")
        demand(len(got.payload) > FIXED.size, f"RETURN of {len(got.payload)} bytes")
        number, epoch, cookie, device, kind, attempt, name, blob, length, zero = FIXED.unpack_from(got.payload)
        demand((number, epoch) == (client.id, EPOCH), f"RETURN with id {number:#x}, epoch {epoch:#x}")
        demand((cookie, device, kind) == (client.cookie, 0, SOCKET), "RETURN with another identity than the HANDOFF")
        demand((attempt, name, zero) == (0, 0, 0), f"RETURN with attempt {attempt}, a name of {name} bytes, zero {zero}")
        rest = got.payload[FIXED.size:]
        demand(len(rest) == 1 + blob + length and rest[0] == 0, "RETURN of another length than it declares")
        return types.SimpleNamespace(fd=got.fds[0], blob=rest[1:1 + blob], data=rest[1 + blob:])

    # ---- the process ----

    def stop(self):
        os.kill(self.process.pid, signal.SIGSTOP)
        wait_until(lambda: self.state() in "TZ", "the worker stops")

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def state(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0]

    @contextlib.contextmanager
    def without_slots(self):
        """The worker has no free descriptor slot."""
        used = {int(fd) for fd in os.listdir(f"/proc/{self.process.pid}/fd")}
        first = min(set(range(len(used) + 1)) - used)
        before = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (first, before[1]))
        yield
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, before)


class Taken:
    """A received descriptor, which is closed when nothing refers to it."""

    def __init__(self, fd):
        self.fd = fd

    def socket(self):
        fd, self.fd = self.fd, -1
        return socket.socket(fileno=fd)

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    __del__ = close


def readable(end):
    return bool(select.select([end], [], [], 0)[0])
