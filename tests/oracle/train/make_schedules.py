"""Tabulates learning rates and weight decays: tests/golden/train/schedules.json.

    pip install --no-deps megatron-core
    python tests/oracle/train/make_schedules.py

Everything but stablelm2 comes from Megatron's own OptimizerParamScheduler. stablelm2 is FlagScale's
addition; the formula is restated below. A case holds the settings under Megatron's names, in samples;
`samples[i]` is what was consumed before update i+1, which uses `lr[i]` and `weight_decay[i]`.
"""
import json
import math
import pathlib

from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden" / "train"
BATCH = 8
STEPS = 44

COMMON = {
    "lr": 3e-4,
    "min_lr": 2e-5,
    "lr_warmup_init": 0.0,
    "lr_warmup_samples": 37,  # not a multiple of the batch
    "lr_decay_samples": 320,  # the last four points lie beyond
    "start_weight_decay": 0.1,
    "end_weight_decay": 0.1,
    "weight_decay_incr_style": "constant",
    "weight_decay_incr_samples": 320,
}
WSD = {"lr_decay_style": "WSD", "lr_wsd_decay_samples": 130}
CASES = {
    "constant": {"lr_decay_style": "constant"},
    "linear": {"lr_decay_style": "linear"},
    "cosine": {"lr_decay_style": "cosine"},
    "cosine from a warm-up above zero": {"lr_decay_style": "cosine", "lr_warmup_init": 1e-5},
    "cosine without warm-up": {"lr_decay_style": "cosine", "lr_warmup_samples": 0},
    "inverse-square-root": {"lr_decay_style": "inverse-square-root"},
    "inverse-square-root without warm-up": {
        "lr_decay_style": "inverse-square-root", "lr_warmup_samples": 0, "min_lr": 5e-5},
    "WSD linear": WSD | {"lr_wsd_decay_style": "linear"},
    "WSD cosine": WSD | {"lr_wsd_decay_style": "cosine"},
    "WSD exponential": WSD | {"lr_wsd_decay_style": "exponential"},
    "WSD minus_sqrt": WSD | {"lr_wsd_decay_style": "minus_sqrt"},
    "weight decay linear": {
        "lr_decay_style": "cosine", "start_weight_decay": 0.02, "weight_decay_incr_style": "linear",
        "weight_decay_incr_samples": 200},
    "weight decay cosine": {
        "lr_decay_style": "cosine", "start_weight_decay": 0.0, "weight_decay_incr_style": "cosine"},
}
STABLELM2 = {
    "lr_decay_style": "stablelm2-scheduler",
    "lr_decay_stablelm2_cosine_samples": 120,
    "lr_decay_stablelm2_cosine_max_lr": 3e-4,
    "lr_decay_stablelm2_rsqrt_samples": 100,  # a length: the phase ends at 220
    "lr_decay_stablelm2_alpha": 7e-4,
    "lr_decay_stablelm2_beta": 2.5,
    "lr_decay_stablelm2_cosine_period_samples": 0,
    "lr_decay_stablelm2_decay_samples": 0,
}
STABLELM2_CASES = {
    "stablelm2 to zero": STABLELM2,
    "stablelm2 with a period and a decay": STABLELM2
    | {"lr_decay_stablelm2_cosine_period_samples": 400, "lr_decay_stablelm2_decay_samples": 60},
}


class OneGroup:
    """As much of an optimizer as the scheduler touches."""

    def __init__(self):
        self.param_groups = [{}]


def megatron(case):
    optimizer = OneGroup()
    scheduler = OptimizerParamScheduler(
        optimizer,
        init_lr=case["lr_warmup_init"],
        max_lr=case["lr"],
        min_lr=case["min_lr"],
        lr_warmup_steps=case["lr_warmup_samples"],
        lr_decay_steps=case["lr_decay_samples"],
        lr_decay_style=case["lr_decay_style"],
        start_wd=case["start_weight_decay"],
        end_wd=case["end_weight_decay"],
        wd_incr_steps=case["weight_decay_incr_samples"],
        wd_incr_style=case["weight_decay_incr_style"],
        wsd_decay_steps=case.get("lr_wsd_decay_samples"),
        lr_wsd_decay_style=case.get("lr_wsd_decay_style"),
    )
    group = optimizer.param_groups[0]
    rows = []
    for step in range(STEPS):
        rows.append((group["lr"], group["weight_decay"]))
        scheduler.step(BATCH)
        assert scheduler.num_steps == (step + 1) * BATCH
    return rows


def stablelm2(case):
    """Warm-up, a cosine around 0.1..1 of its own maximum, alpha/sqrt(updates + beta), then a line."""
    key = "lr_decay_stablelm2_"
    cosine_end = case[key + "cosine_samples"]
    rsqrt_end = cosine_end + case[key + "rsqrt_samples"]
    decay_end = case["lr_decay_samples"]
    period = case[key + "cosine_period_samples"] or decay_end
    low, high = 0.1 * case[key + "cosine_max_lr"], case[key + "cosine_max_lr"]
    last_rsqrt, rates = 0.0, []
    for s in range(0, STEPS * BATCH, BATCH):
        if s <= case["lr_warmup_samples"]:
            lr = case["lr_warmup_init"] + (case["lr"] - case["lr_warmup_init"]) * s / case["lr_warmup_samples"]
        elif s > decay_end:
            lr = case["min_lr"]
        elif s <= cosine_end:
            lr = low + (high - low) * 0.5 * (math.cos(2 * math.pi * s / period) + 1)
        elif s <= rsqrt_end:
            lr = last_rsqrt = case[key + "alpha"] / math.sqrt(s / BATCH + case[key + "beta"])
        elif case[key + "decay_samples"] <= 0:
            lr = last_rsqrt * (1 - (s - rsqrt_end) / (decay_end - rsqrt_end))
        else:
            end = min(decay_end, rsqrt_end + case[key + "decay_samples"])
            ratio = (s - rsqrt_end) / (end - rsqrt_end)
            lr = case["min_lr"] + (last_rsqrt - case["min_lr"]) * (1 - ratio) if s <= end else case["min_lr"]
        rates.append((lr, case["end_weight_decay"]))
    return rates


def main():
    cases = []
    for compute, table in ((megatron, CASES), (stablelm2, STABLELM2_CASES)):
        for name, changes in table.items():
            case = COMMON | changes
            lr, weight_decay = zip(*compute(case))
            cases.append({"name": name, "settings": case, "lr": lr, "weight_decay": weight_decay})
    GOLDEN.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join("  " + json.dumps(c) for c in cases)
    samples = json.dumps(list(range(0, STEPS * BATCH, BATCH)))
    text = f'{{"global_batch_size": {BATCH}, "samples": {samples},\n "cases": [\n{lines}\n]}}\n'
    (GOLDEN / "schedules.json").write_text(text)
    print(f"{len(cases)} cases, {len(text) // 1024} kB")


if __name__ == "__main__":
    main()
