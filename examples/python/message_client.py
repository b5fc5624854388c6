#!/usr/bin/env python3
"""A client for messages, with Python's socket module alone, from docs/message.md: it sends the name and the descriptor of
each file in a message, and prints the answers. Usage: message_client.py SOCKET FILE..."""
import os, socket, struct, sys  # noqa: E401

HEADER = struct.Struct("<3sBHHIHH")  # FRY, version, type, flags, length of the payload, number of descriptors, 0


class MessageClient:
    """One end of a stream of messages, on a connected socket that blocks. After an OSError of a call it is over."""

    def __init__(self, end, payload_max=1 << 20):
        self.socket, self.payload_max = end, payload_max

    def send(self, kind, payload=b"", fds=()):
        """Returns when the kernel has the message. The descriptors stay the caller's."""
        frame = HEADER.pack(b"FRY", 1, kind, 0, len(payload), len(fds), 0) + payload
        if rest := frame[socket.send_fds(self.socket, [frame], fds):]:  # the descriptors leave with the first byte
            self.socket.sendall(rest)  # to send nothing would fail if the peer has refused the message since

    def receive(self):
        """Waits for a message: its type, its payload, its descriptors, which the caller closes, and the number of those
        that are lost, because this process had no slot for them. None: the peer sends no more."""
        # No read goes beyond the message: the descriptors of the read that takes its first byte are its own.
        data, fds, control, _ = socket.recv_fds(self.socket, HEADER.size, 253, socket.MSG_CMSG_CLOEXEC)
        try:
            return self.receive_rest(data, fds, control & socket.MSG_CTRUNC) if data else None
        except OSError:
            [os.close(fd) for fd in fds]
            raise

    def receive_rest(self, data, fds, lost):
        magic, version, kind, flags, length, count, zero = HEADER.unpack(data + self.read(HEADER.size - len(data)))
        if (magic, version, zero) != (b"FRY", 1, 0) or flags not in (0, 1):
            raise ConnectionError("the peer has sent no message")
        if flags == 1:
            raise ConnectionError("the peer refuses a message, which was over its limits")
        if length > self.payload_max or not (len(fds) == count or lost and len(fds) < count):
            raise ConnectionError("a message over the limit, or with other descriptors than it declares")
        return kind, self.read(length), fds, count - len(fds)

    def read(self, size):
        data = b""
        while len(data) < size:
            if not (piece := self.socket.recv(size - len(data))):
                raise ConnectionError("the end in the middle of a message")
            data += piece
        return data


if __name__ == "__main__":
    try:
        client = MessageClient(socket.socket(socket.AF_UNIX))
        client.socket.connect(sys.argv[1].replace("@", "\0", 1) if sys.argv[1].startswith("@") else sys.argv[1])
        for name in sys.argv[2:]:
            with open(name, "rb") as file:
                client.send(1, os.fsencode(name), [file.fileno()])
            print(client.receive())
    except (IndexError, OSError) as error:
        sys.exit(f"message_client.py: {error if sys.argv[1:] else 'SOCKET FILE... is missing'}")
