"""HTTP: ferry-proxy with ferry-worker, and other servers, under the same clients (http_client.c)."""

import contextlib
import functools
import os
import re
import shutil
import subprocess

import processes
import servers
from results import Case, Metric

SMALL, BIG = "/small", "/big"  # 1 KiB, 1 MiB


def run_client(context, server, *arguments):
    """The figures of http_client. A run in which a request was lost is void."""
    done = subprocess.run([context.bench / "http_client", str(server.port), *map(str, arguments)],
                          capture_output=True, text=True, timeout=300, check=True)
    figures = context.parse(done.stdout)
    if figures["lost"] or figures["cut"] or not figures["ok"]:
        raise RuntimeError(f"{type(server).__name__}: the run is void\n{done.stdout}{server.text()}")
    return figures


def set_processors(pids, processors):
    for pid in pids:
        for each in processes.tree(pid):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(each, processors)


@contextlib.contextmanager
def apart(server):
    """The server has one processor, and this process with the clients another: no process wakes one on the other."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        raise servers.Missing("there is one processor")
    first, second = sorted(allowed)[:2]
    set_processors(server.pids, {first})
    os.sched_setaffinity(0, {second})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        set_processors(server.pids, allowed)


def load(kind, path, clients, *arguments, full=2.0, place=contextlib.nullcontext):
    """A side: the server under this load. CPU is that of all its processes."""
    def measure(context):
        with context.server(kind) as server, place(server):
            run_client(context, server, "--path", path, "--clients", clients, "--requests", 10 * clients,
                       *arguments)
            before = processes.cpu_of_tree(server.pids)
            figures = run_client(context, server, "--path", path, "--clients", clients,
                                 "--seconds", 0.1 if context.quick else full, *arguments)
            cpu = processes.cpu_of_tree(server.pids) - before
        return {"requests_per_s": figures["requests_per_s"], "cpu_us": cpu / 1e3 / figures["ok"],
                "p50_us": figures["p50_us"], "p99_us": figures["p99_us"]}
    return measure


def count_calls(context, kind, requests):
    """How many system calls the server makes from its start to its end."""
    summary = context.scratch / "strace"
    summary.unlink(missing_ok=True)
    server = kind(context, wrapper=("strace", "-D", "-f", "-c", "-o", str(summary)))
    try:
        run_client(context, server, "--path", SMALL, "--requests", requests, "--seconds", 100)
    finally:
        server.stop()

    def total():
        found = summary.exists() and re.search(r"^100\.00 +\S+ +\S+ +(\d+).* total$", summary.read_text(),
                                               re.MULTILINE)
        return found and int(found[1])
    return processes.wait_until(total, "strace ends")


def calls(kind):
    """A side: system calls of all its processes for a connection, in two runs of which one has more connections."""
    def measure(context):
        if not shutil.which("strace"):
            raise servers.Missing("strace is not installed")
        few, many = (20, 60) if context.quick else (100, 500)
        return {"calls": (count_calls(context, kind, many) - count_calls(context, kind, few)) / (many - few)}
    return measure


FLOOR = "bare handoff, all calls"
PEERS = {
    "ferry": servers.Ferry,
    "nginx": servers.Nginx,
    "haproxy before nginx": servers.HaproxyNginx,
    "node cluster": servers.NodeCluster,
    "bare handoff": servers.BareHandoff,
    FLOOR: servers.WholeHandoff,
    "bare accept": servers.BareAccept,
}


def sides(function, *arguments, without=(), **options):
    return {name: functools.partial(function, kind, *arguments, **options)()
            for name, kind in PEERS.items() if name not in without}


RATE = ("requests_per_s", "requests/s", "more")
CPU = ("cpu_us", "us of CPU a request", "less")

CASES = [
    Case("http-connection", "one connection per request, 1 KiB, 32 clients",
         [Metric(*RATE, targets={"nginx": 0.95, "node cluster": 6}),
          Metric(*CPU, targets={"nginx": 1.3, "haproxy before nginx": 0.65, "bare handoff": 1.6})],
         sides(load, SMALL, 32), floor=FLOOR),
    Case("http-one-processor", "the same, with one processor for the server and another for the clients",
         [Metric(*RATE), Metric(*CPU)], sides(load, SMALL, 32, place=apart), floor=FLOOR),
    Case("http-one-client", "one connection per request, 1 KiB, one client at a time",
         [Metric("p50_us", "us", "less", bound=65), Metric(*CPU)],
         sides(load, SMALL, 1), floor=FLOOR),
    Case("http-kept", "kept connections, 1 KiB, 32 clients",
         [Metric(*RATE, targets={"nginx": 1.0}), Metric(*CPU, targets={"nginx": 1.0})],
         sides(load, SMALL, 32, "--keep"), floor=FLOOR),
    Case("http-1mib", "kept connections, 1 MiB, 8 clients",
         [Metric(*RATE), Metric(*CPU, targets={"nginx": 0.85})],
         sides(load, BIG, 8, "--keep"), floor=FLOOR),
    Case("http-calls", "system calls for one connection with one request",
         [Metric("calls", "system calls", "less", bound=20)],
         sides(calls, without=("node cluster",)), counted=True, floor=FLOOR),
]
