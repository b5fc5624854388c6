#!/usr/bin/env python3
"""Compares the errors that the comments of public functions have with those that the fault programs saw.

An error that a function returned and that its comment lacks is a fault, unless the comment has `@retval other`. An
error of a comment that no fault program saw stands in documented_errors.list, with the test that sees it or with the
reason why none does. Its errors that are taken over from another function ("as ferry_x()") are seen if they are
seen there.

Usage: documented.py ROOT SEEN...    the .seen files of record.h
"""
import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(ROOT / "docs/site"))
import reference  # noqa: E402  pylint: disable=wrong-import-position

LIST = ROOT / "tests/fault/documented_errors.list"


# Linux has one number for both.
SAME = {"ENOTSUP": "EOPNOTSUPP"}


def read_seen(files):
    seen = collections.defaultdict(set)
    for file in files:
        for function, error in re.findall(r"^error (\S+) (\S+)$", pathlib.Path(file).read_text(encoding="utf-8"), re.M):
            seen[function].add(SAME.get(error, error))
    return seen


def has_source(program):
    """unit.endpoint.address is tests/unit/endpoint/address.c."""
    path = ROOT / "tests" / program.replace(".", "/")
    return any(path.with_suffix(suffix).exists() for suffix in (".c", ".py"))


def errors_of(functions, name):
    codes = [code for code, _, _ in functions[name].errors] if name in functions else []
    return {SAME.get(code, code) for code in codes}


def read_list(functions):
    """{(function, error)} of the list, and what is wrong with it. A line: FUNCTION TEST ERROR..., or FUNCTION - ERROR...: REASON"""
    known, complaints = set(), []
    for number, line in enumerate(LIST.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        place = f"{LIST.name}:{number}"
        function, test, rest = line.split(None, 2)
        errors, colon, reason = rest.partition(":")
        if function not in functions:
            complaints.append(f"{place}: there is no {function}()")
            continue
        if test == "-" and not (colon and reason.strip()):
            complaints.append(f"{place}: no reason")
        if test != "-" and not has_source(test):
            complaints.append(f"{place}: there is no {test}")
        documented = errors_of(functions, function)
        for error in errors.split():
            error = SAME.get(error, error)
            if error not in documented:
                complaints.append(f"{place}: {function}() does not document {error}")
            if (function, error) in known:
                complaints.append(f"{place}: {function} {error} is there twice")
            known.add((function, error))
    return known, complaints


def main():
    functions = reference.load().functions
    seen = read_seen(sys.argv[2:])
    known, complaints = read_list(functions)

    def is_seen(function, error, origin, depth=0):
        error = SAME.get(error, error)
        if error in seen[function] or (function, error) in known:
            return True
        there = [entry for entry in functions[origin].errors if SAME.get(entry[0], entry[0]) == error] if origin and depth < 5 else []
        return bool(there) and is_seen(origin, error, there[0][2], depth + 1)

    for function in sorted(seen):
        documented = errors_of(functions, function)
        for error in sorted(seen[function] - documented if "other" not in documented else ()):
            complaints.append(f"{function}() returned -{error}, which its comment lacks")
    pairs = [(name, *entry) for name, function in functions.items() for entry in function.errors if entry[0] != "other"]
    for function, error, _, origin in pairs:
        if not is_seen(function, error, origin):
            complaints.append(f"{function}(): no test sees -{error}, and {LIST.name} does not have it")
    print("\n".join(complaints))
    count = sum(map(len, seen.values()))
    print(f"{len(pairs)} errors are documented; the fault programs saw {count}, the list has {len(known)}")
    return 1 if complaints or count < 100 else 0


if __name__ == "__main__":
    sys.exit(main())
