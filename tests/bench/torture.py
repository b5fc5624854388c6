"""What clients notice while workers are killed, and while a server is released.

    sh tests/bench/torture.sh [--quick] [--server NAME]...

Each server has four workers, and two sets of clients: 16 with a connection for each request, and 32 that keep theirs and
pause 20 ms between two requests. No client repeats a request. Then either a worker is killed with SIGKILL every 200 ms, or
the server is released 20 times, by its own means. Prints a table, and writes torture.json beside results.json.

- lost: requests without a complete answer with status 200
- twice: requests that two workers have answered, by the logs of the servers
- cut: kept connections that ended without "Connection: close" in the last answer
- p99 (ms): of all requests during kills; for releases, of those that end while one is under way
"""

import argparse
import collections
import contextlib
import ctypes
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import tempfile
import time

import processes
import servers

WORKERS = 4
KILL_EVERY = 0.2
PR_SET_CHILD_SUBREAPER = 36
# Old workers that have connections may take their time: a release is then over for the new ones.
OLD_WORKERS_LEAVE = 3


def signal_to(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Target:
    """What torture does to a server."""

    workers = WORKERS

    def kill_worker(self, chooser):
        pids = self.worker_pids()
        if pids:
            signal_to(chooser.choice(pids), signal.SIGKILL)

    def release(self, number):
        """Returns when new workers serve, and old ones have ended or have been waited for."""
        old = set(self.worker_pids())
        signal_to(self.started[0].pid, signal.SIGHUP)
        self.wait_for_new(old, self.worker_pids, self.workers)

    @staticmethod
    def wait_for_new(old, pids, count):
        processes.wait_until(lambda: len(set(pids()) - old) >= count, "new workers")
        with contextlib.suppress(RuntimeError):
            processes.wait_until(lambda: not old & set(pids()), "old workers end", OLD_WORKERS_LEAVE)


class Ferry(Target, servers.Ferry):
    """Its releases are in turn those of the proxy and of the workers. A successor of the proxy is a descendant of this
    process, because this process adopts orphans."""

    def pids_of(self, name):
        return [pid for pid in processes.tree(os.getpid())[1:]
                if processes.name_of(pid) == name and not processes.is_zombie(pid)]

    def worker_pids(self):
        return self.pids_of("ferry-worker")

    def release(self, number):
        old = set(self.worker_pids())
        proxies = self.pids_of("ferry-proxy")
        for pid in proxies:
            signal_to(pid, signal.SIGUSR2 if number % 2 == 0 else signal.SIGHUP)
        self.wait_for_new(old, self.worker_pids, self.workers)

    def stop(self):
        for pid in self.pids_of("ferry-proxy"):
            signal_to(pid, signal.SIGTERM)
        super().stop()


class FerryThatReturns(Ferry):
    """Its workers return each connection after each answer: a worker that dies has none that is idle."""
    options = ("--keep", 0)


class Nginx(Target, servers.Nginx):
    pass


class HaproxyNginx(Target, servers.HaproxyNginx):
    """Workers of nginx behind HAProxy are killed, and HAProxy is released. (After the death of HAProxy's own worker its
    master ends, too.)"""

    def release(self, number):
        old = set(self.haproxy_pids())
        for _ in range(20):
            # A master that has just started anew ignores a signal.
            processes.wait_until(lambda: self.text().count("Loading success") > number, "HAProxy has started")
            signal_to(self.haproxy.pid, signal.SIGUSR2)
            with contextlib.suppress(RuntimeError):
                processes.wait_until(lambda: set(self.haproxy_pids()) - old, "a new worker", 2)
                break
        self.wait_for_new(old, self.haproxy_pids, 1)

    def haproxy_pids(self):
        return [pid for pid in processes.children_of(self.haproxy.pid) if not processes.is_zombie(pid)]


class NodeCluster(Target, servers.NodeCluster):
    pass


TARGETS = {"ferry": Ferry, "ferry --keep 0": FerryThatReturns, "nginx": Nginx, "haproxy before nginx": HaproxyNginx, "node cluster": NodeCluster}


class Context:
    def __init__(self, arguments, scratch):
        self.bench = pathlib.Path(arguments.bench).resolve()
        self.programs = pathlib.Path(arguments.programs).resolve()
        self.scratch = pathlib.Path(scratch)
        self.scratch.chmod(0o755)
        self.root = self.scratch / "root"
        self.root.mkdir()
        (self.root / "small").write_bytes(b"s" * 1024)


class Clients:
    KINDS = {"fresh": ("--clients", "16", "--pause", "5"),
             "kept": ("--clients", "32", "--pause", "20", "--keep")}

    def __init__(self, context, port):
        self.running = {kind: subprocess.Popen(
            [context.bench / "http_client", str(port), "--path", "/small", "--seconds", "3600", "--numbered",
             *options], stdout=subprocess.PIPE, text=True) for kind, options in self.KINDS.items()}

    def signal(self, number):
        for client in self.running.values():
            client.send_signal(number)

    def end(self):
        """The figures of both kinds, by name."""
        self.signal(signal.SIGTERM)
        figures = {}
        for kind, client in self.running.items():
            text, _ = client.communicate(timeout=120)
            figures[kind] = {name: float(value) for name, value in
                             re.findall(r"^(\w+) +([-0-9.]+)$", text, re.MULTILINE)}
        return figures

    def kill(self):
        for client in self.running.values():
            if client.poll() is None:
                client.kill()
                client.wait()


def answered_twice(log):
    """Requests that are in the logs more than once."""
    numbers = re.findall(r"[?]n=([0-9.]+)", log.read_text(errors="replace"))
    if not numbers:
        raise RuntimeError("the server has logged nothing")
    return sum(count > 1 for count in collections.Counter(numbers).values())


def kill_workers(server, clients, quick):
    chooser = random.Random(1)
    end = time.monotonic() + (2 if quick else 15)
    next_kill = time.monotonic() + KILL_EVERY
    while time.monotonic() < end:
        if time.monotonic() >= next_kill:
            next_kill += KILL_EVERY
            server.kill_worker(chooser)
        processes.reap_orphans(server.pids + [client.pid for client in clients.running.values()])
        time.sleep(0.01)


def release(server, clients, quick):
    for number in range(2 if quick else 20):
        clients.signal(signal.SIGUSR1)
        server.release(number)
        clients.signal(signal.SIGUSR2)
        processes.reap_orphans(server.pids + [client.pid for client in clients.running.values()])
        time.sleep(0.1)


MODES = {"kills": kill_workers, "releases": release}


def run(context, name, mode, quick):
    log = context.scratch / "log"
    log.unlink(missing_ok=True)
    server = TARGETS[name](context, log=log)
    try:
        clients = Clients(context, server.port)
        try:
            time.sleep(0.3)
            MODES[mode](server, clients, quick)
            # A release of itself, a killed worker of others: both are over before the clients end.
            time.sleep(1)
            figures = clients.end()
        finally:
            clients.kill()
    finally:
        server.stop()
    fresh, kept = figures["fresh"], figures["kept"]
    quantile = "p99_us" if mode == "kills" else "window_p99_us"
    return {"server": name, "mode": mode, "requests": int(fresh["requests"] + kept["requests"]),
            "lost": int(fresh["lost"] + kept["lost"]), "twice": answered_twice(log), "cut": int(kept["cut"]),
            "p99_fresh_ms": fresh.get(quantile, 0) / 1000, "p99_kept_ms": kept.get(quantile, 0) / 1000}


def show(rows):
    header = ("server", "mode", "requests", "lost", "twice", "cut", "p99_fresh_ms", "p99_kept_ms")
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        cells = [f"{row[name]:.1f}" if isinstance(row.get(name), float) else str(row.get(name, row.get("missing", "")))
                 for name in header]
        print("| " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="2 seconds, or 2 releases")
    parser.add_argument("--server", action="append", choices=TARGETS, help="only this one; may be repeated")
    for name in ("bench", "programs", "out"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for mode in MODES:
        for name in arguments.server or TARGETS:
            with tempfile.TemporaryDirectory(prefix="ferry-torture-") as scratch:
                try:
                    rows.append(run(Context(arguments, scratch), name, mode, arguments.quick))
                except servers.Missing as reason:
                    rows.append({"server": name, "mode": mode, "missing": f"missing: {reason}"})
            (out / "torture.json").write_text(json.dumps(rows, indent="\t") + "\n")
    show(rows)
    mine = [row for row in rows if row["server"].startswith("ferry") and row["mode"] == "releases"]
    # A release of ferry's is without a trace for its clients; whatever else happens here is a figure.
    for row in mine:
        if row["lost"] or row["twice"] or row["cut"]:
            raise SystemExit("FAILED: clients have noticed ferry's releases")


if __name__ == "__main__":
    main()
