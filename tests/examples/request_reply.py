"""request_reply on one end of a socket pair, with a client made of the other end."""

import socket
import time
import unittest

import harness
from example import ExampleCase, fill, read_to_end

MIB = 1024 * 1024
LINE = b"0 " + b"x" * 997 + b"\n"


class RequestReply(ExampleCase):

    def start(self):
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        ours.settimeout(harness.DEADLINE)
        with theirs:
            return self.child("request_reply", stdin=theirs), ours

    def ends_with(self, child, status):
        self.assertEqual(child.process.wait(harness.DEADLINE), status, child.text())

    def test_replies_come_in_the_order_of_the_requests(self):
        child, peer = self.start()
        peer.sendall(b"200 slow\n0 fast\nno number\n17\n\n0 \n")
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual(read_to_end(peer), b"slow\nfast\nnumber\n\n\n\n")
        self.ends_with(child, 0)

    def test_a_reply_takes_its_time(self):
        child, peer = self.start()
        start = time.monotonic()
        peer.sendall(b"300 x\n")
        self.assertEqual(peer.recv(10), b"x\n")
        self.assertGreaterEqual(time.monotonic() - start, 0.29)
        peer.close()
        self.ends_with(child, 0)

    def test_nothing_is_read_behind_a_request_in_work(self):
        for seconds in (2, 8, 32, 60):  # a new attempt is for a machine on which the work is over too soon
            child, peer = self.start()
            begun = time.monotonic()
            peer.sendall(b"%d x\n" % (seconds * 1000))
            sent = fill(peer, LINE, 16 * MIB)
            if time.monotonic() < begun + seconds:
                break
        self.assertLess(sent, MIB)
        peer.close()
        self.ends_with(child, 1)  # the client has gone without its reply

    def test_a_client_that_does_not_read_is_not_read_from(self):
        child, peer = self.start()
        sent = fill(peer, LINE, 2 * MIB)
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual(read_to_end(peer), LINE[2:] * (sent // len(LINE)))
        self.ends_with(child, 0)

    def test_a_line_that_is_too_long_ends_it(self):
        child, peer = self.start()
        peer.sendall(b"0 " + b"x" * 4094 + b"\n")
        self.assertEqual(peer.makefile("rb").readline(), b"x" * 4094 + b"\n")
        peer.sendall(b"0 " + b"x" * 4095 + b"\n")
        self.ends_with(child, 1)
        self.assertIn("Message too long", child.text())

    def test_the_standard_input_is_no_socket(self):
        status, _, error = self.run_to_end("request_reply")
        self.assertEqual(status, 1)
        self.assertIn("Socket operation on non-socket", error)


if __name__ == "__main__":
    unittest.main()
