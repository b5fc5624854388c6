"""A protocol of Twisted's and the C peer, connected."""

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogPublisher

from interop import DEADLINE, Failure, Peer, run_cases

_waiting = None


class Talker(Protocol):
    """`done` fires when the connection has ended cleanly."""

    def __init__(self):
        self.done = Deferred()

    def connectionLost(self, reason):
        if self.done.called:
            return
        if reason.check(ConnectionDone):
            self.done.callback(None)
        else:
            self.done.errback(reason)


def _observe(event):
    # What Twisted catches in a protocol is a failure of the test.
    if "log_failure" in event and _waiting is not None and not _waiting.called:
        _waiting.errback(event["log_failure"])


@inlineCallbacks
def talk(talker, mode, side, path, *number):
    """Has the peer and the talker speak until the connection is over. The peer's report."""
    global _waiting
    factory = Factory.forProtocol(lambda: talker)
    port = None
    if side == "--connect":
        port = yield UNIXServerEndpoint(reactor, path).listen(factory)
    with Peer(mode, side, path, *number) as peer:
        if side == "--listen":
            yield UNIXClientEndpoint(reactor, path).connect(factory)
        _waiting = talker.done.addTimeout(DEADLINE, reactor)
        yield _waiting
        if port is not None:
            yield port.stopListening()
        return peer.finish()


def run(*tests_with_cases):
    """The script's body: each test returns a Deferred."""
    globalLogPublisher.addObserver(_observe)

    @inlineCallbacks
    def main(_):
        for test, case, path in run_cases(tests_with_cases):
            try:
                yield test(path, *case)
            except Failure as failure:
                raise SystemExit(f"{test.__name__}{case}: {failure}")

    task.react(main)
