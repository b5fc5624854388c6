"""descriptor_cat as two processes, each against the other and against peers made by hand."""

import contextlib
import os
import pathlib
import random
import socket
import struct
import subprocess
import tempfile
import unittest

import harness

HEADER = struct.Struct("<3sBHHIHH")
DESCRIPTION = struct.Struct("<BBBBHHHB5xQQ")
FILE, PIPE, SOCKET = 1, 3, 12
TYPE = 1


def description(fd, name, kind=FILE, access=os.O_RDONLY, flags=0):
    """What is true of a file that is open for reading, unless told otherwise."""
    status = os.fstat(fd)
    name = name.encode() if isinstance(name, str) else name
    return DESCRIPTION.pack(1, kind, access, flags, 0, 0, 0, len(name), status.st_ino,
                            status.st_dev) + name


def frame(payload, fd_count=1, kind=TYPE):
    return HEADER.pack(b"FRY", 1, kind, 0, len(payload), fd_count, 0) + payload


class DescriptorCat(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)
        self.address = str(self.directory / "socket")
        self.output = self.directory / "output"

    def file(self, name, content):
        path = self.directory / name
        path.write_bytes(content)
        return str(path)

    def child(self, *arguments, **options):
        child = harness.Child(self.directory, "descriptor_cat", *arguments, emulated=True,
                              **options)
        self.addCleanup(child.kill)
        return child

    def sender(self, *files, options=("--once",), **popen):
        child = self.child("--send", *options, self.address, *files, **popen)

        harness.wait_until(lambda: os.path.exists(self.address), "the sender's socket")
        return child

    def receiver(self, **popen):
        with open(self.output, "wb") as output:
            return self.child("--receive", self.address,
                              **{"stdout": output, "stderr": subprocess.PIPE, **popen})

    def ended(self, child):
        """The status and what was said."""
        said = child.process.communicate(timeout=harness.DEADLINE)[1]
        return child.process.returncode, (said or b"").decode() + child.text()

    def both_end_well(self, sender, receiver):
        self.assertEqual(self.ended(receiver)[0], 0)
        self.assertEqual(self.ended(sender)[0], 0)

    # ---- both ends ----

    def test_files_arrive_in_order(self):
        contents = [random.Random(i).randbytes(size)
                    for i, size in enumerate((10, 0, 1, 100_000, 1_000_000))]
        files = [self.file(f"file {i} \u20ac", content) for i, content in enumerate(contents)]
        self.both_end_well(self.sender(*files), self.receiver())
        self.assertEqual(self.output.read_bytes(), b"".join(contents))

    def test_many_files(self):
        files = [self.file(f"{i}", b"%d\n" % i) for i in range(2000)]
        self.both_end_well(self.sender(*files), self.receiver())
        self.assertEqual(self.output.read_bytes(), b"".join(b"%d\n" % i for i in range(2000)))

    def test_the_standard_input_is_a_file_at_its_position(self):
        with open(self.file("file", b"0123456789"), "rb", buffering=0) as file:
            file.seek(4)
            self.both_end_well(self.sender("-", stdin=file), self.receiver())
        self.assertEqual(self.output.read_bytes(), b"456789")

    def test_the_standard_input_is_a_pipe(self):
        read_end, write_end = os.pipe()
        sender = self.sender("-", stdin=read_end)
        os.close(read_end)
        receiver = self.receiver()
        os.write(write_end, b"first, ")
        os.write(write_end, b"second")
        os.close(write_end)
        self.both_end_well(sender, receiver)
        self.assertEqual(self.output.read_bytes(), b"first, second")

    def test_what_the_receiver_may_not_open_it_reads_all_the_same(self):
        path = self.file("unlinked", b"content")
        with open(path, "rb") as file:
            os.unlink(path)
            self.both_end_well(self.sender("-", stdin=file), self.receiver())
        self.assertEqual(self.output.read_bytes(), b"content")

    def test_a_missing_file_and_a_broken_name_are_told_and_the_others_arrive(self):
        good = self.file("good", b"content")
        broken = os.fsencode(self.directory) + b"/broken \xff"
        with open(broken, "wb") as file:
            file.write(b"x")
        sender = self.sender(str(self.directory / "missing"), broken, good)
        receiver = self.receiver()
        self.assertEqual(self.ended(receiver)[0], 0)
        status, said = self.ended(sender)
        self.assertEqual(status, 1)
        self.assertIn("missing: No such file or directory", said)
        self.assertIn(": Invalid argument", said)
        self.assertEqual(self.output.read_bytes(), b"content")

    def test_a_directory_is_no_file_to_the_receiver(self):
        sender = self.sender(str(self.directory), self.file("good", b"content"))
        status, said = self.ended(self.receiver())
        self.assertEqual((status, self.ended(sender)[0]), (1, 0))
        self.assertIn(f"{self.directory}: Is a directory", said)
        self.assertEqual(self.output.read_bytes(), b"content")

    def test_one_sender_serves_many_and_keeps_nothing_open(self):
        sender = self.sender(self.file("file", b"content"), options=())
        counts = set()
        for _ in range(5):
            self.assertEqual(self.ended(self.receiver())[0], 0)
            self.assertEqual(self.output.read_bytes(), b"content")
            harness.wait_until(lambda: sender.fds() <= min(counts, default=1000),
                               "the sender's descriptors are closed")
            counts.add(sender.fds())
        sender.stop()
        self.assertFalse(os.path.exists(self.address))

    def test_nobody_there(self):
        status, said = self.ended(self.receiver())
        self.assertEqual(status, 1)
        self.assertIn("No such file or directory", said)

    def test_arguments(self):
        for arguments in ((), ("--send",), ("--send", "x"), ("--send", "--once", "x"),
                          ("--receive",), ("--receive", "x", "y"), ("--receive", "--once"),
                          ("--other", "x", "y")):
            status, said = self.ended(self.child(*arguments))
            self.assertEqual(status, 2, arguments)
            self.assertIn("usage: descriptor_cat", said)

    # ---- a receiver, and peers that are none of ours ----

    def served(self, *messages):
        """Runs a receiver on messages, which are bytes and descriptors."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen()
            listener.settimeout(harness.DEADLINE)
            receiver = self.receiver()
            peer = listener.accept()[0]
        with peer:
            with contextlib.suppress(BrokenPipeError):  # it may have refused the first
                for data, fds in messages:
                    socket.send_fds(peer, [data], fds)
                peer.shutdown(socket.SHUT_WR)
            return self.ended(receiver)

    def test_a_true_description_from_another_program(self):
        with open(self.file("file", b"content"), "rb") as file:
            fd = file.fileno()
            status, said = self.served((frame(description(fd, "file")), [fd]),
                                       (frame(b"for later", 0, 77), []))
        self.assertEqual((status, said), (0, ""))
        self.assertEqual(self.output.read_bytes(), b"content")

    def refused(self, message, *words):
        with open(self.file("file", b"content"), "rb") as file:
            good = (frame(description(file.fileno(), "file")), [file.fileno()])
            status, said = self.served(message, good)
        self.assertEqual(status, 1)
        for word in words:
            self.assertIn(word, said)
        os.unlink(self.address)
        # Nothing is believed of who has lied.
        self.assertEqual(self.output.read_bytes(), b"")

    def test_lies(self):
        kind = "a descriptor of another kind than it says"
        with open(self.file("other", b"other"), "rb") as file, socket.socket() as sock:
            fd = file.fileno()
            self.refused((frame(description(fd, "x", kind=SOCKET)), [fd]), kind)
            self.refused((frame(description(fd, "x", kind=PIPE)), [fd]), kind)
            self.refused((frame(description(fd, "x")), [sock.fileno()]), kind)
            self.refused((frame(description(fd, "x", access=os.O_RDWR)), [fd]),
                         "another access mode")
            with open(self.file("another", b"another"), "rb") as another:
                self.refused((frame(description(fd, "x")), [another.fileno()]),
                             "another descriptor than it says")

    def test_broken_descriptions(self):
        with open(self.file("other", b"other"), "rb") as file:
            fd = file.fileno()
            good = description(fd, "name")
            self.refused((frame(good, 0), []), "without its one descriptor")
            self.refused((frame(good, 2), [fd, fd]), "without its one descriptor")
            self.refused((frame(good[:20]), [fd]), "too short")
            self.refused((frame(good[:-1]), [fd]), "another length")
            self.refused((frame(b"\2" + good[1:]), [fd]), "another version")
            self.refused((frame(description(fd, b"\xff")), [fd]), "not UTF-8")
            self.refused((frame(description(fd, b"a\0b")), [fd]), "zero byte")


if __name__ == "__main__":
    unittest.main()
