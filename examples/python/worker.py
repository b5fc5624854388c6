#!/usr/bin/env python3
"""A worker in plain Python, from docs/handoff.md, which answers each line of a client with its number and the line. The
line `move`, and the dispatcher's RECALL, make it give the connection back, with that number as its state. Usage:
worker.py CHANNEL, the number of an inherited descriptor. An application also bounds how slow a client may be."""
import errno, os, select, socket, stat, struct, sys, time  # noqa: E401
from messages import Messages

HELLO, HANDOFF, CLAIM, LOST, REJECT, DONE, CREDITS, DRAIN, RETURN, RECALL = range(1, 11)
ANSWER, FIXED = struct.Struct("<QQii"), struct.Struct("<QQQQBBHIII")  # the latter of HANDOFF and RETURN
PAYLOAD_MAX, LINE_MAX, SO_COOKIE, SOCKET, TAKES = FIXED.size + 255 + 1 + 2 * 65536, 32768, 57, 12, 64


class Client(socket.socket):
    number, cookie, lines, rest = 0, 0, 0, b""  # the handoff's id; identity; state; bytes that are no line yet


class Worker:
    def __init__(self, channel):
        self.channel = Messages(channel, PAYLOAD_MAX, 1)
        self.readable, self.version, self.epoch, self.short, self.leaving = {self.channel}, 0, 0, False, {}
        self.channel.send(HELLO, struct.pack("<HHIQ8x", 1, 2, TAKES, 0))

    def run(self):
        while self.readable:
            try:
                for end in select.select(self.readable, [], [], 0.02 if self.short or self.leaving else None)[0]:
                    if end in self.readable:
                        self.receive() if end is self.channel else self.serve(end)
                [self.give_back(client) for client, due in list(self.leaving.items()) if due <= time.monotonic()]
                if self.short and os.close(os.dup(self.channel.fileno())) is None:  # there is a descriptor slot
                    self.short = self.channel.send(CREDITS, struct.pack("<II", TAKES, 0))
            except (OSError, ValueError, struct.error) as error:
                if getattr(error, "errno", 0) != errno.EMFILE:  # the channel is over; clients are served on
                    self.readable.discard(self.channel)
                    self.short = self.channel.close()

    def receive(self):
        for kind, payload, count, fds in self.channel.receive():
            if (kind == HELLO) != (self.version == 0) or (kind == HANDOFF and count != 1):
                raise ValueError("something before HELLO, a second one, or a handoff without a descriptor")
            if kind == HELLO:
                low, high, _, self.epoch = struct.unpack_from("<HHIQ8x", payload)
                self.version = min(high, 2)
                if not 1 <= low <= self.version:
                    raise ValueError("no version in common")
            elif kind == HANDOFF:
                self.take(payload, fds)
            elif kind == RECALL:
                spread, own = struct.unpack_from("<II", payload)[0] / 1000, self.readable - {self.channel}
                self.leaving = {client: time.monotonic() + spread * i / len(own) for i, client in enumerate(own)}

    def take(self, payload, fds):
        number, _, cookie, device, kind, _, name, blob, length, _ = FIXED.unpack_from(payload)
        rest = FIXED.size + name + 1 + blob
        if len(payload) != rest + length or payload.find(b"\0", FIXED.size) != rest - blob - 1:
            raise ValueError("other lengths than it declares")
        if not fds:  # lost, because this process has no descriptor slot
            self.short = self.short or self.channel.send(CREDITS, struct.pack("<II", 0, 0)) is None
            return self.channel.send(LOST, ANSWER.pack(number, self.epoch, 0, 0))
        client = Client(fileno=fds.pop()) if stat.S_ISSOCK(os.fstat(fds[0]).st_mode) else None
        own = client.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8) if client else None
        if own != struct.pack("=Q", cookie) or (device, kind) != (0, SOCKET):
            return self.channel.send(REJECT, ANSWER.pack(number, self.epoch, -errno.EBADMSG, 0))
        self.channel.send(CLAIM, ANSWER.pack(number, self.epoch, 0, 0))  # OSError: the client is closed, unread
        client.setblocking(True)
        client.number, client.cookie, client.lines = number, cookie, int(payload[rest - blob:rest] or 0)
        self.readable.add(client)
        return self.serve(client, payload[rest:]) if length else None

    def serve(self, client, data=b""):
        try:
            client.rest += (data := data or client.recv(16384))
            while b"\n" in client.rest:
                line, _, client.rest = client.rest.partition(b"\n")
                client.lines += 1
                client.sendall(b"%d %s\n" % (client.lines, line))
                if line == b"move" and self.version == 2 and self.give_back(client):
                    return
        except OSError:
            data = b""
        if not data or len(client.rest) > LINE_MAX:
            self.forget(client)
            self.channel.send(DONE, ANSWER.pack(client.number, self.epoch, 0, 0))

    def give_back(self, client):
        state, rest, _ = b"%d" % client.lines, client.rest, self.leaving.pop(client, None)
        fixed = FIXED.pack(client.number, self.epoch, client.cookie, 0, SOCKET, 0, 0, len(state), len(rest), 0)
        try:
            self.channel.send(RETURN, fixed + b"\0" + state + rest, [client.fileno()])
        except OSError:  # the connection is still this process's
            return False
        return self.forget(client)

    def forget(self, client):
        self.readable.remove(client)
        return client.close() is None


if __name__ == "__main__":
    Worker(socket.socket(fileno=int(sys.argv[1]))).run()
