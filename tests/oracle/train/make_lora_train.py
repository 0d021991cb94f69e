"""Makes tests/golden/train/lora/<name>/: 20 steps of LoRA training by PEFT, as make_train.py does in full.

    python tests/oracle/train/make_lora_train.py

The tokens, batches and optimizer are make_train.py's; A and B alone are trained, from adapter_config.json
and adapter_model.safetensors (B random, so that every gradient is seen at once). train.json holds the run
in fp32 and bf16; gradients.safetensors the adapter's gradients of the first batch in fp32, before clipping.
"""
import json
import pathlib
import shutil
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from make_train import GOLDEN, MICRO, RUN, compact, summary
from reference_adamw import train

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CONFIGS = {
    "llama3": LoraConfig(r=4, lora_alpha=8, target_modules=ALL, task_type="CAUSAL_LM"),
    "qwen2": LoraConfig(r=5, lora_alpha=10, target_modules=["k_proj", "v_proj", "gate_proj"], task_type="CAUSAL_LM"),
    "qwen3_tied": LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
}
SETTINGS = RUN | {"lr": 1e-2, "min_lr": 1e-3}


def base(name, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(GOLDEN / "model" / name, dtype=dtype)


def short(name):
    return name.removeprefix("base_model.model.").replace(".default", "")


def adapter(model):
    return [(short(n), p) for n, p in model.named_parameters() if "lora_" in n]


class OnlyAdapter(torch.nn.Module):
    """What reference_adamw sees: the adapter's parameters and no others."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def named_parameters(self, *args, **kwargs):
        return iter(adapter(self.model))

    def forward(self, **kwargs):
        return self.model(**kwargs)


def start(name, folder):
    model = get_peft_model(base(name), CONFIGS[name])
    for key, parameter in adapter(model):
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    settings = json.loads(file.read_text())
    settings["base_model_name_or_path"] = name
    settings["target_modules"] = sorted(settings["target_modules"])
    file.write_text(json.dumps(settings, indent=1) + "\n")


def load(name, folder, dtype):
    return PeftModel.from_pretrained(
        base(name, dtype), folder, is_trainable=True, autocast_adapter_dtype=False).to(dtype).train()


def gradients(name, folder, batch):
    model = load(name, folder, torch.float32)
    pieces = batch.split(MICRO)
    for piece in pieces:
        logits = model(input_ids=piece[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), piece[:, 1:].flatten())
        (loss / len(pieces)).backward()
    return {n: p.grad.contiguous() for n, p in adapter(model)}


def run(name, folder, tokens, dtype):
    record, weights = train(OnlyAdapter(load(name, folder, dtype)), tokens, MICRO, SETTINGS)
    return record | {"final": {n: summary(w) for n, w in weights.items()}}


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    torch.manual_seed(11)
    tokens = torch.tensor(json.loads((GOLDEN / "train" / "tokens.json").read_text()))
    for name in sys.argv[1:] or CONFIGS:
        folder = GOLDEN / "train" / "lora" / name
        shutil.rmtree(folder, ignore_errors=True)
        start(name, folder)
        save_file(gradients(name, folder, tokens[0]), folder / "gradients.safetensors")
        result = {"model": name, "settings": SETTINGS} | {
            d: run(name, folder, tokens, t) for d, t in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
        text = ",\n".join(f'"{k}": {compact(v)}' for k, v in result.items())
        (folder / "train.json").write_text("{" + text + "}\n")
        losses = result["fp32"]["loss"]
        print(f"{name:11} loss {losses[0]:.4f} .. {losses[-1]:.4f}, grad norm {result['fp32']['grad_norm'][0]:.2f}")


if __name__ == "__main__":
    main()
