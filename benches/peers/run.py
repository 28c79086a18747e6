#!/usr/bin/env python3
"""Compares tramontane with llama.cpp (and candle) on the same file, in alternating rounds.

    pip install llama-cpp-python==0.3.36      # builds llama.cpp for this CPU
    cargo build --release --example bench
    benches/peers/run.py -m mistral-7b.Q4_K_M.gguf
    benches/peers/run.py -m model.gguf --rows pp512,tg64 --threads 2 --rounds 1 --out -

llama.cpp runs in four configurations (weights repacked or not, flash attention
on or off; two with --repack 0), ours before each; the best of them counts, for every row anew. `start` is a fresh
process up to the logits after 13 tokens, with the file in the page cache and
without Python's start and imports, and its peak memory. For an AVX2 comparison give --isa avx2 and --python of an
environment whose llama.cpp was built without AVX-512.

candle is a column more, for rows of one sequence and at most 4096 positions:

    RUSTFLAGS="-C target-cpu=native" cargo build --release \\
        --manifest-path benches/peers/candle/Cargo.toml
    benches/peers/run.py -m model.gguf --rows pp512,tg64 \\
        --candle benches/peers/candle/target/release/candle-peer
"""

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import rows

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEFAULT_ROWS = "pp512,tg64,tg64@8192,tg64x4,tg64x8,start"
PROMPT = 13
CANDLE_POSITIONS = 4096


def label(config):
    return f"repack {'on' if config[0] else 'off'}, fa {'on' if config[1] else 'off'}"


class Worker:
    """llama.cpp with one way of loading, kept between rounds."""

    def __init__(self, args, repack):
        command = [args.python, HERE / "llama_worker.py", args.model, str(repack)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.system = self.answer()["system"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("llama_worker.py ended; is llama-cpp-python installed?")
        return json.loads(line)

    def rate(self, name, flash, threads):
        self.process.stdin.write(f"{name} {flash} {threads} 1\n")
        self.process.stdin.flush()
        return self.answer()[0]


def fresh(command, **environment):
    """Runs a process; returns its output and peak memory in bytes."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True,
                               env=os.environ | environment)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed")
    return output, usage.ru_maxrss * 1024


def ours_command(args, threads):
    command = [args.bench, "-m", args.model, "-t", threads]
    return command + (["--isa", args.isa] if args.isa else [])


def ours(args, name, threads):
    row = rows.parse(name)
    kind = ["-p", row.n, "-n", 0] if row.prompt else ["-p", 0, "-n", row.n]
    shape = ["-b", row.batch, "-d", row.depth, "-r", 1, "--json"]
    output, _ = fresh(ours_command(args, threads) + kind + shape)
    return json.loads(output)[0]


def candle(args, name, threads):
    """Tokens per second of candle, `None` for a row that it has not."""
    if not args.candle or name == "start":
        return None
    row = rows.parse(name)
    if row.batch > 1 or row.length > CANDLE_POSITIONS:
        return None
    command = [args.candle, args.model, name]
    return json.loads(fresh(command, RAYON_NUM_THREADS=str(threads))[0])


def pair(args, workers, name, threads, config):
    """Ours, and at once the peer with one configuration: a shared machine's memory is
    slower or faster by minutes."""
    if name != "start":
        mine = ours(args, name, threads)
        peer = workers[config[0]].rate(name, config[1], threads)
        return {"ours": mine["tok_s"], "limits": mine, "peer": peer}
    output, memory = fresh(ours_command(args, threads) + ["--first-token", PROMPT])
    worker = [args.python, HERE / "llama_worker.py", args.model, config[0]]
    peer, peer_memory = fresh(worker + ["--first", config[1], threads, PROMPT])
    return {"ours": 1 / float(output), "memory": memory,
            "peer": 1 / json.loads(peer), "peer_memory": peer_memory}


def round_of(args, workers, name, threads):
    """One round of a row: a pair for every configuration of the peer, and candle."""
    pairs = {c: pair(args, workers, name, threads, c) for c in args.configs}
    return {"pairs": pairs, "candle": candle(args, name, threads)}


def spread(values):
    """Half of largest − smallest, in per cent of the median."""
    return 50 * (max(values) - min(values)) / statistics.median(values)


def candle_cells(rates, mine):
    """The figure of candle, and the ratio of ours to it."""
    if None in rates:
        return " – | – |"
    ratios = [a / b for a, b in zip(mine, rates)]
    return (f" {statistics.median(rates):.2f} tok/s ± {spread(rates):.0f} % "
            f"| **{statistics.median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f}) |")


def line(args, name, threads, rounds):
    """A line of the table: medians, and the ratio of each pair with the best peer."""
    def peer_rate(config):
        return statistics.median(r["pairs"][config]["peer"] for r in rounds)

    best = max(args.configs, key=peer_rate)
    pairs = [r["pairs"][best] for r in rounds]
    mine, peer = [p["ours"] for p in pairs], [p["peer"] for p in pairs]
    ratios = [a / b for a, b in zip(mine, peer)]
    if name == "start":
        unit, figures = "s", [1 / statistics.median(mine), 1 / statistics.median(peer)]
        gigabytes = [pairs[0]["memory"] / 1e9, pairs[0]["peer_memory"] / 1e9]
        of = "peak memory {:.2f} GB, peer {:.2f} GB".format(*gigabytes)
    else:
        unit, figures = "tok/s", [statistics.median(mine), statistics.median(peer)]
        every = [p["limits"] for r in rounds for p in r["pairs"].values()]
        limits = [statistics.median(row[k] for row in every)
                  for k in ("bandwidth_pct", "peak_pct")]
        of = "{:.0f} % of read, {:.0f} % of multiply peak".format(*limits)
    cells = candle_cells([r["candle"] for r in rounds], mine) if args.candle else ""
    return (f"| {name} | {threads} | {figures[0]:.2f} {unit} ± {spread(mine):.0f} % "
            f"| {figures[1]:.2f} {unit} ± {spread(peer):.0f} % ({label(best)}) "
            f"| **{statistics.median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f}) "
            f"| {of} |" + cells)


def cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


def said(command):
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def document(args, lines, system):
    query = "import importlib.metadata as m; print(m.version('llama-cpp-python'))"
    facts = [
        f"CPU: {cpu()}, {os.cpu_count()} processors; {args.rounds} rounds, {datetime.date.today()}",
        f"File: `{Path(args.model).name}`, {os.path.getsize(args.model):,} bytes",
        f"tramontane {said(['git', 'describe', '--always', '--dirty'])}, "
        f"{said(['rustc', '--version'])}, set: {args.isa or 'the best'}",
        f"llama.cpp of llama-cpp-python {said([args.python, '-c', query])}: {system.strip()}",
    ]
    if args.candle:
        lock = (HERE / "candle/Cargo.lock").read_text()
        version = re.search(r'name = "candle-transformers"\nversion = "(.*)"', lock)[1]
        facts.append(f"candle-transformers {version}, quantized_llama")
    head = ["# Benchmarks", "", "Written by `benches/peers/run.py`. Medians of alternating rounds; "
            "± is half of largest − smallest. The ratio is ours : peer of pairs measured one "
            "right after the other, over 1 = we are faster. The peer is the best of its "
            f"{len(args.configs)} configurations.", ""]
    table = ["", "| row | threads | tramontane | llama.cpp | ratio | ours is |",
             "|---|---:|---:|---:|---:|---|"]
    if args.candle:
        table[1] += " candle | ratio |"
        table[2] += "---:|---:|"
    return "\n".join(head + [f"- {fact}" for fact in facts] + table + lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--rows", default=DEFAULT_ROWS, help=f"default: {DEFAULT_ROWS}")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="has llama-cpp-python")
    parser.add_argument("--repack", default="0,1",
                        help="'0' where a build of llama.cpp dies with its own weights' order")
    parser.add_argument("--isa", help="our instruction set, as in avx2")
    parser.add_argument("--bench", default=str(ROOT / "target/release/examples/bench"))
    parser.add_argument("--candle", metavar="BINARY", help="also measure candle, see above")
    parser.add_argument("--out", default=str(ROOT / "docs/benchmarks.md"), help="'-': stdout")
    args = parser.parse_args()
    names = args.rows.split(",")
    for name in names:
        name == "start" or rows.parse(name)
    # Seen from here, since some of what is started runs elsewhere.
    python = shutil.which(args.python)
    if python is None:
        parser.error(f"--python {args.python}: no such program")
    args.python = os.path.abspath(python)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    repack = [int(on) for on in args.repack.split(",")]
    args.configs = [(on, flash) for on in repack for flash in (0, 1)]
    workers = {}
    if names != ["start"]:
        workers = {on: Worker(args, on) for on in repack}
    system = workers[repack[0]].system if workers else ""
    lines = []
    for threads in args.threads.split(","):
        for name in names:
            rounds = []
            for n in range(args.rounds):
                print(f"{name}, {threads} threads, round {n + 1}", file=sys.stderr)
                rounds.append(round_of(args, workers, name, int(threads)))
            lines.append(line(args, name, threads, rounds))
    text = document(args, lines, system)
    print(text) if args.out == "-" else Path(args.out).write_text(text)
    for worker in workers.values():
        worker.process.stdin.close()
        worker.process.wait()


if __name__ == "__main__":
    main()
