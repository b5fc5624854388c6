"""Frames with descriptors over a unix stream socket, as docs/message.md describes them. A part of worker.py."""

import os
import socket
import struct

HEADER = struct.Struct("<4sHHIHH")
MAGIC = b"FRY\1"


class Messages:
    """One end of a stream of messages. An OSError or a ValueError of a call means that the stream is over."""

    def __init__(self, end, payload_max, fds_max):
        self.socket, self.payload_max, self.fds_max = end, payload_max, fds_max
        self.input, self.position = b"", 0  # the bytes of incomplete frames; the position of the first of them
        self.arrived = []  # of each read with descriptors: its first and last position, and the descriptors

    def fileno(self):
        return self.socket.fileno()

    def send(self, kind, payload, fds=()):
        """Returns once the kernel has the last byte. An OSError means that it never will."""
        frame = HEADER.pack(MAGIC, kind, 0, len(payload), len(fds), 0) + payload
        sent = socket.send_fds(self.socket, [frame], fds)
        if sent < len(frame):  # to send nothing would fail if the stream has ended since
            self.socket.sendall(frame[sent:])

    def receive(self):
        """Reads once. For each whole frame: its type, its payload, how many descriptors it declares, and the list of
        those that have arrived. The caller takes descriptors out of the list, and the others are closed."""
        data, fds, flags, _ = socket.recv_fds(self.socket, 65536, 253, socket.MSG_CMSG_CLOEXEC)
        start = self.position + len(self.input)
        if fds or flags & socket.MSG_CTRUNC:
            self.arrived.append((start, start + len(data), fds))
        if not data:
            raise ValueError("the end")
        self.input += data
        while (frame := self.next_frame()) is not None:
            kind, payload, count = frame
            fds = self.arrived[0][2] if count else []
            yield kind, payload, count, fds
            if count and self.arrived:
                self.close_fds(self.arrived.pop(0)[2])
        if self.arrived and self.arrived[0][1] <= self.position:
            raise ValueError("descriptors that no frame declares")

    def next_frame(self):
        if len(self.input) < HEADER.size:
            return None
        magic, kind, flags, length, count, zero = HEADER.unpack_from(self.input)
        if (magic, flags, zero) != (MAGIC, 0, 0):
            raise ValueError("no frame, or a refusal")
        if length > self.payload_max or count > self.fds_max:
            self.socket.send(HEADER.pack(MAGIC, 1, 1, 0, 0, 0), socket.MSG_DONTWAIT)  # a refusal
            raise ValueError("over the limits")
        if len(self.input) < HEADER.size + length:
            return None
        if count:  # they came with the first byte; fewer than declared are lost, because MSG_CTRUNC was set
            first, last, fds = self.arrived[0] if self.arrived else (0, 0, [])
            if not first <= self.position < last or len(fds) > count:
                raise ValueError("other descriptors than the frame declares")
        payload = self.input[HEADER.size:HEADER.size + length]
        self.input = self.input[HEADER.size + length:]
        self.position += HEADER.size + length
        return kind, payload, count

    def close_fds(self, fds):
        while fds:
            os.close(fds.pop())

    def close(self):
        self.socket.close()
        while self.arrived:
            self.close_fds(self.arrived.pop()[2])
