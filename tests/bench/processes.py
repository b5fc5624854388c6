"""The processes of one side of a measurement: a process and its descendants."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time

DEADLINE = 60


def wait_until(condition, what, deadline=DEADLINE):
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {deadline} seconds")
        time.sleep(0.02)


def children_of(pid):
    found = []
    with contextlib.suppress(OSError):
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def tree(pid):
    """The process and all its descendants, older generations first."""
    found = [pid]
    for each in found:
        found += children_of(each)
    return found


def name_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def cpu_of(pid):
    """Nanoseconds that the threads of the process have run for; those of threads that have ended are missing."""
    total = 0
    with contextlib.suppress(OSError):
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total


def cpu_of_tree(pids):
    """Nanoseconds of all processes of a side together: the end that works for the other one counts, too."""
    return sum(cpu_of(each) for pid in pids for each in tree(pid))


def stop(process):
    """Ends a process that this one has started, and its descendants."""
    below = tree(process.pid)[1:]
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in below:
        # A pid of a process that has ended long ago is not given to another one so soon.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pathlib.Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def can_connect(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def busy_jiffies():
    """(busy, all) of the whole machine."""
    fields = [int(word) for word in
              pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def foreign_load(seconds):
    """The part of the machine's processors that others use while this process sleeps."""
    before = busy_jiffies()
    time.sleep(seconds)
    after = busy_jiffies()
    return (after[0] - before[0]) / max(1, after[1] - before[1])


def is_zombie(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def reap_orphans(own):
    """For a subreaper: waits for ended children other than its own processes."""
    for pid in children_of(os.getpid()):
        if pid not in own and is_zombie(pid):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
