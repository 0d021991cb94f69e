"""Megatron's optimizer step over PyTorch parameters: groups, schedule, clipping, AdamW or another.

One source for the tiny models and SmolLM2. fp32 masters are the parameters themselves, or, for bf16
parameters, fp32 copies that are rounded back after every update; gradients accumulate in fp32.
"""
import math

import torch

SETTINGS = {
    "adam_beta1": 0.9,
    "adam_beta2": 0.95,
    "adam_eps": 1e-8,
    "weight_decay": 0.1,
    "clip_grad": 1.0,
    "lr_decay_style": "cosine",
    "lr_warmup_init": 0.0,
}


def learning_rate(settings, samples):
    """Linear warm-up from zero (the first update moves nothing), then a cosine to min_lr."""
    high, low, warmup = settings["lr"], settings["min_lr"], settings["lr_warmup_samples"]
    if samples <= warmup:
        return high * samples / warmup
    ratio = (samples - warmup) / (settings["lr_decay_samples"] - warmup)
    return low + (high - low) * 0.5 * (1 + math.cos(math.pi * min(ratio, 1.0)))


def adamw(decayed, kept, settings):
    """Optimizers over [(name, master)] with and without weight decay."""
    groups = [{"params": [m for _, m in decayed], "weight_decay": settings["weight_decay"]},
              {"params": [m for _, m in kept], "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, betas=(settings["adam_beta1"], settings["adam_beta2"]), eps=settings["adam_eps"],
                              foreach=False)]


class Optimizer:
    def __init__(self, named_parameters, settings, make=adamw):
        self.settings, self.samples = settings, 0
        self.parameters = list(named_parameters)
        self.masters = [p if p.dtype == torch.float32 else p.detach().float() for _, p in self.parameters]
        self.sums = [torch.zeros_like(m) for m in self.masters]
        named = [(n, m, p.dim() > 1 and not n.endswith(".bias")) for (n, p), m in zip(self.parameters, self.masters)]
        self.optimizers = make([(n, m) for n, m, d in named if d], [(n, m) for n, m, d in named if not d], settings)

    def accumulate(self):
        """Takes the gradients of one micro-batch."""
        for (_, p), total in zip(self.parameters, self.sums):
            total += p.grad.float()
            p.grad = None

    @torch.no_grad()
    def step(self, samples):
        """One update after a global batch of `samples`; returns (lr it used, norm before clipping)."""
        lr = learning_rate(self.settings, self.samples)
        norm = torch.stack([s.double().square().sum() for s in self.sums]).sum().sqrt().item()
        scale = min(1.0, self.settings["clip_grad"] / (norm + 1e-6))
        for master, total in zip(self.masters, self.sums):
            master.grad = total * scale
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
        for (_, p), master, total in zip(self.parameters, self.masters, self.sums):
            master.grad = None
            total.zero_()
            if p is not master:
                p.copy_(master)
        self.samples += samples
        return lr, norm


def train(model, batches, micro_batch, settings, make=adamw):
    """batches: per step, the sequences [global batch, seq + 1]. The loss of a step is the mean over all
    its tokens; micro-batches are equal, so it is also the mean of theirs."""
    optimizer = Optimizer(model.named_parameters(), settings, make)
    record = {"loss": [], "grad_norm": [], "lr": []}
    for batch in batches:
        pieces, total = batch.split(micro_batch), 0.0
        for piece in pieces:
            logits = model(input_ids=piece[:, :-1]).logits.float()
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), piece[:, 1:].flatten())
            (loss / len(pieces)).backward()
            total += loss.item() / len(pieces)
            optimizer.accumulate()
        lr, norm = optimizer.step(len(batch))
        for key, value in zip(record, (total, norm, lr)):
            record[key].append(value)
    masters = {n: m.detach() for (n, _), m in zip(optimizer.parameters, optimizer.masters)}
    return record, masters
