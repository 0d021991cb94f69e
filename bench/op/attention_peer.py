"""Attention of training on an NVIDIA GPU, forward and backward apart, ours beside PyTorch's:

    python attention_peer.py build-cuda/bench/attention_gpu_bench [--rounds 2]

In turn: our program, then cuDNN's attention and FlashAttention 2 as PyTorch has them, causal, in bf16, on the same
shapes. Each is launched twenty times in a row, five times over. The table has medians: TFLOP/s of the causal count (4
operations a pair of query and key forward, 10 backward), and the time of ours by that of the fastest peer. Ours repeats
to the bit; the peers' backward passes do not promise to. Without a program the peers alone.
"""
import argparse
import json
import re
import statistics
import subprocess
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {"cuDNN": SDPBackend.CUDNN_ATTENTION, "FlashAttention 2": SDPBackend.FLASH_ATTENTION}
NAMES = ["ours", *BACKENDS]
SHAPES = [  # batch, tokens, heads, of keys, head_dim; those of attention_gpu_bench.cc
    (64, 1024, 12, 12, 64),
    (8, 4096, 32, 32, 64),
    (8, 4096, 32, 8, 64),
    (2, 4096, 32, 32, 128),
    (1, 8192, 32, 8, 128),
]
LAUNCHES, REPEATS = 20, 5


def operations(shape, which):
    batch, length, heads, _, dim = shape
    return (4 if which == "forward" else 10) * batch * heads * dim * length * (length + 1) / 2


def ours(program):
    """(shape, which): seconds"""
    text = subprocess.run([program, "--benchmark_format=json"], check=True, stdout=subprocess.PIPE).stdout
    times = {}
    for run in json.loads(text)["benchmarks"]:
        if run.get("error_occurred"):
            sys.exit(f"{program}: {run['error_message']}")
        which, *rest = run["name"].split("/")
        shape = tuple(int(re.fullmatch(r"\w+:(\d+)", part)[1]) for part in rest[:5])
        times[shape, which] = run["real_time"] / 1e3  # of milliseconds
    return times


def seconds(launch):
    """Of one launch among many: the host is ahead, so what it takes to call is not in it."""
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    for _ in range(LAUNCHES):
        launch()
    total = 0
    for _ in range(REPEATS):
        start.record()
        for _ in range(LAUNCHES):
            launch()
        stop.record()
        torch.cuda.synchronize()
        total += start.elapsed_time(stop) / 1e3
    return total / REPEATS / LAUNCHES


def peer(backend, shape):
    """which: seconds"""
    batch, length, heads, kv_heads, dim = shape
    # Rows of tokens, as projections leave them.
    q, k, v = (torch.randn(batch, length, n, dim).transpose(1, 2).requires_grad_() for n in (heads, kv_heads, kv_heads))

    def forward():
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=kv_heads != heads)

    with sdpa_kernel(backend):
        out = forward()
        dout = torch.randn_like(out)
        return {"forward": seconds(forward),
                "backward": seconds(lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True))}


def rows(shape, times):
    batch, length, *heads = shape
    lines = []
    for which in ("forward", "backward"):
        medians = {name: statistics.median(t) for name, t in times.get((shape, which), {}).items()}
        rates = [f"{operations(shape, which) / medians[n] / 1e12:.0f}" if n in medians else "-" for n in NAMES]
        peers = [medians[n] for n in BACKENDS if n in medians]
        ratio = f"{medians['ours'] / min(peers):.2f}" if "ours" in medians and peers else "-"
        cells = [f"B{batch} T{length}, " + ", ".join(map(str, heads)), which, *rates, ratio]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", nargs="?")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()

    if not torch.cuda.is_available():
        sys.exit("attention_peer.py: PyTorch sees no GPU")
    torch.manual_seed(0)
    torch.set_default_device("cuda")
    torch.set_default_dtype(torch.bfloat16)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    print("| heads, of them of keys, head_dim | pass | " + " | ".join(NAMES) + " | time, ours / fastest |")
    print("|---" * (len(NAMES) + 3) + "|", flush=True)
    times = {}  # (shape, which): {who: [seconds]}
    for turn in range(options.rounds):
        if options.program:
            for key, time in ours(options.program).items():
                times.setdefault(key, {}).setdefault("ours", []).append(time)
        for shape in SHAPES:
            for name, backend in BACKENDS.items():
                try:
                    measured = peer(backend, shape)
                except RuntimeError as error:
                    print(f"{name} at {shape}: {error}", file=sys.stderr)
                    continue
                for which, time in measured.items():
                    times.setdefault((shape, which), {}).setdefault(name, []).append(time)
            if turn + 1 == options.rounds:
                print(rows(shape, times), flush=True)


if __name__ == "__main__":
    main()
