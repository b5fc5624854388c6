"""Workers that reject, lose or fail: what they have not begun goes elsewhere, and they are chosen less."""

import os
import pathlib
import socket
import struct
import sys
import threading
import unittest

import harness
from supervised import Case

sys.path.insert(0, str(pathlib.Path(os.environ["FERRY_SOURCE"]) / "examples/python"))
from messages import Messages  # noqa: E402  pylint: disable=wrong-import-position

HELLO, HANDOFF, LOST, REJECT = 1, 2, 4, 5
ANSWER = struct.Struct("<QQii")
REQUESTS = 300


class BadWorker:
    """A worker that never serves. `answer`: the type of its answer to each handoff; None: it ends its channel at each,
    and connects again."""

    def __init__(self, path, answer):
        self.path, self.answer = str(path), answer
        self.handoffs = 0
        self.stopping = False
        self.connect()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def connect(self):
        end = socket.socket(socket.AF_UNIX)
        end.connect(self.path)
        self.messages = Messages(end, 1 << 20, 1)
        self.messages.send(HELLO, struct.pack("<HHIQ8x", 1, 2, 64, 0))
        self.epoch = 0

    def receive(self):
        for kind, payload, _, _ in self.messages.receive():
            if kind == HELLO:
                self.epoch = struct.unpack_from("<HHIQ", payload)[3]
            elif kind == HANDOFF:
                self.handoffs += 1
                if self.answer is None:
                    raise ValueError("a failure")
                self.messages.send(self.answer, ANSWER.pack(struct.unpack_from("<Q", payload)[0], self.epoch, -5, 0))

    def run(self):
        while not self.stopping:
            try:
                self.receive()
            except (OSError, ValueError):
                self.messages.socket.close()
                if not self.stopping:
                    self.connect()

    def stop(self):
        self.stopping = True
        self.messages.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()


class Rejecting(Case):
    def start_with(self, answer):
        """A proxy with one worker that serves and one that does not."""
        proxy = self.start(config="""
            listen 127.0.0.1:0
            service www socket={directory}/workers.sock
        """)
        path = proxy.directory / "workers.sock"
        worker = harness.Child(proxy.directory, "ferry-worker", "--socket", path, "--root", proxy.root)
        self.addCleanup(worker.stop)
        proxy.wait_for("is connected")
        bad = BadWorker(path, answer)
        self.addCleanup(bad.stop)
        proxy.wait_for("is connected", 2)
        return proxy, bad

    def assert_all_are_served(self, proxy):
        for _ in range(REQUESTS):
            self.assert_serves(proxy)

    def test_a_worker_that_rejects_is_chosen_less(self):
        """Chosen by turns, it would get half of them. It is avoided for a time that doubles, up to five seconds."""
        for answer in (REJECT, LOST):
            with self.subTest(answer):
                proxy, bad = self.start_with(answer)
                self.assert_all_are_served(proxy)
                self.assertGreater(bad.handoffs, 0)
                self.assertLess(bad.handoffs, REQUESTS / 4)

    def test_many_at_once_are_served_although_one_rejects(self):
        proxy, bad = self.start_with(REJECT)
        load = self.load(proxy)
        load.wait_for_more(REQUESTS)
        load.stop()
        self.assertEqual(load.failures, [])
        self.assertGreater(bad.handoffs, 0)

    def test_what_a_worker_that_fails_has_not_begun_is_served(self):
        proxy, bad = self.start_with(None)
        self.assert_all_are_served(proxy)
        self.assertGreater(bad.handoffs, 0)


if __name__ == "__main__":
    unittest.main()
