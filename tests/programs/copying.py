"""ferry-copy send and receive as processes: the file that arrives, the resumed copy, and the refusals."""

import hashlib
import os
import pathlib
import pty
import random
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import tempfile
import unittest

import harness

KIB = 1024
MIB = 1024 * KIB
LARGE = 64 * MIB
# At this rate a copy of the large file takes longer than every deadline.
CRAWL = LARGE // (4 * harness.DEADLINE)

HEADER = struct.Struct("<4sBBHQQQ")
OFFER, START, CONTENT, END, DONE, STOP = range(1, 7)
NO_SIZE = 2 ** 64 - 1


def frame(kind, size=0, offset=0, modified=0, text=b"", magic=b"fFil", version=1):
    return HEADER.pack(magic, version, kind, len(text), size, offset, modified) + text


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


class Copying(unittest.TestCase):
    """Each test has a directory, which contains an empty one for the receiver."""

    listen_at = "unix:{}/socket"

    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        cls.addClassCleanup(temporary.cleanup)
        cls.large = pathlib.Path(temporary.name) / "large.bin"
        with open(cls.large, "wb") as file:
            source = random.Random(1)
            for _ in range(LARGE // MIB):
                file.write(source.randbytes(MIB))
        cls.large_digest = sha256(cls.large)

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)
        self.target = self.directory / "target"
        self.target.mkdir()

    def child(self, name, *arguments, **options):
        child = harness.Child(self.directory, "ferry-copy", name, *arguments, emulated=True, **options)
        self.addCleanup(child.kill)
        return child

    def listening(self, name, *arguments, **options):
        """Starts a program that listens; returns it with its address."""
        address = self.listen_at.format(self.directory)
        options_before = [word for word in arguments if word.startswith("-") and word != "-"]
        rest = arguments[len(options_before):]
        child = self.child(name, *options_before, "--listen", address, *rest, **options)
        child.wait_for("listening ")
        return child, re.search(r"^listening (\S+)$", child.text(), re.MULTILINE)[1]

    def receiver(self, *options, **popen):
        return self.listening("receive", *options, str(self.target), **popen)

    def ended(self, child):
        child.process.wait(harness.DEADLINE)
        return child.process.returncode

    def both_end_well(self, *children):
        for child in children:
            self.assertEqual(self.ended(child), 0, child.text())

    def copy(self, source, *options, **popen):
        """Copies, and returns the output of the sender."""
        receiver, address = self.receiver()
        sender = self.child("send", *options, address, str(source), **popen)
        self.both_end_well(sender, receiver)
        return sender.text()

    def parts(self):
        return list(self.target.glob("*.part"))

    def part_has_bytes(self):
        return any(part.stat().st_size > 0 for part in self.parts())

    def socket_to(self, address):
        if address.startswith("tcp:"):
            host, port = address[4:].rsplit(":", 1)
            return socket.create_connection((host.strip("[]"), int(port)), harness.DEADLINE)
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(harness.DEADLINE)
        peer.connect(address.removeprefix("unix:"))
        return peer


def read_to_end(peer):
    data = b""
    while block := peer.recv(64 * KIB):
        data += block
    return data


class Whole(Copying):
    def check(self, name, content, *options):
        source = self.directory / name
        source.write_bytes(content)
        said = self.copy(source, *options)
        self.assertEqual((self.target / name).read_bytes(), content)
        self.assertEqual(self.parts(), [])
        return said

    def test_an_empty_file(self):
        self.check("empty", b"")

    def test_one_byte(self):
        self.assertIn("sent 1 bytes", self.check("one", b"1"))

    def test_100_kib(self):
        said = self.check("a b\u00e4.bin", random.Random(2).randbytes(100 * KIB))
        self.assertIn("by sendfile", said)

    def test_64_mib(self):
        said = self.copy(self.large)
        self.assertEqual(sha256(self.target / "large.bin"), self.large_digest)
        self.assertIn("by sendfile", said)

    def test_64_mib_copied(self):
        said = self.copy(self.large, "--copy")
        self.assertEqual(sha256(self.target / "large.bin"), self.large_digest)
        self.assertIn("by copy", said)

    def test_the_standard_input_from_a_pipe(self):
        with subprocess.Popen(["cat", self.large], stdout=subprocess.PIPE) as cat:
            said = self.copy("-", stdin=cat.stdout)
        self.assertEqual(sha256(self.target / "stdin"), self.large_digest)
        self.assertIn("by splice", said)

    def test_the_standard_input_from_a_file_goes_on_from_its_position(self):
        with open(self.large, "rb", buffering=0) as file:
            file.seek(LARGE - 100001)
            self.copy("-", "--name=tail", stdin=file)
        with open(self.large, "rb") as file:
            file.seek(LARGE - 100001)
            self.assertEqual((self.target / "tail").read_bytes(), file.read())

    def test_an_empty_pipe(self):
        self.copy("-", stdin=subprocess.DEVNULL)
        self.assertEqual((self.target / "stdin").read_bytes(), b"")

    def test_a_file_of_proc(self):
        said = self.copy("/proc/self/status")
        self.assertIn(b"Name:", (self.target / "status").read_bytes())
        self.assertIn("by copy", said)

    def test_the_sender_may_be_the_one_that_listens(self):
        sender, address = self.listening("send", str(self.large))
        receiver = self.child("receive", "--connect", address, str(self.target))
        self.both_end_well(sender, receiver)
        self.assertEqual(sha256(self.target / "large.bin"), self.large_digest)

    def test_with_a_limit_all_of_it_arrives(self):
        content = random.Random(3).randbytes(300 * KIB)
        self.check("limited", content, "--limit=1000000")
        (self.target / "limited").unlink()
        receiver, address = self.receiver("--limit=1000000")
        sender = self.child("send", address, str(self.directory / "limited"))
        self.both_end_well(sender, receiver)
        self.assertEqual((self.target / "limited").read_bytes(), content)


class WholeOverTcp(Whole):
    listen_at = "tcp:127.0.0.1:0"


class WholeOverTcp6(Copying):
    listen_at = "tcp:[::1]:0"

    def test_64_mib(self):
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError as error:
            self.skipTest(f"no IPv6: {error}")
        self.copy(self.large)
        self.assertEqual(sha256(self.target / "large.bin"), self.large_digest)


class WholeOverAName(Copying):
    listen_at = "@{}"

    def test_64_mib(self):
        self.copy(self.large)
        self.assertEqual(sha256(self.target / "large.bin"), self.large_digest)


class Interrupted(Copying):
    def crawl(self):
        """Starts a copy that does not reach its end."""
        receiver, address = self.receiver()
        sender = self.child("send", f"--limit={CRAWL}", address, str(self.large))
        harness.wait_until(self.part_has_bytes, "bytes in the part")
        return sender, receiver

    def check_resumed(self):
        [part] = self.parts()
        there = part.stat().st_size
        self.assertGreater(there, 0)
        self.assertLess(there, LARGE)
        said = self.copy(self.large)
        self.assertIn(f"resumed after {there} bytes", said)
        self.assertIn(f"sent {LARGE - there} bytes", said)
        self.assertEqual(sha256(self.target / "large.bin"), self.large_digest)
        self.assertEqual(self.parts(), [])

    def test_the_sender_is_killed(self):
        sender, receiver = self.crawl()
        sender.kill()
        self.assertEqual(self.ended(receiver), 1)
        self.assertIn("large.bin: ", receiver.text())
        self.assertFalse((self.target / "large.bin").exists())
        self.check_resumed()

    def test_the_receiver_is_killed(self):
        sender, receiver = self.crawl()
        receiver.kill()
        self.assertEqual(self.ended(sender), 1)
        (self.directory / "socket").unlink(missing_ok=True)
        self.check_resumed()

    def interrupt(self, index, number):
        ends = self.crawl()
        ends[index].process.send_signal(number)
        for end in ends:
            self.assertEqual(self.ended(end), 1, end.text())
        self.assertIn("stopped by a signal", ends[index].text())
        self.assertFalse((self.directory / "socket").exists())
        self.check_resumed()

    def test_the_sender_is_interrupted(self):
        self.interrupt(0, signal.SIGINT)

    def test_the_receiver_is_interrupted(self):
        self.interrupt(1, signal.SIGINT)

    def test_the_receiver_is_terminated(self):
        self.interrupt(1, signal.SIGTERM)

    def test_who_waits_is_interrupted(self):
        receiver, _ = self.receiver()
        receiver.process.send_signal(signal.SIGINT)
        self.assertEqual(self.ended(receiver), 1)
        self.assertFalse((self.directory / "socket").exists())

    def test_all_of_it_was_there(self):
        sender, receiver = self.crawl()
        sender.kill()
        self.ended(receiver)
        [part] = self.parts()
        part.write_bytes(self.large.read_bytes())
        self.assertIn("sent 0 bytes", self.copy(self.large))
        self.assertEqual(sha256(self.target / "large.bin"), self.large_digest)

    def test_another_version_of_the_file_is_not_gone_on_with(self):
        source = self.directory / "large.bin"
        source.write_bytes(b"x" * LARGE)
        receiver, address = self.receiver()
        sender = self.child("send", f"--limit={CRAWL}", address, str(source))
        harness.wait_until(self.part_has_bytes, "bytes in the part")
        sender.kill()
        self.assertEqual(self.ended(receiver), 1)
        self.assertIn(f"sent {LARGE} bytes", self.copy(self.large))
        self.assertEqual(sha256(self.target / "large.bin"), self.large_digest)

    def test_half_of_a_pipe_is_no_file(self):
        receiver, address = self.receiver()
        read_end, write_end = os.pipe()
        sender = self.child("send", address, "-", stdin=read_end)
        os.close(read_end)
        os.write(write_end, b"x" * 4096)
        harness.wait_until(self.part_has_bytes, "bytes in the part")
        sender.kill()
        os.close(write_end)
        self.assertEqual(self.ended(receiver), 1)
        self.assertFalse((self.target / "stdin").exists())

    def test_two_receivers_do_not_write_the_same_part(self):
        sender, receiver = self.crawl()
        second, address = self.listening("receive", str(self.target))
        another = self.child("send", address, str(self.large))
        self.assertEqual(self.ended(another), 1)
        self.assertEqual(self.ended(second), 1)
        self.assertIn("busy", another.text())
        for end in (sender, receiver):
            self.assertIsNone(end.process.poll())

    def test_the_file_gets_shorter_while_it_is_sent(self):
        source = self.directory / "shrinking"
        source.write_bytes(b"x" * LARGE)
        receiver, address = self.receiver()
        sender = self.child("send", f"--limit={CRAWL}", address, str(source))
        harness.wait_until(self.part_has_bytes, "bytes in the part")
        os.truncate(source, 1)
        self.assertEqual(self.ended(sender), 1)
        self.assertIn("shrinking: it ended, or could not be read, after ", sender.text())
        self.assertEqual(self.ended(receiver), 1)
        self.assertFalse((self.target / "shrinking").exists())


class InterruptedOverTcp(Interrupted):
    listen_at = "tcp:127.0.0.1:0"


class Errors(Copying):
    def fails(self, receiver, address, source, *options):
        sender = self.child("send", *options, address, str(source))
        self.assertEqual(self.ended(sender), 1)
        self.assertEqual(self.ended(receiver), 1)
        return sender.text()

    def test_the_receiver_cannot_write(self):
        limit = 4 * MIB  # as on a full disk, write(2) fails in the middle
        receiver, address = self.receiver(preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_FSIZE, (limit, limit)))
        said = self.fails(receiver, address, self.large)
        self.assertIn("refused by the receiver: File too large", said)
        [part] = self.parts()
        self.assertEqual(part.stat().st_size, limit)
        self.assertIn(f"sent {LARGE - limit} bytes", self.copy(self.large))
        self.assertEqual(sha256(self.target / "large.bin"), self.large_digest)

    def test_a_file_that_is_there_is_not_replaced_unasked(self):
        there = self.target / "large.bin"
        there.write_bytes(b"precious")
        receiver, address = self.receiver()
        self.assertIn("File exists", self.fails(receiver, address, self.large))
        self.assertEqual(there.read_bytes(), b"precious")
        receiver, address = self.receiver("--replace")
        sender = self.child("send", address, str(self.large))
        self.both_end_well(sender, receiver)
        self.assertEqual(sha256(there), self.large_digest)

    def test_a_link_in_place_of_the_part_is_not_followed(self):
        outside = self.directory / "outside"
        outside.write_bytes(b"")
        (self.target / "stdin.part").symlink_to(outside)
        receiver, address = self.receiver()
        self.fails(receiver, address, "-")
        self.assertEqual(outside.read_bytes(), b"")

    def test_nobody_listens(self):
        for address in (f"unix:{self.directory}/nobody", "tcp:127.0.0.1:1", "@ferry-nobody"):
            with self.subTest(address):
                sender = self.child("send", address, str(self.large))
                self.assertEqual(self.ended(sender), 1)
                self.assertIn(address, sender.text())

    def test_the_file_is_none(self):
        for path, why in ((self.directory / "none", "No such file"),
                          (self.target, "Is a directory")):
            sender = self.child("send", "@ferry-nobody", str(path))
            self.assertEqual(self.ended(sender), 1)
            self.assertIn(why, sender.text())

    def test_addresses_that_are_none(self):
        for address in ("unix:", "@", "tcp:", "tcp:127.0.0.1", "tcp:localhost:1",
                        "tcp:127.0.0.1:65536", "tcp:[::1:1", "udp:127.0.0.1:1", "/a/path"):
            for name, rest in (("send", str(self.large)), ("receive", ".")):
                with self.subTest(f"{name} {address}"):
                    self.assertEqual(self.ended(self.child(name, address, rest)), 1)

    def test_wrong_usage(self):
        for name in ("send", "receive"):
            for arguments in ((), ("--nonsense",), ("@a", "b", "c"), ("--limit=0", "@a", "b"),
                              ("--limit=-1", "@a", "b"), ("--limit=x", "@a", "b")):
                with self.subTest(f"{name} {arguments}"):
                    self.assertEqual(self.ended(self.child(name, *arguments)), 2)
            helped = self.child(name, "--help")
            self.assertEqual(self.ended(helped), 0)
            self.assertTrue(helped.text().startswith(f"usage: ferry-copy {name} "))

    def test_a_name_that_is_none_is_not_sent(self):
        for name in ("../x", "", ".hidden", "a/b", "a\nb", "x" * 201):
            sender = self.child("send", f"--name={name}", "@ferry-nobody", str(self.large))
            self.assertEqual(self.ended(sender), 2)


class ForeignSender(Copying):
    """ferry-copy receive against a peer with frames that ferry-copy send does not send."""

    def converse(self, *messages):
        """Sends the messages, and returns the bytes of the receiver, which must have failed."""
        receiver, address = self.receiver()
        with self.socket_to(address) as peer:
            for message in messages:
                peer.sendall(message)
            peer.shutdown(socket.SHUT_WR)
            answer = read_to_end(peer)
        self.assertEqual(self.ended(receiver), 1, receiver.text())
        return answer

    def check_stopped(self, answer):
        self.assertEqual(answer[4:6], bytes([1, STOP]), answer)

    def all_but_logs(self):
        return sorted(path for path in self.directory.rglob("*") if path.suffix != ".log")

    def test_names_that_lead_elsewhere(self):
        before = self.all_but_logs()
        for name in (b"../x", b"..", b".", b"", b"/etc/x", b"a/../../x", b".profile", b"a/b"):
            with self.subTest(name):
                self.check_stopped(self.converse(frame(OFFER, 4, text=name)))
                self.assertEqual(list(self.target.iterdir()), [])
        self.assertEqual(self.all_but_logs(), before)

    def test_frames_that_are_none(self):
        for message in (b"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n",
                        frame(OFFER, 4, text=b"x", magic=b"fFiL"),
                        frame(OFFER, 4, text=b"x", version=2),
                        frame(0, 4, text=b"x"), frame(7, 4, text=b"x"),
                        frame(DONE, 4), frame(CONTENT, 4),
                        frame(OFFER, 4, 5, text=b"x"),
                        frame(OFFER, 2 ** 63, text=b"x"),
                        frame(OFFER, 4, text=b"a\x1b[2Jb"),
                        frame(OFFER, 4, text=b"a\0b"),
                        frame(OFFER, 4, text=b"x" * 201)):
            with self.subTest(message):
                self.check_stopped(self.converse(message))
                self.assertEqual(list(self.target.iterdir()), [])

    def test_what_was_not_offered(self):
        for content in (frame(CONTENT, 5), frame(CONTENT, 4, 1), frame(CONTENT, NO_SIZE)):
            with self.subTest(content):
                answer = self.converse(frame(OFFER, 4, text=b"x"), content)
                self.check_stopped(answer[HEADER.size:])

    def test_more_than_was_announced(self):
        answer = self.converse(frame(OFFER, 4, text=b"x"), frame(CONTENT, 4), b"12345",
                               frame(END, 5))
        self.check_stopped(answer[HEADER.size:])
        self.assertFalse((self.target / "x").exists())

    def test_an_end_that_is_none(self):
        for size, end in ((4, b""), (4, frame(END, 3)), (4, frame(DONE, 4)), (4, b"x" * 32),
                          (NO_SIZE, b""), (NO_SIZE, frame(END, 3)), (NO_SIZE, frame(END, 4) + b"x")):
            with self.subTest(f"{size} {end}"):
                self.converse(frame(OFFER, size, text=b"x"), frame(CONTENT, size), b"1234", end)
                self.assertFalse((self.target / "x").exists())

    def test_all_in_one_piece_and_byte_by_byte(self):
        for size in (4, NO_SIZE):
            stream = (frame(OFFER, size, modified=1, text=b"x") + frame(CONTENT, size) + b"1234" +
                      frame(END, 4))
            for step in (1, len(stream)):
                receiver, address = self.receiver("--replace")
                with self.socket_to(address) as peer:
                    for i in range(0, len(stream), step):
                        peer.sendall(stream[i:i + step])
                    peer.shutdown(socket.SHUT_WR)
                    self.assertEqual(read_to_end(peer), frame(START, size) + frame(DONE, 4))
                self.assertEqual(self.ended(receiver), 0, receiver.text())
                self.assertEqual((self.target / "x").read_bytes(), b"1234")

    def test_a_refused_sender_that_goes_on_sending_reads_why(self):
        receiver, address = self.receiver()
        with self.socket_to(address) as peer:
            peer.sendall(frame(OFFER, 4, text=b"../x"))
            peer.sendall(b"x" * MIB)
            peer.shutdown(socket.SHUT_WR)
            self.check_stopped(read_to_end(peer))
        self.assertEqual(self.ended(receiver), 1)


class ForeignSenderOverTcp(ForeignSender):
    listen_at = "tcp:127.0.0.1:0"


class ForeignReceiver(Copying):
    """ferry-copy send against a peer with frames that ferry-copy receive does not send."""

    def converse(self, *messages):
        sender, address = self.listening("send", str(self.large))
        with self.socket_to(address) as peer:
            for message in messages:
                peer.sendall(message)
            try:
                read_to_end(peer)
            except ConnectionResetError:
                pass
        self.assertEqual(self.ended(sender), 1, sender.text())
        return sender.text()

    def test_frames_that_are_none(self):
        for message in (b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 32, frame(OFFER, 4, text=b"x"),
                        frame(END, 4), frame(START, LARGE, LARGE + 1),
                        frame(START, LARGE, magic=b"xxxx")):
            with self.subTest(message):
                self.assertIn('not a "ferry-copy receive"', self.converse(message))

    def test_an_early_end(self):
        self.assertIn("completed another file", self.converse(frame(DONE, LARGE)))
        self.assertIn("completed another file",
                      self.converse(frame(START, LARGE), frame(DONE, LARGE)))

    def test_another_size(self):
        self.assertIn("not offered", self.converse(frame(START, 5)))
        self.assertIn("not offered", self.converse(frame(START, LARGE), frame(START, LARGE)))

    def test_a_refusal_is_printed(self):
        self.assertIn("refused by the receiver: not today",
                      self.converse(frame(STOP, text=b"not today")))

    def test_it_goes_without_a_word(self):
        sender, address = self.listening("send", str(self.large))
        self.socket_to(address).close()
        self.assertEqual(self.ended(sender), 1)


class Patience(Copying):
    """Peers that stand still, and the disk."""

    def test_a_stranger_is_dropped_and_the_next_one_served(self):
        (self.directory / "file").write_bytes(b"content")
        receiver, address = self.receiver("--timeout=5")
        stranger = self.socket_to(address)
        self.addCleanup(stranger.close)
        sender = self.child("send", address, str(self.directory / "file"))
        self.both_end_well(sender, receiver)
        self.assertEqual(stranger.recv(1), b"")
        self.assertIn("dropped a client that did not introduce itself", receiver.text())
        self.assertEqual((self.target / "file").read_bytes(), b"content")

    def test_a_silent_receiver_of_a_listening_sender_is_dropped(self):
        (self.directory / "file").write_bytes(b"content")
        sender, address = self.listening("send", "--timeout=5", str(self.directory / "file"))
        stranger = self.socket_to(address)
        self.addCleanup(stranger.close)
        receiver = self.child("receive", "--connect", address, str(self.target))
        self.both_end_well(sender, receiver)
        self.assertEqual((self.target / "file").read_bytes(), b"content")

    def test_a_sender_that_stands_still_is_given_up(self):
        receiver, address = self.receiver("--timeout=1")
        with self.socket_to(address) as peer:
            peer.sendall(frame(OFFER, 100, text=b"name") + frame(CONTENT, 100) + b"x" * 90)
            self.assertEqual(self.ended(receiver), 1)
        self.assertIn("no progress within the timeout", receiver.text())

    def test_a_receiver_that_stands_still_is_given_up(self):
        sender, address = self.listening("send", "--timeout=1", str(self.large))
        with self.socket_to(address) as peer:
            peer.sendall(frame(START, LARGE))
            self.assertEqual(self.ended(sender), 1)
        self.assertIn("no progress within the timeout", sender.text())

    def test_a_receiver_that_never_answers_is_given_up(self):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.directory / "silent"))
            listener.listen()
            sender = self.child("send", "--timeout=1", f"unix:{self.directory}/silent", str(self.large))
            self.assertEqual(self.ended(sender), 1)
        self.assertIn("no progress within the timeout", sender.text())

    def test_a_source_that_stands_still_is_waited_for(self):
        """Longer than the timeout: a second receiver with the same one has given up meanwhile."""
        receiver, address = self.receiver("--timeout=1")
        sender = self.child("send", "--timeout=1", address, "-", stdin=subprocess.PIPE)
        sender.process.stdin.write(b"x" * 4096)
        sender.process.stdin.flush()
        harness.wait_until(self.part_has_bytes, "the first bytes")
        self.listen_at = "unix:{}/other"
        measure, other = self.receiver("--timeout=1", "--replace")
        with self.socket_to(other) as peer:
            peer.sendall(frame(OFFER, 100, text=b"other"))
            self.assertEqual(self.ended(measure), 1)
        sender.process.stdin.write(b"y")
        sender.process.stdin.close()
        self.both_end_well(sender, receiver)
        self.assertEqual((self.target / "stdin").read_bytes(), b"x" * 4096 + b"y")

    @unittest.skipIf(harness.INSTRUMENTED, "the programs run under another tracer, or LeakSanitizer does not")
    def test_the_file_is_on_the_disk_before_it_is_reported(self):
        (self.directory / "file").write_bytes(b"content")
        trace = self.directory / "trace"
        receiver, address = self.receiver(
            prefix=("strace", "-qq", "-y", "-e", "trace=fsync,renameat2,sendmsg,writev", "-o", trace))
        sender = self.child("send", address, str(self.directory / "file"))
        self.both_end_well(sender, receiver)
        calls = [line.split("(", 1)[0] for line in trace.read_text().splitlines() if "= -1" not in line]
        self.assertEqual(calls.count("fsync"), 2)  # the file and its directory
        end = calls[calls.index("fsync"):]
        self.assertEqual(end[:4], ["fsync", "renameat2", "fsync", "sendmsg"])


class Progress(Copying):
    def terminal(self):
        """Opens a pseudo terminal of 100 columns; returns its two ends."""
        ours, theirs = pty.openpty()
        subprocess.run(["stty", "columns", "100", "rows", "24"], stdin=theirs, check=True)
        return ours, theirs

    def drawn(self, ours, until_ended):
        text = b""
        while True:
            readable, _, _ = select.select([ours], [], [], harness.DEADLINE)
            if not readable:
                raise AssertionError(f"nothing more is drawn: {text!r}")
            try:
                block = os.read(ours, 4096)
            except OSError:  # the last program on the terminal has ended
                return text
            if not block:
                return text
            text += block
            if until_ended is not None and until_ended in text:
                return text

    def copy_on_terminal(self, *senders_source, **options):
        receiver, address = self.receiver()
        ours, theirs = self.terminal()
        self.addCleanup(os.close, ours)
        sender = self.child("send", address, *senders_source, stderr=theirs, **options)
        os.close(theirs)
        text = self.drawn(ours, None)
        self.both_end_well(sender, receiver)
        # valgrind prints a line about cachestat(2), which it does not know.
        return re.sub(r"--\d+-- [^\r\n]*\r\n", "", text.decode())

    def test_on_a_terminal_a_bar_is_drawn_in_place(self):
        text = self.copy_on_terminal(str(self.large))
        drawn, rest = text.split("\r\n", 1)
        lines = drawn.split("\r")[1:]
        for line in lines:
            self.assertEqual(len(line), 99)
            self.assertRegex(line, r"^large\.bin  \[#*-*\]  +\d+%  \S+ \S+  \S+ \S+/s  ")
        self.assertRegex(lines[0], r"\[-+\]    0%  0 B")
        self.assertRegex(lines[-1], r"\[#+\]  100%  64\.0 MiB  \S+ \S+/s  done")
        self.assertRegex(rest, r"^ferry-copy: large\.bin: sent 67108864 bytes in \S+ s, .* by ")

    def test_the_receiver_draws_too(self):
        ours, theirs = self.terminal()
        self.addCleanup(os.close, ours)
        receiver, address = self.listening("receive", str(self.target), stderr=theirs)
        os.close(theirs)
        sender = self.child("send", address, str(self.large))
        text = self.drawn(ours, None)
        self.both_end_well(sender, receiver)
        self.assertIn(b"]  100%  64.0 MiB", text)

    def test_a_pipe_has_no_percent(self):
        read_end, write_end = os.pipe()
        os.write(write_end, b"x" * 4096)
        os.close(write_end)
        text = self.copy_on_terminal("-", stdin=read_end)
        os.close(read_end)
        self.assertNotIn("%", text)
        self.assertIn("4.0 KiB", text)

    def test_elsewhere_there_are_plain_lines(self):
        lines = self.copy(self.large).splitlines()
        self.assertNotIn("\r", "".join(lines))
        self.assertRegex(lines[-2], r"^large\.bin  100%  64\.0 MiB  \S+ \S+/s  done$")
        self.assertRegex(lines[-1], r"^ferry-copy: large\.bin: sent ")


if __name__ == "__main__":
    unittest.main()
