"""Makes tests/golden/train/{tokens,llama3,qwen2,qwen3_tied,qwen2_window}.json: 20 steps by PyTorch, and gradients/.

    python tests/oracle/train/make_train.py

Starts from the weights in tests/golden/model/<name>. Every step takes the next global batch of 8
sequences of 33 tokens (32 inputs, 32 targets) in two micro-batches of 4. `fp32` holds, for each step,
the loss before the update (mean over its 256 tokens), the norm of the gradient before clipping and the
lr that the update used, and for each final weight its norm, sum and first four values. `bf16` is the
same with bf16 weights and activations, fp32 masters and fp32 accumulation (final: the masters).

gradients/<name>.safetensors holds the gradients of the first micro-batch in fp64, rounded to fp32, and
gradients/errors.json how far PyTorch's in bf16 are from them: by tensor, and "all" together, the norm of
the difference over the norm.
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from reference_adamw import SETTINGS, train

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden"
NAMES = ("llama3", "qwen2", "qwen3_tied", "qwen2_window")
WITH_GRADIENTS = ("llama3", "qwen3_tied")
STEPS, BATCH, MICRO, LENGTH, VOCABULARY = 20, 8, 4, 32, 128
RUN = SETTINGS | {
    "lr": 2e-3,
    "min_lr": 2e-4,
    "lr_warmup_samples": 4 * BATCH,
    "lr_decay_samples": STEPS * BATCH,
    "seq_length": LENGTH,
    "micro_batch_size": MICRO,
    "global_batch_size": BATCH,
    "train_iters": STEPS,
}


def make_tokens():
    """Mostly t -> 5t+3 modulo the vocabulary, now and then a random token: something to learn."""
    generator = torch.Generator().manual_seed(20)
    shape = (STEPS, BATCH, LENGTH + 1)
    noise = torch.randint(0, VOCABULARY, shape, generator=generator)
    jump = torch.rand(shape, generator=generator) < 0.15
    jump[..., 0] = True
    tokens = noise.clone()
    for i in range(1, LENGTH + 1):
        tokens[..., i] = torch.where(jump[..., i], noise[..., i], (5 * tokens[..., i - 1] + 3) % VOCABULARY)
    return tokens


def summary(tensor):
    t = tensor.double()
    return {"norm": t.norm().item(), "sum": t.sum().item(), "first": tensor.float().flatten()[:4].tolist()}


def run(name, tokens, dtype):
    model = AutoModelForCausalLM.from_pretrained(GOLDEN / "model" / name, dtype=dtype)
    record, weights = train(model.train(), tokens, MICRO, RUN)
    return record | {"final": {n: summary(w) for n, w in weights.items()}}


def gradients(name, rows, dtype):
    model = AutoModelForCausalLM.from_pretrained(GOLDEN / "model" / name, dtype=dtype)
    logits = model(input_ids=rows[:, :-1]).logits
    logits = logits if dtype == torch.float64 else logits.float()
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).backward()
    return {n: p.grad.double() for n, p in model.named_parameters()}


def write_gradients(tokens):
    folder = GOLDEN / "train" / "gradients"
    folder.mkdir(exist_ok=True)
    errors = {}
    for name in WITH_GRADIENTS:
        exact, rounded = (gradients(name, tokens[0, :MICRO], t) for t in (torch.float64, torch.bfloat16))
        apart = lambda a, b: ((a - b).norm() / b.norm()).item()
        errors[name] = {n: apart(rounded[n], g) for n, g in exact.items()}
        errors[name]["all"] = apart(*(torch.cat([g.flatten() for g in of.values()]) for of in (rounded, exact)))
        save_file({n: g.float() for n, g in exact.items()}, folder / f"{name}.safetensors")
    (folder / "errors.json").write_text(json.dumps(errors, indent=1) + "\n")


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    folder = GOLDEN / "train"
    folder.mkdir(parents=True, exist_ok=True)
    tokens = make_tokens()
    (folder / "tokens.json").write_text(compact(tokens.tolist()) + "\n")
    write_gradients(tokens)
    for name in sys.argv[1:] or NAMES:
        result = {"model": name, "settings": RUN} | {
            d: run(name, tokens, t) for d, t in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
        result["bf16_loss_error"] = max(
            abs(a - b) / abs(b) for a, b in zip(result["bf16"]["loss"], result["fp32"]["loss"]))
        text = ",\n".join(f'"{k}": {compact(v)}' for k, v in result.items())
        (folder / f"{name}.json").write_text("{" + text + "}\n")
        losses = result["fp32"]["loss"]
        print(f"{name:11} loss {losses[0]:.4f} .. {losses[-1]:.4f}, grad norm {result['fp32']['grad_norm'][0]:.2f},"
              f" bf16 differs by {result['bf16_loss_error']:.1e}")


if __name__ == "__main__":
    main()
