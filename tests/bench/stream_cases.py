"""Streams, descriptors, messages, files, handoffs and memory: programs that measure one side and print its figures."""

import pathlib
import subprocess

from results import Case, Metric
from servers import Missing

PYTHON_CASES = pathlib.Path(__file__).with_name("python_cases.py")
# The system's own Python, for which Debian packages Twisted.
PYTHON = "/usr/bin/python3"


def figures_of(context, command, names=None):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600)
    if done.returncode == 77:
        raise Missing(done.stdout.strip().splitlines()[-1])
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    figures = context.parse(done.stdout)
    return {new: figures[old] for old, new in names.items()} if names else figures


def program(name, *arguments, full, quick, names=None, after=()):
    """A side: a program that gets its amount last, except for `after`."""
    def measure(context):
        path = context.bench / name
        if not path.exists():
            raise Missing("libuv1-dev was not installed at the build" if name == "uv_cases" else f"no {name}")
        return figures_of(context, [path, *arguments, quick if context.quick else full, *after], names)
    return measure


def python(framework, *arguments, full, quick):
    def measure(context):
        command = [PYTHON, "-B", PYTHON_CASES, framework, *arguments, quick if context.quick else full]
        return figures_of(context, command)
    return measure


def descriptors():
    amount = {"full": 200000, "quick": 1000}
    sides = {"ferry": program("bench_descriptors", "raw", "ferry", **amount),
             "bare": program("bench_descriptors", "raw", "bare", **amount),
             "bare, checked": program("bench_descriptors", "raw", "checked", **amount),
             "libuv": program("uv_cases", "descriptors", "unix", **amount),
             "twisted": python("twisted", "descriptors", "unix", full=20000, quick=500)}
    return Case("descriptors", "one descriptor with each byte, between two processes",
                [Metric("per_s", "descriptors/s", "more", targets={"bare": 0.93, "libuv": 1.4, "twisted": 7}),
                 Metric("cpu_us", "us of CPU, both ends", "less")], sides, floor="bare, checked")


def messages(count, target):
    amount = {"full": 400000 // (1 + count), "quick": 500}
    names = {"ferry": "ferry", "bare": "bare", "bare, checked": "checked"}
    sides = {name: program("bench_descriptors", count, side, **amount) for name, side in names.items()}
    return Case(f"messages-{count}", f"messages of 64 bytes with {count} descriptors, between two processes",
                [Metric("per_s", "messages/s", "more", targets={"bare": target}),
                 Metric("cpu_us", "us of CPU, both ends", "less")], sides, floor="bare, checked")


def trips(kind):
    amount = {"full": 200000, "quick": 1000}
    names = {"ferry": "ferry", "bare": "bare", "bare, in libevent's loop": "loop", "stock": "stock"}
    sides = {name: program("bench_bytes", "trip", kind, side, **amount) for name, side in names.items()}
    sides["libuv"] = program("uv_cases", "trip", kind, **amount)
    sides["asyncio"] = python("asyncio", "trip", kind, full=20000, quick=200)
    sides["twisted"] = python("twisted", "trip", kind, full=20000, quick=200)
    targets = {"stock": 0.65, "bare": 1.2} if kind == "unix" else {}
    return Case(f"round-trip-{kind}", f"round trips of 64 bytes, both ends in one loop, {kind}",
                [Metric("cpu_us", "us of CPU", "less", targets=targets),
                 Metric("epoll_ctl", "epoll_ctl calls", "less", bound=0 if kind == "unix" else None)],
                sides, floor="bare, in libevent's loop")


def bulk(kind, target):
    amount = {"full": 1024, "quick": 16}
    sides = {side: program("bench_bytes", "bulk", kind, side, **amount) for side in ("ferry", "bare", "stock")}
    sides["libuv"] = program("uv_cases", "bulk", kind, **amount)
    sides["asyncio"] = python("asyncio", "bulk", kind, full=256, quick=4)
    sides["twisted"] = python("twisted", "bulk", kind, full=64, quick=4)
    return Case(f"bytes-{kind}", f"bytes from one process to another, {kind}",
                [Metric("cpu_us_per_MB", "us of CPU a MB, both ends", "less", targets={"stock": target}),
                 Metric("MB_per_s", "MB/s", "more")], sides)


def warm_file(kind):
    amount = {"full": 1024, "quick": 4}
    names = {"ferry": "ferry", "bare sendfile": "bare", "evbuffer_add_file": "stock", "read and send 64 KiB": "copy"}
    sides = {name: program("bench_bytes", "file", kind, side, **amount) for name, side in names.items()}
    targets = {"bare sendfile": 1.02, "evbuffer_add_file": 0.8}
    if kind == "unix":
        targets["read and send 64 KiB"] = 0.42
        sides |= {f"{name}, 1 MiB a turn": program("bench_bytes", "file-by-mib", kind, side, **amount)
                  for name, side in (("ferry", "ferry"), ("bare", "bare"))}
    return Case(f"file-{kind}", f"files in memory to a process that discards them, {kind}",
                [Metric("cpu_us_per_MB", "us of CPU a MB, both ends", "less", targets=targets),
                 Metric("MB_per_s", "MB/s", "more")], sides, floor="bare sendfile")


def cold_file():
    amount = {"full": 512, "quick": 4}  # MiB: some 1000 turns of the loop
    sides = {name: program("bench_files", "cold", side, **amount)
             for name, side in (("ferry", "ferry"), ("blocking sendfile", "bare"), ("another process", "apart"))}
    return Case("file-cold", "a file from the disk, while 100 connections make round trips in the same loop",
                [Metric("p999_ms", "ms, the longest of 1000 turns of the loop", "less", bound=0.3),
                 Metric("MB_per_s", "MB/s", "more", targets={"blocking sendfile": 1.0})],
                sides, floor="another process")


HANDOFF_NAMES = {"handoff_burst_dispatcher_user_us": "user_us", "handoff_burst_dispatcher_cpu_us": "cpu_us"}


def handoffs(workers):
    # The program opens two descriptors for each worker, and 2,000 for its clients.
    return program("bench_handoff", "--workers", workers, "--batches", full=20, quick=1, names=HANDOFF_NAMES)


def workers():
    sides = {"ferry": handoffs(500)} | {f"{count} workers": handoffs(count) for count in (2, 8, 64)}
    sides["bare, 500 workers"] = program("bench_handoff_bare", 500, full=20, quick=1, names=HANDOFF_NAMES)
    return Case("handoffs-500", "a handoff with 500 workers, beside the same with fewer",
                [Metric("user_us", "us of the dispatcher outside of the kernel", "less", bound=1.0),
                 Metric("cpu_us", "us of the dispatcher's CPU", "less")], sides, floor="bare, 500 workers")


def memory(what, title, bound):
    sides = {side: program("bench_memory", what, full=1000, quick=200, names={f"{name}_bytes": "bytes"})
             for side, name in (("ferry", "ferry"), ("bufferevent alone", "stock"))}
    return Case(f"memory-{what}", title, [Metric("bytes", "bytes of heap", "less", bound=bound)], sides, counted=True)


def scaling(what, title, least, most, quick, floor=None):
    sides = {"ferry": program("bench_scaling", what, full=most, quick=quick),
             f"{least:,} {what}": program("bench_scaling", what, full=least, quick=least)}
    if floor:
        sides[floor] = program("bench_scaling", floor, full=most, quick=quick)
    return Case(f"scaling-{what}", title,
                [Metric("cpu_us", "us of CPU", "less", targets={f"{least:,} {what}": 1.15})], sides, floor=floor)


CASES = [
    descriptors(), messages(1, 0.9), messages(8, 1.1), messages(32, 1.0),
    trips("unix"), trips("tcp"), bulk("unix", 0.45), bulk("tcp", 0.8),
    warm_file("unix"), warm_file("tcp"), cold_file(), workers(),
    memory("transport", "an idle transport, beyond its bufferevent", 640),
    memory("parked", "a parked connection, beside a bufferevent that waits", 400),
    scaling("transports", "a round trip with 10,000 open transports", 20, 10000, 1000),
    scaling("descriptors", "a descriptor, of 1,000,000", 1000, 1000000, 10000),
    scaling("messages", "a message, with 100,000 in the queue", 100, 100000, 1000, floor="buffered"),
]
