"""examples/send_fd and receive_fd against what Twisted's documentation examples sendfd and recvfd do on
the wire: "<path>\\r\\n" with the file's descriptor on the first byte, of which the receiver reads 80
bytes.

Arguments: [emulator...] SEND_FD RECEIVE_FD
"""

import array
import fcntl
import os
import signal
import socket
import sys
import termios
import time

from twisted_support import Talker, connect, listen, run, wait_for
from twisted.internet.defer import inlineCallbacks
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.threads import deferToThread
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

from interop import DEADLINE, Program, check, check_equal

*EMULATOR, SEND_FD, RECEIVE_FD = sys.argv[1:]
CONTENT = b"".join(b"%d " % i for i in range(1000))


def make_file(path):
    """The file to send, beside the socket."""
    name = path + ".content"
    with open(name, "wb") as file:
        file.write(CONTENT)
    return name


@implementer(IFileDescriptorReceiver)
class ReceiveFd(LineReceiver, Talker):
    """As recvfd: the descriptor must be there when the line is."""

    def __init__(self):
        Talker.__init__(self)
        self.descriptor = None
        self.got = []

    def fileDescriptorReceived(self, descriptor):
        check(self.descriptor is None, "two descriptors for one line")
        self.descriptor = descriptor

    def lineReceived(self, line):
        check(self.descriptor is not None, "a line without a descriptor")
        self.got.append((line.decode(), os.read(self.descriptor, 80)))
        os.close(self.descriptor)
        self.descriptor = None


class SendFd(Talker):
    """As sendfd: the descriptor, then the line, of which Twisted sends the first byte alone."""

    def __init__(self, name, with_descriptor=True):
        super().__init__()
        self.name = name
        self.with_descriptor = with_descriptor

    def connectionMade(self):
        with open(self.name, "rb", buffering=0) as file:
            if self.with_descriptor:
                fd = os.dup(file.fileno())
                self.done.addBoth(lambda result: (os.close(fd), result)[1])
                self.transport.sendFileDescriptor(fd)
            self.transport.write(self.name.encode() + b"\r\n")
            self.transport.loseConnection()


@inlineCallbacks
def meet(talker, path, program, side, *arguments):
    """Has the program and the talker speak, and ends the program as its user would. Its output."""
    port = None
    if side == "--connect":
        port = yield listen(path, talker)
    with Program(*EMULATOR, program, side, *arguments) as process:
        if side == "--listen":
            yield connect(path, talker)
        yield wait_for(talker.done)
        if port is not None:
            yield port.stopListening()
        elif "--once" not in arguments:
            process.process.send_signal(signal.SIGTERM)
        output = yield deferToThread(process.finish)
    check(not os.path.exists(path), "the socket file was left behind")
    return output


@inlineCallbacks
def send_fd_to_twisted(path, side, *options):
    name = make_file(path)
    receiver = ReceiveFd()
    yield meet(receiver, path, SEND_FD, side, *options, path, name)
    check_equal(receiver.got, [(name, CONTENT[:80])], "received")


@inlineCallbacks
def twisted_to_receive_fd(path, side, *options):
    name = make_file(path)
    output = yield meet(SendFd(name), path, RECEIVE_FD, side, *options, path)
    check_equal(output, f"path: {name}\n{CONTENT[:80].decode()}\n", "output")


def wait_until_read(stream):
    """Until the other end has taken all that was sent to it."""
    unread = array.array("i", [1])
    deadline = time.monotonic() + DEADLINE
    while unread[0] != 0:
        check(time.monotonic() < deadline, "the other end does not read")
        time.sleep(0.01)
        fcntl.ioctl(stream, termios.TIOCOUTQ, unread)


def send_first_byte_alone(name, listener):
    """As sendfd on the wire, with the first byte read before there is more. Twisted's writes may be
    glued together by the kernel."""
    stream, _ = listener.accept()
    with stream, open(name, "rb") as file:
        line = name.encode() + b"\r\n"
        socket.send_fds(stream, [line[:1]], [file.fileno()])
        wait_until_read(stream)
        for i in range(1, len(line)):
            stream.sendall(line[i:i + 1])
            wait_until_read(stream)


@inlineCallbacks
def a_first_chunk_of_one_byte(path, side):
    name = make_file(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(1)
        with Program(*EMULATOR, RECEIVE_FD, side, path) as process:
            yield deferToThread(send_first_byte_alone, name, listener)
            output = yield deferToThread(process.finish)
    check_equal(output, f"path: {name}\n{CONTENT[:80].decode()}\n", "output")


@inlineCallbacks
def a_line_without_a_descriptor(path, side):
    port = yield listen(path, SendFd(make_file(path), with_descriptor=False))
    with Program(*EMULATOR, RECEIVE_FD, side, path) as process:
        output = yield deferToThread(process.process.communicate)
        check_equal(process.process.returncode, 1, "exit status")
        check_equal(output[0], "", "output")
    yield port.stopListening()


run(
    (send_fd_to_twisted, ("--listen",), ("--listen", "--once"), ("--connect",)),
    (twisted_to_receive_fd, ("--connect",), ("--listen",), ("--listen", "--once")),
    (a_first_chunk_of_one_byte, ("--connect",)),
    (a_line_without_a_descriptor, ("--connect",)),
)
