"""Curves as small SVG files that need nothing to be read, in light and in dark; each line has its own dash too."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDE, HIGH, LEFT, RIGHT, TOP, BOTTOM, TICKS = 360, 250, 46, 12, 34, 38, 4
DASHES = ("", "7 3", "2 3", "9 3 2 3")
STYLE = """
  text { font: 11px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600 }
  .paper { fill: #ffffff } .grid { stroke: #d8dee4 } .mark { stroke: #57606a; stroke-dasharray: 1 3 }
  .line { fill: none; stroke-width: 2 } .band { opacity: .16 }
  .c0 { stroke: #0969da } .c1 { stroke: #bc4c00 } .c2 { stroke: #1a7f37 } .c3 { stroke: #8250df }
  .b0 { fill: #0969da } .b1 { fill: #bc4c00 } .b2 { fill: #1a7f37 } .b3 { fill: #8250df }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .paper { fill: #0d1117 } .grid { stroke: #30363d } .mark { stroke: #8b949e }
    .c0 { stroke: #58a6ff } .c1 { stroke: #f0883e } .c2 { stroke: #3fb950 } .c3 { stroke: #bc8cff }
    .b0 { fill: #58a6ff } .b1 { fill: #f0883e } .b2 { fill: #3fb950 } .b3 { fill: #bc8cff }
  }"""
T975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}  # by freedom


@dataclass(frozen=True)
class Line:
    """Points of a curve, each with the ends of its interval; a point without an interval has its own value twice."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """Curves over one axis. ``marks`` are named places on the x axis; the y axis holds 0."""

    title: str
    x: str
    lines: Sequence[Line]
    marks: Sequence[tuple[float, str]] = ()


def seeds_asked(description: str | None) -> range:
    """The seeds that the command line asks for; only from 0 on do they make a file."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="The first seed; with another one than 0 no file is made.")
    arguments = parser.parse_args()
    if not 2 <= arguments.seeds <= 10:
        parser.error("--seeds: an interval needs 2 to 10")
    return range(arguments.first, arguments.first + arguments.seeds)


def over_seeds(name: str, x: Sequence[float], runs: Sequence[Sequence[float]]) -> Line:
    """The mean of several seeds' curves with its 95 % interval (Student's t)."""
    y, low, high = [], [], []
    for found in zip(*runs, strict=True):
        mean, half = mean_and_half(found)
        y.append(mean)
        low.append(mean - half)
        high.append(mean + half)
    return Line(name, x, y, low, high)


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """The mean and half the width of its 95 % interval over 2 to 10 values (Student's t)."""
    n, mean = len(values), sum(values) / len(values)
    spread = sum((value - mean) ** 2 for value in values) / (n - 1)
    return mean, T975[n - 1] * (spread / n) ** 0.5


def write(path: Path, what: str, panels: Sequence[Panel]) -> None:
    """One file with the panels side by side; ``what`` is read aloud in its place."""
    body = [text for n, panel in enumerate(panels) for text in _panel(panel, n * WIDE)]
    size = f'viewBox="0 0 {WIDE * len(panels)} {HIGH}" width="{WIDE * len(panels)}" height="{HIGH}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(what)}">'
    paper = '<rect class="paper" width="100%" height="100%"/>'
    path.write_text("\n".join([head, f"<style>{STYLE}\n</style>", paper, *body, "</svg>"]) + "\n")


def _panel(panel: Panel, left: int) -> list[str]:
    xs = [x for line in panel.lines for x in line.x]
    ys = [y for line in panel.lines for side in (line.low, line.high) for y in side] + [0.0]
    first, last, bottom, top = min(xs), max(xs), min(ys), max(ys)
    top = top if top > bottom else bottom + 1

    def at(x: float, y: float) -> str:
        across = left + LEFT + (x - first) / ((last - first) or 1) * (WIDE - LEFT - RIGHT)
        return f"{across:.1f},{TOP + (top - y) / (top - bottom) * (HIGH - TOP - BOTTOM):.1f}"

    found = [f'<text class="title" x="{left + LEFT}" y="14">{escape(panel.title)}</text>']
    for n in range(TICKS + 1):
        y, x = bottom + (top - bottom) * n / TICKS, first + (last - first) * n / TICKS
        (x0, y0), (x1, _) = (at(end, y).split(",") for end in (first, last))
        found.append(f'<line class="grid" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y0}"/>')
        found.append(f'<text x="{left + LEFT - 5}" y="{float(y0) + 4:.1f}" text-anchor="end">{_number(y, top)}</text>')
        across = at(x, bottom).split(",")[0]
        found.append(f'<text x="{across}" y="{HIGH - 22}" text-anchor="middle">{_number(x, last)}</text>')
    found.append(f'<text x="{left + WIDE / 2:.0f}" y="{HIGH - 7}" text-anchor="middle">{escape(panel.x)}</text>')
    for x, name in panel.marks:
        across = at(x, bottom).split(",")[0]
        found.append(f'<line class="mark" x1="{across}" y1="{TOP}" x2="{across}" y2="{HIGH - BOTTOM}"/>')
        found.append(f'<text x="{float(across) + 4:.1f}" y="{HIGH - BOTTOM - 6}">{escape(name)}</text>')
    for n, line in enumerate(panel.lines):
        around = [*zip(line.x, line.high, strict=True), *reversed([*zip(line.x, line.low, strict=True)])]
        if any(high > low for low, high in zip(line.low, line.high, strict=True)):
            found.append(f'<polygon class="band b{n}" points="{" ".join(at(*point) for point in around)}"/>')
        points = " ".join(at(*point) for point in zip(line.x, line.y, strict=True))
        dash = f' stroke-dasharray="{DASHES[n]}"' if DASHES[n] else ""
        found.append(f'<polyline class="line c{n}" points="{points}"{dash}/>')
        if not line.name:  # the title says what it is
            continue
        key = left + LEFT + n * (WIDE - LEFT - RIGHT) // len(panel.lines)
        found.append(f'<line class="line c{n}" x1="{key}" y1="25" x2="{key + 22}" y2="25"{dash}/>')
        found.append(f'<text x="{key + 26}" y="29">{escape(line.name)}</text>')
    return found


def _number(value: float, largest: float) -> str:
    return f"{value:.0f}" if abs(largest) >= 20 else f"{value:.1f}" if abs(largest) >= 2 else f"{value:.2f}"
