"""Makes tests/golden/lora: PEFT adapters of the tiny qwen3 golden model, and its logits with each.

    python tests/oracle/model/make_lora.py

all:    rank 4 on every projection.
rslora: rank 8 on q and v, scaled by the root of the rank, with another rank and alpha for one module; bf16.
zero:   as PEFT starts it, B zero.
oracle.safetensors: input_ids [24] and, for each adapter, logits [24, vocab] in fp32.
"""
import json
import pathlib
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden"
BASE, OUT = GOLDEN / "model" / "qwen3", GOLDEN / "lora"
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CONFIGS = {
    "all": LoraConfig(r=4, lora_alpha=8, target_modules=ALL, task_type="CAUSAL_LM"),
    "rslora": LoraConfig(
        r=8,
        lora_alpha=6,
        use_rslora=True,
        target_modules=["q_proj", "v_proj"],
        rank_pattern={"layers.1.self_attn.v_proj": 3},
        alpha_pattern={"layers.1.self_attn.v_proj": 5},
        task_type="CAUSAL_LM",
    ),
    "zero": LoraConfig(r=2, lora_alpha=4, target_modules=ALL, task_type="CAUSAL_LM"),
}


def base_model():
    return AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()


def make(name, config):
    model = get_peft_model(base_model(), config)
    for key, parameter in model.named_parameters():
        if "lora_" in key and name != "zero":
            torch.nn.init.normal_(parameter, std=0.2)
    if name == "rslora":
        model.to(torch.bfloat16)
    model.save_pretrained(OUT / name)
    (OUT / name / "README.md").unlink(missing_ok=True)
    file = OUT / name / "adapter_config.json"
    settings = json.loads(file.read_text())
    settings["base_model_name_or_path"] = "qwen3"  # not a path of the machine that made it
    settings["target_modules"] = sorted(settings["target_modules"])
    file.write_text(json.dumps(settings, indent=1) + "\n")


@torch.no_grad()
def main():
    torch.manual_seed(7)
    shutil.rmtree(OUT, ignore_errors=True)
    ids = load_file(BASE / "oracle.safetensors")["input_ids"][:1]
    oracle = {"input_ids": ids[0].contiguous()}
    for name, config in CONFIGS.items():
        make(name, config)
        model = PeftModel.from_pretrained(base_model(), OUT / name).float().eval()
        oracle[name] = model(input_ids=ids).logits[0].contiguous()
    save_file(oracle, OUT / "oracle.safetensors")


if __name__ == "__main__":
    main()
