"""Shared by the interop tests: the C peer as a child process, a private directory for the sockets,
and a ledger that records which descriptor arrived with which bytes.

Each test is a script. Its arguments are the command of the peer, and its exit status is 0 if all
checks succeed. The deadlines only end a test that hangs; no result depends on them.
"""

import contextlib
import os
import subprocess
import sys
import tempfile

DEADLINE = 900


class Failure(Exception):
    pass


def check(condition, *what):
    if not condition:
        raise Failure(" ".join(str(word) for word in what))


def check_equal(found, expected, what):
    check(found == expected, f"{what}: {found!r}, expected {expected!r}")


@contextlib.contextmanager
def socket_path():
    with tempfile.TemporaryDirectory(prefix="ferry-interop-") as directory:
        yield os.path.join(directory, "socket")


class Program:
    """A child process. If it still runs at the end of the `with` block, it is killed."""

    def __init__(self, *command):
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def read_line(self):
        return self.process.stdout.readline()

    def finish(self):
        """Waits until the process exits by itself, with status 0. Returns its output."""
        output, _ = self.process.communicate(timeout=DEADLINE)
        check_equal(self.process.returncode, 0, "exit status of " + self.process.args[0])
        return output


class Peer(Program):
    """The C peer. With --listen it accepts connections once the constructor returns; otherwise it
    connects."""

    def __init__(self, mode, side, path, *number):
        super().__init__(*sys.argv[1:], mode, side, path, *map(str, number))
        if side == "--listen":
            check_equal(self.read_line(), "ready\n", "the peer's first line")

    def finish(self):
        """Waits until the peer exits. Returns its report: a dictionary of numbers."""
        words = super().finish().split()
        return {key: int(value) for key, value in (word.split("=") for word in words)}


def make_object(number):
    """A new descriptor whose content is its number: a pipe if the number is odd, a memfd if it is
    even."""
    text = f"descriptor {number}\n".encode()
    if number % 2:
        fd, end = os.pipe()
        os.write(end, text)
        os.close(end)
    else:
        fd = os.memfd_create("interop")
        os.pwrite(fd, text, 0)
    return fd


def take_object(fd):
    """Reads the number of a descriptor of make_object(), and closes it."""
    try:
        text = os.read(fd, 64)
    finally:
        os.close(fd)
    check(text.startswith(b"descriptor "), "a descriptor of something else:", text)
    return int(text.split()[1])


class Ledger:
    """The bytes and descriptors of the peer's send-fds mode, recorded for each read."""

    def __init__(self):
        self.reads = []  # for each descriptor: the length of the stream before and after its read
        self.stream = bytearray()

    def read(self, fds, data):
        before = len(self.stream)
        self.stream += data
        for fd in fds:
            check_equal(take_object(fd), len(self.reads), "descriptor")
            self.reads.append((before, len(self.stream)))

    def finish(self, count):
        """Checks that all have arrived, each in the read that contains its byte: the first byte of
        the line that names the descriptor."""
        position = 0
        expected = 0
        for line in bytes(self.stream).splitlines(keepends=True):
            check(line.endswith(b"\n"), "the last line is not whole")
            first, last = map(int, line.split()[:2])
            check_equal(first, expected, "first descriptor of a line")
            for before, after in self.reads[first : last + 1]:
                check(before <= position < after, f"{first}-{last}: byte {position} not in",
                      before, after)
            position += len(line)
            expected = last + 1
        check_equal(expected, count, "descriptors that the lines name")
        check_equal(len(self.reads), count, "descriptors received")


def run_cases(tests_with_cases):
    """Yields (test, case, path) for each case of each (test, case, case, ...). Prints an "ok" line
    when the caller asks for the next one: the case has succeeded."""
    for test, *cases in tests_with_cases:
        for case in cases:
            with socket_path() as path:
                yield test, case, path
            print("ok", test.__name__, *case, flush=True)


def run(*tests_with_cases):
    """The body of a script. Calls test(path, *case) for each case of (test, case, case, ...)."""
    for test, case, path in run_cases(tests_with_cases):
        try:
            test(path, *case)
        except Failure as failure:
            sys.exit(f"{test.__name__}{case}: {failure}")
