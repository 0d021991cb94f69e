"""A server under ten times the load that it can bear: overload.py FLAGSCALE MODEL [--seconds 60] [--cores 0,1:2,3]

First as many clients as keep it busy, for its best rate; then requests come at ten times that rate, whether answered or
not. Prints the share of the best rate that is still answered (goal: 95 %), how soon the others are refused with 429 (99 %
within 20 ms, the client's own time included), and how much the server's memory grows (at most 16 MB; its cache is small
enough to be full before, and no two prompts are alike). Exit code 1: one of the three is missed. MODEL: for instance what
tiny_model.py writes, so that the server itself is what takes time. --cores SERVER:CLIENT gives each cores of its own.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile


def resident_mb(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) * 1024 / 1e6


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def on_cores(o, which):
    """For subprocess: what runs the child on its cores alone."""
    if not o.cores:
        return None
    cores = {int(core) for core in o.cores.split(":")[which].split(",")}
    return lambda: os.sched_setaffinity(0, cores)


def load(o, url, folder, *words):
    o.seed += 1
    command = [o.flagscale, "bench", "serve", "--base-url", url, "--disable-tqdm", "--save-result", "--save-detailed",
               "--random-input-len", str(o.input), "--random-output-len", str(o.output), "--temperature", "0", "--seed", str(o.seed),
               "--result-dir", folder, "--result-filename", "run.json", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=on_cores(o, 1))
    return json.loads((pathlib.Path(folder) / "run.json").read_text())


def measure(o, url, pid, folder):
    clients = o.sequences + o.queue // 2
    best = load(o, url, folder, "--num-prompts", 20 * clients, "--max-concurrency", clients)["request_throughput"]
    best = load(o, url, folder, "--num-prompts", int(best * o.seconds / 4), "--max-concurrency", clients)["request_throughput"]
    rate, before, processor = o.times * best, resident_mb(pid), processor_seconds(pid)
    run = load(o, url, folder, "--num-prompts", int(rate * o.seconds), "--request-rate", rate, "--burstiness", "inf")
    grown, processor = resident_mb(pid) - before, processor_seconds(pid) - processor
    refused = sorted(latency * 1e3 for latency, error in zip(run["latencies"], run["errors"]) if error.startswith("429 "))
    others = {error for error in run["errors"] if error and not error.startswith("429 ")}
    # Of the time in which requests came: the last are answered after it.
    goodput = sum(1 for at, error in zip(run["start_times"], run["errors"]) if not error) / max(run["duration"], o.seconds)
    p99 = refused[len(refused) * 99 // 100] if refused else 0
    print(f"best {best:.0f}/s with {clients} clients; offered {rate:.0f}/s for {run['duration']:.1f} s: {len(refused)} refusals, other errors: {others or 'none'}")
    print(f"goodput {goodput:.0f}/s, {100 * goodput / best:.1f} % of the best; refusals within {p99:.1f} ms (99 %; median "
          f"{refused[len(refused) // 2] if refused else 0:.1f} ms)")
    print(f"resident memory {before:.1f} MB and {grown:+.1f}; processor: server {processor / run['duration']:.2f} cores, "
          f"client {run['client_cpu_share']:.2f}")
    return goodput >= 0.95 * best and p99 <= 20 and grown <= 16 and not others


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("flagscale")
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--times", type=float, default=10)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--input", type=int, default=16)
    parser.add_argument("--output", type=int, default=512)
    parser.add_argument("--max-model-len", type=int, default=1024)
    parser.add_argument("--cores")
    parser.set_defaults(seed=0)
    o = parser.parse_args()
    command = [o.flagscale, "serve", o.model, "--port", "0", "--max-num-seqs", str(o.sequences),
               "--max-queued-requests", str(o.queue), "--max-model-len", str(o.max_model_len)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=on_cores(o, 0))
    with tempfile.TemporaryDirectory() as folder:
        line = server.stdout.readline()
        print(line.strip())
        met = measure(o, line.split(" at ")[1].split()[0], server.pid, folder)
        server.terminate()
        server.wait()
    sys.exit(0 if met else 1)


main()
