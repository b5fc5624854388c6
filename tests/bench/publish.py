"""Brings the figures of the last runs into docs/performance.md: those of build/bench/results.json and torture.json, and of
the recorded operations. Each part stands between two comments with its name. Also copies the plots that the page shows,
and brings some figures of the page into README.md.

    publish.py [BUILD_BENCH]
    publish.py --check          fails if README.md has other figures than the page
"""

import json
import pathlib
import re
import shutil
import sys

from results import number

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGE = ROOT / "docs/performance.md"
README = ROOT / "README.md"
# The rows of README.md: text, case and unit on the page, and the peers of its columns.
FIGURES = [
    ("64 bytes there and back", "round-trip-unix", "us of CPU", ("stock", "libuv", "bare")),
    ("a MB to another process", "bytes-unix", "us of CPU a MB, both ends", ("stock", "libuv", "bare")),
    ("a descriptor to another process", "descriptors", "us of CPU, both ends", (None, "libuv", "bare")),
    ("a MB of a file over TCP", "file-tcp", "us of CPU a MB, both ends", ("evbuffer_add_file", None, "bare sendfile")),
]


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def is_published(row):
    """Of a machine that others use, nothing that the clock has measured."""
    by_clock = row["unit"].endswith("/s") or row["unit"] == "us" or row["unit"].startswith("ms")
    return not (row["loaded"] and by_clock)


def target(row):
    if "target" not in row:
        return ""
    floor = f" ({number(row['floor'])})" if "floor" in row else ""
    return f"{row['target']}: {row['verdict']}{floor}"


def results(out):
    rows = []
    for row in filter(is_published, json.loads((out / "results.json").read_text())):
        if "missing" in row:
            rows.append((row["case"], row["unit"], number(row["ferry"]), row["peer"], "missing", "", "", ""))
            continue
        spread = "" if row.get("ratio_low") is None else f"{number(row['ratio_low'])} to {number(row['ratio_high'])}"
        rows.append((row["case"], row["unit"], number(row["ferry"]), row["peer"], number(row["peer_value"]),
                     number(row["ratio"]), spread, target(row)))
    return table(("case", "unit", "ferry", "peer", "the peer's", "times better", "of the rounds", "target"), rows)


def torture(out):
    header = {"server": "server", "mode": "while", "requests": "requests", "lost": "lost", "twice": "answered twice",
              "cut": "kept connections cut", "p99_fresh_ms": "p99 ms, new", "p99_kept_ms": "p99 ms, kept"}
    rows = [[f"{row[name]:.1f}" if isinstance(row.get(name), float) else row.get(name, "missing") for name in header]
            for row in json.loads((out / "torture.json").read_text())]
    return table(header.values(), rows)


def operations(_):
    instructions = json.loads((HERE / "instructions.json").read_text())["figures"]
    calls = json.loads((HERE / "system_calls.json").read_text())["figures"]
    rows = [(name.replace("_", " "), f"{instructions[name]:,}" if name in instructions else "",
             f"{instructions[f'{name} allocations']:g}" if name in instructions else "", number(sum(each.values())), ", ".join(f"{call} {count:g}" for call, count in each.items()))
            for name, each in calls.items()]
    return table(("operation", "instructions", "allocations", "system calls", "which"), rows)


def between(text, name, new):
    mark = f"<!-- {name} -->"
    before, _, behind = text.split(mark)
    return f"{before}{mark}{new}{mark}{behind}"


def with_figures(readme, page):
    """README.md with the figures of the page."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    found = {(row[0], row[1], row[3]): row for row in cells if len(row) == 8}
    rows = []
    for text, case, unit, peers in FIGURES:
        values = [found[case, unit, peer][4] if peer else None for peer in peers]
        ferry = next(row[2] for key, row in found.items() if key[:2] == (case, unit))
        rows.append([text] + [value or "–" for value in [ferry] + values])
    header = ("µs of processor time", "ferry", "libevent", "libuv", "system calls in a loop")
    return between(readme, "figures", f"\n\n{table(header, rows)}\n\n")


def main():
    if sys.argv[1:] == ["--check"]:
        if with_figures(README.read_text(), PAGE.read_text()) != README.read_text():
            sys.exit("README.md has other figures than docs/performance.md: run tests/bench/publish.py")
        return
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build/bench"
    page = PAGE.read_text()
    for part in (results, torture, operations):
        try:
            text = part(out)
        except FileNotFoundError as error:
            print(f"{part.__name__} stays as it is: no {error.filename}")
            continue
        page = between(page, part.__name__, f"\n\n{text}\n\n")
    PAGE.write_text(page)
    README.write_text(with_figures(README.read_text(), page))
    for plot in re.findall(r"!\[[^]]*\]\((performance/[\w.-]+\.svg)\)", page):
        made = out / pathlib.Path(plot).name
        if made.exists():
            (ROOT / "docs/performance").mkdir(exist_ok=True)
            shutil.copyfile(made, ROOT / "docs" / plot)


if __name__ == "__main__":
    main()
