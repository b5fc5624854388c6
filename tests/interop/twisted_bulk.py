"""ferry and Twisted send 60 MB to each other at the same time. Either end closes its writing half
first."""

import os
import zlib

from twisted.internet.defer import inlineCallbacks
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer
from zope.interface import implementer

from interop import check_equal
from twisted_support import Talker, run, talk

SIZE = 60 * 1000 * 1000
CHUNK = 65536
LAST_WORD = b"last word"


@implementer(IHalfCloseableProtocol, IPullProducer)
class Bulk(Talker):
    """Closes its writing half once all bytes are sent. With `last`, it first waits until the peer
    has closed its half, and then sends LAST_WORD."""

    def __init__(self, last):
        super().__init__()
        self.last = last
        self.sent = self.received = self.sent_crc = self.received_crc = 0
        self.read_lost = self.write_lost = False
        self.received_after_closing = 0

    def connectionMade(self):
        self.transport.registerProducer(self, False)

    def _send(self, data):
        self.sent += len(data)
        self.sent_crc = zlib.crc32(data, self.sent_crc)
        self.transport.write(data)

    def resumeProducing(self):
        self._send(os.urandom(min(CHUNK, SIZE - self.sent)))
        if self.sent == SIZE:
            self.transport.unregisterProducer()
            self._close_half()

    def stopProducing(self):
        pass

    def _close_half(self):
        if self.last and not self.read_lost:
            return
        if self.last:
            self._send(LAST_WORD)
        self.transport.loseWriteConnection()

    def dataReceived(self, data):
        self.received += len(data)
        self.received_crc = zlib.crc32(data, self.received_crc)
        if self.write_lost:
            self.received_after_closing += len(data)

    def readConnectionLost(self):
        self.read_lost = True
        if self.last and self.sent == SIZE:
            self._close_half()
        self._close_if_both()

    def writeConnectionLost(self):
        self.write_lost = True
        self._close_if_both()

    def _close_if_both(self):
        if self.read_lost and self.write_lost:
            self.transport.loseConnection()


@inlineCallbacks
def both_ways(path, side, mode):
    bulk = Bulk(last=mode == "bulk-first")
    report = yield talk(bulk, mode, side, path, SIZE)
    extra = len(LAST_WORD)
    check_equal(report["received"], SIZE + (extra if bulk.last else 0), "bytes to the peer")
    check_equal(bulk.received, SIZE + (0 if bulk.last else extra), "bytes from the peer")
    check_equal(report["received_crc"], bulk.sent_crc, "checksum of bytes to the peer")
    check_equal(bulk.received_crc, report["sent_crc"], "checksum of bytes from the peer")
    if not bulk.last:
        check_equal(bulk.received_after_closing >= extra, True, "the last word came after closing")


run((both_ways, *((side, mode) for side in ("--listen", "--connect")
                  for mode in ("bulk-first", "bulk-last"))))
