"""Makes tests/golden/train/lora/experts/<name>/: adapters of experts as PEFT reads them, with what PEFT makes of them.

    python tests/oracle/train/make_expert_lora.py

adapter_model.safetensors has a pair of matrices for each expert's projection, by the names that transformers 4 gave
them and that PEFT still reads: with transformers 5, whose experts are one parameter, it stacks them. All are random.
oracle.safetensors: input_ids [24], PEFT's logits [24, vocab] and loss of the first batch of train/tokens.json (8 rows of
32), and its gradient by our names, in fp32. PEFT's stacked B has blocks that are zero here and that it would train too:
a step of its training is another one, so there is no run of 20 steps. PEFT 0.21 leaves qwen2_moe's experts out: there the
adapter is added to transformers' weights, and PyTorch differentiates that.
"""
import json
import pathlib
import re
import shutil
import sys
import warnings

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from make_train import GOLDEN

RANK, ALPHA = 3, 6
PROJECTIONS = {"mixtral": ("block_sparse_moe", "w1", "w3", "w2"), "qwen3_moe": ("mlp", "gate_proj", "up_proj", "down_proj"),
               "qwen2_moe": ("mlp", "gate_proj", "up_proj", "down_proj")}


def modules(name):
    """The targets: every expert's projections, those of shared experts and q, with shapes."""
    _, gate, up, down = PROJECTIONS[name]
    wanted = re.compile(rf"(.*\.(experts\.\d+|shared_expert)\.({gate}|{up}|{down})|.*\.q_proj)\.weight")
    weights = load_file(GOLDEN / "model" / name / "model.safetensors")
    return {m[1]: w.shape for key, w in weights.items() if (m := wanted.fullmatch(key))}


def write_adapter(name, folder):
    folder.mkdir(parents=True)
    tensors = {}
    for module, (out, inner) in modules(name).items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(RANK, inner) * 0.1
        tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(out, RANK) * 0.1
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": name, "r": RANK,
                "lora_alpha": ALPHA, "lora_dropout": 0.0, "bias": "none",
                "target_modules": sorted(["q_proj", *PROJECTIONS[name][1:]])}
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def load(name, folder):
    base = AutoModelForCausalLM.from_pretrained(GOLDEN / "model" / name, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT warns of keys that are missing
        return PeftModel.from_pretrained(base, folder, is_trainable=True).train()


def by_expert(name, key, gradient):
    """A stacked matrix's gradient as (name, matrix) of each projection and expert."""
    block, gate, up, down = PROJECTIONS[name]
    layer = re.match(r".*?(model\.layers\.\d+)\.", key)[1]
    matrix = "lora_A" if "lora_A" in key else "lora_B"
    fused = "experts.base_layer." in key
    experts = gradient.shape[0 if matrix == "lora_A" else 1] // (RANK * (2 if fused else 1))
    if matrix == "lora_A":
        stacked = gradient.reshape(experts, -1, gradient.shape[1])
    else:
        stacked = gradient.reshape(gradient.shape[0], -1, experts).permute(2, 0, 1)
    for e in range(experts):
        whole = stacked[e]
        if not fused:
            pieces = {down: whole}
        elif matrix == "lora_A":
            pieces = {gate: whole[:RANK], up: whole[RANK:]}
        else:
            half = whole.shape[0] // 2
            pieces = {gate: whole[:half, :RANK], up: whole[half:, RANK:]}
        for projection, piece in pieces.items():
            yield f"{layer}.{block}.experts.{e}.{projection}.{matrix}.weight", piece.contiguous()


def added_by_hand(name, folder, tokens):
    """The same without PEFT: the model's function of the adapter's matrices."""
    model = AutoModelForCausalLM.from_pretrained(GOLDEN / "model" / name, dtype=torch.float32)
    adapter = {k.removeprefix("base_model.model."): t.requires_grad_() for k, t in
               load_file(folder / "adapter_model.safetensors").items()}
    block, gate, up, down = PROJECTIONS[name]

    def added(module):
        if f"{module}.lora_A.weight" not in adapter:
            return 0
        return ALPHA / RANK * adapter[f"{module}.lora_B.weight"] @ adapter[f"{module}.lora_A.weight"]

    def changed(key, weight):
        layer = key.split(".mlp.experts.")[0]
        experts = [f"{layer}.{block}.experts.{e}" for e in range(len(weight))]
        if key.endswith("experts.gate_up_proj"):
            return weight + torch.stack([torch.cat([added(f"{e}.{gate}"), added(f"{e}.{up}")]) for e in experts])
        if key.endswith("experts.down_proj"):
            return weight + torch.stack([added(f"{e}.{down}") for e in experts])
        return weight + added(key.removesuffix(".weight"))

    def logits(ids):
        weights = {k: changed(k, w.detach()) for k, w in model.named_parameters()}
        return torch.func.functional_call(model, weights, (), {"input_ids": ids}, tie_weights=False).logits

    loss = torch.nn.functional.cross_entropy(logits(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    ids = tokens[0, :24]
    with torch.no_grad():
        return {"loss": loss.detach()[None], "input_ids": ids.contiguous(), "logits": logits(ids[None])[0].contiguous()} | {
            k: t.grad.contiguous() for k, t in adapter.items()}


def oracle(name, folder, tokens):
    if name == "qwen2_moe":
        return added_by_hand(name, folder, tokens)
    model = load(name, folder)
    loss = torch.nn.functional.cross_entropy(model(input_ids=tokens[:, :-1]).logits.flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    result = {"loss": loss.detach()[None]}
    for key, parameter in model.named_parameters():
        if "lora_" not in key:
            continue
        if ".experts." in key:
            result |= {n: g.clone() for n, g in by_expert(name, key, parameter.grad)}
        else:
            result[key.removeprefix("base_model.model.").replace(".default", "")] = parameter.grad.contiguous()
    ids = tokens[0, :24]
    with torch.no_grad():
        result |= {"input_ids": ids.contiguous(), "logits": model.eval()(input_ids=ids[None]).logits[0].contiguous()}
    return result


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.manual_seed(13)
    tokens = torch.tensor(json.loads((GOLDEN / "train" / "tokens.json").read_text()))[0]
    for name in sys.argv[1:] or PROJECTIONS:
        folder = GOLDEN / "train" / "lora" / "experts" / name
        shutil.rmtree(folder, ignore_errors=True)
        write_adapter(name, folder)
        result = oracle(name, folder, tokens)
        save_file(result, folder / "oracle.safetensors")
        print(f"{name:10} loss {result['loss'].item():.4f}, {len(result) - 3} gradients")


if __name__ == "__main__":
    main()
