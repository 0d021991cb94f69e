"""Makes tests/golden/train/state_types.json: PyTorch's fused AdamW over weights, gradients and moments in bf16.

    python tests/oracle/train/make_state_types.py

`updates`: for 50 numbers, what three updates with clipping and weight decay make of bf16 weights and moments; the
numbers are bf16's, so that they say the bits. `train`: make_train.py's 20 steps of llama3 with bf16 weights that are
updated themselves; gradients of both micro-batches add up in bf16, in the weights' `grad`.
"""
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from make_train import GOLDEN, MICRO, RUN, compact, make_tokens, summary
from reference_adamw import learning_rate


def fused(decayed, kept, settings):
    groups = [{"params": decayed, "weight_decay": settings["weight_decay"]}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=torch.tensor(0.0), fused=True,
                             betas=(settings["adam_beta1"], settings["adam_beta2"]), eps=settings["adam_eps"])


def step(optimizer, gradients, lr, clip):
    """One update of clipped gradients; the norm before. The kernel itself scales them, in fp32."""
    norm = torch.stack([g.double().square().sum() for g in gradients]).sum().sqrt().item()
    optimizer.grad_scale = torch.tensor(max(1.0, (norm + 1e-6) / clip))
    optimizer.found_inf = torch.tensor(0.0)
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(lr)
    optimizer.step()
    return norm


def updates():
    generator = torch.Generator().manual_seed(7)
    weight = torch.nn.Parameter(torch.randn(50, generator=generator).bfloat16())
    optimizer = fused([weight], [], RUN)
    record = {"lr": 0.02, "clip": 3.0, "before": weight.tolist(), "steps": []}
    for _ in range(3):
        gradient = torch.randn(50, generator=generator).bfloat16()
        weight.grad = gradient.clone()
        norm = step(optimizer, [gradient], record["lr"], record["clip"])
        state = optimizer.state[weight]
        record["steps"].append({"gradient": gradient.tolist(), "norm": norm, "weight": weight.tolist(),
                                "exp_avg": state["exp_avg"].tolist(), "exp_avg_sq": state["exp_avg_sq"].tolist()})
    return record


def train():
    model = AutoModelForCausalLM.from_pretrained(GOLDEN / "model" / "llama3", dtype=torch.bfloat16).train()
    named = list(model.named_parameters())
    decays = [p.dim() > 1 and not n.endswith(".bias") for n, p in named]
    optimizer = fused([p for (_, p), d in zip(named, decays) if d], [p for (_, p), d in zip(named, decays) if not d],
                      RUN)
    record, samples = {"loss": [], "grad_norm": []}, 0
    for batch in make_tokens():
        pieces, total = batch.split(MICRO), 0.0
        for piece in pieces:
            logits = model(input_ids=piece[:, :-1]).logits.float()
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), piece[:, 1:].flatten())
            (loss / len(pieces)).backward()
            total += loss.item() / len(pieces)
        record["loss"].append(total)
        record["grad_norm"].append(step(optimizer, [p.grad for _, p in named], learning_rate(RUN, samples),
                                        RUN["clip_grad"]))
        optimizer.zero_grad(set_to_none=True)
        samples += len(batch)
    return record | {"final": {n: summary(p.detach()) for n, p in named}}


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    result = {"settings": RUN, "updates": updates(), "train": train()}
    text = ",\n".join(f'"{k}": {compact(v)}' for k, v in result.items())
    (GOLDEN / "train" / "state_types.json").write_text("{" + text + "}\n")
    print(f"loss {result['train']['loss'][0]:.4f} .. {result['train']['loss'][-1]:.4f}")


if __name__ == "__main__":
    main()
