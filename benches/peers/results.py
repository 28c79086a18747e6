"""From rounds of measurements to results, and from results to Markdown.

A result is one row of one file: medians of ours and the peer, the ratio of pairs that were
measured one right after the other, and the smallest and largest of these ratios.
"""

import statistics

LIMITS = [("of_read", "read bandwidth"), ("of_peak", "multiply peak")]


def label(config):
    return f"repack {'on' if config[0] else 'off'}, fa {'on' if config[1] else 'off'}"


def spread(values):
    """Half of largest − smallest, in per cent of the median."""
    return 50 * (max(values) - min(values)) / statistics.median(values)


def ratios(mine, peer, prefix=""):
    pairs = [a / b for a, b in zip(mine, peer)]
    return {prefix + "ratio": statistics.median(pairs), prefix + "low": min(pairs),
            prefix + "high": max(pairs)}


def limits(rounds):
    """Shares of the machine's limits, of all runs of ours."""
    every = [p["limits"] for r in rounds for p in r["pairs"].values()]
    return {"of_read": statistics.median(run["bandwidth_pct"] for run in every),
            "of_peak": statistics.median(run["peak_pct"] for run in every)}


def memory(pairs):
    return {"memory": pairs[0]["memory"], "peer_memory": pairs[0]["peer_memory"]}


def result(file, name, threads, rounds):
    """The result of a row; the peer counts with its best configuration."""
    def peer_rate(config):
        return statistics.median(r["pairs"][config]["peer"] for r in rounds)

    best = max(rounds[0]["pairs"], key=peer_rate)
    pairs = [r["pairs"][best] for r in rounds]
    mine, peer = [p["ours"] for p in pairs], [p["peer"] for p in pairs]
    start = name == "start"
    of = [1 / statistics.median(x) if start else statistics.median(x) for x in (mine, peer)]
    found = {"file": file, "row": name, "threads": threads, "unit": "s" if start else "tok/s",
             "ours": of[0], "ours_spread": spread(mine),
             "peer": of[1], "peer_spread": spread(peer), "peer_config": label(best),
             "rounds": len(rounds)}
    rates = [r["candle"] for r in rounds]
    if None not in rates:
        found |= {"candle": statistics.median(rates), "candle_spread": spread(rates)}
        found |= ratios(mine, rates, "candle_")
    found["pairs"] = [{"ours": a, "peer": b} for a, b in zip(mine, peer)]
    return found | ratios(mine, peer) | (memory(pairs) if start else limits(rounds))


def rate(found, whose):
    """A median with its unit and, of several rounds, its spread."""
    words = f"{found[whose]:.2f} {found.get('unit', 'tok/s')}"
    known = found["rounds"] > 1 and found.get(whose + "_spread") is not None
    return words + (f" ± {found[whose + '_spread']:.0f} %" if known else "")


def ratio(found, prefix=""):
    middle, low, high = (found[prefix + key] for key in ("ratio", "low", "high"))
    return f"**{middle:.2f}**" + (f" ({low:.2f}–{high:.2f})" if high > low else "")


def share(found):
    """How much of the nearer limit of the machine ours reaches, or the memory of a start."""
    if found.get("memory"):
        gigabytes = found["memory"] / 1e9, found["peer_memory"] / 1e9
        return "peak memory {:.2f} GB, peer {:.2f} GB".format(*gigabytes)
    shares = [(found[key], words) for key, words in LIMITS if found.get(key) is not None]
    return "{:.0f} % of the {}".format(*max(shares)) if shares else ""


def lines(head, rows):
    marks = ["---:" if cell in ("threads", "rounds") else "---" for cell in head]
    return ["| " + " | ".join(cells) + " |" for cells in [head, marks] + rows]


def table(found):
    """Markdown of all results; a column for the commit where they are of several, and the
    peer's configuration where all name it."""
    head = ["file", "row", "threads", "tramontane", "llama.cpp", "ratio", "tramontane reaches",
            "rounds"]
    configured = all(r.get("peer_config") for r in found)
    commits = any("commit" in r for r in found)
    rows = []
    for r in found:
        file = r["file"] + (f", {r['tier']} only" if r.get("tier") else "")
        peer = rate(r, "peer") + (f" ({r['peer_config']})" if configured else "")
        cells = [file, r["row"], str(r["threads"]), rate(r, "ours"), peer, ratio(r), share(r),
                 str(r["rounds"])]
        rows.append(cells + ([r["commit"]] if commits else []))
    return lines(head + (["commit"] if commits else []), rows)


def candle_table(found):
    head = ["file", "row", "threads", "tramontane", "candle", "ratio", "rounds"]
    rows = [[r["file"], r["row"], str(r["threads"]), rate(r, "ours"), rate(r, "candle"),
             ratio(r, "candle_"), str(r["rounds"])] for r in found if "candle" in r]
    return [""] + lines(head, rows) if rows else []


def document(run):
    """A run as Markdown: what was measured, and a table."""
    facts = [f"Machine: {run['machine']}; {run['date']}", run["ours"], run["peer"]]
    if "bytes" in run:
        facts.insert(1, f"File: {run['bytes']:,} bytes")
    head = ["Medians of alternating rounds; ± is half of (largest − smallest). The ratio is "
            "tramontane ÷ peer of pairs measured one right after the other, above 1: tramontane "
            "is faster. The peer is the best of its configurations.", ""]
    facts = [f"- {fact}" for fact in facts] + [""]
    found = run["results"]
    return "\n".join(head + facts + table(found) + candle_table(found)) + "\n"
