"""The peer of compare.py: a LLaMA-shaped decoder trained in PyTorch on random tokens, as a careful user would write it.

    python torch_peer.py --shape 15m --batch 8 --seq 256 --dtype bf16 --mode compile --steps 10

SDPA attention, fused AdamW, clipping, tied head, mean cross-entropy. `bf16` holds weights and moments in bf16
alone; `autocast` keeps fp32 weights, as flagscale does. Prints one JSON line; seconds count from process start.
"""
import argparse
import json
import os
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

SHAPES = {  # layers, hidden, heads, kv_heads, ffn, vocab: as in src/train/bench.cc
    "15m": (6, 288, 6, 6, 768, 32000),
    "124m": (12, 768, 12, 12, 2048, 50304),
    "135m": (30, 576, 9, 3, 1536, 49152),
    "1b": (16, 2048, 32, 8, 8192, 128256),
    "8b": (32, 4096, 32, 8, 14336, 128256),
}
UNTIED = {"8b"}


def process_age():
    with open("/proc/self/stat") as file:
        start = int(file.read().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start / os.sysconf("SC_CLK_TCK")


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, 1e-5)


class Block(nn.Module):
    def __init__(self, hidden, heads, kv_heads, ffn):
        super().__init__()
        self.sizes = [heads * (hidden // heads), kv_heads * (hidden // heads), kv_heads * (hidden // heads)]
        self.head_dim, self.grouped = hidden // heads, heads != kv_heads
        self.norm1, self.norm2 = Norm(hidden), Norm(hidden)
        self.qkv = nn.Linear(hidden, sum(self.sizes), bias=False)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.gate_up = nn.Linear(hidden, 2 * ffn, bias=False)
        self.down = nn.Linear(ffn, hidden, bias=False)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        parts = self.qkv(self.norm1(x)).split(self.sizes, -1)
        q, k, v = (y.view(batch, length, -1, self.head_dim).transpose(1, 2) for y in parts)
        mixed = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True,
                                               enable_gqa=self.grouped)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, layers, hidden, heads, kv_heads, ffn, vocab):
        super().__init__()
        self.embedding = nn.Embedding(vocab, hidden)
        self.blocks = nn.ModuleList(Block(hidden, heads, kv_heads, ffn) for _ in range(layers))
        self.norm = Norm(hidden)
        self.head = nn.Linear(hidden, vocab, bias=False)
        self.head.weight = self.embedding.weight
        self.head_dim = hidden // heads
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def hidden(self, tokens):
        here = {"device": tokens.device, "dtype": torch.float32}
        frequencies = 10000.0 ** (-torch.arange(0, self.head_dim, 2, **here) / self.head_dim)
        angles = torch.arange(tokens.shape[1], **here)[:, None] * frequencies
        h = self.embedding(tokens)
        cos, sin = (torch.cat((x, x), -1).to(h.dtype) for x in (angles.cos(), angles.sin()))
        for block in self.blocks:
            h = block(h, cos, sin)
        return self.norm(h)

    def forward(self, tokens, labels):
        return F.cross_entropy(self.head(self.hidden(tokens)).float().flatten(0, 1), labels.flatten())


def peer_parser(shape, batch, seq, dtypes, steps, modes=("eager", "compile")):
    """What compare.py and compare_lora.py say to a peer; the arguments are defaults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default=shape, choices=SHAPES)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--seq", type=int, default=seq)
    parser.add_argument("--dtype", default="fp32", choices=dtypes)
    parser.add_argument("--mode", default="eager", choices=modes)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def main():
    options = peer_parser("15m", 8, 256, ("fp32", "bf16", "autocast"), 10).parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    model = Model(*SHAPES[options.shape])
    if options.dtype == "bf16":
        model = model.bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(model) if options.mode == "compile" else model
    tokens = torch.randint(0, SHAPES[options.shape][5], (options.batch, options.seq + 1))
    inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    times = []
    for step in range(options.steps + 2):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.dtype == "autocast"):
            loss = forward(inputs, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        if step == 0:
            first = process_age()
        if step >= 2:
            times.append(time.perf_counter() - start)
    print(json.dumps({"tokens_per_s": options.batch * options.seq / statistics.median(times), "end_of_step_1_s": first,
                      "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "loss": value}))


if __name__ == "__main__":
    main()
