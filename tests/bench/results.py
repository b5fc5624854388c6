"""What a case is, and what its rounds come to.

A case measures each of its sides in turn, A B C A B C …, so that all of them see the same moods of the machine. A side is
a function that returns figures by name. ferry's side is called "ferry"; every other one is a peer.
"""

import dataclasses
import statistics

from servers import Missing


@dataclasses.dataclass
class Metric:
    name: str
    unit: str
    better: str  # "more" or "less"
    targets: dict = dataclasses.field(default_factory=dict)  # peer: the bound of ferry's figure divided by the peer's
    bound: float = None  # of ferry's figure itself

    def reaches(self, value, bound):
        return value >= bound if self.better == "more" else value <= bound


@dataclasses.dataclass
class Case:
    name: str
    title: str
    metrics: list
    sides: dict  # name: function of the context
    counted: bool = False  # the figures are counts: another short round would only repeat them
    floor: str = None  # the side that makes ferry's promises in bare calls: what it misses is beyond the limit


class Rounds:
    """The figures of one case."""

    def __init__(self, case):
        self.case = case
        self.figures = {side: [] for side in case.sides}
        self.missing = {}

    def measure(self, context):
        """One round of all sides."""
        for side, function in self.case.sides.items():
            if side in self.missing:
                continue
            try:
                self.figures[side].append(function(context))
            except Missing as reason:
                self.missing[side] = str(reason)

    def values(self, side, metric):
        return [figures[metric.name] for figures in self.figures[side] if metric.name in figures]

    def rows(self, loaded):
        for metric in self.case.metrics:
            ours = self.values("ferry", metric)
            for peer in self.case.sides:
                if peer == "ferry":
                    continue
                if peer in self.missing:
                    yield self.row(metric, ours, peer, [], loaded) | {"missing": self.missing[peer]}
                elif self.values(peer, metric):
                    yield self.row(metric, ours, peer, self.values(peer, metric), loaded)

    def row(self, metric, ours, peer, theirs, loaded):
        row = {"case": self.case.name, "metric": metric.name, "unit": metric.unit, "better": metric.better,
               "ferry": median(ours), "peer": peer, "peer_value": median(theirs), "ratio": None,
               "runs": len(theirs), "loaded": loaded}
        if ours and theirs:
            row["ratio"] = times_better(metric, row["ferry"], row["peer_value"])
            pairs = [times_better(metric, *pair) for pair in zip(ours, theirs)]
            pairs = [pair for pair in pairs if pair is not None] or [row["ratio"]]
            row["ratio_low"], row["ratio_high"] = (min(pairs), max(pairs)) if pairs[0] is not None else (None, None)
            self.judge(row, metric, peer, loaded)
        return row

    def judge(self, row, metric, peer, loaded):
        """The target's bound is that of ferry's figure divided by the peer's; `bound` is ferry's own."""
        checks = []
        if peer in metric.targets and row["peer_value"]:
            checks.append((row["peer_value"], metric.targets[peer], f"{metric.targets[peer]} x {peer}"))
        if metric.bound is not None:
            checks.append((1, metric.bound, f"{metric.bound} {metric.unit}"))
        if not checks:
            return
        sign = ">=" if metric.better == "more" else "<="
        row["target"] = " and ".join(f"{sign} {text}" for _, _, text in checks)

        def reached_by(figure):
            return all(metric.reaches(figure / unit, bound) for unit, bound, _ in checks)
        row["verdict"] = "not judged" if loaded else "met" if reached_by(row["ferry"]) else "missed"
        floor = median(self.values(self.case.floor, metric)) if self.case.floor else None
        if row["verdict"] == "missed" and floor is not None:
            row["floor"] = floor / checks[0][0]
            row["verdict"] += f", {'by the floor, too' if not reached_by(floor) else 'not by the floor'}"


def median(values):
    return statistics.median(values) if values else None


def times_better(metric, ours, theirs):
    """How many times better ferry is; None if one of the two is 0."""
    if not ours or not theirs:
        return None
    return ours / theirs if metric.better == "more" else theirs / ours


def number(value):
    """Three or four digits that count."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def print_rows(case, rows):
    print(f"\n{case.name}: {case.title}")
    header = ("metric", "ferry", "peer", "peer's", "times better", "of the rounds", "target for ferry")
    lines = [header]
    for row in rows:
        if "missing" in row:
            lines.append((row["metric"], number(row["ferry"]), row["peer"], "missing", "", row["missing"], ""))
            continue
        spread = ("" if row.get("ratio_low") is None else
                  f"{number(row['ratio_low'])} to {number(row['ratio_high'])}")
        target = f"{row['target']}: {row['verdict']}" if "target" in row else ""
        lines.append((f"{row['metric']} ({row['unit']})", number(row["ferry"]), row["peer"],
                      number(row["peer_value"]), number(row["ratio"]), spread, target))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        print("  " + "  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip(), flush=True)
