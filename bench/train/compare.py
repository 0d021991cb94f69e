#!/usr/bin/env python3
"""Training speed beside PyTorch's: the tables of docs/performance.md, made again.

    python3 -m venv venv && venv/bin/pip install torch numpy
    bench/train/compare.py --python venv/bin/python [--shapes 15m:8:256 ...] [--dtypes fp32 bf16] [--rounds 3]

Ours and the peer's modes take turns, `rounds` times, on the same threads; medians count. The peer runs eager and
compiled; `tuned` are the same with glibc told to keep freed memory and to use huge pages, which PyTorch's defaults do not.
A compiled peer's first round starts with an empty compiler cache, and its time to step 1 is that round's.
Progress goes to standard error, the tables (Markdown) to standard output, every run to --log as JSON lines.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TUNED = {"MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
         "MALLOC_TOP_PAD_": str(256 << 20), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
MODES = ("ours", "eager", "compiled", "eager tuned", "compiled tuned")


def command(mode, case, options):
    shape, batch, seq, dtype = case
    common = ["--shape", shape, "--batch", batch, "--seq", seq, "--steps", str(options.steps),
              "--threads", str(options.threads)]
    if mode == "ours":
        return [options.flagscale, "bench", "train", *common, "--dtype", "fp32" if dtype == "fp32" else "bf16", "--json"]
    return [options.python, str(HERE / "torch_peer.py"), *common, "--dtype", dtype,
            "--mode", "compile" if mode.startswith("compiled") else "eager"]


def execute(words, mode, case, options, **environment):
    """What the last line that a mode's command prints says; peak_bytes is what was resident."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), **environment}
    if mode.endswith("tuned"):
        environment.update(TUNED)
    result = subprocess.run(words, env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{mode} on {case} failed:\n{result.stderr[-2000:]}")
    reading = json.loads(result.stdout.strip().splitlines()[-1])
    reading["peak_bytes"] = reading.get("resident_bytes", reading.get("peak_bytes"))  # ours: not the allocator's alone
    return reading


def run(mode, case, options, cache):
    reading = execute(command(mode, case, options), mode, case, options, TORCHINDUCTOR_CACHE_DIR=cache)
    if mode == "ours":
        reading["end_of_step_1_s"] = reading["first_step_start_s"] + reading["first_step_s"]
    return reading


def in_turn(case, options, log, run_one):
    """The readings of every mode, whose runs take turns."""
    readings = {mode: [] for mode in options.modes}
    for turn in range(options.rounds):
        for mode in options.modes:
            reading = run_one(mode)
            readings[mode].append(reading)
            print(f"{':'.join(case)} {mode} {turn + 1}/{options.rounds}: {reading['tokens_per_s']:.0f} tokens/s, "
                  f"{reading['peak_bytes'] / 1e6:.0f} MB", file=sys.stderr)
            log.write(json.dumps({"case": case, "mode": mode, "round": turn, **reading}) + "\n")
            log.flush()
    return readings


def measure(case, options, log):
    caches = {mode: tempfile.mkdtemp() for mode in options.modes}
    readings = in_turn(case, options, log, lambda mode: run(mode, case, options, caches[mode]))
    for cache in caches.values():
        shutil.rmtree(cache)
    return readings


def median(readings, key):
    return statistics.median(reading[key] for reading in readings)


def row(cells):
    return "| " + " | ".join(cells) + " |"


def name_of(case):
    return f"{case[0]} B{case[1]} T{case[2]} {case[3]}"


def table(title, cases, options, cell, last=None, named=name_of):
    lines = [row([title, *options.modes, *([last[0]] if last else [])])]
    lines.append("|" + "---|" * (len(options.modes) + 1 + bool(last)))
    for case, readings in cases.items():
        lines.append(row([named(case), *(cell(readings[m]) for m in options.modes), *([last[1](readings)] if last else [])]))
    return "\n".join(lines) + "\n"


def best_ratio(key, best, ours_over):
    def ratio(readings):
        peers = [median(r, key) for mode, r in readings.items() if not mode.startswith("ours")]
        return f"{median(readings['ours'], key) / best(peers):.2f}" if peers else "-"
    return (ours_over, ratio)


def own_row(name, readings):
    ours = readings["ours"]
    return row([name, f"{100 * median([{'x': r['gflops'] / r['ceiling_gflops']} for r in ours], 'x'):.0f} %",
                f"{median(ours, 'first_step_start_s'):.2f} s",
                f"{median([{'x': r['first_step_s'] / r['step_s']} for r in ours], 'x'):.2f}",
                f"{ours[0]['planned_bytes'] / 1e6:.0f} MB", f"{median(ours, 'resident_bytes') / 1e6:.0f} MB"])


def print_tables(cases, options):
    print(table("tokens/s", cases, options, lambda r: f"{median(r, 'tokens_per_s'):,.0f}",
                best_ratio("tokens_per_s", max, "ours / best peer")))
    print(table("peak memory, MB", cases, options, lambda r: f"{median(r, 'peak_bytes') / 1e6:,.0f}",
                best_ratio("peak_bytes", min, "ours / least peer")))
    print(table("process start to the end of step 1, s", cases, options, lambda r: f"{r[0]['end_of_step_1_s']:.1f}"))
    print(row(["ours", "share of the ceiling", "start to step 1", "step 1 / later", "planned", "resident"]))
    print("|" + "---|" * 6)
    for case, readings in cases.items():
        print(own_row(name_of(case), readings))


def common_parser(description, needs, steps, python=None):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=python is None, default=python, help=f"the python of an environment with {needs}")
    parser.add_argument("--flagscale", default=str(HERE.parents[1] / "build" / "flagscale"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=steps, help="timed steps a run, after two more")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--log", default=os.devnull)
    return parser


def main():
    parser = common_parser(__doc__, "torch", 6)
    parser.add_argument("--shapes", nargs="+", default=["15m:8:256", "124m:4:64", "124m:1:1024", "135m:1:512"],
                        help="shape:batch:seq")
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "bf16"], choices=("fp32", "bf16", "autocast"))
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    options = parser.parse_args()
    if "ours" not in options.modes:
        parser.error("--modes needs ours")
    cases = {}
    with open(options.log, "a") as log:
        for dtype in options.dtypes:
            for shape in options.shapes:
                case = (*shape.split(":"), dtype)
                if len(case) != 4:
                    parser.error(f"--shapes {shape}: expected shape:batch:seq")
                cases[case] = measure(case, options, log)
    print_tables(cases, options)


if __name__ == "__main__":
    main()
