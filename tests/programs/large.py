"""A large file of random bytes arrives unchanged, by sendfile(2), and takes little memory.

FERRY_LARGE_MIB is its size. The test prints its measurements.
"""

import hashlib
import os
import re
import shutil
import subprocess
import time
import unittest

import harness

MIB = 1024 * 1024
SIZE = int(os.environ.get("FERRY_LARGE_MIB", "64")) * MIB
MOST_MEMORY_KIB = 32 * 1024
READS = ("read", "pread64", "readv", "preadv", "preadv2", "mmap", "copy_file_range", "splice")


def make_file(path):
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for _ in range(SIZE // MIB):
            block = os.urandom(MIB)
            file.write(block)
            digest.update(block)
    return digest.hexdigest()


class Large(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server(workers=0)
        cls.addClassCleanup(cls.server.stop)
        cls.path = cls.server.root / "large.bin"
        cls.digest = make_file(cls.path)

    def setUp(self):
        for worker in self.server.workers:
            self.server.stop_child(worker)
        self.server.workers.clear()
        self.server.worker_prefix = ()

    def fetch(self):
        digest = hashlib.sha256()
        with self.server.client() as client:
            client.send("GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read_head()
            left = SIZE - len(client.input)
            digest.update(client.input)
            buffer = memoryview(bytearray(MIB))
            while left > 0:
                count = client.socket.recv_into(buffer)
                if count == 0:
                    raise AssertionError(f"{left} bytes are missing")
                digest.update(buffer[:count])
                left -= count
        self.assertEqual(digest.hexdigest(), self.digest)

    def test_it_arrives_whole_in_little_memory(self):
        worker = self.server.add_worker()
        started = time.monotonic()
        self.fetch()
        seconds = time.monotonic() - started
        memory = worker.memory_kib("VmHWM")
        cpu = worker.cpu_seconds()
        print(f"{SIZE // MIB} MiB in {seconds:.2f} s, sha256 included; worker: VmHWM {memory} KiB,"
              f" {cpu:.2f} s of CPU time", flush=True)
        if not harness.INSTRUMENTED:
            self.assertLess(memory, MOST_MEMORY_KIB)

    @unittest.skipUnless(shutil.which("curl"), "no curl")
    def test_curl_gets_the_same_bytes(self):
        self.server.add_worker()
        with subprocess.Popen(
                ["curl", "-sS", "--fail", f"http://127.0.0.1:{self.server.port}/large.bin"],
                stdout=subprocess.PIPE) as curl:
            digest = hashlib.sha256()
            for block in iter(lambda: curl.stdout.read(MIB), b""):
                digest.update(block)
        self.assertEqual(curl.returncode, 0)
        self.assertEqual(digest.hexdigest(), self.digest)

    @unittest.skipIf(harness.INSTRUMENTED, "LeakSanitizer does not work under strace")
    @unittest.skipUnless(shutil.which("strace"), "no strace")
    def test_its_bytes_never_enter_the_process(self):
        trace = self.server.directory / "trace"
        # -D: the worker stays the child of this process, and the tracer ends after it.
        self.server.worker_prefix = ("strace", "-D", "-f", "-C", "-y", "-o", trace)
        worker = self.server.add_worker()
        self.fetch()
        self.server.stop_child(worker)
        self.server.workers.remove(worker)
        harness.wait_until(lambda: " total\n" in trace.read_text(errors="replace"),
                           "strace's summary")
        sent = read = sendfiles = 0
        text = trace.read_text(errors="replace")
        for line in text.splitlines():
            call = re.match(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)", line)
            if call is None or "large.bin>" not in call[2] or int(call[3]) <= 0:
                continue
            if call[1] == "sendfile":
                sendfiles += 1
                sent += int(call[3])
            elif call[1] in READS:
                read += int(call[3])
        summary = text[text.index("% time"):].splitlines()
        print(*[line for line in summary[:2] + sorted(summary[2:-2], key=len)
                if re.search(r"% time|---|sendfile|read|epoll_wait|sendmsg|recvmsg", line)],
              sep="\n", flush=True)
        self.assertEqual(sent, SIZE)
        # A read of one byte may ask whether the next piece is in the page cache.
        self.assertLessEqual(read, sendfiles)


if __name__ == "__main__":
    unittest.main()
