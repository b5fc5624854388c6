"""poller_chat beside clients made of sockets."""

import select
import socket
import unittest

from example import ExampleCase, read_to_end


class Chat(ExampleCase):

    def join(self, name):
        peer = self.connect()
        peer.sendall(name + b"\n")
        return peer, peer.makefile("rb")

    def expect(self, client, *lines):
        for line in lines:
            self.assertEqual(client.readline(), line)

    def test_lines_go_to_all_others(self):
        server = self.serve("poller_chat")
        ann_socket, ann = self.join(b"ann")
        bob_socket, bob = self.join(b"bob")
        self.expect(ann, b"* bob is here\n")
        carl_socket, carl = self.join(b"carl")
        self.expect(ann, b"* carl is here\n")
        self.expect(bob, b"* carl is here\n")
        ann_socket.sendall(b"one\ntwo\n\nthr")
        for lines in (bob, carl):
            self.expect(lines, b"ann: one\n", b"ann: two\n", b"ann: \n")
        ann_socket.sendall(b"ee\n")
        for lines in (bob, carl):
            self.expect(lines, b"ann: three\n")
        carl_socket.sendall(b"good")
        carl_socket.sendall(b"bye\nthe end")
        carl_socket.shutdown(socket.SHUT_WR)
        for lines in (ann, bob):
            self.expect(lines, b"carl: goodbye\n", b"carl: the end\n", b"* carl has gone\n")
        self.assertEqual(carl.read(), b"")
        ann_socket.shutdown(socket.SHUT_WR)
        self.expect(bob, b"* ann has gone\n")
        self.stop(server)
        self.assertEqual(bob.read(), b"")

    def test_a_client_without_a_name_is_not_announced_and_hears_nothing(self):
        server = self.serve("poller_chat")
        silent = self.connect()
        ann_socket, ann = self.join(b"ann")
        silent.close()
        _, bob = self.join(b"bob")
        self.expect(ann, b"* bob is here\n")
        ann_socket.sendall(b"hello\n")
        self.expect(bob, b"ann: hello\n")
        self.stop(server)

    def test_many_lines_are_heard_in_their_order(self):
        server = self.serve("poller_chat")
        _, listener = self.join(b"listener")
        reader, _ = self.join(b"reader")
        self.expect(listener, b"* reader is here\n")
        reader.sendall(b"".join(b"line %d\n" % i for i in range(5000)) + b"the end")
        reader.shutdown(socket.SHUT_WR)
        self.expect(listener, *[b"reader: line %d\n" % i for i in range(5000)])
        self.expect(listener, b"reader: the end\n", b"* reader has gone\n")
        self.stop(server)

    def test_a_client_that_does_not_listen_is_dropped(self):
        server = self.serve("poller_chat")
        before = self.count_fds(server)
        deaf, _ = self.join(b"deaf")
        speaker, heard = self.join(b"speaker")
        ended = select.poll()
        ended.register(deaf, 0)  # POLLHUP alone
        while not ended.poll(0):
            speaker.sendall((b"x" * 4000 + b"\n") * 100)
        speaker.close()
        heard.close()
        self.has_fds(server, before)
        rest = read_to_end(deaf)
        self.assertTrue(rest.startswith(b"* speaker is here\nspeaker: xxx") or
                        rest.startswith(b"speaker: xxx"), rest[:50])
        self.stop(server)

    def test_too_long_a_line_ends_its_client(self):
        server = self.serve("poller_chat")
        peer, lines = self.join(b"long")
        peer.sendall(b"y" * 5000)
        try:
            self.assertEqual(lines.read(), b"")
        except ConnectionResetError:
            pass  # of the line that was not read to its end
        self.stop(server)

    def test_the_lines_that_arrived_before_a_signal_are_sent(self):
        server = self.serve("poller_chat")
        speaker, heard = self.join(b"speaker")
        _, listener = self.join(b"listener")
        self.expect(heard, b"* listener is here\n")
        speaker.sendall(b"one\n" * 1000)
        self.has_read(speaker)
        self.expect(listener, b"speaker: one\n")  # so that the others were in the same polls
        self.stop(server)
        self.assertRegex(listener.read(), b"^(speaker: one\n)*$")

    def test_a_path_that_cannot_be(self):
        status, _, error = self.run_to_end("poller_chat", self.directory / "none" / "socket")
        self.assertEqual(status, 1)
        self.assertIn("No such file or directory", error)

    def test_usage(self):
        self.check_usage("poller_chat", (), ("a", "b"))


if __name__ == "__main__":
    unittest.main()
