"""immortal_chat: users keep their connection and their name while the program is replaced."""

import os
import re
import signal
import socket
import unittest

import harness
from example import ExampleCase, free_port

USERS = 200


def has_ended(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


class User:
    def __init__(self, port, name):
        self.socket = socket.create_connection(("127.0.0.1", port), harness.DEADLINE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.socket.makefile("r", newline="\n")
        self.name = name
        self.say(name)

    def say(self, line):
        self.socket.sendall(line.encode() + b"\n")

    def hear(self):
        return self.lines.readline().rstrip("\n")

    def close(self):
        self.lines.close()
        self.socket.close()


class ImmortalChat(ExampleCase):
    def setUp(self):
        super().setUp()
        self.started = set()
        while True:
            self.port = free_port()
            self.first = self.child("immortal_chat", f"127.0.0.1:{self.port}")
            harness.wait_until(lambda: self.first.process.poll() is not None or self.pids(), "the chat")
            if self.pids():
                break
        self.addCleanup(self.kill_last)

    def pids(self):
        return [int(pid) for pid in re.findall(r"^chat (\d+)$", self.first.text(), re.MULTILINE)]

    def kill_last(self):
        os.kill(self.pids()[-1], signal.SIGKILL)

    def user(self, name):
        user = User(self.port, name)
        self.addCleanup(user.close)
        return user

    def join(self, users):
        """Returns once each user is in the room: it hears what the first one says."""
        for user in users:
            user.say("here")
            while user.hear() != f"{user.name}: here":
                pass

    def release(self, number):
        old = self.pids()[-1]
        os.kill(old, number)
        harness.wait_until(lambda: self.pids()[-1] != old, "the new process")
        harness.wait_until(lambda: has_ended(old), "the old process has ended")

    def all_hear(self, users, line):
        """Each hears the line next, behind what it has not read yet."""
        for user in users:
            while (heard := user.hear()) != line:
                self.assertRegex(heard, r"^u\d+: (here|typed)$")

    def test_200_users_stay_with_their_names(self):
        users = [self.user(f"u{number}") for number in range(USERS)]
        self.join(users)
        for number in (signal.SIGUSR2, signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP):
            self.release(number)
            for speaker in (users[0], users[-1]):
                speaker.say(f"after {number}")
                self.all_hear(users, f"{speaker.name}: after {number}")

    def test_what_is_typed_during_a_release_is_said(self):
        speaker, listener = users = [self.user("u0"), self.user("u1")]
        self.join(users)
        for _ in range(5):
            speaker.say("typed")
            self.release(signal.SIGUSR2)
        listener.say("end")
        heard = []
        while (line := speaker.hear()) != "u1: end":
            heard.append(line)
        self.assertEqual(heard.count("u0: typed"), 5)

    def test_a_user_without_a_name_keeps_half_a_line(self):
        user = self.user("u0")
        self.join([user])
        user.socket.sendall(b"first ha")
        self.release(signal.SIGHUP)
        user.socket.sendall(b"lf\n")
        self.assertEqual(user.hear(), "u0: first half")


if __name__ == "__main__":
    unittest.main()
