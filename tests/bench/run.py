"""Measures ferry beside its peers, and prints medians, ratios and their spread. run.sh starts it; docs/performance.md
explains the figures."""

import argparse
import contextlib
import json
import pathlib
import re
import sys
import tempfile

import http_cases
import plots
import processes
import stream_cases
from results import Rounds, print_rows

CASES = http_cases.CASES + stream_cases.CASES
ROUNDS, QUICK_ROUNDS = 5, 3
# Beyond this part of the processors in the hands of others, no target is judged.
LOADED = 0.15


class Context:
    """What a side needs to know."""

    def __init__(self, arguments, scratch):
        self.bench = pathlib.Path(arguments.bench).resolve()
        self.programs = pathlib.Path(arguments.programs).resolve()
        self.quick = arguments.quick
        self.scratch = pathlib.Path(scratch)
        self.root = self.scratch / "root"
        self.root.mkdir()
        (self.root / "small").write_bytes(b"s" * 1024)
        (self.root / "big").write_bytes(b"b" * 1024 * 1024)

        self.servers = {}

    @contextlib.contextmanager
    def server(self, kind):
        """A server for one measurement. Quick rounds use it again."""
        if not self.quick:
            server = kind(self)
            try:
                yield server
            finally:
                server.stop()
            return
        if kind not in self.servers:
            self.servers[kind] = kind(self)
        yield self.servers[kind]

    def stop(self):
        for server in self.servers.values():
            server.stop()

    @staticmethod
    def parse(text):
        return {name: float(value) for name, value in re.findall(r"^(\w+) +([-0-9.]+)$", text, re.MULTILINE)}


def measure(case, context, rounds):
    """The rows of a case, and whether others used the machine."""
    result = Rounds(case)
    load = 0
    for _ in range(rounds):
        if not context.quick:
            load = max(load, processes.foreign_load(0.5))
        result.measure(context)
    loaded = context.quick or load > LOADED
    rows = list(result.rows(loaded))
    print_rows(case, rows)
    if context.quick:
        print("  short rounds: no target is judged")
    elif loaded:
        print(f"  others used {load:.0%} of the processors between two rounds: no target is judged")
    return rows


def choose(names):
    known = {case.name: case for case in CASES}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        sys.exit(f"no case {', '.join(unknown)}; the cases are: {', '.join(known)}")
    return [known[name] for name in names] if names else CASES


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="three short rounds, which mean little")
    parser.add_argument("--rounds", type=int, help="as many instead")
    parser.add_argument("--case", action="append", metavar="NAME", help="only this case; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--bench", required=True, help="the directory of the programs that measure")
    parser.add_argument("--programs", required=True, help="that of ferry-proxy and ferry-worker")
    parser.add_argument("--out", required=True, help="the directory of results.json and the plots")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(f"{case.name:24} {case.title}" for case in CASES))
        return
    cases = choose(arguments.case)
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="ferry-bench-") as scratch:
        pathlib.Path(scratch).chmod(0o755)
        context = Context(arguments, scratch)
        try:
            for case in cases:
                rounds = arguments.rounds or (ROUNDS if not arguments.quick else
                                              1 if case.counted else QUICK_ROUNDS)
                rows += measure(case, context, rounds)
                (out / "results.json").write_text(json.dumps(rows, indent="\t") + "\n")
        finally:
            context.stop()
    if plots.plot(rows, out) is None:
        print("\nno plots: gnuplot-nox is not installed")
    print(f"\n{out}: results.json and the plots")


if __name__ == "__main__":
    main()
