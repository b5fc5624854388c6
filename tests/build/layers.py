#!/usr/bin/env python3
"""Compares the sources with the layers: an arrow up, a circle or an open transport is an error.

A folder of src/ includes and calls only folders that are above it in LAYERS; every folder may include public
headers. No two files depend on each other, neither by includes nor by calls. Only src/transport/ uses the fields
of struct ferry_transport: no other folder includes the header that defines it. The symbols of the objects show
the calls.

Usage: layers.py ROOT [OBJECTS]   (OBJECTS: the folder that has FOLDER/FILE.c.o)
"""
import collections
import pathlib
import re
import subprocess
import sys

LAYERS = ["util", "kernel", "libevent", "proxy_protocol", "tls", "process", "file", "stream", "transport", "line", "message",
          "descriptor", "endpoint", "relay", "channel", "handoff", "parking", "service", "supervisor", "takeover", "upgrade",
          "testing", "programs"]
CLOSED_HEADERS = ("transport/fields.h", "transport/parts.h", "transport/core.h")
NO_LAYERS = ("cmake", "packaging")
PUBLIC_ONLY = ("testing", "programs")


def folder(name):
    return name.split("/", 1)[0]


def unit(name):
    """A source and its header are one, but in a program: there, a header that several sources share may stand
    on the header of one of them."""
    return name if folder(name) == "programs" else name[:-2]


def includes(source):
    """Pairs of a file and what it includes, as paths below src/; public headers keep their ferry/."""
    for file in sorted(source.rglob("*.[ch]")):
        name = file.relative_to(source).as_posix()
        for found in re.findall(r'^#include "([^"]+)"', file.read_text(encoding="utf-8"), re.M):
            yield name, found


def symbols(objects):
    """Triples of a source, a symbol that its object defines or needs, and whether it defines it."""
    output = subprocess.run(["nm", "--format=posix", "-A", "-g", *sorted(objects.rglob("*.c.o"))], check=True,
                            text=True, capture_output=True).stdout
    for line in output.splitlines():
        file, symbol, kind = line.rsplit(": ", 1)[0], *line.rsplit(": ", 1)[1].split()[:2]
        yield pathlib.Path(file).relative_to(objects).as_posix()[:-2], symbol, kind != "U"


def calls(objects):
    found = list(symbols(objects))
    homes = {symbol: name for name, symbol, defined in found if defined}
    for name, symbol, defined in found:
        if not defined and homes.get(symbol, name) != name:
            yield name, homes[symbol], symbol


def circles(arrows):
    """The strongly connected sets of more than one file (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(arrows[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            members = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(members) > 1:
                found.append(sorted(members))

    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return found


def check_include(name, found):
    layer = folder(name)
    if found.startswith("ferry/"):
        return None
    if layer == "programs":
        return None if found.startswith("programs/") else "a program includes public headers only"
    if folder(found) not in LAYERS or "/" not in found:
        return "is written without its folder"
    if "/" not in name:
        return None
    if LAYERS.index(folder(found)) > LAYERS.index(layer):
        return "an include that goes up"
    if layer in PUBLIC_ONLY and folder(found) != layer:
        return f"{layer} includes public headers only"
    if found in CLOSED_HEADERS and layer != "transport":
        return "the fields of struct ferry_transport are those of src/transport"
    return None


def main():
    root = pathlib.Path(sys.argv[1])
    source = root / "src"
    complaints, arrows = [], collections.defaultdict(set)
    pairs = list(includes(source))
    for name, found in pairs:
        wrong = check_include(name, found)
        if wrong:
            complaints.append(f"src/{name}: #include \"{found}\": {wrong}")
        if not found.startswith("ferry/") and unit(found) != unit(name):
            arrows[unit(name)].add(unit(found))
    for folders in sorted(path for path in source.iterdir() if path.is_dir() and path.name not in NO_LAYERS):
        if folders.name not in LAYERS:
            complaints.append(f"src/{folders.name} is not a layer")
    called = list(calls(pathlib.Path(sys.argv[2]))) if len(sys.argv) > 2 else []
    for name, home, symbol in called:
        if "/" in name and "/" in home and LAYERS.index(folder(home)) > LAYERS.index(folder(name)):
            complaints.append(f"src/{name}: {symbol}() is above it, in src/{home}")
        arrows[unit(name)].add(unit(home))
    for members in circles(collections.defaultdict(set, arrows)):
        complaints.append("a circle: " + " ".join(members))
    print("\n".join(complaints) if complaints else
          f"{len(pairs)} includes and {len(called)} calls go down; no circle")
    sys.exit(1 if complaints else 0)


main()
