"""Makes tests/golden/train/optimizers.json: 20 steps of training by each optimizer, as make_train.py's by AdamW.

    pip install lion-pytorch==0.2.5 bitsandbytes==0.50.2
    python tests/oracle/train/make_optimizers.py

sgd is torch.optim.SGD, lion lion_pytorch's, adafactor transformers', muon torch.optim.Muon with its Newton-Schulz
steps in fp32 instead of bf16 and Megatron-core's scale factors, over q, k, v and gate with up as Megatron has them;
AdamW takes what Muon leaves. adamw8bit is bitsandbytes' block-wise algorithm (its own kernels run on a GPU alone): its
CPU functions decode and encode the states, the arithmetic between them is stated here. Each case holds
`keys` (flagscale's), the model, the loss and gradient norm of every step in fp32 and each final weight's norm.
"""
import json
import math
import pathlib

import torch
from bitsandbytes.functional import create_dynamic_map, dequantize_blockwise, quantize_blockwise
from bitsandbytes.functional import QuantState
from lion_pytorch import Lion
from transformers import Adafactor, AutoModelForCausalLM
from transformers.utils import logging

from make_train import GOLDEN, MICRO, RUN, compact, summary
from reference_adamw import adamw, train

DEFAULTS = {"sgd_momentum": 0.9, "lion_beta1": 0.9, "lion_beta2": 0.99, "adafactor_decay_rate": -0.8,
            "adafactor_clip_threshold": 1.0, "adafactor_scale_parameter": False, "muon_momentum": 0.95,
            "muon_use_nesterov": False, "muon_no_split_qkv": False, "muon_scale_mode": "spectral",
            "muon_num_ns_steps": 5, "muon_extra_scale_factor": 1.0}
CASES = [
    ("llama3", {"optimizer": "sgd", "lr": 0.1}),
    ("qwen2", {"optimizer": "sgd", "sgd_momentum": 0.0, "lr": 0.3}),
    ("llama3", {"optimizer": "lion", "lr": 5e-4}),
    ("qwen3_tied", {"optimizer": "lion", "lr": 5e-4, "lion_beta1": 0.8, "lion_beta2": 0.95}),
    ("llama3", {"optimizer": "adafactor", "lr": 2e-3}),
    ("qwen2", {"optimizer": "adafactor", "lr": 2e-2, "adafactor_scale_parameter": True, "adafactor_decay_rate": -0.6,
               "adafactor_clip_threshold": 0.7}),
    ("llama3", {"optimizer": "muon", "lr": 2e-3}),
    ("qwen2", {"optimizer": "muon", "lr": 2e-3, "muon_use_nesterov": True, "muon_momentum": 0.9,
               "muon_scale_mode": "shape_scaling", "muon_extra_scale_factor": 2.0, "muon_num_ns_steps": 4}),
    ("qwen3_tied", {"optimizer": "muon", "lr": 2e-3, "muon_no_split_qkv": True, "muon_scale_mode": "unit_rms_norm"}),
    ("llama3", {"optimizer": "adamw8bit", "lr": 2e-3}),
]


def groups(decayed, kept, settings):
    return [{"params": [m for _, m in decayed], "weight_decay": settings["weight_decay"]},
            {"params": [m for _, m in kept], "weight_decay": 0.0}]


def sgd(decayed, kept, s):
    return [torch.optim.SGD(groups(decayed, kept, s), lr=1, momentum=s["sgd_momentum"], foreach=False)]


def lion(decayed, kept, s):
    return [Lion(groups(decayed, kept, s), betas=(s["lion_beta1"], s["lion_beta2"]))]


def adafactor(decayed, kept, s):
    return [Adafactor(groups(decayed, kept, s), lr=1, scale_parameter=s["adafactor_scale_parameter"],
                      relative_step=False, warmup_init=False, decay_rate=s["adafactor_decay_rate"],
                      clip_threshold=s["adafactor_clip_threshold"])]


def orthogonal_in_fp32(grad, coefficients, steps, eps):
    """torch.optim._muon's function, without its cast to bf16."""
    a, b, c = coefficients
    x = grad.T if grad.size(0) > grad.size(1) else grad
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if grad.size(0) > grad.size(1) else x


class Muon:
    """torch.optim.Muon over the matrices that Megatron has: some are several parameters beside one another."""

    def __init__(self, named, s):
        torch.optim._muon._zeropower_via_newtonschulz = orthogonal_in_fp32
        together = {}
        for name, parameter in named:
            layer, _, short = name.rpartition(".")[0].rpartition(".")
            fused = short in ("gate_proj", "up_proj") or short in ("q_proj", "k_proj", "v_proj") and s["muon_no_split_qkv"]
            together.setdefault((layer, "" if fused else short), []).append(parameter)
        self.matrices = [(p, torch.nn.Parameter(torch.cat([q.detach() for q in p]))) for p in together.values()]
        factor = {"spectral": lambda o, i: math.sqrt(max(o, i)), "unit_rms_norm": lambda o, i: math.sqrt(o / i),
                  "shape_scaling": lambda o, i: math.sqrt(max(1, o / i))}[s["muon_scale_mode"]]
        torch.optim._muon._adjust_lr = lambda lr, _, shape: lr * factor(*shape) * s["muon_extra_scale_factor"]
        self.muon = torch.optim.Muon([m for _, m in self.matrices], lr=1, weight_decay=s["weight_decay"],
                                     momentum=s["muon_momentum"], nesterov=s["muon_use_nesterov"],
                                     ns_steps=s["muon_num_ns_steps"])
        self.param_groups = self.muon.param_groups

    def step(self):
        for parts, matrix in self.matrices:
            matrix.grad = torch.cat([p.grad for p in parts])
        self.muon.step()
        for parts, matrix in self.matrices:
            for part, value in zip(parts, matrix.detach().split([len(p) for p in parts])):
                part.detach().copy_(value)


def muon(decayed, kept, s):
    ends = ("embed_tokens.weight", "lm_head.weight")
    inner = [(n, p) for n, p in decayed if not n.endswith(ends)]
    return [Muon(inner, s)] + adamw([(n, p) for n, p in decayed if n.endswith(ends)], kept, s)


class AdamW8bit(torch.optim.Optimizer):
    """bitsandbytes' kOptimizerStatic8bit2StateBlockwise for Adam; below 4096 elements its 32-bit one, and for embeddings,
    as transformers' Trainer asks of it."""
    MAPS = create_dynamic_map(True), create_dynamic_map(False)

    def __init__(self, groups, betas, eps, embeddings):
        super().__init__(groups, {"lr": 1, "weight_decay": 0, "betas": betas, "eps": eps})
        self.embeddings = embeddings

    def moved(self, state, index, share, value, large):
        old = state.get(index)
        if isinstance(old, tuple):
            old = dequantize_blockwise(old[0], quant_state=old[1])
        now = share * (old if old is not None else torch.zeros_like(value)) + (1 - share) * value
        kept = now
        if large:
            code = self.MAPS[index]
            numbers, quant = quantize_blockwise(now, code=code, blocksize=256)
            if index == 0:  # a sign stays: below the least negative number it is that, not 0
                numbers[(now < 0) & (numbers == 127)] = 126
            kept = numbers, QuantState(absmax=quant.absmax, code=code, blocksize=256, dtype=torch.float32)
        state[index] = kept
        return now

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                step = state["step"] = state.get("step", 0) + 1
                large = p.numel() >= 4096 and not any(p is e for e in self.embeddings)
                m = self.moved(state, 0, beta1, p.grad, large)
                v = self.moved(state, 1, beta2, p.grad.square(), large)
                bias1, bias2 = 1 - beta1**step, math.sqrt(1 - beta2**step)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(m / (v.sqrt() + bias2 * group["eps"]), alpha=-group["lr"] * bias2 / bias1)


def adamw8bit(decayed, kept, s):
    embeddings = [p for n, p in decayed if n.endswith("embed_tokens.weight")]
    return [AdamW8bit(groups(decayed, kept, s), (s["adam_beta1"], s["adam_beta2"]), s["adam_eps"], embeddings)]


def run(model, keys, tokens):
    settings = RUN | DEFAULTS | keys | {"min_lr": keys["lr"] / 10}
    network = AutoModelForCausalLM.from_pretrained(GOLDEN / "model" / model, dtype=torch.float32).train()
    record, weights = train(network, tokens, MICRO, settings, globals()[keys["optimizer"]])
    final = {n: summary(w)["norm"] for n, w in weights.items()}
    print(f"{model:11} {keys['optimizer']:10} loss {record['loss'][0]:.4f} .. {record['loss'][-1]:.4f}")
    return {"model": model, "keys": keys, "settings": settings, "loss": record["loss"], "grad_norm": record["grad_norm"],
            "final": final}


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    tokens = torch.tensor(json.loads((GOLDEN / "train" / "tokens.json").read_text()))
    cases = ",\n".join(compact(run(model, keys, tokens)) for model, keys in CASES)
    (GOLDEN / "train" / "optimizers.json").write_text(f"[\n{cases}\n]\n")


if __name__ == "__main__":
    main()
