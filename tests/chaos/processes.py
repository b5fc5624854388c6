"""The processes of this run: the children of this process, and their descendants.

This process is the subreaper of its descendants: a process that loses its parent, a proxy at an upgrade for
example, becomes a child of this one and can still be found. Signals go through a pidfd that was opened while
the process was known to be a descendant: a signal cannot hit another process that has got the same pid.
"""

import contextlib
import ctypes
import os
import pathlib
import resource
import signal
import subprocess
import time

DEADLINE = 120
PR_SET_CHILD_SUBREAPER = 36
spawned = {}  # pid: Popen


def wait_until(condition, what, deadline=DEADLINE):
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {deadline} seconds")
        time.sleep(0.02)


def adopt_orphans():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def stat_of(pid):
    """(name, state, start time), or None without such a process."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    name, fields = text.split("(", 1)[1].rsplit(")", 1)
    fields = fields.split()
    return name, fields[0], int(fields[19])


def children_of(pid):
    found = []
    with contextlib.suppress(OSError):
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def descendants():
    """All descendants of this process, with zombies, older generations first."""
    found = children_of(os.getpid())
    for pid in found:
        found += children_of(pid)
    return found


def by_name(name):
    """Living descendants that run the program."""
    def is_it(pid):
        stat = stat_of(pid)
        # Between fork and exec a process has the name of its parent; it is then counted under that name.
        return stat is not None and stat[0] == name[:15] and stat[1] != "Z"
    return [pid for pid in descendants() if is_it(pid)]


def spawn(*arguments, **options):
    child = subprocess.Popen([str(argument) for argument in arguments], stdin=subprocess.DEVNULL,
                             **options)
    spawned[child.pid] = child
    return child


def reap():
    """Reaps ended processes: own children, whose Popen keeps the status, and orphans."""
    for pid in children_of(os.getpid()):
        stat = stat_of(pid)
        if stat is None or stat[1] != "Z":
            continue
        if pid in spawned:
            spawned.pop(pid).poll()
        else:
            with contextlib.suppress(OSError):
                os.waitpid(pid, os.WNOHANG)


class Process:
    """A descendant, with a pidfd."""

    def __init__(self, pid):
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        stat = stat_of(pid)
        if stat is None or pid not in descendants():
            os.close(self.pidfd)
            raise ProcessLookupError(pid)
        self.name, _, self.started = stat
        self.limit = None

    def close(self):
        os.close(self.pidfd)

    def is_alive(self):
        stat = stat_of(self.pid)
        return stat is not None and stat[1] not in "ZX" and stat[2] == self.started

    def is_another(self):
        """Whether another process has the pid now. One that ends just now is none."""
        stat = stat_of(self.pid)
        return stat is not None and stat[2] != self.started

    def send(self, number):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def fds(self):
        try:
            return len(os.listdir(f"/proc/{self.pid}/fd"))
        except OSError:
            return 0

    def squeeze(self, spare):
        """Lowers the descriptor limit of the process to `spare` above its open descriptors."""
        with contextlib.suppress(OSError):
            limit = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (self.fds() + spare, limit[1]))
            self.limit = limit

    def unsqueeze(self):
        if self.limit is not None and self.is_alive():
            with contextlib.suppress(OSError):
                resource.prlimit(self.pid, resource.RLIMIT_NOFILE, self.limit)
        self.limit = None
