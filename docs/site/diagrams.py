"""Draws diagrams as SVG from text. The text stands in a page, as a block of code of one of two languages.

sequence:
    actors: Client, Proxy            one column each
    Client -> Proxy: text            a message
    Client --> Proxy: text           a message that no one answers or that may not arrive
    note Proxy: text                 an event inside an actor
    has Proxy / drops Proxy          from here on the actor has the descriptor, or has it no more: a thick line
    == text                          a heading across the columns

states:
    NAME column row: text            a box; the text is its second line
    NAME -> OTHER: text              an arrow; its text may have several lines, divided by /
"""
import html
import math
import re

CHARACTER = 6.7  # the width of an average one, in pixels
ROW = 34


class Drawing:
    def __init__(self):
        self.parts = []

    def add(self, text):
        self.parts.append(text)

    def text(self, x, y, text, anchor="middle", kind=""):
        for number, line in enumerate(text.split("/") if kind != "plain" else [text]):
            shown = html.escape(line.strip(), quote=False)
            self.add(f'<text x="{x:.0f}" y="{y + 15 * number:.0f}" text-anchor="{anchor}" class="{kind}">{shown}</text>')

    def arrow(self, x1, y1, x2, y2, kind="arrow"):
        angle = math.atan2(y2 - y1, x2 - x1)
        self.add(f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2 - 7 * math.cos(angle):.1f} {y2 - 7 * math.sin(angle):.1f}"/>')
        points = [(x2, y2)] + [(x2 - 10 * math.cos(angle + turn), y2 - 10 * math.sin(angle + turn)) for turn in (-.4, .4)]
        self.add('<path class="tip" d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + 'Z"/>')

    def finish(self, width, height, title):
        return (f'<div class="diagram" tabindex="0"><svg width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
                f'role="img" aria-label="{html.escape(title)}">' + "".join(self.parts) + "</svg></div>")


def sequence(lines):
    drawing = Drawing()
    actors = [name.strip() for name in lines[0].removeprefix("actors:").split(",")]
    steps = lines[1:]
    gaps = widths_of_columns(actors, steps)
    place = {name: 20 + max(len(actors[0]) * CHARACTER / 2 + 12, 70) + sum(gaps[:number]) for number, name in enumerate(actors)}
    width = place[actors[-1]] + gaps[-1]
    y, has, bars = 60, {}, []
    for step in steps:
        heading = re.match(r"== (.*)", step)
        owns = re.match(r"(has|drops) (.*)", step)
        note = re.match(r"note ([^:]+): (.*)", step)
        message = re.match(r"(.+?) (-->|->) ([^:]+): (.*)", step)
        if owns and owns[1] == "has":
            has[owns[2]] = y - ROW / 2
        elif owns:
            bars.append((owns[2], has.pop(owns[2]), y - ROW / 2))
        elif heading:
            y += 8
            drawing.text(20, y, heading[1], "start", "quiet paper")
            y += ROW - 4
        elif note:
            long = len(note[2]) * CHARACTER + 16
            drawing.add(f'<rect class="note" x="{place[note[1]] + 8:.0f}" y="{y - 16}" width="{long:.0f}" height="23" rx="5"/>')
            drawing.text(place[note[1]] + 16, y, note[2], "start", "plain")
            y += ROW
        elif message:
            x1, x2 = place[message[1]], place[message[3]]
            drawing.arrow(x1, y + 5, x2, y + 5, "arrow lost" if message[2] == "-->" else "arrow")
            drawing.text((x1 + x2) / 2, y - 1, message[4], "middle", "plain")
            y += ROW
        else:
            raise ValueError(f"sequence: {step}")
    bars += [(name, start, y - ROW / 2) for name, start in has.items()]
    under = Drawing()
    for name in actors:
        under.add(f'<path class="life" d="M{place[name]:.0f} 40V{y}"/>')
    for name, start, end in bars:
        under.add(f'<rect class="has" x="{place[name] - 4:.0f}" y="{start:.0f}" width="8" height="{end - start:.0f}" rx="3"/>')
    for name in actors:
        half = len(name) * CHARACTER / 2 + 12
        under.add(f'<rect class="box" x="{place[name] - half:.0f}" y="8" width="{2 * half:.0f}" height="30" rx="7"/>')
        under.text(place[name], 28, name, "middle", "plain")
    drawing.parts = under.parts + drawing.parts
    return drawing.finish(width, y + 6, "Sequence of " + ", ".join(actors))


def widths_of_columns(actors, steps):
    """The distance of each actor to the next; of the last one, to the edge."""
    gaps = [max(130.0, (len(left) + len(right)) * CHARACTER / 2 + 36) for left, right in zip(actors, actors[1:])]
    gaps.append(len(actors[-1]) * CHARACTER / 2 + 30)
    for step in steps:
        note = re.match(r"note ([^:]+): (.*)", step)
        message = re.match(r"(.+?) -?->? ?([^:]+): (.*)", step.replace("-->", "->"))
        if note:
            at = actors.index(note[1])
            gaps[at] = max(gaps[at], len(note[2]) * CHARACTER + 44)
        elif message and message[1] in actors:
            first, last = sorted((actors.index(message[1]), actors.index(message[2])))
            lacking = len(message[3]) * CHARACTER + 30 - sum(gaps[first:last])
            for at in range(first, last):
                gaps[at] += max(0, lacking) / (last - first)
    return gaps


def states(lines):
    drawing, boxes, arrows = Drawing(), {}, []
    for line in lines:
        box = re.match(r"(\w+) ([\d.]+) ([\d.]+)(?:: (.*))?$", line)
        arrow = re.match(r"(\w+) -> (\w+)(?:: (.*))?$", line)
        if box:
            boxes[box[1]] = (float(box[2]), float(box[3]), box[4] or "")
        elif arrow:
            arrows.append(arrow.groups(""))
        else:
            raise ValueError(f"states: {line}")
    half = max(max(len(name), *(len(part) for part in text.split("/"))) for name, (_, _, text) in boxes.items()) * CHARACTER / 2 + 12
    label = max([len(part) for _, _, text in arrows for part in text.split("/")] + [4]) * CHARACTER
    across, down, tall = 2 * half + label + 34, 112, 25
    centre = {name: (half + 12 + column * across, 40 + row * down) for name, (column, row, _) in boxes.items()}
    labels = Drawing()
    for start, end, text in arrows:
        (x1, y1), (x2, y2) = centre[start], centre[end]
        far = math.hypot(x2 - x1, y2 - y1)
        both = (end, start) in [(other[0], other[1]) for other in arrows]
        aside = 9 if both else 0
        shift = (-(y2 - y1) / far * aside, (x2 - x1) / far * aside)
        reach = min(half / max(abs(x2 - x1) / far, .001), tall / max(abs(y2 - y1) / far, .001))
        cos, sin = (x2 - x1) / far, (y2 - y1) / far
        drawing.arrow(x1 + cos * reach + shift[0], y1 + sin * reach + shift[1],
                      x2 - cos * reach + shift[0], y2 - sin * reach + shift[1])
        x, y = (x1 + x2) / 2 + shift[0], (y1 + y2) / 2 + shift[1]
        count = text.count("/")
        if abs(y2 - y1) < 1:
            labels.text(x, y - 7 - 15 * count if not both or x2 > x1 else y + 17, text, "middle", "paper")
        elif (x2 - x1) * (y2 - y1) > 0:  # above the arrow, which goes down to the right
            labels.text(x + 14, y - 1 - 15 * count, text, "start", "paper")
        else:
            labels.text(x + 8, y + (14 if abs(x2 - x1) > 1 else 4 - 7 * count), text, "start", "paper")
    for name, (x, y) in centre.items():
        text = boxes[name][2]
        count = text.count("/") + 1 if text else 0
        drawing.add(f'<rect class="box" x="{x - half:.0f}" y="{y - tall:.0f}" width="{2 * half:.0f}" height="{2 * tall}" rx="8"/>')
        drawing.text(x, y + 5 - 8 * count, name, "middle", "plain")
        if text:
            drawing.text(x, y + 20 - 8 * count, text, "middle", "quiet")
    drawing.parts += labels.parts
    width = max(x for x, _ in centre.values()) + half + 12
    height = max(y for _, y in centre.values()) + tall + 12
    return drawing.finish(width, height, "States: " + ", ".join(boxes))


def draw(language, text):
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return {"sequence": sequence, "states": states}[language](lines)
