"""poller_chat as processes: its server and its clients, and each of them beside an end made of sockets."""

import os
import pathlib
import select
import signal
import socket
import subprocess
import tempfile
import unittest

import harness


class Chat(unittest.TestCase):

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="ferry-e2e-")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)
        self.path = self.directory / "socket"

    def serve(self):
        child = harness.Child(self.directory, "poller_chat", "--listen", self.path, emulated=True)
        self.addCleanup(child.kill)
        child.wait_for("listening on")
        return child

    def join(self, name, **options):
        client = subprocess.Popen(
            [*harness.EMULATOR, harness.BIN / "poller_chat", "--connect", self.path, "--name", name],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            **{"stdin": subprocess.PIPE, **options})

        def end():
            client.kill()
            client.wait()
            for pipe in (client.stdin, client.stdout, client.stderr):
                if pipe is not None:
                    pipe.close()
        self.addCleanup(end)
        return client

    def say(self, client, text):
        client.stdin.write(text)
        client.stdin.flush()

    def expect(self, client, *lines):
        for line in lines:
            self.assertEqual(client.stdout.readline(), line)

    def leave(self, client):
        client.stdin.close()
        self.assertEqual(client.wait(harness.DEADLINE), 0, client.stderr.read())

    def connect(self, name):
        peer = socket.socket(socket.AF_UNIX)
        self.addCleanup(peer.close)
        peer.settimeout(harness.DEADLINE)
        peer.connect(os.fspath(self.path))
        peer.sendall(name + b"\n")
        return peer, peer.makefile("rb")

    def meet(self, say, name, hearer):
        """Nobody knows who of the two has come first: until one hears the other."""
        while not select.select([hearer], [], [], 0.02)[0]:
            say(b"ping\n")
        say(b"met\n")
        line = b""
        while line != name + b": met\n":
            line = hearer.readline()
            self.assertTrue(line.startswith((b"* ", name)), line)

    def test_lines_go_to_all_others(self):
        server = self.serve()
        ann = self.join("ann")
        bob_socket, bob = self.connect(b"bob")
        self.meet(bob_socket.sendall, b"bob", ann.stdout)
        carl_socket, carl = self.connect(b"carl")
        while ann.stdout.readline() != b"* carl is here\n":
            pass
        self.say(ann, b"one\ntwo\n\nthr")
        for lines in (bob, carl):
            line = lines.readline()
            while line.startswith(b"* "):
                line = lines.readline()
            self.assertEqual([line, lines.readline(), lines.readline()],
                             [b"ann: one\n", b"ann: two\n", b"ann: \n"])
        self.say(ann, b"ee\n")
        self.assertEqual(bob.readline(), b"ann: three\n")
        carl_socket.sendall(b"good")
        carl_socket.sendall(b"bye\n")
        carl_socket.shutdown(socket.SHUT_WR)
        self.expect(ann, b"carl: goodbye\n", b"* carl has gone\n")
        self.assertEqual(carl.read(), b"ann: three\n")
        self.leave(ann)
        self.assertEqual([bob.readline() for _ in range(3)],
                         [b"carl: goodbye\n", b"* carl has gone\n", b"* ann has gone\n"])
        server.stop()
        self.assertEqual(bob.read(), b"")
        self.assertFalse(self.path.exists())

    def test_a_file_is_said_whole_and_without_its_last_newline(self):
        server = self.serve()
        before = server.fds()
        _, listener = self.connect(b"listener")
        text = b"".join(b"line %d\n" % i for i in range(5000))
        file = self.directory / "text"
        file.write_bytes(text + b"the end")
        harness.wait_until(lambda: server.fds() > before, "the listener")
        with open(file, "rb") as stdin:
            reader = self.join("reader", stdin=stdin)
            lines = [b"* reader is here"] + [b"reader: line %d" % i for i in range(5000)]
            lines += [b"reader: the end", b"* reader has gone"]
            for line in lines:
                self.assertEqual(listener.readline(), line + b"\n")
            self.assertEqual(reader.wait(harness.DEADLINE), 0)
        server.stop()

    def test_who_does_not_listen_is_dropped(self):
        server = self.serve()
        before = server.fds()
        deaf, _ = self.connect(b"deaf")
        speaker, heard = self.connect(b"speaker")
        line = b"x" * 4000 + b"\n"
        while True:
            speaker.sendall(line * 100)
            if server.fds() == before + 1:
                break
        speaker.close()
        heard.close()
        harness.wait_until(lambda: server.fds() == before, "all descriptors to be closed")
        rest = b""
        while block := deaf.recv(65536):
            rest += block
        self.assertTrue(rest.startswith(b"* speaker is here\nspeaker: xxx") or
                        rest.startswith(b"speaker: xxx"), rest[:50])
        server.stop()

    def test_too_long_a_line_ends_the_one_who_says_it(self):
        server = self.serve()
        peer, lines = self.connect(b"long")
        peer.sendall(b"y" * 5000)
        try:
            self.assertEqual(lines.read(), b"")
        except ConnectionResetError:
            pass  # of the line that was not read to its end
        server.stop()

    def test_the_client_says_what_was_typed(self):
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(os.fspath(self.path))
        listener.listen()
        client = self.join("me")
        peer, _ = listener.accept()
        self.addCleanup(peer.close)
        peer.settimeout(harness.DEADLINE)
        lines = peer.makefile("rb")
        self.say(client, b"first\nsec")
        self.assertEqual(lines.readline(), b"me\n")
        self.assertEqual(lines.readline(), b"first\n")
        peer.sendall(b"an answer\nin ")
        self.expect(client, b"an answer\n")
        peer.sendall(b"two\nand cut off")
        self.expect(client, b"in two\n")
        client.stdin.close()
        self.assertEqual(lines.read(), b"sec")
        peer.shutdown(socket.SHUT_WR)
        self.expect(client, b"and cut off\n", b"")
        self.assertEqual(client.wait(harness.DEADLINE), 0)

    def test_a_server_that_leaves_first_is_a_failure(self):
        server = self.serve()
        before = server.fds()
        client = self.join("left")
        harness.wait_until(lambda: server.fds() > before, "the client")
        server.stop()
        self.assertEqual(client.wait(harness.DEADLINE), 1)
        self.assertIn(b"has gone", client.stderr.read())

    def test_a_signal_ends_a_client(self):
        server = self.serve()
        client = self.join("brief")
        _, other = self.connect(b"other")
        self.meet(lambda text: self.say(client, text), b"brief", other)
        client.send_signal(signal.SIGTERM)
        self.assertEqual(client.wait(harness.DEADLINE), 0)
        server.stop()

    def test_nobody_there(self):
        client = self.join("nobody")
        self.assertEqual(client.wait(harness.DEADLINE), 1)
        self.assertIn(b"No such file", client.stderr.read())

    def test_usage(self):
        for arguments in ([], ["--listen"], ["--listen", "a", "--connect", "b"], ["--connect", "a"],
                          ["--listen", "a", "--name", "n"], ["--what"], ["--listen", "a", "more"]):
            done = subprocess.run([*harness.EMULATOR, harness.BIN / "poller_chat", *arguments],
                                  capture_output=True, timeout=harness.DEADLINE, check=False)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(b"usage: poller_chat", done.stderr)


if __name__ == "__main__":
    unittest.main()
