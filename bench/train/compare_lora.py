#!/usr/bin/env python3
"""LoRA's speed and memory beside transformers with PEFT, and beside our own full training: docs/performance.md's tables.

    python3 -m venv venv && venv/bin/pip install torch transformers peft
    bench/train/compare_lora.py --python venv/bin/python [--cases 135m:1:512:fp32 ...] [--rounds 3]

A case is shape:batch:seq:dtype, and :LEARNT after it where only that share of each sequence is trained on. The modes take
turns, `rounds` times, on the same threads; medians count. `tuned` is the peer with compare.py's allocator settings; `8bit`
and `4bit` hold our frozen base in as many bits; `full` trains our whole model. Each run goes to --log as a JSON line.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

from compare import TUNED, row

HERE = pathlib.Path(__file__).resolve().parent
OURS = {"ours": ["--lora"], "ours 8bit": ["--load-in", "8bit", "--lora"], "ours 4bit": ["--load-in", "4bit", "--lora"],
        "ours full": []}
PEERS = ("eager", "eager tuned", "compiled tuned")


def command(mode, case, options):
    shape, batch, seq, dtype, learnt = case
    common = ["--shape", shape, "--batch", batch, "--seq", seq, "--dtype", dtype, "--learnt", learnt,
              "--steps", str(options.steps), "--threads", str(options.threads)]
    rank = str(options.rank)
    if mode in OURS:
        extra = [*OURS[mode], rank] if OURS[mode] else []
        return [options.flagscale, "bench", "train", *common, *extra, "--json"]
    return [options.python, str(HERE / "peft_peer.py"), *common, "--lora", rank,
            "--mode", "compile" if mode.startswith("compiled") else "eager"]


def run(mode, case, options):
    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads))
    if mode.endswith("tuned"):
        environment.update(TUNED)
    result = subprocess.run(command(mode, case, options), env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{mode} on {case} failed:\n{result.stderr[-2000:]}")
    reading = json.loads(result.stdout.strip().splitlines()[-1])
    reading.setdefault("resident_bytes", reading.get("peak_bytes"))
    return reading


def measure(case, options, log):
    readings = {mode: [] for mode in options.modes}
    for turn in range(options.rounds):
        for mode in options.modes:
            reading = run(mode, case, options)
            readings[mode].append(reading)
            print(f"{':'.join(case)} {mode} {turn + 1}/{options.rounds}: {reading['tokens_per_s']:.0f} tokens/s, "
                  f"{reading['resident_bytes'] / 1e6:.0f} MB", file=sys.stderr)
            log.write(json.dumps({"case": case, "mode": mode, "round": turn, **reading}) + "\n")
            log.flush()
    return {mode: {key: statistics.median(r[key] for r in rows) for key in ("tokens_per_s", "resident_bytes")}
            for mode, rows in readings.items()}


def name_of(case):
    shape, batch, seq, dtype, learnt = case
    return f"{shape} B{batch} T{seq} {dtype}" + ("" if float(learnt) == 1 else f", {100 * float(learnt):.0f} % learnt")


def print_tables(results, options):
    peers = [m for m in options.modes if m in PEERS]
    for key, title, scale in (("tokens_per_s", "tokens/s", 1), ("resident_bytes", "peak resident memory, MB", 1e-6)):
        best = max if key == "tokens_per_s" else min
        print(row([title, *options.modes, *(["ours / best peer"] if peers else [])]))
        print("|" + "---|" * (len(options.modes) + 1 + bool(peers)))
        for case, medians in results.items():
            cells = [f"{medians[m][key] * scale:,.0f}" for m in options.modes]
            if peers:
                cells.append(f"{medians['ours'][key] / best(medians[p][key] for p in peers):.2f}")
            print(row([name_of(case), *cells]))
        print()
    if "ours full" in options.modes:
        for case, m in results.items():
            time = m["ours full"]["tokens_per_s"] / m["ours"]["tokens_per_s"]
            memory = m["ours"]["resident_bytes"] / m["ours full"]["resident_bytes"]
            print(f"{name_of(case)}: a LoRA step takes {time:.2f} of a full one's time and {memory:.2f} of its memory")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the python of an environment with torch and peft")
    parser.add_argument("--flagscale", default=str(HERE.parents[1] / "build" / "flagscale"))
    parser.add_argument("--cases", nargs="+", default=["135m:1:512:fp32", "135m:1:512:bf16", "135m:1:512:fp32:0.3"])
    parser.add_argument("--modes", nargs="+", default=["ours", "ours 8bit", "ours 4bit", "eager", "eager tuned"],
                        choices=(*OURS, *PEERS))
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="timed steps a run, after two more")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--log", default=os.devnull)
    options = parser.parse_args()
    if "ours" not in options.modes:
        parser.error("--modes needs ours")
    results = {}
    with open(options.log, "a") as log:
        for text in options.cases:
            case = tuple(text.split(":")) + (("1",) if text.count(":") == 3 else ())
            if len(case) != 5:
                parser.error(f"--cases {text}: expected shape:batch:seq:dtype[:learnt]")
            results[case] = measure(case, options, log)
    print_tables(results, options)


if __name__ == "__main__":
    main()
