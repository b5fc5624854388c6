"""Hundreds of descriptors between ferry and Twisted, in both directions."""

import os

from twisted.internet.defer import inlineCallbacks
from twisted.internet.interfaces import IFileDescriptorReceiver
from zope.interface import implementer

from interop import Ledger, check_equal, make_object
from twisted_support import Talker, run, talk

COUNT = 500


@implementer(IFileDescriptorReceiver)
class Receiver(Talker):
    def __init__(self):
        super().__init__()
        self.ledger = Ledger()
        self.fds = []

    def fileDescriptorReceived(self, descriptor):
        self.fds.append(descriptor)

    def dataReceived(self, data):
        fds, self.fds = self.fds, []
        self.ledger.read(fds, data)


@inlineCallbacks
def twisted_receives(path, side):
    receiver = Receiver()
    report = yield talk(receiver, "send-fds", side, path, COUNT)
    receiver.ledger.finish(COUNT)
    check_equal(len(receiver.ledger.stream), report["sent"], "bytes")
    check_equal(report["fds_sent"], COUNT, "descriptors that the peer counts")


class Sender(Talker):
    """Sends all descriptors at once, then about `filler` bytes, and closes the connection."""

    def __init__(self, filler):
        super().__init__()
        self.fds = [make_object(i) for i in range(COUNT)]
        self.lines = [b"%d\n" % i for i in range(COUNT)]
        self.lines += [b"0 %s\n" % (b"x" * 65000)] * (filler // 65003)

    def connectionMade(self):
        # Twisted sends each descriptor with one byte: as many bytes must be queued as descriptors.
        for fd, line in zip(self.fds, self.lines):
            self.transport.sendFileDescriptor(fd)
            self.transport.write(line)
        self.transport.writeSequence(self.lines[COUNT:])
        self.transport.loseConnection()

    def connectionLost(self, reason):
        for fd in self.fds:
            os.close(fd)
        super().connectionLost(reason)


@inlineCallbacks
def twisted_sends(path, side, filler):
    sender = Sender(filler)
    report = yield talk(sender, "receive-fds", side, path)
    check_equal(report["fds"], COUNT, "descriptors")
    check_equal(report["fds_received"], COUNT, "descriptors that the peer counts")
    check_equal(report["lines"], len(sender.lines), "lines")
    check_equal(report["received"], sum(map(len, sender.lines)), "bytes")


MEGABYTES = 60 * 1000 * 1000
run(
    (twisted_receives, ("--listen",), ("--connect",)),
    (twisted_sends, ("--listen", 0), ("--connect", 0), ("--listen", MEGABYTES)),
)
