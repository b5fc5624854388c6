"""Many upgrades under load, with releases that are broken, under a service manager that checks each message.

ctest runs a few of each. All of them:

    FERRY_UPGRADES=50 FERRY_BROKEN=20 FERRY_KILLS=100 FERRY_BIN=build/dev/src/programs FERRY_SOURCE=. \\
        python3 -B tests/programs/releases.py
"""

import contextlib
import os
import pathlib
import random
import re
import signal
import socket
import struct
import tempfile
import threading
import time
import unittest

import harness
from supervised import Case, children

UPGRADES = int(os.environ.get("FERRY_UPGRADES", "5"))
BROKEN = int(os.environ.get("FERRY_BROKEN", "10"))
KILLS = int(os.environ.get("FERRY_KILLS", "8"))

REAL = harness.BIN / "ferry-proxy"
NEXT = '"${0%/*}/next"'  # the program, in the directory of the script in its place
CONFIG = "listen 127.0.0.1:0\nidle-timeout 86400\nservice www root={root} workers=2\n"

# Each is the text of a program that stands in the place of ferry-proxy, and the words of the failure.
BROKEN_PROGRAMS = {
    "exits at once": ("#!/bin/sh\nexit 0\n", "exited with status 0"),
    "is no program": ("\x7fno program\n", "no upgrade: Exec format error"),
    "is missing": (None, "no upgrade: No such file"),
    "has no permission": ("", "no upgrade: Permission denied"),
    "crashes": ("#!/bin/sh\nkill -SEGV $$\n", "killed by signal 11"),
    "closes the channel": ("#!/bin/sh\nexec 3>&-\nexec sleep 1000\n", "killed by signal 15"),
    "babbles": ("#!/bin/sh\nprintf 'HTTP/1.1 200 OK\\r\\n\\r\\n' >&3\nexec sleep 1000\n", "killed by signal 15"),
    "rejects its configuration": (f'#!/bin/sh\nexec {NEXT} --no-such-option "$@"\n', "exited with status 2"),
    "has no descriptors": (f'#!/bin/sh\nulimit -n 9\nexec {NEXT} "$@"\n', "this one continues"),
    "cannot listen": (f'#!/bin/sh\nexec {NEXT} --listen unix:/proc/none "$@"\n', "this one continues"),
    "hangs until it is killed": ("#!/bin/sh\nexec sleep 1000\n", "killed by signal 9"),
    "hangs with the sockets": (f'#!/bin/sh\nexport DUMB=1\nexec {NEXT} "$@"\n', "killed by signal 9"),
}


class Manager:
    """systemd with NotifyAccess=main, as far as messages go."""

    def __init__(self, directory):
        self.path = directory / "notify.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(str(self.path))
        self.main = None
        self.messages = []  # (sender, text) of the main process, in order
        self.refused = []   # those of other processes
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            data, control, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12))
            sender = struct.unpack("iII", control[0][2])[0]
            text = data.decode()
            if self.main is None:
                self.main = sender
            if sender != self.main:
                self.refused.append((sender, text))
                continue
            self.messages.append((sender, text))
            for line in text.splitlines():
                if line.startswith("MAINPID="):
                    self.main = int(line[8:])

    def count(self, text):
        return sum(line == text for _, message in list(self.messages) for line in message.splitlines())

    def wait_for(self, text, total):
        harness.wait_until(lambda: self.count(text) >= total, f"{text}, {total} times: {self.messages} {self.refused}")


class Releases(Case):
    def start_managed(self):
        directory = contextlib.ExitStack()
        self.addCleanup(directory.close)
        manager = Manager(pathlib.Path(directory.enter_context(tempfile.TemporaryDirectory())))
        os.environ["NOTIFY_SOCKET"] = str(manager.path)
        try:
            # With DUMB it sends no hello until its proxy has ended: a proxy that takes over waits for it.
            worker = ('#!/bin/sh\n[ -z "$DUMB" ] || while kill -0 $PPID 2>/dev/null; do sleep 0.1; done\n'
                      f'exec "{harness.BIN}/ferry-worker" "$@"\n')
            proxy = self.start(worker_script=worker, config=CONFIG)
        finally:
            del os.environ["NOTIFY_SOCKET"]
        (proxy.directory / "programs/next").symlink_to(REAL)
        manager.wait_for("READY=1", 1)
        self.assertEqual(manager.main, proxy.pid)
        return manager, proxy

    def assert_no_failure(self, load):
        load.wait_for_more(30)
        self.assertEqual(load.failures, [])

    def test_upgrades_under_load(self):
        manager, proxy = self.start_managed()
        idle = [proxy.client() for _ in range(20)]
        for client in idle:
            self.addCleanup(client.socket.close)
            self.assertEqual(client.ask("/").body, b"hello")
        load = self.load(proxy, threads=4)
        for number in range(UPGRADES):
            self.assert_no_failure(load)
            old = proxy.upgrade()
            manager.wait_for("READY=1", number + 2)
            self.assertEqual(manager.main, proxy.pid)
            self.assertEqual(manager.count(f"MAINPID={proxy.pid}"), 2)
            self.assertEqual(proxy.wait_for_end(old), 0)
        self.assert_no_failure(load)
        load.stop()
        self.assertEqual((load.failures, load.closed), ([], 0))
        for client in idle:
            self.assertEqual(client.ask("/").body, b"hello")
        senders = [sender for sender, text in manager.messages if "READY=1" in text.splitlines()]
        self.assertEqual(len(set(senders)), UPGRADES + 1)
        self.assertEqual([text for _, text in manager.refused if "WATCHDOG" not in text], [])

    def install(self, proxy, text):
        program = proxy.directory / "programs/ferry-proxy"
        program.unlink(missing_ok=True)
        if text is not None:
            program.write_text(text)
            program.chmod(0o755 if text else 0o644)

    def break_upgrade(self, proxy, words, hangs):
        before = proxy.count(re.escape(words))
        started = proxy.count("is started")
        proxy.signal(signal.SIGUSR2)
        if hangs:
            proxy.wait_for("is started", started + 1)
            new = int(re.findall(r"the new proxy \(pid (\d+)\) is started", proxy.text())[-1])
            harness.wait_until(lambda: hangs == "at once" or children(new), "it has the sockets, and starts a worker")
            os.kill(new, signal.SIGKILL)
        proxy.wait_for(re.escape(words), before + 1)

    def test_broken_releases_under_load(self):
        manager, proxy = self.start_managed()
        load = self.load(proxy, threads=4)
        names = list(BROKEN_PROGRAMS)
        for number in range(BROKEN):
            name = names[number % len(names)]
            with self.subTest(name):
                self.assert_no_failure(load)
                text, words = BROKEN_PROGRAMS[name]
                self.install(proxy, text)
                self.break_upgrade(proxy, words, {"hangs until it is killed": "at once",
                                                  "hangs with the sockets": "later"}.get(name))
                self.assertEqual(manager.main, proxy.pid)
                self.assert_no_failure(load)
                harness.wait_until(lambda: manager.count("READY=1") - 1 == manager.count("RELOADING=1"), "it is ready")
        (proxy.directory / "programs/ferry-proxy").unlink(missing_ok=True)
        (proxy.directory / "programs/ferry-proxy").symlink_to(REAL)
        self.assertEqual(proxy.wait_for_end(proxy.upgrade()), 0)
        self.assert_no_failure(load)
        load.stop()
        self.assertEqual((load.failures, load.closed), ([], 0))


class Killed(Case):
    """One of the two is killed at a random moment: a proxy that serves is left."""

    def serves(self, path):
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(harness.DEADLINE)
                client.connect(str(path))
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                answer = b""
                while data := client.recv(4096):
                    answer += data
                return answer.endswith(b"hello")
        except OSError:
            return False

    def end(self, proxy, worker_group):
        for pid in worker_group:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        proxy.killed = True

    def kill_one(self, victim, delay):
        proxy = self.start(config="listen unix:{directory}/web.sock\nservice www root={root} workers=1\n")
        path = proxy.directory / "web.sock"
        harness.wait_until(lambda: self.serves(path), "the first one serves")
        proxy.signal(signal.SIGUSR2)
        found = harness.wait_until(lambda: re.search(r"the new proxy \(pid (\d+)\) is started", proxy.text()),
                                   "the new one is started")
        new = int(found[1])
        time.sleep(delay)
        os.kill(proxy.pid if victim == "old" else new, signal.SIGKILL)
        harness.wait_until(lambda: self.serves(path), f"one serves: {victim} after {delay}: {proxy.text()}")
        # It still does when everything that was under way has ended.
        time.sleep(0.2)
        harness.wait_until(lambda: self.serves(path), f"one serves: {victim} after {delay}: {proxy.text()}")
        pids = {proxy.pid, new, *map(int, re.findall(r"is started again: (\d+)", proxy.text()))}
        pids |= {child for pid in pids for child in children(pid)}
        self.end(proxy, pids)
        proxy.child.process.wait(harness.DEADLINE)

    def test_the_old_one(self):
        for _ in range(KILLS):
            self.kill_one("old", random.uniform(0, 0.15))

    def test_the_new_one(self):
        for _ in range(KILLS):
            self.kill_one("new", random.uniform(0, 0.15))


if __name__ == "__main__":
    unittest.main()
