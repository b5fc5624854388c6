"""examples/send_fd and examples/receive_fd with the protocol of sendfd and recvfd, two examples of
Twisted's documentation. The sender sends "<path>\\r\\n", with the descriptor of the file on the
first byte. The receiver reads 80 bytes of the file.

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
    """Creates the file to send, in the directory of the socket. Returns its path."""
    name = path + ".content"
    with open(name, "wb") as file:
        file.write(CONTENT)
    return name


@implementer(IFileDescriptorReceiver)
class ReceiveFd(LineReceiver, Talker):
    """As recvfd: the descriptor must arrive before its line."""

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
    """As sendfd: sends the descriptor, then the line. Twisted sends the first byte of the line
    alone, with the descriptor."""

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
def send_fd_to_twisted(path):
    name = make_file(path)
    receiver = ReceiveFd()
    with Program(*EMULATOR, SEND_FD, path, name) as process:
        yield connect(path, receiver)
        yield wait_for(receiver.done)
        process.process.send_signal(signal.SIGTERM)
        yield deferToThread(process.finish)
    check(not os.path.exists(path), "the socket file was left behind")
    check_equal(receiver.got, [(name, CONTENT[:80])], "received")


@inlineCallbacks
def twisted_to_receive_fd(path):
    name = make_file(path)
    sender = SendFd(name)
    port = yield listen(path, sender)
    with Program(*EMULATOR, RECEIVE_FD, path) as process:
        yield wait_for(sender.done)
        yield port.stopListening()
        output = yield deferToThread(process.finish)
    check_equal(output, f"path: {name}\n{CONTENT[:80].decode()}\n", "output")


def wait_until_read(stream):
    """Waits until the other end has read all bytes that were sent to it."""
    unread = array.array("i", [1])
    deadline = time.monotonic() + DEADLINE
    while unread[0] != 0:
        check(time.monotonic() < deadline, "the other end does not read")
        time.sleep(0.01)
        fcntl.ioctl(stream, termios.TIOCOUTQ, unread)


def send_first_byte_alone(name, listener):
    """Sends the same bytes as sendfd, and waits after each byte until the receiver has read it. The
    receiver therefore always reads the first byte alone; the kernel may merge writes of Twisted."""
    stream, _ = listener.accept()
    with stream, open(name, "rb") as file:
        line = name.encode() + b"\r\n"
        socket.send_fds(stream, [line[:1]], [file.fileno()])
        wait_until_read(stream)
        for i in range(1, len(line)):
            stream.sendall(line[i:i + 1])
            wait_until_read(stream)


@inlineCallbacks
def a_first_chunk_of_one_byte(path):
    name = make_file(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(1)
        with Program(*EMULATOR, RECEIVE_FD, path) as process:
            yield deferToThread(send_first_byte_alone, name, listener)
            output = yield deferToThread(process.finish)
    check_equal(output, f"path: {name}\n{CONTENT[:80].decode()}\n", "output")


@inlineCallbacks
def a_line_without_a_descriptor(path):
    port = yield listen(path, SendFd(make_file(path), with_descriptor=False))
    with Program(*EMULATOR, RECEIVE_FD, path) as process:
        output = yield deferToThread(process.process.communicate)
        check_equal(process.process.returncode, 1, "exit status")
        check_equal(output[0], "", "output")
    yield port.stopListening()


run(
    (send_fd_to_twisted, ()),
    (twisted_to_receive_fd, ()),
    (a_first_chunk_of_one_byte, ()),
    (a_line_without_a_descriptor, ()),
)
