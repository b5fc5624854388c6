#!/usr/bin/python3
"""Writes the first inputs of the fuzz targets to tests/fuzz/corpus: one of each kind that a fuzzer would
take long to come by. The source of each target explains its bytes. Inputs that a fuzzer has found are in
the same folders."""

import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))


def write(target, name, data):
    directory = os.path.join(HERE, "corpus", target)
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, name), "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode("latin-1"))


def header(kind, length, fds=0):
    return b"FRY\x01" + struct.pack("<HHIHH", kind, 0, length, fds, 0)


def raw(data, fds=0):
    return bytes([fds << 3, len(data)]) + data


def message(kind, payload=b"", fds=0, sent=None, first=0):
    sent = fds if sent is None else sent
    return bytes([1 | first << 3, kind, fds | sent << 4, len(payload)]) + payload


def crc32c(data):
    register = 0xffffffff
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82f63b78 if register & 1 else 0)
    return register ^ 0xffffffff


TURN, END = b"\x02", b"\x03"


def messages():
    write("message", "empty", b"")
    write("message", "three", b"\0" + message(1, b"hello") + message(2) + message(3, b"x" * 200))
    write("message", "descriptors", b"\x01" + message(1, b"ab", 3) + message(2, b"", 1) + TURN +
          message(3, b"plain") + message(4, b"cd", 2))
    write("message", "in_pieces", b"\0" + b"".join(raw(bytes([b])) + TURN for b in
          header(7, 2) + b"ok" + header(8, 0)))
    write("message", "pieces_with_descriptors", b"\x01" + message(1, b"abcd", 2, first=1) + TURN +
          message(2, b"abcd", 1, first=17) + END)
    write("message", "too_few", b"\0" + message(1, b"a") + message(2, b"b", 3, 1) + message(3))
    write("message", "too_many", b"\0" + message(1, b"a", 1, 2))
    write("message", "undeclared", b"\0" + message(1, b"a") + raw(header(2, 1) + b"x", 1))
    write("message", "none_came", b"\0" + message(1, b"a", 1, 0) + message(2, b"a", 1))
    write("message", "over_the_limits", b"\x02" + message(1, b"a" * 64) + message(1, b"a" * 65))
    write("message", "over_the_fds", b"\x02" + message(1, b"", 2) + message(1, b"", 3))
    write("message", "huge", b"\0" + raw(header(1, 0xffffffff)))
    write("message", "other_version", b"\0" + raw(b"FRY\x02" + header(1, 0)[4:]))
    write("message", "cut_header", b"\0" + message(1, b"abc") + raw(header(1, 0)[:9]))
    write("message", "cut_payload", b"\0" + raw(header(1, 10, 1) + b"abc", 1) + END)
    write("message", "freed", b"\x04" + message(1, b"", 1) * 4)
    write("message", "two_in_one_piece", b"\x01" + raw(header(1, 1, 1) + b"a" + header(2, 0), 1))


def fences():
    def fence(buffered, piece, data):
        return struct.pack("<HB", buffered, piece) + data

    some = header(3, 24) + bytes(24) + header(6, 24) + bytes(range(24))
    write("fence", "all_in_the_buffer", fence(len(some), 7, some))
    write("fence", "all_in_the_kernel", fence(0, 0, some))
    write("fence", "half_a_header_each", fence(8, 3, some))
    write("fence", "long_payload", fence(30, 255, header(9, 1000) + b"p" * 1000 + some))
    write("fence", "longer_than_there_is", fence(0, 50, some + header(9, 0xfffffff0) + b"p" * 300))
    write("fence", "garbage_between", fence(20, 20, some + b"garbage, not a header" + some))
    write("fence", "empty", b"")


def lines():
    def line(flags, pieces, longest, delimiter, data):
        return (bytes([flags]) + bytes(pieces) + struct.pack("<H", longest - 1) +
                bytes([len(delimiter) - 1]) + delimiter + data)

    ones, mixed, large = [0] * 8, [0, 3, 1, 15, 0, 40, 2, 7], [63] * 8
    text = b"one\ntwo\n\nthree\nunfinished"
    for flags in range(4):
        write("line", "newlines_%d" % flags, line(flags, mixed, 80, b"\n", text))
        write("line", "too_long_%d" % flags, line(flags, ones, 4, b"\n", text + b"\nlast\n"))
        write("line", "crlf_%d" % flags, line(flags, ones, 20, b"\r\n", b"a\r\n\r\r\n\n\r\nb\r"))
    write("line", "repeating_delimiter", line(3, mixed, 9, b"aab", b"aaaabaaabaaaabxaaabaab"))
    write("line", "sixteen", line(2, large, 300, b"0123456789abcdef",
          b"0123456789abcdeX0123456789abcdef" * 3 + b"0123456789abcde"))
    write("line", "longest", line(3, large, 300, b"\n", b"x" * 300 + b"\n" + b"y" * 301 + b"\nz\n"))
    write("line", "nothing", line(2, large, 1, b"\n", b""))


def descriptions():
    payload = bytes([1, 3, 2, 0]) + bytes(28)
    named = payload[:10] + b"\x04" + payload[11:] + b"name"
    write("description", "payload", b"\0" + payload)
    write("description", "named", b"\0" + named)
    write("description", "not_utf8", b"\0" + named[:-1] + b"\xff")
    write("description", "zero_in_name", b"\0" + named[:-1] + b"\0")
    write("description", "short", b"\0" + payload[:31])
    write("description", "reserved", b"\0" + payload[:12] + b"\x01" + payload[13:])
    write("description", "coarse", b"\0" + payload[:1] + b"\x01\x02\x08" + payload[4:])
    for kind in range(8):
        write("description", "true_%d" % kind, bytes([1, kind, 0]))
        write("description", "with_a_name_%d" % kind, bytes([1, kind, 0]) + b"n\xc3\xa4me")
    write("description", "another_kind", bytes([1, 0, 1, 1, 1]))
    write("description", "another_identity", bytes([1, 6, 1, 16, 1]))
    write("description", "another_access", bytes([1, 1, 1, 2, 2]))
    write("description", "no_descriptor", bytes([1, 0x30, 0]))
    write("description", "two_descriptors", bytes([1, 0xb0, 0]))


def workers():
    hello, handoff = b"\x05", lambda how, number, lengths=0: bytes([4 | how << 3, number, lengths])
    read, use = lambda n: bytes([6 | n << 3]), lambda how, b=b"": bytes([7 | how << 3]) + b
    write("worker", "some", b"\0" + hello + handoff(0, 1) + handoff(1, 2, 0xff) + TURN + read(9) + END)
    write("worker", "stolen_rejected_done", b"\0" + hello + use(3, b"\xe4") +
          b"".join(handoff(n & 1, n, n) for n in range(1, 9)) + TURN + use(2) + read(31))
    write("worker", "narrow", b"\x01" + hello + (handoff(0, 1) * 6 + TURN) * 8 + read(5) + TURN)
    write("worker", "narrow_and_gone", b"\x01" + hello + use(0, b"\x01") * 90 + handoff(1, 1) * 9 + END)
    full = use(0, b"\x01") * 90 + TURN
    write("worker", "claim_waits", b"\x01" + hello + full + handoff(0, 1) * 3 + TURN * 2 + read(31) + TURN)
    write("worker", "gone_while_claim_waits", b"\x05" + hello + full + handoff(0, 1) * 3 + TURN * 2)
    write("worker", "closed", b"\x04" + hello + handoff(0, 1) * 3 + TURN + handoff(1, 1) * 3)
    write("worker", "freed", b"\x02" + hello + handoff(0, 1) * 5)
    write("worker", "another_descriptor", b"\0" + hello + handoff(2, 1) + b"\x10\x01" + TURN)
    write("worker", "no_descriptor", b"\0" + hello + handoff(4, 1) + TURN)
    write("worker", "wrong_length", b"\0" + hello + handoff(2, 1, 0x21) + b"\x22\x01" + TURN)
    write("worker", "no_hello", b"\0" + handoff(0, 1) + TURN)
    write("worker", "hello_twice", b"\0" + hello + hello + handoff(0, 1))
    write("worker", "no_common_version", b"\0" + message(1, struct.pack("<HHIQ8x", 2, 9, 0, 7)))
    write("worker", "drained", b"\0" + hello + handoff(0, 1) + message(8) + use(1) + handoff(0, 2) + TURN)
    back = lambda n: use(16, bytes([n]))
    recall = message(10, struct.pack("<I", 1500) + bytes(4))
    write("worker", "recalled", b"\0" + hello + handoff(1, 1) + TURN + recall + TURN + back(3) + TURN + read(31))
    write("worker", "recall_too_short", b"\0" + hello + message(10, b"\0" * 7) + TURN + back(0))
    write("worker", "returned_early", b"\0" + back(1) + hello + TURN + back(1))
    write("worker", "returns_wait", b"\x01" + hello + handoff(1, 1) + TURN + back(255) * 9 + TURN + read(31) * 9 + TURN)
    write("worker", "returns_fail", b"\1" + hello + handoff(1, 1) + TURN + back(255) * 9 + END)
    write("worker", "returns_and_gone", b"\x05" + hello + handoff(1, 1) + TURN + back(255) * 9)
    write("worker", "unknown_message", b"\0" + hello + message(200, b"later") + message(77, b"", 1))


def dispatchers():
    def step(what, i, how=0):
        return bytes([what | i << 3 | how << 5])

    act = lambda i, how: step(4, i, how)
    look = lambda i: step(5, i)
    hello = lambda i, credits: step(7, i, 0) + bytes([credits])
    credits = lambda i, number: step(7, i, 1) + bytes([number])
    claim, lost, reject, done = (lambda i, about, how=how: step(6, i, how) + bytes([about])
                                 for how in range(4))
    turn, hand = b"\x02", act(0, 4)
    start = hello(0, 9) + hello(1, 9) + turn * 2 + look(0) + look(1) + turn
    write("dispatcher", "empty", b"")
    write("dispatcher", "done", b"\0" + start + claim(0, 0) + done(0, 0) + claim(1, 0) + turn + done(1, 0) +
          turn * 2)
    write("dispatcher", "rejected_and_lost", b"\1" + start + reject(0, 0) + lost(1, 0) + turn * 2)
    write("dispatcher", "lost_three_times", b"\0" + hello(0, 9) + turn * 2 +
          (look(0) + lost(0, 0) + lost(0, 1) + lost(0, 2) + turn * 2) * 4)
    write("dispatcher", "kept", b"\2" + start + claim(0, 0) + act(0, 3) + turn * 3)
    write("dispatcher", "fenced", b"\0" + start + act(0, 3) + act(1, 0) + turn * 3 + act(2, 2) +
          hello(2, 3) + turn * 2 + look(2) + claim(2, 0) + done(2, 0) + turn)
    write("dispatcher", "claimed_in_the_fence", b"\0" + start + claim(0, 0) + act(0, 0) + turn * 2)
    write("dispatcher", "another_workers", b"\0" + start + claim(0, 64) + done(0, 64) + claim(1, 128) + turn)
    write("dispatcher", "twice", b"\0" + start + claim(0, 0) * 2 + done(0, 0) * 2 + turn)
    write("dispatcher", "done_unclaimed", b"\0" + start + done(0, 0) + turn + claim(0, 0))
    write("dispatcher", "full", b"\0" + hand * 12 + turn + hello(0, 200) + turn * 3 + look(0) + turn)
    write("dispatcher", "drained", b"\0" + start + act(0, 1) + claim(0, 0) + done(0, 0) + turn * 3 + hand)
    write("dispatcher", "no_credits", b"\0" + hello(0, 0) + turn + credits(0, 1) + turn + credits(0, 0))
    write("dispatcher", "no_hello", b"\0" + claim(0, 0) + turn * 2)
    write("dispatcher", "hello_twice", b"\0" + hello(0, 1) + hello(0, 1) + turn * 2 + hello(1, 9) + turn * 2)
    write("dispatcher", "no_message", b"\0" + start + b"\x00\x08garbage!" + b"\x00\x08garbage!" + turn * 3)


def takeovers():
    def say(what, variant=0):
        return bytes([4 | (what | variant << 3) << 3])

    act = lambda how: bytes([7 | how << 3])
    hello, accepting, released, withdrawn = say(0), say(4), say(5), say(6)
    two_turns = say(7)
    for flags in (0, 2, 4, 6, 16, 20):
        write("takeover", "served_%d" % flags, bytes([flags]) + hello + say(1) + two_turns + accepting +
              two_turns + END)
    for flags in (1, 5, 9, 11, 13):
        write("takeover", "requested_%d" % flags, bytes([flags]) + hello + say(2) + say(2, 1) + say(3) +
              two_turns + act(1) + two_turns + released + two_turns)
    write("takeover", "by_name", b"\0" + hello + say(1, 1) + two_turns + accepting)
    write("takeover", "no_such_name", b"\x10" + hello + say(1, 2) + two_turns + accepting)
    write("takeover", "accepting_unasked", b"\x10" + hello + accepting + two_turns)
    write("takeover", "asked_twice", b"\0" + hello + say(1) * 2 + two_turns)
    write("takeover", "no_hello", b"\0" + say(1) + two_turns)
    write("takeover", "given_up", b"\x10" + hello + say(1) + two_turns + act(0) + two_turns)
    write("takeover", "set_freed", b"\x10" + hello + say(1) + two_turns + act(2) + two_turns)
    write("takeover", "withdrawn", b"\x01" + hello + say(2) + say(3) + two_turns + withdrawn)
    write("takeover", "withdrawn_with_a_file", b"\x01" + hello + say(2, 1) + say(3) + two_turns + withdrawn)
    write("takeover", "withdrawn_early", b"\x01" + hello + withdrawn + two_turns)
    write("takeover", "died_before_the_word", b"\x01" + hello + say(2, 1) + say(3) + two_turns + END +
          two_turns + act(1) + two_turns)
    write("takeover", "released_unasked", b"\x01" + hello + say(2) + say(3) + released + two_turns)
    write("takeover", "another_number", b"\x09" + hello + say(2) + say(3, 3) + two_turns)
    write("takeover", "another_cookie", b"\x09" + hello + say(2, 2) + b"\0\1" + say(3) + two_turns)
    write("takeover", "another_inode", b"\x09" + hello + say(2, 3) + b"\x10\1" + say(3) + released + two_turns)
    state = lambda text: say(0, 1) + bytes([len(text)]) + text
    ended = say(2) + say(3) + two_turns + act(1) + two_turns + released + two_turns
    write("takeover", "state", b"\x01" + hello + state(b"generation") + ended)
    write("takeover", "state_behind_a_socket", b"\x0b" + hello + say(2) + state(b"late") + say(3, 0) + two_turns)
    write("takeover", "state_empty", b"\x09" + hello + state(b"") + ended)
    write("takeover", "state_twice", b"\x09" + hello + state(b"one") + state(b"two") + ended)
    write("takeover", "state_first", b"\x09" + state(b"early") + hello + ended)
    write("takeover", "state_after_the_end", b"\x01" + hello + say(2) + say(3) + state(b"late") + two_turns)
    write("takeover", "state_longest", b"\x09" + hello + state(bytes(range(127))) + ended)
    write("takeover", "state_in_pieces", b"\x09" + hello + message(39, b"abcdef", first=20) + ended)
    write("takeover", "state_with_a_descriptor", b"\x09" + hello + message(39, b"abc", 1) + ended)
    write("takeover", "state_huge", b"\x09" + hello + raw(header(39, 1024 * 1024)) + END + two_turns)
    write("takeover", "state_to_the_old_process", b"\x10" + hello + state(b"wrong") + say(1) + two_turns)
    for flags in (0x20, 0x22, 0x30, 0x36):
        write("takeover", "state_served_%d" % flags, bytes([flags]) + hello + say(1) + two_turns + accepting +
              two_turns + END)
    write("takeover", "no_common_version", b"\0" + message(32, struct.pack("<HHI", 2, 3, 0)) + two_turns)


def examples():
    get = b"GET /a%20b?c HTTP/1.1\r\nHost: example.org\r\n"
    write("http_head", "get", b"\0" + get + b"Accept: */*\r\nConnection: close\r\n\r\n")
    write("http_head", "post", b"\x09POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nbody")
    write("http_head", "chunked", b"\x04" + get + b"Transfer-Encoding: chunked\r\n\r\n")
    write("http_head", "both_lengths", b"\x04" + get + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
    write("http_head", "two_hosts", b"\x3f" + get + b"Host: b\r\n\r\n")
    write("http_head", "old", b"\x3fHEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    write("http_head", "absolute", b"\x07GET http://[::1]:80/x?y HTTP/1.1\r\nHost: z\r\n\r\n")
    write("http_head", "folded", b"\x07" + get + b"A: b\r\n c\r\n\r\n")
    write("http_head", "bare_newline", b"\x07GET / HTTP/1.1\nHost: a\n\n")
    write("http_head", "cut", b"\x01" + get)
    write("http_head", "http2", b"\x01PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    write("http_head", "many_fields", b"\x3f" + get + b"a:b\r\n" * 101 + b"\r\n")
    write("http_head", "too_long", b"\x3fGET /" + b"a" * 4000)

    signature = b"\r\n\r\n\0\r\nQUIT\n"
    inet = bytes([192, 0, 2, 1, 192, 0, 2, 2]) + struct.pack(">HH", 1234, 80)
    two = lambda how, family, data: signature + struct.pack(">BBH", 0x20 | how, family, len(data)) + data
    write("proxy_protocol", "v1_tcp4", "PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\nGET /")
    write("proxy_protocol", "v1_tcp6", "PROXY TCP6 2001:db8::1 ::1 1234 65535\r\n")
    write("proxy_protocol", "v1_unknown", "PROXY UNKNOWN whatever there is\r\n")
    write("proxy_protocol", "v1_bad_port", "PROXY TCP4 192.0.2.1 192.0.2.2 1234 65536\r\n")
    write("proxy_protocol", "v1_too_long", "PROXY UNKNOWN " + "x" * 120)
    write("proxy_protocol", "v1_longest", "PROXY UNKNOWN " + "x" * 91 + "\r\n")
    write("proxy_protocol", "v1_one_too_long", "PROXY UNKNOWN " + "x" * 92 + "\r\n")
    write("proxy_protocol", "v2_inet", two(1, 0x11, inet) + b"more")
    write("proxy_protocol", "v2_inet6", two(1, 0x21, bytes(range(36))))
    write("proxy_protocol", "v2_unix", two(1, 0x31, b"/client".ljust(108, b"\0") + b"\0abstract".ljust(108, b"x")))
    write("proxy_protocol", "v2_local", two(0, 0, b""))
    write("proxy_protocol", "v2_tlv", two(1, 0x11, inet + b"\x04\0\x03abc"))
    write("proxy_protocol", "v2_tlv_too_long", two(1, 0x11, inet + b"\x04\0\x09abc"))
    write("proxy_protocol", "v2_checksum", two(1, 0x11, inet + b"\x03\0\x04\1\2\3\4"))
    summed = lambda value: two(1, 0x11, inet + b"\x03\0\x04" + struct.pack(">I", value))
    write("proxy_protocol", "v2_right_checksum", summed(crc32c(summed(0))))
    write("proxy_protocol", "v2_short", two(1, 0x11, inet[:11]))
    write("proxy_protocol", "v2_too_long", signature + b"\x21\x11\xff\xff" + inet)
    write("proxy_protocol", "none", "GET / HTTP/1.1\r\n")

    hello = bytes.fromhex(
        "16030101500100014c0303aab8e2b7dd02be996dc6b289c5e0db17420d205b2b131c174953e64b56128096204ec344a6dfd6"
        "e197d36e19e9cb9e3f663a8fad6f8b02184f9547f41a1213e0c3003e130213031301c02cc030009fcca9cca8ccaac02bc02f"
        "009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff010000c5000000160014"
        "00001146696c65732e4578616d706c652e4f5247000b000403000102000a00160014001d0017001e00190018010001010102"
        "01030104002300000010000e000c02683208687474702f312e310016000000170000000d002a002804030503060308070808"
        "0809080a080b080408050806040105010601030301030302040205020602002b0009080304030303020301002d0002010100"
        "3300260024001d00200de152ebf2d58eacfa17f611019cc917ef7c825fc8080d408bdcaa7c83d79140")
    message = hello[5:]
    record = lambda data: b"\x16\x03\x01" + struct.pack(">H", len(data)) + data
    pieces = lambda size: b"".join(record(message[at:at + size]) for at in range(0, len(message), size))
    write("client_hello", "whole", hello)
    write("client_hello", "followed", hello + b"\x17\x03\x03\0\1x")
    write("client_hello", "pieces", pieces(7))
    write("client_hello", "too_many_pieces", pieces(5))
    write("client_hello", "cut", hello[:-1])
    write("client_hello", "no_extensions", record(message[:2] + b"\0\x26" + message[4:36] + b"\0\0\2\x13\1\1\0"))
    write("client_hello", "no_alpn", hello.replace(b"\0\x10\0\x0e\0\x0c", b"\1\x10\0\x0e\0\x0c"))
    write("client_hello", "grease", hello.replace(b"\2h2", b"\2\x2a\x2a"))
    write("client_hello", "too_long", b"\x16\x03\x01\x40\0\1\0\x40\0")
    write("client_hello", "too_long_and_none", b"\x16\x03\x01\x40\0\xff\x33\1\0\x40\0")
    write("client_hello", "http", "GET / HTTP/1.1\r\n")

    client = lambda flags, *addresses: b"fCli\x02" + bytes([flags]) + b"".join(
        bytes([len(address)]) + address for address in addresses)
    four = struct.pack("=H", 2) + struct.pack(">H", 80) + bytes([192, 0, 2, 1]) + bytes(8)
    six = struct.pack("=H", 10) + struct.pack(">HI", 80, 0) + bytes(range(16)) + struct.pack("=I", 0)
    unix = lambda path: struct.pack("=H", 1) + path
    write("client_address", "inet", client(0, four, four))
    write("client_address", "inet6", client(1, six, b""))
    write("client_address", "unix", client(0, unix(b"/path\0"), unix(b"")))
    write("client_address", "abstract", client(0, unix(b"\0name"), unix(b"\0a\0b")))
    write("client_address", "longest", client(0, unix(b"p" * 108 + b"\0"), unix(b"p" * 108 + b"\0")))
    write("client_address", "too_long", client(0, unix(b"p" * 109 + b"\0"), b""))
    write("client_address", "without_zero", client(0, unix(b"/path"), b""))
    write("client_address", "more_behind", client(0, four, four) + b"\0")
    write("client_address", "cut", client(0, four, six)[:-1])
    write("client_address", "unknown_flag", client(4, four, four))
    write("client_address", "other_version", b"fCli\x01\0\0\0")

    least = "listen 127.0.0.1:1\nservice www root=/ workers=3\n"
    write("proxy_conf", "least", least)
    write("proxy_conf", "everything", "listen [::1]:0 proxy-protocol\nlisten unix:/run/w.sock # comment\n"
          "route host=Example.org path=/chat chat\nservice www root=\"/\" workers=5 choice=by-client\n"
          "service chat socket=@chat choice=round-robin\nroute host=*.example.org www\ndefault chat\n"
          "admin 127.0.0.1:9\ncontrol /run/control\nqueue 7\nqueue-timeout 1500\nanswer-timeout 2\nstart-timeout 9\n"
          "scheduling other\nhead-timeout 11\ndrain-timeout 12\nmax-clients 13\nretry-after 14")
    write("proxy_conf", "quotes", least + "control \"/a \\\"b\\\\\"\n")
    write("proxy_conf", "open_quote", least + "control \"/a\n")
    write("proxy_conf", "twice", least + "queue 1\nqueue 2\n")
    write("proxy_conf", "route_twice", least + "route path=/a www\nroute path=/a www\n")
    write("proxy_conf", "no_service", least + "route path=/a nothing\n")
    write("proxy_conf", "no_number", least + "queue 99999999999999999999\n")
    write("proxy_conf", "nothing", "# nothing\n")
    write("proxy_conf", "unknown", least + "lissten 1\n")
    write("proxy_conf", "binary", least + "\x01\x02\xff\0\n")
    write("proxy_conf", "long_line", least + "control " + "x" * 4100)

    def routes(count, *texts):
        return bytes([count]) + "\n".join(texts).encode("latin-1")

    write("proxy_routes", "hosts", routes(0x83, "example.org", "", "*.example.org", "", "[::1]", "",
          "example.org:80", "/", "www.EXAMPLE.org.", "/x", "[::1]:8", "/", "other", "/"))
    write("proxy_routes", "paths", routes(0x03, "", "/admin", "", "/a/b", "a", "/",
          "a", "/%61dmin", "b", "//admin/./x", "b", "/administrator", "b", "/a/b/c"))
    write("proxy_routes", "refused", routes(0x81, "", "/a", "x", "/a/../b", "x", "/a%2fb", "x", "/%zz", "x", "a"))
    write("proxy_routes", "bad_routes", routes(0x06, "a:80", "", "", "a", "..", "/", "*.", "/", "a", "/..",
          "a", "/ok"))
    write("proxy_routes", "twice", routes(0x02, "a", "/b", "A", "/b/", "a", "/b"))
    write("proxy_routes", "none", routes(0x80, "a", "*"))


for make in (messages, fences, lines, descriptions, workers, dispatchers, takeovers, examples):
    make()
