"""examples/python/worker.py, which is written from docs/handoff.md alone, beside a dispatcher on ferry.

Arguments: the worker's file, and the command of the dispatcher.
"""

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

DEADLINE = int(os.environ.get("FERRY_DEADLINE", "120"))
WORKER, *DISPATCHER = sys.argv[1:]

sys.path.insert(0, os.path.dirname(WORKER))
from messages import Messages  # noqa: E402


def wait_until(condition, what):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {DEADLINE} seconds")
        time.sleep(0.01)


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE)
        self.lines = self.socket.makefile("rb")

    def ask(self, text):
        self.socket.sendall(text)
        return self.lines.readline()

    def close(self):
        self.lines.close()
        self.socket.close()


class PythonMessages(unittest.TestCase):

    def test_a_frame_that_the_kernel_has_is_sent_even_if_the_stream_ends_at_that_moment(self):
        ours, theirs = socket.socketpair()
        messages = Messages(ours, 100, 1)

        def send_and_end(*arguments):
            sent = socket_send_fds(*arguments)
            theirs.shutdown(socket.SHUT_RD)
            return sent
        socket_send_fds, socket.send_fds = socket.send_fds, send_and_end
        try:
            messages.send(3, b"claim")
        finally:
            socket.send_fds = socket_send_fds
        with self.assertRaises(BrokenPipeError):
            messages.send(3, b"another")
        self.assertEqual(len(theirs.recv(100)), 16 + 5)
        ours.close()
        theirs.close()


class PythonWorker(unittest.TestCase):

    def start(self, version, workers):
        self.dispatcher = subprocess.Popen(
            [*DISPATCHER, str(version), sys.executable, "-B", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(self.stop)
        self.events = []
        self.reader = threading.Thread(target=self.read_events)
        self.reader.start()
        for _ in range(workers):
            self.add()
        self.port = int(self.values("port")[0])

    def read_events(self):
        for line in self.dispatcher.stdout:
            self.events.append(line.decode().split())

    def stop(self):
        self.dispatcher.stdin.close()
        status = self.dispatcher.wait(DEADLINE)
        for pid in self.values("worker"):
            try:  # the last one may have clients still
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.reader.join()
        self.dispatcher.stdout.close()
        self.assertIn(status, (0, -signal.SIGKILL))

    def values(self, event):
        return [words[1] if len(words) > 1 else "" for words in self.events if words[0] == event]

    def wait_for(self, event, count):
        wait_until(lambda: len(self.values(event)) >= count or self.dispatcher.poll() is not None, f"{event} {count}")
        self.assertGreaterEqual(len(self.values(event)), count)

    def command(self, text):
        self.dispatcher.stdin.write(text)
        self.dispatcher.stdin.flush()

    def add(self):
        ready = len(self.values("ready"))
        self.command(b"add\n")
        self.wait_for("ready", ready + 1)

    def client(self):
        client = Client(self.port)
        self.addCleanup(client.close)
        return client

    def test_connections_are_served_at_once_and_done_once(self):
        self.start(2, workers=2)
        clients = [self.client() for _ in range(40)]
        for number in (b"1", b"2"):
            for index, client in enumerate(clients):
                self.assertEqual(client.ask(b"line %d\n" % index), b"%s line %d\n" % (number, index))
        for client in clients:
            client.close()
        self.wait_for("done", 40)
        self.assertEqual(len(self.values("done")), 40)
        self.assertEqual(self.values("lost"), [])

    def test_returned_connections_are_served_again_with_their_state_and_bytes(self):
        self.start(2, workers=2)
        clients = [self.client() for _ in range(10)]
        for client in clients:
            self.assertEqual(client.ask(b"one\nmove\nha"), b"1 one\n")
            self.assertEqual(client.lines.readline(), b"2 move\n")
        self.wait_for("returned", 10)
        for client in clients:
            self.assertEqual(client.ask(b"lf\n"), b"3 half\n")
            self.assertEqual(client.ask(b"move\nand on\n"), b"4 move\n")
            self.assertEqual(client.lines.readline(), b"5 and on\n")
        self.assertEqual(len(self.values("returned")), 20)
        self.assertEqual(self.values("done") + self.values("lost") + self.values("expired"), [])

    def test_recall_brings_all_connections_back(self):
        self.start(2, workers=2)
        clients = [self.client() for _ in range(12)]
        for client in clients:
            client.ask(b"one\n")
        self.command(b"recall\n")
        self.wait_for("returned", 12)
        for client in clients:
            self.assertEqual(client.ask(b"two\n"), b"2 two\n")

    def test_version_1_has_no_return(self):
        self.start(1, workers=1)
        client = self.client()
        self.assertEqual(client.ask(b"move\n"), b"1 move\n")
        self.assertEqual(client.ask(b"two\n"), b"2 two\n")
        client.close()
        self.wait_for("done", 1)
        self.assertEqual(self.values("returned") + self.values("lost"), [])

    def test_a_killed_worker_takes_only_what_it_has(self):
        self.start(2, workers=1)
        first = int(self.values("worker")[0])
        kept = self.client()
        kept.ask(b"one\n")
        os.kill(first, signal.SIGSTOP)
        waiting = [self.client() for _ in range(20)]
        self.add()
        os.kill(first, signal.SIGKILL)
        self.wait_for("lost", 1)
        for client in waiting:
            self.assertEqual(client.ask(b"one\n"), b"1 one\n")
        self.assertEqual(len(self.values("kept")), 1)
        self.assertEqual(kept.lines.readline(), b"")

    def test_what_was_returned_survives_its_worker(self):
        self.start(2, workers=1)
        client = self.client()
        self.assertEqual(client.ask(b"one\n"), b"1 one\n")
        worker = int(self.values("worker")[0])
        os.kill(self.dispatcher.pid, signal.SIGSTOP)  # it reads the return after the worker's death
        self.assertEqual(client.ask(b"move\n"), b"2 move\n")
        self.has_no_clients(worker)
        os.kill(worker, signal.SIGKILL)
        os.kill(self.dispatcher.pid, signal.SIGCONT)
        self.wait_for("returned", 1)
        self.add()
        self.assertEqual(client.ask(b"three\n"), b"3 three\n")

    def has_no_clients(self, pid):
        """Only the channel is a socket of the process."""
        def count():
            links = []
            for fd in os.listdir(f"/proc/{pid}/fd"):
                try:
                    links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
                except FileNotFoundError:
                    pass
            return sum(link.startswith("socket:") for link in links)
        wait_until(lambda: count() == 1, "the worker closes its copy")

    def test_a_dead_dispatcher_ends_no_connection(self):
        self.start(2, workers=1)
        client = self.client()
        client.ask(b"one\n")
        worker = int(self.values("worker")[0])
        self.dispatcher.kill()
        self.dispatcher.wait()
        self.assertEqual(client.ask(b"move\n"), b"2 move\n")  # the return fails
        self.assertEqual(client.ask(b"three\n"), b"3 three\n")
        client.close()
        wait_until(lambda: self.has_ended(worker), "the worker ends with its last client")

    def has_ended(self, pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    def test_a_worker_without_descriptor_slots_loses_nothing(self):
        self.start(2, workers=1)
        worker = int(self.values("worker")[0])
        self.has_no_clients(worker)
        used = len(os.listdir(f"/proc/{worker}/fd"))
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 4, used + 4))
        clients = [self.client() for _ in range(30)]
        for client in clients:
            client.socket.sendall(b"one\n")
        waiting = {client.socket: client for client in clients}
        while waiting:  # in any order: each that ends makes room for another
            ready, _, _ = select.select(waiting, [], [], DEADLINE)
            self.assertNotEqual(ready, [], f"{len(waiting)} clients have no answer")
            for end in ready:
                self.assertEqual(waiting[end].lines.readline(), b"1 one\n")
                waiting.pop(end).close()
        self.wait_for("done", 30)
        self.assertEqual(self.values("expired") + self.values("rejected"), [])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"])
