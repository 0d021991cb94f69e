"""Trains the real SmolLM2-135M-Instruct for 20 steps with `flagscale` and with transformers, whole and by LoRA (PEFT).

    python tests/oracle/train/check_smollm2_train.py PROGRAM FOLDER_WITH_SMOLLM2 SCRATCH_FOLDER

The base is the GGUF file, which transformers dequantises to fp32. `flagscale` trains LoRA on the file's blocks as they
lie there, the whole model on their values. Both take the same batches (read from the index files that `flagscale` caches,
which are Megatron's) and, for LoRA, the same adapter to start from. Each step's loss must agree to 1e-5 of itself.
"""
import json
import pathlib
import random
import re
import subprocess
import sys

import numpy
import torch
from peft import LoraConfig, get_peft_model
from transformers.utils import logging

from indexed_files import write_indexed
from reference_adamw import SETTINGS, train

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "model"))
from smollm2 import FILE, load_model, load_tokenizer  # noqa: E402

STEPS, BATCH, LENGTH, TOLERANCE = 20, 2, 64, 1e-5
RUN = SETTINGS | {"lr_warmup_samples": 4, "lr_decay_samples": STEPS * BATCH}
# At 1e-3 the whole model comes apart (gradient norms of hundreds), and what a rounding does grows a thousandfold.
RATES = {True: {"lr": 1e-3, "min_lr": 1e-4}, False: {"lr": 1e-4, "min_lr": 1e-5}}  # of LoRA, of all weights
TEXT = pathlib.Path(__file__).resolve().parents[3] / "docs"


def write_data(prefix, tokenizer):
    """The documentation, a page a document."""
    documents = [tokenizer(page.read_text())["input_ids"] for page in sorted(TEXT.glob("*.md"))]
    random.Random(5).shuffle(documents)
    write_indexed(prefix, documents)
    return documents


def batches(cache, documents):
    """[steps, batch, length + 1], as Megatron's index files order them."""
    index = {kind: numpy.load(next(cache.glob(f"*train-{kind}_index.npy"))) for kind in ("document", "sample", "shuffle")}
    samples = []
    for i in index["shuffle"][: STEPS * BATCH]:
        (first, offset), (last, end) = index["sample"][i], index["sample"][i + 1]
        ids = []
        for d in range(first, last + 1):
            document = documents[index["document"][d]]
            ids += document[offset if d == first else 0 : end + 1 if d == last else len(document)]
        samples.append(ids)
    return torch.tensor(samples).reshape(STEPS, BATCH, LENGTH + 1)


def configuration(folder, model, lora):
    keys = """peft_type: lora, lora_target_modules: [all-linear], lora_dim: 8, lora_alpha: 16,
    pretrained_adapter: %s""" % (folder / "adapter")
    path = folder / f"{'lora' if lora else 'full'}.yaml"
    rates = RATES[lora]
    path.write_text(f"""experiment: {{exp_name: check, exp_dir: {folder}/{path.stem}, task: {{type: train, backend: native}}}}
train:
  system: {{log_interval: 1, no_save_optim: true}}
  model: {{num_layers: {model.num_hidden_layers}, hidden_size: {model.hidden_size}, seq_length: {LENGTH},
    ffn_hidden_size: {model.intermediate_size}, num_attention_heads: {model.num_attention_heads},
    group_query_attention: true, num_query_groups: {model.num_key_value_heads},
    max_position_embeddings: {model.max_position_embeddings}, normalization: RMSNorm, norm_epsilon: {model.rms_norm_eps},
    swiglu: true, disable_bias_linear: true, position_embedding_type: rope,
    rotary_base: {int(model.rope_parameters["rope_theta"])}, attention_dropout: 0.0, hidden_dropout: 0.0,
    train_iters: {STEPS}, micro_batch_size: {BATCH}, global_batch_size: {BATCH}, eval_iters: 0,
    optimizer: adam, lr: {rates["lr"]}, min_lr: {rates["min_lr"]}, lr_decay_style: cosine,
    lr_warmup_iters: {RUN["lr_warmup_samples"] // BATCH}, weight_decay: {RUN["weight_decay"]}, clip_grad: {RUN["clip_grad"]},
    adam_beta1: {RUN["adam_beta1"]}, adam_beta2: {RUN["adam_beta2"]}, adam_eps: {RUN["adam_eps"]}, {keys if lora else ""}}}
  data: {{data_path: {folder}/data, split: "1", data_cache_path: {folder}/cache}}
""")
    return path


def our_losses(program, base, path):
    log = subprocess.run([program, "train", base, path], check=True, capture_output=True, text=True).stdout
    return [float(x) for x in re.findall(r"lm loss: (\S+)", log)]


class OnlyAdapter(torch.nn.Module):
    """What the optimizer sees: the adapter's parameters and no others."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def named_parameters(self, *args, **kwargs):
        return ((n, p) for n, p in self.model.named_parameters() if "lora_" in n)

    def forward(self, **kwargs):
        return self.model(**kwargs)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    program, models, folder = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    folder.mkdir(parents=True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(3)
    documents = write_data(folder / "data", load_tokenizer(models))
    agree = True
    for lora in (True, False):
        model = load_model(models).train()
        config = model.config
        if lora:
            targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
            model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM"))
            model.save_pretrained(folder / "adapter")
            model = OnlyAdapter(model)
        ours = our_losses(program, models / FILE, configuration(folder, config, lora))
        theirs, _ = train(model, batches(folder / "cache", documents), BATCH, RUN | RATES[lora])
        errors = [abs(a / b - 1) for a, b in zip(ours, theirs["loss"], strict=True)]
        print(json.dumps({"training": "LoRA" if lora else "full", "first": theirs["loss"][0], "last": theirs["loss"][-1],
                          "error": max(errors)}))
        agree = agree and max(errors) <= TOLERANCE
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
