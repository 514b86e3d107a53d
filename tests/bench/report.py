"""The benchmark's results as a table and as a plot. Works on the data that --json keeps, and on nothing else."""

import html
import statistics


def ratio_rows(results):
    """For each workload and peer: per-round ratios of Lockstep's throughput to the peer's, with the target if there is one.
    A list of dicts: workload, peer, median, low, high, target."""
    rows = []
    for workload in results["workloads"]:
        ours = workload["runs"].get("lockstep", [])
        for peer, runs in workload["runs"].items():
            if peer == "lockstep":
                continue
            ratios = [mine["throughput"] / theirs["throughput"] for mine, theirs in zip(ours, runs)
                      if mine and theirs and theirs["throughput"] > 0]
            if ratios:
                rows.append({"workload": workload["name"], "peer": peer, "median": statistics.median(ratios),
                             "low": min(ratios), "high": max(ratios), "target": workload["targets"].get(peer)})
    return rows


def median_of(runs, *path):
    values = []
    for run in runs:
        value = run
        for key in path:
            value = value[key]
        values.append(value)
    return statistics.median(values) if values else 0.0


def verdict(value, target, at_most=False):
    if target is None:
        return ""
    reached = value <= target if at_most else value >= target
    return "target %s%.2f: %s" % ("<= " if at_most else "", target, "reached" if reached else "MISSED")


def table(results):
    """The whole report as text."""
    lines = []
    ratios = {(row["workload"], row["peer"]): row for row in ratio_rows(results)}
    for workload in results["workloads"]:
        lines += ["", workload["title"]]
        lines.append("  %-16s %12s %10s %10s %10s   %s"
                     % ("system", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "Lockstep / this one, median (min - max)"))
        for system, runs in workload["runs"].items():
            runs = [run for run in runs if run]
            if not runs:
                lines.append("  %-16s %12s" % (system, "not run"))
                continue
            row = ratios.get((workload["name"], system))
            text = ""
            if row:
                text = "%.2f (%.2f - %.2f)  %s" % (row["median"], row["low"], row["high"],
                                                   verdict(row["median"], row["target"]))
            errors = sum(run["errors"] for run in runs)
            if errors:
                text += "  %d ERRORS: %s" % (errors, next(run["first_error"] for run in runs if run["errors"]))
            lines.append("  %-16s %12.0f %10.3f %10.3f %10.3f   %s"
                         % (system, median_of(runs, "throughput"), median_of(runs, "latency_us", "p50") / 1000,
                            median_of(runs, "latency_us", "p99") / 1000, median_of(runs, "latency_us", "p99_9") / 1000,
                            text.rstrip()))
    lines += memory_lines(results.get("memory"))
    return "\n".join(lines)


def memory_ratio(memory):
    theirs = memory["redis"]["redis-server"]["per_key"]
    return memory["lockstep"]["leader"]["per_key"] / theirs if theirs else 0.0


def memory_lines(memory):
    if not memory:
        return []
    lines = ["", "memory, %d keys of %d bytes with values of %d bytes"
             % (memory["keys"], memory["key_size"], memory["value_size"]),
             "  %-28s %14s %14s %14s" % ("process", "RSS empty MiB", "RSS full MiB", "bytes per key")]
    for system in ("redis", "lockstep"):
        for name, figures in memory[system].items():
            lines.append("  %-28s %14.1f %14.1f %14.1f" % ("%s %s" % (system, name) if system == "lockstep" else name,
                                                           figures["empty"] / 2**20, figures["full"] / 2**20,
                                                           figures["per_key"]))
    ratio = memory_ratio(memory)
    lines.append("  bytes per key, leader / redis-server: %.2f  %s"
                 % (ratio, verdict(ratio, memory["target"], at_most=True)))
    total = memory["lockstep"]["leader"]["full"] / memory["redis"]["redis-server"]["full"]
    lines.append("  RSS full, leader / redis-server: %.2f" % total)
    return lines


# -------------------------------------------------------------------------------------------------------------------- SVG

COLORS = {"lockstep": "#1f5fa8", "lockstep-follower": "#7fb0e0", "redis": "#b9402f", "redis-always": "#d98a3d",
          "redis-wait": "#e3c26b", "etcd": "#5b8f5b"}
PANEL_WIDTH, PANEL_HEIGHT, MARGIN, HEAD = 560, 300, 56, 74


class Drawing:
    def __init__(self, width, height):
        self.width, self.height = width, height
        self.parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" '
                      'font-family="sans-serif" font-size="12">' % (width, height, width, height),
                      '<rect width="100%" height="100%" fill="#ffffff"/>']

    def rect(self, x, y, width, height, fill, title=None):
        inner = "<title>%s</title>" % html.escape(title) if title else ""
        self.parts.append('<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s">%s</rect>'
                          % (x, y, width, height, fill, inner))

    def line(self, x1, y1, x2, y2, color="#d0d0d0"):
        self.parts.append('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>' % (x1, y1, x2, y2, color))

    def text(self, x, y, text, anchor="start", size=12, weight="normal", color="#222222"):
        self.parts.append('<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" font-weight="%s" fill="%s">%s</text>'
                          % (x, y, anchor, size, weight, color, html.escape(text)))

    def done(self):
        return "\n".join(self.parts + ["</svg>", ""])


def round_up(value):
    """The next 1, 2, 2.5, 5 times a power of ten: where an axis ends."""
    if value <= 0:
        return 1.0
    scale = 1.0
    while scale * 10 <= value:
        scale *= 10
    while scale > value:
        scale /= 10
    return next(scale * step for step in (1, 2, 2.5, 5, 10) if scale * step >= value)


def short(value):
    if value >= 1e6:
        return "%.2fM" % (value / 1e6)
    if value >= 1e4:
        return "%.0fk" % (value / 1e3)
    if value >= 1e3:
        return "%.1fk" % (value / 1e3)
    return "%.3g" % value


def panel(drawing, left, top, title, unit, groups):
    """Grouped bars. groups: a list of (label, [(system, median, low, high)])."""
    plot_left, plot_top = left + MARGIN, top + 56
    plot_width, plot_height = PANEL_WIDTH - MARGIN - 16, PANEL_HEIGHT - 100
    highest = round_up(max([bar[3] for _, bars in groups for bar in bars] or [1]))
    drawing.text(left + 12, top + 20, title, size=14, weight="bold")
    for i in range(6):
        y = plot_top + plot_height * (1 - i / 5)
        drawing.line(plot_left, y, plot_left + plot_width, y, "#e4e4e4" if i else "#888888")
        drawing.text(plot_left - 6, y + 4, short(highest * i / 5) if i else "0", anchor="end", size=11, color="#555555")
    drawing.text(left + 12, top + 34, unit, size=11, color="#555555")
    group_width = plot_width / max(1, len(groups))
    for g, (label, bars) in enumerate(groups):
        width = min(48, group_width * 0.84 / max(1, len(bars)))
        start = plot_left + group_width * (g + 0.5) - width * len(bars) / 2
        for b, (system, median, low, high) in enumerate(bars):
            height = plot_height * median / highest
            x = start + width * b
            drawing.rect(x + 1, plot_top + plot_height - height, width - 2, height, COLORS.get(system, "#888888"),
                         "%s: %s (%s - %s) %s" % (system, short(median), short(low), short(high), unit))
            middle = x + width / 2
            low_y, high_y = (plot_top + plot_height * (1 - value / highest) for value in (low, high))
            if low_y - high_y > 1:
                drawing.line(middle, low_y, middle, high_y, "#222222")
            drawing.text(middle, high_y - 4, short(median), anchor="middle", size=10)
        drawing.text(plot_left + group_width * (g + 0.5), plot_top + plot_height + 18, label, anchor="middle")


def throughput_groups(results, names):
    groups = []
    for workload in results["workloads"]:
        if workload["name"] not in names:
            continue
        bars = []
        for system, runs in workload["runs"].items():
            values = [run["throughput"] for run in runs if run]
            if values:
                bars.append((system, statistics.median(values), min(values), max(values)))
        if bars:
            groups.append((workload["label"], bars))
    return groups


def svg(results):
    """The plot as SVG text."""
    panels = []
    for title, prefix in (("SET", "set-"), ("GET", "get-"), ("put, one request at a time", "put-")):
        names = {workload["name"] for workload in results["workloads"] if workload["name"].startswith(prefix)}
        groups = throughput_groups(results, names)
        if groups:
            panels.append((title + ": throughput", "requests per second", groups))
    memory = results.get("memory")
    if memory:
        bars = [("lockstep", *[memory["lockstep"]["leader"]["per_key"]] * 3),
                ("redis", *[memory["redis"]["redis-server"]["per_key"]] * 3)]
        panels.append(("memory per key", "bytes", [("%d keys of %d bytes, values of %d" % (
            memory["keys"], memory["key_size"], memory["value_size"]), bars)]))
    rows = (len(panels) + 1) // 2
    drawing = Drawing(PANEL_WIDTH * 2, HEAD + PANEL_HEIGHT * max(1, rows))
    drawing.text(12, 24, "Lockstep beside redis-server and etcd, one machine, interleaved rounds", size=16, weight="bold")
    drawing.text(12, 42, results["environment"]["summary"], size=11, color="#555555")
    x = 12
    used = {bar[0] for _, _, groups in panels for _, bars in groups for bar in bars}
    for system, color in COLORS.items():
        if system in used:
            drawing.rect(x, 52, 12, 12, color)
            drawing.text(x + 17, 62, system)
            x += 34 + 7.2 * len(system)
    for i, (title, unit, groups) in enumerate(panels):
        panel(drawing, PANEL_WIDTH * (i % 2), HEAD + PANEL_HEIGHT * (i // 2), title, unit, groups)
    return drawing.done()
