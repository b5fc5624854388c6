"""Plots of results.json by gnuplot: one SVG for each case and metric, with a bar for each side.

    plots.py RESULTS DIRECTORY
"""

import json
import pathlib
import shutil
import subprocess
import sys

# The values of ferry and of the slowest peer may be this far apart; beyond it the axis is logarithmic.
LINEAR = 20

SCRIPT = """
set terminal svg size 640,{height} font 'sans-serif,13' background '#ffffff'
set output '{path}'
set title {title} noenhanced
set style fill solid
set boxwidth 0.7
set yrange [{bottom}:-0.6] noextend
set ytics ({names}) noenhanced
set grid xtics
{scale}
unset key
plot '-' using 1:2:1:3:($2-0.35):($2+0.35):4 with boxxyerror linecolor rgb variable, \\
     '-' using 1:2:3 with labels left offset 0.5,0 noenhanced
{bars}
e
{labels}
e
"""


def groups(rows):
    """The sides of each case and metric with their values, ferry first."""
    found = {}
    for row in rows:
        if row["ferry"] is None:
            continue
        sides = found.setdefault((row["case"], row["metric"], row["unit"], row["better"]), {"ferry": row["ferry"]})
        if row["peer_value"]:
            sides[row["peer"]] = row["peer_value"]
    return {key: sides for key, sides in found.items() if sides["ferry"] and len(sides) > 1}


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def script(path, key, sides):
    case, _, unit, better = key
    values = list(sides.values())
    is_linear = max(values) <= LINEAR * min(values)
    low = 0 if is_linear else min(values) / 2
    bars, labels = [], []
    for index, (name, value) in enumerate(sides.items()):
        colour = 0x1F6FB2 if name == "ferry" else 0xB8C4CE
        bars.append(f"{low} {index} {value} {colour}")
        labels.append(f"{value} {index} {value:.4g}")
    title = quoted(f"{case}: {unit}, {better} is better")
    room = 1.25 * max(values) if is_linear else 4 * max(values)
    return SCRIPT.format(
        path=path, title=title, height=90 + 34 * len(sides),
        bottom=len(sides) - 0.4, names=", ".join(f"{quoted(name)} {index}" for index, name in enumerate(sides)),
        scale=f"set xrange [{low}:{room}]" + ("" if is_linear else "\nset logscale x"),
        bars="\n".join(bars), labels="\n".join(labels))


def plot(rows, directory):
    """Returns the names of the plots, or None without gnuplot."""
    if not shutil.which("gnuplot"):
        return None
    names = []
    for key, sides in groups(rows).items():
        path = pathlib.Path(directory) / f"{key[0]}.{key[1]}.svg"
        subprocess.run(["gnuplot"], input=script(path, key, sides), text=True, check=True)
        names.append(path.name)
    return names


if __name__ == "__main__":
    print("\n".join(plot(json.loads(pathlib.Path(sys.argv[1]).read_text()), sys.argv[2]) or ["no gnuplot"]))
