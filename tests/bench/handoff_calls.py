#!/usr/bin/env python3
"""Counts the system calls of handoffs: those of dispatcher and worker together, between the marks that
bench_handoff makes, apart from epoll_wait.

    handoff_calls.py BENCH_HANDOFF [BATCHES]

Fails when a handoff takes more than 11. 77: there is no strace, or it may not trace.
"""

import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile

MOST = 11
BATCH = 1000

CALL = re.compile(r"^\d+ +(?:<\.\.\. (\w+) resumed>|(\w+)\()")
MARK = re.compile(r'^\d+ +write\(-1, "(\w+)"')
WAITING = {"epoll_wait", "epoll_pwait", "epoll_pwait2"}


def count(lines):
    """Calls by name for each kind of batch, and how many batches there were."""
    calls = collections.defaultdict(collections.Counter)
    batches = collections.Counter()
    kind = None
    for line in lines:
        mark = MARK.match(line)
        if mark:
            kind = None if mark[1] == "end" else mark[1]
            batches[kind] += 1
            continue
        call = CALL.match(line)
        # A call that another interrupts is in the trace twice: it counts where it begins.
        if kind and call and call[2] and call[2] not in WAITING:
            calls[kind][call[2]] += 1
    return calls, batches


def main():
    program, batches = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "10"
    if not shutil.which("strace"):
        print("no strace: skipped")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        trace = os.path.join(folder, "trace")
        done = subprocess.run(["strace", "-f", "-qq", "-o", trace, program, "--batches", batches],
                              timeout=500, capture_output=True, text=True)
        if done.returncode != 0:
            print(done.stdout + done.stderr)
            return 77 if "PTRACE" in done.stderr or "ptrace" in done.stderr else 1
        with open(trace, errors="replace") as lines:
            calls, count_of = count(lines)
    worst = 0
    for kind in ("burst", "single"):
        handoffs = count_of[kind] * BATCH
        each = sum(calls[kind].values()) / handoffs
        worst = max(worst, each)
        print(f"{kind}_handoffs {handoffs}")
        print(f"{kind}_calls_per_handoff {each:.2f}")
        for name, number in calls[kind].most_common():
            print(f"  {name} {number / handoffs:.2f}")
    return 0 if 0 < worst <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
