"""examples/send_fd and receive_fd against what Twisted's documentation examples sendfd and recvfd do on
the wire: "<path>\\r\\n" with the file's descriptor on the first byte, of which the receiver reads 80
bytes.

Arguments: [emulator...] SEND_FD RECEIVE_FD
"""

import os
import signal
import sys

from twisted_support import Talker, connect, listen, run, wait_for
from twisted.internet.defer import inlineCallbacks
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.threads import deferToThread
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

from interop import Program, check, check_equal

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
    (a_line_without_a_descriptor, ("--connect",)),
)
