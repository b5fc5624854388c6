"""What docs/handoff.md demands of a worker: a rule for each demand, with a script of the dispatcher that shows it.

A rule is a function of `start`, which starts a worker and returns the dispatcher's end. It raises a Failure if the
worker does otherwise. Its docstring is the demand.
"""

import errno
import fcntl
import os
import select
import signal
import socket
import struct
import termios

from kit import (CLAIM, CREDITS, DEADLINE, DONE, DRAIN, EPOCH, FIXED, HANDOFF, HEADER, HELLO, LOST, MAGIC, RECALL, REJECT,
                 RETURN, Failure, cookie_of, demand, frame, name_of, queued, readable, wait_until)

RULES = {}


def rule(function):
    RULES[function.__name__] = function
    return function


def greet(start, low=1, high=2, **options):
    """A dispatcher that has exchanged HELLO."""
    dispatcher = start(**options)
    dispatcher.send_hello(low, high)
    read_hello(dispatcher)
    return dispatcher


def read_hello(dispatcher):
    got = dispatcher.read()
    demand(got.kind == HELLO, f"{name_of(got.kind)}, not HELLO")
    demand(len(got.payload) >= 24, f"HELLO of {len(got.payload)} bytes")
    low, high, dispatcher.credits, epoch, zero = struct.unpack_from("<HHIQQ", got.payload)
    demand(1 <= low <= high, f"HELLO with the versions {low} to {high}")
    demand(dispatcher.credits > 0, "HELLO with 0 credits")
    demand((epoch, zero) == (0, 0), f"HELLO with epoch {epoch}, zero {zero}")
    return high


def serve(dispatcher, client=None, **fields):
    """Hands a connection off, which is claimed and answers."""
    client = dispatcher.hand_off(client, **fields)
    dispatcher.expect(CLAIM, client)
    answer = client.ask(b"here\n")
    demand(answer == b"1 here", f"a claimed connection answers {answer!r}")
    return client


def is_closed(client):
    """The worker has closed it without reading what the client had sent, and without an answer."""
    got = client.line()
    demand(got is None, f"the client gets {got!r}: the worker served a connection that it may not serve")


def finish(dispatcher, client):
    client.end.shutdown(socket.SHUT_WR)
    client.expect(b"", "its own end")
    dispatcher.expect(DONE, client)


def waiting(dispatcher, text=b"hello\n"):
    """A connection whose client has sent a line, for a handoff that comes to nothing."""
    client = dispatcher.client()
    client.send(text)
    return client


# ---- the channel ----

@rule
def hello(start):
    """HELLO is the worker's first message, and does not wait for the dispatcher's; its epoch is 0."""
    read_hello(start())


@rule
def answers(start):
    """An answer repeats the id and the epoch of its handoff; its reason is 0, and its last four bytes."""
    dispatcher = greet(start)
    for _ in range(3):
        finish(dispatcher, serve(dispatcher))


@rule
def split_frames(start):
    """A frame may arrive in any number of reads, and its descriptor comes with its first byte."""
    dispatcher = start()
    for byte in frame(HELLO, struct.pack("<HHIQQ", 1, 2, 0, EPOCH, 0)):
        dispatcher.write(bytes([byte]))
        dispatcher.is_read()
    read_hello(dispatcher)
    for cut in range(1, len(dispatcher.handoff(dispatcher.client(), data=b"x\n"))):
        client = dispatcher.client()
        whole = dispatcher.handoff(client, data=b"x\n")
        dispatcher.write(whole[:cut], [client.server.fileno()])
        client.server.close()
        dispatcher.is_read()
        dispatcher.write(whole[cut:])
        dispatcher.expect(CLAIM, client)
        client.expect(b"1 x", f"a frame that is cut at byte {cut}")
        finish(dispatcher, client)
        client.close()


@rule
def joined_frames(start):
    """One read may bring several frames. Handoffs are claimed in their order, each with its own descriptor."""
    dispatcher = start()
    dispatcher.stop()
    dispatcher.send_hello()
    dispatcher.write(frame(1000))
    clients = [dispatcher.client() for _ in range(3)]
    for index, client in enumerate(clients):
        after = frame(1000, b"for later") + frame(1001) * 2 + frame(1002)[:5]
        dispatcher.write(dispatcher.handoff(client, data=b"%d\n" % index) + after, [client.server.fileno()])
        client.server.close()
        dispatcher.write(frame(1002)[5:])
    dispatcher.go_on()
    read_hello(dispatcher)
    for index, client in enumerate(clients):
        dispatcher.expect(CLAIM, client)
        client.expect(b"1 %d" % index, "its claim")


@rule
def unknown_types(start):
    """Both ends ignore types that they do not know, also if they come with a descriptor, which is closed."""
    dispatcher = greet(start)
    dispatcher.write(frame(77, b"what is this?"))
    ours, theirs = os.pipe()
    dispatcher.write(frame(9999, b"", 1), [theirs])
    os.close(theirs)
    finish(dispatcher, serve(dispatcher))
    demand(readable(ours), "the descriptor of a message of an unknown type stays open")
    os.close(ours)


@rule
def longer_payloads(start):
    """In a later version a payload of fixed size may be longer: the additional bytes are ignored."""
    dispatcher = start()
    dispatcher.send_hello(more=b"of later versions")
    read_hello(dispatcher)
    client = serve(dispatcher)
    dispatcher.write(frame(RECALL, bytes(8) + b"and of RECALL"))
    dispatcher.expect_return(client)


@rule
def over_the_limits(start):
    """A message over the limits ends the channel, before its payload is read."""
    for header in (HEADER.pack(MAGIC, HANDOFF, 0, 131377, 0, 0), HEADER.pack(MAGIC, 77, 0, 0xFFFFFFFF, 0, 0)):
        dispatcher = greet(start)
        dispatcher.write(header)
        dispatcher.expect_end()


@rule
def broken_frames(start):
    """What is no frame ends the channel."""
    for header in (b"HTTP/1.1 400 Bad", HEADER.pack(b"FRY\2", 77, 0, 0, 0, 0), HEADER.pack(MAGIC, 77, 2, 0, 0, 0),
                   HEADER.pack(MAGIC, 77, 0, 0, 0, 1)):
        dispatcher = greet(start)
        dispatcher.write(header)
        dispatcher.expect_end()


# ---- versions ----

@rule
def no_common_version(start):
    """If the lower of the two highest versions is below the lowest of one end, both end the channel."""
    for low, high in ((99, 100), (0, 0), (2, 1)):
        dispatcher = start()
        client = waiting(dispatcher)
        dispatcher.stop()
        dispatcher.send_hello(low, high)
        dispatcher.hand_off(client)
        dispatcher.go_on()
        read_hello(dispatcher)
        dispatcher.expect_end()
        is_closed(client)


@rule
def later_version(start):
    """Both ends speak the lower of the two highest versions."""
    dispatcher = greet(start, 1, 99)
    client = serve(dispatcher)
    client.ask(b"move\n")
    dispatcher.expect_return(client)


@rule
def version_1(start):
    """There is no RETURN on a channel of version 1: the worker goes on serving."""
    dispatcher = greet(start, 1, 1)
    client = serve(dispatcher)
    client.send(b"move\n")
    client.expect(b"2 move", "`move`")
    client.send(b"on\n")
    ready, _, _ = select.select([client.end, dispatcher.socket], [], [], DEADLINE)
    demand(dispatcher.socket not in ready, "a message after `move`, on a channel of version 1")
    client.expect(b"3 on", "`move`, on a channel of version 1")
    finish(dispatcher, client)


@rule
def hello_first(start):
    """A first message that is not HELLO ends the channel, and so does a second HELLO."""
    dispatcher = start()
    client = dispatcher.hand_off(waiting(dispatcher))
    read_hello(dispatcher)
    dispatcher.expect_end()
    is_closed(client)
    dispatcher = greet(start)
    dispatcher.send_hello()
    dispatcher.expect_end()


# ---- handoffs ----

def put(at, wrong):
    return lambda payload: payload[:at] + wrong + payload[at + len(wrong):]


MALFORMED = [put(34, b"\4\0"), put(36, b"\2"), put(40, b"\3"), put(40, b"\xff\xff\xff\xff"),
             lambda payload: payload[:40], lambda payload: payload + b"more",
             lambda payload: payload.replace(b"lines", b"li\0es"), lambda payload: payload.replace(b"lines\0", b"lines!")]


@rule
def malformed_handoffs(start):
    """A message of a known type with a malformed payload ends the channel, and its handoff is not claimed."""
    for change in MALFORMED:
        dispatcher = greet(start)
        client = waiting(dispatcher)
        payload = change(dispatcher.handoff(client, blob=b"7", data=b"x\n")[HEADER.size:])
        dispatcher.write(frame(HANDOFF, payload, 1), [client.server.fileno()])
        client.server.close()
        dispatcher.expect_end()
        is_closed(client)


@rule
def malformed_others(start):
    """A HELLO or a RECALL that is too short ends the channel."""
    dispatcher = start()
    dispatcher.write(frame(HELLO, struct.pack("<HHI", 1, 2, 0)))
    read_hello(dispatcher)
    dispatcher.expect_end()
    dispatcher = greet(start)
    dispatcher.write(frame(RECALL, b"\0\0\0"))
    dispatcher.expect_end()


@rule
def missing_descriptor(start):
    """If a frame declares a descriptor, and none came although the kernel has dropped none, the channel ends."""
    for count in (1, 0):
        dispatcher = greet(start)
        dispatcher.write(dispatcher.handoff(dispatcher.client(), count=count))
        dispatcher.expect_end()


@rule
def additional_descriptors(start):
    """Descriptors that a frame does not declare end the channel, and are closed; so does a HANDOFF with two."""
    for declared, kind in ((1, HANDOFF), (2, HANDOFF), (0, RECALL)):
        dispatcher = greet(start)
        first, second = waiting(dispatcher), waiting(dispatcher)
        whole = dispatcher.handoff(first, count=declared) if kind == HANDOFF else frame(RECALL, bytes(8))
        dispatcher.write(whole, [first.server.fileno(), second.server.fileno()])
        first.server.close()
        second.server.close()
        dispatcher.expect_end()
        is_closed(first)
        is_closed(second)


@rule
def another_descriptor(start):
    """If the identity differs from that of the descriptor that has arrived, the worker sends REJECT with -EBADMSG."""
    dispatcher = greet(start)
    for fields in ({"cookie": 1}, {"kind": 1}, {"device": 5}):
        client = dispatcher.hand_off(waiting(dispatcher), **fields)
        reason = dispatcher.expect(REJECT, client)
        demand(reason == -errno.EBADMSG, f"REJECT with {reason}")
        is_closed(client)
    client = dispatcher.client()
    ours, theirs = os.pipe()
    dispatcher.write(dispatcher.handoff(client), [ours])
    os.close(ours)
    os.close(theirs)
    demand(dispatcher.expect(REJECT, client) == -errno.EBADMSG, "REJECT for a pipe")
    finish(dispatcher, serve(dispatcher))


@rule
def lost_descriptor(start):
    """Without descriptor slots a worker sends CREDITS 0, then LOST; and its real number once there are slots."""
    dispatcher = greet(start)
    finish(dispatcher, serve(dispatcher))
    usual = dispatcher.credits
    with dispatcher.without_slots():
        for _ in range(2):
            client = dispatcher.hand_off(waiting(dispatcher))
            dispatcher.expect(LOST, client)
            demand(dispatcher.credits == 0, f"LOST while the worker has stated {dispatcher.credits} credits")
            is_closed(client)
    got = dispatcher.read_any()
    demand(got is not None and got.kind == CREDITS, f"{name_of(got.kind) if got else 'the end'}, not CREDITS")
    demand(dispatcher.credits == usual, f"{dispatcher.credits} credits, not {usual}")
    finish(dispatcher, serve(dispatcher))


@rule
def beyond_the_credits(start):
    """Handoffs that are more than the credits, because they crossed a CREDITS on their way, are taken."""
    dispatcher = greet(start)
    finish(dispatcher, serve(dispatcher))
    clients = [dispatcher.hand_off(data=b"x\n") for _ in range(dispatcher.credits + 5)]
    for client in clients:
        dispatcher.expect(CLAIM, client)
        client.expect(b"1 x", "its claim")


# ---- the claim ----

def fence_unclaimed(start, end):
    """A worker that is stopped while its handoffs arrive, and continues when the channel has ended."""
    dispatcher = greet(start)
    dispatcher.stop()
    clients = [waiting(dispatcher), waiting(dispatcher)]
    for client in clients:
        dispatcher.hand_off(client, data=b"first\n")
    end(dispatcher)
    dispatcher.go_on()
    for client in clients:
        is_closed(client)
    return dispatcher


@rule
def claim_before_service(start):
    """The worker serves a handoff when the kernel has the whole CLAIM; if it fails, it closes the descriptor unread."""
    fence_unclaimed(start, lambda dispatcher: dispatcher.fence())


@rule
def dispatcher_gone(start):
    """When the channel has ended, handoffs that are not claimed are closed unread."""
    fence_unclaimed(start, lambda dispatcher: dispatcher.socket.close())


@rule
def no_sigpipe(start):
    """A write on a channel that has ended does not kill the worker."""
    dispatcher = fence_unclaimed(start, lambda dispatcher: dispatcher.fence())
    dispatcher.socket.close()
    wait_until(lambda: dispatcher.state() in "SZ", "the worker waits or ends")
    status = dispatcher.process.poll()
    demand(status != -signal.SIGPIPE, "SIGPIPE has killed the worker")


@rule
def one_claim(start):
    """The worker writes one claim at a time, right before it serves that handoff."""
    dispatcher = greet(start, small=True)
    count = 24
    dispatcher.stop()
    clients = [dispatcher.hand_off(data=b"x\n") for _ in range(count)]
    dispatcher.go_on()
    # Nothing is read: after some claims the channel is full. All but the last of them have answers by then.
    wait_until(lambda: queued(dispatcher.socket, termios.FIONREAD) >= 2 * 40, "two claims")
    claimed = queued(dispatcher.socket, termios.FIONREAD) // 40
    for client in clients[:claimed - 1]:
        client.expect(b"1 x", "its claim, while the channel is full")
    for client in clients:
        dispatcher.expect(CLAIM, client)
    for client in clients[claimed - 1:]:
        client.expect(b"1 x", "its claim")


@rule
def claimed_are_kept(start):
    """When the channel ends, the worker serves what it has claimed to its end."""
    dispatcher = greet(start)
    clients = [serve(dispatcher) for _ in range(3)]
    dispatcher.fence()
    for client in clients:
        demand(client.ask(b"fenced\n") == b"2 fenced", "a claimed connection ends with the fence")
    dispatcher.socket.close()
    for client in clients:
        demand(client.ask(b"closed\n") == b"3 closed", "a claimed connection ends with the channel")
        client.end.shutdown(socket.SHUT_WR)
        client.expect(b"", "its own end")


@rule
def done(start):
    """DONE follows once, after the worker has closed the connection, and not before."""
    dispatcher = greet(start)
    first, second = serve(dispatcher), serve(dispatcher)
    finish(dispatcher, first)
    third = serve(dispatcher)
    finish(dispatcher, second)
    finish(dispatcher, third)
    finish(dispatcher, serve(dispatcher))


@rule
def drain(start):
    """After the dispatcher's DRAIN the worker serves what it has and what is on its way."""
    dispatcher = greet(start)
    first = serve(dispatcher)
    dispatcher.stop()
    client = dispatcher.hand_off()
    dispatcher.write(frame(DRAIN))
    dispatcher.go_on()
    got = dispatcher.read()
    while got.kind == DRAIN:  # it may drain itself
        got = dispatcher.read()
    demand(got.kind == CLAIM, f"{name_of(got.kind)}, not CLAIM")
    demand(client.ask(b"x\n") == b"1 x", "a handoff before DRAIN has no answer")
    demand(first.ask(b"x\n") == b"2 x", "a claimed connection ends with DRAIN")
    finish(dispatcher, first)


# ---- the return ----

@rule
def returned(start):
    """RETURN has the id, epoch and identity of the HANDOFF, attempt 0, no name, and the descriptor. No DONE follows."""
    dispatcher = greet(start)
    client = serve(dispatcher)
    client.send(b"move\nunread")
    client.expect(b"2 move", "`move`")
    got = dispatcher.expect_return(client)
    with got.fd.socket() as back:
        demand(cookie_of(back) == client.cookie, "RETURN with another descriptor")
        try:
            back.sendall(b"still open\n")
        except BrokenPipeError as error:
            raise Failure("the worker has shut the connection down") from error
    client.expect(b"still open", "the return")
    finish(dispatcher, serve(dispatcher))


@rule
def returned_whole(start):
    """The bytes of a RETURN are those that the worker has read and not served; the blob is its state."""
    dispatcher = greet(start)
    client = serve(dispatcher, dispatcher.client(), blob=b"")
    client.send(b"move\nhal")
    client.expect(b"2 move", "`move`")
    got = dispatcher.expect_return(client)
    with got.fd.socket() as client.server:
        fcntl.fcntl(client.server, fcntl.F_SETFL, 0)
        unread = client.server.recv(100, socket.MSG_PEEK | socket.MSG_DONTWAIT) if readable(client.server) else b""
        demand(got.data + unread == b"hal", f"RETURN with {got.data!r}, and {unread!r} are unread, not b'hal'")
        dispatcher.hand_off(client, blob=got.blob, data=got.data)
    dispatcher.expect(CLAIM, client)
    client.send(b"f\n")
    client.expect(b"3 half", "a second handoff with the blob and the bytes of the return")


@rule
def closed_after_return(start):
    """The worker closes its copy when the kernel has taken the return."""
    dispatcher = greet(start)
    client = serve(dispatcher)
    client.send(b"move\n")
    client.expect(b"2 move", "`move`")
    dispatcher.expect_return(client).fd.close()
    client.expect(b"", "the return, and the dispatcher's close")


@rule
def recall(start):
    """On RECALL the worker returns its idle connections, at once or over the time that the message states."""
    dispatcher = greet(start)
    for msec in (0, 200):
        clients = {client.cookie: client for client in [serve(dispatcher) for _ in range(3)]}
        dispatcher.write(recall_over(msec))
        while clients:
            got = dispatcher.read()
            demand(got.kind == RETURN, f"{name_of(got.kind)}, not RETURN")
            cookie = FIXED.unpack_from(got.payload)[2]
            demand(cookie in clients, "RETURN with the identity of no connection")
            del clients[cookie]
        finish(dispatcher, serve(dispatcher))


def recall_over(msec):
    return frame(RECALL, struct.pack("<II", msec, 0))


@rule
def recall_spread(start):
    """The worker spreads the returns over the time of a RECALL, and serves the connections until then."""
    dispatcher = greet(start)
    clients = [serve(dispatcher) for _ in range(8)]
    dispatcher.write(recall_over(3_600_000))
    other = dispatcher.hand_off()  # behind the RECALL: once it is served, the worker has read that
    returned = set()
    while (got := dispatcher.read()).kind == RETURN:
        returned.add(FIXED.unpack_from(got.payload)[2])
    demand(got.kind == CLAIM, f"{name_of(got.kind)}, not CLAIM")
    other.send(b"1\n2\n3\n")
    for number in (1, 2, 3):
        other.expect(b"%d %d" % (number, number), "a RECALL")
    while readable(dispatcher.socket):
        got = dispatcher.read()
        demand(got.kind == RETURN, f"{name_of(got.kind)}, not RETURN")
        returned.add(FIXED.unpack_from(got.payload)[2])
    demand(len(returned) <= 4, f"{len(returned)} of 8 connections return at once on a RECALL over an hour")
    for client in clients:
        if client.cookie not in returned:
            client.send(b"still\n")
            client.expect(b"2 still", "a RECALL whose time is not over")


@rule
def refused_return(start):
    """If the channel breaks before the kernel has taken the return, the worker serves the connection on."""
    dispatcher = greet(start)
    client = serve(dispatcher)
    dispatcher.stop()
    client.send(b"move\n")
    dispatcher.fence()
    dispatcher.go_on()
    client.expect(b"2 move", "`move`")
    client.send(b"on\n")
    client.expect(b"3 on", "a return that the kernel did not take")


@rule
def half_return(start):
    """Half a return never happened: the worker still has the connection, and serves it on, with all its bytes."""
    dispatcher = greet(start, small=True)
    text = b"x" * 20000
    client = dispatcher.hand_off(data=b"move\n" + text)
    dispatcher.expect(CLAIM, client)
    client.expect(b"1 move", "`move`")
    wait_until(lambda: queued(dispatcher.socket, termios.FIONREAD) > HEADER.size + FIXED.size, "half a RETURN")
    demand(queued(dispatcher.socket, termios.FIONREAD) < len(text), "RETURN without the bytes of the HANDOFF")
    dispatcher.fence()
    header, fds, _, _ = socket.recv_fds(dispatcher.socket, HEADER.size, 1)
    for fd in fds:
        os.close(fd)
    demand(HEADER.unpack(header)[1] == RETURN, f"{name_of(HEADER.unpack(header)[1])}, not RETURN")
    while dispatcher.socket.recv(65536):
        pass
    client.send(b"\n")
    client.expect(b"2 " + text, "half a return")


# ---- the fence ----

def act(dispatcher, clients, moment):
    """The step of the script before this moment."""
    if moment == 1:
        dispatcher.send_hello()
    elif moment in (2, 3, 6):
        clients.append(dispatcher.hand_off(waiting(dispatcher), data=b"first\n"))
    elif moment == 4:
        clients[0].end.sendall(b"move\n")
    elif moment == 5:
        dispatcher.write(frame(RECALL, bytes(8)))


def drain_fenced(dispatcher):
    """What the kernel had taken before the fence: the ids that were claimed, and the returns by id."""
    claimed, returned = set(), {}
    while (got := dispatcher.read_any()) is not None:
        if got.kind in (CLAIM, RETURN):
            number = struct.unpack_from("<Q", got.payload)[0]
            claimed.add(number)
            if got.kind == RETURN:
                returned[number] = got.fds[0]
    return claimed, returned


def has_one_holder(client, claimed, returned):
    """The client is served by the worker, or is the dispatcher's, or was never read."""
    if client.id in returned:
        with returned[client.id].socket() as back:
            back.sendall(b"back\n")
        end = b"back"
    elif client.id in claimed:
        client.send(b"on\n")
        end = b" on"
    else:
        is_closed(client)
        return
    while not (line := client.line() or b"").endswith(end):
        demand(line, "a connection ends that the worker has claimed and not returned" if client.id not in returned else
               "a returned connection is shut down")


@rule
def fence_at_each_moment(start):
    """Whenever the channel ends, what was claimed and not returned is served, and what was not claimed is not read."""
    for last in range(7):
        for stopped in (False, True):
            dispatcher, clients = start(), []
            for moment in range(1, last + 1):
                if moment == last and stopped:
                    read_hello(dispatcher)
                    dispatcher.stop()
                handed_off = len(clients)
                act(dispatcher, clients, moment)
                if stopped and moment < last and len(clients) > handed_off:
                    clients[-1].expect(b"1 first", "its claim")
            dispatcher.fence()
            claimed, returned = drain_fenced(dispatcher)
            if stopped and last > 0:
                dispatcher.go_on()
            for client in clients:
                has_one_holder(client, claimed, returned)
