"""Checks that PEFT loads the adapters that `flagscale` trains, and means the same by them.

    python tests/oracle/train/check_peft.py PROGRAM SCRATCH_FOLDER

Trains adapters of tests/golden/model's llama3 for some steps, by Megatron's and by Hugging Face's names, and of mixtures'
experts, exports each to a PEFT folder, merges it into the base and takes it out again. PEFT over the base must give the merged model's
logits to 1e-5, without a missing or unexpected key, and the unmerged weights must be the base's.
"""
import json
import pathlib
import random
import subprocess
import sys
import warnings

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from indexed_files import write_indexed

MODELS = pathlib.Path(__file__).resolve().parents[2] / "golden" / "model"
TOLERANCE = 1e-5
CASES = {"megatron": ("llama3", "[linear_qkv,linear_proj,linear_fc1,linear_fc2]"),
         "hugging_face": ("llama3", "[q_proj,v_proj,down_proj]"),
         "mixtral": ("mixtral", "[q_proj,w1,w2,w3]"),
         "mixtral_megatron": ("mixtral", "[linear_fc1,linear_fc2]"),
         "qwen3_moe": ("qwen3_moe", "[gate_proj,up_proj,down_proj]")}


def write_data(prefix, vocabulary):
    generator = random.Random(3)
    documents = [[generator.randrange(vocabulary) for _ in range(40)] for _ in range(20)]
    write_indexed(prefix, documents)


def configuration(folder, config, dropout):
    path = folder / "train.yaml"
    path.write_text(f"""experiment: {{exp_name: peft, exp_dir: {folder}/run, task: {{type: train, backend: native}}}}
train:
  system: {{log_interval: 1}}
  model: {{num_layers: {config['num_hidden_layers']}, hidden_size: {config['hidden_size']},
    num_attention_heads: {config['num_attention_heads']}, seq_length: 16, max_position_embeddings: 64,
    normalization: RMSNorm, swiglu: true, position_embedding_type: rope, train_iters: 8, micro_batch_size: 2,
    global_batch_size: 4, attention_dropout: 0.0, hidden_dropout: 0.0, lr: 1e-2, eval_iters: 0, peft_type: lora,
    lora_dim: 4, lora_alpha: 8, lora_dropout: {dropout}}}
  data: {{data_path: {folder}/data, split: "1"}}
""")
    return path


def run(program, *arguments):
    subprocess.run([program, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=torch.arange(24)[None] * 5 % 100).logits


def check(program, folder, name):
    folder.mkdir(parents=True)
    model, targets = CASES[name]
    source = MODELS / model
    config = json.loads((source / "config.json").read_text())
    write_data(folder / "data", config["vocab_size"])
    run(program, "train", source, configuration(folder, config, 0.1 if model == "llama3" else 0.0),
        f"++train.model.lora_target_modules={targets}")
    run(program, "checkpoint", "export", folder / "run" / "checkpoints", folder / "peft")
    run(program, "checkpoint", "merge", source, folder / "peft", folder / "merged")
    run(program, "checkpoint", "unmerge", folder / "merged", folder / "run" / "checkpoints", folder / "again")
    base = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    plain = logits(base)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT warns of keys that are missing
        adapted = logits(PeftModel.from_pretrained(base, folder / "peft"))
    merged = logits(AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32))
    before, after = load_file(source / "model.safetensors"), load_file(folder / "again" / "model.safetensors")
    return {
        "adapter": name,
        "error": ((adapted - merged).abs().max() / merged.abs().max()).item(),
        "moved": ((adapted - plain).abs().max() / plain.abs().max()).item(),
        "unmerged": max(((after[k] - before[k]).abs().max() / before[k].abs().max()).item() for k in before),
    }


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    results = [check(sys.argv[1], pathlib.Path(sys.argv[2]) / name, name) for name in CASES]
    for result in results:
        print(json.dumps(result))
    sys.exit(0 if all(r["error"] <= TOLERANCE and r["unmerged"] <= 1e-6 and r["moved"] > 1e-3 for r in results) else 1)


if __name__ == "__main__":
    main()
