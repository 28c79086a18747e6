"""Draws a run as SVG: a bar for the ratio of every row, grouped by file, with its spread.

The text is written without a library. Colours follow the reader's light or dark mode.
"""

import math
from html import escape

WIDTH, LEFT, RIGHT, TOP = 860, 250, 70, 84
ROW, HEADING, BAR = 24, 30, 14
KINDS = {"pp": "prefill", "tg": "decode", "start": "start to first token"}
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 17px; font-weight: 600 }
  .group { font-weight: 600 }
  .small { font-size: 12px; fill: #57606a }
  .ground { fill: #ffffff }
  .grid { stroke: #d0d7de }
  .equal { stroke: #1f2328; stroke-dasharray: 4 3 }
  .spread { stroke: #1f2328; stroke-width: 1.5 }
  .pp { fill: #4c8fd6 } .tg { fill: #e0893b } .start { fill: #4ea56b }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .small { fill: #9198a1 }
    .ground { fill: #0d1117 }
    .grid { stroke: #3d444d }
    .equal, .spread { stroke: #e6edf3 }
    .pp { fill: #3f7fc4 } .tg { fill: #c9752c } .start { fill: #3f9159 }
  }
"""


def kind(row):
    return row if row == "start" else row[:2]


def group(result):
    tier = f", {result['tier']} only" if result.get("tier") else ""
    return result["file"] + tier


def text(x, y, words, style="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1, y1, x2, y2, style):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def bar(result, y, scale):
    """The bar of a row with its name, ratio and, of several rounds, its spread."""
    style = kind(result["row"])
    middle, end = y + BAR / 2, LEFT + result["ratio"] * scale
    threads = f"{result['threads']} thread" + ("s" if result["threads"] > 1 else "")
    parts = [text(LEFT - 10, middle + 4, f"{result['row']}, {threads}", "", "end"),
             f'<rect x="{LEFT}" y="{y:.1f}" width="{end - LEFT:.1f}" height="{BAR}" class="{style}"/>']
    if result["high"] > result["low"]:
        low, high = LEFT + result["low"] * scale, LEFT + result["high"] * scale
        parts += [line(low, middle, high, middle, "spread")]
        parts += [line(x, middle - 4, x, middle + 4, "spread") for x in (low, high)]
        end = max(end, high)
    return parts + [text(end + 8, middle + 4, f"{result['ratio']:.2f}")]


def bars(results, scale):
    """All groups of rows from the top; the lower end with them."""
    parts, y, last = [], TOP, None
    for result in results:
        if group(result) != last:
            last = group(result)
            parts.append(text(16, y + 20, last, "group"))
            y += HEADING
        parts += bar(result, y, scale)
        y += ROW
    return parts, y + 6


def axis(limit, scale, bottom):
    """Grid, ticks and the axis' name, and the line where both are equally fast."""
    parts = []
    for tick in range(limit + 1):
        x = LEFT + tick * scale
        parts.append(line(x, TOP, x, bottom, "equal" if tick == 1 else "grid"))
        parts.append(text(x, bottom + 17, str(tick), "small", "middle"))
    name = "speed of tramontane ÷ speed of llama.cpp (1: equal; longer bars: tramontane is faster)"
    return parts + [text(LEFT, bottom + 37, name, "small")]


def legend(results):
    parts, x = [], LEFT
    for style in (k for k in KINDS if any(kind(r["row"]) == k for r in results)):
        parts.append(f'<rect x="{x}" y="64" width="12" height="12" class="{style}"/>')
        parts.append(text(x + 18, 75, KINDS[style], "small"))
        x += 40 + 8 * len(KINDS[style])
    return parts


def draw(run):
    """The SVG of a run: {"machine", "date", "ours", "peer", "results"}."""
    results = run["results"]
    limit = math.ceil(max(max(r["ratio"], r["high"]) for r in results))
    scale = (WIDTH - LEFT - RIGHT) / limit
    drawn, bottom = bars(results, scale)
    title = f"tramontane and llama.cpp on {run['machine']}"
    note = "bars: medians; lines: smallest to largest of several rounds; no line: one round, or equal ratios"
    height = bottom + 66
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}">', f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{height}" class="ground"/>',
            text(16, 28, title, "title"),
            text(16, 49, f"{run['date']}; {run['peer'].split(':')[0]}", "small")]
    return "\n".join(head + legend(results) + axis(limit, scale, bottom) + drawn
                     + [text(LEFT, bottom + 55, note, "small"), "</svg>"]) + "\n"
