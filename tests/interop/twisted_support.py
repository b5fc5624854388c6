"""Connects a protocol of Twisted with the C peer."""

import sys

try:
    from twisted.internet import reactor, task
except ImportError as error:
    print("skipped:", error)
    sys.exit(77)

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.error import ConnectError, ConnectionDone
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
    # Twisted catches and logs the exceptions of a protocol. Here they fail the test.
    if "log_failure" in event and _waiting is not None and not _waiting.called:
        _waiting.errback(event["log_failure"])


def wait_for(done):
    """Returns the same Deferred. It also fails if Twisted catches an exception meanwhile."""
    global _waiting
    _waiting = done.addTimeout(DEADLINE, reactor)
    return done


def listen(path, talker):
    return UNIXServerEndpoint(reactor, path).listen(Factory.forProtocol(lambda: talker))


@inlineCallbacks
def connect(path, talker):
    """Connects; tries again until a process listens on the path."""
    for _ in range(DEADLINE * 50):
        try:
            yield UNIXClientEndpoint(reactor, path).connect(Factory.forProtocol(lambda: talker))
            return
        except ConnectError:
            yield task.deferLater(reactor, 0.02)
    raise Failure("nobody listens")


@inlineCallbacks
def talk(talker, mode, side, path, *number):
    """Connects the peer with the talker, and waits until the connection has ended. Returns the
    report of the peer."""
    port = None
    if side == "--connect":
        port = yield listen(path, talker)
    with Peer(mode, side, path, *number) as peer:
        if side == "--listen":
            yield connect(path, talker)
        yield wait_for(talker.done)
        if port is not None:
            yield port.stopListening()
        return peer.finish()


def run(*tests_with_cases):
    """The body of a script. Each test returns a Deferred."""
    globalLogPublisher.addObserver(_observe)

    @inlineCallbacks
    def main(_):
        for test, case, path in run_cases(tests_with_cases):
            try:
                yield test(path, *case)
            except Failure as failure:
                raise SystemExit(f"{test.__name__}{case}: {failure}")

    task.react(main)
