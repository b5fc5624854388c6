"""Descriptors between ferry and the functions of Python's standard library, socket.send_fds() and
socket.recv_fds()."""

import contextlib
import os
import socket

from interop import Ledger, Peer, check_equal, make_object, run

COUNT = 200


def connect(path):
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(path)
    return stream


def with_peer(path, mode, side, number, talk):
    """Connects the peer with a socket, and calls talk() with it. Returns the report of the peer."""
    with contextlib.ExitStack() as stack:
        if side == "--connect":
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            listener.bind(path)
            listener.listen(1)
        peer = stack.enter_context(Peer(mode, side, path, *number))
        with connect(path) if side == "--listen" else listener.accept()[0] as stream:
            talk(stream)
        return peer.finish()


def python_receives(path, side):
    ledger = Ledger()

    def talk(stream):
        while True:
            data, fds, flags, _ = socket.recv_fds(stream, 4096, 253)
            check_equal(flags & socket.MSG_CTRUNC, 0, "MSG_CTRUNC")
            if not data:
                return
            ledger.read(fds, data)

    report = with_peer(path, "send-fds", side, [COUNT], talk)
    ledger.finish(COUNT)
    check_equal(len(ledger.stream), report["sent"], "bytes")
    check_equal(report["fds_sent"], COUNT, "descriptors that the peer counts")


def python_sends(path, side):
    sent = 0

    def talk(stream):
        nonlocal sent
        number = 0
        while number < COUNT:
            # One message carries one to eight descriptors.
            fds = [make_object(i) for i in range(number, min(COUNT, number + number % 8 + 1))]
            lines = b"".join(b"%d\n" % i for i in range(number, number + len(fds)))
            check_equal(socket.send_fds(stream, [lines], fds), len(lines), "sent")
            for fd in fds:
                os.close(fd)
            number += len(fds)
            sent += len(lines)

    report = with_peer(path, "receive-fds", side, [], talk)
    check_equal(report["fds"], COUNT, "descriptors")
    check_equal(report["lines"], COUNT, "lines")
    check_equal(report["received"], sent, "bytes")


SIDES = ("--listen",), ("--connect",)
run((python_receives, *SIDES), (python_sends, *SIDES))
