#!/usr/bin/env python3
"""Judges a worker by docs/handoff.md: a scripted dispatcher plays the tables of the page, with every fault.

    conformance.py [--rule NAME]... COMMAND...

kit.py describes the service that the worker must have. A line for each rule, PASS or FAIL, with what the page demands
and what was seen. Exit status 1: a rule failed.
"""

import argparse
import shutil
import sys

from kit import Dispatcher, Failure
from rules import RULES


def judge(name, command):
    """None, or what the worker did instead."""
    opened = []

    def start(**options):
        opened.append(Dispatcher(command, **options))
        return opened[-1]

    try:
        RULES[name](start)
    except Failure as failure:
        return str(failure)
    except OSError as error:  # from a call about a worker that has gone
        return f"the worker ends the channel ({error.strerror})"
    finally:
        for dispatcher in opened:
            dispatcher.close()
    return None


def main():
    parser = argparse.ArgumentParser(description="Judges a worker by docs/handoff.md.")
    parser.add_argument("--rule", action="append", choices=RULES, metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the worker; the channel's descriptor is appended")
    arguments = parser.parse_args()
    if not arguments.command:
        parser.error("no command")
    if shutil.which(arguments.command[0]) is None:
        parser.error(f"{arguments.command[0]} is no command")
    failed = 0
    for name in arguments.rule or RULES:
        seen = judge(name, arguments.command)
        demanded = " ".join(RULES[name].__doc__.split())
        print(f"PASS {name}: {demanded}" if seen is None else f"FAIL {name}: {demanded} Seen: {seen}.", flush=True)
        failed += seen is not None
    print(f"{len(arguments.rule or RULES) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
