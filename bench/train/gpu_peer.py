"""The peer on an NVIDIA GPU: torch_peer.py's decoder as fast as PyTorch makes it.

    python gpu_peer.py --shape 124m --batch 64 --seq 1024 --dtype bf16 --steps 50 [--lora 16]

The model is compiled, and a whole step, its update too, is one CUDA graph. --tune says what torch.compile times first:
nothing, its own kernels (max-autotune, products cuBLAS's), or with `all` products too, where Triton's may be faster,
and each kernel's sizes step by step, which takes many minutes. cuDNN's attention, then
FlashAttention's; fused AdamW; cross-entropy by chunks of rows, each with its gradient, so that logits are never all
there. `bf16` holds weights, gradients and moments in bf16 alone; `autocast` keeps fp32 weights. --lora RANK: the
weights are frozen in bf16, every projection has an adapter. Prints one JSON line; seconds count from process start.
"""
import argparse
import json
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import torch_peer
from torch_peer import SHAPES, UNTIED

CHUNKS = 8


class HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of h W^T; the gradients are formed on the way, a chunk of rows at a time."""

    @staticmethod
    def forward(context, h, weight, labels, learns_weight):
        dh, loss = torch.empty_like(h), h.new_zeros((), dtype=torch.float32)
        dweight = torch.zeros_like(weight, dtype=torch.float32) if learns_weight else None
        w = weight.to(h.dtype)
        for x, y, dx in zip(h.chunk(CHUNKS), labels.chunk(CHUNKS), dh.chunk(CHUNKS)):
            logits = (x @ w.t()).float()
            logsum = logits.logsumexp(-1, keepdim=True)
            loss += (logsum - logits.gather(-1, y[:, None])).sum() / len(h)
            onehot = torch.arange(logits.shape[-1], device=h.device) == y[:, None]
            dlogits = (((logits - logsum).exp() - onehot.float()) / len(h)).to(h.dtype)
            dx.copy_(dlogits @ w)
            if learns_weight:
                dweight += dlogits.t() @ x
        context.save_for_backward(dh, dweight.to(weight.dtype) if learns_weight else None)
        return loss

    @staticmethod
    def backward(context, scale):  # of a loss, 1
        dh, dweight = context.saved_tensors
        return dh, dweight, None, None


class Adapted(nn.Module):
    def __init__(self, base, rank):
        super().__init__()
        self.base = base
        self.a = nn.Parameter(torch.randn(rank, base.in_features, dtype=base.weight.dtype) * 0.02)
        self.b = nn.Parameter(torch.zeros(base.out_features, rank, dtype=base.weight.dtype))

    def forward(self, x):
        return self.base(x) + F.linear(F.linear(x, self.a), self.b) * 2.0


class Model(torch_peer.Model):
    def __init__(self, shape, lora):
        super().__init__(*SHAPES[shape])
        if shape in UNTIED:
            self.head.weight = nn.Parameter(torch.randn_like(self.head.weight) * 0.02)
        self.lora = lora

    def adapt(self):
        self.requires_grad_(False)
        for block in self.blocks:
            for name in ("qkv", "out", "gate_up", "down"):
                setattr(block, name, Adapted(getattr(block, name), self.lora))

    def forward(self, tokens, labels):
        h = self.hidden(tokens).flatten(0, 1)
        return HeadLoss.apply(h, self.head.weight, labels.flatten(), not self.lora)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="124m", choices=SHAPES)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seq", type=int, default=1024)
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "autocast"))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--lora", type=int, default=0)
    parser.add_argument("--tune", default="nothing", choices=("nothing", "kernels", "all"))
    options = parser.parse_args()

    torch.manual_seed(0)
    torch.set_default_device("cuda")
    if options.dtype == "bf16" or options.lora:
        torch.set_default_dtype(torch.bfloat16)
    model = Model(options.shape, options.lora)
    if options.lora:
        model.adapt()
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=1e-4, fused=True, capturable=True)
    compiled = torch.compile(model, options={
        "max_autotune": options.tune != "nothing", "coordinate_descent_tuning": options.tune == "all",
        "max_autotune_gemm_backends": "ATEN,TRITON" if options.tune == "all" else "ATEN"})
    tokens = torch.randint(0, SHAPES[options.shape][5], (options.batch, options.seq + 1))
    inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=options.dtype == "autocast"):
            loss = compiled(inputs, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(learnt, 1.0, foreach=True)
        optimizer.step()
        return loss

    times = []
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True):
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for i in range(3):
                loss = step().item()
                if i == 0:
                    first = torch_peer.process_age()
        torch.cuda.synchronize()
        optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = step()
        for i in range(options.steps + 2):
            start = time.perf_counter()
            graph.replay()
            loss = kept.item()
            if i >= 2:
                times.append(time.perf_counter() - start)
    times.sort()
    print(json.dumps({"tokens_per_s": options.batch * options.seq / times[len(times) // 2], "end_of_step_1_s": first,
                      "peak_bytes": torch.cuda.max_memory_reserved(), "loss": loss}))


if __name__ == "__main__":
    main()
