#!/usr/bin/env python3
"""Compares tramontane with llama.cpp (and candle) on the same file, in alternating rounds.

    pip install llama-cpp-python==0.3.36      # builds llama.cpp for this CPU
    cargo build --release --example bench
    benches/peers/run.py -m mistral-7b.Q4_K_M.gguf
    benches/peers/run.py -m model.gguf --rows pp512,tg64 --threads 2 --rounds 1

It prints a table and draws a plot. The figures can be kept as JSON and drawn again:

    benches/peers/run.py -m model.gguf --json run.json --svg run.svg
    benches/peers/run.py --from-json run.json --svg run.svg --out run.md

Every row is measured with four configurations of llama.cpp (weights repacked or not, flash
attention on or off; two with --repack 0), each right after a run of ours. The best of them counts,
chosen per row. `start` is a fresh process up to the logits after 13 tokens, with the file in
the page cache and without the start and the imports of Python, and its peak memory. For an AVX2
comparison give --isa avx2 and the --python of an environment whose llama.cpp was built without
AVX-512.

candle is a second table, for rows of one sequence and at most 4096 positions:

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
import subprocess
import sys
from pathlib import Path

import plot
import results
import rows

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEFAULT_ROWS = "pp512,tg64,tg64@8192,tg64x4,tg64x8,start"
PROMPT = 13
CANDLE_POSITIONS = 4096


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
    """Tokens per second of candle, `None` for a row that it cannot run."""
    if not args.candle or name == "start":
        return None
    row = rows.parse(name)
    if row.batch > 1 or row.length > CANDLE_POSITIONS:
        return None
    command = [args.candle, args.model, name]
    return json.loads(fresh(command, RAYON_NUM_THREADS=str(threads))[0])


def pair(args, workers, name, threads, config):
    """Ours, and right after it the peer with one configuration: the memory bandwidth of a
    shared machine changes within minutes."""
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


def cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


def said(command):
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def facts(args, system):
    """What was measured where, with which versions."""
    query = "import importlib.metadata as m; print(m.version('llama-cpp-python'))"
    ours = (f"tramontane {said(['git', 'describe', '--always', '--dirty'])}, "
            f"{said(['rustc', '--version'])}, tier: {args.isa or 'the best of the CPU'}")
    if args.candle:
        lock = (HERE / "candle/Cargo.lock").read_text()
        version = re.search(r'name = "candle-transformers"\nversion = "(.*)"', lock)[1]
        ours += f"; candle-transformers {version}, quantized_llama"
    peer = f"llama.cpp of llama-cpp-python {said([args.python, '-c', query])}: {system.strip()}"
    return {"machine": f"{cpu()}, {os.cpu_count()} processors", "date": str(datetime.date.today()),
            "ours": ours, "peer": peer, "bytes": os.path.getsize(args.model)}


def measure(args):
    """Measures all rows: a run, as `results.document` and `plot.draw` take it."""
    names = args.rows.split(",")
    workers = {}
    if names != ["start"]:
        workers = {on: Worker(args, on) for on in args.repack}
    system = workers[args.repack[0]].system if workers else ""
    found = []
    for threads in args.threads:
        for name in names:
            rounds = []
            for n in range(args.rounds):
                print(f"{name}, {threads} threads, round {n + 1}", file=sys.stderr)
                rounds.append(round_of(args, workers, name, threads))
            found.append(results.result(Path(args.model).name, name, threads, rounds))
    for worker in workers.values():
        worker.process.stdin.close()
        worker.process.wait()
    return facts(args, system) | {"results": found}


def options():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model")
    parser.add_argument("--rows", default=DEFAULT_ROWS, help=f"default: {DEFAULT_ROWS}")
    parser.add_argument("--threads", type=numbers, default=[1, 2], help="default: 1,2")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--python", default=sys.executable, help="has llama-cpp-python")
    parser.add_argument("--repack", type=numbers, default=[0, 1],
                        help="'0' where a build of llama.cpp crashes with repacked weights")
    parser.add_argument("--isa", help="our instruction set, as in avx2")
    parser.add_argument("--bench", default=str(ROOT / "target/release/examples/bench"))
    parser.add_argument("--candle", metavar="BINARY", help="also measure candle, see above")
    parser.add_argument("--out", default="-", help="the table; default: '-', stdout")
    parser.add_argument("--svg", help="the plot; default: docs/benchmarks.svg")
    parser.add_argument("--json", help="writes the figures")
    parser.add_argument("--from-json", metavar="PATH", help="measures nothing, reads figures")
    return parser


def numbers(text):
    return [int(number) for number in text.split(",")]


def checked(parser):
    """The options, refused before anything is measured."""
    args = parser.parse_args()
    if args.from_json:
        return args
    if not args.model:
        parser.error("--model or --from-json is needed")
    for name in args.rows.split(","):
        name == "start" or rows.parse(name)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    # Resolved in this directory, since some of what is started runs elsewhere.
    python = shutil.which(args.python)
    if python is None:
        parser.error(f"--python {args.python}: no such program")
    args.python = os.path.abspath(python)
    args.configs = [(on, flash) for on in args.repack for flash in (0, 1)]
    args.svg = args.svg or str(ROOT / "docs/benchmarks.svg")
    return args


def main():
    args = checked(options())
    run = json.loads(Path(args.from_json).read_text()) if args.from_json else measure(args)
    if args.json:
        Path(args.json).write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n")
    if args.svg:
        Path(args.svg).write_text(plot.draw(run))
    text = results.document(run)
    print(text) if args.out == "-" else Path(args.out).write_text(text)


if __name__ == "__main__":
    main()
