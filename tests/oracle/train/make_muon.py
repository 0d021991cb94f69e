"""Makes tests/golden/train/muon.json: torch.optim.Muon, five steps each.

    python tests/oracle/train/make_muon.py

`matrices`: single matrices under torch.optim.Muon as it is (Newton-Schulz in bf16), and with its steps in fp32; numbers()
gives gradients and start, so that the file holds only where they end. `lora`: PEFT's adapter of llama3
(make_lora_train.py's), every A and B a matrix of its own, steps in fp32, Megatron's "spectral" scale: losses and final
norms.
"""
import json
import math

import torch
from transformers.utils import logging

from make_lora_train import GOLDEN, MICRO, SETTINGS, OnlyAdapter, compact, load, summary
from make_optimizers import orthogonal_in_fp32
from reference_adamw import train

STEPS = 5
ORIGINAL = torch.optim._muon._zeropower_via_newtonschulz, torch.optim._muon._adjust_lr
CASES = [(24, 40, True), (40, 24, False), (8, 96, True), (96, 8, False)]
LORA = SETTINGS | {"lr": 5e-3, "min_lr": 1e-3, "lr_warmup_samples": 8, "muon_momentum": 0.95}


def numbers(state, count):
    """A linear congruential generator's next, in [-1, 1)."""
    values = []
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append(state / 2**31 - 1)
    return state, torch.tensor(values, dtype=torch.float64).float()


def final(rows, columns, nesterov):
    state, start = numbers(7, rows * columns)
    matrix = torch.nn.Parameter(start.reshape(rows, columns))
    muon = torch.optim.Muon([matrix], lr=0.02, weight_decay=0.1, momentum=0.9, nesterov=nesterov)
    for _ in range(STEPS):
        state, gradient = numbers(state, rows * columns)
        matrix.grad = gradient.reshape(rows, columns)
        muon.step()
    return [round(v, 7) for v in matrix.detach().flatten().tolist()]


def matrix_case(rows, columns, nesterov):
    torch.optim._muon._zeropower_via_newtonschulz, torch.optim._muon._adjust_lr = ORIGINAL
    case = {"rows": rows, "columns": columns, "nesterov": nesterov, "bf16": final(rows, columns, nesterov)}
    torch.optim._muon._zeropower_via_newtonschulz = orthogonal_in_fp32
    return case | {"fp32": final(rows, columns, nesterov)}


def apart(decayed, kept, s):
    torch.optim._muon._zeropower_via_newtonschulz = orthogonal_in_fp32
    torch.optim._muon._adjust_lr = lambda lr, _, shape: lr * math.sqrt(max(shape))
    return [torch.optim.Muon([m for _, m in decayed], lr=1, weight_decay=s["weight_decay"], momentum=s["muon_momentum"],
                             nesterov=False)]


def lora():
    tokens = torch.tensor(json.loads((GOLDEN / "train" / "tokens.json").read_text()))
    model = OnlyAdapter(load("llama3", GOLDEN / "train" / "lora" / "llama3", torch.float32))
    record, weights = train(model, tokens[:STEPS], MICRO, LORA, apart)
    return {"settings": LORA, "loss": record["loss"], "grad_norm": record["grad_norm"],
            "final": {n: summary(w)["norm"] for n, w in weights.items()}}


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    result = {"matrices": [matrix_case(*case) for case in CASES], "lora": lora()}
    (GOLDEN / "train" / "muon.json").write_text(compact(result) + "\n")
    print("losses", *(f"{x:.4f}" for x in result["lora"]["loss"]))


if __name__ == "__main__":
    main()
