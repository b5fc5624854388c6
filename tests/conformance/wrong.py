"""Workers that break one rule each, to prove that the kit finds them: examples/python/worker.py with a fault.

    wrong.py DIRECTORY-OF-THE-EXAMPLE FAULT DESCRIPTOR

FAULTS has the fault's function, the rule that finds it, and a pattern in what the kit then prints.
"""

import os
import signal
import socket
import struct
import sys

FAULTS = {}


def fault(rule, seen):
    def add(function):
        FAULTS[function.__name__] = (function, rule, seen)
        return function
    return add


LATE = "within"  # the kit has waited for something that does not come


# ---- messages ----

@fault("hello", "HELLO with epoch 7")
def hello_has_an_epoch(module):
    change_send(module, module.HELLO, lambda payload: payload[:8] + struct.pack("<Q", 7) + payload[16:])


@fault("hello", LATE)
def hello_waits_for_the_other(module):
    send, frames = module.Messages.send, module.Messages.receive

    def receive(self):
        for got in frames(self):
            if got[0] == module.HELLO:
                send(self, *self.late)
            yield got

    def send_late(self, kind, payload, fds=()):
        if kind == module.HELLO:
            self.late = (kind, payload)
        else:
            send(self, kind, payload, fds)
    module.Messages.receive, module.Messages.send = receive, send_late


@fault("answers", "CLAIM with id")
def answers_have_no_epoch(module):
    change_send(module, module.CLAIM, lambda payload: payload[:8] + bytes(8) + payload[16:])


@fault("answers", "DONE with the reason")
def done_has_a_reason(module):
    change_send(module, module.DONE, lambda payload: payload[:16] + b"\1" + payload[17:])


@fault("split_frames", "ends the channel")
def a_read_is_a_whole_frame(module):
    next_frame = module.Messages.next_frame

    def strict(self):
        got = next_frame(self)
        if got is None and self.input:
            raise ValueError("half a frame")
        return got
    module.Messages.next_frame = strict


@fault("joined_frames", "ends the channel")
def a_read_is_one_frame(module):
    next_frame = module.Messages.next_frame

    def strict(self):
        got = next_frame(self)
        if got is not None and self.input:
            raise ValueError("more than a frame")
        return got
    module.Messages.next_frame = strict


@fault("joined_frames", "CLAIM with id")
def the_newest_first(module):
    """Claims in the other order: it keeps each handoff until the next one has come."""
    take, kept = module.Worker.take, []

    def late(self, payload, fds):
        kept.append((payload, [os.dup(fd) for fd in fds]))
        while len(kept) > 1:
            take(self, *kept.pop())
    module.Worker.take = late


@fault("unknown_types", "ends the channel")
def unknown_types_are_errors(module):
    def check(kind, payload, fds):
        if kind > module.RECALL:
            raise ValueError("an unknown type")
    on_frame(module, check)


@fault("unknown_types", "stays open")
def descriptors_of_unknown_types_stay(module):
    on_frame(module, lambda kind, payload, fds: fds.clear() if kind > module.RECALL else None)


@fault("longer_payloads", "ends the channel")
def payloads_have_one_length(module):
    def check(kind, payload, fds):
        if kind == module.HELLO and len(payload) != 24:
            raise ValueError("another length")
    on_frame(module, check)


@fault("over_the_limits", LATE)
def no_limits(module):
    init = module.Messages.__init__
    module.Messages.__init__ = lambda self, end, payload_max, fds_max: init(self, end, 1 << 40, fds_max)


@fault("broken_frames", LATE)
def any_header(module):
    next_frame = module.Messages.next_frame

    def lenient(self):
        if len(self.input) >= 16:
            self.input = b"FRY\1" + self.input[4:6] + bytes(2) + self.input[8:14] + bytes(2) + self.input[16:]
        return next_frame(self)
    module.Messages.next_frame = lenient


@fault("no_common_version", "CLAIM, not the end")
def any_version(module):
    rewrite(module, lambda kind, payload: struct.pack("<HH", 1, 2) + payload[4:] if kind == module.HELLO else payload)


@fault("later_version", "ends the channel")
def no_later_version(module):
    def check(kind, payload, fds):
        if kind == module.HELLO and struct.unpack_from("<H", payload, 2)[0] > 2:
            raise ValueError("a version that is too high")
    on_frame(module, check)


@fault("version_1", "on a channel of version 1")
def a_return_on_version_1(module):
    rewrite(module, lambda kind, payload: struct.pack("<HH", 1, 2) + payload[4:] if kind == module.HELLO else payload)


@fault("hello_first", "CLAIM, not the end")
def hello_is_not_needed(module):
    init = module.Worker.__init__

    def started(self, channel):
        init(self, channel)
        self.version = 2
    module.Worker.__init__ = started


@fault("hello_first", LATE)
def two_hellos(module):
    receive = module.Messages.receive

    def once(self):
        for got in receive(self):
            if got[0] != module.HELLO or not getattr(self, "greeted", False):
                self.greeted = True
                yield got
    module.Messages.receive = once


# ---- handoffs ----

@fault("malformed_handoffs", "CLAIM, not the end")
def lengths_are_not_compared(module):
    rewrite(module, lambda kind, payload: (payload[:34] + bytes(10) + payload[44:48] + b"\0").ljust(49, b"\0")
            if kind == module.HANDOFF else payload)


@fault("malformed_others", LATE)
def a_short_recall(module):
    rewrite(module, lambda kind, payload: payload.ljust(8, b"\0") if kind == module.RECALL else payload)


@fault("missing_descriptor", "LOST, not the end")
def missing_is_lost(module):
    next_frame = module.Messages.next_frame

    def lenient(self):
        if not self.arrived:
            self.arrived.append((self.position, self.position + len(self.input), []))
        got = next_frame(self)
        if self.arrived and not self.arrived[0][2]:
            self.arrived.pop() if got is None or not got[2] else None
        return got
    module.Messages.next_frame = lenient


@fault("additional_descriptors", "CLAIM, not the end")
def the_first_descriptor_counts(module):
    next_frame = module.Messages.next_frame

    def lenient(self):
        for _, _, fds in self.arrived:
            self.close_fds(extra := fds[1:])
            del fds[1:], extra
        return next_frame(self)
    module.Messages.next_frame = lenient


@fault("another_descriptor", "CLAIM, not REJECT")
def any_cookie(module):
    """The cookie of the HANDOFF is replaced by that of the descriptor."""
    receive = module.Messages.receive

    def blind(self):
        for kind, payload, count, fds in receive(self):
            if kind == module.HANDOFF and fds:
                with socket.socket(fileno=os.dup(fds[0])) as end:
                    cookie = end.getsockopt(socket.SOL_SOCKET, 57, 8)
                payload = payload[:16] + cookie + payload[24:]
            yield kind, payload, count, fds
    module.Messages.receive = blind


@fault("another_descriptor", "CLAIM, not REJECT")
def any_kind(module):
    rewrite(module, lambda kind, payload: payload[:32] + b"\14" + payload[33:] if kind == module.HANDOFF else payload)


@fault("another_descriptor", "CLAIM, not REJECT")
def any_device(module):
    rewrite(module, lambda kind, payload: payload[:24] + bytes(8) + payload[32:] if kind == module.HANDOFF else payload)


@fault("another_descriptor", "REJECT with -22")
def another_reason(module):
    change_send(module, module.REJECT, lambda payload: payload[:16] + struct.pack("<i", -22) + payload[20:])


@fault("lost_descriptor", "has stated 64 credits")
def lost_with_credits(module):
    send = module.Messages.send

    def no_zero(self, kind, payload, fds=()):
        if kind != module.CREDITS or payload != bytes(8):
            send(self, kind, payload, fds)
    module.Messages.send = no_zero


@fault("lost_descriptor", LATE)
def credits_are_not_stated_again(module):
    send = module.Messages.send

    def only_zero(self, kind, payload, fds=()):
        if kind != module.CREDITS or payload == bytes(8):
            send(self, kind, payload, fds)
    module.Messages.send = only_zero


@fault("beyond_the_credits", "REJECT, not CLAIM")
def not_beyond_the_credits(module):
    take = module.Worker.take

    def strict(self, payload, fds):
        if len(self.readable) > module.TAKES:
            number, epoch = struct.unpack_from("<QQ", payload)
            self.channel.send(module.REJECT, module.ANSWER.pack(number, epoch, -11, 0))
        else:
            take(self, payload, fds)
    module.Worker.take = strict


# ---- the claim ----

@fault("claim_before_service", "b'1 first'")
def service_before_claim(module):
    send, claims = module.Messages.send, []
    serve, take = module.Worker.serve, module.Worker.take

    def late(self, kind, payload, fds=()):
        claims.append((kind, payload)) if kind == module.CLAIM else send(self, kind, payload, fds)

    def claim_after(self, payload, fds):
        take(self, payload, fds)
        while claims:
            send(self.channel, *claims.pop())
    module.Messages.send, module.Worker.take, module.Worker.serve = late, claim_after, serve


@fault("claim_before_service", "b'1 first'")
def a_refused_claim_counts(module):
    forgive(module, module.CLAIM)


@fault("dispatcher_gone", "b'1 first'")
def a_claim_without_a_channel(module):
    forgive(module, module.CLAIM)


@fault("no_sigpipe", "SIGPIPE has killed")
def killed_by_sigpipe(module):
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


@fault("one_claim", LATE)
def all_claims_first(module):
    """Claims while handoffs come, and serves when no more come."""
    serve, run, claimed = module.Worker.serve, module.Worker.run, []
    select = module.select.select

    def later(self, client, data=b""):
        claimed.append((self, client, data)) if data else serve(self, client)

    def select_or_serve(ends, *others):
        found = select(ends, [], [], 0.01 if claimed else others[-1])
        if not found[0]:
            while claimed:
                serve(*claimed.pop(0))
        return found
    module.Worker.serve, module.Worker.run = later, run
    module.select = type("", (), {"select": staticmethod(select_or_serve)})


@fault("claimed_are_kept", "has closed a connection|ends with the")
def all_end_with_the_channel(module):
    close = module.Messages.close

    def close_all(self):
        close(self)
        os._exit(0)
    module.Messages.close = close_all


@fault("done", "DONE, not CLAIM")
def done_twice(module):
    repeat(module, module.DONE)


@fault("done", "DONE, not CLAIM")
def done_with_the_claim(module):
    send = module.Messages.send

    def hasty(self, kind, payload, fds=()):
        send(self, kind, payload, fds)
        if kind == module.CLAIM:
            send(self, module.DONE, payload)
    module.Messages.send = hasty


@fault("done", LATE)
def no_done(module):
    send = module.Messages.send

    def silent(self, kind, payload, fds=()):
        if kind != module.DONE:
            send(self, kind, payload, fds)
    module.Messages.send = silent


@fault("drain", "ends the channel")
def drain_is_the_end(module):
    def check(kind, payload, fds):
        if kind == module.DRAIN:
            raise ValueError("the dispatcher does not want us")
    on_frame(module, check)


# ---- the return ----

@fault("returned", "with attempt 1")
def a_return_with_an_attempt(module):
    change_send(module, module.RETURN, lambda payload: payload[:33] + b"\1" + payload[34:])


@fault("returned", "a name of 1 bytes")
def a_return_with_a_name(module):
    change_send(module, module.RETURN, lambda payload: payload[:34] + b"\1" + payload[35:48] + b"x" + payload[48:])


@fault("returned", "another identity")
def a_return_without_identity(module):
    change_send(module, module.RETURN, lambda payload: payload[:16] + bytes(8) + payload[24:])


@fault("returned", "RETURN with another descriptor")
def a_return_of_another_descriptor(module):
    send = module.Messages.send

    def other(self, kind, payload, fds=()):
        ends = socket.socketpair()
        send(self, kind, payload, [ends[0].fileno()] if kind == module.RETURN else fds)
    module.Messages.send = other


@fault("returned", "0 descriptors")
def a_return_without_descriptor(module):
    send = module.Messages.send
    module.Messages.send = lambda self, kind, payload, fds=(): send(self, kind, payload)


@fault("returned", "DONE, not CLAIM")
def done_after_the_return(module):
    send = module.Messages.send

    def both(self, kind, payload, fds=()):
        send(self, kind, payload, fds)
        if kind == module.RETURN:
            send(self, module.DONE, payload[:16] + bytes(8))
    module.Messages.send = both


@fault("returned", "shut the connection down")
def shut_down_after_the_return(module):
    give_back = module.Worker.give_back

    def rude(self, client):
        client.shutdown(socket.SHUT_RDWR)
        return give_back(self, client)
    module.Worker.give_back = rude


@fault("returned_whole", "are unread, not b'hal'")
def a_return_without_bytes(module):
    give_back = module.Worker.give_back

    def forgetful(self, client):
        client.rest = b""
        return give_back(self, client)
    module.Worker.give_back = forgetful


@fault("returned_whole", "b'1 half'")
def a_return_without_state(module):
    give_back = module.Worker.give_back

    def forgetful(self, client):
        client.lines = 0
        return give_back(self, client)
    module.Worker.give_back = forgetful


@fault("closed_after_return", LATE)
def a_copy_stays(module):
    send, copies = module.Messages.send, []

    def keep(self, kind, payload, fds=()):
        copies.extend(os.dup(fd) for fd in fds)
        send(self, kind, payload, fds)
    module.Messages.send = keep


@fault("recall", LATE)
def recall_is_ignored(module):
    rewrite(module, lambda kind, payload: payload, {module.RECALL: 1000})


@fault("recall", LATE)
def no_client_is_idle(module):
    rewrite(module, lambda kind, payload: struct.pack("<II", 86_400_000, 0) if kind == module.RECALL else payload)


@fault("recall_spread", "8 of 8 connections return at once")
def all_return_at_once(module):
    rewrite(module, lambda kind, payload: bytes(8) if kind == module.RECALL else payload)


@fault("recall_spread", "gets no answer")
def recalled_clients_get_no_answer(module):
    run = module.Worker.serve

    def serve(self, client, data=b""):
        if client in self.leaving:
            self.readable.discard(client)
            self.readable.add(client)
            return client.recv(16384) and None
        return run(self, client, data)
    module.Worker.serve = serve


@fault("refused_return", "has closed a connection|after a return")
def a_refused_return_closes(module):
    forgive(module, module.RETURN)


@fault("half_return", "has closed a connection|after half a return")
def half_a_return_closes(module):
    forgive(module, module.RETURN)


@fault("fence_at_each_moment", "b'1 first'")
def claims_do_not_commit(module):
    forgive(module, module.CLAIM)


@fault("fence_at_each_moment", "has closed a connection|a connection ends")
def returns_do_not_commit(module):
    forgive(module, module.RETURN)


# ---- how the faults are made ----

def change_send(module, kind, change):
    send = module.Messages.send
    module.Messages.send = lambda self, sent, payload, fds=(): send(
        self, sent, change(payload) if sent == kind else payload, fds)


def repeat(module, kind):
    send = module.Messages.send

    def twice(self, sent, payload, fds=()):
        send(self, sent, payload, fds)
        if sent == kind:
            send(self, sent, payload, fds)
    module.Messages.send = twice


def forgive(module, kind):
    """A message of this type counts as sent, whatever the kernel answers."""
    send = module.Messages.send

    def careless(self, sent, payload, fds=()):
        try:
            send(self, sent, payload, fds)
        except OSError:
            if sent != kind:
                raise
    module.Messages.send = careless


def on_frame(module, check):
    receive = module.Messages.receive

    def checked(self):
        for kind, payload, count, fds in receive(self):
            check(kind, payload, fds)
            yield kind, payload, count, fds
    module.Messages.receive = checked


def rewrite(module, change, kinds=None):
    receive = module.Messages.receive

    def changed(self):
        for kind, payload, count, fds in receive(self):
            yield (kinds or {}).get(kind, kind), change(kind, payload), count, fds
    module.Messages.receive = changed


def main():
    directory, name, descriptor = sys.argv[1:]
    sys.path.insert(0, directory)
    import worker  # pylint: disable=import-outside-toplevel
    FAULTS[name][0](worker)
    worker.Worker(socket.socket(fileno=int(descriptor))).run()


if __name__ == "__main__":
    main()
