"""Each judgement of the kit can fail: the rule of each fault in wrong.py fails for that worker, and says why.

Argument: the directory of the Python example. FAULT... behind it: only these.
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

from rules import RULES
from wrong import FAULTS, LATE

HERE = pathlib.Path(__file__).resolve().parent


def judge(directory, name):
    """None, or what is wrong with the kit."""
    _, rule, seen = FAULTS[name]
    # What does not come, does not come in a second; a working worker is never measured by this.
    deadline = "1" if seen == LATE else os.environ.get("FERRY_DEADLINE", "60")
    done = subprocess.run(
        [sys.executable, "-B", HERE / "conformance.py", "--rule", rule,
         sys.executable, "-B", HERE / "wrong.py", directory, name],
        env={**os.environ, "FERRY_DEADLINE": deadline}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        check=False)
    line = done.stdout.splitlines()[0] if done.stdout else ""
    if done.returncode == 1 and line.startswith(f"FAIL {rule}: ") and re.search(seen, line.rpartition(" Seen: ")[2]):
        return None
    return f"{name}: expected 'FAIL {rule}' with '{seen}', not status {done.returncode} with: {line}"


def main():
    directory, *names = sys.argv[1:]
    names = names or list(FAULTS)
    unproven = sorted(set(RULES) - {rule for _, rule, _ in FAULTS.values()})
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        complaints = [found for found in pool.map(lambda name: judge(directory, name), names) if found]
    complaints += [f"no fault for the rule {rule}" for rule in unproven]
    print("\n".join(complaints) if complaints else f"{len(names)} faults found")
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
