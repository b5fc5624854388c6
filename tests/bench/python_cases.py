"""Twisted and asyncio, for comparison:

    python_cases.py twisted|asyncio trip unix|tcp COUNT    round trips of 64 bytes, both ends in one loop
    python_cases.py twisted|asyncio bulk unix|tcp MIB      bytes from one process to another
    python_cases.py twisted descriptors unix COUNT         one descriptor with each byte, from one process to another

The receiver of the last two is a child process. asyncio passes no descriptors. Exit status 77: Twisted is not installed.
"""

import asyncio
import os
import resource
import socket
import sys
import time

MESSAGE = b"m" * 64
BLOCK = b"b" * (256 * 1024)
BURST = 32


def cpu():
    """Seconds of this process and of the children that it has waited for."""
    return sum(usage.ru_utime + usage.ru_stime for usage in
               map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def pair(kind):
    if kind == "unix":
        return socket.socketpair(socket.AF_UNIX)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


class Trips:
    """What both frameworks' protocols do: they have the same names for it."""

    def __init__(self, loop, left):
        self.loop, self.left = loop, left

    def received(self, transport, first):
        if first:
            self.left -= 1
            if self.left <= 0:
                self.loop.stop()
                return
        transport.write(MESSAGE)


# ---- asyncio ----

class AsyncioLoop:
    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.running = self.ended = False

    def stop(self):
        """The end may come while attach() runs the loop."""
        self.ended = True
        if self.running:
            self.loop.stop()

    def run(self):
        self.running = True
        if not self.ended:
            self.loop.run_forever()

    def attach(self, end, protocol):
        end.setblocking(False)
        connect = (self.loop.create_unix_connection if end.family == socket.AF_UNIX else self.loop.create_connection)
        return self.loop.run_until_complete(connect(lambda: protocol, sock=end))[0]

    def trip(self, trips, first):
        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                trips.received(self.transport, first)
        return Protocol()

    def sender(self, left):
        loop = self

        class Sender(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport, self.left, self.paused = transport, left, False
                loop.loop.call_soon(self.write)

            def pause_writing(self):
                self.paused = True

            def resume_writing(self):
                self.paused = False
                loop.loop.call_soon(self.write)

            def write(self):
                while not self.paused and self.left > 0:
                    self.transport.write(BLOCK)
                    self.left -= len(BLOCK)
                if self.left <= 0:
                    self.transport.close()

            def connection_lost(self, reason):
                loop.stop()
        return Sender()

    def receiver(self, left):
        loop = self

        class Receiver(asyncio.Protocol):
            def connection_made(self, transport):
                self.left = left

            def data_received(self, data):
                self.left -= len(data)

            def connection_lost(self, reason):
                assert self.left == 0, self.left
                loop.stop()
        return Receiver()


# ---- Twisted ----

class TwistedLoop:
    def __init__(self):
        from twisted.internet import reactor
        self.reactor = reactor

    def stop(self):
        self.reactor.callLater(0, self.reactor.stop)

    def run(self):
        self.reactor.run(installSignalHandlers=False)

    def attach(self, end, protocol):
        """Twisted's own classes for a connected socket: adoptStreamConnection does it for a server's end."""
        from twisted.internet.protocol import Factory
        end.setblocking(False)
        factory = Factory()
        factory.buildProtocol = lambda address: protocol
        self.reactor.adoptStreamConnection(end.fileno(), end.family, factory)
        end.close()
        return protocol.transport

    def trip(self, trips, first):
        from twisted.internet.protocol import Protocol

        class Trip(Protocol):
            def dataReceived(self, data):
                trips.received(self.transport, first)
        return Trip()

    def sender(self, left, with_descriptors=False):
        from twisted.internet.interfaces import IPullProducer
        from twisted.internet.protocol import Protocol
        from zope.interface import implementer
        loop = self

        @implementer(IPullProducer)
        class Sender(Protocol):
            def connectionMade(self):
                self.left = left
                self.given = os.open("/dev/null", os.O_RDONLY)
                self.sent = []
                self.transport.registerProducer(self, False)

            def resumeProducing(self):
                # The transport keeps the number until it has sent the descriptor: those of the last burst are sent.
                for fd in self.sent:
                    os.close(fd)
                self.sent = []
                if self.left <= 0:
                    self.transport.unregisterProducer()
                    self.transport.loseConnection()
                elif with_descriptors:
                    for _ in range(min(BURST, self.left)):
                        self.sent.append(os.dup(self.given))
                        self.transport.sendFileDescriptor(self.sent[-1])
                        self.transport.write(b"x")
                        self.left -= 1
                else:
                    self.transport.write(BLOCK)
                    self.left -= len(BLOCK)

            def stopProducing(self):
                pass

            def connectionLost(self, reason):
                loop.stop()
        return Sender()

    def receiver(self, left, with_descriptors=False):
        from twisted.internet.interfaces import IFileDescriptorReceiver
        from twisted.internet.protocol import Protocol
        from zope.interface import implementer
        loop = self

        @implementer(IFileDescriptorReceiver)
        class Receiver(Protocol):
            def connectionMade(self):
                self.left = left

            def fileDescriptorReceived(self, descriptor):
                os.close(descriptor)
                self.left -= 1

            def dataReceived(self, data):
                if not with_descriptors:
                    self.left -= len(data)

            def connectionLost(self, reason):
                if self.left != 0:
                    os._exit(1)
                loop.stop()
        return Receiver()


# ---- the measurements ----

def new_loop(framework):
    return AsyncioLoop() if framework == "asyncio" else TwistedLoop()


def measure_trips(framework, kind, count):
    loop = new_loop(framework)
    trips = Trips(loop, count)
    transports = [loop.attach(end, loop.trip(trips, first=index == 0)) for index, end in enumerate(pair(kind))]
    before = cpu()
    transports[0].write(MESSAGE)
    loop.run()
    print("cpu_us", (cpu() - before) * 1e6 / count)


def transfer(framework, kind, amount, *options):
    """Returns the seconds of the clock and of the processors."""
    near, far = pair(kind)
    child = os.fork()
    if child == 0:
        near.close()
        loop = new_loop(framework)
        loop.attach(far, loop.receiver(amount, *options))
        loop.run()
        os._exit(0)
    far.close()
    loop = new_loop(framework)
    began, before = time.monotonic(), cpu()
    loop.attach(near, loop.sender(amount, *options))
    loop.run()
    _, status = os.waitpid(child, 0)
    assert status == 0, "the receiver has not got all of it"
    return time.monotonic() - began, cpu() - before


def main():
    framework, what, kind, amount = sys.argv[1:]
    if framework == "twisted":
        try:
            import twisted  # noqa: F401
        except ImportError:
            print("python3-twisted is not installed")
            sys.exit(77)
    amount = int(amount)
    if framework == "asyncio" and what == "descriptors":
        print("asyncio passes no descriptors")
        sys.exit(77)
    if what == "trip":
        measure_trips(framework, kind, amount)
    elif what == "bulk":
        seconds, used = transfer(framework, kind, amount << 20)
        print("MB_per_s", amount * 1.048576 / seconds)
        print("cpu_us_per_MB", used * 1e6 / (amount * 1.048576))
    else:
        seconds, used = transfer(framework, kind, amount, True)
        print("per_s", amount / seconds)
        print("cpu_us", used * 1e6 / amount)


main()
