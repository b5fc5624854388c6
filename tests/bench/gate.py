"""What an operation costs, in figures that no other program on the machine changes.

    gate.py instructions|system_calls [--record] --bench DIR --programs DIR --compiler CC

instructions: those of an operation under callgrind, libevent's and libc's included, in instructions.json; and how often it
allocates memory. More than 3 % above fails, and so does another allocation. system_calls: how often an operation makes each call, in system_calls.json. Any difference fails; of a
connection, on which two processes work, only more calls do. An operation is the difference of a run with many and one
with few of them, by their number.

--record writes the file anew. With another toolchain than the file's the exit status is 77: skipped.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

import connection_calls
import servers

HERE = pathlib.Path(__file__).parent
FEW, MANY = 200, 1200
TOLERANCE = 1.03
ALLOCATIONS = "allocations"  # behind the name of an operation, in place of its instructions
OPERATIONS = ("round_trip", "descriptor", "message", "file", "handoff", "return")


def skip(reason):
    print(f"SKIPPED: {reason}")
    sys.exit(77)


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def toolchain(arguments, tool):
    """What else than ferry's own code determines the figures."""
    compiler = output_of(arguments.compiler, "--version").splitlines()[0]
    used = {
        "compiler": compiler.partition(" ")[2],  # cc and gcc are the same
        "libc": " ".join(platform.libc_ver()),
        "libevent": output_of("pkg-config", "--modversion", "libevent_core"),
        "machine": platform.machine(),
        "tool": output_of(tool, "--version").splitlines()[0],
    }
    if arguments.gate == "instructions":
        used["avx2"] = " avx2 " in pathlib.Path("/proc/cpuinfo").read_text()  # libc has a memcpy for it
    else:
        used["kernel"] = ".".join(platform.release().split(".")[:2])  # ferry asks for what it has
    return used


class Context:
    """For the servers of servers.py."""

    def __init__(self, arguments, scratch):
        self.bench = pathlib.Path(arguments.bench).resolve()
        self.programs = pathlib.Path(arguments.programs).resolve()
        self.scratch = pathlib.Path(scratch)
        self.scratch.chmod(0o755)
        self.root = self.scratch / "root"
        self.root.mkdir()
        (self.root / "small").write_bytes(b"s" * 1024)

    def run_client(self, port, count, *options):
        done = subprocess.run([self.bench / "http_client", str(port), "--path", "/small", "--requests", str(count),
                               "--seconds", "300", *options], capture_output=True, text=True, timeout=600)
        if done.returncode != 0 or not re.search(rf"^ok +{count}\.", done.stdout, re.MULTILINE):
            raise RuntimeError(f"http_client: {done.stdout}{done.stderr}")


# ---- instructions ----

ALLOCATING = {"malloc", "calloc", "realloc", "aligned_alloc", "memalign", "posix_memalign"}


def allocations(profile):
    """Calls of them; a line "calls" belongs to the last line "cfn", which has a name only where its number is new."""
    names, total, called = {}, 0, None
    for line in profile.splitlines():
        if found := re.match(r"(c?)fn=\((\d+)\)(?: (\S+))?", line):
            names.setdefault(found[2], found[3])
            called = names[found[2]] if found[1] else called
        elif line.startswith("calls=") and called in ALLOCATING:
            total += int(line[len("calls="):].split()[0])
    return total


def collected(path):
    """Instructions and allocations."""
    profile = path.read_text()
    return int(re.search(r"^(?:totals|summary): (\d+)", profile, re.MULTILINE)[1]), allocations(profile)


def callgrind(path):
    return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={path}", "--quiet"]


def instructions_of(context, operation, count):
    path = context.scratch / "callgrind"
    subprocess.run([*callgrind(path), context.bench / "bench_operations", operation, str(count)], check=True,
                   stdout=subprocess.DEVNULL, timeout=600)
    return collected(path)


class ProxyOfAnotherWorker(servers.Ferry):
    """A proxy whose one worker the caller starts."""

    def start(self):
        self.socket = self.directory / "workers"
        # A slow worker on a busy machine keeps its connection.
        self.spawn(self.context.programs / "ferry-proxy", "--port", 0, "--socket", self.socket,
                   "--answer-timeout", 300000, "--queue-timeout", 300000)
        self.port = self.wait_for_word()


def instructions_of_worker(context, count, *options):
    """Of a worker under callgrind, with one client."""
    path = context.scratch / "callgrind"
    server = ProxyOfAnotherWorker(context)
    try:
        # A space would end the name in LD_PRELOAD: the folder of the build may have one.
        shim = shutil.copy(context.bench / "libopenat2_shim.so", context.scratch)
        environment = dict(os.environ, LD_PRELOAD=str(shim))
        worker = server.spawn(*callgrind(path), context.programs / "ferry-worker", "--socket", server.socket,
                              "--root", context.root, "--keep", 300, "--idle-timeout", 300, env=environment)
        context.run_client(server.port, count, *options)
        worker.terminate()
        if worker.wait(60) != 0:
            raise RuntimeError(f"the worker has failed:\n{server.text()}")
    finally:
        server.stop()
    return collected(path)


def instructions(context):
    runs = {operation: lambda count, name=operation: instructions_of(context, name, count) for operation in OPERATIONS}
    runs["kept_request"] = lambda count: instructions_of_worker(context, count, "--keep")
    runs["connection_in_worker"] = lambda count: instructions_of_worker(context, count)
    figures = {}
    for name, run in runs.items():
        # The start and the end of a program are in both runs.
        executed, allocated = ((many - few) / (MANY - FEW) for few, many in zip(run(FEW), run(MANY)))
        figures[name] = round(executed)
        figures[f"{name} {ALLOCATIONS}"] = round(allocated, 1)
    return figures


def compare_instructions(recorded, found):
    for name, value in found.items():
        before = recorded.get(name)
        operation, _, counted = name.partition(" ")
        if counted == ALLOCATIONS:
            print(f"{operation:20} {value:9} allocations, recorded {before}")
            if before is None or value > before + 0.2:  # an array that grows has a part of one
                yield f"{operation} allocates memory {value} times, recorded {before}"
            continue
        change = "new" if before is None else f"{value / before - 1:+.1%}"
        print(f"{name:20} {value:9,} instructions, recorded {before or 0:9,}: {change}")
        if before is None or value > before * TOLERANCE:
            yield f"{name} takes {value:,} instructions, more than 3 % above {before or 0:,}"


# ---- system calls ----

def summary_of(path):
    """Calls by name, of a summary by strace -U name,calls."""
    return {name: int(calls) for name, calls in re.findall(r"^(\w+) +(\d+)$", path.read_text(), re.MULTILINE)
            if name != "total"}


def strace(path, *options):
    return ["strace", *options, "-f", "-qq", "-c", "-U", "name,calls", "-o", str(path)]


def difference(few, many):
    calls = {name: round((many[name] - few.get(name, 0)) / (MANY - FEW), 2) for name in sorted(many)}
    return {name: count for name, count in calls.items() if count}


def calls_of(context, operation):
    runs = []
    for count in (FEW, MANY):
        path = context.scratch / "strace"
        subprocess.run([*strace(path), context.bench / "bench_operations", operation, str(count)], check=True,
                       stdout=subprocess.DEVNULL, timeout=600)
        runs.append(summary_of(path))
    return difference(*runs)


def system_calls(context):
    figures = {operation: calls_of(context, operation) for operation in OPERATIONS}
    folder = context.scratch / "connections"
    folder.mkdir()
    return figures | connection_calls.measure(str(context.programs), str(folder))


def compare_calls(recorded, found):
    for name, calls in found.items():
        print(f"{name:20} {sum(calls.values()):6.2f}  " +
              ", ".join(f"{call} {count:g}" for call, count in calls.items()))
        before = recorded.get(name, {})
        for call in sorted(calls.keys() | before.keys()):
            # On a busy machine one read brings what two processes have sent one after the other.
            fewer = name.startswith("connection") and calls.get(call, 0) < before.get(call, 0)
            if calls.get(call, 0) != before.get(call, 0) and not fewer:
                yield f"{name} makes {calls.get(call, 0):g} {call}, recorded {before.get(call, 0):g}"


GATES = {"instructions": ("valgrind", instructions, compare_instructions),
         "system_calls": ("strace", system_calls, compare_calls)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gate", choices=GATES)
    parser.add_argument("--record", action="store_true")
    for name in ("bench", "programs", "compiler"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    tool, measure, compare = GATES[arguments.gate]
    if not shutil.which(tool):
        skip(f"no {tool}")
    path = HERE / f"{arguments.gate}.json"
    used = toolchain(arguments, tool)
    recorded = json.loads(path.read_text()) if path.exists() else {"toolchain": used, "figures": {}}
    if recorded["toolchain"] != used and not arguments.record:
        skip(f"recorded with another toolchain: {recorded['toolchain']}, not {used}")
    with tempfile.TemporaryDirectory(prefix="ferry-gate-") as scratch:
        found = measure(Context(arguments, scratch))
    faults = list(compare(recorded["figures"], found))
    if arguments.record:
        path.write_text(json.dumps({"toolchain": used, "figures": found}, indent="\t") + "\n")
        print(f"recorded in {path}")
        return
    for fault in faults:
        print(f"FAILED: {fault}")
    if faults:
        print(f"if this is meant, record it: sh tests/bench/gate.sh {arguments.gate} --record")
        sys.exit(1)


if __name__ == "__main__":
    main()
